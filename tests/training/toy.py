"""A toy model of the protocol with all that later notebooks bring, and documents packed in rows.

One attention layer; a head with a bias and a soft-cap, whose weights are stored as int8 with a
scale for each row and a trained adapter beside them; a loss of its own on the features.
"""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ToyConfig:
    vocab_size: int = 13
    context_length: int = 32
    emb_dim: int = 8
    softcap: float | None = 5.0
    aux_name: str | None = "size"


class Toy(nn.Module):
    """Token ids (B, T) to logits (B, T, V); segments separate documents, and -1 is padding."""

    def __init__(self, config=ToyConfig(), seed=0):
        super().__init__()
        self.config = config
        V, C = config.vocab_size, config.emb_dim
        torch.manual_seed(seed)
        self.tokens, self.positions = nn.Embedding(V, C), nn.Embedding(config.context_length, C)
        self.qkv = nn.Linear(C, 3 * C)
        self.adapter = nn.Parameter(0.3 * torch.randn(V, C))
        self.bias = nn.Parameter(torch.randn(V))
        self.register_buffer("packed", torch.randint(-127, 128, (V, C), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(V, 1) / 127)
        self.largest_head_call = 0

    @property
    def head_weight(self):
        return None

    def head(self, features):
        self.largest_head_call = max(self.largest_head_call, features[..., 0].numel())
        logits = features @ (self.packed * self.scale + self.adapter).T + self.bias
        cap = self.config.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def features(self, ids, cache=None, *, segments=None, aux=None):
        if segments is None:
            segments = torch.zeros_like(ids)
        T = ids.shape[1]
        # positions start again in each document: the distance to the first token of the same one
        same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
        starts = same.int().argmax(dim=-1)  # (B, T)
        x = self.tokens(ids) + self.positions(torch.arange(T, device=ids.device) - starts)
        q, k, v = self.qkv(x).split(x.shape[-1], dim=-1)
        allowed = same & torch.ones(T, T, dtype=torch.bool, device=ids.device).tril()
        scores = (q @ k.mT).masked_fill(~allowed, -torch.inf)  # each token sees itself at least
        x = x + scores.softmax(dim=-1) @ v
        if aux is not None and self.config.aux_name:
            real = segments >= 0
            size = (x.square().sum(dim=-1) * real).sum()
            aux[self.config.aux_name] = size, int(real.sum())
        return x

    def forward(self, ids, cache=None, *, segments=None, aux=None):
        return self.head(self.features(ids, cache, segments=segments, aux=aux))


def pack(documents, length, end=0):
    """Put documents one after the other into one row (1, length); the rest is padding."""
    inputs = torch.full((1, length), end)
    targets, segments = torch.full((1, length), -100), torch.full((1, length), -1)
    at = 0
    for number, document in enumerate(documents):
        n = len(document) + 1
        inputs[0, at : at + n] = torch.tensor([end, *document])
        targets[0, at : at + n] = torch.tensor([*document, end])
        segments[0, at : at + n] = number
        at += n
    return inputs, targets, segments


def rows(documents, end=0):
    """The same documents as separate batches of one row, without padding."""
    return [pack([document], len(document) + 1, end) for document in documents]
