"""Messages for bad input: what was given, what is allowed, what to do.

Written by hand. Checks stand at the doors (constructors of configurations, readers of files, the
public entry of a loop, the command line), so that the code behind them carries nothing but ideas.
Each function returns nothing, or the checked value, and raises TypeError or ValueError.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch

# --- values


def whole_number(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless a value is an int (not a bool) from `least` to `most`."""
    fits = type(value) is int and value >= least and (most is None or value <= most)
    if not fits:
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}: it must be an int {allowed}")


def number(name: str, value: object, fits: Callable[[float], bool], allowed: str) -> None:
    """Raise ValueError unless a value is an int or float that fits, with `allowed` in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ValueError(f"{name} is {value!r}: it must be a number {allowed}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it must be True or False")


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless a value is among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(str, allowed))}")


def known_fields(cls: type[Any], given: Iterable[str]) -> None:
    """Raise TypeError, naming the nearest field, for a keyword that a dataclass does not have."""
    names = [field.name for field in fields(cls)]
    for name in given:
        if name not in names:
            raise TypeError(f"{cls.__name__} has no field {name!r}: {suggest(name, names)}")


def suggest(name: str, allowed: Collection[str]) -> str:
    """Return words that help with a misspelt name: the nearest allowed one, and all of them."""
    close = get_close_matches(str(name), allowed, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(allowed)}"


# --- tensors


def token_ids(ids: object) -> None:
    """Raise TypeError or ValueError unless ids are a tensor of ints (B, T) with at least one."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"ids are a {type(ids).__name__}: give a tensor, torch.tensor([ids])")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids hold {ids.dtype}: token ids are torch.int64 (or int32)")
    if ids.ndim != 2:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}, expected (batch, tokens); "
            "a single sequence is a batch of one: ids.unsqueeze(0)"
        )
    if ids.numel() == 0:
        raise ValueError(f"ids of shape {tuple(ids.shape)} hold no token: give at least one")


# --- files


class FileError(ValueError):
    """A file is damaged, missing or of another kind, or a tensor in it cannot be read.

    file, reason, and tensor: None if the file as a whole is meant.
    """

    def __init__(self, file: str | Path, reason: str, tensor: str | None = None):
        super().__init__(file, reason, tensor)  # all three, so that a copy can be pickled
        self.file, self.reason, self.tensor = Path(file), reason, tensor

    def __str__(self) -> str:
        tensor = "" if self.tensor is None else f"tensor {self.tensor!r}: "
        return f"{self.file}: {tensor}{self.reason}"


class MissingTensor(FileError, KeyError):
    """A checkpoint has no tensor of that name."""


@contextmanager
def blame(file: Path, tensor: str | None = None) -> Iterator[None]:
    """Turn a ValueError or OSError of the block into a FileError that names file and tensor."""
    try:
        yield
    except FileError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(file, reason, tensor) from error


def looks_like(start: bytes) -> str:
    """Return a sentence about what a file is instead, by how it begins, or an empty string."""
    if start.startswith(b"version https://git-lfs"):
        return ". It is a Git LFS pointer: fetch the file that it stands for"
    if start.lstrip().startswith(b"<"):
        return ". It is a page that a server sent in its place: download the file again"
    return ""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises FileError, saying what is there instead."""
    with blame(path):
        data = path.read_bytes()
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"it is not JSON{looks_like(data)}") from None
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object: it should begin with {")
        return content


# --- tokenization


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


def learnable(
    counts: Mapping[str, int],
    vocab_size: int | None,
    least: int,
    needed: str,
    parameter: str | None = None,
) -> None:
    """Raise ValueError for a text without pieces, and for too few ids.

    needed: what takes `least` ids, in words; parameter: what else can be made smaller.
    """
    if not counts:
        raise ValueError("a vocabulary cannot be made from an empty text")
    if vocab_size is not None and index(vocab_size) < least:
        hint = f", or a smaller {parameter}" if parameter else ""
        raise ValueError(
            f"vocab_size {vocab_size} is too small for {needed}: give at least {least}{hint}"
        )


def known_ids(ids: Iterable[int], vocab_size: int) -> None:
    """Raise ValueError for an id outside 0 … vocab_size - 1."""
    for i in ids:
        if not 0 <= i < vocab_size:
            raise unknown_id(i, vocab_size)


def unknown_id(i: object, vocab_size: int) -> ValueError:
    """Return the error for an id that no token has."""
    return ValueError(f"token id {i!r} is not in the vocabulary: ids are 0 to {vocab_size - 1}")


@contextmanager
def unknown_ids(vocab_size: int) -> Iterator[None]:
    """Turn the failed lookup of a token id into a ValueError that names it."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise unknown_id(*error.args[:1], vocab_size) from None


@contextmanager
def whole_characters() -> Iterator[None]:
    """Turn the error of UTF-8 for a lone surrogate into a ValueError that says what to do."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds the lone surrogate {error.object[error.start]!r}, half a character: "
            "repair it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from error


@contextmanager
def valid_utf8() -> Iterator[None]:
    """Turn the failed decoding of bytes into a ValueError that shows them."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the ids give {error.object[error.start : error.end]!r} at byte {error.start}, which "
            "is not UTF-8: pass errors='replace' to get U+FFFD in its place"
        ) from None


@contextmanager
def split_pattern(pattern: object, names: Collection[str]) -> Iterator[None]:
    """Turn the failed compilation of a regular expression into a ValueError."""
    try:
        yield
    except Exception as error:  # the regex package has an exception class of its own
        raise ValueError(
            f"pattern is {pattern!r}, which is neither one of {', '.join(names)} nor a regular "
            f"expression: {error}"
        ) from None


def no_groups(pattern: str, n_groups: int) -> None:
    """Raise ValueError for a pattern whose groups would hide parts of the text."""
    if n_groups:
        raise ValueError(f"pattern {pattern!r} has groups: write (?:...) in place of (...)")


def nothing_skipped(pieces: list[str], text: str, pattern: str) -> None:
    """Raise ValueError unless pieces make up a text."""
    if sum(map(len, pieces)) != len(text):
        raise ValueError(
            rf"the pattern {pattern!r} skips a part of the text: add |\s+|\S at its end"
        )


def special_token_names(tokens: object) -> None:
    """Raise TypeError for a single string in place of a list of special tokens."""
    if isinstance(tokens, str):
        raise TypeError(f"special_tokens is {tokens!r}: give a list of strings")


def special_tokens(numbered: Sequence[tuple[str, int]]) -> None:
    """Raise ValueError unless special tokens are different texts, each with an id from 0."""
    for token, i in numbered:
        if not isinstance(token, str) or not token or isinstance(i, bool) or index(i) < 0:
            raise ValueError(f"special token {token!r} with id {i!r}: give a text and an id from 0")
    if len(dict(numbered)) < len(numbered):
        raise ValueError("a special token is named twice")


def bpe_vocabulary(ids: Mapping[bytes, int], merges: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ValueError unless all bytes, and all parts and results of merges, have ids."""
    for byte in range(256):
        if bytes([byte]) not in ids:
            raise ValueError(f"the byte {byte:#04x} has no id: all 256 must have one")
    for rank, (first, second) in enumerate(merges):
        if first not in ids or second not in ids or first + second not in ids:
            raise ValueError(f"merge {rank} of {first!r} and {second!r} is of unknown tokens")


def different_ids(n_ids: int, n_tokens: int) -> None:
    """Raise ValueError if there are fewer ids than tokens."""
    if n_ids < n_tokens:
        raise ValueError("two tokens have the same id")


# --- tokenizer files


@contextmanager
def tokenizer_file(path: str | Path, kind: str) -> Iterator[None]:
    """Turn any failure to read a file into a FileError, with what it should be in words.

    Errors of the system pass: a missing file stays a FileNotFoundError.
    """
    try:
        yield
    except FileError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f": {error}" if type(error) in (ValueError, TypeError) else ""
        start = Path(path).read_bytes()[:64] if Path(path).is_file() else b""
        raise FileError(path, f"it is not {kind}{reason}{looks_like(start)}") from error


def same_kind(found: object, expected: str) -> None:
    """Raise ValueError if a file holds a tokenizer of another class."""
    if found != expected:
        raise ValueError(f"it holds a {found}: load it with {found}.load")


def known_format(path: Path, formats: Collection[str], pattern: str) -> None:
    """Raise ValueError for a file name whose ending names no format, or one without the pattern."""
    if path.suffix not in formats:
        raise ValueError(f"{path}: give a name that ends in .json or .tiktoken, or a folder")
    if path.suffix == "":
        gpt2_pattern(pattern)


def gpt2_vocabulary(path: Path, found: str, expected: str) -> None:
    """Raise ValueError for a vocab.bpe whose SHA-256 is not that of OpenAI's file."""
    if found != expected:
        raise ValueError(
            f"{path} is not GPT-2's vocabulary: restore it with `git checkout gpt2/vocab.bpe`"
        )


def gpt2_pattern(pattern: str) -> None:
    """Raise ValueError for a tokenizer that GPT-2's two files cannot describe."""
    if pattern != "gpt2":
        raise ValueError(
            "GPT-2's files cannot say how a text is split, and readers assume GPT-2's pattern: "
            "save this tokenizer as a tokenizer.json"
        )


def plain_special_token(token: str, number: int, written: int) -> None:
    """Raise ValueError if a special token is written like an ordinary one with another id."""
    if written != number:
        raise ValueError(f"the special token {token!r} looks like an ordinary one in this file")


def same_merges(found: list, given: list) -> None:
    """Raise ValueError if the order of the merges does not follow from the ids."""
    if found != given:
        raise ValueError(
            "tiktoken takes ids for the order of the merges, and here these differ: save this "
            "tokenizer as a tokenizer.json"
        )


def byte_tokenizer(tokenizer: object) -> None:
    """Raise TypeError for a tokenizer that is not a byte-level BPE of ours."""
    if not hasattr(tokenizer, "vocabulary"):
        raise TypeError(
            f"a {type(tokenizer).__name__} does not fit GPT-2's files: give a BPETokenizer or a "
            "TiktokenTokenizer(encoding)"
        )


def known_class(path: Path, name: object, allowed: Iterable[str | None]) -> None:
    """Raise FileError unless the class of tokenizers in a file is among the allowed ones."""
    if name not in (names := list(allowed)):
        raise FileError(path, f"it holds a {name}: there are {', '.join(filter(None, names))}")


def ends_documents(special: Collection[str], source: object) -> None:
    """Raise ValueError for a tokenizer without `<|endoftext|>`."""
    if "<|endoftext|>" not in special:
        raise ValueError(
            f"{source} has no <|endoftext|>, which has to stand between documents: learn a "
            "tokenizer with `llmlib tokenizer`"
        )


def tokenizer_place(path: Path, found: Sequence[Path]) -> Path:
    """Return the first file found in a folder, or a path that is a file.

    Raises FileNotFoundError if there is neither.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: give the path of a tokenizer")
    if path.is_dir() and not found:
        raise FileNotFoundError(
            f"{path} holds no vocabulary: that takes tokenizer.json, vocab.bpe with encoder.json, "
            "or merges.txt with vocab.json"
        )
    return found[0] if found else path


def merge_order(
    found: Mapping[bytes, int],
    expected: Mapping[bytes, int],
    special: Mapping[str, int],
    merges: str,
) -> None:
    """Raise ValueError unless ids are in order: 256 bytes, merged pairs, special tokens.

    Of the special ones, `<|endoftext|>` is the first.
    """
    for token, number in expected.items():
        if found.get(token) != number:
            name, given = token.decode(errors="replace"), found.get(token)
            raise ValueError(f"the id of {name!r} is {given}, by {merges} it is {number}")
    if len(found) > len(expected):
        raise ValueError(f"{len(found) - len(expected)} tokens come from no merge in {merges}")
    places = [*range(len(found), len(found) + len(special))]
    if special and [*special.items()] != [*zip(["<|endoftext|>", *[*special][1:]], places)]:
        raise ValueError(
            f"after {len(found):,} tokens from {merges} the special ones should follow, "
            f"<|endoftext|> first, and not {[*special][:3]}"
        )


def known_parts(merges: Iterable[Sequence[str]], known: Collection[str]) -> None:
    """Raise ValueError unless each merge has two parts, which are bytes or merged themselves."""
    for rank, parts in enumerate(merges):
        if len(parts) != 2 or parts[0] not in known or parts[1] not in known:
            line = " ".join(parts)
            raise ValueError(f"merge {rank} is {line!r}: merges join two tokens that are known")


def mergeable(rank: int, limit: int, token: bytes) -> None:
    """Raise ValueError for a token that is not made of two earlier ones."""
    if rank >= limit:
        raise ValueError(f"no merges of earlier tokens lead to the token {token!r}")


def byte_level_bpe(content: Mapping[str, Any], splits: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for a tokenizer.json that asks for more than a byte-level BPE."""
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"it holds a {model['type']} tokenizer, not a BPE")
    extras = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    used = [name for name in (*extras, "byte_fallback") if model.get(name)]
    if content.get("normalizer") or used:
        raise ValueError(f"it uses {(used or ['a normalizer'])[0]}, which is not supported")
    kinds = [split["type"] for split in splits]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]) or splits[-1]["add_prefix_space"]:
        raise ValueError(f"it splits a text by {' and '.join(kinds)}, which is not supported")
    if (kinds == ["ByteLevel"]) != splits[-1].get("use_regex", True):
        raise ValueError("it splits a text by other rules than one regular expression")
    if len(splits) == 2 and (splits[0]["behavior"], splits[0]["invert"]) != ("Isolated", False):
        raise ValueError(f"it splits a text with the behaviour {splits[0]['behavior']}")


# --- data


def token_array(array: np.ndarray) -> np.ndarray:
    """Return an array. Raises ValueError or TypeError unless it is one sequence of ids from 0."""
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"token ids must be one sequence of at least one id, not of shape {array.shape}"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, not {array.dtype}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise ValueError(f"token ids start at 0, but {array.min()} is among them")
    return array


def npy_file(path: str | Path) -> None:
    """Raise ValueError for a path that does not name a .npy file."""
    if Path(path).suffix != ".npy":
        raise ValueError(f"{str(path)!r} is neither token ids nor a .npy file: encode a text first")


def window_fits(n_tokens: int, max_length: int, stride: int) -> None:
    """Raise ValueError for sizes below 1, and for a text shorter than a window and its target."""
    whole_number("max_length", max_length)
    whole_number("stride", stride)
    if n_tokens < max_length + 1:
        raise ValueError(
            f"a window of {max_length} inputs and one more target needs {max_length + 1} "
            f"tokens, but there are {n_tokens}: take a longer text or a smaller max_length"
        )


def window_batches(n_windows: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if windows do not fill a single batch."""
    whole_number("batch_size", batch_size)
    if drop_last and n_windows < batch_size:
        raise ValueError(
            f"{n_windows} windows do not fill one batch of {batch_size}: "
            "take a longer text, a smaller batch_size or stride, or drop_last=False"
        )


def divisible(documents: Sequence[str], val_fraction: float) -> None:
    """Raise TypeError or ValueError unless there are two different documents to divide."""
    if isinstance(documents, str):
        raise TypeError(
            "split takes a list of documents; divide one long text with text.split('\\n\\n')"
        )
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must lie between 0 and 1, not at {val_fraction}")
    if (n_distinct := len(set(documents))) < 2:
        raise ValueError(
            f"{n_distinct} different documents cannot be divided: give at least two, "
            "for example the paragraphs of a text, text.split('\\n\\n')"
        )


def download(
    urls: Sequence[object],
    sha256: str | None,
    size: int | None,
    timeout: float,
    tries: int,
    pause: float,
) -> None:
    """Raise TypeError or ValueError for arguments of `fetch` that make no sense."""
    if not urls:
        raise ValueError("no address to download from: give at least one URL")
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"a URL is a string, not {url!r}")
        if not re.match(r"https?://[^/]", url, re.IGNORECASE):
            raise ValueError(f"{url!r} is not an address: it has to begin with https:// or http://")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 is {sha256!r}: it must be 64 hexadecimal digits")
    if size is not None:
        whole_number("size", size, least=0)
    whole_number("tries", tries)
    number("timeout", timeout, lambda x: x >= 0.001, "of at least 0.001 seconds")
    number("pause", pause, lambda x: x >= 0, "of at least 0 seconds")


def corpus(name: object, known: Collection[str]) -> None:
    """Raise TypeError or ValueError for a name that is neither a corpus nor a file."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a corpus is a name or a path, not {name!r}")
    is_path = Path(name).exists() or not re.fullmatch(r"[\w -]*", str(name))
    if name == "" or not (name in known or is_path):
        near = get_close_matches(str(name).lower(), known, n=1)
        raise ValueError(
            f"no corpus {str(name)!r}{f', did you mean {near[0]!r}' if near else ''}: "
            f"there are {', '.join(known)}, and the path of any text file works too"
        )


def text_path(path: Path) -> None:
    """Raise IsADirectoryError for a folder, and FileNotFoundError for a missing file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of one text file")
    if not path.exists():
        raise FileNotFoundError(
            f"no file {path}: check the path, which starts from {Path.cwd()}; a file that ships "
            "with the course comes back with git checkout"
        )


@contextmanager
def utf8_file(path: Path) -> Iterator[None]:
    """Turn the failed decoding of a file into a ValueError that says what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}. Save "
            'it as UTF-8 in an editor, or read it with path.read_text(encoding="...") if you know '
            "its encoding (latin-1, cp1252 and utf-16 are common) and write it back"
        ) from None


def text_content(path: Path, text: str) -> None:
    """Raise ValueError for a text with zeros in it, or with nothing but white space."""
    if "\0" in text:
        raise ValueError(f"{path} is not text: character {text.index(chr(0)):,} is a zero")
    if not text.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from")
