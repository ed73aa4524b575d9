"""Plausible wrong answers to the exercises of notebook 02: each must be refused."""

from collections import Counter

import torch
import torch.nn.functional as F


def every_pair_counts_one(words, window):
    company = Counter()
    for i, center in enumerate(words):
        for j in range(max(0, i - window), min(len(words), i + window + 1)):
            if j != i:
                company[center, words[j]] += 1
    return company


def looks_to_the_right_only(words, window):
    company = Counter()
    for i, center in enumerate(words):
        for j in range(i + 1, min(len(words), i + window + 1)):
            company[center, words[j]] += 1 / (j - i)
    return company


def leaves_out_equal_words(words, window):
    company = Counter()
    for i, center in enumerate(words):
        for j in range(max(0, i - window), min(len(words), i + window + 1)):
            if words[j] != center:
                company[center, words[j]] += 1 / abs(j - i)
    return company


def distance_from_zero(words, window):
    company = Counter()
    for i, center in enumerate(words):
        for j in range(max(0, i - window), min(len(words), i + window + 1)):
            if j != i:
                company[center, words[j]] += 1 / (abs(j - i) + 1)
    return company


def ignores_the_window(words, window):
    return {
        (a, b): sum(
            1 / abs(i - j)
            for i in range(len(words))
            for j in range(len(words))
            if i != j and (words[i], words[j]) == (a, b)
        )
        for a in words
        for b in words
        if a != b
    }


def signs_reversed(v, u, noise):
    return (1 - torch.sigmoid(u @ v)) * v, -torch.sigmoid(noise @ v)[:, None] * v


def noise_summed_up(v, u, noise):
    return -(1 - torch.sigmoid(u @ v)) * v, torch.sigmoid(noise @ v).sum() * v


def sigmoid_forgotten(v, u, noise):
    return -v, v.expand(len(noise), -1)


def noise_like_company(v, u, noise):
    pull = 1 - torch.sigmoid(noise @ v)
    return -(1 - torch.sigmoid(u @ v)) * v, pull[:, None] * v


def softmax_alone(v, contexts, noise):
    return torch.softmax(contexts @ v, dim=0)


def divides_by_the_noise(v, contexts, noise):
    return torch.softmax(contexts @ v - noise.log(), dim=0)


def belief_that_a_pair_is_true(v, contexts, noise):
    return torch.sigmoid(contexts @ v)


def adds_up_to_something(v, contexts, noise):
    return noise * torch.exp(contexts @ v)


def whole_singular_values(matrix, k):
    left, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :k] * s[:k]


def without_singular_values(matrix, k):
    return torch.linalg.svd(matrix, full_matrices=False)[0][:, :k]


def rows_of_the_company(matrix, k):
    _, s, right = torch.linalg.svd(matrix, full_matrices=False)
    return right[:k].T * s[:k].sqrt()


def all_columns(matrix, k):
    left, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    return left * s.sqrt()


def centres_first(matrix, k):
    left, s, _ = torch.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    return left[:, :k] * s[:k].sqrt()


def counts_from_zero(scores, right, excluded):
    allowed = [i for i in range(len(scores)) if i not in excluded]
    return sum(bool(scores[i] > scores[right]) for i in allowed)


def forgets_the_excluded(scores, right, excluded):
    return int((scores > scores[right]).sum()) + 1


def subtracts_all_excluded(scores, right, excluded):
    return int((scores > scores[right]).sum()) + 1 - len(excluded)


def counts_ties_as_ahead(scores, right, excluded):
    allowed = [i for i in range(len(scores)) if i not in excluded]
    return sum(bool(scores[i] >= scores[right]) for i in allowed)


def adds_instead_of_multiplying(matrix, a, b, c):
    u = F.normalize(matrix, dim=1)
    scores = u @ (u[b] - u[a] + u[c])
    scores[[a, b, c]] = -torch.inf
    return int(scores.argmax())


def cosines_not_shifted(matrix, a, b, c):
    u = F.normalize(matrix, dim=1)
    scores = (u @ u[b]) * (u @ u[c]) / (u @ u[a] + 0.001)
    scores[[a, b, c]] = -torch.inf
    return int(scores.argmax())


def question_words_allowed(matrix, a, b, c):
    s = (F.normalize(matrix, dim=1) @ F.normalize(matrix, dim=1).T + 1) / 2
    return int((s[b] * s[c] / (s[a] + 0.001)).argmax())


def confuses_a_and_c(matrix, a, b, c):
    s = (F.normalize(matrix, dim=1) @ F.normalize(matrix, dim=1).T + 1) / 2
    scores = s[b] * s[a] / (s[c] + 0.001)
    scores[[a, b, c]] = -torch.inf
    return int(scores.argmax())


def direction_not_scaled(matrix, direction):
    return matrix - (matrix @ direction)[:, None] * direction


def scaled_by_the_length_only_once(matrix, direction):
    return matrix - (matrix @ direction)[:, None] * direction / direction.norm()


def rows_scaled_to_one(matrix, direction):
    g = F.normalize(direction, dim=0)
    return F.normalize(matrix - (matrix @ g)[:, None] * g, dim=1)


def keeps_only_the_direction(matrix, direction):
    g = F.normalize(direction, dim=0)
    return (matrix @ g)[:, None] * g


def by_euclidean_distance(company):
    centres = company[[0, 1]]
    for _ in range(20):
        labels = torch.cdist(company, centres).argmin(dim=1)
        centres = torch.stack(
            [company[labels == i].mean(0) if (labels == i).any() else centres[i] for i in (0, 1)]
        )
    return labels


def half_of_the_rows_each(company):
    rows = F.normalize(company, dim=1)
    like_the_first = rows @ rows[0]
    return (like_the_first > like_the_first.median()).long()


def by_length(company):
    lengths = company.norm(dim=1)
    return (lengths > lengths.median()).long()


def one_group(company):
    return torch.zeros(len(company), dtype=torch.long)


WRONG = {
    "02.1": [
        every_pair_counts_one,
        looks_to_the_right_only,
        leaves_out_equal_words,
        distance_from_zero,
        ignores_the_window,
    ],
    "02.2": [signs_reversed, noise_summed_up, sigmoid_forgotten, noise_like_company],
    "02.3": [
        softmax_alone,
        divides_by_the_noise,
        belief_that_a_pair_is_true,
        adds_up_to_something,
    ],
    "02.4": [
        whole_singular_values,
        without_singular_values,
        rows_of_the_company,
        all_columns,
        centres_first,
    ],
    "02.5": [
        counts_from_zero,
        forgets_the_excluded,
        subtracts_all_excluded,
        counts_ties_as_ahead,
    ],
    "02.6": [
        adds_instead_of_multiplying,
        cosines_not_shifted,
        question_words_allowed,
        confuses_a_and_c,
    ],
    "02.7": [
        direction_not_scaled,
        scaled_by_the_length_only_once,
        rows_scaled_to_one,
        keeps_only_the_direction,
    ],
    "02.8": [by_euclidean_distance, half_of_the_rows_each, by_length, one_group],
}
