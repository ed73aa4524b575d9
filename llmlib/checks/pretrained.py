"""Files of TensorFlow: tables and bundles of tensors."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmlib.checks.files import MissingTensor
from llmlib.checks.values import require


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
    require(len(data) >= size and data.endswith(magic), "it does not end like an index")
    return data[-size:]


def table_block(offset: int, is_sound: bool, compression: int) -> None:
    """Raise ValueError for a block whose crc differs, or that is compressed."""
    require(is_sound, f"it is damaged: the crc of the block at byte {offset:,} does not match")
    require(not compression, "it is compressed, which is not supported")


def table_layout(blocks: Iterable[tuple[int, int]], end: int, padding: bytes) -> None:
    """Raise ValueError unless blocks (offset, size) fill a table up to its footer.

    Five bytes follow each block. With this, every byte of the file belongs to a block with a crc,
    or to the footer, whose handles lead to these blocks, and whose padding is zero.
    """
    at = 0
    for offset, size in blocks:
        require(offset == at, f"a block should lie at byte {at:,}, and not at {offset:,}")
        at += size + 5
    require(at == end and not any(padding), "its footer is damaged")


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


def bundle_files(prefix: Path, index: Path, most: int) -> None:
    """Raise ValueError if a path is not the prefix of a checkpoint, or its index is too large."""
    if not index.exists():
        folder = f"it is missing: give a prefix, such as {prefix}/model.ckpt"
        require(not prefix.is_dir(), folder)
        file = f"it is missing: {prefix.name} is a V1 checkpoint, or not a prefix"
        require(not prefix.is_file(), file)
    require(index.stat().st_size <= most, "it is far too large for an index")


def dimensions(messages: list, unknown_rank: int) -> list[bytes]:
    """Return the messages of a shape's dimensions. Raises ValueError if it is open or malformed."""
    require(not unknown_rank, "its shape is unknown")
    require(all(isinstance(message, bytes) for message in messages), "its shape is malformed")
    return messages


def tensor_place(entry: Any, file: Any) -> None:
    """Raise ValueError if an entry of a checkpoint contradicts itself, or the bytes of its file."""
    shape, end = entry.shape, entry.offset + entry.size
    require(end <= len(file), f"it ends at byte {end:,}, but the file at byte {len(file):,}")
    # Numbers from a file: multiplied as Python's integers, which do not overflow. NumPy's arrays
    # have at most 64 dimensions.
    possible = len(shape) <= 64 and math.prod(n or 1 for n in shape) < 2**48
    require(possible, f"its shape {shape} is absurd")
    fits = entry.stored is None or entry.size == math.prod(shape) * entry.stored.itemsize
    require(fits, f"{entry.dtype} of shape {shape} is not {entry.size:,} bytes")


def known_tensor(entries: Mapping[str, Any], name: str, file: Path) -> Any:
    """Return the entry of a tensor. Raises MissingTensor for a name that a checkpoint lacks."""
    if name not in entries:
        raise MissingTensor(file, f"it is not among the {len(entries)} tensors", name)
    return entries[name]


def tensor_names(names: Iterable[str]) -> list[str]:
    """Return names in the order of their bytes. Raises ValueError for one that cannot be stored."""
    names = list(names)
    for name in names:
        possible = isinstance(name, str) and name[:1] not in ("", "\0")
        require(possible, f"a tensor cannot be called {name!r}: give a string that is not empty")
    return sorted(names, key=str.encode)


def tensor_dtype(name: str, dtype: Any, allowed: Collection[str]) -> None:
    """Raise TypeError for an array that a checkpoint cannot hold."""
    types = f"tensor {name!r} is of type {dtype}: give one of {', '.join(allowed)}"
    require(dtype.name in allowed, types, TypeError)
