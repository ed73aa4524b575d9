"""Plausible wrong answers to the exercises of notebook 10: each must be refused."""

import torch


def forgets_the_values(free_bytes, n_layers, emb_dim, n_tokens, number):
    return free_bytes // (n_layers * emb_dim * n_tokens * number)


def rounds_up(free_bytes, n_layers, emb_dim, n_tokens, number):
    return round(free_bytes / (2 * n_layers * emb_dim * n_tokens * number))


def gives_half_a_text(free_bytes, n_layers, emb_dim, n_tokens, number):
    return free_bytes / (2 * n_layers * emb_dim * n_tokens * number)


def counts_the_padding(padding, n_tokens):
    return torch.arange(n_tokens).expand(len(padding), n_tokens)


def goes_below_zero(padding, n_tokens):
    return torch.arange(n_tokens) - padding[:, None]


def begins_at_one(padding, n_tokens):
    return (torch.arange(n_tokens) - padding[:, None] + 1).clamp(min=0)


def has_a_scale_for_each_row(weight, group):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


def divides_zero_by_zero(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True) / 127
    return ((parts / scale).round() * scale).view_as(weight)


def cuts_off(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return ((parts / scale).trunc() * scale).view_as(weight)


def groups_the_rows(weight, group):
    return divides_zero_by_zero(weight.T.contiguous().view(-1, weight.shape[1]), group)


def draws_from_the_target(p, q):
    return p


def does_not_sum_to_one(p, q):
    return (p - q).clamp(min=0)


def takes_the_distance(p, q):
    return (p - q).abs() / (p - q).abs().sum()


def divides_nothing(p, q):
    left = (p - q).clamp(min=0)
    return left / left.sum()


def holds_back_what_continues(data):
    n = 0
    while n < len(data) and data[-1 - n] >= 0x80:
        n += 1
    return min(n, 3)


def knows_two_bytes_only(data):
    return int(bool(data) and data[-1] >= 0xC0)


def trusts_the_decoder(data):
    text = data.decode(errors="replace")
    return len(text) - len(text.rstrip("\N{REPLACEMENT CHARACTER}"))


WRONG = {
    "10.1": [forgets_the_values, rounds_up, gives_half_a_text],
    "10.2": [counts_the_padding, goes_below_zero, begins_at_one],
    "10.3": [has_a_scale_for_each_row, divides_zero_by_zero, cuts_off, groups_the_rows],
    "10.4": [draws_from_the_target, does_not_sum_to_one, takes_the_distance, divides_nothing],
    "10.5": [holds_back_what_continues, knows_two_bytes_only, trusts_the_decoder],
}
