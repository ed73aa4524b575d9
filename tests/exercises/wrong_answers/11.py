"""Plausible wrong answers to the exercises of notebook 11: each must be refused."""

import math

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F

from llmlib.exercises.modern_answers import (
    absorb,
    capped,
    centre,
    halves,
    neighbours,
    page,
    stacked,
)
from llmlib.model.modern import Modern


def thirds(qkv_bias):
    return [part.clone() for part in qkv_bias.chunk(3)]


def transposes(qkv_bias, proj_weight, proj_bias):
    q, k, v = thirds(qkv_bias)
    return torch.cat([q, 0 * k, 0 * v]), proj_bias + proj_weight.T @ v


def loses_the_values(qkv_bias, proj_weight, proj_bias):
    q, k, v = thirds(qkv_bias)
    return torch.cat([q, 0 * k, 0 * v]), proj_bias


def adds_the_values_behind(qkv_bias, proj_weight, proj_bias):
    q, k, v = thirds(qkv_bias)
    return torch.cat([q, 0 * k, 0 * v]), proj_bias + v


def drops_the_queries(qkv_bias, proj_weight, proj_bias):
    q, k, v = thirds(qkv_bias)
    return torch.cat([0 * q, k, 0 * v]), proj_bias + proj_weight @ v


def drops_the_keys_only(qkv_bias, proj_weight, proj_bias):
    q, k, v = thirds(qkv_bias)
    return torch.cat([q, 0 * k, v]), proj_bias


def changes_the_model(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    return model


def returns_the_model(model):
    return model


def forgets_the_biases(model):
    return centre(model)


def forgets_to_centre(model):
    return absorb(model)


def copies_what_fits(model):
    return Modern(absorb(model).config)


def exchanges_rows_and_columns(x, rows, columns, base=10_000.0):
    return page(x, columns, rows, base)


def has_the_rates_of_all(x, rows, columns, base=10_000.0):
    return page(x, rows, columns, base, x.shape[-1])


def pairs_neighbours(x, rows, columns, base=10_000.0):
    T, D = x.shape
    mixed = x.view(T, 2, D // 4, 2).transpose(2, 3).reshape(T, D)
    out = page(mixed, rows, columns, base)
    return out.view(T, 2, 2, D // 4).transpose(2, 3).reshape(T, D)


def turns_twice(x, rows, columns, base=10_000.0):
    return page(page(x, rows, rows, base), columns, columns, base)


def parts(n, *signs):
    eye, zero = torch.eye(n), torch.zeros(n, n)
    gate = torch.cat([sign * torch.cat([eye, zero], 1) for sign, _ in signs])
    up = torch.cat([sign * torch.cat([zero, eye], 1) for _, sign in signs])
    return gate, up, torch.ones(1, len(gate))


def takes_silu_for_the_number(n):
    return parts(n, (1, 1))


def adds_the_second_half(n):
    return parts(n, (1, 1), (-1, 1))


def multiplies_neighbours(n):
    gate, up, down = parts(n, (1, 1), (-1, -1))
    order = torch.arange(2 * n).view(n, 2).T.flatten().argsort()
    return gate[:, order], up[:, order], down.new_ones(down.shape)


def transposes_down(n):
    gate, up, down = parts(n, (1, 1), (-1, -1))
    return gate.T, up.T, down


def averages(w_q, w_k):
    return w_q, w_k.mean(0)


def takes_the_first(w_q, w_k):
    mix = torch.linalg.lstsq(w_k[0].T, w_k[1].T).solution.T
    if not mix.isfinite().all() or mix.abs().max() > 1e4:
        mix = w_k[1] @ torch.linalg.pinv(w_k[0], rtol=1e-4)
    return torch.stack([w_q[0], mix.T @ w_q[1]]), w_k[0]


def keeps_the_queries(w_q, w_k):
    _, _, basis = torch.linalg.svd(w_k.flatten(0, 1))
    return w_q, basis[: w_k.shape[1]]


def folds_transposed(w_q, w_k):
    _, _, basis = torch.linalg.svd(w_k.flatten(0, 1))
    basis = basis[: w_k.shape[1]]
    return (w_k @ basis.T) @ w_q, basis


def keeps_both(w_q, w_k):
    return w_q, w_k


def forgets_the_slope(logits, targets, cap):
    return capped(logits, targets, cap, sloped=False)


def adds_up(logits, targets, cap):
    return capped(logits, targets, cap, total=True)


def forgets_the_cap_in_the_probabilities(logits, targets, cap):
    gradient = logits.softmax(-1) - F.one_hot(targets, logits.shape[-1])
    return gradient * (1 - torch.tanh(logits / cap).square()) / len(logits)


def takes_196(differences, smallest):
    m = 2
    while 1.96 * differences.std(ddof=1) / math.sqrt(m) >= smallest:
        m += 1
    return m


def seeds_by(differences, smallest, ddof=1, sides=1):
    m = 2
    while scipy.stats.t.ppf(0.975, m - 1) * differences.std(ddof=ddof) / math.sqrt(m) >= (
        smallest / sides
    ):
        m += 1
    return m


def divides_by_n(differences, smallest):
    return seeds_by(differences, smallest, ddof=0)


def takes_the_whole_width(differences, smallest):
    return seeds_by(differences, smallest, sides=2)


def does_not_solve_for_t(differences, smallest):
    t = scipy.stats.t.ppf(0.975, len(differences) - 1)
    return int(np.ceil((t * differences.std(ddof=1) / smallest) ** 2))


def with_mistake(name):
    def wrong(state, config):
        return stacked(state, config, **{name: True})

    wrong.__name__ = name
    return wrong


def wrong_number_of_heads(state, config):
    found, D = stacked(state, config), config.emb_dim // config.n_heads
    for name, rows in found.items():
        if name.endswith("c_attn.weight"):
            n = config.n_heads * config.head_dim
            everything = torch.cat([neighbours(rows[:n], config.head_dim), rows[n:]])
            rows.copy_(torch.cat([halves(everything[: 2 * D], D), rows[2 * D :]]))
    return found


def keeps_the_frequencies(state, config):
    return stacked(state, config) | {"rope.freqs": state["rope.freqs"]}


WRONG = {
    "11.1": [
        transposes,
        loses_the_values,
        adds_the_values_behind,
        drops_the_queries,
        drops_the_keys_only,
    ],
    "11.2": [
        changes_the_model,
        returns_the_model,
        forgets_the_biases,
        forgets_to_centre,
        copies_what_fits,
    ],
    "11.3": [exchanges_rows_and_columns, has_the_rates_of_all, pairs_neighbours, turns_twice],
    "11.5": [
        takes_silu_for_the_number,
        adds_the_second_half,
        multiplies_neighbours,
        transposes_down,
    ],
    "11.4": [averages, takes_the_first, keeps_the_queries, folds_transposed, keeps_both],
    "11.6": [forgets_the_slope, adds_up, forgets_the_cap_in_the_probabilities],
    "11.7": [takes_196, divides_by_n, takes_the_whole_width, does_not_solve_for_t],
    "11.8": [
        *map(with_mistake, ("unturned", "again", "queries_only", "values_too", "exchanged")),
        wrong_number_of_heads,
        keeps_the_frequencies,
    ],
}
