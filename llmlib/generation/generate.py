# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""Text from a model, one token at a time: the one loop that all generation goes through.

Built in notebook 06. Works with any model of `llmlib.model.protocol` through its cache (notebook
10), and with any other callable that maps ids (B, T) to logits (B, T, V). What is left out: many
users at once, who come and go, with a cache in pages (Kwon and others 2023).

Shapes: B rows in a batch, T tokens each, V = vocab_size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmlib import checks
from llmlib.generation.sampling import AS_LEARNED, Sampling, draw, row_generators

Prompts = Tensor | Sequence[Sequence[int]]  # ids (B, T), or lists of unequal length


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, compute no gradients and no dropout; afterwards, a model in training trains on."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    # inference mode is faster; what a function keeps from it could not be used in training
    fast = hasattr(model, "new_cache")
    try:
        with torch.inference_mode() if fast else torch.no_grad():
            yield
    finally:
        if training:
            model.train()


class TextReader:
    """The logits after growing texts: from a model's cache, or from the whole text each time.

    ids: (B, T), the prompts, which begin with `padding` (B,) zeros; n_new: how many tokens will
    follow. slide: when the context is full, drop this many of the oldest tokens and re-encode the
    rest.
    """

    def __init__(self, model: Any, ids: Tensor, padding: Tensor, n_new: int, slide: int = 1):
        self.model, self.padding, self.slide = model, padding, slide
        needed = ids.shape[1] + n_new - 1  # the last token is not read any more
        self.capacity = min(needed, context_of(model) or needed)
        self.start = max(0, ids.shape[1] - self.capacity)  # tokens before it are forgotten
        self.cache: Any = None
        if hasattr(model, "new_cache"):
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
        with evaluating(self.model):
            ids = ids[:, self.start :]
            if self.cache is None:
                return self.encode(ids)[:, -count:]
            return self.model.head(self.read(ids, count)[:, -count:])

    def read(self, ids: Tensor, count: int) -> Tensor:
        """Return the features of the tokens that the cache does not hold, at least `count`."""
        cache = self.cache
        if cache.length > ids.shape[1] - count:
            cache.rewind(ids.shape[1] - count)
        segments = None
        if cache.length == 0 and (padding := self.padding - self.start).max() > 0:
            place = torch.arange(ids.shape[1], device=ids.device)
            segments = torch.where(place < padding[:, None], -1, 0)  # (B, T)
        return self.model.features(ids[:, cache.length :], cache, segments=segments)

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


def next_tokens(
    reader: TextReader,
    ids: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    stop: int | None,
    generators: Sequence[torch.Generator],
) -> Iterator[Tensor]:
    """Run the loop of `stream`, whose arguments these are, checked and padded."""
    n_rows, seen = len(ids), None
    active = torch.arange(n_rows, device=ids.device)  # the rows that are not finished
    for _ in range(max_new_tokens):
        logits = reader.logits(ids)[:, -1]
        if seen is None and sampling.repetition_penalty != 1:
            seen = tokens_in(ids, reader.padding, logits.shape[-1])
        if sampling.temperature == 0 and seen is None:
            chosen = logits.argmax(dim=-1)
        else:
            probs = sampling.probabilities(logits, seen)
            chosen = draw(probs, [generators[row] for row in active.tolist()])
        tokens = ids.new_full((n_rows,), -1 if stop is None else stop)
        tokens[active] = chosen = chosen.to(ids.dtype)
        yield tokens
        ids = torch.cat([ids, chosen[:, None]], dim=1)  # (B, T) -> (B, T + 1)
        if seen is not None:
            seen.scatter_(1, chosen[:, None].long(), True)
        if stop is not None and (chosen == stop).any():
            rows = (chosen != stop).nonzero()[:, 0]
            if len(rows) == 0:
                return
            reader.select(rows)
            active, ids, seen = active[rows], ids[rows], None if seen is None else seen[rows]


def tokens_in(ids: Tensor, padding: Tensor, vocab_size: int) -> Tensor:
    """Return (B, V), True for the tokens that a row of ids (B, T) holds behind its padding."""
    seen = torch.zeros(len(ids), vocab_size, dtype=torch.bool, device=ids.device)
    for row, n in enumerate(padding.tolist()):
        seen[row, ids[row, n:].long()] = True
    return seen


def stream(
    model: Any,
    ids: Prompts,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    stop: int | None = None,
    generator: torch.Generator | None = None,
    slide: int | None = None,
) -> Iterator[Tensor]:
    """Continue prompts and yield the new tokens (B,) one step at a time, as they are chosen.

    model: a model of the protocol, or any callable that maps ids (B, T) to logits (B, T, V). ids:
    (B, T), or a list of prompts of unequal length. stop: the id after which a row is finished; a
    finished row repeats it, and the last row to finish ends the stream. generator: gives each row a
    generator of its own, so that a row's text does not depend on how many there are. slide: when
    the context is full, drop this many of the oldest tokens and re-encode the rest. A plain
    callable re-encodes at every token and slides by one if it has a `config.context_length`.
    Raises TypeError and ValueError at once, also if the context would not suffice without `slide`.
    """
    ids, padding = pad_left(ids)
    checks.instance("sampling", sampling, Sampling)
    checks.generation(model, ids, max_new_tokens, stop, slide)
    if isinstance(model, nn.Module):
        device = next(model.parameters(), ids).device
        ids, padding = ids.to(device), padding.to(device)
    generators = row_generators(len(ids), generator)
    if max_new_tokens == 0:
        return iter(())
    reader = TextReader(model, ids, padding, max_new_tokens, slide or 1)
    return next_tokens(reader, ids, max_new_tokens, sampling, stop, generators)


def generate(
    model: Any,
    ids: Prompts,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    stop: int | None = None,
    **options: Any,
) -> list[list[int]]:
    """Continue prompts: return, for each, its ids and the new ones, up to and with `stop`.

    See `stream`, whose arguments and errors these are.
    """
    tokens = stream(model, ids, max_new_tokens, sampling, stop=stop, **options)
    steps = [step.tolist() for step in tokens]
    prompts, padding = pad_left(ids)
    texts = []
    for row, (prompt, n) in enumerate(zip(prompts.tolist(), padding.tolist(), strict=True)):
        new = [step[row] for step in steps]
        new = new[: new.index(stop) + 1] if stop in new else new
        texts.append(prompt[n:] + new)
    return texts
