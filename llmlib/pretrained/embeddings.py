"""Word vectors of others by name or from a file, and those that gensim trains on Wikipedia.

Written by hand. What comes back is gensim's `KeyedVectors`, which the functions of
`llmlib.model.word_vectors` ask for neighbours and analogies. Files are read by
`llmlib.data.vector_files`. Left out: gensim's own `.kv` and `.model` files. They are pickles, and
to load a pickle is to run the program inside it.
"""

from pathlib import Path

from gensim.models import KeyedVectors, Word2Vec

from llmlib import checks
from llmlib.data import corpora
from llmlib.data.vector_files import MEGABYTES, fetch_word_vectors, read_word_vectors
from llmlib.model.word_vectors import to_words


def train_on_wiki() -> KeyedVectors:
    """Train vectors (about 7,700, 100) on the `wiki` corpus, by gensim; some 10 seconds."""
    documents = [to_words(text) for text in corpora.documents("wiki")]
    model = Word2Vec(
        documents, sg=1, vector_size=100, window=5, negative=5, min_count=5, alpha=0.05,
        epochs=10, workers=1, seed=1,  # one worker, so that the result is the same every time
    )  # fmt: skip
    return model.wv


def load_word_vectors(name_or_path: str | Path = "wiki") -> KeyedVectors:
    """Return word vectors by name or from a file.

    "wiki": trained on the spot, with no network. "google-news-300" (1.66 GB) or a name of gensim's
    downloader: fetched once. Otherwise the path of a file in word2vec's or GloVe's form.

    Raises ValueError for an unknown name or another kind of file, FileNotFoundError,
    IsADirectoryError, and ConnectionError if a name cannot be fetched.
    """
    name = str(name_or_path)
    name = "word2vec-google-news-300" if name == "google-news-300" else name
    if name == "wiki":
        return train_on_wiki()
    if name in MEGABYTES:
        # gensim's usual way of loading would run a Python file that comes with the download
        return read_word_vectors(fetch_word_vectors(name))
    known = ["wiki", "google-news-300", *MEGABYTES]
    return read_word_vectors(checks.word_vector_path(Path(name_or_path), known))
