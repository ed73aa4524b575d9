"""Checks of the exercises of notebook 03."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from llmlib.exercises import case, exercise


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers that are the same in every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@exercise("03.1")
def the_logarithm_survives(answer):
    scores = torch.tensor([0.0, math.log(3.0)])
    yield case(answer, scores, expected=torch.tensor([math.log(0.25), math.log(0.75)]))
    yield case(answer, torch.tensor([1000.0, 0.0]), expected=torch.tensor([0.0, -1000.0]))
    yield case(answer, torch.tensor([-900.0, -900.0]), expected=torch.full((2,), math.log(0.5)))
    matrix = torch.tensor([[0.0, 500.0], [math.log(3.0), 500.0]])
    columns = torch.tensor([[math.log(0.25), math.log(0.5)], [math.log(0.75), math.log(0.5)]])
    yield case(answer, matrix, dim=0, expected=columns)
    cube = noise(2, 3, 4)
    yield case(answer, cube, dim=1, expected=torch.log_softmax(cube, dim=1))


@exercise("03.2")
def the_window_slides(answer):
    yield case(answer, 3, 2, expected=torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]]).bool())
    yield case(answer, 3, 1, expected=torch.eye(3).bool())
    yield case(answer, 5, 9, expected=torch.ones(5, 5).tril().bool())
    yield case(answer, 4, 2, expected=is_boolean, saying="a tensor of booleans")


def is_boolean(result: torch.Tensor) -> bool:
    return result.dtype == torch.bool


@exercise("03.3")
def the_layer_is_a_running_mean(answer):
    yield case(answer, 2, expected=has_one_head, saying="a CausalAttention with one head")
    yield case(answer, 2, expected=takes_16_tokens, saying="a layer with context_length=16")
    for x in (
        torch.tensor([[[1.0, 0.0], [3.0, 0.0], [2.0, 6.0]]]),
        noise(2, 5, 6),
        noise(1, 16, 3),
    ):
        means = x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        yield case(layer_applied(answer, x.shape[2]), x, expected=means)


def has_one_head(layer: nn.Module) -> bool:
    # by name: a learner who runs the notebook has a class of the notebook's own
    return type(layer).__name__ == "CausalAttention" and layer.n_heads == 1


def takes_16_tokens(layer: nn.Module) -> bool:
    return layer.context_length == 16


def layer_applied(answer, emb_dim: int):
    """The function x -> answer(emb_dim)(x), under the name that a learner would type."""

    def apply(x: torch.Tensor) -> torch.Tensor:
        return answer(emb_dim)(x).detach()

    apply.__name__ = f"{answer.__name__}({emb_dim})"
    return apply


class Attending(nn.Module):
    """One head without parameters, whose weights are given by a function of the scores."""

    what = "a layer"

    def weigh(self, scores: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.what}>"  # how the message of a failed check calls it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weigh(x @ x.mT / math.sqrt(x.shape[-1])) @ x


class Masked(Attending):
    """As it should be, or with a mask that is off by `late` tokens."""

    what = "a causal layer"

    def __init__(self, late: int = 0):
        super().__init__()
        self.late = late
        if late:
            self.what = f"a layer whose mask starts {late} too late"

    def weigh(self, scores: torch.Tensor) -> torch.Tensor:
        future = torch.ones_like(scores, dtype=torch.bool).triu(1 + self.late)
        return scores.masked_fill(future, -math.inf).softmax(dim=-1)


class ZeroedAfterSoftmax(Attending):
    """Leaks through the sum of the weights."""

    what = "a layer that zeroes weights after the softmax"

    def weigh(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.softmax(dim=-1).tril()


class LeaksInTheMiddle(Masked):
    """Only the third token sees the next."""

    what = "a layer in which only the third token sees the next"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x).clone()
        out[:, 2] = out[:, 2] + x[:, 3]
        return out


class LeaksAtTheEnd(Masked):
    """Only the last token but one sees the last."""

    what = "a layer in which only the last token but one sees the next"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x).clone()
        out[:, -2] = out[:, -2] + x[:, -1]
        return out


class ShiftedBack(nn.Module):
    """Sees only what lies strictly before: too blind, but no leak."""

    def __repr__(self) -> str:
        return "<a layer in which a token sees only those before it>"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 0, 1, 0))[:, :-1]


@exercise("03.4")
def leaks_are_found(answer):
    x = noise(2, 6, 4)
    yield case(answer, Masked(), x, expected=False)
    yield case(answer, Masked(late=6), x, expected=True)
    yield case(answer, Masked(late=1), x, expected=True)
    yield case(answer, ZeroedAfterSoftmax(), x, expected=True)
    yield case(answer, LeaksInTheMiddle(), x, expected=True)
    yield case(answer, LeaksAtTheEnd(), x, expected=True)
    yield case(answer, ShiftedBack(), x, expected=False)
    yield case(answer, Masked(), x[:, :1], expected=False)


@exercise("03.5")
def groups_share_keys_and_values(answer):
    one = torch.zeros(1, 4, 1, 1)  # a single token: each head gives the value it looks at
    shared = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    expected = torch.tensor([10.0, 10.0, 20.0, 20.0]).view(1, 4, 1, 1)
    yield case(answer, one, one[:, :2], shared, expected=expected)

    equal = torch.zeros(1, 1, 3, 1)  # equal scores: a running mean of the values
    v = torch.tensor([6.0, 0.0, 3.0]).view(1, 1, 3, 1)
    yield case(answer, equal, equal, v, expected=torch.tensor([6.0, 3.0, 3.0]).view(1, 1, 3, 1))

    q = torch.zeros(1, 1, 2, 4)
    q[..., 1, 0] = 2 * math.log(3.0)  # divided by √4, a score of log 3: three times the weight
    k = torch.eye(2, 4).view(1, 1, 2, 4)
    v = torch.tensor([[8.0], [4.0]]).view(1, 1, 2, 1)
    yield case(answer, q, k, v, expected=torch.tensor([[8.0], [7.0]]).view(1, 1, 2, 1))

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
            answer,
            q,
            k,
            v,
            expected=torch.stack(attended, dim=1),
            saying=f"causal attention of 4 query heads over {n_groups} of keys and values",
        )
