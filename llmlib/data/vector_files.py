# From notebooks/02_embeddings.ipynb: edit there, then run make export.

"""Word vectors in files: word2vec's two forms and GloVe's, and what gensim can download.

Built in notebook 02. A file is looked at before it is read, so that a foreign, damaged or truncated
one is refused; pickles are refused always.
"""

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
from gensim import downloader
from gensim.models import KeyedVectors


def layout_of(path: Path) -> str:
    """Which kind of word-vector file this is: "text", "binary" or "glove" (text with no header).

    Raises ValueError if it is none of them.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        head = file.read(1 << 16)
    if head.startswith(b"\x80"):
        raise ValueError(
            f"{path} is a pickle, and loading it could run anything: save the vectors with "
            "gensim's save_word2vec_format, and load that file"
        )
    if head.startswith(b"\x1f\x8b"):
        raise ValueError(f"{path} is compressed by gzip: give it a name that ends in .gz")
    lines = [line.split() for line in head.split(b"\n", 2)[:2]]
    if header := re.fullmatch(rb"(\d+) (\d+)\s*", head.partition(b"\n")[0]):
        numbers = count_numbers(lines[1] if len(lines) > 1 else [])
        if numbers and numbers != int(header[2]):
            raise ValueError(
                f"{path} announces {int(header[2])} dimensions, but its first word has {numbers}"
            )
        return "text" if numbers else "binary"
    if count_numbers(lines[0]) > 1:
        return "glove"
    raise ValueError(f"{path} holds no word vectors: it begins with {head[:40]!r}")


def count_numbers(fields: list[bytes]) -> int:
    """How many numbers follow the word in a line, or 0 if anything else does."""
    try:
        return len([float(field) for field in fields[1:]])
    except ValueError:
        return 0


def check_lines(path: Path, header: bool) -> None:
    """Raise ValueError unless all lines after the header have equally many fields."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        if header:
            next(file)
        lengths = {len(line.split()) for line in file}
    if len(lengths) != 1:
        raise ValueError(f"its lines hold {sorted(lengths)} fields, and not equally many")


def read_word_vectors(path: str | Path) -> KeyedVectors:
    """Read a file in word2vec's text or binary form or in GloVe's, gzipped if it ends in .gz.

    Raises ValueError, with the name of the file, if it is foreign, damaged or cut short.
    """
    path = Path(path)
    try:
        layout = layout_of(path)
        if layout != "binary":
            check_lines(path, header=layout == "text")
        vectors = KeyedVectors.load_word2vec_format(
            str(path), binary=layout == "binary", no_header=layout == "glove"
        )
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): get it again") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged or cut short ({error}): get it again") from error
    if not len(vectors) or not np.isfinite(vectors.vectors.sum()):
        raise ValueError(f"{path} holds no words, or NaN among their vectors: it is damaged")
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
    try:
        return Path(downloader.load(name, return_path=True))
    except Exception as error:  # gensim raises bare Exceptions, too
        raise ConnectionError(
            f"{name} could not be fetched ({error}): try again with a network, or use "
            'load_word_vectors("wiki"), which needs none'
        ) from error
