"""Plausible wrong answers to the exercises of notebook 04: each must be refused."""

import copy
import math
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F

from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT, Block, FeedForward


def normal_numbers():
    return torch.randn(200_000, generator=torch.Generator().manual_seed(0))


def gain_by_the_standard_deviation(bend):
    return 1 / bend(normal_numbers()).std().item()


def gain_for_the_mean_square(bend):
    return 1 / bend(normal_numbers()).square().mean().item()


def what_the_bend_leaves(bend):
    return bend(normal_numbers()).square().mean().sqrt().item()


def always_the_gain_of_relu(bend):
    return math.sqrt(2)


def parts_of_the_gradient(x, upstream, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + eps)
    x_hat = centred / scale
    along = x_hat * (upstream * x_hat).mean(dim=-1, keepdim=True)
    return scale, x_hat, upstream.mean(dim=-1, keepdim=True), along


def gradient_by_autograd(x, upstream, eps=1e-5):
    leaf = x.clone().requires_grad_()
    F.layer_norm(leaf, x.shape[-1:], eps=eps).backward(upstream)
    return leaf.grad


def gradient_without_the_scale(x, upstream, eps=1e-5):
    _, _, constant, along = parts_of_the_gradient(x, upstream, eps)
    return upstream - constant - along


def gradient_along_the_input(x, upstream, eps=1e-5):
    scale, _, constant, _ = parts_of_the_gradient(x, upstream, eps)
    return (upstream - constant) / scale


def gradient_with_a_constant(x, upstream, eps=1e-5):
    scale, _, _, along = parts_of_the_gradient(x, upstream, eps)
    return (upstream - along) / scale


def gradient_as_if_statistics_were_fixed(x, upstream, eps=1e-5):
    return upstream / parts_of_the_gradient(x, upstream, eps)[0]


def gradient_with_a_sum(x, upstream, eps=1e-5):
    scale, _, constant, along = parts_of_the_gradient(x, upstream, eps)
    return (upstream - constant - x.shape[-1] * along) / scale


def gradient_without_eps(x, upstream, eps=1e-5):
    scale, _, constant, along = parts_of_the_gradient(x, upstream, 0.0)
    return (upstream - constant - along) / scale


def empty_network(width):
    network = FeedForward(GPTConfig(2, 1, emb_dim=width, n_heads=1, n_layers=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def detectors(keys, values, sharpness, threshold, active):
    network = empty_network(keys.shape[1])
    with torch.no_grad():
        network.c_fc.weight[: len(keys)] = sharpness * keys
        network.c_fc.bias[: len(keys)] = -sharpness * threshold
        network.c_proj.weight[:, : len(keys)] = values.T / active
    return network


def no_threshold(keys, values):
    return detectors(keys, values, 40.0, 0.0, 40.0)


def too_soft(keys, values):
    return detectors(keys, values, 1.0, 0.75, F.gelu(torch.tensor(0.25)))


def activity_forgotten(keys, values):
    return detectors(keys, values, 40.0, 0.75, 1.0)


def least_squares(keys, values):
    torch.manual_seed(0)
    network = empty_network(keys.shape[1])
    with torch.no_grad():
        network.c_fc.weight.normal_()
        hidden = F.gelu(network.c_fc(keys), approximate="tanh")
        network.c_proj.weight.copy_((torch.linalg.pinv(hidden) @ values).T)
    return network


def remembers_nothing(keys, values):
    return empty_network(keys.shape[1])


def no_feed_forward(keys, values):
    def look_up(x):
        cosines = x @ keys.T
        return torch.where(cosines > 0.75, 1.0, 0.0) @ values

    return look_up


@torch.no_grad()
def added_parts(model, ids):
    x = model.wte(ids) + model.wpe.weight[: len(ids)]
    added = [x]
    for block in model.h:
        added.append(block.attn(block.ln_1(x)[None])[0])
        x = x + added[-1]
        added.append(block.mlp(block.ln_2(x)))
        x = x + added[-1]
    return torch.stack(added)


@torch.no_grad()
def shares(model, ids, token, place=-1, mean=True, bias=True):
    parts = added_parts(model, ids)[:, place]
    scale = torch.sqrt(parts.sum(dim=0).var(correction=0) + model.ln_f.eps)
    centred = parts - parts.mean(dim=-1, keepdim=True) if mean else parts
    row = model.head_weight[token]
    found = (model.ln_f.weight * centred / scale) @ row
    return torch.cat([found, (model.ln_f.bias @ row)[None]]) if bias else found


def mean_left_in(model, ids, token):
    return shares(model, ids, token, mean=False)


def bias_left_out(model, ids, token):
    return shares(model, ids, token, bias=False)


def at_the_first_token(model, ids, token):
    return shares(model, ids, token, place=0)[: 2 * len(model.h) + 1]


def of_the_wrong_token(model, ids, token):
    return shares(model, ids, (token + 1) % model.config.vocab_size)


@torch.no_grad()
def each_part_normed_alone(model, ids, token):
    parts = added_parts(model, ids)[:, -1]
    row = model.head_weight[token]
    return torch.cat([model.ln_f(parts) @ row, (model.ln_f.bias @ row)[None]])


def directions(vocab_size, context_length):
    sizes = [vocab_size, vocab_size, vocab_size, context_length]
    return torch.eye(sum(sizes)).split(sizes)


@torch.no_grad()
def copying(vocab_size, context_length, alone=6.0, pair=2.0, latest=1.0, start=2.0, sharp=20.0):
    """A match of the last token, a match of the pair, the whole text, and no pair at the start."""
    V, T = vocab_size, context_length
    token, before, earlier, place = directions(V, T)
    C = token.shape[1]
    model = GPT(GPTConfig(V, T, emb_dim=C, n_heads=1, n_layers=3, tie_weights=False))
    for ones, block in enumerate(model.h, start=2):
        block.ln_1.weight.fill_(math.sqrt(ones / C - (ones / C) ** 2))
        block.ln_1.bias.fill_(ones / C)
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_proj):
            layer.weight.zero_()
    model.wte.weight.copy_(token)
    model.wpe.weight.copy_(place)
    model.lm_head.weight.copy_(token)
    for block, read, write in ((0, token, before), (1, before, earlier)):
        q, k, v = model.h[block].attn.c_attn.weight.chunk(3)
        q[: T - 1], k[:T], v[:V] = 20 * math.sqrt(C) * place[1:], place, read
        model.h[block].attn.c_proj.weight[:, :V] = write.T
    last = model.h[2].attn
    q, k, v = last.c_attn.weight.chunk(3)
    q[: 2 * V] = sharp * math.sqrt(C) * torch.cat([alone * T * token, pair * T * before])
    k[: 2 * V] = torch.cat([before, earlier])
    worth = latest * torch.arange(T) - start * T * (torch.arange(T) < 2)
    last.c_attn.bias[2 * V], k[2 * V] = 1, sharp * math.sqrt(C) * worth @ place
    v[:V], last.c_proj.weight[:, :V] = token, 10 * token.T
    return model


def last_token_alone(vocab_size, context_length):
    return copying(vocab_size, context_length, pair=0.0, start=0.0)


def first_occurrence(vocab_size, context_length):
    return copying(vocab_size, context_length, latest=-1.0)


def all_occurrences_alike(vocab_size, context_length):
    return copying(vocab_size, context_length, latest=0.0)


def pairs_of_nothing(vocab_size, context_length):
    return copying(vocab_size, context_length, start=0.0)


def half_a_pair_is_enough(vocab_size, context_length):
    return copying(vocab_size, context_length, alone=2.0)


def too_soft_a_choice(vocab_size, context_length):
    return copying(vocab_size, context_length, sharp=0.05)


def good_for_short_texts(vocab_size, context_length):
    near = 6 / context_length  # a match is worth six places, however long the text is
    return copying(vocab_size, context_length, 5 * near, near, start=near)


def repeats(vocab_size, context_length):
    return copying(vocab_size, context_length, alone=0.0, pair=0.0, start=0.0)


def of_another_vocabulary(vocab_size, context_length):
    return copying(vocab_size + 1, context_length)


def untrained(vocab_size, context_length):
    return GPT(GPTConfig(vocab_size, context_length, emb_dim=8, n_heads=1, n_layers=1))


def new_blocks_at_random(model, n_layers):
    grown = GPT(replace(model.config, n_layers=n_layers))
    grown.load_state_dict(model.state_dict(), strict=False)
    return grown


def only_attention_silenced(model, n_layers):
    grown = new_blocks_at_random(model, n_layers)
    with torch.no_grad():
        for block in grown.h[model.config.n_layers :]:
            block.attn.c_proj.weight.zero_()
    return grown


def silenced_in_place(model, n_layers):
    for _ in range(n_layers - model.config.n_layers):
        block = Block(model.config)
        with torch.no_grad():
            block.attn.c_proj.weight.zero_()
            block.attn.c_proj.bias.zero_()
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
        model.h.append(block)
    return model


def configuration_forgotten(model, n_layers):
    return silenced_in_place(copy.deepcopy(model), n_layers)


def last_block_repeated(model, n_layers):
    grown = GPT(replace(model.config, n_layers=n_layers))
    grown.load_state_dict(model.state_dict(), strict=False)
    for block in grown.h[model.config.n_layers :]:
        block.load_state_dict(model.h[-1].state_dict())
    return grown


def everything_zero(model, n_layers):
    grown = new_blocks_at_random(model, n_layers)
    with torch.no_grad():
        for block in grown.h[model.config.n_layers :]:
            for parameter in block.parameters():
                parameter.zero_()  # adds nothing, and can never learn to
    return grown


def old_blocks_shared(model, n_layers):
    grown = only_attention_silenced(model, n_layers)
    with torch.no_grad():
        for block in grown.h[model.config.n_layers :]:
            block.mlp.c_proj.weight.zero_()
    for place, block in enumerate(model.h):
        grown.h[place] = block
    return grown


def kept_in_list(forward, backward, n_blocks, x, upstream, room):
    streams = [x]
    for i in range(n_blocks - 1):
        streams.append(forward(i, streams[-1]))
    for i in reversed(range(n_blocks)):
        upstream = backward(i, streams.pop(), upstream)
    return upstream


def always_from_the_start(forward, backward, n_blocks, x, upstream, room):
    for last in reversed(range(n_blocks)):
        stream = x
        for i in range(last):
            stream = forward(i, stream)
        upstream = backward(last, stream, upstream)
    return upstream


def one_block_too_far(forward, backward, n_blocks, x, upstream, room):
    for last in reversed(range(n_blocks)):
        stream = x
        for i in range(last + 1):
            stream = forward(i, stream)
        upstream = backward(last, stream, upstream)
    return upstream


def at_even_distances(forward, backward, n_blocks, x, upstream, room):
    step = max(1, math.ceil(n_blocks / (room + 1)))
    kept, stream = {0: x}, x
    for i in range(step * ((n_blocks - 1) // step)):
        stream = forward(i, stream)
        if (i + 1) % step == 0:
            kept[i + 1] = stream
    for last in reversed(range(n_blocks)):
        stream = kept[last - last % step]
        for i in range(last - last % step, last):
            stream = forward(i, stream)
        upstream = backward(last, stream, upstream)
        kept.pop(last, None)
    return upstream


def split(forward, backward, n_blocks, x, upstream, room, let_go=True, where=None, copy=False):
    """Keep the result where the table says, or at a place of another choice."""

    @cache
    def plan(n, room):
        if n == 1 or room == 0:
            return n * (n - 1) // 2, n - 1
        return min((m + plan(n - m, room - 1)[0] + plan(m, room)[0], m) for m in range(1, n))

    def back(first, n, stream, upstream, room):
        if n == 1:
            return backward(first, stream, upstream)
        m = where(n) if where and room else plan(n, room)[1]
        upper = stream
        for i in range(first, first + m):
            upper = forward(i, upper)
        upper = upper.clone() if copy else upper
        upstream = back(first + m, n - m, upper, upstream, max(0, room - 1))
        if let_go:
            del upper
        return back(first, m, stream, upstream, room)

    return back(0, n_blocks, x, upstream, room)


def kept_while_going_down(*args):
    return split(*args, let_go=False)


def in_halves(*args):
    return split(*args, where=lambda n: n // 2)


def copied_streams(*args):
    return split(*args, copy=True)


def one_more_place(forward, backward, n_blocks, x, upstream, room):
    return split(forward, backward, n_blocks, x, upstream, room + 1)


def first_block_left_out(forward, backward, n_blocks, x, upstream, room):
    stream = x
    for i in range(n_blocks - 1):
        stream = forward(i, stream)
    return backward(n_blocks - 1, stream, upstream)


def backward_out_of_order(forward, backward, n_blocks, x, upstream, room):
    for i in range(n_blocks):
        upstream = backward(i, x, upstream)
    return upstream


def widened(model, n_heads=None, halve=True, by_itself=True, last_norm=True, share=False):
    config = replace(
        model.config,
        emb_dim=2 * model.config.emb_dim,
        n_heads=n_heads or 2 * model.config.n_heads,
    )
    grown, new = GPT(config), {}
    for name, value in model.state_dict().items():
        if name.endswith(("wte.weight", "wpe.weight")):
            new[name] = torch.cat([value, value], dim=1)
            continue
        if value.ndim == 2:
            value = torch.cat([value, value], dim=1) / (2 if halve else 1)
        if "c_attn" in name and by_itself:
            new[name] = torch.cat([torch.cat([rows, rows]) for rows in value.chunk(3)])
        else:
            new[name] = value if name == "lm_head.weight" else torch.cat([value, value])
        if name.startswith("ln_f") and config.tie_weights and last_norm:
            new[name] = new[name] / 2
    grown.load_state_dict(new)
    return grown


def wider_heads_not_more(model):
    return widened(model, n_heads=model.config.n_heads)


def products_counted_twice(model):
    return widened(model, halve=False)


def queries_keys_and_values_mixed_up(model):
    return widened(model, by_itself=False)


def tied_head_forgotten(model):
    return widened(model, last_norm=False)


def new_at_random(model):
    config = replace(model.config, emb_dim=2 * model.config.emb_dim)
    return GPT(replace(config, n_heads=2 * model.config.n_heads))


def not_wider(model):
    return copy.deepcopy(model)


WRONG = {
    "04.1": [
        gain_by_the_standard_deviation,
        gain_for_the_mean_square,
        what_the_bend_leaves,
        always_the_gain_of_relu,
    ],
    "04.2": [
        gradient_by_autograd,
        gradient_without_the_scale,
        gradient_along_the_input,
        gradient_with_a_constant,
        gradient_as_if_statistics_were_fixed,
        gradient_with_a_sum,
        gradient_without_eps,
    ],
    "04.3": [
        no_threshold,
        too_soft,
        activity_forgotten,
        least_squares,
        remembers_nothing,
        no_feed_forward,
    ],
    "04.4": [
        mean_left_in,
        bias_left_out,
        at_the_first_token,
        of_the_wrong_token,
        each_part_normed_alone,
    ],
    "04.5": [
        last_token_alone,
        first_occurrence,
        all_occurrences_alike,
        pairs_of_nothing,
        half_a_pair_is_enough,
        too_soft_a_choice,
        good_for_short_texts,
        repeats,
        of_another_vocabulary,
        untrained,
    ],
    "04.6": [
        new_blocks_at_random,
        only_attention_silenced,
        silenced_in_place,
        configuration_forgotten,
        last_block_repeated,
        everything_zero,
        old_blocks_shared,
    ],
    "04.7": [
        kept_in_list,
        always_from_the_start,
        one_block_too_far,
        at_even_distances,
        kept_while_going_down,
        in_halves,
        copied_streams,
        one_more_place,
        first_block_left_out,
        backward_out_of_order,
    ],
    "04.8": [
        wider_heads_not_more,
        products_counted_twice,
        queries_keys_and_values_mixed_up,
        tied_head_forgotten,
        new_at_random,
        not_wider,
    ],
}
