"""Files that are written whole or not at all, and the folder of the course.

Written by hand, and the only place that writes beside and renames: a reader of a file sees the
old content or the new, never half of one, even when the process is killed or the disk runs full.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`; when the block ends, nothing has that name any more."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink()
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; when the block ends, it takes the place of `path`.

    The content is on the disk before the name is. If the block raises, the old file stays as it is
    and nothing is left beside it.
    """
    path = Path(path)
    with temporary(path) as part:
        yield part
        # first the content, then the name: a rename must not overtake it
        for file in filter(Path.is_file, [part, *part.rglob("*")]):
            flush(file)
        os.replace(part, path)
        flush_folder(path.parent)


@contextmanager
def making_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; when the block ends, it is renamed to `path`.

    If the block raises, nothing is left. Raises FileExistsError if `path` is there already.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists: remove it, or name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        shutil.rmtree(part, ignore_errors=True)  # of a killed process that had our number
        part.mkdir()
        yield part


def write_named_by_hash(
    folder: Path, name: str, suffix: str, write: Callable[[Path], object]
) -> tuple[Path, str]:
    """Write a file whose name says what it holds; return its path and its SHA-256.

    The path is folder/NAME-DIGITS.SUFFIX with the first 16 digits of the hash, so that new content
    never takes the place of old content. `write` fills the path that it is given.
    """
    with temporary(folder / name) as part:
        write(part)
        flush(part)
        digest = sha256(part)
        path = folder / f"{name}-{digest[:16]}.{suffix}"
        os.replace(part, path)
    return path, digest


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8 with \\n at the end of lines, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: object, indent: int | None = None) -> None:
    """Write JSON, whole or not at all. Raises TypeError or ValueError for what JSON cannot say."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False))


def flush(path: Path) -> None:
    """Wait until the disk has the content of a file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder; Windows cannot do this, and need not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def home() -> Path:
    """Return the folder that holds data/ and gpt2/, and takes downloads.

    It is $LLMLIB_HOME, or else the checkout of the course, or else, for an installed package, a
    folder in the user's cache, which is made. Raises FileNotFoundError if $LLMLIB_HOME does not
    hold the two.
    """
    chosen = os.environ.get("LLMLIB_HOME")
    checkout = Path(__file__).resolve().parents[1]
    folder = Path(chosen).expanduser().resolve() if chosen else checkout
    if (folder / "data").is_dir() and (folder / "gpt2").is_dir():
        return folder
    if chosen:
        raise FileNotFoundError(
            f"LLMLIB_HOME is {chosen!r}, which does not hold data/ and gpt2/: set it to your "
            "checkout of the course, or make the two folders in it"
        )
    folder = user_cache()
    for name in ("data", "gpt2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def user_cache() -> Path:
    """Return the folder for llmlib's files in the cache of the user, as the system names it."""
    windows, linux = os.environ.get("LOCALAPPDATA"), os.environ.get("XDG_CACHE_HOME")
    places = {"win32": windows or "~/AppData/Local", "darwin": "~/Library/Caches"}
    return Path(places.get(sys.platform, linux or "~/.cache"), "llmlib").expanduser()


def shipped(name: str) -> Path:
    """Return the place of a file or folder that ships, such as "gpt2/vocab.bpe".

    It is the one in `home()`; an installed package falls back to the copy that its wheel brought
    (setup.py puts it there).
    """
    place, copy = home() / name, Path(__file__).resolve().parent / "shipped" / name
    return copy if not place.exists() and copy.exists() else place
