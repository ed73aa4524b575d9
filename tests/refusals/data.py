"""Data: batches from ids, texts by name, files from the network."""

import gzip
import sys
from unittest import mock

import numpy as np
import requests
import torch

from refusals import api
from refusals.refusal import Refusal

URL = "https://a.org/f"
SHA = "ab" * 32
LOADERS = {
    "windows": lambda ids, **more: api.create_dataloader(ids, 2, batch_size=1, **more),
    "dataset": lambda ids: api.WindowDataset(ids, 2),
}


def window(n: int = 9, max_length: int = 2, **more):
    return api.create_dataloader(range(n), max_length, **more)


def rows(documents, end: int = 9, **more):
    return api.create_document_loader(documents, end, **more)


def jsonl_row(name: str, content: str, *says) -> Refusal:
    """A .jsonl that cannot be read."""

    def call(tmp):
        (tmp / "file.jsonl").write_text(content)
        api.documents(tmp / "file.jsonl")

    return Refusal(f"jsonl {name}", call, ValueError, ["file.jsonl", *says])


def text_row(name: str, content: bytes, *says) -> Refusal:
    def call(tmp):
        (tmp / "my.txt").write_bytes(content)
        api.documents(tmp / "my.txt")

    return Refusal(f"text {name}", call, ValueError, ["my.txt", *says])


def argument_row(name: str, value: object, error: type, *says) -> Refusal:
    return Refusal(
        f"fetch {name}={value!r}",
        lambda tmp: api.fetch(**{"urls": URL, "path": tmp / "f", name: value}),
        error,
        [*says],
    )


def network_row(name: str, answers: list, *says, part: bytes = b"", **wanted) -> Refusal:
    """A download that fails: every message says what to do, and which address failed."""

    def call(tmp):
        if part:
            (tmp / "f.part").write_bytes(part)
        with api.network(*answers):
            api.fetch(URL, tmp / "f", **wanted)

    return Refusal(f"network {name}", call, "DownloadError", [URL, "f", "try again", *says])


def corpus_without_network(tmp):
    with api.home_in(tmp), api.network(requests.RequestException("no route")):
        api.documents("the-verdict")


def pickled_ids(tmp):
    np.save(tmp / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    LOADERS["windows"](tmp / "objects.npy")


def stories_missing(tmp):
    with api.home_in(tmp):
        api.documents("stories")


def python_without_docs(tmp):
    with mock.patch.dict(sys.modules, {"pydoc_data": None, "pydoc_data.topics": None}):
        api.documents("python-docs")


def no_place(tmp):
    (tmp / "file").write_text("in the way")
    api.fetch(URL, tmp / "file" / "below")


def full_disk(tmp):
    with mock.patch("os.fsync", api.full), api.network(api.answer(body=b"x", Content_Length="1")):
        api.fetch(URL, tmp / "f")


def other_file_there(tmp):
    (tmp / "f").write_bytes(b"old")
    with api.network(api.answer(404)):
        api.fetch(URL, tmp / "f", size=9)


REFUSALS = [
    # ---- ids
    *(
        Refusal(f"{loader} of {name}", lambda tmp, make=make, ids=ids: make(ids), error, says)
        for loader, make in LOADERS.items()
        for name, ids, error, says in [
            ("a text", "hello", ValueError, ["'hello'", ".npy", "encode"]),
            ("no id", [], ValueError, ["(0,)", "at least one"]),
            ("a matrix", torch.zeros(2, 3, dtype=torch.long), ValueError, ["(2, 3)", "sequence"]),
            ("floats", [0.5, 1.0], TypeError, ["float64", ("integer", "int")]),
            ("bools", [True, False], TypeError, ["bool", ("integer", "int")]),
            ("words", ["a", "b"], TypeError, [("integer", "int")]),
            ("a negative id", [1, -1, 2, 3], ValueError, ["-1", "0"]),
        ]
    ),
    Refusal(
        "ids in a file that is missing",
        lambda tmp: LOADERS["windows"](tmp / "ids.npy"),
        FileNotFoundError,
        ["ids.npy"],
    ),
    Refusal("ids in a pickle", pickled_ids, ValueError, [("object", "pickle")]),
    Refusal(
        "window that is not there",
        lambda tmp: api.WindowDataset(range(9), 2)[99],
        IndexError,
        ["99"],
    ),
    Refusal(
        "windows of no token",
        lambda tmp: window(max_length=0),
        ValueError,
        ["max_length", "0", "1"],
    ),
    Refusal(
        "windows at no distance", lambda tmp: window(stride=0), ValueError, ["stride", "0", "1"]
    ),
    Refusal(
        "windows longer than the text",
        lambda tmp: window(3, 4),
        ValueError,
        ["4", "5", "3", "max_length", "longer text"],
    ),
    Refusal(
        "windows in no batch",
        lambda tmp: window(batch_size=0),
        ValueError,
        ["batch_size", "0", "1"],
    ),
    Refusal(
        "windows too few for a batch",
        lambda tmp: window(9, 2, batch_size=8),
        ValueError,
        ["4", "8", "batch_size", "drop_last=False"],
    ),
    Refusal(
        "split of a string", lambda tmp: api.split("a\n\nb"), TypeError, ["list", "text.split"]
    ),
    *(
        Refusal(
            f"split at {share}",
            lambda tmp, share=share: api.split(["a", "b"], share),
            ValueError,
            ["val_fraction", str(share), "0", "1"],
        )
        for share in (0, 1, -0.5, float("nan"))
    ),
    Refusal(
        "split of one",
        lambda tmp: api.split(["a", "a"]),
        ValueError,
        ["1", ("two", "2"), "text.split"],
    ),
    # ---- documents
    Refusal("rows of nothing", lambda tmp: rows([]), ValueError, ["at least one", "documents"]),
    Refusal(
        "rows that end in -1", lambda tmp: rows([[1]], -1), ValueError, ["end_of_text", "-1", "0"]
    ),
    Refusal("row of floats", lambda tmp: rows([[1], [0.5]]), TypeError, ["document 1", "float64"]),
    Refusal(
        "row of text",
        lambda tmp: rows(["a story"]),
        ValueError,
        ["document 0", "a story", "encode"],
    ),
    Refusal("rows of ids", lambda tmp: rows([1, 2, 3]), ValueError, ["document 0", "sequence"]),
    Refusal("row below 0", lambda tmp: rows([[1], [-2]]), ValueError, ["document 1", "-2", "0"]),
    Refusal("row of nothing", lambda tmp: rows([[1], []]), ValueError, ["document 1", "(0,)"]),
    Refusal(
        "row longer than the context",
        lambda tmp: rows([[1], [1, 2, 3]], context_length=3),
        ValueError,
        ["document 1", "3", "context_length", "create_dataloader"],
    ),
    Refusal(
        "row with its end inside",
        lambda tmp: rows([[1], [2, 9]]),
        ValueError,
        ["document 1", "end_of_text", "9"],
    ),
    Refusal(
        "rows in no batch",
        lambda tmp: rows([[1]], batch_size=0),
        ValueError,
        ["batch_size", "0", "1"],
    ),
    Refusal(
        "rows too few for a batch",
        lambda tmp: rows([[1], [2]], batch_size=3),
        ValueError,
        ["2", "3", "batch_size", "drop_last=False"],
    ),
    # ---- texts
    Refusal("corpus 3", lambda tmp: api.documents(3), TypeError, ["3", "path", "name"]),
    *(
        Refusal(
            f"corpus {name!r}",
            lambda tmp, name=name: api.documents(name),
            ValueError,
            [repr(name), "wiki", "stories", "path", *near],
        )
        for name, *near in [("wikki", "did you mean 'wiki'"), ("",), ("zzz",)]
    ),
    Refusal(
        "corpus in a missing file",
        lambda tmp: api.documents("none/x.txt"),
        FileNotFoundError,
        ["none", "x.txt", "path"],
    ),
    Refusal("corpus in no file", lambda tmp: api.documents(tmp), ValueError, ["holds no text"]),
    text_row("in latin-1", "a naïve cat".encode("latin-1"), "UTF-8", "4", "0xef", "encoding"),
    text_row("with a zero", b"ab\0c", "2", ("zero", "NUL", "null")),
    text_row("of nothing", b" \r\n", "empty"),
    Refusal(
        "corpus without network",
        corpus_without_network,
        "DownloadError",
        ["the-verdict.txt", "no route", "wiki", "stories", "python-docs"],
    ),
    text_row("of a byte-order mark", b"\xef\xbb\xbf", "empty"),
    text_row("in UTF-16 without a mark", "text".encode("utf-16-le"), "UTF-16", "1", "mark"),
    text_row("in UTF-16, cut short", "text".encode("utf-16")[:-1], "UTF-16", "damaged"),
    text_row("in a zip", b"PK\3\4and more", "zip archive", "plain text"),
    text_row("in a broken gzip", gzip.compress(b"text" * 99)[:-9], "damaged", "cut short"),
    jsonl_row("that is no JSON", '{"text": "a"}\n{"te\n', "line 2", "JSON"),
    jsonl_row("nested deeply", '{"a":' * 100_000, "line 1", "JSON"),
    jsonl_row("of a list", "\n[1]\n", "JSON list", "object on each line"),
    jsonl_row("without a text", '{"body": "a", "n": 1}', "line 1", "text", "text_field", "body"),
    jsonl_row("of blanks", '{"text": " "}\n' * 3, "empty"),
    Refusal("text in a device", lambda tmp: api.documents("/dev/zero"), ValueError, ["device"]),
    Refusal("stories missing", stories_missing, FileNotFoundError, ["stories.txt", "git checkout"]),
    Refusal(
        "python without docs", python_without_docs, ModuleNotFoundError, ["pydoc_data", "wiki"]
    ),
    # ---- the network: arguments
    argument_row("urls", [], ValueError, "URL", "at least one"),
    argument_row("urls", [3], TypeError, "3", "string"),
    argument_row("urls", "", ValueError, "''", "https://"),
    argument_row("urls", "ftp://a.org/x", ValueError, "ftp://a.org/x", "https://"),
    argument_row("urls", "file:///etc/passwd", ValueError, "file:///etc/passwd", "https://"),
    argument_row("sha256", "abc", ValueError, "sha256", "'abc'", "64", "hexadecimal"),
    argument_row("size", -1, ValueError, "size", "-1", "0"),
    argument_row("timeout", 0, ValueError, "timeout", "0", "0.001"),
    argument_row("tries", 0, ValueError, "tries", "0", "1"),
    argument_row("pause", -1, ValueError, "pause", "-1", "0"),
    Refusal(
        "fetch to a folder", lambda tmp: api.fetch(URL, tmp), "DownloadError", ["folder", "file"]
    ),
    Refusal(
        "fetch to no place",
        no_place,
        "DownloadError",
        ["below", ("write", "written"), "Free some space"],
    ),
    Refusal(
        "fetch to a full disk",
        full_disk,
        "DownloadError",
        ["f", "No space left", "Free some space", "try again"],
    ),
    Refusal(
        "fetch beside another file",
        other_file_there,
        "DownloadError",
        [URL, "404", "9 bytes", "3 bytes", "b'old'", "try again"],
    ),
    # ---- the network: answers
    network_row("nothing there", [api.answer(404)], "404"),
    network_row("busy", [api.answer(503)], "503"),
    network_row("busy twice", [api.answer(429)] * 2, "429", "2", tries=2),
    network_row("silence", [requests.Timeout()], "0.4"),
    network_row("hangs up", [requests.ConnectionError("Remote end closed")], "Remote end closed"),
    network_row(
        "a certificate that nobody knows",
        [requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED]")],
        "certificate",
        "TLS",
    ),
    network_row("a circle", [requests.TooManyRedirects("Exceeded 30 redirects")], "redirects"),
    network_row(
        "a way that is not encrypted",
        [api.answer(url="http://b.org/f")],
        "http://b.org/f",
        "encrypted",
    ),
    network_row("an end too early", [api.answer(body=b"half", Content_Length="8")], "4", "8"),
    network_row("an end that nobody can tell", [api.answer(body=b"all")], "ends", "sha256"),
    network_row(
        "a page in its place",
        [api.answer(body=b"<html>", Content_Length="6")],
        "9 bytes",
        "6 bytes",
        "b'<html>'",
        size=9,
    ),
    network_row(
        "another file", [api.answer(body=b"other", Content_Length="5")], SHA, "b'other'", sha256=SHA
    ),
    network_row(
        "a file without end", [api.answer(body=b"x" * 99, Content_Length="99")], "9", size=9
    ),
    network_row(
        "the wrong piece",
        [api.answer(206, b"xx", Content_Range="bytes 1-2/9")],
        "4",
        "bytes 1-2/9",
        part=b"half",
        size=9,
    ),
    network_row("no piece named", [api.answer(206, b"xx")], "4", part=b"half", size=9),
]
