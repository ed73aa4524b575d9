"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written with NumPy alone.

Written by hand; notebook 07 builds a small reader first. A bundle is `PREFIX.index`, a
sorted table of names, shapes and places, and `PREFIX.data-00000-of-00001` or several such shards,
which hold the numbers. `TensorBundle` maps names to arrays, `write_bundle` writes them.

Left out: strings, partitioned variables and big-endian files, which OpenAI's checkpoints do not
have. They are refused by name, and never misread.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmlib import checks, files
from llmlib.pretrained.crc import crc32c, mask, unmask
from llmlib.pretrained.sstable import (
    MAX_SIZE,
    read_bytes,
    read_table,
    read_varint,
    write_table,
    write_varint,
)


def parse_message(data: bytes) -> dict[int, list[int | bytes]]:
    """Return the values of each field of a protobuf message by its number.

    Raises ValueError for a message that is cut off or of another kind.

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
            value = read_bytes(data, at, size)
            at += size
        elif wire_type == 5:
            value = int.from_bytes(read_bytes(data, at, 4), "little")
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


class Entry(NamedTuple):
    """What the index says of a tensor: the type and shape of its numbers, and where they lie."""

    dtype: str  # a name of DTYPES, or another for what cannot be read
    shape: tuple[int, ...]
    shard: int
    offset: int  # in the file of the shard, in bytes
    size: int  # in bytes
    crc32c: int  # of these bytes

    @property
    def stored(self) -> np.dtype | None:
        """The type as which the bytes are viewed; None if it is not supported."""
        if self.dtype not in DTYPES.values():
            return None
        # NumPy has no bfloat16: its bits are read as integers, and converted
        return np.dtype("u2" if self.dtype == "bfloat16" else self.dtype).newbyteorder("<")


def read_field(fields: dict[int, list], number: int, kind: type = int) -> Any:
    """Return the value of a field, zero or empty if it is absent. Raises ValueError for several."""
    values = fields.get(number, [kind()])
    is_one = len(values) == 1 and isinstance(values[0], kind)
    checks.require(is_one, f"its field {number} is malformed")
    return values[0]


def parse_header(message: bytes) -> int:
    """Return the number of shards from a BundleHeaderProto. Raises ValueError for another kind."""
    fields = parse_message(message)
    n_shards, endianness = read_field(fields, 1), read_field(fields, 2)
    version = read_field(parse_message(read_field(fields, 3, bytes)), 2)
    known = 0 < n_shards < 10**5 and not endianness and version <= 1
    checks.require(known, f"{n_shards} shards, endianness {endianness}, version {version}")
    return n_shards


def parse_entry(message: bytes) -> Entry:
    """Return the Entry in a BundleEntryProto. Raises ValueError if it is malformed."""
    fields = parse_message(message)
    shape = parse_message(read_field(fields, 2, bytes))
    dims = checks.dimensions(shape.get(2, []), unknown_rank=read_field(shape, 3))
    code = read_field(fields, 1)
    dtype = DTYPES.get(code, "string" if code == 7 else f"type {code}")
    if 7 in fields:  # slices: the numbers lie under other keys
        dtype = f"partitioned {dtype}"
    sizes = tuple(read_field(parse_message(dim), 1) for dim in dims)
    shard, offset, size, crc = (read_field(fields, number) for number in (3, 4, 5, 6))
    return Entry(dtype, sizes, shard, offset, size, unmask(crc))


class TensorBundle(Mapping):
    """The tensors of a checkpoint by name: a read-only mapping, in the order of the index.

    prefix: the path without `.index`, such as `gpt2/124M/model.ckpt`.
    verify: compare the crc of a tensor when it is first asked for. Those of the index always are.

    Arrays are read-only and memory-mapped: the file is read only where an array is looked at. A
    tensor at an unaligned place is copied, and so is bfloat16, to float32. Raises FileError for
    files that are damaged, missing or of another kind, and MissingTensor for an unknown name.
    """

    def __init__(self, prefix: str | Path, verify: bool = True):
        self.prefix, self.verify = Path(prefix), verify
        self.index = Path(f"{prefix}.index")
        self._shards: dict[int, np.ndarray] = {}  # the bytes of each file
        self._verified: set[str] = set()
        with checks.blame(self.index):
            checks.bundle_files(self.prefix, self.index, MAX_SIZE)
            table = read_table(self.index.read_bytes())
            self.n_shards = parse_header(table.pop(b"", b""))
        # a key that begins with a zero byte is a part of a partitioned variable
        entries = [self._read_entry(*item) for item in table.items() if item[0][0]]
        self._entries: dict[str, Entry] = dict(entries)

    def _read_entry(self, key: bytes, message: bytes) -> tuple[str, Entry]:
        with checks.blame(self.index, key.decode(errors="replace")):
            name, entry = key.decode(), parse_entry(message)
            checks.whole_number("its shard", entry.shard, 0, self.n_shards - 1)
        with checks.blame(self.shard_path(entry.shard), name):
            checks.tensor_place(entry, self._map_shard(entry.shard))
        return name, entry

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entry(name)
        with checks.blame(self.shard_path(entry.shard), name):
            unsupported = f"tensors of type {entry.dtype} are not supported"
            stored = checks.found(entry.stored, unsupported)
            octets = self._map_shard(entry.shard)[entry.offset : entry.offset + entry.size]
            if self.verify and name not in self._verified:
                intact = crc32c(octets) == entry.crc32c
                checks.require(intact, "it is damaged: its crc does not match")
                self._verified.add(name)
            values = octets.view(stored).reshape(entry.shape)  # (size,) bytes -> shape
        if entry.dtype == "bfloat16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif not values.flags.aligned:
            values = values.copy()
        values.flags.writeable = False
        return values

    def shard_path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return Path(f"{self.prefix}.data-{shard:05d}-of-{self.n_shards:05d}")

    def _map_shard(self, shard: int) -> np.ndarray:
        if shard not in self._shards:
            path = self.shard_path(shard)
            is_empty = path.stat().st_size == 0  # an empty file cannot be mapped
            octets = np.empty(0, np.uint8) if is_empty else np.memmap(path, np.uint8, "r")
            self._shards[shard] = octets.view(np.ndarray)
        return self._shards[shard]

    @property
    def names(self) -> list[str]:
        """All names, in the order of the index, which is that of their bytes: h10 before h2."""
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        """Return what the index says of a tensor. Raises MissingTensor for an unknown name."""
        return checks.known_tensor(self._entries, name, self.index)

    def release(self) -> None:
        """Let go of the memory of what was read so far; arrays still in use keep theirs."""
        self._shards.clear()  # the next read maps the file again, and it may be another file
        self._verified.clear()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


CODES = {name: code for code, name in DTYPES.items()}
HEADER = bytes.fromhex("08011a020801")  # one shard, little-endian, version 1


def write_field(number: int, value: int | bytes) -> bytes:
    """Return a field of a protobuf message. A zero is not written."""
    if isinstance(value, bytes):
        return write_varint(number << 3 | 2) + write_varint(len(value)) + value
    return write_varint(number << 3) + write_varint(value) if value else b""


def write_entry(entry: Entry) -> bytes:
    """Return the message of an entry; `parse_entry` undoes it."""
    shape = b"".join(write_field(2, write_field(1, n)) for n in entry.shape)
    place = b"".join(write_field(3 + i, n) for i, n in enumerate(entry[2:5]))
    crc = mask(entry.crc32c)
    fixed = write_varint(6 << 3 | 5) + crc.to_bytes(4, "little") if crc else b""
    return write_field(1, CODES[entry.dtype]) + write_field(2, shape) + place + fixed


def as_octets(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a tensor as an array, little-endian and row by row, and its bytes."""
    array = np.asarray(values, order="C")
    checks.tensor_dtype(name, array.dtype, CODES)
    if array.dtype.kind in "iufc":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array, array.reshape(-1).view(np.uint8)  # any shape -> (size,) bytes


def write_bundle(prefix: str | Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors as a checkpoint of one shard, in the order of their names.

    tensors: anything that NumPy turns into numbers; bfloat16 as the package `ml_dtypes` has it.
    Raises ValueError for a name that cannot be stored, and TypeError for values that are not
    numbers; the files from before are then untouched.
    """
    names = checks.tensor_names(tensors)
    data_path, index_path = Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")
    entries, offset = [(b"", HEADER)], 0
    with files.replacing(index_path) as index_part, files.replacing(data_path) as data_part:
        with data_part.open("wb") as file:
            for name in names:
                array, octets = as_octets(name, tensors[name])
                file.write(octets.data)
                entry = Entry(array.dtype.name, array.shape, 0, offset, len(octets), crc32c(octets))
                entries.append((name.encode(), write_entry(entry)))
                offset += len(octets)
        index_part.write_bytes(write_table(entries))
