"""Checks of the exercises of notebook 01."""

import torch

from llmlib.exercises import case, exercise


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
def windows_are_counted():
    """01.4: the number of windows of a text, also where none fits."""
    no_target = "the last of these windows has no target"
    yield case(26, 8, 3, expected=6, mistakes={no_target: 7})
    yield case(26, 8, 8, expected=3)
    yield case(9, 8, 1, expected=1, mistakes={no_target: 2})
    yield case(8, 8, 1, expected=0, mistakes={no_target: 1})
    yield case(8, 8, 3, expected=0, mistakes={no_target: 1})
    yield case(3, 8, 2, expected=0, mistakes={"there is no negative number of windows": -2})


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


@exercise("01.6")
def near_copies_are_grouped():
    """01.6: documents that share many n-grams, also by way of a third one, are a group."""
    chain = ["a b c d e", "c d e f g", "e f g h i"]
    linked = "a near copy of a near copy belongs to the group too"
    yield case(["a b c", "x y z", "a b c"], 2, 0.5, expected=[0, 1, 0])
    yield case(
        ["a b c", "a b c d e f g h i j"],
        2,
        0.5,
        expected=[0, 1],
        mistakes={"divide by the windows that are in either, not by the smaller set": [0, 0]},
    )
    yield case(["a b a b a b c", "b a b c"], 2, 1.0, expected=[0, 0])
    yield case(chain, 2, 0.3, expected=[0, 0, 0], mistakes={linked: [0, 0, 2]})
    yield case(
        [chain[0], chain[2], chain[1]], 2, 0.3, expected=[0, 0, 0], mistakes={linked: [0, 1, 0]}
    )
    yield case(chain, 2, 0.4, expected=[0, 1, 2])
    yield case(["q r s", chain[2], chain[0], "q r s", chain[1]], 2, 0.3, expected=[0, 1, 1, 0, 1])


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


@exercise("01.8")
def the_shortest_cut_is_found():
    """01.8: the fewest pieces of a vocabulary that make up a text."""

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
