"""Messages for bad input: what was given, what is allowed, what to do.

Written by hand. Checks stand at the doors (constructors of configurations, readers of files, the
public entry of a loop, the command line), so that the code behind them carries nothing but ideas.
Each function returns nothing, or the checked value, and raises TypeError or ValueError.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

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


def known_fields(cls: type, given: Iterable[str]) -> None:
    """Raise TypeError, naming the nearest field, for a keyword that a dataclass does not have."""
    names = [field.name for field in fields(cls)]
    for name in given:
        if name not in names:
            raise TypeError(f"{cls.__name__} has no field {name!r}: {suggest(name, names)}")


def found(value: T | None, message: str) -> T:
    """Return what a search gave. Raises ValueError with the message if that is None."""
    if value is None:
        raise ValueError(message)
    return value


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


# --- checkpoints: tables (sstable), bundles of tensors (tensor_bundle), and models (gpt2)


def enough_bytes(available: int, size: int, at: int) -> None:
    """Raise ValueError if fewer than `size` bytes follow a place in a file."""
    if size > available:
        raise ValueError(f"it is cut off: {size:,} bytes should follow byte {at:,}")


def varint(value: int, last: int, shift: int) -> int:
    """Return a varint whose last byte was shifted by `shift`; ValueError unless it is well-formed.

    It has to end within ten bytes, fit 64 bits, and have no byte of zeros to spare.
    """
    if last >= 0x80 or value >> 64 or (shift and not last):
        raise ValueError("a number in it is malformed")
    return value


def table_footer(data: bytes, size: int, magic: bytes) -> bytes:
    """Return the last bytes of a table. Raises ValueError unless they end with its magic number."""
    if len(data) < size or not data.endswith(magic):
        raise ValueError(f"it does not end like an index{looks_like(data)}")
    return data[-size:]


def block_end(end: int, n_restarts: int) -> None:
    """Raise ValueError unless a block has restarts, and a place where its entries end."""
    if end < 0 or n_restarts == 0:
        raise ValueError("a block in it has no proper end")


def table_block(offset: int, is_sound: bool, compression: int) -> None:
    """Raise ValueError for a block whose crc differs, or that is compressed."""
    if not is_sound:
        raise ValueError(f"it is damaged: the crc of the block at byte {offset:,} does not match")
    if compression:
        raise ValueError("it is compressed, which is not supported")


def table_layout(blocks: Iterable[tuple[int, int]], end: int, padding: bytes) -> None:
    """Raise ValueError unless blocks (offset, size) fill a table up to its footer.

    Five bytes follow each block. With this, every byte of the file belongs to a block with a crc,
    or to the footer, whose handles lead to these blocks, and whose padding is zero.
    """
    at = 0
    for offset, size in blocks:
        if offset != at:
            raise ValueError(f"a block should lie at byte {at:,}, and not at {offset:,}")
        at += size + 5
    if at != end or any(padding):
        raise ValueError("its footer is damaged")


def ordered_keys(
    entries: Iterable[tuple[bytes, bytes]], capacity: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield entries; ValueError at a key out of order, or if all keys exceed `capacity` bytes.

    Keys that share their beginnings can be many gigabytes long in a file of a few kilobytes.
    """
    last = None
    for key, value in entries:
        capacity -= len(key)
        if capacity < 0 or (last is not None and key <= last):
            raise ValueError("its keys are not in order, or too long")
        yield key, value
        last = key


def message_field(number: int, values: list, kind: type, most: int | None = 1) -> list:
    """Return the values of a protobuf field. Raises ValueError for too many, or another kind."""
    if (most is not None and len(values) > most) or not all(isinstance(v, kind) for v in values):
        raise ValueError(f"its field {number} is malformed")
    return values


def bundle_files(prefix: Path, index: Path, most: int) -> None:
    """Raise ValueError if a path is not the prefix of a checkpoint, or its index is too large."""
    if not index.exists() and prefix.is_dir():
        raise ValueError(f"it is missing: give a prefix, such as {prefix}/model.ckpt")
    if not index.exists() and prefix.is_file():
        raise ValueError(f"it is missing: {prefix.name} is a V1 checkpoint, or not a prefix")
    if index.stat().st_size > most:
        raise ValueError("it is far too large for an index")


def bundle_header(n_shards: int, endianness: int, version: int) -> None:
    """Raise ValueError for a checkpoint that is big-endian, of a later version, or without data."""
    if not 0 < n_shards < 10**5 or endianness or version > 1:
        raise ValueError(f"{n_shards} shards, endianness {endianness}, version {version}")


def known_shape(unknown_rank: int) -> None:
    """Raise ValueError for an entry of a checkpoint that leaves its shape open."""
    if unknown_rank:
        raise ValueError("its shape is unknown")


def shard(number: int, n_shards: int) -> None:
    """Raise ValueError for a shard that a checkpoint does not have."""
    if number >= n_shards:
        raise ValueError(f"it should lie in shard {number} of {n_shards}")


def tensor_place(entry: Any, file: Any) -> None:
    """Raise ValueError if an entry of a checkpoint contradicts itself, or the bytes of its file."""
    end = entry.offset + entry.size
    if end > len(file):
        other = looks_like(bytes(file[:64]))
        raise ValueError(f"it ends at byte {end:,}, but the file at byte {len(file):,}{other}")
    # Numbers from a file: multiplied as Python's integers, which do not overflow. NumPy's arrays
    # have at most 64 dimensions.
    if len(entry.shape) > 64 or prod(n or 1 for n in entry.shape) >= 2**48:
        raise ValueError(f"its shape {entry.shape} is absurd")
    if entry.stored is not None and entry.size != prod(entry.shape) * entry.stored.itemsize:
        raise ValueError(f"{entry.dtype} of shape {entry.shape} is not {entry.size:,} bytes")


def known_tensor(entries: Mapping[str, Any], name: str, file: Path) -> Any:
    """Return the entry of a tensor. Raises MissingTensor for a name that a checkpoint lacks."""
    if name not in entries:
        raise MissingTensor(file, f"it is not among the {len(entries)} tensors", name)
    return entries[name]


def supported_dtype(entry: Any) -> None:
    """Raise ValueError for an entry of a type that NumPy does not know."""
    if entry.stored is None:
        raise ValueError(f"tensors of type {entry.dtype} are not supported")


def tensor_crc(is_sound: bool) -> None:
    """Raise ValueError unless the crc of a tensor is the one that the index has."""
    if not is_sound:
        raise ValueError("it is damaged: its crc does not match")


def tensor_names(names: Iterable[object]) -> list[str]:
    """Return names in the order of their bytes. Raises ValueError for one that cannot be stored."""
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name[:1] in ("", "\0"):
            raise ValueError(f"a tensor cannot be called {name!r}: give a string that is not empty")
    return sorted(names, key=str.encode)


def tensor_dtype(name: str, dtype: Any, allowed: Collection[str]) -> None:
    """Raise TypeError for an array that a checkpoint cannot hold."""
    if dtype.name not in allowed:
        raise TypeError(f"tensor {name!r} is of type {dtype}: give one of {', '.join(allowed)}")


def model_settings(
    content: Mapping[str, Any], required: Iterable[str], fixed: Mapping[str, Any]
) -> None:
    """Raise ValueError for settings that lack a field, or differ from what every GPT-2 has."""
    if missing := [name for name in required if name not in content]:
        raise ValueError(f"it does not say {missing[0]}")
    for name, value in fixed.items():
        if content.get(name, value) != value:
            raise ValueError(f"{name} is {content[name]!r}: a GPT-2 has {value!r}")


def stored_shape(
    file: Path, name: str, found: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    """Raise FileError unless a file has a tensor, and with the shape that the model has."""
    if found != expected:
        has = "is not there" if found is None else f"has the shape {found}"
        raise FileError(file, f"it {has}, where the model has {expected}", name)


def block_count(file: Path, found: int, expected: int) -> None:
    """Raise FileError unless a file has as many transformer blocks as its configuration says."""
    if found != expected:
        raise FileError(file, f"it has {found} blocks, where the model has {expected}")


def savable(model: Any, kind: type, n_tokens: int, needs_tied_head: bool = False) -> None:
    """Raise TypeError or ValueError for a model that the files of a GPT-2 cannot hold."""
    if not isinstance(model, kind):
        raise TypeError(f"only a GPT can be saved as a GPT-2, not a {type(model).__name__}")
    if n_tokens > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {n_tokens:,} tokens, the model knows only "
            f"{model.config.vocab_size:,}: give the tokenizer it was trained with"
        )
    if needs_tied_head and not model.config.tie_weights:
        raise ValueError("OpenAI's files have no place for a separate head: use save_pretrained")
