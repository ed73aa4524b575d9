"""Texts as word tokens, and back.

Written by hand. A token is a word or one punctuation mark. White space is not kept, since it is
always the same in stories: `join_words` knows where it goes.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from operator import eq
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

# A word with inner apostrophes, or one mark: "snow", "don't", ",".
TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Split a text into word tokens: words and punctuation marks.

    >>> split_words('"Yes," said Tom.')
    ['"', 'Yes', ',', '"', 'said', 'Tom', '.']
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}")
    return TOKEN.findall(text)


def join_words(tokens: Iterable[str]) -> str:
    """Write word tokens as a text; it undoes `split_words` on every story.

    >>> join_words(['"', 'Yes', ',', '"', 'said', 'Tom', '.'])
    '"Yes," said Tom.'
    """
    if isinstance(tokens, str):
        raise TypeError("join_words takes a list of tokens, not a str: split_words makes one")
    pieces, quoted, glued = [], False, True
    for token in tokens:
        if needs_space(token, quoted, glued):
            pieces.append(" ")
        pieces.append(token)
        quoted ^= token == '"'
        glued = token == '"' and quoted
    return "".join(pieces)


def needs_space(token: str, quoted: bool, glued: bool) -> bool:
    """Tell whether a space precedes a token.

    quoted: an odd number of quotation marks precedes it. glued: it begins the text, or what is
    quoted.
    """
    return not (glued or token in ".,!?:;" or (token == '"' and quoted))


def token_spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in TOKEN.finditer(text)]


def around(text: str, at: int) -> str:
    """Return token number `at` of a text, with a few on either side."""
    spans = token_spans(text)[max(0, at - 2) : at + 4]
    return text[spans[0][0] : spans[-1][1]].strip(' .,!?"')


def after(text: str) -> str:
    """Say how far a text was read: after its last words."""
    words = text.split()
    said = " ".join(words[-6:])
    return f"after '{'…' if words[6:] else ''}{said}'" if words else "at the beginning"


def common_length(a: Sequence, b: Sequence) -> int:
    """Count what two texts, or lists of ids, have in common before they differ."""
    return sum(1 for _ in takewhile(bool, map(eq, a, b)))


def group(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Collect the values of each key."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
