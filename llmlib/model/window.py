"""Attention through a window: each token sees the last `width` tokens, and the first few.

Written by hand; notebook 12 shows the idea in ten lines. A configuration asks for it with
mask={"name": "window", "width": 4096}; width counts the token itself, as in Mistral (Jiang et al.
2023). With `sinks`, the first tokens of each document stay visible too (Xiao et al. 2023,
StreamingLLM). The cache is a ring: its memory depends on width and sinks and not on the text. What
is left out: windows in some layers only (Gemma 2), and kernels that skip what a mask hides.

Shapes: B rows, T new tokens, S slots of the ring and its sinks, G heads of keys of D numbers.
"""

from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmlib import checks
from llmlib.model.cache import KVCache, visible
from llmlib.model.modern import CausalMask
from llmlib.model.parts import part
from llmlib.model.positions import RotaryPositions, rotate

SPARE = 16  # tokens that a ring can forget again: drafts that were wrong, a prompt that changed


class Tokens(NamedTuple):
    """Which tokens some slots hold, each (B, n); an index of -1 is an empty slot."""

    index: Tensor  # the number of the token in its row, padding included
    document: Tensor  # of which it is a part, -1 for padding
    place: Tensor  # its number in the document

    def of(self, key: Any) -> "Tokens":
        """Return the tokens of some rows or slots."""
        return Tokens(*(field[key] for field in self))


def tokens_of(index: Tensor, document: Tensor) -> Tokens:
    """Describe tokens (B, T) that are read together: where each stands in its document."""
    place = visible(document, document).sum(dim=-1) - 1
    return Tokens(index.expand_as(document), document, place)


def in_window(query: Any, key: Any, width: int, sinks: int) -> Tensor:
    """Return which keys (B, S) each query (B, T) sees: (B, 1, T, S)."""
    i, j = query.index[:, :, None], key.index[:, None, :]
    same = (query.document[:, :, None] == key.document[:, None, :]) & (query.document >= 0)[
        ..., None
    ]
    far = key.place[:, None, :]
    near = (query.place[:, :, None] - far < width) | (far < sinks)
    # padding sees itself only: the softmax over nothing is nan, and nan spreads
    return ((same & near & (j <= i) & (j >= 0)) | (j == i))[:, None]


class WindowMask:
    """A window for reading with a cache and without one."""

    def __init__(self, config: Any, width: int, sinks: int, streaming: bool):
        self.n_layers, self.width, self.sinks = config.n_layers, width, sinks
        self.positions = config.build("positions") if streaming else None

    def packed(self, ids: Tensor, segments: Tensor | None) -> Any:
        """Return positions and mask for reading ids (B, T) at once; None if nothing is hidden."""
        if segments is None and ids.shape[1] <= self.width:
            return None
        return WindowedRows(ids, segments, self.width, self.sinks)

    def new_cache(self, batch_size: int, length: int) -> "WindowCache":
        """Return an empty ring; its memory depends on the window and not on the length."""
        ring = WindowCache(self.n_layers, batch_size, length, self.width, self.sinks)
        return ring if self.positions is None else ring.streaming(self.positions)


@part("mask", "window")
def window(
    config: Any,
    layer: int = 0,
    width: int | None = None,
    sinks: int = 0,
    streaming: bool = False,
) -> WindowMask | CausalMask:
    """Build a window; without a width, or with 0, all tokens are seen.

    width: how many tokens each one sees, itself included. sinks: how many tokens at the beginning
    of its document it sees besides. streaming: the cache counts positions inside itself, so that no
    distance grows beyond width + sinks (Xiao et al. 2023); for generation, one token at a time.
    Raises ValueError for impossible values.
    """
    checks.window(config, width, sinks, streaming)
    return WindowMask(config, width, sinks, streaming) if width else CausalMask(config)


class WindowedRows:
    """Rows that are read at once through a window, in place of a cache: in training."""

    def __init__(self, ids: Tensor, segments: Tensor | None, width: int, sinks: int):
        index = torch.arange(ids.shape[1], device=ids.device)[None]
        tokens = tokens_of(index, torch.zeros_like(index) if segments is None else segments)
        self.positions = slice(ids.shape[1]) if segments is None else tokens.place
        self.mask = in_window(tokens, tokens, width, sinks)  # (B or 1, 1, T, T)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values as they are, with the mask."""
        return k, v, self.mask


class WindowCache(KVCache):
    """The keys and values that a window still needs: of any text, in a fixed number of slots.

    The first `sinks` slots are for the first tokens of a document, and the others a ring: token
    number t is in slot t % ring, in place of one that left the window, and a sink moves when its
    place is needed. The mask says what is in a slot. length counts all tokens that were read.
    """

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        capacity: int,
        width: int,
        sinks: int = 0,
        spare: int = SPARE,
    ):
        super().__init__(n_layers, batch_size, capacity)
        self.width, self.sinks, self.ring = width, sinks, width + spare
        self.rotary: RotaryPositions | None = None  # where positions are counted in the cache
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        device = None if self.data is None else self.data.device
        empty = torch.full((self.batch_size, self.sinks + self.ring), -1, device=device)
        self.held = Tokens(empty, empty.clone(), empty.clone())
        self.furthest = self.least = 0  # the longest that it was, the shortest it can become
        # the document of each row, and how many of its tokens were read: (B, 1)
        self.document, self.count = empty[:, :1] + 1, empty[:, :1] + 1
        # whether documents are told apart, and what streaming has taken off all positions
        self.numbered, self.base = False, 0

    def grow(self, batch_size: int, n_new: int, segments: Tensor | None = None) -> None:
        """Make place for n_new tokens in each row; set their positions and their mask."""
        checks.cache_fits(self, batch_size, n_new)
        start, self.length = self.length, self.length + n_new
        self.begun, self.stored = start, 0
        self.furthest = max(self.furthest, self.length)
        new = self.describe(start, n_new, segments)
        self.positions = new.place if self.numbered else slice(start, self.length)
        self.single = n_new == 1 and self.data is not None
        if self.single:
            self.place_one(new, start)
            seen = self.held
        else:
            both = self.place_several(new, start)
            seen = both if start else new
        plain = seen is new and n_new <= self.width
        full = self.single and self.ring == self.width and start >= self.ring + self.sinks
        everything = (plain or full) and not self.numbered
        self.mask = None if everything else in_window(new, seen, self.width, self.sinks)
        if self.rotary is not None:
            checks.one_at_a_time(n_new, self.length, self.width)
            self.move_positions(new)

    def describe(self, start: int, n_new: int, segments: Tensor | None) -> Tokens:
        """Describe new tokens, and note in which document each row ends."""
        if segments is None and n_new == 1:  # the common step, in few operations
            new = Tokens(torch.full_like(self.count, start), self.document, self.count)
            self.count = self.count + 1
            return new
        if segments is None:
            segments = self.document.expand(-1, n_new)
        else:
            self.numbered = True
            self.document, self.count = (x.to(segments.device) for x in (self.document, self.count))
            self.held = Tokens(*(field.to(segments.device) for field in self.held))
        new = tokens_of(torch.arange(start, start + n_new, device=segments.device)[None], segments)
        new = new._replace(place=new.place + self.count * (segments == self.document))
        self.end_with(new)
        return new

    def end_with(self, tokens: Tokens) -> None:
        """Note the document of the latest of some tokens in each row, and how long it is."""
        index = torch.where(tokens.document >= 0, tokens.index, -1)
        last = index.argmax(dim=1, keepdim=True)
        found = index.gather(1, last) >= 0
        self.document = torch.where(found, tokens.document.gather(1, last), self.document)
        self.count = torch.where(found, tokens.place.gather(1, last) + 1, self.count)

    def place_one(self, new: Tokens, start: int) -> None:
        """Give a token a slot of the ring; a sink that was in it moves to the slots of sinks."""
        assert self.data is not None, "asked before anything was stored"
        self.slot = slot = self.sinks + start % self.ring
        old = self.held.of((slice(None), slot))
        # without documents or padding, sinks are the first tokens of a row
        leaving = (old.index >= 0) & (old.place < self.sinks)
        if (self.numbered or start < self.ring + self.sinks) and leaving.any():
            ours = leaving & (old.document == self.document[:, 0])
            self.lose(leaving & ~ours & (old.document >= 0))
            rows, places = ours.nonzero()[:, 0], old.place[ours]
            moved = self.data[:, rows, :, slot].transpose(0, 1)
            self.data[:, rows, :, places] = moved
            if self.rotary is not None:
                self.originals[:, rows, :, places] = self.turned(moved[:, ::2], self.base)
            for field, value in zip(self.held, old):
                field[rows, places] = value[rows]
        for field, value in zip(self.held, new):
            field[:, slot] = value[:, 0]

    def place_several(self, new: Tokens, start: int) -> Tokens:
        """Choose `source` (B, S), which of the old and new tokens each slot holds; return those."""
        both = Tokens(
            *(torch.cat([a, b.expand_as(new.document)], 1) for a, b in zip(self.held, new))
        )
        B, S = self.held.index.shape
        source = torch.arange(S, device=new.index.device).repeat(B, 1)
        fresh = torch.arange(max(start, self.length - self.ring), self.length, device=source.device)
        source[:, self.sinks + fresh % self.ring] = S + fresh - start
        leaving = (both.index >= 0) & (both.index < self.length - self.ring)
        leaving &= (both.place < self.sinks) & (both.document >= 0)
        ours = leaving & (both.document == self.document)
        self.lose((leaving & ~ours)[:, self.sinks :])
        for place in range(self.sinks):
            here = ours & (both.place == place)
            source[:, place] = torch.where(here.any(1), here.int().argmax(1), source[:, place])
        self.source = source
        self.held = Tokens(*(field.gather(1, source) for field in both))
        return both

    def lose(self, tokens: Tensor) -> None:
        """Note that the text cannot be rewound into a document whose first tokens are gone."""
        if tokens.any():
            self.least = max(self.least, self.length - int(self.count.min()) + 1)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store keys and values (B, G, T, D); return those that may be seen, and the mask."""
        checks.ring_entry(self, layer, k)
        if self.data is None:
            checks.no_gradient(k)
            B, G, _, D = k.shape
            # zeros: what a mask hides is multiplied by 0, and 0 times nan is nan
            self.data = k.new_zeros(2 * self.n_layers, B, G, self.sinks + self.ring, D)
            self.originals = self.data[::2, :, :, : self.sinks].clone()
            self.held = Tokens(*(field.to(k.device) for field in self.held))
            self.document, self.count = self.document.to(k.device), self.count.to(k.device)
            self.mask = None if self.mask is None else self.mask.to(k.device)
        self.stored += 1
        slots = self.data[2 * layer : 2 * layer + 2]  # (2, B, G, S, D)
        if self.single:
            slots[0, :, :, self.slot], slots[1, :, :, self.slot] = k[:, :, 0], v[:, :, 0]
            return slots[0], slots[1], self.mask
        both = torch.cat([slots, torch.stack([k, v])], dim=3)
        at = self.source[None, :, None, :, None].expand(2, -1, k.shape[1], -1, k.shape[3])
        slots.copy_(both.gather(3, at))
        return (both[0], both[1], self.mask) if self.begun else (k, v, self.mask)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens; ValueError if their window was overwritten."""
        checks.rewindable(self, length)
        if length <= self.begun:
            self.stored = self.n_layers
        self.length = length
        if length == 0:
            self.clear()
            return
        kept = (self.held.index >= 0) & (self.held.index < length)
        self.held = Tokens(*(torch.where(kept, field, -1) for field in self.held))
        self.document, self.count = self.document * 0, self.count * 0
        self.end_with(self.held)

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was: drops, repeats or reorders rows."""
        self.batch_size = len(rows)
        if self.data is not None:
            self.data, self.originals = self.data[:, rows], self.originals[:, rows]
        self.held = self.held.of(rows)
        self.document, self.count = self.document[rows], self.count[rows]

    def copy(self, n: int = 1, capacity: int | None = None) -> "WindowCache":
        """Return a cache that holds the same, each row n times, and may read `capacity` tokens."""
        other, capacity = copy(self), self.capacity if capacity is None else capacity
        checks.cache_copy(self, n, capacity)
        other.capacity = capacity
        rows = torch.arange(self.batch_size, device=self.held.index.device)
        other.select(rows.repeat_interleave(n))
        return other

    def streaming(self, positions: Any) -> "WindowCache":
        """Count positions inside the cache, from now on; `positions` are those of the model."""
        checks.positions_that_move(positions)
        if isinstance(positions, RotaryPositions):
            # without spare tokens, a sink has its own slot before the window moves past it
            self.rotary, self.ring = positions, self.width
            self.clear()
        return self

    def move_positions(self, new: Tokens) -> None:
        """Let the sinks follow the window, and keep all positions small.

        In a full cache, the first sink is width + sinks − 1 before the newest token. So the
        window's keys stay as they are, and the sinks turn a step further.
        """
        n_slots, limit = self.sinks + self.ring, self.sinks + self.width - 1
        if self.data is not None:
            keys = self.data[::2]
            if self.length - self.base > 4 * n_slots:  # angles stay exact, and so the table
                self.base += n_slots
                keys[..., self.sinks :, :] = self.turned(keys[..., self.sinks :, :], -n_slots)
            shift: Any = max(0, self.length - 1 - limit) - self.base
            if self.numbered:  # for each row its own
                shift = (new.place[:, -1:] - limit).clamp(min=0) - self.base  # (B, 1)
            keys[..., : self.sinks, :] = self.turned(self.originals, shift)
        self.positions = new.place - self.base if self.base or self.numbered else self.positions

    def turned(self, keys: Tensor, steps: Tensor | int) -> Tensor:
        """Return keys (..., B, G, n, D) moved by steps, the same for all or (B, 1)."""
        assert self.rotary is not None, "no rotary positions"
        steps = torch.as_tensor(steps, device=keys.device).view(-1, 1)
        cos, sin = self.rotary.turn(steps)[:, :, None] / self.rotary.scale  # (B or 1, 1, 1, D)
        return rotate(keys, (cos, sin))
