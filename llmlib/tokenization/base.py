"""What every tokenizer offers, and the base of those that look pieces of text up in a list.

Written by hand; notebook 01 builds a small version. `Tokenizer` is all that the rest of the package
asks for: the tokenizers by words and characters, BPE, WordPiece, Unigram and tiktoken's have it.
What is left out: training subword tokenizers; notebook 09 builds those.
"""

import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from llmlib import checks, files
from llmlib.tokenization.interface import Interface, each_text, whole_characters

UNKNOWN = "<|unk|>"
END_OF_TEXT = "<|endoftext|>"


def split_special(
    text: str,
    special_tokens: Iterable[str],
    allowed_special: Collection[str] | str = (),
    disallowed_special: Collection[str] | str = "all",
) -> list[tuple[str, bool]]:
    """Cut a text at the special tokens that are allowed in it: parts, and whether each is special.

    Of two special tokens that begin at the same place, the longer one counts. Raises ValueError for
    a disallowed one in the text; "all" means all, or all that are not allowed.
    """
    checks.names_or_all(allowed_special, disallowed_special)
    special_tokens = set(special_tokens)
    allowed = special_tokens & set(special_tokens if allowed_special == "all" else allowed_special)
    # as in tiktoken, a token that is named here is refused even if it is allowed there
    refused = special_tokens - allowed if disallowed_special == "all" else disallowed_special
    checks.no_special_tokens(text, refused)
    if not allowed:
        return [(text, False)]
    # an alternative that comes first wins, so the longest ones do
    longest_first = sorted(allowed, key=lambda token: (-len(token), token))
    parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    # what a group in the pattern matched stands at the odd places
    return [(part, place % 2 == 1) for place, part in enumerate(parts) if part]


class Tokenizer(Interface, Protocol):
    """What every tokenizer offers, and all that the rest of the package asks for.

    A subclass that has `encode_ordinary` and `decode` gets the rest from here.
    """

    vocab_size: int  # one more than the largest token id, special tokens included
    special_tokens: dict[str, int]  # the id of each
    end_token: str = END_OF_TEXT  # which of them ends a document; files of others have other names

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the token ids of a text in which nothing is special."""

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Return the text of token ids.

        errors: what to do with bytes that are not UTF-8, as in `bytes.decode`. Raises ValueError
        for an id that no token has.
        """

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a single token, special or not; None if there is no such token."""

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to a file, or to a folder."""

    def encode(
        self,
        text: str,
        *,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[int]:
        """Return the token ids of a text.

        allowed_special: the special tokens that are recognized in the text, or "all".
        disallowed_special: those that raise ValueError if the text contains them; "all" means all
        that are not allowed. With `disallowed_special=()` they are read as ordinary text.
        """
        ids = []
        for part, number in self.parts(text, allowed_special, disallowed_special):
            ids += self.encode_ordinary(part) if number is None else [number]
        return ids

    def parts(
        self,
        text: str,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[tuple[str, int | None]]:
        """Cut a text at its special tokens: the parts, and their ids, None for ordinary text."""
        special = self.special_tokens
        found = split_special(text, special, allowed_special, disallowed_special)
        return [(part, special[part] if is_special else None) for part, is_special in found]

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`, by tiktoken's name. Raises KeyError if there is none."""
        return self.special_tokens[self.end_token]


T = TypeVar("T", bound="VocabularyTokenizer")


class VocabularyTokenizer(Tokenizer):
    """A tokenizer that looks pieces of text up in a list: base of those by words and characters.

    tokens: the pieces it knows, each one once; a piece's place is its id. `<|unk|>`, for every
    other piece, and `<|endoftext|>` follow at the end. Raises TypeError or ValueError for others.
    """

    def __init__(self, tokens: Sequence[str]):
        checks.vocabulary(tokens, reserved=(UNKNOWN, END_OF_TEXT))
        self.tokens = [*tokens, UNKNOWN, END_OF_TEXT]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.special_tokens = {token: self.ids[token] for token in (UNKNOWN, END_OF_TEXT)}
        self.vocab_size = len(self.tokens)

    @staticmethod
    @abstractmethod
    def split(text: str, /) -> list[str]:
        """Cut a text into pieces."""

    @staticmethod
    @abstractmethod
    def join(pieces: Iterable[str], /) -> str:
        """Put pieces together again."""

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the token ids of a text; a piece that is not known becomes `<|unk|>`."""
        unknown = self.ids[UNKNOWN]
        return [self.ids.get(piece, unknown) for piece in self.split(whole_characters(text))]

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Return the text of token ids. Raises ValueError for an id that no token has."""
        return self.join(self.tokens[i] for i in checks.known_ids(ids, self.vocab_size))

    @classmethod
    def from_text(cls: type[T], text: str | Iterable[str], vocab_size: int | None = None) -> T:
        """Make a tokenizer that knows every piece of a text, or the most frequent ones.

        text: one, or pieces of it that no token crosses. vocab_size: the largest number of ids, the
        two special tokens included.
        Raises ValueError for a text without any piece and for a vocab_size below 3.
        """
        counts = Counter(chain.from_iterable(map(cls.split, each_text(text))))
        checks.learnable(counts, vocab_size, 3, "a piece and 2 special tokens")
        n_pieces = None if vocab_size is None else vocab_size - 2
        by_frequency = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(sorted(by_frequency[:n_pieces]))

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, special or not; None if there is no such token."""
        return self.ids.get(token)

    def state(self) -> dict:
        """Return what `save` writes: the arguments that make this tokenizer again."""
        return {"tokens": self.tokens[:-2]}

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a JSON file."""
        files.write_json(path, {"tokenizer": type(self).__name__, **self.state()})

    @classmethod
    def load(cls: type[T], path: str | Path) -> T:
        """Read a vocabulary that `save` has written. Raises FileError for any other file."""
        with checks.tokenizer_file(path, f"a vocabulary that {cls.__name__}.save has written"):
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            kind = content.pop("tokenizer")
            checks.require(kind == cls.__name__, f"it holds a {kind}: load it with {kind}.load")
            return cls(**content)
