"""Plausible wrong answers to the exercises of notebook 07: each must be refused."""

import copy

import numpy as np
import torch

from llmlib.exercises.disguised_gpt import attentions
from llmlib.pretrained.crc import crc32c, mask
from llmlib.pretrained.sstable import MAGIC, Block, write_table, write_varint


def cuts_off(values):
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def rounds_halves_up(values):
    return ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def rounds_halves_down(values):
    return ((values.view(np.uint32) + 0x7FFF) >> 16).astype(np.uint16)


def takes_the_other_half_format(values):
    with np.errstate(over="ignore"):
        return values.astype(np.float16).view(np.uint16)


def takes_the_lower_half(values):
    return (values.view(np.uint32) & 0xFFFF).astype(np.uint16)


def keeps_four_bytes(values):
    bits = values.view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def heal_with(in_crc=True, flips=2, none=True, calls=1):
    def heal(data, crc, checksum):
        zeros = bytes(len(data))
        explained = {1 << bit: [] for bit in range(32)} if in_crc else {}
        for bit in range(8 * len(data)):
            one = bytearray(zeros)
            one[bit // 8] = 1 << bit % 8
            for _ in range(calls):
                explained[checksum(bytes(one)) ^ crc32c(zeros)] = [bit]
        difference, explained = checksum(data) ^ crc, {0: [], **explained}
        for change, bits in explained.items() if flips == 2 else [(0, [])]:
            if difference ^ change in explained:
                healed = bytearray(data)
                for bit in (*bits, *explained[difference ^ change]):
                    healed[bit // 8] ^= 1 << bit % 8
                return bytes(healed)
        return None if none else data

    return heal


def gives_back_what_came(data, crc, checksum):
    return data


def keys_of(w, head, n_heads):
    return w.reshape(len(w), 3, n_heads, -1)[:, 1, head]


def third(number):
    def part(w, b, head, n_heads):
        size = w.shape[1] // (3 * n_heads)
        first = number * w.shape[1] // 3 + head * size
        return w[:, first : first + size], b[first : first + size]

    return part


def heads_first(w, b, head, n_heads):
    return w.reshape(len(w), n_heads, 3, -1)[:, head, 1], b.reshape(n_heads, 3, -1)[head, 1]


def rows_of_keys(w, b, head, n_heads):
    return keys_of(w, head, n_heads).T, keys_of(b[None], head, n_heads)[0]


def reorder_with(weight=True, bias=True, columns=True, inverse=False, in_place=False):
    @torch.no_grad()
    def reorder(model, block, order):
        model = model if in_place else copy.deepcopy(model)
        attn, n, C = model.h[block].attn, model.config.n_heads, model.config.emb_dim
        if inverse:
            order = sorted(range(n), key=order.__getitem__)
        rows = torch.arange(C).view(n, -1)[order].flatten()
        thirds = torch.cat([rows, C + rows, 2 * C + rows])
        if weight:
            attn.c_attn.weight.copy_(attn.c_attn.weight[thirds].clone())
        if bias:
            attn.c_attn.bias.copy_(attn.c_attn.bias[thirds].clone())
        if columns:
            attn.c_proj.weight.copy_(attn.c_proj.weight[:, rows].clone())
        return model

    return reorder


def does_nothing_to_a_copy(model, block, order):
    return copy.deepcopy(model)


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


def compared(model, constants=True, biases=True, together=True, one_to_one=True, back=False):
    def alike(a, b):
        return torch.allclose(a, b, rtol=0, atol=1e-4 * a.abs().max())

    def parts(weight, bias, proj, proj_bias):
        proj = proj.transpose(0, 1)
        scores, liking = weight[0].mT @ weight[1], (weight[1].mT @ bias[0][..., None])
        said = proj @ weight[2]
        constant = proj_bias + (proj @ bias[2][..., None]).sum(0)[:, 0]
        return [scores, said, *[liking] * biases], [constant] * constants

    def heads(other):
        orders = []
        for ours, theirs in zip(attentions(model), attentions(other)):
            (ours, constant), (theirs, other_constant) = parts(*ours), parts(*theirs)
            n = range(len(ours[0]))
            kinds = [[j for i in n for j in n if alike(b[i], a[j])] for a, b in zip(ours, theirs)]
            order = [
                j for i in n for j in n if all(alike(b[i], a[j]) for a, b in zip(ours, theirs))
            ]
            order = order if together else min(kinds, key=len)
            if len(order) < len(n) or not all(map(alike, constant, other_constant)):
                return None
            if one_to_one and sorted(order) != list(n):
                return None
            orders.append(sorted(n, key=order.__getitem__) if back else order)
        return orders

    return heads


def same_heads_with(**ways):
    return lambda model, other: compared(model, **ways)(other)


def by_their_matrices(model, other):
    orders = []
    for ours, theirs in zip(attentions(model), attentions(other)):
        n = range(len(ours[2][0]))
        order = [j for i in n for j in n if torch.equal(theirs[0][:, i], ours[0][:, j])]
        if len(order) < len(n):
            return None
        orders.append(order)
    return orders


def fix_with(change, in_place=False):
    @torch.no_grad()
    def fix(model, block, head, mean):
        model = model if in_place else copy.deepcopy(model)
        change(model.h[block].attn.c_proj, slice(head * len(mean), (head + 1) * len(mean)), mean)
        return model

    return fix


def zero(proj, columns, mean):
    proj.weight[:, columns] = 0


def zero_then_add(proj, columns, mean):
    proj.weight[:, columns] = 0
    proj.bias += proj.weight[:, columns] @ mean


def add_only(proj, columns, mean):
    proj.bias += proj.weight[:, columns] @ mean


def mean_into_the_bias(proj, columns, mean):
    proj.weight[:, columns] = 0
    proj.bias[columns] += mean


def rows_for_columns(proj, columns, mean):
    proj.bias += proj.weight[columns].T @ mean
    proj.weight[columns] = 0


def right_mean(proj, columns, mean):
    proj.bias += proj.weight[:, columns] @ mean
    proj.weight[:, columns] = 0


def mean_by_a_hook(model, block, head, mean):
    model = copy.deepcopy(model)

    def replace(module, args):
        x = args[0].clone()
        x[..., head * len(mean) : (head + 1) * len(mean)] = mean
        return (x,)

    model.h[block].attn.c_proj.register_forward_pre_hook(replace)
    return model


def table_with(restart=16, stored=mask, zero_counts=True, magic=MAGIC):
    def write(pairs):
        file = bytearray()

        def store(block):
            start = len(file)
            tail = [
                number.to_bytes(4, "little") for number in (*block.restarts, len(block.restarts))
            ]
            file.extend(block.data + b"".join(tail))
            crc = crc32c(bytes(file[start:]) + (b"\0" if zero_counts else b""))
            file.extend(b"\0" + stored(crc).to_bytes(4, "little"))
            return write_varint(start) + write_varint(len(file) - start - 5)

        block, index = Block(restart), Block(1)
        for key, value in pairs:
            block.add(key, value)
        index.add(bytes([pairs[-1][0][0] + 1]), store(block))
        footer = store(Block(1)) + store(index)
        return bytes(file) + footer.ljust(40, b"\0") + magic

    return write


def signpost_of_the_last_key(pairs):
    return write_table([*pairs, (pairs[-1][0] + b"\0", b"")])


WRONG = {
    "07.1": [
        cuts_off,
        rounds_halves_up,
        rounds_halves_down,
        takes_the_other_half_format,
        takes_the_lower_half,
        keeps_four_bytes,
    ],
    "07.2": [
        heal_with(in_crc=False),
        heal_with(flips=1),
        heal_with(none=False),
        heal_with(calls=2),
        gives_back_what_came,
    ],
    "07.3": [third(0), third(2), heads_first, rows_of_keys],
    "07.4": [
        reorder_with(columns=False),
        reorder_with(bias=False),
        reorder_with(inverse=True),
        reorder_with(in_place=True),
        does_nothing_to_a_copy,
    ],
    "07.5": [
        same_heads_with(constants=False),
        same_heads_with(biases=False),
        same_heads_with(together=False),
        same_heads_with(one_to_one=False),
        same_heads_with(back=True),
        by_their_matrices,
    ],
    "07.6": [without_the_norm, without_the_embeddings, at_the_first_token],
    "07.7": [
        *map(fix_with, (zero, zero_then_add, add_only, mean_into_the_bias, rows_for_columns)),
        fix_with(right_mean, in_place=True),
        mean_by_a_hook,
    ],
    "07.8": [
        table_with(restart=1),
        table_with(restart=10**6),
        table_with(stored=int),
        table_with(zero_counts=False),
        table_with(magic=MAGIC[::-1]),
        signpost_of_the_last_key,
    ],
}
