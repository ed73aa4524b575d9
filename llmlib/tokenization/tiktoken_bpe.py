"""Byte-level BPE applied by tiktoken: the interface of `BPETokenizer`, at the speed of Rust.

Written by hand; notebook 09 measures it. `gpt2_tokenizer` is GPT-2's. Left out: vocabularies whose
ids are not the order of their merges; `BPETokenizer` applies those.
"""

from functools import cache, cached_property
from pathlib import Path

import tiktoken

from llmlib import checks
from llmlib.tokenization import formats, storage
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.bpe import BPETokenizer, ByteTokenizer
from llmlib.tokenization.gpt2 import gpt2_encoding
from llmlib.tokenization.splitting import PATTERNS

SPACE = 2**18  # characters


def endless_space(text: str) -> bool:
    """Return whether so much white space stands together that tiktoken may run out of stack.

    Of twice that much, one of these slices is a part; one of less may be found, too.
    """
    return any(text[i : i + SPACE].isspace() for i in range(0, len(text) - SPACE + 1, SPACE))


class TiktokenTokenizer(ByteTokenizer):
    """A byte-level BPE that tiktoken applies; encoding: tiktoken's object for it."""

    def __init__(self, encoding: tiktoken.Encoding):
        super().__init__(encoding._mergeable_ranks, encoding._special_tokens)
        self.encoding = encoding

    def __reduce__(self) -> tuple:
        """Pickle GPT-2's by what makes it: tiktoken would write its name, and download it later."""
        state = {"end_token": self.end_token}
        if self.encoding is gpt2_encoding():
            return gpt2_tokenizer, (), state
        return type(self), (self.encoding,), state

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the token ids of a text in which nothing is special."""
        checks.text(text, "encode takes a string")
        if endless_space(text):
            return self.ours.encode_ordinary(text)
        return self.encoding.encode_ordinary(text)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of bytes that may end within a character, or are no text."""
        return self.encoding._encode_bytes(data)

    @cached_property
    def ours(self) -> BPETokenizer:
        """The same tokenizer with our code at work, which takes what is too much for tiktoken."""
        found = self.vocabulary()
        special = found.special_tokens
        return BPETokenizer(found.merges, special, pattern=found.pattern, vocabulary=found.tokens)

    def vocabulary(self) -> formats.Vocabulary:
        """Return all that a file says about this tokenizer; the merges are found again."""
        source = self.encoding._pat_str
        is_gpt2 = source in (PATTERNS["gpt2"], gpt2_encoding()._pat_str)
        merges = formats.merges_of(self._ids)
        pattern = "gpt2" if is_gpt2 else source
        return formats.Vocabulary(self._ids, merges, self.special_tokens, pattern)

    @classmethod
    def load(cls, path: str | Path) -> "TiktokenTokenizer":
        """Read what `BPETokenizer.load` reads, if its ids are in the order of the merges.

        Raises FileNotFoundError, and FileError for a damaged or other file.
        """
        path = storage.find(path)
        found = storage.load(path)
        with checks.tokenizer_file(formats.ids_file(path), "a vocabulary in order"):
            checks.only_special(found.added_tokens or found.add_prefix_space)
            checks.merge_order(found, formats.vocabulary_of(found.merges), path.name)
            formats.merges_by_ids(found)
        encoding = tiktoken.Encoding(
            path.parent.name,
            pat_str=PATTERNS.get(found.pattern, found.pattern),
            mergeable_ranks=found.tokens,
            special_tokens=found.special_tokens,
        )
        return cls(encoding)


@cache
def gpt2_tokenizer() -> TiktokenTokenizer:
    """Return GPT-2's tokenizer, made from the `gpt2/vocab.bpe` of the course."""
    return TiktokenTokenizer(gpt2_encoding())


def fastest(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer with tiktoken at work, or as it is where that would give other ids.

    tiktoken takes ids for the order of the merges, and joins any two tokens that make a third. For
    what `BPETokenizer.train` has learned that is the same; files may say otherwise.
    """
    if type(tokenizer) is not BPETokenizer or not tokenizer.is_plain:
        return tokenizer
    found = tokenizer.vocabulary()
    try:
        formats.merges_by_ids(found)
    except ValueError:
        return tokenizer
    pattern = PATTERNS[found.pattern]
    special = found.special_tokens
    return TiktokenTokenizer(
        tiktoken.Encoding(
            "ours", pat_str=pattern, mergeable_ranks=found.tokens, special_tokens=special
        )
    )
