"""Rules for the next token that depend on the text so far: penalties, and what may not be said.

Written by hand; notebook 06 shows the loop that applies them. A rule maps logits (B, V) to logits,
given the ids (B, T) of the texts so far and how much padding (B,) they begin with; -inf forbids.
Each gives what its namesake in transformers gives, and lets no row see another, or its padding.

Shapes: B rows in a batch, T tokens so far, V = vocab_size.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llmlib import checks
from llmlib.generation.sampling import Sampling, penalize

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def rules_of(sampling: Sampling, stops: Sequence[int], n_prompt: int) -> list[Rule]:
    """Return the rules of some settings, for texts that begin with n_prompt columns of prompts."""
    rules: list[Rule] = []
    if sampling.repetition_penalty != 1:
        rules.append(partial(penalize_repeats, sampling.repetition_penalty))
    if sampling.no_repeat_ngram_size is not None:
        rules.append(partial(no_ngram_twice, sampling.no_repeat_ngram_size))
    ends = [(stop,) for stop in stops]
    words = [word for word in sampling.bad_words if word not in ends]  # an end stays possible
    if words:
        rules.append(BadWords(words))
    if stops and sampling.min_new_tokens:
        rules.append(partial(no_early_stop, stops, n_prompt + sampling.min_new_tokens))
    return rules


def own_tokens(ids: Tensor, padding: Tensor) -> Tensor:
    """Return (B, T), True for what is not padding."""
    return torch.arange(ids.shape[1], device=ids.device) >= padding[:, None]


def tokens_in(ids: Tensor, padding: Tensor, vocab_size: int) -> Tensor:
    """Return (B, V), True for the tokens that a row of ids (B, T) holds behind its padding."""
    seen = torch.zeros(len(ids), vocab_size, dtype=torch.bool, device=ids.device)
    # the last token of a row is no padding: it stands in for what is
    return seen.scatter_(1, torch.where(own_tokens(ids, padding), ids, ids[:, -1:]).long(), True)


def penalize_repeats(penalty: float, logits: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
    """Make less likely what a row holds already (Keskar and others 2019)."""
    return penalize(logits, tokens_in(ids, padding, logits.shape[-1]), penalty)


def no_ngram_twice(n: int, logits: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
    """Forbid what would end a run of n tokens that a row holds already (Paulus and others 2018)."""
    if ids.shape[1] < n:
        return logits
    grams = ids.unfold(1, n, 1)  # (B, T - n + 1, n)
    same = (grams[..., :-1] == ids[:, None, ids.shape[1] - n + 1 :]).all(dim=-1)
    rows, places = (same & own_tokens(ids, padding)[:, : same.shape[1]]).nonzero(as_tuple=True)
    forbidden = torch.zeros_like(logits, dtype=torch.bool)
    forbidden[rows, grams[rows, places, -1].long()] = True
    return logits.masked_fill(forbidden, -math.inf)


def no_early_stop(
    stops: Sequence[int], length: int, logits: Tensor, ids: Tensor, padding: Tensor
) -> Tensor:
    """Forbid `stops` in texts that are shorter than `length`, padding included."""
    if ids.shape[1] >= length:
        return logits
    checks.has_logit("stop", max(stops), logits)
    return logits.index_fill(1, torch.tensor(stops, device=logits.device), -math.inf)


class BadWords:
    """Forbid the last token of each of some sequences where the others stand before it."""

    def __init__(self, words: Sequence[Sequence[int]]):
        self.single = torch.tensor([word[0] for word in words if len(word) == 1], dtype=torch.int64)
        self.longer = [word for word in words if len(word) > 1]
        self.largest = max(map(max, words))

    def __call__(self, logits: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
        """Map logits (B, V) to those in which no such sequence can be completed."""
        checks.has_logit("bad_words", self.largest, logits)
        self.single = self.single.to(logits.device)
        logits = logits.index_fill(1, self.single, -math.inf)
        for *begin, last in self.longer:
            if len(begin) <= ids.shape[1]:
                stands = (ids[:, -len(begin) :] == ids.new_tensor(begin)).all(dim=-1)
                stands &= padding + len(begin) <= ids.shape[1]
                logits[stands, last] = -math.inf
        return logits


def only_tokens(sampling: Sampling, tokenizer: Any, model: Any) -> Sampling:
    """Return settings with which a model writes nothing but tokens that a tokenizer has."""
    vocab_size = getattr(getattr(model, "config", None), "vocab_size", 0)
    unused = unused_ids(tokenizer, vocab_size) if isinstance(sampling, Sampling) else ()
    return replace(sampling, bad_words=(*sampling.bad_words, *unused)) if unused else sampling


def unused_ids(tokenizer: Any, vocab_size: int) -> tuple[tuple[int], ...]:
    """Return the ids of a model that no token has, as `bad_words`: so that they are never drawn.

    A model may have more of them than its tokenizer: a vocabulary rounded up, or tokens deleted.
    """
    # the vocab_size of transformers' tokenizers leaves out the tokens that were added
    size = max(getattr(tokenizer, "vocab_size", vocab_size), getattr(tokenizer, "__len__", int)())
    known = min(vocab_size, size)
    holes = () if decodes(tokenizer, range(known)) else range(known)
    unused = [i for i in holes if not decodes(tokenizer, [i])]
    return tuple((i,) for i in [*unused, *range(known, vocab_size)])


def decodes(tokenizer: Any, ids: Iterable[int]) -> bool:
    """Tell whether a tokenizer has all of some ids."""
    try:
        tokenizer.decode(list(ids))
    except (KeyError, IndexError, ValueError):
        return False
    return True
