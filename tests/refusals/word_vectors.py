"""Word vectors: learning, comparing, reading them from files."""

import gzip
import math
from unittest import mock

import torch

from refusals import api
from refusals.refusal import Refusal

NAN = math.nan
PETS = [["the", "cat", "drinks", "milk"], ["the", "dog", "drinks", "water"]] * 3


def vectors():
    matrix = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    return api.word_vectors([f"word{i}" for i in range(9)], matrix)


def skipgram_row(name: str, value: object, *says: object) -> Refusal:
    return Refusal(
        f"skip-gram {name}={value}",
        lambda tmp: api.train_skipgram(PETS, **{name: value}),
        ValueError,
        [str(value), *says],
    )


def documents_row(name: str, documents: list, error: type, says: list) -> Refusal:
    return Refusal(
        f"skip-gram of {name}", lambda tmp: api.train_skipgram(documents, subsample=1), error, says
    )


def file_row(name: str, content: bytes, *says: object, file: str = "my file.txt") -> Refusal:
    def call(tmp):
        (tmp / file).write_bytes(content)
        api.load_word_vectors(tmp / file)

    return Refusal(f"file {name}", call, ValueError, [file, *says])


def fetched_without_network(tmp):
    with (
        mock.patch("gensim.downloader.BASE_DIR", str(tmp)),
        mock.patch("gensim.downloader.load", side_effect=Exception("no route")),
    ):
        api.load_word_vectors("glove-twitter-25")


REFUSALS = [
    *(
        Refusal(
            f"window {window}",
            lambda tmp, window=window: api.window_pairs([[1, 2]], window),
            ValueError,
            ["window", str(window), "1"],
        )
        for window in (0, -3)
    ),
    *(
        Refusal(
            f"cosine of {bad}",
            lambda tmp, bad=bad: api.cosine_similarity(torch.tensor([1.0, bad]), torch.ones(2)),
            ValueError,
            ["NaN", "infinite"],
        )
        for bad in (NAN, math.inf)
    ),
    Refusal(
        "cosine of other lengths",
        lambda tmp: api.cosine_similarity(torch.ones(2), torch.ones(1)),
        ValueError,
        ["(2,)", "(1,)", "components"],
    ),
    Refusal(
        "container of too few rows",
        lambda tmp: api.word_vectors(["a", "b"], torch.ones(1, 3)),
        ValueError,
        ["2", "(1, 3)", "row", "word"],
    ),
    Refusal(
        "container of a flat matrix",
        lambda tmp: api.word_vectors(["a", "b"], torch.ones(2)),
        ValueError,
        ["(2,)", "row", "word"],
    ),
    Refusal(
        "container of nothing",
        lambda tmp: api.word_vectors([], torch.ones(0, 3)),
        ValueError,
        ["(0, 3)"],
    ),
    Refusal(
        "container of a word twice",
        lambda tmp: api.word_vectors(["a", "a"], torch.ones(2, 3)),
        ValueError,
        ["'a'", "twice"],
    ),
    Refusal(
        "container of NaN",
        lambda tmp: api.word_vectors(["a"], torch.full((1, 2), NAN)),
        ValueError,
        ["NaN"],
    ),
    Refusal(
        "misspelt word",
        lambda tmp: api.nearest(vectors(), "wrod7"),
        KeyError,
        ["wrod7", "word7"],
    ),
    Refusal("unknown word", lambda tmp: api.nearest(vectors(), "xyz"), KeyError, ["xyz", "9"]),
    Refusal(
        "no word",
        lambda tmp: api.nearest(vectors(), "word1", exclude=[3]),
        TypeError,
        ["string", "3"],
    ),
    Refusal(
        "query of another width",
        lambda tmp: api.nearest(vectors(), torch.ones(3)),
        ValueError,
        ["(3,)", "(4,)"],
    ),
    Refusal(
        "query of NaN",
        lambda tmp: api.nearest(vectors(), torch.full((4,), NAN)),
        ValueError,
        ["NaN"],
    ),
    *(
        Refusal(
            f"k={k} neighbours",
            lambda tmp, k=k: api.nearest(vectors(), "word1", k),
            ValueError,
            ["k", str(k), "8"],
        )
        for k in (0, 9)
    ),
    Refusal(
        "model of one word", lambda tmp: api.SkipGram(["a"], 4), ValueError, ["1", ("two", "2")]
    ),
    Refusal(
        "model of a word twice",
        lambda tmp: api.SkipGram(["a", "b", "a"], 4),
        ValueError,
        ["3", ("once", "twice", "repeat")],
    ),
    Refusal(
        "model of no dimension",
        lambda tmp: api.SkipGram(["a", "b"], 0),
        ValueError,
        ["emb_dim", "0", "1"],
    ),
    *(
        Refusal(
            f"noise by {wrong}",
            lambda tmp, wrong=wrong: api.noise_distribution(wrong),
            ValueError,
            ["frequencies", "0"],
        )
        for wrong in ([], [3, 0], [1, -2], [NAN, 1])
    ),
    *(
        Refusal(
            f"threshold {wrong}",
            lambda tmp, wrong=wrong: api.keep_probability([1, 2], wrong),
            ValueError,
            ["threshold", str(wrong), "0"],
        )
        for wrong in (0, -1, NAN)
    ),
    skipgram_row("window", 0, "window", "1"),
    skipgram_row("n_noise", 0, "n_noise", "1"),
    skipgram_row("epochs", -1, "epochs", "1"),
    skipgram_row("batch_size", 0, "batch_size", "1"),
    skipgram_row("emb_dim", 0, "emb_dim", "1"),
    skipgram_row("subsample", 0, ("threshold", "subsample")),
    documents_row("a string", ["the cat drinks milk"], TypeError, ["list", "string", "to_words"]),
    documents_row("nothing", [], ValueError, ["0", ("two", "2")]),
    documents_row("one word", [["alone"]], ValueError, ["1", ("two", "2")]),
    documents_row("words apart", [["a"], ["b"]], ValueError, ["together", "subsample"]),
    *(
        Refusal(
            f"odd one of {words}",
            lambda tmp, words=words: api.odd_one_out(vectors(), words),
            ValueError,
            [str(len(set(words))), ("two others", "three", "3")],
        )
        for words in (["word1"], ["word1", "word2", "word2"])
    ),
    Refusal(
        "odd one of strangers",
        lambda tmp: api.odd_one_out(vectors(), ["word1", "word2", "nobody"]),
        KeyError,
        ["nobody"],
    ),
    *(
        Refusal(f"pca of {name}", lambda tmp, x=x, k=k: api.pca(x, k), ValueError, says)
        for name, x, k, says in [
            ("one point", torch.ones(1, 3), 1, ["(1, 3)", ("two", "2")]),
            ("a list", torch.ones(3), 1, ["(3,)", ("two", "2")]),
            ("NaN", torch.full((2, 2), NAN), 1, ["finite"]),
            ("four of three", torch.randn(5, 3), 4, ["k", "4", "5", "3", "1"]),
            ("none", torch.randn(5, 3), 0, ["k", "0", "3", "1"]),
            ("equal points", torch.ones(5, 3), 1, ["same"]),
        ]
    ),
    Refusal(
        "analogy of strangers",
        lambda tmp: api.analogy(vectors(), "word1", "word2", "nobody"),
        KeyError,
        ["nobody"],
    ),
    *(
        Refusal(
            f"questions {len(questions)}",
            lambda tmp, questions=questions: api.analogy_accuracy(vectors(), questions),
            ValueError,
            ["at least one", ("four", "4")],
        )
        for questions in ([], [("word1", "word2", "word3")])
    ),
    file_row("pickled", b"\x80\x04" + bytes(50), "pickle", "save_word2vec_format"),
    file_row("gzipped with no .gz", gzip.compress(b"a 1 2\n"), "gzip", ".gz"),
    file_row("of other dimensions", b"2 3\na 1 2\nb 3 4\n", "line 2", "3", "dimensions"),
    file_row("of prose", b"<html>Sorry</html>", "<html>", "not hold word vectors"),
    file_row("of unequal lines", b"a 1 2 3\nb 4 5\n", "line 2", "3", "fields"),
    file_row("with too few words", b"3 2\na 1 2\nb 3 4\n", ("damaged", "cut short")),
    file_row("with a word for a number", b"2 2\na 1 2\nb 3 x\n", "line 3", "'x'"),
    file_row("with NaN", b"a nan 2\nb 3 4\n", "NaN", "'a'"),
    file_row("with a false .gz", b"a 1 2\nb 3 4\n", "gzipped", file="v.gz"),
    file_row(
        "with half a .gz", gzip.compress(b"a 1 2\nb 3 4\n" * 99)[:-9], "ended before", file="v.gz"
    ),
    Refusal(
        "missing file",
        lambda tmp: api.load_word_vectors(tmp / "nowhere.vec"),
        FileNotFoundError,
        ["nowhere.vec"],
    ),
    Refusal(
        "folder", lambda tmp: api.load_word_vectors(tmp), IsADirectoryError, ["folder", "file"]
    ),
    Refusal(
        "misspelt name",
        lambda tmp: api.load_word_vectors("google-news-30"),
        ValueError,
        ["google-news-30", "google-news-300"],
    ),
    Refusal(
        "unknown name",
        lambda tmp: api.load_word_vectors("qqqq"),
        ValueError,
        ["qqqq", "wiki", "google-news-300", "path"],
    ),
    Refusal(
        "no network",
        fetched_without_network,
        ConnectionError,
        ["glove-twitter-25", "no route", "network", "wiki"],
    ),
]
