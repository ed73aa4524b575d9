"""Checks of the exercises of notebook 04."""

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F

from llmlib.exercises import case, exercise, noise
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT


@exercise("04.1")
def counted_without_building():
    """04.1: the number of parameters of a configuration, with and without its switches."""
    plain = GPTConfig(100, 16, emb_dim=8, n_heads=2, n_layers=3)
    unbiased = replace(plain, qkv_bias=False)
    untied = replace(plain, tie_weights=False)
    neither = GPTConfig(50, 9, emb_dim=12, n_heads=3, n_layers=1, qkv_bias=False, tie_weights=False)
    for config in (plain, unbiased, untied, neither, GPTConfig.preset("gpt2-1558M")):
        with torch.device("meta"):
            expected = GPT(config).num_parameters()
        yield case(config, expected=expected)


@exercise("04.2")
def the_mean_square_becomes_one():
    """04.2: RMSNorm, with its weight and its eps."""
    x = torch.tensor([[3.0, -4.0], [6.0, -8.0]])
    normed = torch.tensor([[3.0, -4.0], [3.0, -4.0]]) / 12.5**0.5
    yield case(x, torch.ones(2), expected=normed)
    yield case(x, torch.tensor([1.0, 0.5]), expected=normed * torch.tensor([1.0, 0.5]))
    yield case(torch.zeros(1, 3), torch.ones(3), expected=torch.zeros(1, 3))
    faint, weight = 0.001 * noise(2, 3, 5), noise(5, seed=1)
    yield case(faint, weight, eps=1e-6, expected=F.rms_norm(faint, (5,), weight, 1e-6))
    yield case(faint, weight, expected=F.rms_norm(faint, (5,), weight, 1e-5))


@exercise("04.3")
def the_slope_is_that_of_gelu():
    """04.3: the derivative of the exact GELU."""
    yield case(torch.tensor([0.0]), expected=torch.tensor([0.5]))
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    slope = torch.ops.aten.gelu_backward(torch.ones_like(x), x)
    yield case(x, expected=slope, tolerance=1e-8)
    yield case(x.view(1, 41), expected=slope.view(1, 41), tolerance=1e-8)


@exercise("04.4")
def it_counts_on():
    """04.4: a GPT whose weights, set by hand, predict the next number."""
    for vocab_size in (5, 12):

        def counts_on(model, vocab_size=vocab_size):
            """Return whether a model predicts the next number after each one, round in a circle."""
            if not isinstance(model, GPT) or model.config.vocab_size != vocab_size:
                return False
            length = min(model.config.context_length, 6)
            order = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(0))
            ids = order.repeat(length)[: vocab_size * length].view(-1, length)
            following = model.eval()(ids).argmax(dim=-1)
            return torch.equal(following, (ids + 1) % vocab_size)

        yield case(
            vocab_size,
            expected=counts_on,
            saying="a GPT whose highest logit after any token is that of the next number",
        )


@exercise("04.5")
def it_is_deeper_and_the_same():
    """04.5: a GPT with more blocks and the same logits, which can still learn."""
    for tie_weights, seed in ((True, 1), (False, 2)):
        config = GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=2, tie_weights=tie_weights)
        model = GPT(config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms as after some training
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        before = copy.deepcopy(model).eval()
        ids = torch.randint(20, (3, 8), generator=generator)

        def grown(result, model=model, before=before, ids=ids):
            shares = {p.data_ptr() for p in result.parameters()} & {
                p.data_ptr() for p in model.parameters()
            }
            return (
                not shares
                and result.config == replace(before.config, n_layers=5)
                and len(result.h) == 5
                and len(model.h) == 2
                and torch.equal(model.eval()(ids), before(ids))
                and torch.allclose(result.eval()(ids), before(ids), atol=1e-5)
                and any(p.abs().sum() > 0 for p in result.h[4].attn.c_attn.parameters())
            )

        yield case(
            model,
            5,
            expected=grown,
            saying="a new GPT of 5 blocks with the same logits, the old one left as it is",
        )
