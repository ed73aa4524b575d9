"""Files that are not what they should be: which one, and what it looks like instead."""

import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from llmlib.checks.values import require


class FileError(ValueError):
    """A file is damaged, missing or of another kind, or a tensor in it cannot be read.

    file, reason, and tensor: None if the file as a whole is meant.
    """

    def __init__(self, file: str | Path, reason: str, tensor: str | None = None):
        super().__init__(file, reason, tensor)  # all three, so that a copy can be pickled
        self.file, self.reason, self.tensor = Path(file), reason, tensor

    def __str__(self) -> str:
        tensor = "" if self.tensor is None else f"tensor {self.tensor!r}: "
        return f"{self.file}: {tensor}{self.reason}"


class MissingTensor(FileError, KeyError):
    """A checkpoint has no tensor of that name."""


@contextmanager
def blame(file: Path, tensor: str | None = None, about: str = "") -> Iterator[None]:
    """Turn what goes wrong in the block into a FileError that names file and tensor.

    about: what the reason begins with. It ends with what the file looks like instead.
    """
    try:
        yield
    except FileError:
        raise
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(file, about + reason + looks_like(file), tensor) from error


def looks_like(path: Path) -> str:
    """Return a sentence about what a file is instead, by how it begins, or an empty string."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            return ". It is a Git LFS pointer: fetch the file that it stands for"
        if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
            return ". It is a page that a server sent in its place: download the file again"
    return ""


OTHERS = {  # how files begin that hold JSON, if anything, in another form
    b"\x1f\x8b": "it is compressed by gzip, unpack it",
    b"PK\3\4": "it is a zip archive, unpack it",
    b"\xef\xbb\xbf": "it begins with a byte-order mark, save it as UTF-8 without one",
    b"\xff\xfe": "it is UTF-16, save it as UTF-8",
    b"\xfe\xff": "it is UTF-16, save it as UTF-8",
}


def not_json(data: bytes) -> str:
    """Return why bytes are not JSON, in words."""
    kinds = (kind for start, kind in OTHERS.items() if data.startswith(start))
    return f"it is not JSON in UTF-8: {next(kinds, 'it is damaged, or of another kind')}"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises FileError, saying what is there instead."""
    with blame(path):
        data = path.read_bytes()
        try:
            content = json.loads(data.decode())  # of bytes it would guess the encoding
        except (ValueError, RecursionError):
            raise ValueError(not_json(data)) from None
        require(isinstance(content, dict), "it is not a JSON object: it should begin with {")
        return content
