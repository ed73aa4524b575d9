"""Sorted string tables, LevelDB's format for keys and values: the index of a checkpoint.

Written by hand; notebook 07 reads one in a few lines, and takes it apart byte by byte. A table is
blocks of entries, each followed by its crc; an index block that says where they lie; and a footer
that says where the index block lies. To read a whole table, one needs neither the restarts in a
block nor the separators in the index block: they speed up looking up single keys. Left out:
compression, which the index of a checkpoint never has, and filters.
"""

from collections.abc import Iterator

from llmlib import checks
from llmlib.pretrained.crc import crc32c, mask, unmask


def read_bytes(data: bytes, at: int, size: int) -> bytes:
    """Return the `size` bytes from a place on. Raises ValueError if there are fewer."""
    checks.enough_bytes(len(data) - at, size, at)
    return data[at : at + size]


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to 64 bits, and the place after it. Raises ValueError if malformed.

    >>> read_varint(bytes([0xE0, 0x03]), 0)
    (480, 2)
    """
    value = 0
    for shift in range(0, 70, 7):  # ten bytes hold 64 bits; damage must not make it run on
        byte = read_bytes(data, at, 1)[0]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            break
    return checks.varint(value, byte, shift), at


def read_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block. Raises ValueError where they are malformed."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    checks.require(end >= 0 and n_restarts, "a block in it has no proper end")
    entries, at, key = block[:end], 0, b""
    while at < end:
        shared, at = read_varint(entries, at)
        own, at = read_varint(entries, at)
        length, at = read_varint(entries, at)
        # the new key begins like the one before it
        key = read_bytes(key, 0, shared) + read_bytes(entries, at, own)
        yield key, read_bytes(entries, at + own, length)
        at += own + length


FOOTER_SIZE = 48
MAGIC = bytes.fromhex("57fb808b247547db")
MAX_SIZE = 2**24  # bytes of an index; that of the largest GPT-2 has 20,724


def read_handle(data: bytes, at: int = 0) -> tuple[tuple[int, int], int]:
    """Return the place and the size of a block, and the place after the handle."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def read_block(data: bytes, offset: int, size: int) -> bytes:
    """Return the contents of a block. Raises ValueError if it is damaged or compressed."""
    block = read_bytes(data, offset, size + 5)  # contents, 1 byte for compression, 4 of the crc
    stored = unmask(int.from_bytes(block[-4:], "little"))
    checks.table_block(offset, crc32c(block[:-4]) == stored, compression=block[-5])
    return block[:-5]


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Return all keys and values of a table, in order. Raises ValueError for a changed byte."""
    footer = checks.table_footer(data, FOOTER_SIZE, MAGIC)
    meta, at = read_handle(footer[:-8])
    index, at = read_handle(footer[:-8], at)
    blocks = [read_handle(value)[0] for _, value in read_entries(read_block(data, *index))]
    checks.table_layout([*blocks, meta, index], len(data) - FOOTER_SIZE, padding=footer[at:-8])
    contents = (read_block(data, *handle) for handle in [*blocks, meta])
    entries = (entry for block in contents for entry in read_entries(block))
    return dict(checks.ordered_keys(entries, MAX_SIZE))


BLOCK_SIZE = 2**18  # bytes after which TensorFlow begins a new block


def write_varint(value: int) -> bytes:
    """Return a number in as few bytes as it takes; `read_varint` undoes it."""
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def shared_length(key: bytes, other: bytes) -> int:
    """Count the equal bytes with which two keys begin."""
    pairs = enumerate(zip(key, other))
    return next((n for n, (a, b) in pairs if a != b), min(len(key), len(other)))


def separator(key: bytes, following: bytes) -> bytes:
    """Return a shortest key from `key` on, and before `following`, as LevelDB chooses it."""
    n = shared_length(key, following)
    if n < min(len(key), len(following)) and key[n] + 1 < following[n]:
        return key[:n] + bytes([key[n] + 1])
    return key


class Block:
    """A block that grows, by keys in order; at each restart, a key is written in full."""

    def __init__(self, restart_interval: int):
        self.restart_interval, self.n_keys = restart_interval, 0
        self.data, self.last, self.restarts = bytearray(), b"", [0]

    def __len__(self) -> int:
        return len(self.data) + 4 * len(self.restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry; its key comes after all keys so far."""
        shared = shared_length(self.last, key)
        if self.n_keys and self.n_keys % self.restart_interval == 0:
            self.restarts.append(len(self.data))
            shared = 0
        lengths = (shared, len(key) - shared, len(value))
        self.data += b"".join(map(write_varint, lengths)) + key[shared:] + value
        self.n_keys, self.last = self.n_keys + 1, key

    def store(self, file: bytearray) -> bytes:
        """Append the block and its crc to a file, and return its handle."""
        start = len(file)
        tail = (number.to_bytes(4, "little") for number in [*self.restarts, len(self.restarts)])
        file += self.data + b"".join(tail) + b"\0"  # not compressed
        file += mask(crc32c(file[start:])).to_bytes(4, "little")
        return write_varint(start) + write_varint(len(self))


def write_table(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Return the file for keys in order and their values, to the byte as TensorFlow writes it."""
    file, index, block = bytearray(), Block(1), Block(16)
    for i, (key, value) in enumerate(entries, start=1):
        block.add(key, value)
        if len(block) >= BLOCK_SIZE or i == len(entries):
            following = entries[i][0] if i < len(entries) else b"\xff"
            index.add(separator(key, following), block.store(file))
            block = Block(16)
    footer = Block(1).store(file) + index.store(file)  # the metaindex is empty
    return bytes(file) + footer.ljust(FOOTER_SIZE - len(MAGIC), b"\0") + MAGIC
