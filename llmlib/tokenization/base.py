# From notebooks/01_data_preparation.ipynb: edit there, then run make export.

"""Tokenizers by characters and by words, and GPT-2's own with no network.

Built in notebook 01. A tokenizer has `encode(text) -> ids`, `decode(ids) -> text`, `vocab_size`,
`special_tokens` (text -> id), `save(path)` and `load(path)`. What is left out: training the
subword tokenizers that real models use; notebook 09 builds those.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

UNKNOWN = "<|unk|>"
END_OF_TEXT = "<|endoftext|>"


def split_special(
    text: str,
    special_tokens: Iterable[str],
    allowed_special: Collection[str] | str = (),
    disallowed_special: Collection[str] | str = "all",
) -> list[tuple[str, bool]]:
    """Cut a text at the special tokens that are allowed in it: parts, and whether each is special.

    Of two special tokens that begin at the same place, the longer one is taken. Raises ValueError
    where a disallowed one stands in the text; "all" means all, or all that are not allowed.
    """
    if not isinstance(text, str):
        raise TypeError(f"encode takes a string, not {type(text).__name__}")
    special_tokens = set(special_tokens)
    allowed = special_tokens & set(special_tokens if allowed_special == "all" else allowed_special)
    refused = set(special_tokens if disallowed_special == "all" else disallowed_special) - allowed
    for token in sorted(refused):
        if token in text:
            raise ValueError(
                f"the text contains the special token {token!r}: pass allowed_special="
                f"{{{token!r}}} to encode it as such, or disallowed_special=() as plain text"
            )
    if not allowed:
        return [(text, False)]
    longest_first = sorted(allowed, key=lambda token: (-len(token), token))
    parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return [(part, place % 2 == 1) for place, part in enumerate(parts) if part]


class VocabularyTokenizer:
    """A tokenizer that looks pieces of text up in a list: base of those by words and characters.

    tokens: the pieces it knows, each one once; a piece's place is its id. `<|unk|>`, which stands
    for every other piece, and `<|endoftext|>` follow at the end.
    """

    def __init__(self, tokens: Sequence[str]):
        if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in tokens):
            raise TypeError("tokens must be a list of strings that are not empty")
        repeated = [token for token, count in Counter(tokens).items() if count > 1]
        if repeated:
            raise ValueError(f"each token may occur once, but {repeated[0]!r} occurs more often")
        if reserved := {UNKNOWN, END_OF_TEXT} & set(tokens):
            raise ValueError(f"{min(reserved)!r} is added by the tokenizer itself: leave it out")
        self.tokens = [*tokens, UNKNOWN, END_OF_TEXT]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.special_tokens = {token: self.ids[token] for token in (UNKNOWN, END_OF_TEXT)}

    @staticmethod
    def split(text: str) -> list[str]:
        """Cut a text into pieces."""
        raise NotImplementedError

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        """Put pieces together again."""
        raise NotImplementedError

    @classmethod
    def from_text(cls, text: str, vocab_size: int | None = None) -> "VocabularyTokenizer":
        """Make a tokenizer that knows every piece of `text`, or the most frequent ones.

        vocab_size: how many ids there may be at most, the two special tokens included.
        Raises ValueError for a text without any piece and for a vocab_size below 3.
        """
        counts = Counter(cls.split(text))
        if not counts:
            raise ValueError("a vocabulary cannot be made from an empty text")
        if vocab_size is not None and vocab_size < 3:
            raise ValueError(
                f"vocab_size {vocab_size} leaves no room beside 2 special tokens: give at least 3"
            )
        room = None if vocab_size is None else vocab_size - 2
        by_frequency = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(sorted(by_frequency[:room]))

    @property
    def vocab_size(self) -> int:
        """The number of token ids, special tokens included."""
        return len(self.tokens)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[int]:
        """Return the token ids of a text; a piece that is not known becomes `<|unk|>`.

        allowed_special: the special tokens that are recognised in the text, or "all".
        disallowed_special: those that raise ValueError if they stand in the text; "all" means all
        that are not allowed. With `disallowed_special=()` they are read as ordinary text.
        """
        unknown = self.ids[UNKNOWN]
        ids = []
        for part, special in split_special(
            text, self.special_tokens, allowed_special, disallowed_special
        ):
            pieces = [part] if special else self.split(part)
            ids += [self.ids.get(piece, unknown) for piece in pieces]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids.

        Raises ValueError for an id outside 0 … vocab_size - 1.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(
                    f"token id {i} is outside the vocabulary: ids are 0 to {self.vocab_size - 1}"
                )
        return self.join(self.tokens[i] for i in ids)

    def state(self) -> dict:
        """Return what `save` writes: the arguments that make this tokenizer again."""
        return {"tokens": self.tokens[:-2]}

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a JSON file; an old one stays whole until the new one is."""
        path = Path(path)
        content = {"tokenizer": type(self).__name__, **self.state()}
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        os.replace(beside, path)

    @classmethod
    def load(cls, path: str | Path) -> "VocabularyTokenizer":
        """Read a vocabulary that `save` has written.

        Raises ValueError for a file that is no vocabulary, or that of another kind of tokenizer.
        """
        foreign = f"{path} is not a vocabulary that {cls.__name__}.save has written"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            kind = content.pop("tokenizer")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(foreign) from error
        if kind != cls.__name__:
            raise ValueError(f"{path} holds a {kind}: load it with {kind}.load")
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"{foreign}: {error}") from error
