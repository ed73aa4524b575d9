"""Texts to learn from: a name, or the path of a file, becomes clean text in memory.

Written by hand. Most corpora need no network: they ship with the course or are made of what its
packages and Python itself bring along. `data/README.md` says where each comes from.

    load("wiki")        the whole text
    documents("wiki")   a list: an article, a story, a topic each
    print(table())      what there is

Left out: texts too large for memory, encodings other than UTF-8, and guessing them.
"""

import difflib
import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from llmlib.data.download import DownloadError, fetch
from llmlib.data.wiki import make_wiki
from llmlib.files import home, shipped

# Of data/wiki.txt, the same on every machine: whoever changes how articles are cleaned changes it.
WIKI_SHA256 = "07a0a45a557573a932c73879a34cea081bda56b98d8f07535ce3b14d8e334ae5"
PAGE_BREAK = "\n\f\n"  # between documents in a file; no document holds a form feed


@dataclass(frozen=True)
class Corpus:
    """A corpus that `load` knows by name.

    size: bytes of the text in UTF-8; None where nobody knows before it is made.
    here: whether it can be loaded now with no network.
    file: where it stands or is kept in data/, if it is; url and sha256: how to download it, if so.
    """

    name: str
    description: str
    size: int | None
    licence: str
    here: bool = True
    file: str | None = None
    url: str | None = None
    sha256: str | None = None


CORPORA = [
    Corpus(
        name="stories",
        description="1,000 children's stories told by llmlib.stories",
        size=None,
        licence="MIT",
        file="stories.txt",
    ),
    Corpus(
        name="wiki",
        description="articles from the Wikipedia dump inside gensim",
        size=None,
        licence="CC BY-SA 3.0",
    ),
    Corpus(
        name="python-docs",
        description="the Python reference, from the interpreter itself",
        size=None,
        licence="PSF-2.0",
    ),
    Corpus(
        name="the-verdict",
        description="a short story by Edith Wharton, 1908",
        size=20_479,
        licence="public domain",
        file="the-verdict.txt",
        url="https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"
        "ch02/01_main-chapter-code/the-verdict.txt",
        sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
    ),
    Corpus(
        name="tiny-shakespeare",
        description="scenes from the plays of William Shakespeare",
        size=1_115_394,
        licence="public domain",
        file="tiny-shakespeare.txt",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/"
        "data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
]


def available() -> list[Corpus]:
    """The corpora that have names, those first that need no network."""
    data = home() / "data"
    known = []
    for corpus in CORPORA:
        here, size = True, corpus.size
        if corpus.file:
            place = shipped(f"data/{corpus.file}")
            here = place.is_file()
            size = size or (place.stat().st_size if here else None)
        elif corpus.name == "wiki":
            size = size_of(cached_wiki(data))
        else:
            with suppress(ModuleNotFoundError):
                size = size_of(python_docs())
            here = size is not None
        known.append(replace(corpus, here=here, size=size))
    return known


def size_of(texts: list[str] | None) -> int | None:
    """Bytes of what `load` makes of the documents of a corpus."""
    return len("\n\n".join(texts).encode()) if texts else None


def table() -> str:
    """What is available, as lines to print."""
    lines = [f"{'name':<17} {'bytes':>12}  {'here':<5} {'licence':<14} what it is"]
    for corpus in available():
        size = "not made yet" if corpus.size is None else f"{corpus.size:,}"
        here = "yes" if corpus.here else "no"
        about = f"{corpus.licence:<14} {corpus.description}"
        lines.append(f"{corpus.name:<17} {size:>12}  {here:<5} {about}")
    return "\n".join(lines)


def load(name: str | Path) -> str:
    """The whole text of a corpus or of the file at a path: its documents, with blank lines between.

    Raises what `documents` raises.
    """
    return "\n\n".join(documents(name))


def documents(name: str | Path) -> list[str]:
    """The texts a corpus is made of: articles, stories, topics; or one, where it is a single text.

    A name comes before a file of that name: write "./wiki" for the file.

    Raises ValueError for a name that is neither a corpus nor a file, and for a file that is not
    UTF-8 text; OSError (FileNotFoundError, DownloadError, ...) for a file that cannot be had.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a corpus is a name or a path, not {name!r}")
    if name == "wiki":
        return wiki()
    if name == "python-docs":
        return python_docs()
    if name == "stories":
        return read_text(shipped("data/stories.txt")).splitlines()
    for corpus in CORPORA:
        if corpus.name == name:
            return [read_text(downloaded(corpus))]
    names = [corpus.name for corpus in CORPORA]
    if name == "" or (re.fullmatch(r"[\w -]+", str(name)) and not Path(name).exists()):
        near = difflib.get_close_matches(str(name).lower(), names, n=1)
        raise ValueError(
            f"no corpus {str(name)!r}{f', did you mean {near[0]!r}' if near else ''}: "
            f"there are {', '.join(names)}, and the path of any text file works too"
        )
    return [read_text(Path(name))]


def read_text(path: Path) -> str:
    r"""A UTF-8 file as text: without a byte-order mark, and with "\n" at the end of every line.

    Raises FileNotFoundError, IsADirectoryError, and ValueError for what is no text.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of one text file")
    if not path.exists():
        raise FileNotFoundError(
            f"no file {path}: check the path, which starts from {Path.cwd()}; a file that ships "
            f"with the course comes back with git checkout"
        )
    raw = path.read_bytes()
    try:
        text = raw.decode().removeprefix("\ufeff")  # not utf-8-sig: it would count bytes from 3 on
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start:,} is {raw[error.start]:#04x}. Save it as "
            f'UTF-8 in an editor, or read it with path.read_text(encoding="...") if you know its '
            f"encoding (latin-1, cp1252 and utf-16 are common) and write it back"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path} is no text: character {text.index(chr(0)):,} is a zero")
    if not text.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def downloaded(corpus: Corpus) -> Path:
    """The file of a corpus that is downloaded into data/ when it is first needed."""
    place = home() / "data" / corpus.file
    try:
        return fetch(corpus.url, place, corpus.sha256, corpus.size)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nWith no network, use a corpus that needs none: 'wiki' for real prose, "
            f"'stories' for simple English, or 'python-docs' for technical text"
        ) from error


def python_docs() -> list[str]:
    """The topics of the Python reference in the order of their names, as `help()` shows them.

    The text is that of the interpreter that runs: 460,000 bytes in Python 3.10, 510,000 in 3.13.
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
    """The articles of the dump excerpt inside gensim, from Anarchism to Algorithm, as prose.

    Made once, in about two seconds, and kept in data/wiki.txt where that can be written.
    """
    data = home() / "data"
    if articles := cached_wiki(data):
        return articles
    articles = make_wiki()
    part = data / f"wiki.txt.{os.getpid()}.part"
    with suppress(OSError):  # where it cannot be written, the next call takes as long again
        part.write_bytes(PAGE_BREAK.join(articles).encode())
        os.replace(part, data / "wiki.txt")
    with suppress(OSError):
        part.unlink(missing_ok=True)
    return articles


def cached_wiki(data: Path) -> list[str] | None:
    """The articles in data/wiki.txt, or None where it is missing, damaged or of another make."""
    try:
        raw = (data / "wiki.txt").read_bytes()
    except OSError:
        return None
    return (
        raw.decode().split(PAGE_BREAK) if hashlib.sha256(raw).hexdigest() == WIKI_SHA256 else None
    )
