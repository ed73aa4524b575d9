"""The two files of a run that only grow, metrics.jsonl and samples.txt: added to, cut, read.

Written by hand. A line is there as a whole or not at all; what a crash, an editor or a disk has
damaged is passed over by readers, as is the half of a line that is just being written.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmlib import files

METRICS, SAMPLES = "metrics.jsonl", "samples.txt"
GROWING = (METRICS, SAMPLES)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield the path of a file; an OSError inside says that this file could not be written."""
    try:
        yield path
    except OSError as error:
        what = f"{path} could not be written: {error.strerror}"
        raise OSError(error.errno, f"{what}. The checkpoints are untouched") from error


def append(path: Path, text: str) -> None:
    """Add text to a file, all of it or nothing. Raises OSError, naming the file."""
    with writing(path), open(path, "ab", buffering=0) as file:
        size, rest = file.tell(), text.encode()
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the two files in bytes, once the disk has all of them."""
    found = {}
    for name in GROWING:
        with writing(folder / name), open(folder / name, "ab") as file:
            os.fsync(file.fileno())
            found[name] = file.tell()
    return found


def cut(path: Path, size: int) -> None:
    """Cut a file to the whole lines within its first `size` bytes, if it is there.

    A link is replaced by a file: what it points to belongs to somebody else. So is a file with
    several names, as in a copy of the run that `cp --link` made.
    """
    if path.is_file():
        content = path.read_bytes()[:size]
        with writing(path), files.replacing(path) as part:
            part.write_bytes(content[: content.rfind(b"\n") + 1])


def read_metrics(folder: Path) -> list[dict]:
    """Return the entries of a run's metrics.jsonl, without damaged lines."""
    path = folder / METRICS
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    return [entry for entry in map(read_entry, lines) if entry]


def read_entry(line: bytes) -> dict | None:
    """Return what a line of metrics.jsonl says, or None for a damaged one."""
    with suppress(ValueError, AttributeError, RecursionError):
        entry = json.loads(line)
        if {"step", "loss"} <= entry.keys() and all(
            isinstance(value, (int, float)) for value in entry.values()
        ):
            return entry
    return None
