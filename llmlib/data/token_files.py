"""Arrays in .npy files: written piece by piece and vouched for, or mapped into memory to be read.

Written by hand. `np.save` needs the whole array, and does not notice when its last bytes do not
reach the disk. The hash of an array is that of its numbers, without the file's header.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from llmlib import checks, files


class ArrayWriter:
    """Write numbers to a new .npy file, as a context manager: `append` them, then it is complete.

    dtype: of the numbers. n and sha256: of what was written. Raises OSError with the file's name if
    not all of it reaches the disk.
    """

    def __init__(self, path: str | Path, dtype: object):
        self.path, self.dtype, self.n = Path(path), np.dtype(dtype), 0
        self.digest = hashlib.sha256()
        self.file = open(path, "wb")  # noqa: SIM115, as it is closed by __exit__
        self.write_header()

    def write_header(self) -> None:
        """Write the header; it has room for any number, so that it can be written again."""
        about = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.n,)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, about)

    def append(self, numbers: np.ndarray) -> None:
        """Write more numbers (N,)."""
        octets = numbers.astype(self.dtype, copy=False).tobytes()
        with files.naming(self.path):
            self.file.write(octets)
        self.digest.update(octets)
        self.n += len(numbers)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            with suppress(OSError):  # of what was to be written still
                self.file.close()
            return
        with files.naming(self.path):
            size = self.file.tell()
            self.write_header()
            self.file.close()
            checks.same_size(self.path, size)

    @property
    def sha256(self) -> str:
        return self.digest.hexdigest()


def write_array(path: str | Path, array: np.ndarray) -> str:
    """Write an array (N,) to a .npy file, and return its SHA-256."""
    with ArrayWriter(path, array.dtype) as file:
        file.append(array)
    return file.sha256


def read_array(path: Path, dtype: object, n: int, sha256: str | None) -> np.ndarray:
    """Return the array (n,) of a .npy file, mapped into memory.

    sha256: of its numbers; they are read once to compare. Raises FileError for a file that is
    missing, damaged or holds another array.
    """
    with checks.prepared_file(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        checks.require(array.dtype == dtype, f"it holds {array.dtype}, not {np.dtype(dtype)}")
        checks.require(array.shape == (n,), f"it holds {array.size:,} numbers, not {n:,}")
        start = os.path.getsize(path) - array.nbytes
        checks.require(array.offset == start, "it has bytes behind its numbers")
        if sha256 is not None:
            digest = hashlib.sha256()
            with open(path, "rb") as file:  # not through the map: its pages would stay in memory
                file.seek(start)
                while block := file.read(2**20):
                    digest.update(block)
            checks.require(digest.hexdigest() == sha256, "its numbers are not those of data.json")
    return array
