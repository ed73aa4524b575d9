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


def keeps_every_token(data, tokens, encode):
    return last_tokens(data, tokens, encode)[1](len(data))


def holds_back_one_token(data, tokens, encode):
    return keeps_every_token(data, tokens, encode)[:-1]


def holds_back_one_token_that_may_grow(data, tokens, encode):
    cut = keeps_every_token(data, tokens, encode)
    grows = cut and any(len(t) > len(cut[-1]) and t.startswith(cut[-1]) for t in tokens)
    return cut[:-1] if grows else cut


def encodes_the_whole_text(data, tokens, encode):
    begun = [data[start:] for start in range(len(data))]
    rests = [t[len(start) :] for start in begun for t in tokens if t.startswith(start)]
    cuts = [encode(data + rest) for rest in [b"", *rests]]
    same = [len(set(parts)) == 1 for parts in zip(*cuts)]
    return cuts[0][: [*same, False].index(False)]


def encodes_a_window(data, tokens, encode):
    longest, stay = max(map(len, tokens)), []
    while data:
        token = encode(data[: 2 * longest])[0]
        stay.append(token)
        data = data[len(token) :]
    return stay[:-1]


def takes_the_longest_match(data, tokens, encode):
    stay = []
    while data:
        stay.append(max((token for token in tokens if data.startswith(token)), key=len))
        data = data[len(stay[-1]) :]
    return stay[:-1]


def last_tokens(data, tokens, encode, fits=None):
    longest, last = max(map(len, tokens)), [b""]

    def stand_side_by_side(start, token):
        return start == 0 or encode(last[start] + token) == [last[start], token]

    fits = fits or stand_side_by_side
    for end in range(1, len(data) + 1):
        starts = range(max(0, end - longest), end)
        found = (i for i in starts if data[i:end] in tokens and fits(i, data[i:end]))
        last.append(data[next(found) : end])

    def cut(end):
        return [*cut(end - len(last[end])), last[end]] if end else []

    return fits, cut


def what_is_common(data, cut, starts):
    cuts = [cut(len(data)), *map(cut, starts)]
    same = [len(set(parts)) == 1 for parts in zip(*cuts)]
    return cuts[0][: [*same, False].index(False)]


def fears_every_place(data, tokens, encode):
    _, cut = last_tokens(data, tokens, encode)
    return what_is_common(data, cut, range(max(0, len(data) - max(map(len, tokens))), len(data)))


def fears_tokens_that_do_not_fit(data, tokens, encode):
    _, cut = last_tokens(data, tokens, encode)
    starts = [
        i
        for i in range(len(data))
        if any(len(t) > len(data) - i and t.startswith(data[i:]) for t in tokens)
    ]
    return what_is_common(data, cut, starts)


def takes_the_longest_last_token(data, tokens, encode):
    fits, cut = last_tokens(data, tokens, encode, fits=lambda start, token: True)
    starts = [
        i
        for i in range(len(data))
        if any(len(t) > len(data) - i and t.startswith(data[i:]) and fits(i, t) for t in tokens)
    ]
    return what_is_common(data, cut, starts)


def asks_again_and_again(data, tokens, encode):
    def cut(end):
        for start in range(max(0, end - max(map(len, tokens))), end):
            before, token = cut(start), data[start:end]
            if token in tokens and (not start or encode(before[-1] + token)[-1] == token):
                return [*before, token]
        return []

    def fits(start, token):
        return not start or encode(cut(start)[-1] + token)[-1] == token

    starts = [
        i
        for i in range(len(data))
        if any(len(t) > len(data) - i and t.startswith(data[i:]) and fits(i, t) for t in tokens)
    ]
    return what_is_common(data, cut, starts)


def greedily(word, pieces):
    while word:
        end = max((n for n in range(1, len(word) + 1) if word[:n] in pieces), default=0)
        if not end:
            return False
        word = word[end:]
    return True


def joins_two_pieces(pieces):
    words = sorted((a + b for a in pieces for b in pieces), key=lambda word: (len(word), word))
    return next((word for word in words if not greedily(word, pieces)), None)


def counts_pieces_in_place_of_letters(pieces):
    words = [""]
    for _ in range(4):
        words = [word + piece for word in words for piece in sorted(pieces)]
        lost = [word for word in words if not greedily(word, pieces)]
        if lost:
            return min(lost, key=lambda word: (len(word), word))
    return None


def gives_up_after_a_few_letters(pieces):
    words = {""}
    for _ in range(7):
        words |= {word + piece for word in words for piece in pieces if len(word + piece) <= 7}
    lost = [word for word in words if not greedily(word, pieces)]
    return min(lost, key=lambda word: (len(word), word), default=None)


def search(pieces, at_stuck=True, both=True, ahead=True, order=1):
    beginnings = {piece[:n] for piece in pieces for n in range(len(piece) + 1)}

    def match(rest, at_end):
        goes_on = beginnings if ahead else pieces
        while rest and (at_end or rest not in goes_on):
            size = max((n for n in range(1, len(rest) + 1) if rest[:n] in pieces), default=0)
            rest = rest[size:] if size else None
        return rest

    queue, seen = [("", "", frozenset([""]))], set()
    for word, rest, open_ends in queue:
        for letter in sorted(set("".join(pieces)))[::order]:
            longer = {end + letter for end in open_ends} & beginnings
            longer |= {""} if longer & pieces else set()
            undecided = None if rest is None else match(rest + letter, False)
            if "" in longer and match(undecided, True) is None:
                return word + letter
            state = (undecided, frozenset(longer) if both else None)
            if longer and state not in seen and (at_stuck or undecided is not None):
                seen.add(state)
                queue.append((word + letter, undecided, frozenset(longer)))
    return None


def drops_a_word_when_greed_is_stuck(pieces):
    return search(pieces, at_stuck=False)


def compares_what_greed_left_alone(pieces):
    return search(pieces, both=False)


def decides_as_soon_as_no_piece_stands_there(pieces):
    return search(pieces, ahead=False)


def returns_the_last_word(pieces):
    return search(pieces, order=-1)


def returns_any_word_that_greed_cannot_cut(pieces):
    letters = sorted(set("".join(pieces)))
    words = [*letters, *(a + b for a in letters for b in letters)]
    return next((word for word in words if not greedily(word, pieces)), None)


def never_finds_one(pieces):
    return None


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
    "09.2": [
        keeps_the_zeros,
        gives_the_new_counts,
        counts_the_pair_between_twice,
        merges_from_the_right,
    ],
    "09.3": [
        keeps_every_token,
        holds_back_one_token,
        holds_back_one_token_that_may_grow,
        encodes_the_whole_text,
        fears_every_place,
        fears_tokens_that_do_not_fit,
        takes_the_longest_last_token,
        takes_the_longest_match,
        encodes_a_window,
        asks_again_and_again,
    ],
    "09.4": [cuts_at_the_longest_beginning, cuts_at_the_shortest_beginning, joins_from_the_left],
    "09.5": [
        joins_two_pieces,
        counts_pieces_in_place_of_letters,
        gives_up_after_a_few_letters,
        drops_a_word_when_greed_is_stuck,
        compares_what_greed_left_alone,
        decides_as_soon_as_no_piece_stands_there,
        returns_the_last_word,
        returns_any_word_that_greed_cannot_cut,
        never_finds_one,
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
