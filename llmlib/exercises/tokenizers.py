"""Checks of the exercises of notebook 09."""

import math

from llmlib.exercises import case, exercise


@exercise("09.1")
def half_a_character_is_held_back():
    """09.1: the text of the whole characters, and the bytes that begin another."""
    yield case("café".encode(), expected=("café", b""))
    yield case("café".encode()[:-1], expected=("caf", b"\xc3"))
    fox = "🦊".encode()
    for n in (1, 2, 3):
        yield case(b"a" + fox[:n], expected=("a", fox[:n]))
    yield case(fox + fox[:3], expected=("🦊", fox[:3]))
    yield case(b"", expected=("", b""))
    yield case(b"a\xffb", expected=("a\ufffdb", b""))
    yield case(b"ab\xff", expected=("ab\ufffd", b""))
    yield case(b"\xa6\x8a ok", expected=("\ufffd\ufffd ok", b""))
    yield case(b"\xffa\xe7\x8b", expected=("\ufffda", b"\xe7\x8b"))


@exercise("09.2")
def a_prompt_is_healed():
    """09.2: the prompt without its last token, and the tokens that may replace it."""
    words = {
        0: b"h",
        1: b"t",
        2: b"p",
        3: b":",
        4: b"/",
        5: b"http",
        6: b"://",
        7: b":/",
        8: b"://x",
    }
    yield case([5, 3], words, expected=([5], [3, 6, 7, 8]))
    yield case([5, 7], words, expected=([5], [6, 7, 8]))
    yield case([0], words, expected=([], [0, 5]))
    yield case([5, 3, 4], words, expected=([5, 3], [4]))
    yield case([5, 8], words, expected=([5], [8]))
    halves = {9: b"\xc3", 2: b"\xc3\xa9", 4: b"\xc3\xa9e", 7: b"e"}
    yield case([7, 9], halves, expected=([7], [2, 4, 9]))


@exercise("09.3")
def cuts_are_counted_and_not_listed():
    """09.3: the number of ways to cut a word into tokens."""
    yield case("undo", {"un", "do", "undo", "u", "n"}, expected=3)
    yield case("aaa", {"a", "aa", "aaa"}, expected=4)
    yield case("abc", {"a", "c"}, expected=0)
    yield case("abcd", {"ab", "abc", "cd"}, expected=1)
    yield case("a" * 60, {"a", "aa"}, expected=2504730781961)


@exercise("09.4")
def the_gain_is_the_rise_of_the_likelihood():
    """09.4: what merging a pair adds to the log-likelihood."""

    def given(a, b, n, total):
        def likelihood(*counts):
            return sum(c * math.log(c / sum(counts)) for c in counts if c)

        rest = total - a - b
        return case(
            a, b, n, total, expected=likelihood(a - n, b - n, n, rest) - likelihood(a, b, rest)
        )

    yield given(10, 8, 5, 100)
    yield given(50, 40, 1, 1000)
    yield given(7, 9, 7, 60)
    yield given(4, 4, 4, 30)


@exercise("09.5")
def the_shortest_cut_is_found():
    """09.5: the fewest tokens that make a word, or None."""
    yield case("undo", {"un", "do", "u", "n"}, expected=2)
    yield case("abcd", {"abc", "ab", "cd", "d"}, expected=2)
    yield case(
        "abcdef",
        {"abcd", "abc", "def", "e", "f"},
        expected=2,
        saying="2 (abc + def; the longest beginning, abcd, leads to three)",
    )
    yield case("abc", {"ab", "b"}, expected=None)
    yield case("a" * 200, {"a", "aa", "aaa"}, expected=67)
