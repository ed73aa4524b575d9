"""Corpora, windows of tokens, downloads."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from llmlib.checks.values import number, whole_number


def token_array(array: np.ndarray) -> np.ndarray:
    """Return an array. Raises ValueError or TypeError unless it is one sequence of ids from 0."""
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"token ids must be one sequence of at least one id, not of shape {array.shape}"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, not {array.dtype}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise ValueError(f"token ids start at 0, but {array.min()} is among them")
    return array


def npy_file(path: str | Path) -> None:
    """Raise ValueError for a path that does not name a .npy file."""
    if Path(path).suffix != ".npy":
        raise ValueError(f"{str(path)!r} is neither token ids nor a .npy file: encode a text first")


def window_fits(n_tokens: int, max_length: int, stride: int) -> None:
    """Raise ValueError for sizes below 1, and for a text shorter than a window and its target."""
    whole_number("max_length", max_length)
    whole_number("stride", stride)
    if n_tokens < max_length + 1:
        raise ValueError(
            f"a window of {max_length} inputs and one more target needs {max_length + 1} "
            f"tokens, but there are {n_tokens}: take a longer text or a smaller max_length"
        )


def window_batches(n_windows: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if windows do not fill a single batch."""
    whole_number("batch_size", batch_size)
    if drop_last and n_windows < batch_size:
        raise ValueError(
            f"{n_windows} windows do not fill one batch of {batch_size}: "
            "take a longer text, a smaller batch_size or stride, or drop_last=False"
        )


def divisible(documents: Sequence[str], val_fraction: float) -> None:
    """Raise TypeError or ValueError unless there are two different documents to divide."""
    if isinstance(documents, str):
        raise TypeError(
            "split takes a list of documents; divide one long text with text.split('\\n\\n')"
        )
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must lie between 0 and 1, not at {val_fraction}")
    if (n_distinct := len(set(documents))) < 2:
        raise ValueError(
            f"{n_distinct} different documents cannot be divided: give at least two, "
            "for example the paragraphs of a text, text.split('\\n\\n')"
        )


def download(
    urls: Sequence[object],
    sha256: str | None,
    size: int | None,
    timeout: float,
    tries: int,
    pause: float,
) -> None:
    """Raise TypeError or ValueError for arguments of `fetch` that make no sense."""
    if not urls:
        raise ValueError("no address to download from: give at least one URL")
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"a URL is a string, not {url!r}")
        if not re.match(r"https?://[^/]", url, re.IGNORECASE):
            raise ValueError(f"{url!r} is not an address: it has to begin with https:// or http://")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 is {sha256!r}: it must be 64 hexadecimal digits")
    if size is not None:
        whole_number("size", size, least=0)
    whole_number("tries", tries)
    number("timeout", timeout, lambda x: x >= 0.001, "of at least 0.001 seconds")
    number("pause", pause, lambda x: x >= 0, "of at least 0 seconds")


def corpus(name: object, known: Collection[str]) -> None:
    """Raise TypeError or ValueError for a name that is neither a corpus nor a file."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a corpus is a name or a path, not {name!r}")
    is_path = Path(name).exists() or not re.fullmatch(r"[\w -]*", str(name))
    if name == "" or not (name in known or is_path):
        near = get_close_matches(str(name).lower(), known, n=1)
        raise ValueError(
            f"no corpus {str(name)!r}{f', did you mean {near[0]!r}' if near else ''}: "
            f"there are {', '.join(known)}, and the path of any text file works too"
        )


def text_path(path: Path) -> None:
    """Raise IsADirectoryError for a folder, and FileNotFoundError for a missing file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of one text file")
    if not path.exists():
        raise FileNotFoundError(
            f"no file {path}: check the path, which starts from {Path.cwd()}; a file that ships "
            "with the course comes back with git checkout"
        )


@contextmanager
def utf8_file(path: Path) -> Iterator[None]:
    """Turn the failed decoding of a file into a ValueError that says what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}. Save "
            'it as UTF-8 in an editor, or read it with path.read_text(encoding="...") if you know '
            "its encoding (latin-1, cp1252 and utf-16 are common) and write it back"
        ) from None


def text_content(path: Path, text: str) -> None:
    """Raise ValueError for a text with zeros in it, or with nothing but white space."""
    if "\0" in text:
        raise ValueError(f"{path} is not text: character {text.index(chr(0)):,} is a zero")
    if not text.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from")
