"""Word vectors: in the container, compared, and asked for by name."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmlib.checks.values import require, suggest, whole_number


def finite(x: torch.Tensor) -> torch.Tensor:
    """Return vectors. Raises ValueError if a component is NaN or infinite."""
    # the sum is quick, and it can overflow although all components are finite
    fits = torch.isfinite(x.sum()) or torch.isfinite(x).all()
    require(fits, "a vector holds NaN or infinite numbers: it has no direction")
    return x


def same_components(a: torch.Tensor, b: torch.Tensor) -> None:
    """Raise ValueError for vectors of different lengths; broadcasting would hide some of them."""
    if a.shape[-1:] != b.shape[-1:]:
        raise ValueError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)}: vectors need equally many components"
        )


def row_for_each_word(words: Sequence[str], matrix: np.ndarray) -> None:
    """Raise ValueError unless a finite matrix has a row for each word, and no word occurs twice."""
    fits = matrix.ndim == 2 and len(matrix) == len(words) and matrix.size
    sizes = f"{len(words)} words and a matrix of shape {matrix.shape}"
    require(fits, f"{sizes}: give one row for each word")
    if len(set(words)) < len(words):
        raise ValueError(f"the word {Counter(words).most_common(1)[0][0]!r} occurs twice")
    require(np.isfinite(matrix).all(), "the matrix holds NaN or infinite numbers")


def known_word(word: object, rows: Mapping[Any, int]) -> int:
    """Return the row of a word. Raises KeyError, with the nearest spelling, for an unknown one."""
    if not isinstance(word, str):
        raise TypeError(f"a word is a string, not {word!r}")
    if word not in rows:
        # frequent words come first; in millions, a search by spelling would take minutes
        near = get_close_matches(word, list(islice(rows, 20_000)), n=1)
        hint = f": did you mean {near[0]!r}?" if near else f" among these {len(rows):,}"
        raise KeyError(f"no vector for {word!r}{hint}")
    return rows[word]


def neighbours(query: torch.Tensor, size: int, k: int, available: int) -> None:
    """Raise ValueError for a query that is not (size,), or k out of range."""
    require(query.shape == (size,), f"shape {tuple(query.shape)}: these vectors are ({size},)")
    require(1 <= k <= available, f"k is {k}: there are {available} words to choose from")


def skip_gram(words: Sequence[str], emb_dim: int) -> None:
    """Raise ValueError for fewer than two words, a word that repeats, or an emb_dim below 1."""
    whole_number("emb_dim", emb_dim)
    fits = 2 <= len(words) == len(set(words))
    require(fits, f"{len(words)} words: give at least two, each of them once")


def word_lists(documents: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return documents. Raises TypeError for one that was not split into words."""
    if any(isinstance(document, str) for document in documents):
        raise TypeError("a document is a list of words, not a string: split it with to_words")
    return documents


def positive(frequencies: torch.Tensor) -> torch.Tensor:
    """Return frequencies. Raises ValueError if there is none, or one that is not above 0."""
    fits = frequencies.numel() and (frequencies > 0).all()
    require(fits, "noise needs frequencies above 0, one for each word")
    return frequencies


def questions(asked: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return questions. Raises ValueError unless there are some, each of four words."""
    if not len(asked) or any(len(question) != 4 for question in asked):
        raise ValueError("give at least one question, each of four words: a is to b as c is to d")
    return asked


def points(x: torch.Tensor, k: int) -> None:
    """Raise ValueError unless x is finite points (N, C) that differ, with at least k directions."""
    fits = x.ndim == 2 and len(x) >= 2 and torch.isfinite(x).all()
    require(fits, f"shape {tuple(x.shape)}: give two or more finite vectors (N, C)")
    if not 1 <= k <= min(x.shape):
        raise ValueError(
            f"k is {k}: {len(x)} points in {x.shape[1]} dimensions allow 1 to {min(x.shape)}"
        )
    require((x != x[0]).any(), "all points are the same: no direction explains anything")


def word_vector_path(path: Path, known: Sequence[str]) -> Path:
    """Return the path of a file of word vectors; raises what fits a folder or unknown name."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file of word vectors in it")
    if path.exists():
        return path
    if len(path.parts) > 1 or path.suffix:
        raise FileNotFoundError(f"there is no file {path}")
    hint = suggest(path.name, known)
    raise ValueError(f"no word vectors are called {path.name!r}: {hint}, or give a path")


@contextmanager
def network(what: str, instead: str) -> Iterator[None]:
    """Turn any exception of the block into a ConnectionError that says what can be done."""
    try:
        yield
    except Exception as error:  # gensim raises bare Exceptions, too
        raise ConnectionError(
            f"{what} could not be fetched ({error}): try again with a network, or {instead}"
        ) from error
