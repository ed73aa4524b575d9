"""Plausible wrong answers to the exercises of notebook 01: each must be refused."""

from collections import Counter

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


def forgets_the_target(n_tokens, max_length, stride):
    return max(0, (n_tokens - max_length) // stride + 1)


def forgets_short_texts(n_tokens, max_length, stride):
    return (n_tokens - max_length - 1) // stride + 1


def rounds_towards_zero(n_tokens, max_length, stride):
    return max(0, int((n_tokens - max_length - 1) / stride) + 1)


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


def windows_of(document, n):
    words = document.split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def compares_with_earlier_documents_only(documents, n, threshold):
    groups = []
    for place, document in enumerate(documents):
        found = place
        for other in range(place):
            a, b = windows_of(document, n), windows_of(documents[other], n)
            if len(a & b) >= threshold * len(a | b):
                found = groups[other]
                break
        groups.append(found)
    return groups


def compares_with_the_first_of_a_group(documents, n, threshold):
    groups = []
    for place, document in enumerate(documents):
        found = place
        for other in dict.fromkeys(groups):
            a, b = windows_of(document, n), windows_of(documents[other], n)
            if len(a & b) >= threshold * len(a | b):
                found = other
                break
        groups.append(found)
    return groups


def divides_by_the_smaller_set(documents, n, threshold):
    groups = list(range(len(documents)))
    for i in range(len(documents)):
        for j in range(i):
            a, b = windows_of(documents[i], n), windows_of(documents[j], n)
            if len(a & b) >= threshold * min(len(a), len(b)):
                old, new = max(groups[i], groups[j]), min(groups[i], groups[j])
                groups = [new if group == old else group for group in groups]
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
    "01.4": [forgets_the_target, forgets_short_texts, rounds_towards_zero],
    "01.5": [counts_different_windows_only, compares_tokens, searches_the_digits],
    "01.6": [
        compares_with_earlier_documents_only,
        compares_with_the_first_of_a_group,
        divides_by_the_smaller_set,
    ],
    "01.7": [starts_again_at_the_separator, counts_through, gives_a_list],
    "01.8": [longest_first, longest_last, gives_the_number],
}
