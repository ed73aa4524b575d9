# From notebooks/12_long_context.ipynb: edit there, then run make export.

"""ALiBi: no positions, but scores that fall with the distance of two tokens.

Built in notebook 12, as an example of a mask that a reader adds. Take positions="none" with it.
What is left out: bfloat16 on a CPU, where `attend` takes masks of True and False.

Shapes: B rows, T new tokens, S tokens so far, H heads.
"""

from typing import Any

import torch
from torch import Tensor

from llmlib.model.cache import KVCache, visible
from llmlib.model.parts import part


def slopes(n_heads: int, device: Any = None) -> Tensor:
    """Return by how much the scores of each head fall per token: from 2^(-8/H) to 2^-8."""
    return 2 ** (-8 * torch.arange(1, n_heads + 1, device=device) / n_heads)


def biases(sees: Tensor, n_heads: int) -> Tensor:
    """Return what is added to scores, (B, H, T, S), for tokens that see others, sees (B, T, S).

    The last T of the S tokens are the ones that see.
    """
    place = torch.arange(sees.shape[-1], device=sees.device)
    distance = place[-sees.shape[-2] :, None] - place  # (T, S)
    falling = -slopes(n_heads, sees.device)[:, None, None] * distance  # (H, T, S)
    return falling.masked_fill(~sees[:, None], -torch.inf)


@part("mask", "alibi")
class Alibi:
    """Attention with linear biases (Press et al. 2021)."""

    def __init__(self, config: Any, layer: int = 0):
        self.n_layers, self.n_heads = config.n_layers, config.n_heads

    def packed(self, ids: Tensor, segments: Tensor | None) -> "BiasedRows":
        """Return positions and mask for reading ids (B, T) at once."""
        return BiasedRows(ids, segments, self.n_heads)

    def new_cache(self, batch_size: int, length: int) -> "BiasedCache":
        """Return an empty cache."""
        return BiasedCache(self.n_layers, batch_size, length, self.n_heads)


class BiasedRows:
    """Rows that are read at once, in training."""

    def __init__(self, ids: Tensor, segments: Tensor | None, n_heads: int):
        documents = torch.zeros_like(ids[:1]) if segments is None else segments
        sees = visible(documents, documents)
        self.positions = slice(ids.shape[1]) if segments is None else sees.sum(dim=-1) - 1
        self.mask = biases(sees, n_heads)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values as they are, with the mask."""
        return k, v, self.mask.to(k.dtype)


class BiasedCache(KVCache):
    """A cache whose mask is a number for each pair of tokens."""

    def __init__(self, n_layers: int, batch_size: int, capacity: int, n_heads: int):
        super().__init__(n_layers, batch_size, capacity)
        self.n_heads = n_heads

    def grow(self, batch_size: int, n_new: int, segments: Tensor | None = None) -> None:
        """Make place for n_new tokens in each row; set their positions and their mask."""
        super().grow(batch_size, n_new, segments)
        sees = self.mask
        if sees is None:  # causal: the last token sees all, the one before it all but one, …
            device = None if self.data is None else self.data.device
            sees = torch.ones(1, n_new, self.length, dtype=torch.bool, device=device)
            sees = sees.tril(self.length - n_new)
        self.mask = biases(sees.view(-1, n_new, self.length), self.n_heads)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store keys and values of a layer; return all so far, and the mask in their type."""
        k, v, mask = super().update(layer, k, v)
        return k, v, None if mask is None else mask.to(k.device, k.dtype)
