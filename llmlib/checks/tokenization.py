"""Vocabularies, special tokens, pieces, ids."""

import codecs
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any

import numpy as np
import regex

from llmlib.checks.values import known_name, require, shown


def text(value: object, role: str) -> None:
    """Raise TypeError unless a value is a string, with what needs one in words."""
    if not isinstance(value, str):
        raise TypeError(f"{role}, not {type(value).__name__}")


def no_special_tokens(value: str, refused: Iterable[str]) -> None:
    """Raise TypeError unless a value is a text, and ValueError if it holds a special token."""
    text(value, "encode takes a string")
    for token in sorted(refused):
        if token in value:
            raise ValueError(
                f"the text contains the special token {token!r}: pass allowed_special="
                f"{{{token!r}}} to encode it as such, or disallowed_special=() as plain text"
            )


def vocabulary(tokens: Sequence[str], reserved: Collection[str]) -> None:
    """Raise TypeError or ValueError unless tokens are different strings, and none is reserved."""
    if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in tokens):
        raise TypeError("tokens must be a list of strings that are not empty")
    repeated = [token for token, count in Counter(tokens).items() if count > 1]
    if repeated:
        raise ValueError(f"each token may occur once, but {repeated[0]!r} occurs more often")
    if added := set(reserved) & set(tokens):
        raise ValueError(f"{min(added)!r} is added by the tokenizer itself: leave it out")


def piece_scores(pieces: object) -> None:
    """Raise TypeError unless pieces are a table of finite floats."""
    scores = pieces.values() if isinstance(pieces, Mapping) else ()
    if not scores or not all(isinstance(x, float) and np.isfinite(x) for x in scores):
        raise TypeError("pieces must be a table piece -> log-probability (a finite float)")


def short_words(found: Collection[str], usable: Collection[str], longest: int) -> None:
    """Raise ValueError for a text in which every word is too long to learn from."""
    require(
        usable or not found,
        f"there is nothing to learn from: every word is longer than {longest} characters",
    )


def spelled_words(usable: Collection[str], max_characters: int) -> None:
    """Raise ValueError if every word has a character that is too rare to be a piece."""
    require(
        usable,
        f"there is nothing to learn from: every word has a character that is not among the "
        f"{max_characters} most frequent: give a larger max_characters",
    )


def learnable(counts: Mapping[str, int], size: int | None, least: int, needed: str) -> None:
    """Raise ValueError for a text without pieces, and for fewer ids than `needed` takes."""
    require(counts, "a vocabulary cannot be made from an empty text, or one without words")
    if size is not None and index(size) < least:
        raise ValueError(f"vocab_size {size} is too small for {needed}: give at least {least}")


def known_ids(ids: Any, vocab_size: int) -> list[int]:
    """Return ids as ints. Raises ValueError for an id outside 0 … vocab_size - 1."""
    numbers = whole_ids(ids, vocab_size)
    for i in numbers:
        if not 0 <= i < vocab_size:
            raise unknown_id(i, vocab_size)
    return numbers


def whole_ids(ids: Any, vocab_size: int) -> list[int]:
    """Return the ids in a sequence, an array or a tensor as ints.

    Raises ValueError for one that is not a whole number: 1.0 and True are none.
    """
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"token ids come as a list, an array or a tensor, not {described(ids)}")
    numbers = list(values)
    if set(map(type, numbers)) <= {int}:
        return numbers
    return [whole_id(i, vocab_size) for i in numbers]


def whole_id(i: Any, vocab_size: int) -> int:
    """Return one id as an int. Raises ValueError for anything but a whole number."""
    value = i.tolist() if hasattr(i, "tolist") else i  # a scalar of numpy or torch
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise unknown_id(i, vocab_size)
    return index(value)


def described(value: object) -> str:
    """Return a value as its type, and at most 100 characters of it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no int of more than 4,300 digits
        text = "a huge number"
    return f"{type(value).__name__} {text if len(text) <= 100 else text[:97] + '...'}"


def unknown_id(i: object, vocab_size: int) -> ValueError:
    """Return the error for an id that no token has."""
    shown = described(i).removeprefix("int ")
    return ValueError(f"token id {shown} is not in the vocabulary: ids are 0 to {vocab_size - 1}")


@contextmanager
def unknown_ids(vocab_size: int) -> Iterator[None]:
    """Turn the failed lookup of a token id into a ValueError that names it."""
    try:
        yield
    except KeyError as error:
        raise unknown_id(*error.args[:1], vocab_size) from None


def error_handler(name: str) -> None:
    """Raise ValueError unless Python knows what to do with bad bytes by this name."""
    try:
        codecs.lookup_error(name)
    except (LookupError, TypeError, ValueError):
        raise ValueError(
            f"errors is {described(name)}: give replace, strict, ignore or another of bytes.decode"
        ) from None


def decoded(data: bytes, errors: str) -> str:
    """Return bytes as text. Raises ValueError for an unknown way to handle errors.

    With "strict", bytes that are not UTF-8 raise UnicodeDecodeError, a ValueError, as in tiktoken.
    """
    error_handler(errors)
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        reason = (
            f"the ids give {error.object[error.start : error.end]!r} at byte {error.start}, which "
            "is not UTF-8: pass errors='replace' to get U+FFFD in its place"
        )
        raise UnicodeDecodeError("utf-8", data, error.start, error.end, reason) from None


def spelled(same: bool) -> None:
    """Raise ValueError if the places of tokens in a text are not known."""
    require(
        same,
        "this tokenizer changes a text before it cuts it, so that its tokens have no places in it: "
        "use encode, or encode_with_offsets of the package tokenizers",
    )


def not_one_text(words: object) -> None:
    """Raise TypeError for a single string where several are meant."""
    if isinstance(words, (str, bytes)):
        raise TypeError(f"words is {described(words)}: give a list of strings")


def names_or_all(*names: object) -> None:
    """Raise TypeError for a string other than "all" in place of a collection of strings."""
    for value in names:
        if isinstance(value, str) and value != "all":
            raise TypeError(f'special tokens are {value!r}: give a set of them, or "all"')


def split_pattern(pattern: str, names: Mapping[str, str]) -> Any:
    """Return the compiled regular expression of a name, or of its source; ValueError for others.

    With groups, `findall` would return those and drop the rest of the text.
    """
    known = f"give one of {', '.join(names)}, or a regular expression"
    require(isinstance(pattern, str), f"pattern is {shown(pattern)}: {known}")
    # a word, which would match nothing but itself
    if not pattern or ((word := pattern.strip()) and not set(word) & set("\\[](){}|.*+?^$ ")):
        known_name("pattern", pattern, names)
    require(
        len(pattern) <= LONGEST_PATTERN, f"a pattern of {len(pattern):,} characters is too long"
    )
    try:
        compiled = regex.compile(names.get(pattern, pattern))
    except Exception as error:  # the regex package has an exception class of its own
        raise ValueError(
            f"pattern is {shown(pattern)}, which is not a regular expression ({error}): {known}"
        ) from None
    groups = f"pattern {shown(pattern)} has groups: write (?:...) in place of (...)"
    require(not compiled.groups, groups)
    return compiled


LONGEST_PATTERN = 5000  # characters


# A repeated group, or three repetitions in a row, may match one text in very many ways. To look at
# the clock costs as much time as to match, so the others go without.
PLAIN = regex.compile(r"\\.|\[(?:\\.|[^\]\\])*\]")  # what is escaped, and sets
SLOW = regex.compile(r"\)[?+]?(?:[*+]|\{)|(?:[^|]*?(?:[*+]|,\})(?![?+])){3}")


def time_for(pattern: str, text: str) -> float | None:
    """Return the seconds that a regular expression may take for a text; None: it is quick."""
    bare = PLAIN.sub("x", pattern)
    return 2 + len(text) / 50_000 if SLOW.search(bare) else None


@contextmanager
def in_time() -> Iterator[None]:
    """Turn a regular expression that has no end into a ValueError."""
    try:
        yield
    except TimeoutError:
        raise ValueError(
            "the pattern that splits a text takes time without end on this text: it tries too many "
            "ways to match, as (a|aa)+ does; write it so that each text has one way"
        ) from None


def special_tokens(tokens: object, numbered: Sequence[tuple[str, int]]) -> None:
    """Raise TypeError or ValueError unless tokens are different texts, each with an id from 0."""
    if isinstance(tokens, str):
        raise TypeError(f"special_tokens is {tokens!r}: give a list of strings")
    for token, i in numbered:
        if not isinstance(token, str) or not token or isinstance(i, bool) or index(i) < 0:
            raise ValueError(f"special token {token!r} with id {i!r}: give a text and an id from 0")
    require(len(dict(numbered)) == len(numbered), "a special token is named twice")


def bpe_vocabulary(ids: Mapping[bytes, int], merges: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ValueError unless the bytes of text, and parts and results of merges, have ids."""
    missing = missing_bytes({token[0] for token in ids if len(token) == 1})
    require(
        not missing, f"the byte {(missing or [0])[0]:#04x} has no id: all of UTF-8 must have one"
    )
    for rank, (first, second) in enumerate(merges):
        if first not in ids or second not in ids or first + second not in ids:
            raise ValueError(f"merge {rank} of {first!r} and {second!r} is of unknown tokens")


def missing_bytes(found: Collection[int]) -> list[int]:
    """Return the bytes without a token, among those that UTF-8 text can hold."""
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    return [byte for byte in range(256) if byte not in found and byte not in never]


def different_ids(ids: Mapping[bytes, int], added: Mapping[str, int]) -> None:
    """Raise ValueError if two tokens have the same id; one may be an added token, too."""
    owner = {i: token for token, i in ids.items()}
    require(len(owner) == len(ids), "two tokens have the same id")
    require(len(set(added.values())) == len(added), "two special tokens have the same id")
    for content, i in added.items():
        other = owner.get(i, content.encode())
        require(
            other == content.encode(), f"two tokens have the same id {i}: {content!r} and {other!r}"
        )


def only_special(more: object) -> None:
    """Raise ValueError for a tokenizer with added tokens, or a space, of which tiktoken is free."""
    require(
        not more,
        "it adds a space, or has added tokens that are more than special: BPETokenizer reads it",
    )
