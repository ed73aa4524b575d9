"""Plausible wrong answers to the exercises of notebook 01: each must be refused."""

from collections import Counter

import torch


def forgets_the_target(n_tokens, max_length, stride):
    return max(0, (n_tokens - max_length) // stride + 1)


def forgets_short_texts(n_tokens, max_length, stride):
    return (n_tokens - max_length - 1) // stride + 1


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


def counts_through(ids, end_of_text):
    return torch.arange(len(ids))


def counts_different_windows_only(train_ids, val_ids, n):
    def windows(ids):
        return {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}

    return len(windows(train_ids) & windows(val_ids)) / max(1, len(windows(val_ids)))


def compares_tokens(train_ids, val_ids, n):
    return sum(i in set(train_ids) for i in val_ids) / len(val_ids)


WRONG = {
    "01.1": [forgets_the_target, forgets_short_texts],
    "01.2": [takes_the_last_of_equals, fails_without_a_pair],
    "01.3": [one_byte_for_each_character, does_not_shift_the_known_ones],
    "01.4": [starts_again_at_the_separator, counts_through],
    "01.5": [counts_different_windows_only, compares_tokens],
}
