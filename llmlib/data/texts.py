"""Texts of every common form, read as a stream of documents, in bounded memory.

Written by hand.

    any file          UTF-8, or UTF-16 or UTF-32 with a byte-order mark
    .jsonl, .ndjson   a JSON object on each line, its text in a field; so has .json, as C4 does
    a folder          all files in it and below it, sorted by name

Each of them may be compressed by gzip, bzip2 or xz. A file is a document, and so is each line of
a .jsonl; a separator inside a text cuts it into several, as in the files of TinyStories.
Left out: other encodings, which are not guessed.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from llmlib import checks

SEPARATOR = "<|endoftext|>"
BLOCK = 2**20  # bytes that are read at a time
# Known by their first bytes, since names are wrong as often as right.
PACKED = {
    rb"\x1f\x8b": gzip.open,
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.open,
    rb"\xfd7zXZ\0": lzma.open,
}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def separator_of(given: str) -> str | None:
    r"""Return a separator that the command line spells with \n, \r, \t, \f; None for "none".

    Its lines end with "\n", as those of every text that was read.
    """
    for written, meant in {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\f": "\f"}.items():
        given = given.replace(written, meant)
    return None if given == "none" else given.replace("\r\n", "\n").replace("\r", "\n")


class Texts:
    """The documents of a file or folder; can be iterated over again and again.

    separator: cuts a text into documents (None: nothing does); up to two line breaks on each side
    of it go with it. text_field: where a line of a .jsonl has its text.

    Iterating yields (number of the document, a piece of its text): the pieces of a document, about
    BLOCK long, follow one another. n_separators: how many the last iteration met.
    Raises ValueError and OSError, here or while reading, for what is not a text.
    """

    def __init__(
        self, path: str | Path, separator: str | None = SEPARATOR, text_field: str = "text"
    ):
        self.path, self.separator, self.text_field = Path(path), separator, text_field
        self.n_separators = 0
        checks.text_place(self.path)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        self.n_separators, number, n_before = 0, 0, 0
        paths: Iterable[Path] = [self.path]
        if self.path.is_dir():
            paths = checks.texts_in_folder(self.path, files_in(self.path))
        for blocks in chain.from_iterable(map(self.units, paths)):
            for n_before, piece in cut(blocks, self.separator):
                yield number + n_before, piece
            self.n_separators += n_before
            number += n_before + 1

    def units(self, path: Path) -> Iterator[Iterable[str]]:
        """Yield the texts of a file, each in blocks: one, or that of each line of a .jsonl."""
        packed = {".gz", ".bz2", ".xz"}
        suffix = next((s for s in reversed(path.suffixes) if s.lower() not in packed), "")
        blocks = read_blocks(path)
        if suffix.lower() not in (".jsonl", ".ndjson", ".json"):
            yield blocks
            return
        first = next(blocks)
        checks.no_json_list(path, first)
        for number, line in enumerate(lines(chain([first], blocks)), 1):
            if line.strip():
                yield [checks.text_of_line(path, number, line, self.text_field)]


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below it, sorted, without hidden ones.

    While it looks for them: a whole disk is refused at its first file that is no text. Raises
    OSError for a folder that cannot be read, rather than leave out what is in it.
    """
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if path.is_dir() and (path == folder or not path.is_symlink()):
            shown = (below for below in path.iterdir() if not below.name.startswith("."))
            waiting += sorted(shown, reverse=True)
        elif path.is_file():
            yield path


def read_blocks(path: Path) -> Iterator[str]:
    r"""Yield the text of a file block by block, without a byte-order mark, "\n" after every line.

    Raises ValueError for what is not text, naming the first wrong byte.
    """
    n_characters, newlines = 0, io.IncrementalNewlineDecoder(None, translate=True)
    has_returns = False  # without them, the text would be copied for nothing
    with open(path, "rb") as raw, checks.readable_text(path), unpacked(raw) as file:
        block = file.read(BLOCK + 3)  # at least a whole byte-order mark
        checks.no_archive(block[:512], was_unpacked=file is not raw)
        decoder = decoder_for(block)
        text = decode(path, decoder, block, 0)
        if block.startswith(codecs.BOM_UTF8):  # the other encodings take their own marks away
            text = text.removeprefix("\ufeff")
        n_bytes = len(block)
        while True:
            has_returns = has_returns or "\r" in text
            text = newlines.decode(text, final=not block) if has_returns else text
            checks.no_zero(path, text, n_characters)
            n_characters += len(text)
            yield text
            if not block:
                return
            block = file.read(BLOCK)
            text = decode(path, decoder, block, n_bytes)
            n_bytes += len(block)


def unpacked(raw: IO[bytes]) -> Any:
    """Return a file that decompresses an opened one, or that one itself."""
    start = raw.read(512)
    raw.seek(0)
    checks.no_archive(start)
    opener = next((opener for magic, opener in PACKED.items() if re.match(magic, start)), None)
    return opener(raw) if opener else raw


def decoder_for(start: bytes) -> codecs.IncrementalDecoder:
    """Return a decoder of the encoding that the first bytes of a text announce, or of UTF-8."""
    names = (name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark))
    return codecs.getincrementaldecoder(next(names, "utf-8"))()


def decode(path: Path, decoder: codecs.IncrementalDecoder, block: bytes, n_before: int) -> str:
    """Decode a block that n_before bytes precede; an empty one ends the text."""
    pending = len(decoder.getstate()[0])  # bytes of a character that the last block began
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        raise checks.not_decodable(path, error, n_before - pending) from None


def lines(blocks: Iterable[str]) -> Iterator[str]:
    r"""Yield the lines of a text without their ends, which are "\n" and nothing else."""
    parts: list[str] = []
    for block in blocks:
        first, *others = block.split("\n")
        parts.append(first)
        for line in others:
            yield "".join(parts)
            parts = [line]
    yield "".join(parts)


def cut(blocks: Iterable[str], separator: str | None) -> Iterator[tuple[int, str]]:
    """Cut a text, given in blocks, at a separator: yield (number of separators before, piece).

    There is a piece, which may be empty, before, after and between separators.
    """
    if separator is None:
        yield 0, ""
        yield from ((0, block) for block in blocks)
        return
    number, rest, follows = 0, "", False  # follows: whether rest begins right behind a separator
    hold = len(separator) + 2  # what may be the beginning of one, or the line breaks before it
    for block in blocks:
        *whole, rest = (rest + block).split(separator)
        for text in whole:
            yield number, trim(text, follows, True)
            number, follows = number + 1, True
        if len(rest) > 2 * hold:
            yield number, trim(rest[:-hold], follows, False)
            rest, follows = rest[-hold:], False
    yield number, trim(rest, follows, False)


def trim(text: str, left: bool, right: bool) -> str:
    """Take up to two line breaks from the sides of a text."""
    for _ in range(2):
        text = text.removeprefix("\n") if left else text
        text = text.removesuffix("\n") if right else text
    return text
