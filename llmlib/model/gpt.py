# From notebooks/04_gpt.ipynb: edit there, then run make export.

"""The GPT: embeddings, a stack of transformer blocks, and a score for each possible next token.

Built in notebook 04, with the attention of notebook 03. Parameters carry GPT-2's names, so that its
weights can be loaded by name. The model maps token ids to logits, as `llmlib.model.protocol` asks,
and knows nothing else: losses, sampling and files belong to other modules. What is left out: the
cache for generating (`llmlib.model.cache`, notebook 10).

Shapes: B sequences in a batch, T tokens each, C = emb_dim numbers per token, V = vocab_size.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmlib import checks
from llmlib.model.config import GPTConfig
from llmlib.model.protocol import Aux, Cache


def silu(x: Tensor) -> Tensor:
    """Return x σ(x), the SiLU or swish (Elfwing et al. 2017), for numbers x of any shape."""
    return x * torch.sigmoid(x)


class FeedForward(nn.Module):
    """The part of a block that works on each token alone: widen four times, GELU, narrow again.

    With the tanh form of GELU (Hendrycks and Gimpel 2016), on which GPT-2 was trained.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.emb_dim, 4 * config.emb_dim)
        self.c_proj = nn.Linear(4 * config.emb_dim, config.emb_dim)
        self.drop_rate = config.drop_rate

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        hidden = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, C) -> (B, T, 4C)
        out = self.c_proj(hidden)
        return F.dropout(out, self.drop_rate) if self.training else out


class Block(nn.Module):
    """A transformer block: attention between tokens, then a feed-forward network in each.

    Both add to what comes in and are normalised at their entrance ("pre-norm", Radford et al. 2019,
    section 2.3), so that x itself passes through unchanged.
    """

    def __init__(self, config: GPTConfig, layer: int = 0):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.emb_dim)
        self.attn = config.attention(layer)
        self.ln_2 = nn.LayerNorm(config.emb_dim)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, cache: Cache | None = None, aux: Aux | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C). A block that has a loss of its own would add it to aux."""
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A GPT-2 of any size: token ids (B, T) in, logits (B, T, V) out.

    The logits at a position score the token that follows it, and depend on no later token. A new
    model is initialised as GPT-2 was (see `init_weights`). Made under `torch.device("meta")` it has
    its shapes and takes no memory.

    >>> model = GPT(GPTConfig.preset("story-tiny"))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 512])
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        checks.instance("config", config, GPTConfig)
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.emb_dim)
        self.wpe = nn.Embedding(config.context_length, config.emb_dim)
        self.drop = nn.Dropout(config.drop_rate)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.emb_dim)
        self.lm_head: nn.Module | None = None  # the token embedding is the head as well
        self.gradient_checkpointing = False  # compute blocks once more on the way back: less memory
        if not config.tie_weights:
            self.lm_head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self, std: float = 0.02, *, generator: torch.Generator | None = None) -> None:
        """Draw all weights again: normal with standard deviation `std`, biases 0, norms 1.

        The two projections of each block that add to the residual stream are smaller by
        1/√(2·n_layers), so that the stream's variance does not grow with depth (Radford et al.
        2019, section 2.3). Raises ValueError for a std that is not above 0.
        """
        checks.number("std", std, lambda std: 0 < std < math.inf, "above 0; GPT-2's is 0.02")
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:  # the scale of a layer normalization
                parameter.fill_(1.0)
            else:
                residual = name.endswith("c_proj.weight")
                scale = 1 / math.sqrt(2 * self.config.n_layers) if residual else 1.0
                parameter.normal_(0.0, std * scale, generator=generator)

    def num_parameters(self) -> int:
        """Return the number of parameters; what head and embedding share is counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def features(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        *,
        segments: Tensor | None = None,
        aux: Aux | None = None,
    ) -> Tensor:
        """Map ids (B, T) to what the head reads, (B, T, C); arguments as for `forward`."""
        n_read = 0 if cache is None else cache.length
        checks.model_input(ids, self.config, self.wte.weight.device, segments, n_read)
        rows = self.rows(ids, cache, segments)
        positions = slice(ids.shape[1]) if rows is None else rows.positions
        x, *more = self.embed(ids, positions, segments)
        again = self.gradient_checkpointing and cache is None and torch.is_grad_enabled()
        for block in self.h:
            arguments = (x, rows, aux, *more)
            x = checkpoint(block, *arguments, use_reentrant=False) if again else block(*arguments)
        return self.ln_f(x)

    def embed(
        self, ids: Tensor, positions: slice | Tensor, segments: Tensor | None = None
    ) -> tuple[Any, ...]:
        """Return what the blocks read: x (B, T, C). Other models give them something more."""
        return (self.drop(self.wte(ids) + self.wpe.weight[positions]),)

    def rows(self, ids: Tensor, cache: Cache | None, segments: Tensor | None) -> Any:
        """Return positions and mask of the tokens: a grown cache, packed rows, or None."""
        if cache is not None:
            cache.grow(*ids.shape, segments)
        elif segments is not None:
            from llmlib.model.cache import PackedRows

            return PackedRows(segments)
        return cache

    def head(self, features: Tensor) -> Tensor:
        """Map features (..., C) to logits (..., V)."""
        if self.lm_head is None:
            return F.linear(features, self.wte.weight)
        return self.lm_head(features)

    @property
    def head_weight(self) -> Tensor | None:
        """The (V, C) matrix if head(x) is exactly x @ head_weight.T, else None."""
        return self.wte.weight if self.lm_head is None else getattr(self.lm_head, "weight", None)

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        *,
        segments: Tensor | None = None,
        aux: Aux | None = None,
    ) -> Tensor:
        """Map ids (B, T) to logits (B, T, V); position t scores the token after ids[:, t].

        cache: what was read before, from `new_cache`; only new tokens are given, and it grows by T.
        segments: (B, T), the document number of each token, -1 for padding; see the protocol.
        Raises TypeError or ValueError, saying what is allowed, for ids that it cannot read.
        """
        return self.head(self.features(ids, cache, segments=segments, aux=aux))

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Return an empty cache for batch_size rows of at most `length` tokens (notebook 10)."""
        from llmlib.model.cache import KVCache

        checks.cache_size(batch_size, length, self.config.context_length)
        return KVCache(self.config.n_layers, batch_size, length)
