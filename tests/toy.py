"""A small model that shares no code with GPT, and has all that the protocol of a model allows.

Its logits have a soft-cap, so that `head_weight` is None; it adds its own loss to `aux`; its
head has a bias; and it takes a cache and packed documents. What works with it and with GPT should
work with every architecture.
"""

from dataclasses import dataclass

import torch
from torch import nn

from llmlib.model.attention import CausalAttention
from llmlib.model.cache import KVCache, PackedRows

CAP = 5.0


@dataclass(frozen=True)
class ToyConfig:
    vocab_size: int = 23
    context_length: int = 24
    emb_dim: int = 16
    n_heads: int = 2
    n_layers: int = 2


class Toy(nn.Module):
    """Attention layers with a gated linear layer behind each, on GPT's kind of embeddings."""

    def __init__(self, config: ToyConfig | None = None, seed: int = 0, std: float = 0.3):
        super().__init__()
        self.config = c = config or ToyConfig()
        self.tokens = nn.Embedding(c.vocab_size, c.emb_dim)
        self.places = nn.Embedding(c.context_length, c.emb_dim)
        sizes = c.emb_dim, c.n_heads, c.context_length
        self.attentions = nn.ModuleList(CausalAttention(*sizes, layer=i) for i in range(c.n_layers))
        self.gates = nn.ModuleList(nn.Linear(c.emb_dim, c.emb_dim) for _ in range(c.n_layers))
        self.lm_head = nn.Linear(c.emb_dim, c.vocab_size)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=std, generator=generator)

    def features(self, ids, cache=None, *, segments=None, aux=None):
        if cache is not None:
            cache.grow(*ids.shape, segments)
        elif segments is not None:
            cache = PackedRows(segments)
        positions = slice(ids.shape[1]) if cache is None else cache.positions
        x = self.tokens(ids) + self.places.weight[positions]
        for attention, linear in zip(self.attentions, self.gates):
            x = x + attention(x, cache)
            gate = linear(x).sigmoid()
            x = x * gate
            if aux is not None:  # a loss over the tokens that count, which padding does not
                counts = torch.ones(ids.shape) if segments is None else (segments >= 0).float()
                loss, n = aux.get("gate", (0.0, 0))
                aux["gate"] = loss + (gate.mean(-1) * counts).sum(), n + int(counts.sum())
        return x

    def head(self, features):
        return CAP * torch.tanh(self.lm_head(features) / CAP)

    @property
    def head_weight(self):
        return None

    def forward(self, ids, cache=None, *, segments=None, aux=None):
        return self.head(self.features(ids, cache, segments=segments, aux=aux))

    def new_cache(self, batch_size, length):
        return KVCache(self.config.n_layers, batch_size, length)
