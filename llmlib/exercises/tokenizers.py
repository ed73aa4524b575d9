"""Checks of the exercises of notebook 09."""

import random
from collections import Counter

from llmlib.exercises import case, exercise
from llmlib.exercises.word_cuts import (
    can_be_cut,
    common_beginning,
    continuations,
    first_lost,
    learned,
    limited_encode,
    longest_match_cuts,
    tokens_of,
)


@exercise("09.1")
def half_a_character_is_held_back():
    """09.1: the text of the whole characters, and the bytes that begin another."""
    lost = "these bytes may still become a character"
    never = "these bytes can never become a character"
    yield case("café".encode(), expected=("café", b""))
    yield case(
        "café".encode()[:-1],
        expected=("caf", b"\xc3"),
        mistakes={lost: lambda result: result in [("caf\ufffd", b""), ("caf", b"")]},
    )
    fox = "🦊".encode()
    for n in (1, 2, 3):
        yield case(b"a" + fox[:n], expected=("a", fox[:n]))
    yield case(fox + fox[:3], expected=("🦊", fox[:3]))
    yield case(b"", expected=("", b""))
    yield case(b"a\xffb", expected=("a\ufffdb", b""), mistakes={never: ("a", b"\xffb")})
    yield case(b"ab\xff", expected=("ab\ufffd", b""), mistakes={never: ("ab", b"\xff")})
    yield case(b"\xa6\x8a ok", expected=("\ufffd\ufffd ok", b""))
    yield case(b"\xffa\xe7\x8b", expected=("\ufffda", b"\xe7\x8b"))


@exercise("09.2")
def only_what_changes_is_counted():
    """09.2: how the counts of pairs change with a merge."""

    def given(tokens, pair, new_id, mistakes=None):
        """Return the case of a list of tokens and a pair to merge."""
        merged, place = [], 0
        while place < len(tokens):
            found = tuple(tokens[place : place + 2]) == pair
            merged.append(new_id if found else tokens[place])
            place += 1 + found
        change = Counter(zip(merged, merged[1:]))
        change.subtract(Counter(zip(tokens, tokens[1:])))
        changed = {key: n for key, n in change.items() if n}
        return case(list(tokens), pair, new_id, expected=changed, mistakes=mistakes)

    zeros = {"leave out the pairs that do not change": lambda result: 0 in result.values()}
    twice = "where two new tokens touch, the pair between them was there once"
    yield given([1, 2, 3], (2, 3), 9, zeros)
    yield given(
        [1, 2, 1, 2],
        (1, 2),
        9,
        zeros
        | {
            twice: {(1, 2): -2, (2, 1): -2, (9, 9): 1},
            "these are the new counts, not the changes": {(9, 9): 1},
        },
    )
    yield given([5, 1, 2, 7, 1, 2, 5], (1, 2), 9, zeros)
    yield given([3, 1, 2, 1, 2, 1, 2, 3], (1, 2), 9, zeros)
    yield given(
        [4, 4, 4], (4, 4), 9, zeros | {"pairs are merged from the left": {(4, 4): -2, (4, 9): 1}}
    )
    yield given([4, 4, 4, 4, 4], (4, 4), 9, zeros)
    yield given([1, 2, 3, 2, 3, 1, 2], (2, 3), 9, zeros)
    yield given([1, 3, 2], (1, 2), 9, zeros)
    yield given([1, 2], (1, 2), 9, zeros)


def whatever_follows(data, merges):
    """Return the case of a text and the merges of a BPE: which of its tokens stay."""
    futures = continuations(data, merges)
    cut, wanted = futures[b""], common_beginning(futures.values())

    def contradicts(rest):
        """Tell whether a result promises too much: the text may go on with this rest."""
        return lambda result: futures[rest][: len(result)] != list(result) == cut[: len(result)]

    def is_short(result):
        return len(result) < len(wanted) and list(result) == wanted[: len(result)]

    mistakes = {
        f"if {rest!r} follows, the cut begins otherwise": contradicts(rest) for rest in futures
    }
    mistakes["more tokens stay, whatever follows"] = is_short
    mistakes["the cut does not begin like this"] = lambda result: list(result) != cut[: len(result)]
    return case(
        data,
        tokens_of(merges, data),
        limited_encode(merges, data),
        expected=lambda result: list(result) == wanted,
        saying=repr(wanted),
        mistakes=mistakes,
    )


@exercise("09.3")
def tokens_stay():
    """09.3: the tokens that no continuation can change."""
    small = [(b"b", b"c"), (b"a", b"b")]
    for data in (b"ab", b"aba", b"abc", b"", b"cab"):
        yield whatever_follows(data, small)
    twins = [(b"a", b"a"), (b"aa", b"aa")]
    for n in range(1, 8):
        yield whatever_follows(b"a" * n, twins)
    rng = random.Random(0)
    for letters in (b"ab", b"abc", b"abcd") * 8:
        merges = learned(bytes(rng.choices(letters, k=60)), 8)
        for _ in range(4):
            yield whatever_follows(bytes(rng.choices(letters, k=rng.randint(3, 16))), merges)
    text = bytes(rng.choices(b"abc", k=300))
    yield whatever_follows(text, learned(text, 40))


def pairs(*args, expected, mistakes=None):
    """Describe a call that gives pairs, as tuples or lists; a mistake may be such pairs, too."""

    def equal(wanted):
        return lambda result: list(map(tuple, result)) == wanted

    wrong = {name: bad if callable(bad) else equal(bad) for name, bad in (mistakes or {}).items()}
    return case(*args, expected=equal(expected), saying=repr(expected), mistakes=wrong)


@exercise("09.4")
def merges_are_found_again():
    """09.4: the two parts of each token, from the tokens before it."""
    first = "of two neighbours, the pair that makes the earlier token is joined first"

    def tokens(*longer):
        single = sorted({byte for token in longer for byte in token})
        return [bytes([byte]) for byte in single] + list(longer)

    yield pairs(tokens(b"lo", b"low"), expected=[(b"l", b"o"), (b"lo", b"w")])
    yield pairs(
        tokens(b"lo", b"low", b"er", b"lower"),
        expected=[(b"l", b"o"), (b"lo", b"w"), (b"e", b"r"), (b"low", b"er")],
    )
    left, right = [(b"b", b"c"), (b"a", b"b")], [(b"a", b"b"), (b"b", b"c")]
    yield pairs(
        tokens(b"bc", b"ab", b"abc"),
        expected=[*left, (b"a", b"bc")],
        mistakes={first: [*left, (b"ab", b"c")]},
    )
    yield pairs(
        tokens(b"ab", b"bc", b"abc"),
        expected=[*right, (b"ab", b"c")],
        mistakes={first: [*right, (b"a", b"bc")]},
    )
    yield pairs(
        tokens(b"aa", b"aaa", b"aaaaa"), expected=[(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aaa")]
    )
    yield pairs([b"b", b"a", b"ab"], expected=[(b"a", b"b")])
    yield pairs([b"a", b"b"], expected=[])


def lost_by_greed(pieces, wanted):
    """Describe a call that gives the first word that only the longest match cannot cut."""
    pieces = set(pieces)
    mistakes = {
        "there is such a word": None,
        "the longest match cuts this word": lambda word: longest_match_cuts(word, pieces),
        "this word cannot be cut": lambda word: not can_be_cut(word, pieces),
        "a shorter word is lost, too": lambda word: len(word) > len(wanted),
        "of words of one length, return the first": lambda word: word > wanted,
    }
    return case(set(pieces), expected=wanted, mistakes=mistakes)


@exercise("09.5")
def greed_loses_words():
    """09.5: the shortest word that can be cut, but not by the longest match."""
    yield lost_by_greed({"a", "ab", "bc"}, "abc")
    yield lost_by_greed({"a", "b", "ab"}, None)
    yield lost_by_greed({"aa", "aaa"}, "aaaa")
    yield lost_by_greed({"ab", "abc", "cde"}, "abcde")
    yield lost_by_greed({"a", "abcd", "bc"}, None)
    yield lost_by_greed({"c", "cb", "ba", "a", "ab", "bb"}, "abb")
    rng = random.Random(0)
    for letters, longest in [("ab", 8), ("abc", 6)] * 20:
        sizes = [rng.randint(1, 4) for _ in range(rng.randint(3, 6))]
        pieces = {"".join(rng.choices(letters, k=size)) for size in sizes}
        if word := first_lost(pieces, longest):
            yield lost_by_greed(pieces, word)
    # words of single letters and of runs of a: the longest match takes 7, and 5 are left over
    yield lost_by_greed({"a" * 6, "a" * 7, *"bcd"}, "a" * 12)
    # all c are needed before the match is tempted, and then a is no beginning
    yield lost_by_greed({"c", "cccccccb", "bac", "d"}, "cccccccbac")
    # in each run of a, twos and fours leave an even rest
    yield lost_by_greed({"aa", "aaaa", "aaaaaa", *"bc"}, None)
    # no piece begins another, so there is one cut at most
    yield lost_by_greed({"ab", "ac", "bca", "bcb", "c"}, None)


def all_borders(word, p):
    """Return the cuts of a word: the places where pieces begin, and the probability."""
    if not word:
        return [(set(), 1.0)]
    ends = [end for end in range(1, len(word) + 1) if word[:end] in p]
    return [
        ({0, *(end + place for place in places)}, p[word[:end]] * value)
        for end in ends
        for places, value in all_borders(word[end:], p)
    ]


def borders_of(word, p):
    """Describe a call that gives the probability of each border, found by a list of all cuts."""
    found = [(places | {len(word)}, value) for places, value in all_borders(word, p)]
    total, n = sum(value for _, value in found), len(word) + 1
    at = [sum(value for places, value in found if i in places) for i in range(n)]
    cuts = [sum(i in places for places, _ in found) / len(found) for i in range(n)]
    mistakes = {"divide by the probability of the word": at} if total < 0.999 else {}
    mistakes["the more probable cuts count more"] = cuts

    def near(wanted):
        return lambda result: (
            len(result) == n and all(abs(a - b) < 1e-6 for a, b in zip(result, wanted))
        )

    right = [value / total for value in at]
    return case(
        word,
        dict(p),
        expected=near(right),
        saying=f"[{', '.join(f'{value:.4g}' for value in right)}]",
        mistakes={words: near(wrong) for words, wrong in mistakes.items()},
    )


@exercise("09.6")
def borders_have_probabilities():
    """09.6: the probability that a cut goes through each point of a word."""
    toy = {"undo": 0.1, "un": 0.2, "do": 0.2, "u": 0.1, "n": 0.15, "d": 0.1, "o": 0.15}
    yield borders_of("undo", toy)
    yield borders_of("un", toy)
    yield borders_of("don", toy | {"on": 0.1})
    yield borders_of("aab", {"a": 0.5, "aa": 0.1, "ab": 0.2, "b": 0.2})
    yield case(
        "a" * 60,
        {"a": 0.5, "aa": 0.25},
        expected=lambda result: len(result) == 61 and abs(result[30] - 0.7236) < 1e-3,
        saying="61 probabilities, that in the middle near 0.7236, and soon",
    )


@exercise("09.7")
def a_prompt_is_healed():
    """09.7: the prompt without its last token, and the tokens that may replace it."""
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
    itself = "the token that was taken away begins with itself"
    behind = "the last token is taken away"
    yield case(
        [5, 3],
        words,
        expected=([5], [3, 6, 7, 8]),
        mistakes={itself: ([5], [6, 7, 8]), behind: ([5, 3], [3, 6, 7, 8])},
    )
    yield case([5, 7], words, expected=([5], [6, 7, 8]), mistakes={itself: ([5], [6, 8])})
    yield case([0], words, expected=([], [0, 5]))
    yield case(
        [5, 3, 4],
        words,
        expected=([5, 3], [4]),
        mistakes={"the bytes stand at the beginning of the token": ([5, 3], [4, 6, 7, 8])},
    )
    yield case([5, 8], words, expected=([5], [8]))
    halves = {9: b"\xc3", 2: b"\xc3\xa9", 4: b"\xc3\xa9e", 7: b"e"}
    yield case([7, 9], halves, expected=([7], [2, 4, 9]))


LONGER = {"un": 0.2, "undo": 0.1, "u": 0.1, "n": 0.1, "do": 0.2, "done": 0.1, "one": 0.1, "d": 0.1}


@exercise("09.8")
def a_stream_begins_with_a_text():
    """09.8: how probable it is that a stream of pieces begins with a text."""
    p = {"a": 0.5, "b": 0.25, "ab": 0.25}
    inside = "the last piece may reach beyond the end of the text"
    yield case("b", p, expected=0.25)
    yield case("a", p, expected=0.75, mistakes={inside: 0.5})
    yield case("ab", p, expected=0.375)
    yield case("aa", p, expected=0.375, mistakes={inside: 0.25})
    yield case("ba", p, expected=0.1875, mistakes={inside: 0.125})
    yield case("c", p, expected=0.0)
    to_n = 0.2 + 0.1 * 0.1  # all ways to "un"
    through = to_n * (0.1 + 0.2 + 0.1)
    yield case("und", LONGER, expected=0.1 + through, mistakes={inside: to_n * 0.1})
    ends = 0.1 * (0.1 + 0.0) + to_n * (0.2 * 0.1 + 0.1 * 0.1 + 0.1)
    yield case("undon", LONGER, expected=ends)
    total = [1.0, 0.5]
    for _ in range(198):
        total.append(0.5 * total[-1] + 0.25 * total[-2])
    long = 0.75 * total[199] + 0.25 * total[198]
    yield case("a" * 200, {"a": 0.5, "aa": 0.25, "b": 0.25}, expected=long, tolerance=1e-9)
