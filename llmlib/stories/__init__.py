"""A small world of children's stories whose probabilities are known exactly.

Written by hand. One grammar (`llmlib.stories.grammar`, made to be read and changed) has three uses:

    tell    a story at random; every choice in it is uniform, so its probability is exact
    score   any text: `log_prob`, and `next_words`, the true distribution of the word that follows
    check   any text: is it grammatical, and do its pronouns, owners, objects and counts stay true?

So we can compare what a language model learns with the truth: `entropy` is the floor of its loss,
`next_words` and `next_tokens` are what it should predict, and `check` marks the stories it tells.

These functions use the default world; `World(rules, words)` makes another one.
`python -m llmlib.stories > data/stories.txt` writes the sample that ships with the course.
"""

import random
from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np

from llmlib.stories.grammar import RULES, WORDS
from llmlib.stories.text import join_words, split_words
from llmlib.stories.tokens import Encoder, NextTokens
from llmlib.stories.world import Report, Story, World

__all__ = [
    "RULES",
    "WORDS",
    "Report",
    "Story",
    "World",
    "check",
    "entropy",
    "join_words",
    "log_prob",
    "next_tokens",
    "next_words",
    "sample",
    "split_words",
    "tell",
    "tell_many",
    "world",
]

SAMPLE_SIZE, SAMPLE_SEED = 1000, 2024  # data/stories.txt


@cache
def world() -> World:
    """Return the default world."""
    return World()


def tell(rng: random.Random) -> Story:
    """Tell a story of the default world. For this and the functions below see `World`."""
    return world().tell(rng)


def tell_many(n: int, seed: int) -> list[Story]:
    return world().tell_many(n, seed)


def log_prob(text: str, prefix: bool = False) -> float:
    return world().log_prob(text, prefix)


def next_words(beginning: str) -> dict[str, float]:
    return world().next_words(beginning)


def next_tokens(ids: Iterable[int], tokenizer: Encoder) -> np.ndarray:
    """Return the true distribution of the token after ids, as an array (vocab_size,) of float64.

    ids: the beginning of a story as `tokenizer.encode` gives it, with `<|endoftext|>` in front or
    without; it may end in the middle of a word. The end of a story counts as `<|endoftext|>`, and
    the probabilities sum to 1; where the tokenizer has no such token, what is missing from 1 is the
    probability that the story ends here. Raises ValueError for ids that no story begins with.
    """
    return _next_tokens(tokenizer)(ids)


@lru_cache(maxsize=8)
def _next_tokens(tokenizer: Encoder) -> NextTokens:
    return NextTokens(world(), tokenizer)


def check(text: str) -> Report:
    return world().check(text)


def entropy() -> float:
    return world().entropy()


def sample() -> str:
    """Return the text of data/stories.txt: a story per line."""
    return "".join(f"{story.text}\n" for story in tell_many(SAMPLE_SIZE, SAMPLE_SEED))
