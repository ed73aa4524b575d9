"""Plausible wrong answers to the exercises of notebook 01: each must be refused."""

import math
import re
from collections import Counter, defaultdict
from functools import wraps
from itertools import accumulate, chain

import torch


def takes_a_share_of_the_different_words(words, share):
    return max(1, -int(-share * len(set(words)) // 1))


def takes_the_rarest_first(words, share):
    taken, number = 0, 0
    for count in sorted(Counter(words).values()):
        if taken >= share * len(words):
            break
        taken, number = taken + count, number + 1
    return number


def stops_one_word_too_late(words, share):
    taken, number = 0, 0
    for _, count in Counter(words).most_common():
        taken, number = taken + count, number + 1
        if taken > share * len(words):
            break
    return number


def one_byte_for_each_character(text, characters):
    return [256 + characters.index(c) if c in characters else ord(c) % 256 for c in text]


def takes_code_points(text, characters):
    return [256 + characters.index(c) if c in characters else ord(c) for c in text]


def does_not_shift_the_known_ones(text, characters):
    ids = []
    for c in text:
        ids += [characters.index(c)] if c in characters else c.encode()
    return ids


def merges_the_first_place_only(word, merges):
    pieces = list(word)
    for left, right in merges:
        for place in range(len(pieces) - 1):
            if pieces[place : place + 2] == [left, right]:
                pieces[place : place + 2] = [left + right]
                break
    return pieces


def goes_through_the_merges_once_for_each_place(word, merges):
    pieces = []
    for letter in word:
        pieces.append(letter)
        while len(pieces) > 1 and tuple(pieces[-2:]) in merges:
            pieces[-2:] = ["".join(pieces[-2:])]
    return pieces


def merges_from_the_right(word, merges):
    pieces = list(word)
    for left, right in merges:
        place = len(pieces) - 2
        while place >= 0:
            if pieces[place : place + 2] == [left, right]:
                pieces[place : place + 2] = [left + right]
                place -= 1
            place -= 1
    return pieces


def counts_different_windows_only(train_ids, val_ids, n):
    def windows(ids):
        return {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}

    return len(windows(train_ids) & windows(val_ids)) / max(1, len(windows(val_ids)))


def searches_the_digits(train_ids, val_ids, n):
    windows = [val_ids[i : i + n] for i in range(len(val_ids) - n + 1)]
    found = sum(str(window)[1:-1] in str(train_ids) for window in windows)
    return found / len(windows) if windows else 0.0


def compares_tokens(train_ids, val_ids, n):
    return sum(i in set(train_ids) for i in val_ids) / len(val_ids)


def groups_by_runs(enough, *checks):
    """Return an answer to 01.6 that reads `enough` runs, and asks where all checks agree."""

    def answer(sizes, run, similar, percent):
        groups, holders = list(range(len(sizes))), defaultdict(list)
        for i, size in enumerate(sizes):
            for k in range(enough(size, percent)):
                number = run(i, k)
                for j in holders[number]:
                    small, large = sorted((size, sizes[j]))
                    if not all(check(i, j, groups, small, large, percent) for check in checks):
                        continue
                    if similar(i, j):
                        old, new = max(groups[i], groups[j]), min(groups[i], groups[j])
                        groups = [new if group == old else group for group in groups]
                holders[number].append(i)
        return groups

    return answer


def named(name, answer):
    """Return an answer by another name."""
    answer.__name__ = name
    return answer


def read_all(size, percent):
    return size


def read_enough(size, percent):
    return size * (100 - percent) // 100 + 1


def apart(i, j, groups, *_):
    return groups[i] != groups[j]


def fits(i, j, groups, small, large, percent):
    return 100 * small >= percent * large


def longer_than_just_enough(i, j, groups, small, large, percent):
    return 100 * small > percent * large


def compares_all_pairs(sizes, run, similar, percent):
    groups = list(range(len(sizes)))
    for i in range(len(sizes)):
        for j in range(i):
            if groups[i] != groups[j] and similar(i, j):
                old, new = max(groups[i], groups[j]), min(groups[i], groups[j])
                groups = [new if group == old else group for group in groups]
    return groups


def asked_once(check_first):
    """Return a copy of the answer that keeps what was asked, and asks no pair twice."""

    @wraps(check_first)
    def answer(sizes, run, similar, percent):
        known = {}

        def once(i, j):
            if (i, j) not in known:
                known[i, j] = similar(i, j)
            return known[i, j]

        return check_first(sizes, run, once, percent)

    return answer


def joins_no_chains(sizes, run, similar, percent):
    groups, holders = list(range(len(sizes))), defaultdict(list)
    for i, size in enumerate(sizes):
        for number in [run(i, k) for k in range(read_enough(size, percent))]:
            for j in holders[number]:
                small, large = sorted((size, sizes[j]))
                if groups[i] == i and fits(i, j, groups, small, large, percent) and similar(i, j):
                    groups[i] = groups[j]
            holders[number].append(i)
    return groups


def starts_again_at_the_separator(ids, end_of_text):
    positions, position = [], 0
    for i in ids.tolist():
        position = 0 if i == end_of_text else position
        positions.append(position)
        position += 1
    return torch.tensor(positions)


def gives_a_list(ids, end_of_text):
    positions, position = [], 0
    for i in ids.tolist():
        positions.append(position)
        position = 0 if i == end_of_text else position + 1
    return positions


def counts_through(ids, end_of_text):
    return torch.arange(len(ids))


def longest_first(text, vocabulary):
    pieces = []
    while text:
        pieces.append(max((piece for piece in vocabulary if text.startswith(piece)), key=len))
        text = text[len(pieces[-1]) :]
    return pieces


def longest_last(text, vocabulary):
    pieces = []
    while text:
        pieces.insert(0, max((piece for piece in vocabulary if text.endswith(piece)), key=len))
        text = text[: -len(pieces[0])]
    return pieces


def gives_the_number(text, vocabulary):
    return len(longest_first(text, vocabulary))


def cuts_everything_again(words, edits, word_end, cut):
    return recut(words, edits, word_end, cut, keeps=False)


def finds_all_words_again(words, edits, word_end, cut):
    return recut(words, edits, word_end, cut, behind=10**9)


def looks_at_the_words_within_the_edit_only(words, edits, word_end, cut):
    return recut(words, edits, word_end, cut, behind=0)


def goes_one_character_back(words, edits, word_end, cut):
    return recut(words, edits, word_end, cut, behind=1)


def cuts_the_words_before_an_edit_again(words, edits, word_end, cut):
    return recut(words, edits, word_end, cut, compares=False)


def recut(words, edits, word_end, cut, behind=2, keeps=True, compares=True):
    """Solve 01.8, apart from what the arguments say."""
    text, new, stays, place = "".join(chain.from_iterable(words)), "", [], 0
    for start, end, inserted in [*edits, (len(text) + behind,) * 2 + ("",)]:
        stays.append((place, start, len(new) - place))
        new += text[place:start] + inserted
        place = end
    ends = [*accumulate(sum(map(len, pieces)) for pieces in words)]
    old = {
        start + shift: (end + shift, pieces, end + behind <= last)
        for first, last, shift in stays
        for start, end, pieces in zip([0, *ends], ends, words)
        if first <= start and end <= last and keeps
    }
    result, place = [], 0
    while place < len(new):
        end, pieces, sure = old.get(place, (0, None, False))
        if not sure:
            found = word_end(new, place)
            if not compares or found != end:
                end, pieces = found, cut(new[place:found])
        result.append(pieces)
        place = end
    return result


def cuts_the_touched_words_alone(words, edits, word_end, cut):
    for start, end, new in reversed(edits):
        ends = [*accumulate(sum(map(len, pieces)) for pieces in words)]
        first = sum(e + 2 <= start for e in ends)
        last = sum(e < end for e in ends) + 1
        before = ends[first - 1] if first else 0
        touched = "".join(chain.from_iterable(words[first:last]))
        touched = touched[: start - before] + new + touched[end - before :]
        place, found = 0, []
        while place < len(touched):
            stop = word_end(touched, place)
            found.append(touched[place:stop])
            place = stop
        words[first:last] = [re.findall("(?s)..?", word) for word in found]
    return words


def takes_the_places_of_the_new_text(words, edits, word_end, cut):
    text = "".join(chain.from_iterable(words))
    for start, end, new in edits:
        text = text[:start] + new + text[end:]
    place, result = 0, []
    while place < len(text):
        stop = word_end(text, place)
        result.append(re.findall("(?s)..?", text[place:stop]))
        place = stop
    return result


WRONG = {
    "01.1": [
        takes_a_share_of_the_different_words,
        takes_the_rarest_first,
        stops_one_word_too_late,
    ],
    "01.2": [one_byte_for_each_character, takes_code_points, does_not_shift_the_known_ones],
    "01.3": [
        merges_the_first_place_only,
        goes_through_the_merges_once_for_each_place,
        merges_from_the_right,
    ],
    "01.4": [longest_first, longest_last, gives_the_number],
    "01.5": [counts_different_windows_only, compares_tokens, searches_the_digits],
    "01.6": [
        compares_all_pairs,
        joins_no_chains,
        named("reads_all_runs", groups_by_runs(read_all, apart, fits)),
        named("asks_twice", groups_by_runs(read_enough, apart, fits)),
        *(
            named(name, asked_once(groups_by_runs(*how)))
            for name, how in {
                "reads_one_run_too_few": (lambda *a: read_enough(*a) - 1, apart, fits),
                "rounds_with_floats": (
                    lambda size, percent: size - math.ceil(percent / 100 * size) + 1,
                    apart,
                    fits,
                ),
                "asks_within_a_group": (read_enough, fits),
                "asks_whatever_the_sizes": (read_enough, apart),
                "wants_more_than_enough": (read_enough, apart, longer_than_just_enough),
            }.items()
        ),
    ],
    "01.7": [starts_again_at_the_separator, counts_through, gives_a_list],
    "01.8": [
        cuts_everything_again,
        finds_all_words_again,
        looks_at_the_words_within_the_edit_only,
        goes_one_character_back,
        cuts_the_words_before_an_edit_again,
        cuts_the_touched_words_alone,
        takes_the_places_of_the_new_text,
    ],
}
