"""Checks of the exercises of notebook 04."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from llmlib.exercises import case, exercise, noise
from llmlib.exercises.gpt_answers import Chain, Copied
from llmlib.exercises.grown_gpt import Grown, some_gpt
from llmlib.model.gpt import GPT


@exercise("04.1")
def a_bend_keeps_its_size():
    """04.1: the gain that makes up for what a bend takes away."""
    inverse = "that is what the bend leaves; the gain has to make up for it"
    squared = "that makes up for the mean square, and sizes are its root"
    centred = "that is by the standard deviation: do not subtract the mean"
    relu = {inverse: 0.7071, squared: 2.0, centred: 1.713}

    def no_bend(z):
        return z

    def doubled(z):
        return 2 * z

    yield case(F.relu, expected=1.4142, tolerance=0.02, mistakes=relu)
    yield case(no_bend, expected=1.0, tolerance=0.02)
    yield case(doubled, expected=0.5, tolerance=0.02, mistakes={inverse: 2.0, squared: 0.25})
    yield case(torch.tanh, expected=1.5925, tolerance=0.02, mistakes={squared: 2.536})
    yield case(torch.abs, expected=1.0, tolerance=0.02, mistakes={centred: 1.659})
    yield case(F.gelu, expected=1.5335, tolerance=0.02, mistakes={centred: 1.70, squared: 2.352})


def without_autograd(answer: Callable) -> Callable:
    """Return the function, to be called where autograd records nothing."""

    def called(*args, **kwargs):
        with torch.inference_mode():
            try:
                return answer(*(arg.clone() for arg in args), **kwargs)
            except RuntimeError as error:
                if "grad" not in str(error):
                    raise
                raise RuntimeError("autograd is switched off: write the formula") from None

    called.__name__ = getattr(answer, "__name__", "norm_gradient")
    return called


@exercise("04.2")
def the_gradient_passes_a_norm():
    """04.2: the gradient of a layer normalization with respect to its input, by formula."""

    def tried(x, upstream, **eps):
        """Return the case of an input and a gradient; autograd gives what is right."""
        leaf = x.clone().requires_grad_()
        normed = F.layer_norm(leaf, x.shape[-1:], eps=eps.get("eps", 1e-5))
        (expected,) = torch.autograd.grad(normed, leaf, upstream)
        x_hat = normed.detach()
        scale = (x.var(dim=-1, correction=0, keepdim=True) + eps.get("eps", 1e-5)).sqrt()
        free = upstream - upstream.mean(dim=-1, keepdim=True)
        along = x_hat * (upstream * x_hat).mean(dim=-1, keepdim=True)
        width = x.shape[-1]
        mistakes = {
            "the factor is missing: a larger input gets a smaller gradient": free - along,
            "it also has to be perpendicular to x̂": free / scale,
            "it also has to be perpendicular to a constant": (upstream - along) / scale,
            "mean and variance depend on x too": upstream / scale,
            "take the mean of upstream · x̂, not the sum": (free - width * along) / scale,
        }
        mistakes = {words: value for words, value in mistakes.items() if not same(value, expected)}
        return case(
            x,
            upstream,
            **eps,
            expected=expected,
            tolerance=1e-6,
            through=without_autograd,
            mistakes=mistakes,
        )

    def same(a, b):
        return torch.allclose(a, b, rtol=1e-6, atol=1e-6)

    x = torch.tensor([[1.0, 2.0, 4.0, 6.0]], dtype=torch.float64)
    yield tried(x, torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    yield tried(3 * noise(2, 3, 5).double(), noise(2, 3, 5, seed=1).double())
    yield tried(0.01 * noise(4, 6).double(), noise(4, 6, seed=1).double(), eps=1e-3)


@exercise("04.3")
def keys_are_remembered():
    """04.3: a feed-forward network that answers its keys, and nothing else."""
    for n_keys, width, seed in ((2, 8, 1), (3, 8, 0), (16, 16, 0)):
        drawn = F.normalize(noise(600, width, seed=seed), dim=-1)
        keys = drawn[:1]
        for row in drawn:
            if len(keys) < n_keys and (keys @ row).abs().max() < 0.49:
                keys = torch.cat([keys, row[None]])
        unlike = drawn[(drawn @ keys.T).max(dim=1).values < 0.49]
        values = noise(n_keys, width, seed=seed + 5)

        def answers(network, keys=keys, values=values):
            return (network.eval()(keys) - values).abs().max() < 0.02

        def quiet(network, unlike=unlike):
            return network.eval()(unlike).abs().max() < 0.02

        def is_one(network, width=width):
            made = type(network).__name__ == "FeedForward" and isinstance(network, nn.Module)
            return made and network.c_fc.weight.shape == (4 * width, width)

        def remembers(network, is_one=is_one, answers=answers, quiet=quiet):
            return is_one(network) and answers(network) and quiet(network)

        yield case(
            keys,
            values,
            expected=remembers,
            saying="a FeedForward that maps keys[k] to values[k], and vectors unlike all keys to 0",
            through=on_copies,
            mistakes={
                "that is no FeedForward of the keys' width": lambda n, ok=is_one: not ok(n),
                "the keys are answered, but other vectors are not mapped to zero": answers,
                "other vectors are mapped to zero, but the keys are not answered rightly": quiet,
            },
        )


@torch.no_grad()
def logit_in_parts(model: GPT, row: torch.Tensor, token: int) -> dict[str, torch.Tensor]:
    """Return the shares of a logit: right, without the mean, and each normalised alone."""
    x = model.wte(row) + model.wpe.weight[: len(row)]
    streams = [x]
    for block in model.h:
        middle = x + block.get_submodule("attn")(block.get_submodule("ln_1")(x)[None])[0]
        x = block(x[None])[0]
        streams += [middle, x]
    path = torch.stack(streams)
    parts = torch.cat([path[:1], path.diff(dim=0)])[:, -1]
    head = model.state_dict()["wte.weight" if model.config.tie_weights else "lm_head.weight"]
    norm, vector = model.ln_f, head[token]
    scaled = norm.weight / (x[-1].var(correction=0) + norm.eps).sqrt()
    bias = (norm.bias @ vector)[None]
    shares = (parts - parts.mean(dim=-1, keepdim=True)) * scaled @ vector
    return {
        "right": torch.cat([shares, bias]),
        "no mean": torch.cat([parts * scaled @ vector, bias]),
        "alone": norm(parts) @ vector,
        "logit": model(row[None])[0, -1, token],
    }


@exercise("04.4")
def a_logit_is_taken_apart():
    """04.4: what each part of a model contributes to one logit."""
    for tie_weights, ids, token in (
        (True, [3, 1, 4], 2),
        (False, [7], 19),
        (True, [5, 9, 2, 6], 0),
    ):
        model = some_gpt(int(tie_weights), tie_weights=tie_weights)
        row = torch.tensor(ids)
        found = logit_in_parts(model, row, token)

        def each_alone(result, alone=found["alone"]):
            return torch.allclose(result[: len(alone)], alone, atol=1e-4)

        def off(result, logit=found["logit"], size=found["right"].shape):
            return result.shape == size and not torch.isclose(result.sum(), logit, atol=1e-4)

        yield case(
            model,
            row,
            token,
            expected=found["right"],
            tolerance=1e-4,
            through=on_copies,
            mistakes={
                "each part has been normalised by itself, not by the whole stream": each_alone,
                "the last norm also subtracts the mean": found["no mean"],
                "the bias of the last norm is missing": found["right"][:-1],
                "the numbers do not add up to the logit": off,
            },
        )


def on_copies(answer: Callable) -> Callable:
    """Return the function, to be called with copies of its tensors, with a detached result."""

    def called(*args):
        copies = [arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args]
        result = answer(*copies)
        return result.detach() if isinstance(result, torch.Tensor) else result

    called.__name__ = getattr(answer, "__name__", "answer")
    return called


@exercise("04.5")
def it_writes_what_followed():
    """04.5: a GPT whose weights, set by hand, copy what followed the last two tokens."""
    for vocab_size, length in ((3, 6), (12, 16), (40, 64)):
        yield Copied(vocab_size, length).case()


@exercise("04.6")
def it_is_deeper_and_the_same():
    """04.6: a GPT with more blocks and the same logits, which can still learn."""
    for tie_weights, seed in ((True, 1), (False, 2)):
        model = some_gpt(seed, tie_weights=tie_weights)
        yield Grown(model, replace(model.config, n_layers=5)).case(
            5, saying="a new GPT of 5 blocks with the same logits, the old one left as it is"
        )


@exercise("04.7")
def the_way_back_is_frugal():
    """04.7: the gradient of a stack, with few streams held and few blocks run again."""
    for n_blocks, room in ((3, 0), (3, 1), (1, 0), (2, 5), (7, 0), (10, 2), (23, 3), (40, 4)):
        yield Chain(n_blocks, room).case()


@exercise("04.8")
def it_is_wider_and_the_same():
    """04.8: a GPT of twice the width and the same logits."""
    for seed, tie_weights, qkv_bias in ((1, True, True), (2, False, True), (3, True, False)):
        model = some_gpt(seed, tie_weights=tie_weights, qkv_bias=qkv_bias)
        yield Grown(model, replace(model.config, emb_dim=16, n_heads=4)).case(
            saying="a new GPT with emb_dim 16, 4 heads and the same logits, the old one left as "
            "it is"
        )
