"""Plausible wrong answers to the exercises of notebook 02: each must be refused."""

import torch
import torch.nn.functional as F


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


def counts_from_zero(scores, right, excluded):
    allowed = [i for i in range(len(scores)) if i not in excluded]
    return sum(bool(scores[i] > scores[right]) for i in allowed)


def forgets_the_excluded(scores, right, excluded):
    return int((scores > scores[right]).sum()) + 1


def subtracts_all_excluded(scores, right, excluded):
    return int((scores > scores[right]).sum()) + 1 - len(excluded)


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


def signs_reversed(v, u, noise):
    return (1 - torch.sigmoid(u @ v)) * v, -torch.sigmoid(noise @ v)[:, None] * v


def noise_summed_up(v, u, noise):
    return -(1 - torch.sigmoid(u @ v)) * v, torch.sigmoid(noise @ v).sum() * v


def sigmoid_forgotten(v, u, noise):
    return -v, v.expand(len(noise), -1)


def noise_like_company(v, u, noise):
    pull = 1 - torch.sigmoid(noise @ v)
    return -(1 - torch.sigmoid(u @ v)) * v, pull[:, None] * v


WRONG = {
    "02.1": [
        direction_not_scaled,
        scaled_by_the_length_only_once,
        rows_scaled_to_one,
        keeps_only_the_direction,
    ],
    "02.2": [counts_from_zero, forgets_the_excluded, subtracts_all_excluded],
    "02.3": [
        adds_instead_of_multiplying,
        cosines_not_shifted,
        question_words_allowed,
        confuses_a_and_c,
    ],
    "02.4": [signs_reversed, noise_summed_up, sigmoid_forgotten, noise_like_company],
}
