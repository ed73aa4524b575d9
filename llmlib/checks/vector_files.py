"""Files of word vectors: of another kind, cut short, or with more in them than they announce."""

import codecs
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from llmlib.checks.values import require
from llmlib.messages import shown

LONGEST = 1 << 24  # bytes of a line; without a limit a damaged file would be read as a single one

FOREIGN = {  # how other files begin, and what to do about it
    rb"\x80": "it is a pickle, and loading it could run anything: save the vectors with gensim's "
    "save_word2vec_format, and load that file",
    rb"\x1f\x8b": "it is compressed by gzip: give it a name that ends in .gz",
    rb"BZh[1-9]1AY&SY": "it is compressed by bzip2: give it a name that ends in .bz2",
    rb"\xfd7zXZ": "it is compressed by xz: give it a name that ends in .xz",
    rb"\x28\xb5\x2f\xfd": "it is compressed by zstd: unpack it",
    rb"PK\x03\x04": "it is a zip archive: unpack it, and load a file in it",
    rb"\xba\x16\x4f\x2f": "it is a model of fastText: load the .vec file that goes with it",
    rb"\xff\xfe|\xfe\xff": "it is text in UTF-16: save it as UTF-8",
    rb"\xef\xbb\xbf": "it begins with a byte-order mark, which would become a part of its first "
    "word: save it as UTF-8 without one",
}  # fmt: skip


def is_number(field: str) -> bool:
    """Tell whether a field is a number, as Python and gensim read one."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def is_text(start: bytes) -> bool:
    """Tell whether a file of vectors that begins like this is text, be it damaged.

    Text has no control bytes, and is UTF-8 (perhaps cut in a character) or mostly digits.
    """
    if re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", start):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return len(re.findall(rb"[-+.\d\s]", start)) > len(start) / 2
    return True


def vector_size(fields: Sequence[str]) -> int:
    """Return how many numbers end a line of a word and its vector; 0 if it is not such a line."""
    size = next((n for n, field in enumerate(reversed(fields)) if not is_number(field)), None)
    size = len(fields) - 1 if size is None else size  # the word may be a number, too
    # a sentence that ends in a number is not a word of several words
    return size if len(fields) == size + 1 or size > 1 else 0


def vector_file(start: bytes, has_header: bool) -> None:
    """Raise ValueError unless a file begins like word vectors, with or without a header."""
    for beginning, reason in FOREIGN.items():
        require(not re.match(beginning, start), reason)
    fields = start.partition(b"\n")[0].rstrip().decode(errors="replace").split(" ")
    require(
        has_header or vector_size(fields),
        f"it does not hold word vectors: it begins with {start[:40]!r}",
    )


def announced(count: int, size: int) -> None:
    """Raise ValueError for numbers of words and dimensions that no file can have."""
    fits = 0 < count <= 10**12 and 0 < size <= LONGEST // 16
    sizes = f"{shown(count)} words of {shown(size)} dimensions"
    require(fits, f"it announces {sizes}: there is at least 1 of both, and at most 2^20 dimensions")


@contextmanager
def line_of_file(number: int) -> Iterator[None]:
    """Let a ValueError in the block say which line of the file it is about."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"line {number} is not UTF-8: {error.reason}") from None
    except ValueError as error:
        raise ValueError(f"line {number}: {str(error)[:100]}") from None


def word_with_spaces(fields: Sequence[str], size: int) -> None:
    """Raise ValueError unless a line is a word with spaces in it, as in "new york", and its vector.

    Where one of the surplus fields is a number, as in "area 51", nothing tells the two apart.
    """
    n, word = len(fields) - 1, " ".join(fields[:-size])
    require(n or fields[0], "it is empty")
    fits = n > size and word == word.strip(" ") and not any(map(is_number, fields[1:-size]))
    require(fits, f"it has {n + 1} fields, but a word and {size} dimensions are {size + 1}")


def blank(line: bytes, count: int) -> None:
    """Raise ValueError for a line with something in it behind all the words that were announced."""
    require(not line.strip(), f"it announces {count:,} words, but more follow")


def whole_vectors(found: int, count: int | None) -> None:
    """Raise ValueError if fewer words were found than announced, or none at all."""
    ends = f"it ends after {found:,} of the {count or 1:,} words that it announces"
    require(found >= (count or 1), f"{ends}: it is damaged or cut short, get it again")


def rest_of_binary(rest: bytes, missing: int) -> None:
    """Raise ValueError for bytes behind the last vector, or a word that does not end."""
    require(missing or rest in (b"", b"\n"), "bytes follow its last vector: it is damaged, or its "
            "header announces too few words")  # fmt: skip
    require(len(rest) <= LONGEST, "a word in it does not end: it is damaged")


def binary_words(words: Sequence[bytes], rest: bytes) -> list[str]:
    """Return the words of a binary file as text.

    word2vec ends each vector with a line break, gensim does not. Raises ValueError if only some
    have one, for bytes that are not UTF-8, and for words that are what is left of a vector: empty,
    or with control characters in them.
    """
    ends = {word.startswith(b"\n") for word in words[1:]} | ({True} if rest else set())
    require(len(ends) < 2, "only some of its vectors end with a line break: it is damaged")
    texts = []
    for number, word in enumerate(words, 1):
        try:
            texts.append(word.removeprefix(b"\n").decode())
        except UnicodeDecodeError as error:
            why = f"bytes were lost, or a word held a space ({error.reason})"
            raise ValueError(f"word {number:,} is not UTF-8: {why}") from None
        fault = f"word {number:,} is {shown(texts[-1])}: bytes were lost, or a word held a space"
        require(texts[-1] and not re.search(r"[\x00-\x1f\x7f]", texts[-1]), fault)
    return texts


def different_words(words: Sequence[str], rows: Collection[str]) -> None:
    """Raise ValueError if a word occurs twice: one of its two vectors would be lost."""
    if len(rows) < len(words):
        raise ValueError(f"the word {shown(Counter(words).most_common(1)[0][0])} occurs twice")


def finite_vectors(words: Sequence[str], matrix: np.ndarray) -> None:
    """Raise ValueError if a number is NaN or infinite, also because float32 cannot hold it."""
    if not np.isfinite([matrix.min(), matrix.max()]).all():  # quick; NaN is the least of all
        word = words[np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0]]
        raise ValueError(f"the vector of {shown(word)} holds NaN or a number that is infinite")


def no_lost_bytes(words: Sequence[str], matrix: np.ndarray) -> None:
    """Raise ValueError if a vector differs from most in size as only shifted bytes can.

    A byte that is lost in a vector moves all that follow it into their neighbours, up to the next
    word, which loses its first byte; nothing else in the format tells. Read at the wrong place,
    numbers are of any size from 1e-38 to 1e38.
    """
    largest, smallest = np.zeros(len(matrix)), np.zeros(len(matrix))
    for start in range(0, len(matrix), 10_000):
        sizes = abs(matrix[start : start + 10_000])
        largest[start : start + 10_000] = sizes.max(axis=1)
        sizes[sizes == 0] = np.inf
        smallest[start : start + 10_000] = sizes.min(axis=1)
    order = np.sort(largest[largest > 0])
    typical = order[(len(order) - 1) // 2] if len(order) else 0
    wrong = np.flatnonzero((largest > 1e6 * typical) | (smallest < 1e-18 * typical))
    if len(wrong):
        row = wrong[0]
        found = largest[row] if largest[row] > 1e6 * typical else smallest[row]
        raise ValueError(
            f"the vector of {shown(words[row])} holds {found:.1e}, where those of others go up to "
            f"{typical:.1e}: bytes were lost, it is damaged"
        )
