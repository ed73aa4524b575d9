# From notebooks/07_gpt2_weights.ipynb: edit there, then run make export.

"""Sorted string tables, LevelDB's format for keys and values: the index of a checkpoint.

Built in notebook 07. A table is blocks of entries, each followed by its crc; an index block that
says where they lie; and a footer that says where that one lies. Whoever reads a whole table needs
neither the restarts in a block nor the separators in the index block: they speed up looking up.
Left out: compression, which the index of a checkpoint never has, and filters.
"""

from collections.abc import Iterator

from llmlib.pretrained.crc import crc32c, mask, unmask


def take(data: bytes, at: int, size: int) -> bytes:
    """The `size` bytes from a place on. Raises ValueError where there are fewer."""
    if size > len(data) - at:
        raise ValueError(f"it is cut off: {size:,} bytes should follow byte {at:,}")
    return data[at : at + size]


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of up to 64 bits: its value, and the place after it.

    >>> read_varint(bytes([0xE0, 0x03]), 0)
    (480, 2)
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = take(data, at, 1)[0]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64 or (shift and not byte):  # a last byte of zero is one too many
                break
            return value, at
    raise ValueError("a number in it is malformed")


def read_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block; a key begins like the one before it."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    if end < 0 or n_restarts == 0:
        raise ValueError("a block in it has no proper end")
    entries, at, key = block[:end], 0, b""
    while at < end:
        shared, at = read_varint(entries, at)
        own, at = read_varint(entries, at)
        length, at = read_varint(entries, at)
        key = take(key, 0, shared) + take(entries, at, own)
        yield key, take(entries, at + own, length)
        at += own + length


FOOTER_SIZE = 48
MAGIC = bytes.fromhex("57fb808b247547db")
MAX_SIZE = 2**24  # bytes of an index; that of the largest GPT-2 has 20,724


def read_handle(data: bytes, at: int = 0) -> tuple[tuple[int, int], int]:
    """Read the place and the size of a block; return them, and the place after."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def read_block(data: bytes, offset: int, size: int) -> bytes:
    """The contents of a block. Raises ValueError where its crc differs, and if it is compressed."""
    block = take(data, offset, size + 5)
    if crc32c(block[:-4]) != unmask(int.from_bytes(block[-4:], "little")):
        raise ValueError(f"it is damaged: the crc of the block at byte {offset:,} does not match")
    if block[-5]:
        raise ValueError("it is compressed, which is not supported")
    return block[:-5]


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All keys and values of a table, in order.

    Raises ValueError where anything is not as it was written: each byte of the file belongs to a
    block with its crc, or to the footer, whose handles have to lead to these blocks.
    """
    footer = data[-FOOTER_SIZE:]
    if len(data) < FOOTER_SIZE or footer[-8:] != MAGIC:
        raise ValueError("it does not end as an index ends")
    meta, at = read_handle(footer[:-8])
    index, at = read_handle(footer[:-8], at)
    blocks = [read_handle(value)[0] for _, value in read_entries(read_block(data, *index))]
    end = 0
    for offset, size in [*blocks, meta, index]:
        if offset != end:
            raise ValueError(f"a block should lie at byte {end:,}, and not at {offset:,}")
        end += size + 5
    if end + FOOTER_SIZE != len(data) or any(footer[at:-8]):
        raise ValueError("its footer is damaged")
    table, last, room = {}, b"", MAX_SIZE
    for block in [*blocks, meta]:
        for key, value in read_entries(read_block(data, *block)):
            room -= len(key)  # keys that share their beginnings may be longer than the file
            if room < 0 or (table and key <= last):
                raise ValueError("its keys are not in order, or too long")
            table[key], last = value, key
    return table


BLOCK_SIZE = 2**18  # bytes after which TensorFlow begins a new block


def varint(value: int) -> bytes:
    """A number in as few bytes as it takes; `read_varint` undoes it."""
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def count_shared(key: bytes, other: bytes) -> int:
    """With how many equal bytes two keys begin."""
    pairs = enumerate(zip(key, other))
    return next((n for n, (a, b) in pairs if a != b), min(len(key), len(other)))


def separator(key: bytes, following: bytes) -> bytes:
    """The shortest key that is neither before `key` nor after it by as much as `following`."""
    n = count_shared(key, following)
    if n < min(len(key), len(following)) and key[n] + 1 < following[n]:
        return key[:n] + bytes([key[n] + 1])
    return key


class Block:
    """A block that grows, by keys in order; at each restart one is written in full."""

    def __init__(self, restart_interval: int):
        self.restart_interval, self.n_keys = restart_interval, 0
        self.data, self.last, self.restarts = bytearray(), b"", [0]

    def __len__(self) -> int:
        return len(self.data) + 4 * len(self.restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry."""
        shared = count_shared(self.last, key)
        if self.n_keys and self.n_keys % self.restart_interval == 0:
            self.restarts.append(len(self.data))
            shared = 0
        self.data += varint(shared) + varint(len(key) - shared) + varint(len(value))
        self.data += key[shared:] + value
        self.n_keys, self.last = self.n_keys + 1, key

    def store(self, file: bytearray) -> bytes:
        """Append the block to a file, and return its handle."""
        start = len(file)
        tail = (number.to_bytes(4, "little") for number in [*self.restarts, len(self.restarts)])
        file += self.data + b"".join(tail) + b"\0"  # not compressed
        file += mask(crc32c(file[start:])).to_bytes(4, "little")
        return varint(start) + varint(len(self))


def write_table(entries: list[tuple[bytes, bytes]]) -> bytes:
    """The file for keys in order and their values, to the byte as TensorFlow writes it."""
    file, index, block = bytearray(), Block(1), Block(16)
    for i, (key, value) in enumerate(entries, start=1):
        block.add(key, value)
        if len(block) >= BLOCK_SIZE or i == len(entries):
            following = entries[i][0] if i < len(entries) else b"\xff"
            index.add(separator(key, following), block.store(file))
            block = Block(16)
    footer = Block(1).store(file) + index.store(file)  # the metaindex is empty
    return bytes(file) + footer.ljust(FOOTER_SIZE - len(MAGIC), b"\0") + MAGIC
