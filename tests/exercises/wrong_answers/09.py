"""Plausible wrong answers to the exercises of notebook 09: each must be refused."""

from collections import Counter


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


def groups_from_the_left(digits):
    return [digits[i : i + 3] for i in range(0, len(digits), 3)]


def puts_the_last_group_first(digits):
    return [digits[max(0, end - 3) : end] for end in range(len(digits), 0, -3)]


def leaves_an_empty_group(digits):
    first = len(digits) % 3
    return [digits[:first]] + [digits[i : i + 3] for i in range(first, len(digits), 3)]


def merged(tokens, pair, new_id):
    result = []
    for token in tokens:
        if result and (result[-1], token) == pair:
            result[-1] = new_id
        else:
            result.append(token)
    return result


def keeps_the_zeros(tokens, pair, new_id):
    after = merged(tokens, pair, new_id)
    old, new = Counter(zip(tokens, tokens[1:])), Counter(zip(after, after[1:]))
    return {key: new[key] - old[key] for key in old | new}


def gives_the_new_counts(tokens, pair, new_id):
    after = merged(tokens, pair, new_id)
    return dict(Counter(zip(after, after[1:])))


def counts_the_pair_between_twice(tokens, pair, new_id):
    first, second = pair
    change = Counter()
    place = 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) != pair:
            place += 1
            continue
        change[pair] -= 1
        if place > 0:
            change[tokens[place - 1], first] -= 1
        if place + 2 < len(tokens):
            change[second, tokens[place + 2]] -= 1
        place += 2
    after = merged(tokens, pair, new_id)
    change.update(both for both in zip(after, after[1:]) if new_id in both)
    return {key: n for key, n in change.items() if n}


def merges_from_the_right(tokens, pair, new_id):
    backwards = merged(tokens[::-1], pair[::-1], new_id)[::-1]
    change = Counter(zip(backwards, backwards[1:]))
    change.subtract(Counter(zip(tokens, tokens[1:])))
    return {key: n for key, n in change.items() if n}


def cuts_at_the_longest_beginning(tokens):
    merges = []
    for number, token in enumerate(tokens):
        if len(token) > 1:
            known = tokens[:number]
            ends = (end for end in range(len(token) - 1, 0, -1) if token[:end] in known)
            end = next(end for end in ends if token[end:] in known)
            merges.append((token[:end], token[end:]))
    return merges


def cuts_at_the_shortest_beginning(tokens):
    merges = []
    for number, token in enumerate(tokens):
        if len(token) > 1:
            known = tokens[:number]
            ends = (end for end in range(1, len(token)) if token[:end] in known)
            end = next(end for end in ends if token[end:] in known)
            merges.append((token[:end], token[end:]))
    return merges


def joins_from_the_left(tokens):
    merges = []
    for number, token in enumerate(tokens):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            both = enumerate(zip(parts, parts[1:]))
            i = next(i for i, (a, b) in both if a + b in tokens[:number])
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append(tuple(parts))
    return merges


def counts_the_hashes(text, pieces):
    spans, place = [], 0
    for piece in pieces:
        while place < len(text) and text[place].isspace():
            place += 1
        spans.append((place, place + len(piece)))
        place += len(piece)
    return spans


def searches_from_the_beginning(text, pieces):
    letters = [piece.removeprefix("##") or piece for piece in pieces]
    return [(text.index(piece), text.index(piece) + len(piece)) for piece in letters]


def guesses_the_spaces(text, pieces):
    spans, place = [], 0
    for number, piece in enumerate(pieces):
        letters = piece.removeprefix("##") or piece
        place += number > 0 and not piece.startswith("##") and letters.isalnum()
        spans.append((place, place + len(letters)))
        place += len(letters)
    return spans


def takes_lone_hashes_for_notation(text, pieces):
    spans, place = [], 0
    for piece in pieces:
        letters = piece.strip("#")
        if letters:
            start = text.index(letters, place)
            place = start + len(letters)
            spans.append((start, place))
    return spans


def sums(word, p):
    found = [1.0]
    for end in range(1, len(word) + 1):
        starts = (start for start in range(end) if word[start:end] in p)
        found.append(sum(found[start] * p[word[start:end]] for start in starts))
    return found


def does_not_divide(word, p):
    after = sums(word[::-1], {piece[::-1]: value for piece, value in p.items()})[::-1]
    return [a * b for a, b in zip(sums(word, p), after)]


def counts_the_cuts(word, p):
    return [
        value / sums(word, dict.fromkeys(p, 1.0))[-1]
        for value in does_not_divide(word, dict.fromkeys(p, 1.0))
    ]


def forgets_what_comes_after(word, p):
    return [value / sums(word, p)[-1] for value in sums(word, p)]


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


def lets_the_last_piece_end_with_the_text(text, p):
    return sums(text, p)[-1]


def heals_one_piece_only(text, p):
    return sum(value for piece, value in p.items() if piece.startswith(text)) + sums(text, p)[-1]


def needs_the_best_cut(text, p):
    best = [1.0]
    for end in range(1, len(text) + 1):
        starts = (start for start in range(end) if text[start:end] in p)
        best.append(max((best[start] * p[text[start:end]] for start in starts), default=0.0))
    return best[-1]


WRONG = {
    "09.1": [
        drops_what_is_broken,
        replaces_the_unfinished_character,
        holds_back_whatever_is_broken,
        waits_for_one_byte_at_most,
    ],
    "09.2": [groups_from_the_left, puts_the_last_group_first, leaves_an_empty_group],
    "09.3": [
        keeps_the_zeros,
        gives_the_new_counts,
        counts_the_pair_between_twice,
        merges_from_the_right,
    ],
    "09.4": [cuts_at_the_longest_beginning, cuts_at_the_shortest_beginning, joins_from_the_left],
    "09.5": [
        counts_the_hashes,
        searches_from_the_beginning,
        guesses_the_spaces,
        takes_lone_hashes_for_notation,
    ],
    "09.6": [does_not_divide, counts_the_cuts, forgets_what_comes_after],
    "09.7": [
        leaves_out_the_last_token_itself,
        keeps_the_last_token,
        searches_anywhere,
        compares_text,
    ],
    "09.8": [lets_the_last_piece_end_with_the_text, heals_one_piece_only, needs_the_best_cut],
}
