# From notebooks/10_inference.ipynb: edit there, then run make export.

"""The cache: keys and values of the tokens that a model has read, so that each is read once.

Built in notebook 10. A model calls `grow` when it reads tokens, and takes their positions from the
cache; each of its attention layers calls `update`, and gets all keys and values so far, with a
mask if one is needed. No gradient passes. Where several documents share a row, or padding stands
before a text, `segments` say which tokens belong together. What is left out: many users at once,
who come and go, with a cache in pages (Kwon and others 2023).

Shapes: B rows in a batch, T new tokens, S tokens so far, H heads of D numbers.
"""

from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib import checks


def cache_bytes(config: Any, n_tokens: int, batch_size: int = 1, bytes_per_number: int = 4) -> int:
    """Return the bytes of a cache: a key and a value for each token in each layer of a GPT."""
    return 2 * config.n_layers * batch_size * n_tokens * config.emb_dim * bytes_per_number


class KVCache:
    """The keys and values of the tokens read so far: for each layer two of (B, H, capacity, D).

    length: how many of the `capacity` slots of each row are filled; positions: those of the newest
    tokens, as an index into a table; mask: what these may look at, (B or 1, 1, T, S), or None.
    """

    def __init__(self, n_layers: int, batch_size: int, capacity: int):
        self.n_layers, self.batch_size, self.capacity = n_layers, batch_size, capacity
        self.length = 0
        # where the last reading began, and how many layers stored it: all, or `checks` refuse
        self.begun, self.stored = 0, n_layers
        self.data: Tensor | None = None  # (2 n_layers, B, H, capacity, D), from `update` on
        self.positions: slice | Tensor = slice(0, 0)
        self.mask: Tensor | None = None
        self.segments: Tensor | None = None  # (B, capacity), if documents differ (section 8)

    def grow(self, batch_size: int, n_new: int, segments: Tensor | None = None) -> None:
        """Make place for n_new tokens in each row; set their positions and their mask.

        segments: (B, n_new), the document number of each, -1 for padding; without them, the tokens
        go on with the last document of their row. Raises ValueError if they do not fit.
        """
        checks.cache_fits(self, batch_size, n_new)
        start, self.length = self.length, self.length + n_new
        self.begun, self.stored = start, 0
        self.positions, self.mask = slice(start, self.length), None
        if segments is not None or self.segments is not None:
            self.set_segments(start, segments)
        elif start and n_new > 1:  # several at once behind others: None would mean from the start
            device = None if self.data is None else self.data.device
            self.mask = torch.ones(n_new, self.length, dtype=torch.bool, device=device).tril(start)
        if self.data is not None:
            self.open(self.data, start)

    def open(self, data: Tensor, start: int) -> None:
        """Cut the views of all layers: the slots from `start` on, and all filled ones."""
        self.new = data[..., start : self.length, :].unbind(0)  # 2 n_layers of (B, H, T, D)
        self.filled = data[..., : self.length, :].unbind(0)  # 2 n_layers of (B, H, S, D)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store keys and values (B, H, T, D) of a layer; return all so far, and the mask."""
        checks.cache_entry(self, layer, k)
        if self.data is None:
            checks.no_gradient(k)
            B, H, T, D = k.shape
            self.data = k.new_empty(2 * self.n_layers, B, H, self.capacity, D)
            self.open(self.data, self.length - T)
        self.stored += 1
        self.new[2 * layer].copy_(k)
        self.new[2 * layer + 1].copy_(v)
        return self.filled[2 * layer], self.filled[2 * layer + 1], self.mask

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens. Raises ValueError if there are fewer."""
        checks.whole_number("length", length, least=0, most=self.length)
        if length <= self.begun:  # nothing of the last reading is left, complete or not
            self.stored = self.n_layers
        self.length = length
        if length == 0:
            self.segments = None
        elif self.segments is not None:  # section 8 explains these two lines
            self.document = last_document(self.segments[:, :length])

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was: drops, repeats or reorders rows."""
        self.batch_size = len(rows)
        if self.data is not None:
            self.data = self.data[:, rows]
        if self.segments is not None:
            self.segments, self.document = self.segments[rows], self.document[rows]

    def copy(self, n: int = 1, capacity: int | None = None) -> "KVCache":
        """Return a cache that holds the same, each row n times, with place for `capacity` tokens.

        So one reading of a prompt serves many texts. Raises ValueError for too small a capacity.
        """
        other, capacity = copy(self), self.capacity if capacity is None else capacity
        checks.cache_copy(self, n, capacity)
        other.capacity = capacity
        rows = torch.arange(self.batch_size).repeat_interleave(n)
        other.select(rows if self.data is None else rows.to(self.data.device))
        more = capacity - self.capacity  # slots; fewer than 0 cuts some off, which are empty
        if other.data is not None:
            other.data = F.pad(other.data, (0, 0, 0, more))
        if other.segments is not None:
            other.segments = F.pad(other.segments, (0, more))
        return other

    def __getstate__(self) -> dict[str, Any]:
        # the views of `open` are cut again at each step; in a pickle each would be a whole cache
        return {name: value for name, value in vars(self).items() if name not in ("new", "filled")}

    def set_segments(self, start: int, segments: Tensor | None) -> None:
        """Note the documents of the tokens from slot `start` on; set their positions and mask."""
        if self.segments is None:  # those read before without a number are document 0
            assert segments is not None, "called without segments, new or old"
            self.segments = segments.new_zeros(self.batch_size, self.capacity)
            self.document = self.segments[:, :1]
        new, seen = self.segments[:, start : self.length], self.segments[:, : self.length]
        new.copy_(self.document if segments is None else segments)
        if segments is not None:
            self.document = last_document(seen)
        sees = visible(new, seen)  # (B, T, S)
        self.positions = sees.sum(dim=-1) - 1
        self.mask = sees[:, None]  # (B, 1, T, S), the same for all heads


def visible(new: Tensor, seen: Tensor) -> Tensor:
    """Return what the newest T of S tokens may look at: (B, T, S), True for same and not later.

    new: (B, T), their document numbers; seen: (B, S), those of all tokens, the new ones at the end.
    Padding, -1, sees itself only: the softmax over nothing is nan, and nan spreads.
    """
    slot = torch.arange(seen.shape[1], device=seen.device)  # (S,)
    query = slot[-new.shape[1] :, None]  # (T, 1)
    same = (new[:, :, None] == seen[:, None, :]) & (new[:, :, None] >= 0)
    return (same & (slot <= query)) | (slot == query)


class PackedRows:
    """Rows of several documents, read at once without a cache: in place of one, in training.

    segments: (B, T), the document number of each token, -1 for padding.
    """

    def __init__(self, segments: Tensor):
        sees = visible(segments, segments)  # (B, T, T)
        self.positions = sees.sum(dim=-1) - 1
        self.mask = sees[:, None]  # (B, 1, T, T), the same for all heads

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values as they are, with the mask."""
        return k, v, self.mask


def last_document(segments: Tensor) -> Tensor:
    """Return (B, 1), the number of the last token in each row of segments (B, S) but padding."""
    place = torch.arange(segments.shape[1], device=segments.device)
    return segments.gather(1, (place * (segments >= 0)).argmax(dim=1, keepdim=True))
