"""Corpora, windows of tokens, downloads."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from llmlib.checks.values import require, suggest, whole_number


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


def fills_batch(what: str, n: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if a loader of `n` windows, or of `n` documents, would have no batch."""
    whole_number("batch_size", batch_size)
    more = {"windows": "a longer text, a smaller stride", "documents": "more documents"}[what]
    if drop_last and n < batch_size:
        raise ValueError(
            f"{n} {what} do not fill one batch of {batch_size}: "
            f"give {more}, a smaller batch_size, or drop_last=False"
        )


def divisible(documents: Sequence[str], val_fraction: float) -> None:
    """Raise TypeError or ValueError unless there are two different documents to divide."""
    if isinstance(documents, str):
        raise TypeError(
            "split takes a list of documents; divide one long text with text.split('\\n\\n')"
        )
    require(0 < val_fraction < 1, f"val_fraction must lie between 0 and 1, not at {val_fraction}")
    if (n_distinct := len(set(documents))) < 2:
        raise ValueError(
            f"{n_distinct} different documents cannot be divided: give at least two, "
            "for example the paragraphs of a text, text.split('\\n\\n')"
        )


def corpus(name: object, known: Collection[str]) -> None:
    """Raise TypeError or ValueError for a name that is neither a corpus nor a file."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a corpus is a name or a path, not {name!r}")
    is_path = Path(name).exists() or not re.fullmatch(r"[\w -]*", str(name))
    if name == "" or not (name in known or is_path):
        hint = suggest(str(name).lower(), known)
        raise ValueError(
            f"no corpus {str(name)!r}: {hint}, and the path of any text file works too"
        )
