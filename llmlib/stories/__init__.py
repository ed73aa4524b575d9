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

from collections.abc import Iterable
from functools import lru_cache, partial

import numpy as np

# "X as X": these are offered here, too
from llmlib.stories.grammar import RULES as RULES
from llmlib.stories.grammar import WORDS as WORDS
from llmlib.stories.text import join_words as join_words
from llmlib.stories.text import split_words as split_words
from llmlib.stories.tokens import Encoder, NextTokens
from llmlib.stories.world import Report as Report
from llmlib.stories.world import Story as Story
from llmlib.stories.world import World as World

SAMPLE_SIZE, SAMPLE_SEED = 1000, 2024  # data/stories.txt

DEFAULT = World()
tell, tell_many = DEFAULT.tell, DEFAULT.tell_many
log_prob, next_words = DEFAULT.log_prob, DEFAULT.next_words
check, entropy = DEFAULT.check, DEFAULT.entropy
_next_tokens = lru_cache(maxsize=8)(partial(NextTokens, DEFAULT))  # of a tokenizer


def next_tokens(ids: Iterable[int], tokenizer: Encoder) -> np.ndarray:
    """Return the true distribution of the token after ids, as an array (vocab_size,) of float64.

    ids: the beginning of a story as `tokenizer.encode` gives it, with `<|endoftext|>` in front or
    without; it may end in the middle of a word. The end of a story counts as `<|endoftext|>`, and
    the probabilities sum to 1; where the tokenizer has no such token, what is missing from 1 is the
    probability that the story ends here. Raises ValueError for ids that no story begins with.
    """
    return _next_tokens(tokenizer)(ids)


def sample() -> str:
    """Return the text of data/stories.txt: a story per line."""
    return "".join(f"{story.text}\n" for story in tell_many(SAMPLE_SIZE, SAMPLE_SEED))
