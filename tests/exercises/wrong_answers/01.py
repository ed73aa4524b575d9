"""Plausible wrong answers to the exercises of notebook 01: each must be refused."""

from collections import Counter

import torch


def forgets_the_target(n_tokens, max_length, stride):
    return max(0, (n_tokens - max_length) // stride + 1)


def forgets_short_texts(n_tokens, max_length, stride):
    return (n_tokens - max_length - 1) // stride + 1


def rounds_towards_zero(n_tokens, max_length, stride):
    return max(0, int((n_tokens - max_length - 1) / stride) + 1)


def cuts_into_pairs(ids):
    pairs = Counter(zip(ids[::2], ids[1::2]))
    return max(pairs, key=pairs.get, default=None)


def takes_the_last_of_equals(ids):
    pairs = Counter(zip(ids, ids[1:]))
    return max(reversed(pairs), key=pairs.get) if pairs else None


def fails_without_a_pair(ids):
    return Counter(zip(ids, ids[1:])).most_common(1)[0][0]


def one_byte_for_each_character(text, characters):
    return [256 + characters.index(c) if c in characters else ord(c) % 256 for c in text]


def does_not_shift_the_known_ones(text, characters):
    ids = []
    for c in text:
        ids += [characters.index(c)] if c in characters else c.encode()
    return ids


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


WRONG = {
    "01.1": [forgets_the_target, forgets_short_texts, rounds_towards_zero],
    "01.2": [takes_the_last_of_equals, fails_without_a_pair, cuts_into_pairs],
    "01.3": [one_byte_for_each_character, does_not_shift_the_known_ones],
    "01.4": [starts_again_at_the_separator, counts_through, gives_a_list],
    "01.5": [counts_different_windows_only, compares_tokens, searches_the_digits],
}
