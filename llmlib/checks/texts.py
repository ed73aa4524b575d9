"""Files that should hold text: what they are instead, and where the first fault stands."""

import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError
from llmlib.checks.values import require


def text_place(path: Path) -> Path:
    """Return a path. Raises FileNotFoundError or ValueError unless it is a file or a folder."""
    if not path.exists():
        raise FileNotFoundError(
            f"no file {path}: check the path, which starts from {Path.cwd()}; a file that ships "
            "with the course comes back with git checkout"
        )
    if not (path.is_file() or path.is_dir()):
        raise ValueError(
            f"{path} is a pipe or a device, whose text cannot be read twice: save it in a file"
        )
    return path


def texts_in_folder(folder: Path, found: Iterator[Path]) -> Iterator[Path]:
    """Return the files found in a folder. Raises ValueError for none, a run, prepared tokens."""
    if (folder / "config.yaml").is_file() and (folder / "latest").is_dir():
        raise ValueError(f"{folder} is a run, not a folder of texts: go on with it by --resume")
    if (folder / "data.json").is_file() and (folder / "train.npy").is_file():
        raise ValueError(f"{folder} holds tokens, made by `llmlib prepare`, and no texts")
    first = next(found, None)
    if first is None:
        raise ValueError(f"{folder} holds no text, and no data.json, as a prepared folder would")
    return chain([first], found)


ARCHIVES = {
    b"PK\3\4": "a zip archive, as .docx, .xlsx and .epub are: unpack it, or save it as plain text",
    b"%PDF-": "a PDF: save it as plain text",
    b"{\\rtf": "rich text: save it as plain text",
    b"\xd0\xcf\x11\xe0": "an old Office document, as .doc and .xls are: save it as plain text",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it with `unzstd`",
    b"\x5d\0\0": "compressed in the old form of xz: unpack it with `unlzma`",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!\x1a": "a rar archive: unpack it",
    b"PAR1\x15": "a Parquet table: save it as .jsonl",
    b"\xff\xff\xff\xff": "an Arrow table: save it as .jsonl",
    b"ARROW1\0": "an Arrow table: save it as .jsonl",
    b"SQLite format 3\0": "an SQLite database: save its texts as .jsonl",
    b"\x93NUMPY": "an array of NumPy, not a text",
    b"\x80\4": "a pickle of Python, not a text",
    b"\x89PNG": "a picture, not a text",
    b"\xff\xd8\xff": "a picture, not a text",
    b"\x7fELF": "a program, not a text",
}
TWICE = dict.fromkeys((b"\x1f\x8b", b"BZh91AY&SY", b"\xfd7zXZ"), "compressed twice: unpack it once")


def no_archive(start: bytes, was_unpacked: bool = False) -> None:
    """Raise ValueError if a file begins as something that has to be unpacked or converted."""
    for magic, what in (ARCHIVES | (TWICE if was_unpacked else {})).items():
        require(not start.startswith(magic), f"it is {what}")
    is_tar = start[257:262] == b"ustar"
    require(not is_tar, "it is a tar archive: unpack it, and give the folder of what was in it")


def no_json_list(path: Path, start: str) -> None:
    """Raise FileError for JSON that is one list, not an object on each line."""
    if start.lstrip().startswith("["):
        why = "it is a JSON list: write an object on each line, as `jq -c '.[]'` does"
        raise FileError(path, f"{why}, and call it .jsonl")


@contextmanager
def readable_text(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a text is read or decompressed into a FileError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise FileError(path, f"it is damaged, or was cut short: {error}") from None
    except ValueError as error:
        raise error if isinstance(error, FileError) else FileError(path, str(error)) from None
    except OSError as error:
        if error.errno is not None:  # the system's
            error.filename = error.filename or str(path)
            raise
        raise FileError(path, f"it is damaged, or was cut short: {error}") from None


def not_decodable(path: Path, error: UnicodeDecodeError, n_before: int) -> FileError:
    """Return the error for bytes that are not in the encoding of a text."""
    place, byte = n_before + error.start, error.object[error.start]
    known = error.encoding.replace("-le", "").replace("-be", "").upper()
    reason = f"it is not {known}: byte {place:,} is {byte:#04x}. "
    if known == "UTF-8":
        reason += (
            'Save it as UTF-8 in an editor, or read it with path.read_text(encoding="...") if you '
            "know its encoding (latin-1 and cp1252 are common) and write it back"
        )
    else:
        reason += f"Its byte-order mark says {known}, but it is damaged or was cut short"
    return FileError(path, reason)


def no_zero(path: Path, text: str, n_before: int) -> None:
    """Raise FileError if a text holds a character that is a zero, which no text does."""
    if (place := text.find("\0")) >= 0:
        raise FileError(
            path,
            f"it is not text: character {n_before + place:,} is a zero. If it is UTF-16, save it "
            "with a byte-order mark, or as UTF-8",
        )


def text_of_line(path: Path, number: int, line: str, field: str) -> str:
    """Return the text in a line of a .jsonl. Raises FileError, naming the line."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        why = f"line {number:,} is not JSON: {error.msg}. Each line has to hold a whole object"
        raise FileError(path, why) from None
    except (ValueError, RecursionError):  # a number of 5,000 digits, or 100,000 brackets
        raise FileError(path, f"line {number:,} is not JSON that can be read") from None
    if not isinstance(record, dict):
        raise FileError(path, f"line {number:,} is not a JSON object, such as {{{field!r}: …}}")
    if not isinstance(text := record.get(field), str):
        there = ", ".join(sorted(name for name, value in record.items() if isinstance(value, str)))
        raise FileError(
            path,
            f"line {number:,} has no text in the field {field!r}: give text_field another name. "
            f"It has texts in: {there[:100] or 'no field'}",
        )
    # half a character, which only an escape can spell, becomes U+FFFD, as in tiktoken
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@contextmanager
def lives(process: Any) -> Iterator[None]:
    """Turn a broken pipe to a process into ChildProcessError."""
    try:
        yield
    except (EOFError, ConnectionError):
        process.join()
        raise ChildProcessError(
            f"a process that worked on the text was ended from outside ({process.exitcode}): "
            "did memory run out?"
        ) from None
