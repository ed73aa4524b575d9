"""Which texts Python's and Rust's regular expressions split alike.

Written by hand. The two know different versions of Unicode: for one of them a character is a
letter, for the other it is nothing yet. So tiktoken may stand in for `BPETokenizer` only where all
characters of a text are the same to both.
"""

import re
from functools import cache

import regex
import tiktoken

# What has been the same in Unicode for ten years: Latin, Greek, Cyrillic, marks, Han, Hangul,
# emoji. Others are looked up one by one.
SETTLED = re.compile(
    "[^\0-\u0527\u2010-\u205e\u3001-\u9fa5\uac00-\ud7a3\uff01-\uff9e\U0001f300-\U0001f64f]"
)
CLASSES = (r"\p{L}", r"\p{N}", r"\s")


def split_alike(text: str) -> bool:
    """Return whether both engines sort the characters of a text into the same classes."""
    return text.isascii() or all(map(is_alike, set(SETTLED.findall(text))))


@cache
def is_alike(character: str) -> bool:
    """Return whether a character is a letter, a number or a space to both engines, or to neither.

    Rust's keeps the bytes of what it finds, and drops the rest.
    """
    data = character.encode("utf-8", "surrogatepass")
    found = [list(data) if regex.match(name, character) else [] for name in CLASSES]
    return found == [encoding.encode_ordinary(character) for encoding in rust_classes()]


@cache
def rust_classes() -> list[tiktoken.Encoding]:
    """Return an encoding for each class, which splits a text into the characters of that class."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    return [
        tiktoken.Encoding("class", pat_str=name, mergeable_ranks=ranks, special_tokens={})
        for name in CLASSES
    ]
