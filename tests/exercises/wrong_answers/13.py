"""Plausible wrong answers to the exercises of notebook 13: each must be refused."""

import copy
import math
from dataclasses import replace
from itertools import permutations

import torch
import torch.nn.functional as F

from llmlib.model.modern import Modern
from llmlib.model.moe import Expert

# --- 13.1


def cutting(pieces, rows=None, share=False):
    """Cut by a rule for the units, and one for the rows of c_fc."""

    def cut(dense, n):
        experts, H = [], dense.c_proj.weight.shape[1]
        for units in pieces(torch.arange(H), n):
            expert = Expert(dense.c_proj.weight.shape[0], len(units))
            fc = dense.c_fc.weight[rows(units, H) if rows else torch.cat([units, units + H])]
            proj = dense.c_proj.weight[:, units[0] : units[-1] + 1]
            with torch.no_grad():
                expert.c_fc.weight.copy_(fc)
                if share:
                    expert.c_proj.weight.data = proj.data
                else:
                    expert.c_proj.weight.copy_(proj)
            experts.append(expert)
        return experts

    return cut


def interleaved_rows(units, H):
    return torch.stack([2 * units, 2 * units + 1], dim=1).flatten()


def the_first_rows(units, H):
    return torch.arange(2 * units[0], 2 * units[-1] + 2)


def one_too_few(units, n):
    return torch.tensor_split(units, n)[: max(1, n - 1)]


def rest_in_the_last(units, n):
    size = len(units) // n
    return [*units[: size * (n - 1)].split(size), units[size * (n - 1) :]] if n > 1 else [units]


def empties_the_layer(dense, n):
    experts = cutting(torch.tensor_split)(dense, n)
    with torch.no_grad():
        dense.c_proj.weight.zero_()
    return experts


def named(name, function):
    function.__name__ = name
    return function


# --- 13.2


def softmax_gradient(p, upstream):
    return p * (upstream - (upstream * p).sum(dim=-1, keepdim=True))


def always_raw(logits, k, normalize, upstream):
    p = logits.softmax(dim=-1)
    return softmax_gradient(p, torch.zeros_like(p).scatter(1, p.topk(k).indices, upstream))


def always_normalized(logits, k, normalize, upstream):
    values, chosen = logits.topk(k)
    inside = softmax_gradient(values.softmax(dim=-1), upstream)
    return torch.zeros_like(logits).scatter(1, chosen, inside)


def only_the_chosen(logits, k, normalize, upstream):
    if normalize:
        return always_normalized(logits, k, normalize, upstream)
    chosen = logits.topk(k).indices
    mask = torch.zeros_like(logits).scatter(1, chosen, 1.0)
    return always_raw(logits, k, normalize, upstream) * mask


def without_the_sum(logits, k, normalize, upstream):
    p = logits.softmax(dim=-1)
    return p * torch.zeros_like(p).scatter(1, p.topk(k).indices, upstream)


def in_the_order_of_ranks(logits, k, normalize, upstream):
    values = logits.topk(k).values.softmax(dim=-1)
    found = torch.zeros_like(logits)
    found[:, :k] = softmax_gradient(values, upstream)
    return found


def asks_autograd(logits, k, normalize, upstream):
    leaf = logits.clone().requires_grad_()
    p = leaf.softmax(dim=-1).topk(k).values
    p = p / p.sum(dim=-1, keepdim=True) if normalize else p
    return torch.autograd.grad(p, leaf, upstream)[0]


# --- 13.3


def of_one_text(p, c):
    f = F.one_hot(c, p.shape[-1]).sum((0, 1)) / max(c.numel(), 1)
    return p.shape[-1] * (f * p.sum(0) / max(len(p), 1)).sum()


def of_the_batch(probs, chosen, real):
    return of_one_text(probs[real], chosen[real])


def with_padding(probs, chosen, real):
    return torch.stack([of_one_text(p, c) for p, c in zip(probs, chosen)]).mean()


def not_over_k(probs, chosen, real):
    kept = [of_one_text(p[r], c[r]) for p, c, r in zip(probs, chosen, real) if r.any()]
    return chosen.shape[-1] * torch.stack(kept).mean() if kept else torch.tensor(0.0)


def long_texts_weigh_more(probs, chosen, real):
    kept = [r.sum() * of_one_text(p[r], c[r]) for p, c, r in zip(probs, chosen, real)]
    return torch.stack(kept).sum() / real.sum().clamp(min=1)


def counts_empty_texts(probs, chosen, real):
    kept = [of_one_text(p[r], c[r]) for p, c, r in zip(probs, chosen, real)]
    return torch.stack(kept).mean()


def mean_of_nothing(probs, chosen, real):
    kept = [of_one_text(p[r], c[r]) for p, c, r in zip(probs, chosen, real) if r.any()]
    return torch.tensor(kept).mean()


# --- 13.4


def z_of(counted, rule):
    return rule(torch.logsumexp(counted, dim=-1)) if len(counted) else torch.tensor(0.0)


def z_of_padding_too(logits, real=None):
    return z_of(logits, lambda z: z.square().mean())


def z_not_squared(logits, real=None):
    return z_of(logits if real is None else logits[real], torch.mean)


def z_of_the_mean(logits, real=None):
    return z_of(logits if real is None else logits[real], lambda z: z.mean().square())


def z_summed(logits, real=None):
    return z_of(logits if real is None else logits[real], lambda z: z.square().sum())


def z_by_exp(logits, real=None):
    counted = logits if real is None else logits[real]
    return counted.exp().sum(-1).log().square().mean() if len(counted) else torch.tensor(0.0)


def z_of_nothing(logits, real=None):
    counted = logits if real is None else logits[real]
    return torch.logsumexp(counted, dim=-1).square().mean()


# --- 13.5


def tokens_choose(probs, n, real):
    chosen = probs.topk(min(n, probs.shape[1]), dim=1).indices
    return torch.zeros_like(probs).scatter(1, chosen, probs.gather(1, chosen)) * real[:, None]


def takes_padding(probs, n, real):
    chosen = probs.topk(min(n, len(probs)), dim=0).indices
    return torch.zeros_like(probs).scatter(0, chosen, probs.gather(0, chosen))


def gives_ones(probs, n, real):
    return (right_choice(probs, n, real) > 0).float()


def right_choice(probs, n, real):
    chosen = probs.masked_fill(~real[:, None], -1).topk(min(n, int(real.sum())), dim=0).indices
    return torch.zeros_like(probs).scatter(0, chosen, probs.gather(0, chosen))


def transposed_choice(probs, n, real):
    return right_choice(probs, n, real).T


def asks_for_too_many(probs, n, real):
    chosen = probs.masked_fill(~real[:, None], -1).topk(n, dim=0).indices
    return torch.zeros_like(probs).scatter(0, chosen, probs.gather(0, chosen))


# --- 13.6


def grown(model, n_experts, top_k, normalize, std=1e-4, make_up=True, share=False, width=None):
    part = {"name": "moe", "n_experts": n_experts, "top_k": top_k, "normalize": normalize}
    if width:
        part["hidden_dim"] = width
    new = Modern(replace(model.config, feed_forward=part))
    state = new.state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if ".mlp." not in name:
                state[name].copy_(tensor)
        for old, block in zip(model.h, new.h):
            block.mlp.router.weight.normal_(0, std)
            for expert in block.mlp.experts:
                if share:
                    expert.c_fc.weight.data = old.mlp.c_fc.weight.data
                    expert.c_proj.weight.data = old.mlp.c_proj.weight.data
                elif width is None:
                    expert.c_fc.weight.copy_(old.mlp.c_fc.weight)
                    scale = 1 if normalize or not make_up else n_experts / top_k
                    expert.c_proj.weight.copy_(scale * old.mlp.c_proj.weight)
    return new


def returns_the_same(model, n_experts, top_k, normalize=True):
    return copy.deepcopy(model)


def forgets_to_make_up(model, n_experts, top_k, normalize=True):
    return grown(model, n_experts, top_k, normalize, make_up=False)


def makes_up_for_large_rows(model, n_experts, top_k, normalize=True):
    return grown(model, n_experts, top_k, normalize, std=0.3)


def shares_the_experts(model, n_experts, top_k, normalize=True):
    return grown(model, n_experts, top_k, True, share=True)


def has_an_indifferent_router(model, n_experts, top_k, normalize=True):
    return grown(model, n_experts, top_k, normalize, std=0.0)


def always_normalizes(model, n_experts, top_k, normalize=True):
    return grown(model, n_experts, top_k, True)


def cuts_the_experts(model, n_experts, top_k, normalize=True):
    return grown(model, n_experts, top_k, normalize, width=model.config.hidden_dim // 2)


def changes_the_model(model, n_experts, top_k, normalize=True):
    new = grown(model, n_experts, top_k, normalize)
    with torch.no_grad():
        model.wte.weight.mul_(2)
    return new


def unties_the_head(model, n_experts, top_k, normalize=True):
    tied = model.config.tie_weights
    new = grown(model, n_experts, top_k, normalize)
    object.__setattr__(new.config, "tie_weights", not tied)
    return new


# --- 13.7


def grouped(x, chosen, weights, fc, proj, room=None, nobody=True, order=True, detach=False):
    (N, k), E = chosen.shape, len(fc)
    flat = chosen.flatten()
    sorted_, by = flat.sort(stable=True)
    counts = flat.bincount(minlength=E + 1)
    place = torch.arange(N * k) - (counts.cumsum(0) - counts)[sorted_]
    if nobody:
        keep = sorted_ < E
        sorted_, by, place = sorted_[keep], by[keep], place[keep]
    else:
        sorted_ = sorted_.clamp(max=E - 1)
    most = room or int(counts[:E].max())
    table = x.new_zeros(E, max(most, int(place.max()) + 1) if not nobody else most, x.shape[1])
    table = table.index_put((sorted_, place), x[by // k if order else by % N])
    gate, up = torch.bmm(table, fc.transpose(1, 2)).chunk(2, dim=-1)
    out = torch.bmm(F.silu(gate) * up, proj.transpose(1, 2))[sorted_, place]
    scale = weights.flatten()[by][:, None]
    scale = scale.detach() if detach else scale
    return torch.zeros_like(x).index_add(0, by // k, out * scale)


def pads_to_all_tokens(x, chosen, weights, fc, proj):
    return grouped(x, chosen, weights, fc, proj, room=chosen.numel())


def gives_nobodys_to_the_last(x, chosen, weights, fc, proj):
    return grouped(x, chosen, weights, fc, proj, nobody=False)


def mixes_up_the_tokens(x, chosen, weights, fc, proj):
    return grouped(x, chosen, weights, fc, proj, order=False)


def stops_the_gradient(x, chosen, weights, fc, proj):
    return grouped(x, chosen, weights, fc, proj, detach=True)


def changes_a_gradient(x, chosen, weights, fc, proj):
    value = grouped(x, chosen, weights, fc, proj)
    other = grouped(x, chosen, 2 * weights, fc, proj)
    return other - (other - value).detach()


def loops_over_experts(x, chosen, weights, fc, proj):
    out = torch.zeros_like(x)
    for number in range(len(fc)):
        token, rank = (chosen == number).nonzero(as_tuple=True)
        gate, up = (x[token] @ fc[number].T).chunk(2, dim=-1)
        answer = (F.silu(gate) * up) @ proj[number].T
        out = out.index_add(0, token, weights[token, rank, None] * answer)
    return out


def multiplies_by_hand(x, chosen, weights, fc, proj):
    own = chosen.clamp(max=len(fc) - 1)
    gate, up = (fc[own] * x[:, None, None]).sum(-1).chunk(2, dim=-1)
    answer = (proj[own] * (F.silu(gate) * up)[:, :, None]).sum(-1)
    kept = weights * (chosen < len(fc))
    return (kept[..., None] * answer).sum(dim=1)


# --- 13.8


def by_turns(load, n_machines):
    order = sorted(range(len(load)), key=lambda e: -load[e])
    return [order.index(e) % n_machines for e in range(len(load))]


def by_greed(load, n_machines):
    places, sums, found = [len(load) // n_machines] * n_machines, [0] * n_machines, [0] * len(load)
    for e in sorted(range(len(load)), key=lambda e: -load[e]):
        machine = min((m for m in range(n_machines) if places[m]), key=lambda m: sums[m])
        places[machine], sums[machine] = places[machine] - 1, sums[machine] + load[e]
        found[e] = machine
    return found


def ignores_places(load, n_machines):
    sums, found = [0] * n_machines, [0] * len(load)
    for e in sorted(range(len(load)), key=lambda e: -load[e]):
        machine = sums.index(min(sums))
        sums[machine], found[e] = sums[machine] + load[e], machine
    return found


def counts_from_one(load, n_machines):
    return [machine + 1 for machine in by_greed(load, n_machines)]


def swaps_a_little(load, n_machines):
    best = by_greed(load, n_machines)

    def highest(a):
        return max(sum(n for n, m in zip(load, a) if m == each) for each in range(n_machines))

    for i, j in permutations(range(len(load)), 2):
        other = list(best)
        other[i], other[j] = other[j], other[i]
        best = other if highest(other) < highest(best) else best
    return best


def first_half(load, n_machines):
    places = math.ceil(len(load) / n_machines)
    return [e // places for e in range(len(load))]


WRONG = {
    "13.1": [
        named("interleaves_gate_and_up", cutting(torch.tensor_split, interleaved_rows)),
        named("takes_rows_in_one_piece", cutting(torch.tensor_split, the_first_rows)),
        named("leaves_one_out", cutting(one_too_few)),
        named("puts_the_rest_into_the_last", cutting(rest_in_the_last)),
        named("shares_memory", cutting(torch.tensor_split, share=True)),
        empties_the_layer,
    ],
    "13.2": [
        always_raw,
        always_normalized,
        only_the_chosen,
        without_the_sum,
        in_the_order_of_ranks,
        asks_autograd,
    ],
    "13.3": [
        of_the_batch,
        with_padding,
        not_over_k,
        long_texts_weigh_more,
        counts_empty_texts,
        mean_of_nothing,
    ],
    "13.4": [
        z_of_padding_too,
        z_not_squared,
        z_of_the_mean,
        z_summed,
        z_by_exp,
        z_of_nothing,
    ],
    "13.5": [tokens_choose, takes_padding, gives_ones, transposed_choice, asks_for_too_many],
    "13.6": [
        returns_the_same,
        forgets_to_make_up,
        makes_up_for_large_rows,
        shares_the_experts,
        has_an_indifferent_router,
        always_normalizes,
        cuts_the_experts,
        changes_the_model,
        unties_the_head,
    ],
    "13.7": [
        pads_to_all_tokens,
        gives_nobodys_to_the_last,
        mixes_up_the_tokens,
        stops_the_gradient,
        changes_a_gradient,
        loops_over_experts,
        multiplies_by_hand,
    ],
    "13.8": [by_turns, by_greed, ignores_places, counts_from_one, swaps_a_little, first_half],
}
