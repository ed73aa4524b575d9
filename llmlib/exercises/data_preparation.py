"""Checks of the exercises of notebook 01."""

import torch

from llmlib.exercises import case, exercise


@exercise("01.1")
def windows_are_counted():
    """01.1: the number of windows of a text, also where none fits."""
    yield case(26, 8, 3, expected=6)
    yield case(26, 8, 8, expected=3)
    yield case(9, 8, 1, expected=1)
    yield case(8, 8, 1, expected=0)
    yield case(8, 8, 3, expected=0)
    yield case(3, 8, 2, expected=0)


@exercise("01.2")
def the_first_merge_is_found():
    """01.2: the most frequent pair, of equals the one that comes first."""
    yield case([1, 2, 3, 1, 2], expected=(1, 2))
    yield case([5, 5, 5], expected=(5, 5))
    yield case([9, 1, 4, 4], expected=(9, 1))
    yield case([9, 1, 2, 1, 2], expected=(1, 2))
    yield case([7], expected=None)
    yield case([], expected=None)


@exercise("01.3")
def bytes_stand_in_for_unknown_characters():
    """01.3: ids of known characters, and UTF-8 bytes for all others."""
    yield case("abba", "ab", expected=[256, 257, 257, 256])
    yield case("ac", "ab", expected=[256, 99])
    yield case("é", "ab", expected=[195, 169])
    yield case("é", "é", expected=[256])
    yield case("a🦊b", "ab", expected=[256, 240, 159, 166, 138, 257])
    yield case("", "ab", expected=[])


@exercise("01.4")
def positions_start_again_in_each_document():
    """01.4: positions that start again after each end of a document."""

    def row(*ids):
        return torch.tensor(ids)

    yield case(row(5, 6, 9, 7, 8), 9, expected=row(0, 1, 2, 0, 1))
    yield case(row(5, 6, 7), 9, expected=row(0, 1, 2))
    yield case(row(9, 9, 5), 9, expected=row(0, 0, 0))
    yield case(row(5, 9, 5, 9, 5, 5), 9, expected=row(0, 1, 0, 1, 0, 1))


@exercise("01.5")
def leaks_are_measured():
    """01.5: the share of n-grams of one text that the other one holds."""
    yield case([1, 2, 3, 4], [2, 3, 4], 2, expected=1.0)
    yield case([1, 2, 3, 4], [4, 3, 2, 1], 2, expected=0.0)
    yield case([11, 2], [1, 2], 2, expected=0.0)
    yield case([1, 2, 3, 4], [2, 3, 9, 9], 2, expected=1 / 3)
    yield case([1, 2, 3], [1, 2, 3, 1, 2], 3, expected=1 / 3)
    yield case([1, 2, 1, 2], [1, 2, 1, 2, 9], 2, expected=3 / 4)
    yield case([1, 2, 3], [1], 2, expected=0.0)
