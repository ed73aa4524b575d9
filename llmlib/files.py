"""Files that are written whole or not at all, and the folder of the course.

Written by hand, and the only place that writes beside and renames: a reader of a file sees the
old content or the new, never half of one, even when the process is killed or the disk runs full.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield a free name beside `path`; when the block ends, nothing has that name any more.

    What a process that was killed left under such a name of `path` is removed first.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    remove_leftovers(path)
    remove(part)  # of a killed process that had our number
    try:
        yield part
    finally:
        remove(part)


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link but not what it points to, if it is there and can be."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove NAME.PID.part beside a path of that name, where PID is of a process that is gone."""
    with suppress(OSError):
        for part in path.parent.iterdir():
            found = re.fullmatch(re.escape(path.name) + r"\.(\d+)\.part", part.name)
            if found and not is_running(int(found[1])):
                remove(part)


def is_running(process: int) -> bool:
    """Return whether there is a process of that number; on Windows, which cannot be asked, yes."""
    try:
        if sys.platform != "win32":
            os.kill(process, 0)  # signal 0 only asks; on Windows it would be Ctrl-C
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to somebody else
        pass
    return True


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; when the block ends, it takes the place of `path`.

    The content is on the disk before the name is. If the block raises, the old file stays as it is
    and nothing is left beside it.
    """
    path = Path(path)
    with temporary(path) as folder, naming(path):
        folder.mkdir()  # some writers leave files under other names when they are killed
        part = folder / path.name
        yield part
        # first the content, then the name: a rename must not overtake it
        for file in filter(Path.is_file, [part, *part.rglob("*")]):
            flush(file)
        os.replace(part, path)
        flush_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError of the block the name of a file, if it names none: a full disk's does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def making_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; when the block ends, it is renamed to `path`.

    If the block raises, nothing is left. Raises FileExistsError if `path` is there already.
    """
    path = Path(path)
    if os.path.lexists(path):  # also a link to nothing
        raise FileExistsError(f"{path} exists: remove it, or name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.mkdir()
        yield part


def write_named_by_hash(
    folder: Path, name: str, suffix: str, write: Callable[[Path], object]
) -> tuple[Path, str]:
    """Write a file whose name says what it holds; return its path and its SHA-256.

    The path is folder/NAME-DIGITS.SUFFIX with the first 16 digits of the hash, so that new content
    never takes the place of old content. `write` fills the path that it is given.
    """
    with temporary(folder / name) as beside:
        beside.mkdir()
        part = beside / name
        write(part)
        flush(part)
        checksum = sha256(part)
        path = folder / f"{name}-{checksum[:16]}.{suffix}"
        os.replace(part, path)
    return path, checksum


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8 with \\n at the end of lines, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: object, indent: int | None = None) -> None:
    """Write JSON, whole or not at all. Raises TypeError or ValueError for what JSON cannot say."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False))


def digest(content: object) -> str:
    """Return the SHA-256 of what a JSON value says, whatever its spaces and the order of its keys.

    Raises TypeError or ValueError for what JSON cannot say.
    """
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return hashlib.sha256(text.encode()).hexdigest()


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
