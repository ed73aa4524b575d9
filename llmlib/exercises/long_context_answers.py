"""Right answers to the exercises of notebook 12, and what common mistakes give."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def falling(scores: Tensor, slope: float, *, causal: bool = True) -> Tensor:
    """Return causal weights of scores (T, T) that fall by a slope per token of distance."""
    place = torch.arange(len(scores))
    distance = place[:, None] - place
    scores = scores - slope * distance
    if causal:
        scores = scores.masked_fill(distance < 0, -math.inf)
    return scores.softmax(dim=-1)


def bytes_of_layers(
    windows: Sequence[int | None], n_tokens: int, n_numbers: int, *, tensors: int = 2
) -> int:
    """Return the bytes of a cache in 16 bits, whose layers have windows or None."""
    slots = sum(n_tokens if width is None else min(width, n_tokens) for width in windows)
    return tensors * slots * n_numbers * 2


def merged(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return output and log-sum of attention over all keys, from those over parts of them."""
    sums = torch.stack([lse for _, lse in parts])  # (n, T)
    total = sums.logsumexp(dim=0)
    weights = (sums - total).exp()[..., None]  # (n, T, 1)
    outs = torch.stack([out for out, _ in parts])
    return torch.where(weights > 0, weights * outs, 0.0).sum(dim=0), total


def layers_needed(sees: Tensor) -> int | None:
    """Return how many layers it takes until each token has heard of all before it, or None."""
    reach, wanted = torch.eye(len(sees), dtype=torch.bool), torch.ones_like(sees).tril()
    for layer in range(len(sees) + 1):
        if (reach | ~wanted).all():
            return layer
        reach = (sees.double() @ reach.double()) > 0
    return None


def decayed_states(q: Tensor, k: Tensor, v: Tensor, decay: float, late: bool = False) -> Tensor:
    """Return q S, (T, D), for a state that shrinks by `decay` before each token is added.

    late: the mistake of shrinking behind it.
    """
    state, out = torch.zeros(k.shape[1], v.shape[1], dtype=q.dtype), []
    for query, key, value in zip(q, k, v):
        state = (state if late else decay * state) + key[:, None] * value
        state = decay * state if late else state
        out.append(query @ state)
    return torch.stack(out)


class Recent:
    """The last `width` items, of which up to `spare` can be forgotten again."""

    def __init__(self, width: int, spare: int):
        self.width, self.slots = width, [None] * (width + spare)
        self.n, self.furthest = 0, 0

    def push(self, item: object) -> None:
        """Add an item."""
        self.slots[self.n % len(self.slots)] = item
        self.n += 1
        self.furthest = max(self.furthest, self.n)

    def last(self) -> list:
        """Return the last items, oldest first."""
        return [self.slots[i % len(self.slots)] for i in range(max(0, self.n - self.width), self.n)]

    def rewind(self, n: int) -> None:
        """Forget the last n. Raises ValueError if what would be seen is gone."""
        kept = self.n - n
        if kept < 0 or max(0, kept - self.width) < self.furthest - len(self.slots):
            raise ValueError("overwritten")
        self.n = kept
