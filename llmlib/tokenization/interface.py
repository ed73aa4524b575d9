"""What tiktoken's users also ask of a tokenizer: batches, single tokens, offsets, safe prefixes.

Written by hand, on the few methods that notebook 01 explains and every tokenizer has. Names and
results are tiktoken's; the spans of `encode_with_offsets` are those of Hugging Face. Left out:
threads, which do not speed Python up, and `encode_with_unstable`.
"""

import codecs
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from re import Pattern
from typing import Any, Protocol

from llmlib import checks

Span = tuple[int, int]  # the first character, and the one behind the last
Names = Collection[str] | str  # special tokens, or "all"


def whole_characters(text: str) -> str:
    """Join pairs of surrogates, and replace a lone one with U+FFFD, as tiktoken does.

    Python's strings may hold halves of a character, which UTF-8, and so no token, can write.
    Raises TypeError for anything but a string.
    """
    checks.text(text, "encode takes a string")
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def prefixed(text: str) -> str:
    """Return a text that begins with a space, as Hugging Face's `add_prefix_space` has it."""
    return text if text.startswith(" ") or not text else " " + text


def each_text(texts: str | Iterable[str]) -> Iterator[str]:
    """Yield the texts to learn from, one or many, in whole characters. Raises TypeError for others.

    >>> list(each_text("one")), list(each_text(["one", "two"]))
    (['one'], ['one', 'two'])
    """
    for text in [texts] if isinstance(texts, str) else texts:
        checks.text(text, "texts must be strings")
        yield whole_characters(text)


def whole_part(data: bytes) -> str:
    """Return the text of bytes without a character at their end that is not all there yet.

    >>> whole_part("a🦊".encode()[:-1])
    'a'
    """
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def text_and_rest(data: bytes) -> tuple[str, bytes]:
    """Return bytes as the text that they begin with, and the bytes that are not UTF-8, and after.

    >>> text_and_rest(b"fox\\xff")
    ('fox', b'\\xff')
    """
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), data[error.start :]


def common_length(a: str, b: str) -> int:
    """Return how many characters at the beginning of two texts are the same."""
    pairs = enumerate(zip(a, b))
    differ = (place for place, (x, y) in pairs if x != y)
    return len(a) if b.startswith(a) else next(differ, min(len(a), len(b)))


def spans_of(word: str, start: int, tokens: Sequence[bytes], least: int = 0) -> list[Span]:
    """Return the characters that each token has bytes of, in a word that begins at `start`.

    Tokens that do not spell the word, such as `<|unk|>`, have all of it each. What stands before
    `least`, a space that was put in front of the text, counts as a part of the first character.
    """
    if b"".join(tokens) != word.encode():
        return [(max(least, start), start + len(word))] * len(tokens)
    places = ((max(least, n), character) for n, character in enumerate(word, start))
    owner = [place for place, character in places for _ in character.encode()]
    spans, first = [], 0
    for token in tokens:
        stop = first + len(token)
        spans.append((owner[first], owner[stop - 1] + 1))
        first = stop
    return spans


class Interface(Protocol):
    """The methods that follow from others; `Tokenizer` in `base` says what those do."""

    vocab_size: int
    special_tokens: dict[str, int]
    # what finds the words of a text that is encoded word by word, and may lose white space
    word: Pattern[str] | None = None

    def encode_ordinary(self, text: str) -> list[int]: ...

    def encode(
        self, text: str, *, allowed_special: Names = (), disallowed_special: Names = "all"
    ) -> list[int]: ...

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str: ...

    def token_to_id(self, token: str) -> int | None: ...

    def parts(
        self, text: str, allowed_special: Names = (), disallowed_special: Names = "all"
    ) -> Iterable[tuple[str, int | None]]: ...

    # Text to ids

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: Names = (),
        disallowed_special: Names = "all",
    ) -> list[list[int]]:
        """Return the token ids of each of several texts."""
        special = {"allowed_special": allowed_special, "disallowed_special": disallowed_special}
        return [self.encode(text, **special) for text in texts]

    def encode_ordinary_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the token ids of each of several texts in which nothing is special."""
        return [self.encode_ordinary(text) for text in texts]

    def encode_words(self, words: Iterable[str]) -> list[int]:
        """Return the token ids of a text that is split already: no token crosses a border."""
        checks.not_one_text(words)
        return list(chain.from_iterable(map(self.encode_ordinary, words)))

    def encode_with_offsets(
        self, text: str, allowed_special: Names = (), disallowed_special: Names = "all"
    ) -> tuple[list[int], list[Span]]:
        """Return the ids of a text, and for each the characters (first, last + 1) it comes from.

        A token that holds a part of a character has all of it, so spans may overlap.
        """
        ids: list[int] = []
        spans: list[Span] = []
        start = 0
        for part, number in self.parts(whole_characters(text), allowed_special, disallowed_special):
            if number is None:
                for at, word, found in self.words(part):
                    ids += found
                    spans += spans_of(word, start + at, [*map(self.spelling, found)], start)
            else:
                ids.append(number)
                spans.append((start, start + len(part)))
            start += len(part)
        return ids, spans

    def words(self, text: str) -> Iterable[tuple[int, str, list[int]]]:
        """Yield stretches of a text that are encoded apart: where they start, they, and their ids.

        The whole text is one, where the bytes of its tokens make it up.
        """
        if self.word is None:
            yield 0, text, self.encode_ordinary(text)
            return
        for found in self.word.finditer(text):
            yield found.start(), found.group(), self.encode_ordinary(found.group())

    def encode_single_token(self, token: str | bytes) -> int:
        """Return the id of a token, special or not. Raises KeyError if there is none."""
        text = token.decode("utf-8", "surrogateescape") if isinstance(token, bytes) else token
        number = self.token_to_id(text)
        if number is None and isinstance(token, bytes) and len(token) == 1:
            number = self.token_to_id(f"<0x{token[0]:02X}>")  # bytes may be tokens of their own
        if number is None:
            raise KeyError(token)
        return number

    # Ids to text

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the text of token ids in UTF-8; the bytes may end within a character."""
        return self.decode(ids).encode()

    def decode_batch(self, batch: Iterable[Iterable[int]], errors: str = "replace") -> list[str]:
        """Return the texts of several sequences of token ids."""
        return [self.decode(ids, errors) for ids in batch]

    def decode_bytes_batch(self, batch: Iterable[Iterable[int]]) -> list[bytes]:
        """Return the bytes of several sequences of token ids."""
        return [self.decode_bytes(ids) for ids in batch]

    def decode_single_token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token. Raises KeyError for an id that no token has."""
        try:
            return self.decode_bytes([token])
        except ValueError as error:
            raise KeyError(token) from error

    def decode_tokens_bytes(self, ids: Iterable[int]) -> list[bytes]:
        """Return the bytes of each token. Raises KeyError for an id that no token has."""
        return [self.decode_single_token_bytes(i) for i in ids]

    def spelling(self, token: int) -> bytes:
        """Return the bytes of one token within a word."""
        return self.decode_single_token_bytes(token)

    def decode_with_offsets(self, ids: Iterable[int]) -> tuple[str, list[int]]:
        """Return the text of token ids, and the place where each token begins in it.

        A token that begins within a character has the place of that. Raises ValueError if the
        bytes are not whole characters.
        """
        ids = list(ids)
        text, tokens = self.decode(ids, "strict"), self.decode_tokens_bytes(ids)
        if b"".join(tokens) != text.encode():  # words, with spaces between them
            return text, [common_length(text, self.decode(ids[:n])) for n in range(len(ids))]
        offsets, length = [], 0
        for token in tokens:
            offsets.append(max(0, length - (0x80 <= token[0] < 0xC0)))
            length += sum(not 0x80 <= byte < 0xC0 for byte in token)
        return text, offsets

    def settled(self, ids: Iterable[int]) -> str:
        """Return the beginning of `decode(ids)` that stays, whatever ids follow.

        What is left out is a character whose bytes are not all there yet.
        """
        return whole_part(self.decode_bytes(ids))

    # About the vocabulary

    @property
    def n_vocab(self) -> int:
        """One more than the largest token id: `vocab_size`, by tiktoken's name."""
        return self.vocab_size

    @property
    def max_token_value(self) -> int:
        """The largest token id."""
        return self.vocab_size - 1

    @property
    def special_tokens_set(self) -> set[str]:
        """The special tokens, by tiktoken's name."""
        return set(self.special_tokens)

    def is_special_token(self, token: int) -> bool:
        """Return whether an id is that of a special token."""
        return token in self.special_tokens.values()

    def token_byte_values(self) -> list[bytes]:
        """Return the bytes of all tokens that are not special, sorted."""
        missing = {*self.missing_ids(), *self.special_tokens.values()}
        ordinary = (i for i in range(self.vocab_size) if i not in missing)
        return sorted(map(self.decode_single_token_bytes, ordinary))

    def missing_ids(self, size: int | None = None) -> list[int]:
        """Return the ids below `size`, by default below `vocab_size`, that no token has.

        A model may have more logits than its tokenizer has tokens: these must never be drawn.
        """
        return [i for i in range(self.vocab_size if size is None else size) if not self.has(i)]

    def has(self, number: int) -> bool:
        """Return whether a token has this id."""
        return 0 <= number < self.vocab_size


def settled(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the beginning of the text of ids that stays, whatever ids follow.

    Our tokenizers know it. Of others we look at the bytes, if they show them, or at U+FFFD.
    """
    if hasattr(tokenizer, "settled"):
        return tokenizer.settled(ids)
    if hasattr(tokenizer, "decode_bytes"):
        return whole_part(tokenizer.decode_bytes(ids))
    return tokenizer.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
