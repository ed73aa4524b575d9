"""Text from a model, one token at a time: the one loop that all generation goes through.

Written by hand; notebook 06 shows the loop in five lines, notebook 10 takes the rest apart. Works
with any model of `llmlib.model.protocol` through its cache (notebook 10), and with any other
callable that maps ids (B, T) to logits (B, T, V). What is left out: many users at once, who come
and go, with a cache in pages (Kwon and others 2023).

Shapes: B rows in a batch, T tokens each, V = vocab_size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llmlib import checks
from llmlib.generation.constraints import Rule, rules_of
from llmlib.generation.sampling import AS_LEARNED, Sampling, draw, row_generators
from llmlib.model.modes import evaluating

Prompts = Tensor | Sequence[Sequence[int]]  # ids (B, T), or lists of unequal length
Stop = int | Sequence[int] | None  # the id that ends a text, or several


class TextReader:
    """The logits after growing texts: from a model's cache, or from the whole text each time.

    ids: (B, T), the prompts, which begin with `padding` (B,) zeros; n_new: how many tokens will
    follow. slide: when the context is full, drop this many of the oldest tokens and re-encode the
    rest. cache: a cache that holds the first tokens of the prompts already. prefill: read at most
    this many tokens at once; None reads a prompt whole.
    """

    def __init__(
        self,
        model: Any,
        ids: Tensor,
        padding: Tensor,
        n_new: int,
        slide: int = 1,
        cache: Any = None,
        prefill: int | None = None,
    ):
        self.model, self.padding, self.slide, self.prefill = model, padding, slide, prefill
        self.parts = list(model.modules()) if isinstance(model, nn.Module) else []
        checks.finite_weights(model)
        needed = ids.shape[1] + n_new - 1  # the last token is not read any more
        self.capacity = min(needed, context_of(model) or needed)
        self.start = max(0, ids.shape[1] - self.capacity)  # tokens before it are forgotten
        self.cache = cache
        if cache is not None:
            checks.prepared_cache(model, cache, ids, padding, self.capacity)
        elif hasattr(model, "new_cache"):
            self.cache = model.new_cache(len(ids), self.capacity)

    def logits(self, ids: Tensor, count: int = 1) -> Tensor:
        """Return logits (B, count, V) after each of the last `count` tokens of ids (B, T).

        ids may have grown since the last call, or have another end: what was read and is no longer
        there is forgotten.
        """
        if ids.shape[1] - self.start > self.capacity:
            # what is left moves to new positions, so keys that are in the cache do not fit any more
            self.start = ids.shape[1] - (self.capacity + 1 - self.slide)
            if self.cache is not None:
                self.cache.rewind(0)
        # inference mode is faster; what a function keeps from it could not be used in training
        mode = torch.no_grad() if self.cache is None else torch.inference_mode()
        with evaluating(self.model, self.parts), mode:
            ids = ids[:, self.start :]
            if self.cache is None:
                return self.encode(ids)[:, -count:]
            return self.model.head(self.read(ids, count)[:, -count:])

    def read(self, ids: Tensor, count: int) -> Tensor:
        """Return the features of the last `count` tokens, or more, reading what is not cached.

        A long prompt is read in pieces, of which only the last one's features are kept: what they
        and the attention of a layer take grows with the piece, and not with the prompt.
        """
        cache, n_tokens = self.cache, ids.shape[1]
        if cache.length > n_tokens - count:
            cache.rewind(n_tokens - count)
        segments, most = None, self.prefill or n_tokens
        if cache.length == 0 and (padding := self.padding - self.start).max() > 0:
            place = torch.arange(n_tokens, device=ids.device)
            segments = torch.where(place < padding[:, None], -1, 0)  # (B, T)
        while True:
            left = n_tokens - cache.length
            # the last piece has all the `count` tokens, so others stop before them
            n = left if left <= max(most, count) else min(most, left - count)
            piece = slice(cache.length, cache.length + n)
            named = None if segments is None else segments[:, piece]
            features = self.model.features(ids[:, piece], cache, segments=named)
            if n == left:
                return features

    def encode(self, ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of a plain callable, which is given no padding."""
        padding = (self.padding - self.start).clamp(min=0).tolist()
        if not any(padding):
            return self.model(ids)
        logits = [self.model(row[None, n:])[0] for row, n in zip(ids, padding, strict=True)]
        return nn.utils.rnn.pad_sequence(logits, batch_first=True, padding_side="left")

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was: drops, repeats or reorders rows."""
        self.padding = self.padding[rows]
        if self.cache is not None:
            self.cache.select(rows)


def context_of(model: Any) -> int | None:
    """Return the most tokens that a model reads; None for a callable that does not say."""
    return getattr(getattr(model, "config", None), "context_length", None)


def pad_left(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Return ids (B, T) with 0 before the shorter prompts, and how many zeros there are (B,).

    Raises TypeError or ValueError for anything but ids, for no prompt, or one without a token.

    >>> pad_left([[5, 6, 7], [8]])
    (tensor([[5, 6, 7],
            [0, 0, 8]]), tensor([0, 2]))
    """
    rows = checks.prompts(prompts)
    if isinstance(rows, Tensor):
        return rows, rows.new_zeros(len(rows))
    lengths = torch.tensor([len(row) for row in rows])
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
    return ids, lengths.max() - lengths


def place_prompts(model: Any, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Return what `pad_left` does, on the device of a model."""
    ids, padding = pad_left(prompts)
    if isinstance(model, nn.Module) and (parameter := next(model.parameters(), None)) is not None:
        return ids.to(parameter.device), padding.to(parameter.device)
    return ids, padding


def next_tokens(
    reader: TextReader,
    ids: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    stops: tuple[int, ...],
    generators: Sequence[torch.Generator],
    finished: Callable[[int, int], bool] | None = None,
) -> Iterator[Tensor]:
    """Run the loop of `stream`, whose arguments these are, checked and padded."""
    n_rows, rules = len(ids), rules_of(sampling, stops, ids.shape[1])
    active = torch.arange(n_rows, device=ids.device)  # the rows that are not finished
    last = ids.new_tensor(stops)  # what ends a row
    for _ in range(max_new_tokens):
        logits = constrain(reader.logits(ids)[:, -1], ids, reader.padding, rules)
        checks.some_choice(logits, rules)
        if sampling.temperature == 0:
            best, chosen = logits.max(dim=-1)
            checks.finite_logits(best)
        else:
            own = [generators[row] for row in active.tolist()]
            chosen = draw(sampling.probabilities(logits), own)
        tokens = ids.new_full((n_rows,), stops[0] if stops else -1)
        tokens[active] = chosen = chosen.to(ids.dtype)
        yield tokens
        ids = torch.cat([ids, chosen[:, None]], dim=1)  # (B, T) -> (B, T + 1)
        going = (chosen[:, None] != last).all(dim=1)
        if finished is not None:
            ends = map(finished, active.tolist(), chosen.tolist())
            going &= ~torch.tensor(list(ends), device=ids.device)
        if (stops or finished is not None) and not going.all():
            rows = going.nonzero()[:, 0]
            if len(rows) == 0:
                return
            reader.select(rows)
            active, ids = active[rows], ids[rows]


def constrain(logits: Tensor, ids: Tensor, padding: Tensor, rules: Sequence[Rule]) -> Tensor:
    """Return logits (B, V) that keep to all rules, after texts ids (B, T)."""
    if not rules:
        return logits
    logits = logits.float()
    checks.finite_logits(logits.amax(dim=-1))  # what is forbidden could hide it
    for rule in rules:
        logits = rule(logits, ids, padding)
    return logits


def stream(
    model: Any,
    ids: Prompts,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    stop: Stop = None,
    generator: torch.Generator | None = None,
    slide: int | None = None,
    cache: Any = None,
    prefill: int | None = None,
    finished: Callable[[int, int], bool] | None = None,
) -> Iterator[Tensor]:
    """Continue prompts and yield the new tokens (B,) one step at a time, as they are chosen.

    model: a model of the protocol, or any callable that maps ids (B, T) to logits (B, T, V). ids:
    (B, T), or a list of prompts of unequal length. stop: the id after which a row is finished, or
    several; a finished row repeats the first, and the last row to finish ends the stream.
    generator: gives each row a generator of its own, so that a row's text does not depend on how
    many there are. slide: when the context is full, drop this many of the oldest tokens and
    re-encode the rest. A plain callable re-encodes at every token and slides by one if it has a
    `config.context_length`. cache: one that has read the beginning of the prompts, but not their
    last token; the texts go on in it.
    prefill: read at most this many tokens of the prompts at once, so that the memory of reading
    does not grow with them.
    finished: asked for each row and its new token whether that ends it, besides `stop`.
    Raises TypeError and ValueError at once, also if the context would not suffice without `slide`;
    ValueError where logits are nan or infinite.
    """
    ids, padding = place_prompts(model, ids)
    checks.settings_of(model, sampling)
    checks.generation(model, ids, max_new_tokens, slide, generator)
    checks.whole_number("prefill", prefill, optional=True)
    stops = checks.stop_ids(model, stop)
    generators = row_generators(len(ids), generator)
    if max_new_tokens == 0:
        return iter(())
    reader = TextReader(model, ids, padding, max_new_tokens, slide or 1, cache, prefill)
    return next_tokens(reader, ids, max_new_tokens, sampling, stops, generators, finished)


def generate(
    model: Any,
    ids: Prompts,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    stop: Stop = None,
    **options: Any,
) -> list[list[int]]:
    """Continue prompts: return, for each, its ids and the new ones, up to and with `stop`.

    See `stream`, whose arguments and errors these are.
    """
    tokens = stream(model, ids, max_new_tokens, sampling, stop=stop, **options)
    steps = [step.tolist() for step in tokens]
    (prompts, padding), stops = pad_left(ids), checks.stop_ids(model, stop)
    texts = []
    for row, (prompt, n) in enumerate(zip(prompts.tolist(), padding.tolist(), strict=True)):
        new = [step[row] for step in steps]
        end = next((at for at, token in enumerate(new, 1) if token in stops), len(new))
        texts.append(prompt[n:] + new[:end])
    return texts
