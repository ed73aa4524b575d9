"""Word vectors in files: word2vec's two forms and GloVe's, and those that gensim can download.

Written by hand. A file is read as gensim reads it, or refused with the reason; where gensim would
go on in silence with less than the file holds (repeated words, rows beyond the announced number,
lost bytes), it is refused, too.

    text      a line "WORDS DIMENSIONS", then a line "word 0.1 0.2 …" for each word
    binary    the same first line, then "word ", and the vector as float32, for each word
    GloVe's   the text form without its first line

A word may hold spaces in the text forms: the last fields of its line are the vector. The numbers
grow in memory as they are read: what the first line announces is compared with them, not believed.

Shapes: V words, C dimensions.
"""

import bz2
import gzip
import lzma
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gensim import downloader
from gensim.models import KeyedVectors

from llmlib import checks

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PIECE = 1 << 20  # bytes of a binary file that are read at once

Header = tuple[int, int]  # words, dimensions
Table = tuple[list[str], array]  # V words and V * C numbers


def read_word_vectors(path: str | Path) -> KeyedVectors:
    """Return the vectors in a file of any of the three forms, packed if it ends in .gz, .bz2, .xz.

    Raises FileError if it is of another kind, damaged or cut short.
    """
    path = Path(path)
    with checks.blame(path):
        with open_unpacked(path) as file:
            start = file.read(1 << 16) + file.readline(checks.LONGEST)  # whole lines
        header, form = read_header(start), form_of(start)
        checks.vector_file(start, header is not None)
        with open_unpacked(path) as file:
            if header:
                file.readline()
            words, numbers = (read_binary if form == "binary" else read_text)(file, header)
        return put_together(words, numbers, form)


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file for reading its bytes, unpacked."""
    return OPENERS.get(path.suffix.lower(), open)(path, "rb")


def read_header(start: bytes) -> Header | None:
    """Return how many words and dimensions the first line of a file announces, None without that.

    Raises ValueError for numbers that no file can have.
    """
    try:
        count, size = (int(field.decode()) for field in start.partition(b"\n")[0].split())
    except ValueError:
        return None
    checks.announced(count, size)
    return count, size


def form_of(start: bytes) -> str:
    """Return the form of a file by its beginning: "text", "binary" or "glove".

    Binary is what has a header, behind it no line of text, and bytes that no text has.
    """
    header, rest = read_header(start), start.partition(b"\n")[2]
    if not header:
        return "glove"
    fields = rest.partition(b"\n")[0].rstrip().decode(errors="replace").split(" ")
    is_line = len(fields) == header[1] + 1 and all(map(checks.is_number, fields[1:]))
    return "text" if is_line or checks.is_text(rest) else "binary"


def read_text(file: BinaryIO, header: Header | None) -> Table:
    """Return words and numbers of a text file whose header, if there is one, was read."""
    count, size = header or (None, 0)
    words, numbers = [], array("f")
    lines = iter(partial(file.readline, checks.LONGEST), b"")
    for number, line in enumerate(lines, 2 if header else 1):
        with checks.line_of_file(number):
            if len(words) == count:
                checks.blank(line, count)
                continue
            # gensim takes white space from the end alone, and divides at single spaces
            fields = line.rstrip().decode().split(" ")
            size = size or checks.vector_size(fields)
            if len(fields) != size + 1:
                checks.word_with_spaces(fields, size)
            words.append(" ".join(fields[:-size]))
            numbers.extend(map(float, fields[-size:]))
    checks.whole_vectors(len(words), count)
    return words, numbers


def read_binary(file: BinaryIO, header: Header | None) -> Table:
    """Return words and numbers of a binary file whose header was read, if it ends where it says."""
    count, size = header or (0, 0)
    words: list[bytes] = []
    numbers, rest, length = array("f"), b"", 4 * size
    for piece in pieces(file):
        rest, start = rest + piece, 0
        while len(words) < count and (space := rest.find(b" ", start)) >= 0:
            if (end := space + 1 + length) > len(rest):
                break
            words.append(rest[start:space])
            numbers.frombytes(rest[space + 1 : end])
            start = end
        rest = rest[start:]
        checks.rest_of_binary(rest, count - len(words))
    checks.whole_vectors(len(words), count)
    return checks.binary_words(words, rest), numbers


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield what follows in a file, piece by piece."""
    return iter(partial(file.read, PIECE), b"")


def put_together(words: list[str], numbers: array, form: str) -> KeyedVectors:
    """Return gensim's container of words and numbers, with the counts that gensim invents."""
    matrix = np.frombuffer(numbers, np.float32).reshape(len(words), -1)  # (V, C), not copied
    rows = {word: row for row, word in enumerate(words)}
    checks.different_words(words, rows)
    checks.finite_vectors(words, matrix)
    if form == "binary":
        checks.no_lost_bytes(words, matrix)
    vectors = KeyedVectors(matrix.shape[1])
    vectors.index_to_key, vectors.key_to_index, vectors.vectors = words, rows, matrix
    vectors.expandos["count"] = np.arange(len(words), 0, -1)  # frequent words come first
    return vectors


MEGABYTES = {  # what gensim's downloader offers, by its names there, and how much has to be fetched
    "word2vec-google-news-300": 1662,
    "glove-wiki-gigaword-50": 65,
    "glove-wiki-gigaword-100": 128,
    "glove-wiki-gigaword-200": 252,
    "glove-wiki-gigaword-300": 376,
    "glove-twitter-25": 104,
    "glove-twitter-50": 199,
    "glove-twitter-100": 387,
    "glove-twitter-200": 758,
    "fasttext-wiki-news-subwords-300": 958,
    "conceptnet-numberbatch-17-06-300": 1168,
    "word2vec-ruscorpora-300": 198,
}


def fetch_word_vectors(name: str) -> Path:
    """Fetch vectors by their name in gensim's downloader, unless they are here already.

    Raises ConnectionError if that fails.
    """
    folder = Path(downloader.BASE_DIR) / name
    if not folder.exists():
        print(f"{name}: fetching {MEGABYTES[name]:,} MB into {folder}", flush=True)
    with checks.network(name, instead='use load_word_vectors("wiki"), which needs none'):
        return Path(downloader.load(name, return_path=True))
