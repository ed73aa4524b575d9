"""Which documents are to train on, and which to validate on, for texts larger than memory.

Written by hand. Of each document a hash is kept and no text: `divide` reads the texts once, or
twice if they are a single document, which is cut in two. It draws the documents that
`llmlib.data.batches.split` draws.
"""

import hashlib
import random
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from llmlib import checks

Texts = Iterable[tuple[int, str]]  # (number of the document, a piece of its text), many times
TRAIN, VAL, BLANK = 0, 1, 2  # what a document is for; a blank one is left out
WINDOW = 2**20  # characters before the end of the training part, in which a place to cut is sought


@dataclass
class Survey:
    """What one reading finds out about texts.

    keys: a hash of each document that is not blank; blank: a byte for each document. n_bytes: of
    all of them in UTF-8. sha256: of all texts. And of the last document that is not blank, number:
    its own; length; first and last: where its first word begins and its last one ends.
    """

    keys: array
    blank: bytearray
    n_bytes: int
    number: int
    length: int
    first: int
    last: int
    sha256: str


def survey(texts: Texts) -> Survey:
    """Read texts once."""
    found, whole = Survey(array("Q"), bytearray(), 0, 0, 0, 0, 0, ""), hashlib.sha256()
    for number, pieces in groupby(texts, key=itemgetter(0)):
        digest, length, first, last = hashlib.sha1(), 0, -1, 0
        for _, text in pieces:
            digest.update(octets := text.encode("utf-8", "surrogatepass"))
            found.n_bytes += len(octets)
            if text and not text.isspace():
                first = length + len(text) - len(text.lstrip()) if first < 0 else first
                last = length + len(text.rstrip())
            length += len(text)
        whole.update(digest.digest())
        found.blank.append(first < 0)
        if first >= 0:
            found.keys.append(int.from_bytes(digest.digest()[:8], "little"))
            found.number, found.length, found.first, found.last = number, length, first, last
    found.sha256 = whole.hexdigest()
    return found


@dataclass
class Division:
    """What each document is for: TRAIN, VAL or BLANK, by its number.

    place: how many characters of the only document are to train on, if there is only one.
    n_bytes and sha256: of all texts.
    """

    sides: np.ndarray
    place: int | None
    n_bytes: int
    sha256: str

    @property
    def n_documents(self) -> int:
        """How many are not blank."""
        return int((self.sides != BLANK).sum())

    def parts(self, texts: Texts) -> Iterator[tuple[int, int, str]]:
        """Yield (TRAIN or VAL, number of the document, a piece of its text)."""
        position = 0
        for number, text in texts:
            if (side := self.sides[number]) == BLANK:
                continue
            if self.place is None:
                yield side, number, text
                continue
            rest = max(0, self.place - position)
            position += len(text)
            yield from ((s, number, t) for s, t in ((TRAIN, text[:rest]), (VAL, text[rest:])) if t)


def divide(texts: Texts, val_fraction: float, seed: int, name: object = "the text") -> Division:
    """Decide what is to train on: no document is divided, and equal ones go to the same side.

    A single document is cut once, where a paragraph ends: paragraphs drawn from everywhere would be
    surrounded by what was trained on. If all documents are equal, the last ones are for validation.
    Raises ValueError for blank texts, and for one that is too short to be cut.
    """
    found = survey(texts)
    checks.some_text(name, len(found.blank), len(found.keys))
    sides = np.full(len(found.blank), BLANK, np.int8)
    written = np.frombuffer(found.blank, np.int8) == 0
    place = None
    if len(found.keys) == 1:
        place = find_place(texts, found, val_fraction)
        checks.both_parts(place, found)
        sides[written] = TRAIN
    else:
        sides[written] = draw(found.keys, val_fraction, seed)
    return Division(sides, place, found.n_bytes, found.sha256)


def draw(keys: array, val_fraction: float, seed: int) -> np.ndarray:
    """Return TRAIN or VAL for each key (N,), as `split` does for documents."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    n = len(first)  # of different ones, in the order of their keys
    n_val = min(max(1, round(val_fraction * n)), n - 1)
    if n == 1:
        n_val = min(max(1, round(val_fraction * len(keys))), len(keys) - 1)
        return np.arange(len(keys)) >= len(keys) - n_val
    order = array("L", range(n))
    random.Random(seed).shuffle(order)  # type: ignore[arg-type]
    is_val = np.zeros(n, np.int8)  # in the order in which they first stand in the text
    is_val[order[:n_val]] = VAL
    return is_val[np.argsort(np.argsort(first))][inverse]


def find_place(texts: Texts, found: Survey, val_fraction: float) -> int:
    """Return where to cut the only document: at the end of a paragraph, a line or a word."""
    end, position, before = round((1 - val_fraction) * found.length), 0, ""
    for number, text in texts:
        if number == found.number:
            before = (before + text[: end - position])[-WINDOW:]
            position += len(text)
            if position >= end:
                break
    for separator in ("\n\n", "\n", " "):
        place = end - len(before) + before.rfind(separator) + len(separator)
        if separator in before and place >= end // 2 and place > found.first:
            return place
    return end
