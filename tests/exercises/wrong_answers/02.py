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


def factorized(
    pairs, values, weights, background, ridge, v, q, rounds, apart=False, old=False, free=False
):
    """Return the factors by way of the whole table, which is too large a thing to make."""
    n, k = v.shape
    table, omega = torch.zeros(n, n), torch.full((n, n), float(background))
    table[pairs[:, 0], pairs[:, 1]] = values
    omega[pairs[:, 0], pairs[:, 1]] = weights

    def solved(omega, target, columns):
        penalty = ridge * torch.eye(columns.shape[1])
        if free:
            penalty[-1, -1] = 1e-9
        gram = (columns.T * omega[:, None]) @ columns + penalty  # (V, ·, ·)
        return torch.linalg.solve(gram, (omega * target) @ columns)

    def best(table, omega, v, q):
        ones = torch.ones(n, 1)
        if not apart:
            both = solved(omega, table - q, torch.cat([v, ones], dim=1))
            return both[:, :k], both[:, k]
        u = solved(omega, table - q, v)
        return u, solved(omega, table - q - u @ v.T, ones)[:, 0]

    u, p = torch.zeros_like(v), torch.zeros_like(q)
    for _ in range(rounds):
        before = u, p
        u, p = best(table, omega, v, q)
        v, q = best(table.T, omega.T, *(before if old else (u, p)))
    return u, p, v, q


def background_on_top(pairs, values, weights, background, *rest):
    return factorized(pairs, values, weights + background, background, *rest)


def background_left_out(pairs, values, weights, background, *rest):
    return factorized(pairs, values, weights, 0.0, *rest)


def weights_squared(pairs, values, weights, background, *rest):
    return factorized(pairs, values, weights**2, background**2, *rest)


def shifts_afterwards(*given):
    return factorized(*given, apart=True)


def both_halves_from_the_old(*given):
    return factorized(*given, old=True)


def shifts_without_ridge(*given):
    return factorized(*given, free=True)


def row_by_row(pairs, values, weights, background, ridge, v, q, rounds):
    """Visit each cell, one row at a time."""

    def best(pairs, v, q):
        columns, rows = torch.cat([v, torch.ones(len(v), 1)], dim=1), []
        for i in range(len(v)):
            omega, x, mine = (
                torch.full((len(v),), background),
                torch.zeros(len(v)),
                pairs[:, 0] == i,
            )
            omega[pairs[mine, 1]], x[pairs[mine, 1]] = weights[mine], values[mine]
            gram = columns.T @ (omega[:, None] * columns) + ridge * torch.eye(columns.shape[1])
            rows.append(torch.linalg.solve(gram, columns.T @ (omega * (x - q))))
        return torch.stack(rows)[:, :-1], torch.stack(rows)[:, -1]

    for _ in range(rounds):
        u, p = best(pairs, v, q)
        v, q = best(pairs.flip(1), u, p)
    return u, p, v, q


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


def gaps_after_fit(a, b, pairs, everyone=False, mirror=True):
    i, j = torch.tensor(pairs).T
    middle_a, middle_b = (a.mean(0), b.mean(0)) if everyone else (a[i].mean(0), b[j].mean(0))
    x, y = a[i] - middle_a, b[j] - middle_b
    left, s, right = torch.linalg.svd(x.T @ y)
    if not mirror and torch.linalg.det(left @ right) < 0:
        left[:, -1] *= -1
    return torch.cdist(s.sum() / x.square().sum() * (a - middle_a) @ left @ right + middle_b, b)


def mutual(gaps):
    forth, back = gaps.argmin(dim=1).tolist(), gaps.argmin(dim=0).tolist()
    return [(i, j) for i, j in enumerate(forth) if back[j] == i]


def all_mutual_pairs_at_once(a, b, known, radius, rounds=30, **fit):
    pairs = list(known)
    for _ in range(rounds):
        gaps = gaps_after_fit(a, b, pairs, **fit)
        pairs = mutual(gaps)
    return {i: j for i, j in pairs if gaps[i, j] <= radius}


def a_single_fit(a, b, known, radius):
    return all_mutual_pairs_at_once(a, b, known, radius, rounds=1)


def three_fits(a, b, known, radius):
    return all_mutual_pairs_at_once(a, b, known, radius, rounds=3)


def centred_on_all_rows(a, b, known, radius):
    return all_mutual_pairs_at_once(a, b, known, radius, everyone=True)


def no_mirror(a, b, known, radius):
    return all_mutual_pairs_at_once(a, b, known, radius, mirror=False)


def nearest_of_each(a, b, known, radius):
    pairs = list(known)
    for _ in range(30):
        pairs = list(enumerate(gaps_after_fit(a, b, pairs).argmin(dim=1).tolist()))
    return dict(pairs)


def surest_first(a, b, known, radius):
    """Return all mutual pairs, those that are too far apart, too."""
    pairs, size = list(known), len(known)
    while size < min(len(a), len(b)):
        gaps = gaps_after_fit(a, b, pairs)
        size = int(1.3 * size) + 1
        pairs = sorted(mutual(gaps), key=lambda pair: gaps[pair].item())[:size]
    return dict(mutual(gaps))


def the_other_way(a, b, known, radius):
    there = surest_first(a, b, known, radius)
    gaps = gaps_after_fit(a, b, list(there.items()))
    return {j: i for i, j in there.items() if gaps[i, j] <= radius}


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
        factorized,
        background_on_top,
        background_left_out,
        weights_squared,
        shifts_afterwards,
        both_halves_from_the_old,
        shifts_without_ridge,
        row_by_row,
    ],
    "02.5": [
        counts_from_zero,
        forgets_the_excluded,
        subtracts_all_excluded,
        counts_ties_as_ahead,
    ],
    "02.6": [
        all_mutual_pairs_at_once,
        a_single_fit,
        three_fits,
        centred_on_all_rows,
        no_mirror,
        nearest_of_each,
        surest_first,
        the_other_way,
    ],
    "02.7": [
        direction_not_scaled,
        scaled_by_the_length_only_once,
        rows_scaled_to_one,
        keeps_only_the_direction,
    ],
    "02.8": [by_euclidean_distance, half_of_the_rows_each, by_length, one_group],
}
