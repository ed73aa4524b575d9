# From notebooks/01_data_preparation.ipynb: edit there, then run make export.

"""Tokenizers by words and by characters: the pieces of a text, looked up in a list.

Built in notebook 01, on `llmlib.tokenization.base`.
"""

import re
from collections.abc import Iterable

from llmlib.tokenization.base import VocabularyTokenizer

WORD = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Cut a text into words and single punctuation marks, and drop the white space.

    >>> split_words('"Yes," said Tom.')
    ['"', 'Yes', ',', '"', 'said', 'Tom', '.']
    """
    return WORD.findall(text)


def join_words(words: Iterable[str]) -> str:
    """Put words and marks together with the spaces that English prose has between them.

    >>> join_words(['"', 'Yes', ',', '"', 'said', 'Tom', '.'])
    '"Yes," said Tom.'
    """
    pieces, space, quoted = [], "", False
    for word in words:
        # a straight quotation mark closes if one is open
        closes = word in set(".,;:!?)]}…") or (word == '"' and quoted)
        opens = word in set("([{") or (word == '"' and not quoted)
        quoted ^= word == '"'  # each one opens or closes
        pieces += [word] if closes else [space, word]
        space = "" if opens else " "
    return "".join(pieces)


class WordTokenizer(VocabularyTokenizer):
    """Words and punctuation marks as tokens: see `split_words` and `join_words`."""

    word = WORD
    split = staticmethod(split_words)
    join = staticmethod(join_words)


class CharTokenizer(VocabularyTokenizer):
    """Single characters (Unicode code points) as tokens."""

    word = re.compile(r"(?s).")  # (?s): any character, also the end of a line

    @staticmethod
    def split(text: str, /) -> list[str]:
        """Cut a text into its characters."""
        return list(text)

    @staticmethod
    def join(pieces: Iterable[str], /) -> str:
        """Put characters together again."""
        return "".join(pieces)
