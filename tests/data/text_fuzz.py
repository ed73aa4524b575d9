"""Texts of every form with damaged bytes, read by us and by Python's own readers.

    python tests/data/text_fuzz.py 10000

We have to give the text that Python gives, or refuse; and refuse what Python refuses. A packed file
is one that begins as such, whatever its name says.
"""

import bz2
import gzip
import json
import lzma
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from llmlib.data.texts import Texts

WORDS = [
    *("the cat", "naïve", "猫", "🙂", "e\u0301", "x" * 90, " ", '"', "\\", "{", "<|endoftext|>"),
    *("\n", "\r\n", "\r", "\n\n", "\t", "\x0c", "\x85", "\u2028", "\ufeff"),
]
PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
OPENERS = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\0": lzma.decompress}
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16"}
MARKS |= {b"\xfe\xff": "utf-16", b"": "utf-8-sig"}


def whole(rng):
    """A file that nothing is wrong with: its name and its bytes, before it is packed."""
    parts = ["".join(rng.choices(WORDS, k=rng.randrange(12))) for _ in range(rng.randrange(1, 5))]
    if rng.random() < 0.3:
        end = rng.choice(["\n", "\r\n"])
        lines = [json.dumps({"text": part}, ensure_ascii=rng.random() < 0.5) for part in parts]
        return "t.jsonl", (end.join(lines) + end).encode()
    encoding = rng.choice(["utf-8"] * 4 + ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
    return "t.txt", "".join(parts).encode(encoding, "replace")


def damaged(rng, data):
    """Change, take away, insert or repeat a few bytes."""
    a = rng.randrange(len(data) + 1)
    b = min(len(data), a + rng.choice([0, 1, 1, 2, 4, 40]))
    new = rng.choice([b"", bytes([rng.randrange(256)]), data[a:b] * 2, b"\r", b"\0", b"\xc3"])
    return data[:a] + new + data[b:]


def of_python(name, data):
    """The documents that Python reads, without the line breaks at their ends, or None."""
    try:
        packed = len(data) > 9  # "BZh9" alone is a text
        magic = next((magic for magic in OPENERS if packed and data.startswith(magic)), None)
        data = OPENERS[magic](data) if magic else data
        encoding = next(e for mark, e in MARKS.items() if data.startswith(mark))
        text = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        if "\0" in text:
            return None
        documents = [text]
        if name.startswith("t.jsonl"):
            documents = [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
        cut = [part for document in documents for part in document.split("<|endoftext|>")]
        return [part.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for part in cut]
    except Exception:
        return None


def of_ours(path):
    """Our documents, or the reason for which there are none."""
    documents = {}
    try:
        for number, piece in Texts(path):
            documents[number] = documents.get(number, "") + piece
    except ValueError as error:
        return str(error)
    return [documents[number] for number in sorted(documents)]


def run(n, seed=0):
    """Return how often each verdict came, and the faults."""
    rng, counts, faults = random.Random(seed), Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(n):
            name, data = whole(rng)
            suffix = rng.choice([*PACKERS, ""])
            inner = damaged(rng, data) if rng.random() < 0.5 else data
            packed = PACKERS[suffix](inner)
            packed = damaged(rng, packed) if rng.random() < 0.4 else packed
            path = Path(folder, name + suffix)
            path.write_bytes(packed)
            theirs, found = of_python(path.name, packed), of_ours(path)
            path.unlink()
            if isinstance(found, str):
                verdict = "both refuse" if theirs is None else f"FAULT refused {found}"
            elif theirs is None:
                verdict = f"FAULT read {found}"
            else:
                same = [t.strip("\n") for t in theirs] == [t.strip("\n") for t in found]
                verdict = "same" if same else f"FAULT {theirs} read as {found}"
            counts[" ".join(verdict.split()[:2]) if "FAULT" in verdict else verdict] += 1
            faults += [(verdict, path.name, packed)] if "FAULT" in verdict else []
    return counts, faults


if __name__ == "__main__":
    counts, faults = run(int(sys.argv[1]))
    print(dict(counts))
    print(*faults[:20], sep="\n")
