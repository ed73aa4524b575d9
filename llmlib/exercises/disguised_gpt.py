"""For the check of exercise 07.5: GPTs whose attention is another on paper, or another in fact.

Written by hand. Every function takes a GPT and returns a changed copy.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from llmlib.model.gpt import GPT


def attentions(model: GPT) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield for each block weight (3, H, d, C) and bias (3, H, d) of c_attn, and those of c_proj.

    They are views: what is written to them changes the model. c_proj's are (C, H, d) and (C,).
    """
    n_heads, C = model.config.n_heads, model.config.emb_dim
    blocks: Any = model.h
    for block in blocks:
        attn, proj = block.attn.c_attn, block.attn.c_proj
        weight, bias = attn.weight.data.view(3, n_heads, -1, C), attn.bias.data.view(3, n_heads, -1)
        yield weight, bias, proj.weight.data.view(C, n_heads, -1), proj.bias.data


def with_attention(model: GPT, change: Callable[..., None], blocks: slice = slice(None)) -> GPT:
    """Return a copy after `change(weight, bias, proj, proj_bias)` of some blocks' attention."""
    model = copy.deepcopy(model)
    for parts in list(attentions(model))[blocks]:
        change(*parts)
    return model


def disguised(model: GPT, seed: int, orders: list[list[int]]) -> GPT:
    """Return a copy that says the same: its head i of block b is head orders[b][i] of the model.

    Queries and keys, and values and projection, are written in other coordinates for each head;
    the keys have other biases, and part of the values' biases has moved into that of c_proj.
    """
    generator = torch.Generator().manual_seed(seed)

    def invertible(size: int) -> torch.Tensor:
        directions = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
        return directions * (0.5 + 1.5 * torch.rand(size, generator=generator))

    def disguise(weight, bias, proj, proj_bias):
        """Change the parts of one attention in place."""
        order = remaining.pop(0)
        weight.copy_(weight[:, order].clone())
        bias.copy_(bias[:, order].clone())
        proj.copy_(proj[:, order].clone())
        for head in range(len(order)):
            a, m = invertible(weight.shape[2]), invertible(weight.shape[2])
            for part, matrix in enumerate((a, torch.linalg.inv(a).T, m)):
                weight[part, head] = matrix @ weight[part, head]
                bias[part, head] = matrix @ bias[part, head]
            proj[:, head] = proj[:, head] @ torch.linalg.inv(m)
            bias[1, head] += torch.randn(len(a), generator=generator)
            moved = torch.randn(len(m), generator=generator)
            bias[2, head] += moved
            proj_bias -= proj[:, head] @ moved

    remaining = list(orders)
    return with_attention(model, disguise)


def impostors(model: GPT) -> dict[str, GPT]:
    """Return models that only seem to be the same, by what is different about them."""

    def exchange(weight, *others):
        weight[:2] = weight[:2].flip(1).clone()  # queries and keys of all heads, not their values
        others[0][:2] = others[0][:2].flip(1).clone()

    def twice(weight, bias, proj, proj_bias):
        proj_bias += proj[:, 1] @ bias[2, 1] - proj[:, 0] @ bias[2, 0]  # the constant is as before
        for part in (weight, bias, proj):
            part[:, 1] = part[:, 0]

    def backwards(weight, bias, *_):
        weight[:2] = weight[:2].flip(0).clone()
        bias[:2] = bias[:2].flip(0).clone()

    def louder(weight, *_):
        weight[0, 0] *= 1.5

    return {
        "its queries have other biases": with_attention(model, lambda w, b, *_: b[0].add_(1)),
        "its values have other biases": with_attention(model, lambda w, b, *_: b[2].add_(1)),
        "its c_proj has another bias": with_attention(model, lambda *parts: parts[3].add_(1)),
        "heads look as one head and say what another does": with_attention(model, exchange),
        "it has one head twice, and lacks another": with_attention(model, twice),
        "its queries are the keys, and its keys the queries": with_attention(model, backwards),
        "a head of the last block scores higher": with_attention(model, louder, slice(-1, None)),
    }
