"""Plausible wrong answers to the exercises of notebook 07: each must be refused."""

import copy

import numpy as np
import torch

from llmlib.pretrained.crc import advance


def cuts_off(values):
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def rounds_halves_up(values):
    return ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def takes_the_other_half_format(values):
    return values.astype(np.float16).view(np.uint16)


def takes_the_lower_half(values):
    return (values.view(np.uint32) & 0xFFFF).astype(np.uint16)


def adds_the_crcs(first, second, n_second):
    return first ^ second


def moves_by_bits(first, second, n_second):
    return int(advance(np.array([first], np.uint32), 8 * n_second)[0]) ^ second


def moves_the_second(first, second, n_second):
    return first ^ int(advance(np.array([second], np.uint32), n_second)[0])


def takes_the_ones_out(first, second, n_second):
    ones = np.array([first ^ 0xFFFFFFFF], np.uint32)
    return int(advance(ones, n_second)[0]) ^ second ^ 0xFFFFFFFF


def queries(w, b, head, n_heads):
    size = w.shape[1] // (3 * n_heads)
    return w[:, head * size : (head + 1) * size], b[head * size : (head + 1) * size]


def heads_first(w, b, head, n_heads):
    return w.reshape(len(w), n_heads, 3, -1)[:, head, 1], b.reshape(n_heads, 3, -1)[head, 1]


def rows_of_keys(w, b, head, n_heads):
    return keys_of(w, head, n_heads).T, keys_of(b[None], head, n_heads)[0]


def keys_of(w, head, n_heads):
    return w.reshape(len(w), 3, n_heads, -1)[:, 1, head]


def states_of(model, ids):
    states = [model.wte(ids) + model.wpe.weight[: ids.shape[1]]]
    for block in model.h:
        states.append(block(states[-1]))
    return states


def without_the_norm(model, ids):
    return [(x[0, -1] @ model.wte.weight.T).argmax().item() for x in states_of(model, ids)]


def without_the_embeddings(model, ids):
    states = states_of(model, ids)[1:]
    return [(model.ln_f(x[0, -1]) @ model.wte.weight.T).argmax().item() for x in states]


def at_the_first_token(model, ids):
    states = states_of(model, ids)
    return [(model.ln_f(x[0, 0]) @ model.wte.weight.T).argmax().item() for x in states]


def fold_with(change):
    @torch.no_grad()
    def fold(model):
        model = copy.deepcopy(model)
        for block in model.h:
            for norm, linear in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                change(norm, linear)
                norm.weight.fill_(1)
                norm.bias.zero_()
        return model

    return fold


def scale_first(norm, linear):
    linear.weight *= norm.weight
    linear.bias += linear.weight @ norm.bias


def rows_scaled(norm, linear):
    linear.bias += linear.weight @ norm.bias
    linear.weight *= norm.weight.repeat(4)[: len(linear.weight), None]


def shift_forgotten(norm, linear):
    linear.weight *= norm.weight


@torch.no_grad()
def fold_in_place(model):
    for block in model.h:
        for norm, linear in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
            linear.bias += linear.weight @ norm.bias
            linear.weight *= norm.weight
            norm.weight.fill_(1)
            norm.bias.zero_()
    return model


WRONG = {
    "07.1": [cuts_off, rounds_halves_up, takes_the_other_half_format, takes_the_lower_half],
    "07.2": [adds_the_crcs, moves_by_bits, moves_the_second, takes_the_ones_out],
    "07.3": [queries, heads_first, rows_of_keys],
    "07.4": [without_the_norm, without_the_embeddings, at_the_first_token],
    "07.5": [
        *map(fold_with, (scale_first, rows_scaled, shift_forgotten)),
        fold_in_place,
        copy.deepcopy,
    ],
}
