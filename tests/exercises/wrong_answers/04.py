"""Plausible wrong answers to the exercises of notebook 04: each must be refused."""

import copy
import math
from dataclasses import replace

import torch

from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT, Block


def formula_without_the_switches(c):
    per_block = 12 * c.emb_dim**2 + 13 * c.emb_dim
    return (c.vocab_size + c.context_length + 2) * c.emb_dim + c.n_layers * per_block


def head_forgotten(c):
    per_block = 12 * c.emb_dim**2 + (13 if c.qkv_bias else 10) * c.emb_dim
    return (c.vocab_size + c.context_length + 2) * c.emb_dim + c.n_layers * per_block


def all_attention_biases_gone(c):
    per_block = 12 * c.emb_dim**2 + (13 if c.qkv_bias else 9) * c.emb_dim
    heads = 1 if c.tie_weights else 2
    return (heads * c.vocab_size + c.context_length + 2) * c.emb_dim + c.n_layers * per_block


def last_norm_forgotten(c):
    per_block = 12 * c.emb_dim**2 + (13 if c.qkv_bias else 10) * c.emb_dim
    heads = 1 if c.tie_weights else 2
    return (heads * c.vocab_size + c.context_length) * c.emb_dim + c.n_layers * per_block


def norm_with_the_mean(x, weight, eps=1e-5):
    return weight * x / torch.sqrt(x.var(dim=-1, keepdim=True, unbiased=False) + eps)


def length_instead_of_mean(x, weight, eps=1e-5):
    return weight * x / torch.sqrt(x.square().sum(dim=-1, keepdim=True) + eps)


def eps_outside_the_root(x, weight, eps=1e-5):
    return weight * x / (x.square().mean(dim=-1, keepdim=True).sqrt() + eps)


def mean_of_everything(x, weight, eps=1e-5):
    return weight * x / torch.sqrt(x.square().mean() + eps)


def product_rule_forgotten(x):
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def density_without_x(x):
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    return (1 + torch.erf(x / math.sqrt(2))) / 2 + density


def slope_of_the_tanh_form(x):
    x = x.detach().clone().requires_grad_()
    y = torch.nn.functional.gelu(x, approximate="tanh")
    return torch.autograd.grad(y.sum(), x)[0]


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


WRONG = {
    "04.1": [
        formula_without_the_switches,
        head_forgotten,
        all_attention_biases_gone,
        last_norm_forgotten,
    ],
    "04.2": [norm_with_the_mean, length_instead_of_mean, eps_outside_the_root, mean_of_everything],
    "04.3": [product_rule_forgotten, density_without_x, slope_of_the_tanh_form],
    "04.4": [counts_backwards, repeats, stops_at_the_last, untrained],
    "04.5": [
        new_blocks_at_random,
        only_attention_silenced,
        silenced_in_place,
        configuration_forgotten,
        last_block_repeated,
        everything_zero,
    ],
}
