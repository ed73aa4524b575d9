# From notebooks/07_gpt2_weights.ipynb: edit there, then run make export.

"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written with NumPy alone.

Built in notebook 07. A bundle is `PREFIX.index`, a sorted table of names, shapes and places, and
`PREFIX.data-00000-of-00001` or several such shards, which hold the numbers. `TensorBundle` maps
names to arrays, `write_bundle` writes them.

Left out: strings, partitioned variables and big-endian files, which OpenAI's checkpoints do not
have. They are refused by name, and never misread.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmlib.pretrained.crc import crc32c, mask, unmask
from llmlib.pretrained.sstable import MAX_SIZE, read_table, read_varint, take, varint, write_table


def parse_message(data: bytes) -> dict[int, list[int | bytes]]:
    """Take a protobuf message apart: the values of each field by its number.

    >>> parse_message(bytes([0x08, 0x01, 0x12, 0x02, 0x08, 0x78]))
    {1: [1], 2: [b'\\x08x']}
    """
    fields, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = read_varint(data, at)
        elif wire_type == 2:
            size, at = read_varint(data, at)
            value = take(data, at, size)
            at += size
        elif wire_type == 5:
            value = int.from_bytes(take(data, at, 4), "little")
            at += 4
        else:
            raise ValueError(f"its field {number} has the wire type {wire_type}")
        fields.setdefault(number, []).append(value)
    return fields


DTYPES = {
    **{1: "float32", 2: "float64", 19: "float16", 14: "bfloat16", 10: "bool"},
    **{6: "int8", 5: "int16", 3: "int32", 9: "int64"},
    **{4: "uint8", 17: "uint16", 22: "uint32", 23: "uint64", 8: "complex64", 18: "complex128"},
}
MAX_DIMS = 64  # NumPy's limit


class Entry(NamedTuple):
    """What the index says of a tensor: the type and shape of its numbers, and where they lie.

    dtype: a name of DTYPES, or another for what cannot be read. offset and size: bytes in the file
    of the shard. crc32c: of these bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int

    @property
    def stored(self) -> np.dtype | None:
        """How the bytes are to be looked at; None for what is not supported."""
        if self.dtype not in DTYPES.values():
            return None
        return np.dtype("<u2" if self.dtype == "bfloat16" else self.dtype).newbyteorder("<")

    def check(self, file: np.ndarray) -> None:
        """Raise ValueError where the entry contradicts itself, or the bytes of its file."""
        end = self.offset + self.size
        if end > len(file):
            other = looks_like(bytes(file[:64]))
            raise ValueError(f"it ends at byte {end:,}, but the file at byte {len(file):,}{other}")
        # numbers from a file: multiplied as Python's integers, which do not overflow
        if len(self.shape) > MAX_DIMS or prod(n or 1 for n in self.shape) >= 2**48:
            raise ValueError(f"its shape {self.shape} is absurd")
        if self.stored is not None and self.size != prod(self.shape) * self.stored.itemsize:
            raise ValueError(f"{self.dtype} of shape {self.shape} is not {self.size:,} bytes")


def one(fields: dict[int, list], number: int, kind: type = int) -> int | bytes:
    """The value of a field that occurs at most once, of the kind that it should be."""
    values = fields.get(number, [kind()])
    if len(values) > 1 or not isinstance(values[0], kind):
        raise ValueError(f"its field {number} is not what it should be")
    return values[0]


def parse_header(message: bytes) -> int:
    """Read a BundleHeaderProto: the number of shards."""
    fields = parse_message(message)
    n_shards, endianness = one(fields, 1), one(fields, 2)
    version = one(parse_message(one(fields, 3, bytes)), 2)
    if not 0 < n_shards < 10**5 or endianness or version > 1:
        raise ValueError(f"{n_shards} shards, endianness {endianness}, version {version}")
    return n_shards


def parse_entry(message: bytes) -> Entry:
    """Read a BundleEntryProto."""
    fields = parse_message(message)
    code, shape = one(fields, 1), parse_message(one(fields, 2, bytes))
    if one(shape, 3):
        raise ValueError("its shape is unknown")
    if not all(isinstance(dim, bytes) for dim in shape.get(2, [])):
        raise ValueError("its shape is malformed")
    sizes = tuple(one(parse_message(dim), 1) for dim in shape.get(2, []))
    dtype = DTYPES.get(code, "string" if code == 7 else f"type {code}")
    if 7 in fields:
        dtype = f"partitioned {dtype}"  # its numbers lie under other keys
    place = one(fields, 3), one(fields, 4), one(fields, 5)
    return Entry(dtype, sizes, *place, unmask(one(fields, 6)))


class BundleError(ValueError):
    """A file that is no sound checkpoint, or a tensor that cannot be had from it.

    file, reason, and tensor (None where the file as a whole is meant).
    """

    def __init__(self, file: str | Path, reason: str, tensor: str | None = None):
        super().__init__(file, reason, tensor)
        self.file, self.reason, self.tensor = Path(file), reason, tensor

    def __str__(self) -> str:
        tensor = "" if self.tensor is None else f"tensor {self.tensor!r}: "
        return f"{self.file}: {tensor}{self.reason}"


class MissingTensor(BundleError, KeyError):
    """A name that the checkpoint does not have."""


@contextmanager
def blame(file: Path, tensor: str | None = None) -> Iterator[None]:
    """Let what goes wrong within name the file and the tensor."""
    try:
        yield
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(file, error.strerror or str(error), tensor) from error
    except ValueError as error:
        raise BundleError(file, str(error), tensor) from error


def looks_like(start: bytes) -> str:
    """A sentence on what a file is instead, by how it begins; empty where that tells nothing."""
    if start.startswith(b"version https://git-lfs"):
        return ". It is a Git LFS pointer: fetch the file that it stands for"
    if start.lstrip().startswith(b"<"):
        return ". It is a page that a server sent in its place: download the file again"
    return ""


class TensorBundle(Mapping):
    """The tensors of a checkpoint by name: a read-only mapping, in the order of the index.

    prefix: the path without `.index`, such as `gpt2/124M/model.ckpt`.
    verify: compare the crc of a tensor when it is first asked for. Those of the index always are.

    Arrays are read-only and memory-mapped: the file is read where one looks. What does not lie at
    a multiple of its size is copied, and so is bfloat16, to float32. Raises BundleError for files
    that are damaged, missing or something else, and MissingTensor for a name that is not there.
    """

    def __init__(self, prefix: str | Path, verify: bool = True):
        self.prefix, self.verify = Path(prefix), verify
        self.index = Path(f"{prefix}.index")
        self._entries: dict[str, Entry] = {}
        self._shards: dict[int, np.ndarray] = {}  # the bytes of each file
        self._verified: set[str] = set()
        with blame(self.index):
            table = read_table(self._read_index())
            self.n_shards = parse_header(table.pop(b"", b""))
        for key, message in table.items():
            if key[0] == 0:
                continue  # a part of a partitioned variable
            with blame(self.index, key.decode(errors="replace")):
                name, entry = key.decode(), parse_entry(message)
                if entry.shard >= self.n_shards:
                    raise ValueError(f"it should lie in shard {entry.shard} of {self.n_shards}")
            with blame(self.shard_path(entry.shard), name):
                entry.check(self._map_shard(entry.shard))
            self._entries[name] = entry

    @property
    def names(self) -> list[str]:
        """All names, in the order of the index, which is that of their bytes: h10 before h2."""
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        """What the index says of a tensor."""
        if name not in self._entries:
            raise MissingTensor(self.index, f"it is not among the {len(self)} tensors", name)
        return self._entries[name]

    def shard_path(self, shard: int) -> Path:
        """The file of a shard."""
        return Path(f"{self.prefix}.data-{shard:05d}-of-{self.n_shards:05d}")

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entry(name)
        with blame(self.shard_path(entry.shard), name):
            if entry.stored is None:
                raise ValueError(f"tensors of type {entry.dtype} are not supported")
            octets = self._map_shard(entry.shard)[entry.offset : entry.offset + entry.size]
            if self.verify and name not in self._verified:
                if crc32c(octets) != entry.crc32c:
                    raise ValueError("it is damaged: its crc does not match")
                self._verified.add(name)
            values = octets.view(entry.stored).reshape(entry.shape)
        if entry.dtype == "bfloat16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif not values.flags.aligned:
            values = values.copy()
        values.flags.writeable = False
        return values

    def release(self) -> None:
        """Let go of the memory of what was read so far; arrays still in use keep theirs."""
        self._shards.clear()  # what is asked for next is mapped anew, and may be another file
        self._verified.clear()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _read_index(self) -> bytes:
        if not self.index.exists() and self.prefix.is_dir():
            raise ValueError(f"there is none: give a prefix, such as {self.prefix}/model.ckpt")
        if not self.index.exists() and self.prefix.is_file():
            raise ValueError(f"there is none: {self.prefix.name} is a V1 checkpoint, or no prefix")
        if self.index.stat().st_size > MAX_SIZE:
            raise ValueError("it is far too large for an index")
        data = self.index.read_bytes()
        if other := looks_like(data):
            raise ValueError(f"it is no index{other}")
        return data

    def _map_shard(self, shard: int) -> np.ndarray:
        if shard not in self._shards:
            path = self.shard_path(shard)
            empty = path.stat().st_size == 0  # which cannot be mapped
            octets = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
            self._shards[shard] = octets.view(np.ndarray)
        return self._shards[shard]


CODES = {name: code for code, name in DTYPES.items()}
HEADER = bytes.fromhex("08011a020801")  # one shard, little-endian, version 1


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protobuf message. A zero is not written."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def write_entry(entry: Entry) -> bytes:
    """The inverse of `parse_entry`."""
    shape = b"".join(field(2, field(1, n)) for n in entry.shape)
    crc = mask(entry.crc32c)
    return b"".join(
        [
            field(1, CODES[entry.dtype]),
            field(2, shape),
            field(3, entry.shard),
            field(4, entry.offset),
            field(5, entry.size),
            varint(6 << 3 | 5) + crc.to_bytes(4, "little") if crc else b"",
        ]
    )


def as_octets(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """A tensor as an array, little-endian and row by row, and its bytes."""
    array = np.asarray(values, order="C")
    if array.dtype.name not in CODES:
        raise TypeError(f"tensor {name!r} is of type {array.dtype}: give one of {', '.join(CODES)}")
    if array.dtype.kind in "iufc":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array, array.reshape(-1).view(np.uint8)


def write_bundle(prefix: str | Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors as a checkpoint of one shard, in the order of their names.

    tensors: whatever NumPy turns into numbers; bfloat16 as the package `ml_dtypes` has it.
    The files are complete before they take their places. Raises ValueError for a name that cannot
    be stored, TypeError for what are no numbers.
    """
    for name in tensors:
        if not isinstance(name, str) or name[:1] in ("", "\0"):
            raise ValueError(f"a tensor cannot be called {name!r}: give a string that is not empty")
    paths = [Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")]
    parts = [path.with_name(f"{path.name}.part") for path in paths]
    entries, offset = [(b"", HEADER)], 0
    try:
        with parts[0].open("wb") as file:
            for name in sorted(tensors, key=str.encode):
                array, octets = as_octets(name, tensors[name])
                file.write(octets)
                entry = Entry(array.dtype.name, array.shape, 0, offset, len(octets), crc32c(octets))
                entries.append((name.encode(), write_entry(entry)))
                offset += len(octets)
        parts[1].write_bytes(write_table(entries))
        for part, path in zip(parts, paths):
            os.replace(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
