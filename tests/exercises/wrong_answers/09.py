"""Plausible wrong answers to the exercises of notebook 09: each must be refused."""

import math


def drops_what_is_broken(data):
    return data.decode("utf-8", "ignore"), b""


def replaces_the_unfinished_character(data):
    return data.decode("utf-8", "replace"), b""


def holds_back_whatever_is_broken(data):
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), data[error.start :]


def waits_for_one_byte_at_most(data):
    try:
        return data.decode(), b""
    except UnicodeDecodeError:
        return data[:-1].decode("utf-8", "replace"), data[-1:]


def leaves_out_the_last_token_itself(ids, tokens):
    last = tokens[ids[-1]]
    longer = [i for i, token in tokens.items() if token.startswith(last) and i != ids[-1]]
    return ids[:-1], sorted(longer)


def keeps_the_last_token(ids, tokens):
    last = tokens[ids[-1]]
    return ids, sorted(i for i, token in tokens.items() if token.startswith(last))


def searches_anywhere(ids, tokens):
    last = tokens[ids[-1]]
    return ids[:-1], sorted(i for i, token in tokens.items() if last in token)


def compares_text(ids, tokens):
    last = tokens[ids[-1]].decode("utf-8", "ignore")
    found = [i for i, token in tokens.items() if token.decode("utf-8", "ignore").startswith(last)]
    return ids[:-1], sorted(found)


def counts_one_way_only(word, pieces):
    ways = [1] + [0] * len(word)
    for end in range(1, len(word) + 1):
        ways[end] = max((ways[i] for i in range(end) if word[i:end] in pieces), default=0)
    return ways[-1]


def forgets_the_whole_word(word, pieces):
    ways = [1] + [0] * len(word)
    for end in range(1, len(word) + 1):
        ways[end] = sum(ways[i] for i in range(1, end) if word[i:end] in pieces) + (end == 1)
    return ways[-1]


def forgets_the_length(a, b, n, total):
    def f(x):
        return x * math.log(x) if x else 0.0

    return f(n) + f(a - n) + f(b - n) - f(a) - f(b)


def takes_the_ratio(a, b, n, total):
    return n * math.log(n * total / (a * b))


def fails_on_nothing_left(a, b, n, total):
    def f(x):
        return x * math.log(x)

    return f(n) + f(a - n) + f(b - n) - f(a) - f(b) - f(total - n) + f(total)


def takes_the_longest_first(word, pieces):
    start = count = 0
    while start < len(word):
        ends = [end for end in range(start + 1, len(word) + 1) if word[start:end] in pieces]
        if not ends:
            return None
        start, count = max(ends), count + 1
    return count


def says_infinite(word, pieces):
    best = [0] + [math.inf] * len(word)
    for end in range(1, len(word) + 1):
        best[end] = min(
            (best[i] + 1 for i in range(end) if word[i:end] in pieces), default=math.inf
        )
    return best[-1]


WRONG = {
    "09.1": [
        drops_what_is_broken,
        replaces_the_unfinished_character,
        holds_back_whatever_is_broken,
        waits_for_one_byte_at_most,
    ],
    "09.2": [
        leaves_out_the_last_token_itself,
        keeps_the_last_token,
        searches_anywhere,
        compares_text,
    ],
    "09.3": [counts_one_way_only, forgets_the_whole_word],
    "09.4": [forgets_the_length, takes_the_ratio, fails_on_nothing_left],
    "09.5": [takes_the_longest_first, says_infinite],
}
