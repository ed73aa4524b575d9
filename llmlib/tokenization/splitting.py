"""How a text is cut into pieces before anything is merged, and into blocks before it is cut.

Written by hand; notebook 09 builds the pattern of GPT-2 from its parts. A pattern is a name in
PATTERNS or a regular expression of your own. `blocks` cuts a long text where any text would be
split anyway: a space after something that is no space is such a place for both patterns, whatever
else stands around it, and so is the beginning of a line, unless the line begins with white space,
or the one before it is empty or ends with white space.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any

import regex

from llmlib import checks

# How a text is split before anything is merged: no token crosses such a border.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """Return the function that cuts a text into pieces; joined again, they are the text.

    pattern: a name in PATTERNS, or a regular expression without groups. Raises ValueError for
    anything else.
    """
    compiled = checks.split_pattern(pattern, PATTERNS)
    return compiled.findall if pattern in PATTERNS else partial(split_whole, compiled)


def split_whole(compiled: Any, text: str) -> list[str]:  # regex does not name its types
    """Cut a text by a custom pattern; what it passes over is a piece, too.

    Raises ValueError if that takes more time than any sensible pattern does.
    """
    with checks.in_time():
        seconds = checks.time_for(compiled.pattern, text)
        pieces = compiled.findall(text, timeout=seconds)
        if sum(map(len, pieces)) < len(text):  # with the pattern in a group, split keeps it
            pieces = regex.split(f"({compiled.pattern})", text, timeout=seconds)
        return [piece for piece in pieces if piece]


# Where both patterns split, whatever comes before and after; searched from the end of a text. The
# last is for scripts without spaces.
SAFE_CUT = regex.compile(r"(?r)(?<=\S)(?= )|(?<=\S\n)(?=[^\s/])|(?<=\p{L})(?=[，。、：；！？])")


def safe_cut(text: str, start: int, stop: int, special_tokens: Collection[str]) -> int:
    """Return the last place from start to stop that cuts no piece and no special token, or 0."""
    # a negative stop would be counted from the end of the text
    while stop > start and (found := SAFE_CUT.search(text, start + 1, stop)):
        stop = found.start()
        spans = ((max(0, stop - len(token) + 1), stop + len(token) - 1) for token in special_tokens)
        if all(text.find(token, *span) < 0 for token, span in zip(special_tokens, spans)):
            return stop
    return 0


BLOCK = 2**20  # characters that are split at a time


def blocks(
    texts: Iterable[str], special_tokens: Collection[str], pattern: str = "gpt2", size: int = BLOCK
) -> Iterator[str]:
    """Join texts and cut them again, where it is safe, into blocks of about `size` characters.

    Where there is no such place, as in one endless word, a block grows until there is one. With a
    pattern of your own, where it would be safe is not known, and all is one block.
    """
    size = size if pattern in PATTERNS else sys.maxsize
    longest = max(map(len, special_tokens), default=0)
    rest, wanted = "", size
    for text in texts:
        rest += text  # Python appends in place, as nothing else refers to it
        if len(rest) < wanted:
            continue
        start, width = 0, size
        while start + width <= len(rest):
            # the last characters may be the beginning of a special token that goes on
            stop = min(start + width, len(rest) - longest)
            if cut := safe_cut(rest, start, stop, special_tokens):
                yield rest[start:cut]
                start, width = cut, size
            else:
                width *= 2
        rest = rest[start:]
        wanted = max(size, 2 * len(rest))
    if rest:
        yield rest
