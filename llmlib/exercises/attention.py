"""Checks of the exercises of notebook 03."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from llmlib.exercises import case, exercise, noise


@exercise("03.1")
def the_logarithm_survives():
    """03.1: the log-softmax along any dimension, also where the softmax underflows."""
    scores = torch.tensor([0.0, math.log(3.0)])
    yield case(scores, expected=torch.tensor([math.log(0.25), math.log(0.75)]))
    yield case(torch.tensor([1000.0, 0.0]), expected=torch.tensor([0.0, -1000.0]))
    yield case(torch.tensor([-900.0, -900.0]), expected=torch.full((2,), math.log(0.5)))
    matrix = torch.tensor([[0.0, 500.0], [math.log(3.0), 500.0]])
    columns = torch.tensor([[math.log(0.25), math.log(0.5)], [math.log(0.75), math.log(0.5)]])
    yield case(matrix, dim=0, expected=columns)
    cube = noise(2, 3, 4)
    yield case(cube, dim=1, expected=torch.log_softmax(cube, dim=1))


@exercise("03.2")
def the_window_slides():
    """03.2: the mask of a sliding window, as booleans."""
    yield case(3, 2, expected=torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]]).bool())
    yield case(3, 1, expected=torch.eye(3).bool())
    yield case(5, 9, expected=torch.ones(5, 5).tril().bool())
    yield case(4, 2, expected=is_boolean, saying="a tensor of booleans")


def is_boolean(result: torch.Tensor) -> bool:
    """Tell whether a tensor holds booleans."""
    return result.dtype == torch.bool


@exercise("03.3")
def the_layer_is_a_running_mean():
    """03.3: an attention layer whose weights make it the running mean of its inputs."""
    yield case(2, expected=has_one_head, saying="a CausalAttention with one head")
    yield case(2, expected=takes_16_tokens, saying="a layer with context_length=16")
    for x in (
        torch.tensor([[[1.0, 0.0], [3.0, 0.0], [2.0, 6.0]]]),
        noise(2, 5, 6),
        noise(1, 16, 3),
    ):
        means = x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        yield case(x, expected=means, through=partial(applied_layer, emb_dim=x.shape[2]))


def has_one_head(layer: Any) -> bool:
    """Tell whether a layer is a CausalAttention with one head."""
    # by name: a learner who runs the notebook has a class of the notebook's own
    return type(layer).__name__ == "CausalAttention" and layer.n_heads == 1


def takes_16_tokens(layer: Any) -> bool:
    """Tell whether a layer has a context length of 16."""
    return layer.context_length == 16


def applied_layer(answer: Any, emb_dim: int) -> Callable:
    """Return the function x -> answer(emb_dim)(x), under the name that a learner would type."""

    def apply(x: torch.Tensor) -> torch.Tensor:
        return answer(emb_dim)(x).detach()

    apply.__name__ = f"{answer.__name__}({emb_dim})"
    return apply


class Layer(nn.Module):
    """A layer without parameters; its name is what the message of a failed check calls it."""

    def __init__(self, name: str, attend: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.name, self.forward = name, attend

    def __repr__(self) -> str:
        return f"<{self.name}>"


def scores_of(x: torch.Tensor) -> torch.Tensor:
    """Return the scaled scores of a head whose input is its own query, key and value."""
    return x @ x.mT / math.sqrt(x.shape[-1])


def masked(x: torch.Tensor, late: int = 0) -> torch.Tensor:
    """Attend causally, or with a mask that starts `late` tokens too late."""
    scores = scores_of(x)
    future = torch.ones_like(scores, dtype=torch.bool).triu(1 + late)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1) @ x


def zeroed_after_softmax(x: torch.Tensor) -> torch.Tensor:
    """Leak through the sum of the weights."""
    return scores_of(x).softmax(dim=-1).tril() @ x


def leaking_at(x: torch.Tensor, t: int) -> torch.Tensor:
    """Let only the token at position t see the next one."""
    out = masked(x)
    out[:, t] = out[:, t] + x[:, t + 1]
    return out


def shifted_back(x: torch.Tensor) -> torch.Tensor:
    """See only what lies strictly before: too blind, but no leak."""
    return F.pad(x, (0, 0, 1, 0))[:, :-1]


@exercise("03.4")
def leaks_are_found():
    """03.4: a test that finds each layer in which a token sees a later one, and no other."""
    x, causal = noise(2, 6, 4), Layer("a causal layer", masked)
    yield case(causal, x, expected=False)
    for late in (6, 1):
        layer = Layer(f"a layer whose mask starts {late} too late", partial(masked, late=late))
        yield case(layer, x, expected=True)
    for name, attend in (
        ("zeroes weights after the softmax", zeroed_after_softmax),
        ("lets only the third token see the next", partial(leaking_at, t=2)),
        ("lets only the last token but one see the next", partial(leaking_at, t=-2)),
    ):
        yield case(Layer(f"a layer that {name}", attend), x, expected=True)
    blind = Layer("a layer in which a token sees only those before it", shifted_back)
    yield case(blind, x, expected=False)
    yield case(causal, x[:, :1], expected=False)


@exercise("03.5")
def groups_share_keys_and_values():
    """03.5: causal attention in which groups of query heads share keys and values."""
    single = torch.zeros(1, 4, 1, 1)  # a single token: each head gives the value it looks at
    shared = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    expected = torch.tensor([10.0, 10.0, 20.0, 20.0]).view(1, 4, 1, 1)
    yield case(single, single[:, :2], shared, expected=expected)

    equal = torch.zeros(1, 1, 3, 1)  # equal scores: a running mean of the values
    v = torch.tensor([6.0, 0.0, 3.0]).view(1, 1, 3, 1)
    yield case(equal, equal, v, expected=torch.tensor([6.0, 3.0, 3.0]).view(1, 1, 3, 1))

    q = torch.zeros(1, 1, 2, 4)
    q[..., 1, 0] = 2 * math.log(3.0)  # divided by √4, a score of log 3: three times the weight
    k = torch.eye(2, 4).view(1, 1, 2, 4)
    v = torch.tensor([[8.0], [4.0]]).view(1, 1, 2, 1)
    yield case(q, k, v, expected=torch.tensor([[8.0], [7.0]]).view(1, 1, 2, 1))

    q = noise(2, 4, 5, 3, seed=1)
    for n_groups in (4, 2, 1):
        k, v = noise(2, n_groups, 5, 3, seed=2), noise(2, n_groups, 5, 3, seed=3)
        attended = [
            F.scaled_dot_product_attention(
                q[:, head], k[:, head * n_groups // 4], v[:, head * n_groups // 4], is_causal=True
            )
            for head in range(4)
        ]
        yield case(
            q,
            k,
            v,
            expected=torch.stack(attended, dim=1),
            saying=f"causal attention of 4 query heads over {n_groups} of keys and values",
        )
