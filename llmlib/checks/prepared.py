"""Prepared folders: texts to divide, files that vouch for each other, texts that are too short."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from errno import EIO
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError
from llmlib.checks.values import require

AGAIN = "it is damaged, so prepare the text again: "


def some_text(name: object, n_documents: int, n_written: int) -> None:
    """Raise ValueError for texts in which nothing stands."""
    where = f", in {n_documents:,} documents" if n_documents > 1 else ""
    require(n_written, f"{name} is empty{where}: there is nothing to learn from")


def both_parts(place: int, found: Any) -> None:
    """Raise ValueError for a text (a Survey of it) that cannot be cut where words stand around."""
    require(
        found.first < place < found.last,
        f"a text of {found.length:,} characters is too short to be divided into one to train on "
        "and one to validate on: give a longer one",
    )


def same_size(path: Path, size: int) -> None:
    """Raise OSError if a file is shorter than what was written to it."""
    if (found := path.stat().st_size) != size:
        raise OSError(EIO, f"only {found:,} of {size:,} bytes reached the disk", str(path))


@contextmanager
def prepared_file(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a prepared file is read into a FileError.

    NumPy's reader of headers raises errors of many kinds, up to those of Python's own parser.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(path, f"{AGAIN}{' '.join(str(reason).split())[:100]}") from error


def same_hash(path: Path, found: str, expected: str | None) -> None:
    """Raise FileError unless a file has the hash that data.json knows, if it knows one."""
    if expected not in (found, None):
        raise FileError(path, f"{AGAIN}it is not the file that data.json beside it speaks of")


def prepared_about(path: Path, about: dict, digest: str, tokenizers: Collection[str]) -> None:
    """Raise FileError unless a data.json says what it said when it was written, and all of it."""
    is_count = {
        "n_documents": lambda n: n > 0, "n_tokens": lambda n: n > 0,
        "n_bytes": lambda n: n >= 0, "n_unknown": lambda n: n >= 0,
    }  # fmt: skip
    with prepared_file(path):
        require(about["version"] == 1 or about["sha256"] == digest, "it has been changed")
        require(about["tokenizer"] in tokenizers, f"tokenizer is {about['tokenizer']!r}")
        require(about["rows"] in ("windows", "documents"), f"rows is {about['rows']!r}")
        has_floor = about["version"] == 1 or "val_nats_sha256" in about
        require(has_floor or about["rows"] == "windows", "it has no hash of val_nats.npy")
        for name in ("corpus", "vocab_size", "end_of_text"):
            require(type(about[name]) is (str if name == "corpus" else int), f"{name} is no such")
        for part in ("train", "val"):
            require(isinstance(about[part]["sha256"], str), f"the sha256 of {part} is no text")
            for name, fits in is_count.items():
                n = about[part][name]
                require(type(n) is int and fits(n), f"{name} of {part} is {n!r}")


def prepared_tokenizer(path: Path, about: dict, tokenizer: Any, end_of_text: int | None) -> None:
    """Raise FileError unless data.json and the tokenizer beside it agree."""
    for name, said, found in (
        ("vocab_size", about["vocab_size"], tokenizer.vocab_size),
        ("end_of_text", about["end_of_text"], end_of_text),
    ):
        if said != found:
            raise FileError(path, f"{AGAIN}{name} is {said} in data.json and {found} in it")


def windows_fit(n_tokens: int, context_length: int, batch_size: int, world: int) -> None:
    """Raise ValueError, with flags that work, if windows of a text do not fill one batch."""
    n_windows = (n_tokens - 1) // context_length
    if n_windows >= batch_size:
        return
    fewer = min(batch_size, n_windows // world * world) or world
    shorter = min(context_length, (n_tokens - 1) // fewer)
    flags = [f"--context-length {shorter}"] * (shorter < context_length)
    flags += [f"--batch-size {fewer}"] * (fewer < batch_size)
    advice = f"give {' '.join(flags)}, or a longer text" if shorter else "give a longer text"
    raise ValueError(
        f"the {n_tokens:,} tokens to train on do not fill one batch (--batch-size {batch_size}) of "
        f"windows with a target (--context-length {context_length}): {advice}"
    )


def rows_fit(longest: int, n_rows: int, context_length: int, batch_size: int) -> None:
    """Raise ValueError if a story, with its end, is too long, or all do not fill one batch."""
    if longest + 1 > context_length:
        raise ValueError(
            f"--context-length is {context_length}, but the longest story with its <|endoftext|> "
            f"has {longest + 1} tokens: give --context-length {longest + 1} or more"
        )
    if n_rows < batch_size:
        raise ValueError(
            f"{n_rows} stories to train on do not fill one batch (--batch-size {batch_size}): "
            f"give --batch-size {n_rows}, or prepare more stories with --stories"
        )
