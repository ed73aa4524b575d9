# From notebooks/02_embeddings.ipynb: edit there, then run make export.

"""Word vectors in files: word2vec's two forms and GloVe's, and those that gensim can download.

Built in notebook 02. gensim reads them; here a file is looked at first, so that a foreign, damaged
or truncated one is refused, and a pickle always.
"""

import re
from itertools import islice
from pathlib import Path

from gensim import downloader, utils
from gensim.models import KeyedVectors

from llmlib import checks


def layout_of(path: Path) -> str:
    """Return the form of word vectors: "text", "binary" or "glove" (text without a header).

    Raises FileError for a file of another kind.
    """
    with utils.open(path, "rb") as file:  # gensim's open unpacks a .gz
        first, second = file.readline(1 << 16), file.readline(1 << 16)
    header = re.fullmatch(rb"\d+ (\d+)\s*", first)
    n_numbers = count_numbers(second if header else first)
    checks.word_vector_file(path, first, n_numbers, int(header[1]) if header else None)
    return ("text" if n_numbers else "binary") if header else "glove"


def count_numbers(line: bytes) -> int:
    """Count the numbers that follow the word in a line; 0 if anything else does."""
    try:
        return len([float(field) for field in line.split()[1:]])
    except ValueError:
        return 0


def read_word_vectors(path: str | Path) -> KeyedVectors:
    """Read a file in word2vec's text or binary form or in GloVe's, gzipped if it ends in .gz.

    Raises FileError if it is of another kind, damaged or cut short.
    """
    path = Path(path)
    with checks.blame(path, about="it is damaged or cut short, get it again: "):
        layout = layout_of(path)
        if layout != "binary":
            check_lines(path, has_header=layout == "text")
        vectors = KeyedVectors.load_word2vec_format(
            str(path), binary=layout == "binary", no_header=layout == "glove"
        )
        return checks.sound_vectors(vectors)


def check_lines(path: Path, has_header: bool) -> None:
    """Raise ValueError unless all lines after the header have equally many fields."""
    with utils.open(path, "rb") as file:
        # gensim would spread a single number over all dimensions of its word
        lengths = {len(line.split()) for line in islice(file, has_header, None)}
    checks.require(len(lengths) == 1, f"its lines hold {sorted(lengths)} fields, not equally many")


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
