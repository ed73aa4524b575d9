"""Plausible wrong answers to the exercises of notebook 04: each must be refused."""

import copy
import math
from dataclasses import replace

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


def configured(vocab_size):
    return GPTConfig(vocab_size, 16, emb_dim=vocab_size, n_heads=1, n_layers=1, tie_weights=False)


def silent_but_wrong(vocab_size, shift, quiet=True):
    model = GPT(configured(vocab_size))
    with torch.no_grad():
        model.wte.weight.copy_(torch.eye(vocab_size))
        model.lm_head.weight.copy_(torch.roll(torch.eye(vocab_size), shift, dims=0))
        if quiet:
            model.wpe.weight.zero_()
            model.h[0].attn.c_proj.weight.zero_()
            model.h[0].mlp.c_proj.weight.zero_()
    return model


def counts_backwards(vocab_size):
    return silent_but_wrong(vocab_size, -1)


def repeats(vocab_size):
    return silent_but_wrong(vocab_size, 0)


def stops_at_the_last(vocab_size):
    model = silent_but_wrong(vocab_size, 1)
    with torch.no_grad():
        model.lm_head.weight[0] = 0.0
        model.lm_head.weight[-1, -1] = 1.0
    return model


def untrained(vocab_size):
    return GPT(configured(vocab_size))


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


def fitted(c, n_bytes, n_tokens, per_parameter=16, per_token=64, vectors=None, heads=None):
    C = c.emb_dim
    heads = heads or (1 if c.tie_weights else 2)
    vectors = vectors or (13 if c.qkv_bias else 10)
    fixed = per_parameter * (heads * c.vocab_size + c.context_length + 2) * C
    each = per_parameter * (12 * C * C + vectors * C) + per_token * C * n_tokens
    return (n_bytes - fixed) // each


def activations_forgotten(config, n_bytes, n_tokens):
    return max(0, fitted(config, n_bytes, n_tokens, per_token=0))


def weights_only(config, n_bytes, n_tokens):
    return max(0, fitted(config, n_bytes, n_tokens, per_parameter=4))


def activations_of_one_byte(config, n_bytes, n_tokens):
    return max(0, fitted(config, n_bytes, n_tokens, per_token=16))


def head_forgotten(config, n_bytes, n_tokens):
    return max(0, fitted(config, n_bytes, n_tokens, heads=1))


def biases_always_there(config, n_bytes, n_tokens):
    return max(0, fitted(config, n_bytes, n_tokens, vectors=13))


def less_than_nothing(config, n_bytes, n_tokens):
    return fitted(config, n_bytes, n_tokens)


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
    "04.5": [counts_backwards, repeats, stops_at_the_last, untrained],
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
        activations_forgotten,
        weights_only,
        activations_of_one_byte,
        head_forgotten,
        biases_always_there,
        less_than_nothing,
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
