"""Damaged checkpoints by the thousand: each is refused, or gives the very tensors it held.

Run from the checkout: python tests/pretrained/bundle_fuzz.py 100000 [--seed 0]
Three ways to do damage, drawn for each file: bytes of one of the two files are changed, with
nothing repaired; bytes within a block are changed and its crc is made right again; entries are
changed and the whole index is rewritten. Where a crc was repaired, the numbers may be others,
but nothing may crash, hang, or take memory that the files do not account for.
"""

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from llmlib.checks import FileError
from llmlib.pretrained.crc import crc32c, mask
from llmlib.pretrained.sstable import FOOTER_SIZE, read_handle, read_table, write_table
from llmlib.pretrained.tensor_bundle import TensorBundle, write_bundle

TENSORS = {
    "a/flag": np.array([True, False, True]),
    "a/w": np.arange(6, dtype=np.float32).reshape(1, 2, 3) / 7,
    "h10/b": np.arange(4, dtype=np.float16),
    "h2/b": np.arange(-3, 3, dtype=np.int64),
    "none": np.ones((2, 0), np.float32),
    "step": np.array(1000, np.int32),
}
SECONDS = 2.0  # no file of this size may take longer


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, zero, cut, insert, repeat, swap or overwrite some bytes."""
    data = bytearray(data)
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    near = min(len(data), a + rng.randint(1, 8))
    way = rng.randrange(9)
    if way == 0 and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == 1:
        data[b:] = bytes(len(data) - b)
    elif way == 2:
        del data[a:]
    elif way == 3:
        data[a:a] = rng.randbytes(rng.randint(1, 40))
    elif way == 4:
        data[a:near] = rng.randbytes(near - a)
    elif way == 5:
        data[a:a] = data[a:near]
    elif way == 6:
        del data[a:near]
    elif way == 7:
        data[a:near] = rng.choice([b"\xff", b"\x80", b"\x7f", b"\0"]) * (near - a)
    else:
        data = data[b:] + data[a:b] + data[:a]
    return bytes(data)


def change_block(rng: random.Random, index: bytes) -> bytes:
    """Change one of the blocks without changing its length, and make its crc right."""
    footer = index[-FOOTER_SIZE:]
    meta, at = read_handle(footer)
    block, _ = read_handle(footer, at)
    start, size = rng.choice([(0, meta[0] - 5), meta, block])
    contents = change_bytes(rng, index[start : start + size])[:size].ljust(size, b"\0")
    crc = mask(crc32c(contents + b"\0")).to_bytes(4, "little")
    return index[:start] + contents + b"\0" + crc + index[start + size + 5 :]


def change_entries(rng: random.Random, index: bytes) -> bytes:
    """Change keys or values, and rewrite the index."""
    entries = list(read_table(index).items())
    for _ in range(rng.randint(1, 2)):
        i = rng.randrange(len(entries))
        key, value = entries[i]
        if rng.random() < 0.2:
            key = change_bytes(rng, key)
        else:
            value = change_bytes(rng, value)
        entries[i] = key, value
    return write_table(sorted(entries) if rng.random() < 0.8 else entries)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def fuzz(n: int, seed: int, folder: Path) -> Counter:
    """Try n damaged checkpoints; count what became of them. Raises AssertionError where one is
    misread or too slow, and any error other than FileError that the reader raises."""
    rng = random.Random(seed)
    write_bundle(folder / "sound", TENSORS)
    index = (folder / "sound.index").read_bytes()
    data = (folder / "sound.data-00000-of-00001").read_bytes()
    outcome = Counter()
    for i in range(n):
        way = rng.choice(["index", "data", "block", "entries"])
        new_index, new_data = index, data
        if way == "index":
            new_index = change_bytes(rng, index)
        elif way == "data":
            new_data = change_bytes(rng, data)
        else:
            new_index = (change_block if way == "block" else change_entries)(rng, index)
        (folder / "bad.index").write_bytes(new_index)
        (folder / "bad.data-00000-of-00001").unlink(missing_ok=True)
        (folder / "bad.data-00000-of-00001").write_bytes(new_data)
        start, refused = time.process_time(), 0
        try:
            bundle = TensorBundle(folder / "bad")
            names = bundle.names
        except FileError:
            names, refused = [], 1
        for name in names:
            try:
                array = bundle[name]
            except FileError as error:
                assert error.tensor == name, (seed, i, error)
                refused += 1
                continue
            if way in ("index", "data"):
                assert same(array, TENSORS[name]), f"seed {seed}, file {i}: {name} is misread"
        if way == "index" and not refused:
            assert new_index == index, f"seed {seed}, file {i}: a change went unnoticed"
        assert time.process_time() - start < SECONDS, f"seed {seed}, file {i} takes too long"
        outcome[way, "refused" if refused else "read"] += 1
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))  # a huge allocation fails
    with tempfile.TemporaryDirectory() as folder:
        outcome = fuzz(options.n, options.seed, Path(folder))
    for (way, result), count in sorted(outcome.items()):
        print(f"{way:8s} {result:8s} {count:8,d}")
    print(f"{sum(outcome.values()):,} damaged checkpoints, none misread")


if __name__ == "__main__":
    main()
