"""Texts to learn from: a name, or the path of a file, becomes clean text in memory.

Written by hand. Most corpora need no network: they ship with the course, or they are part of Python
itself or of a package that the course needs. `data/README.md` says where each comes from.

    load("wiki")        the whole text
    documents("wiki")   a list of articles, stories or topics
    print(table())      what there is

Left out: texts too large for memory, and encodings other than UTF-8, which are not guessed.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from llmlib import checks
from llmlib.data.download import DownloadError, fetch
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
    """Return the whole text of a corpus or file: its documents, with blank lines between.

    Raises what `documents` raises.
    """
    return "\n\n".join(documents(name))


def documents(name: str | Path) -> list[str]:
    """Return the texts of a corpus (articles, stories, topics), or the single text of a file.

    A name wins over a file of that name: write "./wiki" for the file.

    Raises ValueError for a name that is neither a corpus nor a file, and for a file that is not
    UTF-8 text. Raises OSError (FileNotFoundError, DownloadError, ...) for a file that cannot be
    read or downloaded.
    """
    known = {corpus.name: corpus for corpus in CORPORA}
    checks.corpus(name, known)
    if name == "wiki":
        return wiki()
    if name == "python-docs":
        return python_docs()
    if name == "stories":
        return read_text(shipped("data/stories.txt")).splitlines()
    return [read_text(downloaded(known[name]) if name in known else Path(name))]


def read_text(path: Path) -> str:
    r"""Return a UTF-8 file as text, without a byte-order mark and with "\n" after every line.

    Raises FileNotFoundError, IsADirectoryError, and ValueError for a file that is not text.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of one text file")
    if not path.exists():
        raise FileNotFoundError(
            f"no file {path}: check the path, which starts from {Path.cwd()}; a file that ships "
            "with the course comes back with git checkout"
        )
    try:  # not as utf-8-sig: its errors would count bytes from 3
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}. Save "
            'it as UTF-8 in an editor, or read it with path.read_text(encoding="...") if you know '
            "its encoding (latin-1, cp1252 and utf-16 are common) and write it back"
        ) from None
    checks.require(
        "\0" not in text, f"{path} is not text: character {text.find(chr(0)):,} is a zero"
    )
    checks.require(text.strip(), f"{path} is empty: there is nothing to learn from")
    return text


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
