"""Published weights: tables, bundles of tensors, models."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError, MissingTensor, looks_like


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


def message_field(number: int, values: list, kind: type) -> Any:
    """Return the one value of a protobuf field. Raises ValueError for several, or another kind."""
    if len(values) != 1 or not isinstance(values[0], kind):
        raise ValueError(f"its field {number} is malformed")
    return values[0]


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


def dimensions(messages: list, unknown_rank: int) -> list[bytes]:
    """Return the messages of a shape's dimensions. Raises ValueError if it is open or malformed."""
    if unknown_rank:
        raise ValueError("its shape is unknown")
    if not all(isinstance(message, bytes) for message in messages):
        raise ValueError("its shape is malformed")
    return messages


def tensor_place(entry: Any, file: Any) -> None:
    """Raise ValueError if an entry of a checkpoint contradicts itself, or the bytes of its file."""
    end = entry.offset + entry.size
    if end > len(file):
        other = looks_like(bytes(file[:64]))
        raise ValueError(f"it ends at byte {end:,}, but the file at byte {len(file):,}{other}")
    # Numbers from a file: multiplied as Python's integers, which do not overflow. NumPy's arrays
    # have at most 64 dimensions.
    if len(entry.shape) > 64 or math.prod(n or 1 for n in entry.shape) >= 2**48:
        raise ValueError(f"its shape {entry.shape} is absurd")
    if entry.stored is not None and entry.size != math.prod(entry.shape) * entry.stored.itemsize:
        raise ValueError(f"{entry.dtype} of shape {entry.shape} is not {entry.size:,} bytes")


def known_tensor(entries: Mapping[str, Any], name: str, file: Path) -> Any:
    """Return the entry of a tensor. Raises MissingTensor for a name that a checkpoint lacks."""
    if name not in entries:
        raise MissingTensor(file, f"it is not among the {len(entries)} tensors", name)
    return entries[name]


def tensor_names(names: Iterable[str]) -> list[str]:
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
