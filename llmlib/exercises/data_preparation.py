"""Checks of the exercises of notebook 01."""

import math
import random
from collections import Counter
from functools import wraps
from itertools import chain

import torch

from llmlib.exercises import case, exercise
from llmlib.exercises.edited_text import WORDS, edited, editor, in_pieces


@exercise("01.1")
def frequent_words_are_counted():
    """01.1: how many of the most frequent words make up a share of a text."""
    by_kind = "that is a share of the different words, not of their occurrences"
    rare_first = "the rarest words come first there"
    yield case(["a", "b", "a", "c"], 0.5, expected=1, mistakes={by_kind: 2, rare_first: 2})
    yield case(["b", "a", "c", "a", "a"], 0.6, expected=1, mistakes={by_kind: 2, rare_first: 3})
    yield case(["a", "b", "a", "c"], 0.75, expected=2, mistakes={by_kind: 3})
    yield case(["a", "b", "c", "d"], 0.6, expected=3)
    yield case(["a", "b", "a", "c"], 1.0, expected=3)
    yield case(["a"], 0.01, expected=1)


@exercise("01.2")
def bytes_stand_in_for_unknown_characters():
    """01.2: ids of known characters, and UTF-8 bytes for all others."""
    unshifted = "the ids of the known characters begin at 256"
    code_points = "these are code points, not bytes"
    yield case("abba", "ab", expected=[256, 257, 257, 256], mistakes={unshifted: [0, 1, 1, 0]})
    yield case("ac", "ab", expected=[256, 99])
    yield case("é", "ab", expected=[195, 169], mistakes={code_points: [233]})
    yield case("é", "é", expected=[256])
    yield case(
        "a🦊b",
        "ab",
        expected=[256, 240, 159, 166, 138, 257],
        mistakes={code_points: [256, 129418, 257]},
    )
    yield case("", "ab", expected=[])


@exercise("01.3")
def words_are_cut_by_merges():
    """01.3: a new word, cut by merges that were learned before."""
    merges = [("a", "t"), ("h", "at"), ("t", "hat"), ("c", "at"), ("hat", "s")]
    left_first = "an earlier merge comes before a later one, wherever it stands in the word"
    once = "a merge joins its pair everywhere in the word"
    yield case("chat", merges, expected=["c", "hat"], mistakes={once: ["c", "h", "at"]})
    yield case("thatcat", merges, expected=["that", "cat"])
    yield case("xyz", merges, expected=["x", "y", "z"])
    yield case(
        "abc",
        [("b", "c"), ("a", "b")],
        expected=["a", "bc"],
        mistakes={left_first: ["ab", "c"]},
    )
    yield case("aaaa", [("a", "a")], expected=["aa", "aa"], mistakes={once: ["aa", "a", "a"]})
    yield case(
        "aaa",
        [("a", "a")],
        expected=["aa", "a"],
        mistakes={"pairs are merged from the left": ["a", "aa"]},
    )
    yield case("", merges, expected=[])


@exercise("01.4")
def the_shortest_cut_is_found():
    """01.4: the fewest pieces of a vocabulary that make up a text."""

    def shortest(text, vocabulary, n, longest_first=0):
        def pieces(result, number):
            known = all(piece in vocabulary for piece in result)
            return known and "".join(result) == text and len(result) == number

        greedy = "the longest piece first is not always the best"
        return case(
            text,
            set(vocabulary),
            expected=lambda result: pieces(result, n),
            saying=f"{n} pieces of the vocabulary that make up the text",
            mistakes={greedy: lambda result: longest_first and pieces(result, longest_first)},
        )

    yield shortest("abc", ["a", "b", "c", "ab", "bc"], 2)
    yield shortest("abcde", ["a", "b", "c", "d", "e", "ab", "abc", "cde"], 2, 3)
    yield shortest("edcba", ["a", "b", "c", "d", "e", "ba", "cba", "edc"], 2)
    yield shortest("aaaaaaa", ["a", "aaa", "aaaaa", "aa"], 2)
    yield shortest("xyxyz", ["x", "y", "z", "xy", "yxyz", "xyx"], 2, 3)
    yield shortest("", ["a"], 0)


@exercise("01.5")
def leaks_are_measured():
    """01.5: the share of n-grams of one text that the other one holds."""
    once = "a window counts as often as it occurs"
    yield case([1, 2, 3, 4], [2, 3, 4], 2, expected=1.0)
    yield case(
        [1, 2, 3, 4],
        [4, 3, 2, 1],
        2,
        expected=0.0,
        mistakes={"these are the tokens that are shared, not the windows": 1.0},
    )
    yield case([11, 2], [1, 2], 2, expected=0.0)
    yield case([1, 2, 3, 4], [2, 3, 9, 9], 2, expected=1 / 3)
    yield case([1, 2, 3], [1, 2, 3, 1, 2], 3, expected=1 / 3)
    yield case([1, 2, 1, 2], [1, 2, 1, 2, 9], 2, expected=3 / 4, mistakes={once: 2 / 3})
    yield case([1, 2, 3], [1], 2, expected=0.0)


class Collection:
    """Documents whose runs lie on disk: it refuses to read or to compare what need not be."""

    def __init__(self, documents, percent):
        self.documents, self.percent = documents, percent
        self.groups, self.asked = list(range(len(documents))), set()
        self.enough = [len(runs) * (100 - percent) // 100 + 1 for runs in documents]

    def run(self, i, k):
        """Read a run that may be needed."""
        if not 0 <= k < self.enough[i]:
            raise RuntimeError(f"run({i}, {k}): of this document m is {self.enough[i]}")
        return self.documents[i][k]

    def similar(self, i, j):
        """Tell whether two documents are near copies, if that has to be asked."""
        one, other = (set(self.documents[place][: self.enough[place]]) for place in (i, j))
        small, large = sorted((len(self.documents[i]), len(self.documents[j])))
        for needless, why in (
            (self.groups[i] == self.groups[j], "these are known to be in one group"),
            ({i, j} in self.asked, "that was asked before"),
            (100 * small < self.percent * large, "one is too short to be a near copy"),
            (not one & other, "these share none of the runs that have to be read"),
        ):
            if needless:
                raise RuntimeError(f"similar({i}, {j}): {why}")
        self.asked.add(frozenset((i, j)))
        near = are_near(self.documents[i], self.documents[j], self.percent)
        if near:
            old, new = self.groups[i], self.groups[j]
            self.groups = [new if group == old else group for group in self.groups]
        return near


def are_near(one, other, percent):
    """Tell whether two documents share enough of their runs."""
    one, other = set(one), set(other)
    return 100 * len(one & other) >= percent * len(one | other)


def grouped(documents, percent, enough=None, near=are_near):
    """Group documents by comparing all pairs, or those that share one of their first runs."""
    first = [set(runs[: enough(len(runs))]) if enough else set(runs) for runs in documents]
    groups = list(range(len(documents)))
    for i, runs in enumerate(documents):
        for j in range(i):
            if first[i] & first[j] and near(runs, documents[j], percent):
                old, new = sorted((groups[i], groups[j]), reverse=True)
                groups = [new if group == old else group for group in groups]
    return groups


def near_copies(percent, *sets):
    """Return the case of some documents, each a set of runs, which are numbered by rarity."""
    counts = Counter(run for runs in sets for run in set(runs))
    numbers = {run: i for i, run in enumerate(sorted(counts, key=lambda run: (counts[run], run)))}
    documents = [sorted(numbers[run] for run in set(runs)) for runs in sets]

    def through(answer):
        @wraps(answer)
        def run_on_disk(documents, percent):
            disk = Collection(documents, percent)
            return answer([len(runs) for runs in documents], disk.run, disk.similar, percent)

        return run_on_disk

    def nearer(one, other, percent):
        sizes = sorted((len(one), len(other)))
        return are_near(one, other, percent) and 100 * sizes[0] > percent * sizes[1]

    def first_copy(of):
        """Return the first near copy of a document, which is no group yet."""
        return next(j for j, runs in enumerate(documents) if are_near(runs, of, percent))

    expected = grouped(documents, percent)
    wrong = {
        "percent / 100 is not exact: count in whole numbers": grouped(
            documents, percent, lambda size: size - math.ceil(percent / 100 * size) + 1
        ),
        "a near copy can share the last run that has to be read, and no earlier one": grouped(
            documents, percent, lambda size: size * (100 - percent) // 100
        ),
        "a near copy of a near copy belongs to the group too": list(map(first_copy, documents)),
        "a part of a document that is just long enough is a near copy": grouped(
            documents, percent, near=nearer
        ),
    }
    mistakes = {what: groups for what, groups in wrong.items() if groups != expected}
    return case(documents, percent, expected=expected, through=through, mistakes=mistakes)


@exercise("01.6")
def near_copies_are_grouped():
    """01.6: near copies are found by their rarest runs, without comparing all pairs."""
    chain = ["abcde", "cdefg", "efghi"]
    yield near_copies(80, "abcd", "wxyz", "abcd")
    yield near_copies(50, "abc", "abcdefghij", "x")
    yield near_copies(80, "abcdefghij", "abcdefgh", "ijx", "ijy", "ijz")
    yield near_copies(80, "abcdefghij", "abcdefgh")  # two runs of the first are in no other
    yield near_copies(80, "abcdefgh", "abcdefghij", "qrst")
    yield near_copies(56, range(25), range(11, 25))  # 56 / 100 * 25 is a little more than 14
    for order in ([0, 1, 2], [0, 2, 1], [1, 2, 0]):
        yield near_copies(40, *(chain[place] for place in order))
        yield near_copies(45, *(chain[place] for place in order))
    yield near_copies(100, "a", "ab", "b", "ba", "a")
    yield near_copies(1, "abc", "cxy", "y", "z")
    yield near_copies(70, *["abcdefghij"] * 30)
    footer = range(1000, 1020)  # runs that all have
    yield near_copies(50, *([*range(40 * i, 40 * i + 30), *footer] for i in range(20)), footer)
    for seed, percent in enumerate((90, 70, 60, 35)):
        draw = random.Random(seed)
        sets = [[*draw.choices(range(600), k=draw.randint(1, 40)), *footer] for _ in range(30)]
        for _ in range(50):  # a copy of a text or of a copy, in which runs are others
            copy = draw.choice(sets)[:]
            copy[: draw.randint(0, 12)] = draw.choices(range(600), k=draw.randint(0, 12))
            sets.append(copy)
        draw.shuffle(sets)
        yield near_copies(percent, *sets)


@exercise("01.7")
def positions_start_again_in_each_document():
    """01.7: positions that start again after each end of a document."""

    def row(*ids):
        return torch.tensor(ids)

    begins = "the separator belongs to the document that it ends"
    through = "the positions do not start again"
    yield case(
        row(5, 6, 9, 7, 8),
        9,
        expected=row(0, 1, 2, 0, 1),
        mistakes={begins: row(0, 1, 0, 1, 2), through: row(0, 1, 2, 3, 4)},
    )
    yield case(row(5, 6, 7), 9, expected=row(0, 1, 2))
    yield case(row(9, 9, 5), 9, expected=row(0, 0, 0), mistakes={begins: row(0, 0, 1)})
    yield case(row(5, 9, 5, 9, 5, 5), 9, expected=row(0, 1, 0, 1, 0, 1))


def edits_of(text, *edits, mistakes=None):
    """Return the case of a text and its edits."""
    words = [in_pieces(word) for word in WORDS.findall(text)]
    expected = [in_pieces(word) for word in WORDS.findall(edited(text, edits)[0])]
    return case(words, list(edits), expected=expected, through=editor, mistakes=mistakes)


@exercise("01.8")
def only_what_an_edit_touches_is_cut_again():
    """01.8: the words of an edited text, with the work that the edits ask for and no more."""
    ends = "a word that ends where an edit begins may go on"
    behind = "a word can depend on the two characters behind it"
    later = "words behind an edit change too, until an old word begins where a new one does"
    places = "all places are those of the text before any edit"
    glued = {ends: [["ha", "t"], ["s"], [" o", "n"]]}
    yield edits_of("hat on", (3, 3, "s"), mistakes=glued)
    yield edits_of("a  b", (3, 4, ""), mistakes={behind: [["a"], [" "], [" "]]})
    groups = {later: [["91", "2"], ["3"], ["45", "6"], ["7"]]}
    yield edits_of("1234567", (0, 0, "9"), mistakes=groups)
    yield edits_of("on 1234567", (3, 6, ""))
    yield edits_of("red hat", (3, 4, ""))
    yield edits_of("redhat", (3, 3, " "))
    shifted = {places: lambda result: "".join(chain.from_iterable(result)) == "Anna had acatt"}
    yield edits_of("Tom had a hat", (0, 3, "Anna"), (10, 13, "cat"), mistakes=shifted)
    yield edits_of("12345678 123", (0, 0, "9"), (4, 5, ""), (8, 8, "x"))
    yield edits_of("a hat", (0, 1, ""), (1, 2, "the "), (2, 2, "top "), (2, 2, "s"))
    yield edits_of("hat", (0, 3, ""))
    yield edits_of("", (0, 0, "hat"))
    yield edits_of("hat")
    yield edits_of("12 " * 500, (0, 0, "5"), (600, 603, ""), (1500, 1500, "."))
    yield edits_of("9" * 600 + " hat" * 200, (300, 300, "1"), (400, 402, ""), (900, 900, " "))
    for seed in range(300):
        draw = random.Random(seed)
        text = "".join(draw.choices("ab 12.", weights=(2, 2, 4, 3, 3, 1), k=draw.randint(0, 24)))
        places = sorted(draw.choices(range(len(text) + 1), k=2 * draw.randint(1, 3)))
        news = ["".join(draw.choices("a 1.", k=draw.randint(0, 4))) for _ in places[::2]]
        yield edits_of(text, *zip(places[::2], places[1::2], news))
