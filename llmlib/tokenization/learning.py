"""Tokenizers learned from documents that may be larger than memory.

Written by hand, on `from_text` of each kind.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, groupby, islice
from operator import itemgetter
from sys import maxsize
from types import SimpleNamespace
from typing import Any

from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.documents import BATCH
from llmlib.tokenization.folders import KINDS
from llmlib.tokenization.safe_cuts import safe_pieces

# Bytes from which a tokenizer learns: of a longer text evenly spread parts, or memory would run
# out. The others, word and char, have to see all of it.
ENOUGH = {"bpe": 100_000_000, "wordpiece": 30_000_000, "unigram": 10_000_000}


def one_in(kind: str, n_bytes: int) -> int:
    """Return n, where one piece in n of so long a text is enough for a kind of tokenizer."""
    return max(1, -(-n_bytes // ENOUGH.get(kind, maxsize)))


def learn(
    kind: str,
    documents: Iterable[tuple[int, str]],
    n_bytes: int,
    vocab_size: int | None = None,
    **settings: Any,
) -> Tokenizer:
    """Return a tokenizer of a kind, learned from documents given as (number, piece of its text).

    n_bytes: how long they are, about. settings: of `from_text`. Raises what that raises.
    """
    found = pieces(documents, settings.get("pattern", "gpt2"))
    return KINDS[kind].from_text(
        islice(found, 0, None, one_in(kind, n_bytes)), vocab_size, **settings
    )


def pieces(documents: Iterable[tuple[int, str]], pattern: str) -> Iterator[str]:
    """Yield documents in pieces that no word crosses, with a line break between documents."""
    between, like = "", SimpleNamespace(pattern=pattern)
    for _, texts in groupby(documents, key=itemgetter(0)):
        yield from safe_pieces(chain([between], (text for _, text in texts)), like, BATCH)
        between = "\n"
