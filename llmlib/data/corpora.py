"""Texts to learn from: a name, or the path of a file, becomes clean text in memory.

Written by hand. Most corpora need no network: they ship with the course, or they are part of Python
itself or of a package that the course needs. `data/README.md` says where each comes from.

    load("wiki")        the whole text
    documents("wiki")   a list of articles, stories or topics
    texts("wiki")       the same, piece by piece, for what is larger than memory
    print(table())      what there is

`llmlib.data.texts` says what kinds of files can be read.
"""

import hashlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from llmlib import checks
from llmlib.data.download import DownloadError, fetch
from llmlib.data.texts import SEPARATOR, Texts, read_blocks
from llmlib.data.wiki import make_wiki
from llmlib.files import home, shipped, write_text

# Of data/wiki.txt, the same on every machine: update it when the cleaning of articles changes.
WIKI_SHA256 = "07a0a45a557573a932c73879a34cea081bda56b98d8f07535ce3b14d8e334ae5"
PAGE_BREAK = "\n\f\n"  # between documents in a file; no document holds a form feed


@dataclass(frozen=True)
class Corpus:
    """A corpus that `load` knows by name.

    size: bytes of the text in UTF-8, or None until it is made.
    here: whether it can be loaded now with no network.
    file: its name in data/, if it is kept there; url and sha256: how to download it, if possible.
    """

    name: str
    description: str
    size: int | None
    licence: str
    here: bool = True
    file: str = ""
    url: str = ""
    sha256: str | None = None


CORPORA = [
    Corpus("stories", "1,000 children's stories told by llmlib.stories", None, "MIT",
           file="stories.txt"),
    Corpus("wiki", "articles from the Wikipedia dump inside gensim", None, "CC BY-SA 3.0"),
    Corpus("python-docs", "the Python reference, from the interpreter itself", None, "PSF-2.0"),
    Corpus(
        "the-verdict", "a short story by Edith Wharton, 1908", 20_479, "public domain",
        file="the-verdict.txt",
        url="https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"
        "ch02/01_main-chapter-code/the-verdict.txt",
        sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
    ),
    Corpus(
        "tiny-shakespeare", "scenes from the plays of William Shakespeare", 1_115_394,
        "public domain", file="tiny-shakespeare.txt",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/"
        "data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
]  # fmt: skip
NAMES = [corpus.name for corpus in CORPORA]


def available() -> list[Corpus]:
    """Return the corpora that have names, beginning with those that need no network."""
    known = []
    for corpus in CORPORA:
        here, size = True, corpus.size
        if corpus.file:
            place = shipped(f"data/{corpus.file}")
            here = place.is_file()
            size = size or (place.stat().st_size if here else None)
        elif corpus.name == "wiki":
            size = size_of(cached_wiki())
        else:
            with suppress(ModuleNotFoundError):
                size = size_of(python_docs())
            here = size is not None
        known.append(replace(corpus, here=here, size=size))
    return known


def size_of(texts: list[str] | None) -> int | None:
    """Return the bytes of what `load` makes of the documents of a corpus."""
    return len("\n\n".join(texts).encode()) if texts else None


def table() -> str:
    """Return what is available, as lines to print."""
    lines = [f"{'name':<17} {'bytes':>12}  {'here':<5} {'licence':<14} what it is"]
    for corpus in available():
        size = "not made yet" if corpus.size is None else f"{corpus.size:,}"
        here = "yes" if corpus.here else "no"
        about = f"{corpus.licence:<14} {corpus.description}"
        lines.append(f"{corpus.name:<17} {size:>12}  {here:<5} {about}")
    return "\n".join(lines)


def load(name: str | Path) -> str:
    """Return the whole text of a corpus, file or folder: its documents, with blank lines between.

    Raises what `documents` raises.
    """
    return "\n\n".join(documents(name))


def documents(
    name: str | Path, separator: str | None = SEPARATOR, text_field: str = "text"
) -> list[str]:
    """Return the texts of a corpus (articles, stories, topics), or those in a file or folder.

    A file is a single text, unless a separator stands in it: see `llmlib.data.texts`, also for what
    else may be read. A name wins over a file of that name: write "./wiki" for the file.

    Raises ValueError for a name that is neither a corpus nor a file, and for a file that is not
    text. Raises OSError (FileNotFoundError, DownloadError, ...) for a file that cannot be read or
    downloaded.
    """
    grouped = groupby(texts(name, separator, text_field), key=itemgetter(0))
    found = ["".join(piece for _, piece in pieces) for _, pieces in grouped]
    found = [text for text in found if text.strip()]
    checks.some_text(name, 1, len(found))
    return found


def texts(
    name: str | Path, separator: str | None = SEPARATOR, text_field: str = "text"
) -> Iterable[tuple[int, str]]:
    """Return the texts of a corpus, file or folder as (number of the document, piece of its text).

    They can be read again and again. A file or folder is read piece by piece, see `Texts`.
    Raises, also while it is read, what `documents` raises.
    """
    known = {corpus.name: corpus for corpus in CORPORA}
    checks.corpus(name, known)
    if name not in known:
        return Texts(name, separator, text_field)
    note_shadowed(name)
    if name == "wiki":
        return list(enumerate(wiki()))
    if name == "python-docs":
        return list(enumerate(python_docs()))
    if name == "stories":
        whole = "".join(read_blocks(checks.text_place(shipped("data/stories.txt"))))
        return list(enumerate(whole.splitlines()))
    return Texts(downloaded(known[name]), separator=None)


def is_name(data: str | Path | None) -> bool:
    """Return whether this is the name of a corpus, and not a path."""
    return data in {corpus.name for corpus in CORPORA}


def note_shadowed(name: str | Path) -> None:
    """Say on stderr, if a file or folder has the name of a corpus, that the corpus is meant."""
    if Path(name).exists():
        print(f"{name}: the corpus of that name; ./{name} is what is here", file=sys.stderr)


def downloaded(corpus: Corpus) -> Path:
    """Return the file of a corpus, downloaded into data/ when it is first needed."""
    place = home() / "data" / corpus.file
    try:
        return fetch(corpus.url, place, corpus.sha256, corpus.size)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nWith no network, use a corpus that needs none: 'wiki' for real prose, "
            f"'stories' for simple English, or 'python-docs' for technical text"
        ) from error


def python_docs() -> list[str]:
    """Return the topics of the Python reference, sorted by name, as `help()` shows them.

    The text is that of the running interpreter: 460,000 bytes in Python 3.10, 510,000 in 3.13.
    Raises ModuleNotFoundError for a Python that was packaged without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ModuleNotFoundError(
            "this Python was installed without its documentation (pydoc_data): use 'wiki' instead"
        ) from error
    return [topics[name].strip() for name in sorted(topics)]


def wiki() -> list[str]:
    """Return the articles of the dump inside gensim, from Anarchism to Algorithm, as prose.

    They are made once, in about two seconds, and kept in data/wiki.txt if that can be written.
    """
    if articles := cached_wiki():
        return articles
    articles = make_wiki()
    with suppress(OSError):  # if it cannot be written, the next call takes as long again
        write_text(home() / "data" / "wiki.txt", PAGE_BREAK.join(articles))
    return articles


def cached_wiki() -> list[str] | None:
    """Return the articles in data/wiki.txt; None if it is missing, damaged or out of date."""
    with suppress(OSError):
        raw = (home() / "data" / "wiki.txt").read_bytes()
        if hashlib.sha256(raw).hexdigest() == WIKI_SHA256:
            return raw.decode().split(PAGE_BREAK)
    return None
