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
    for emb_dim in (4, 6):
        x = noise(2, 5, emb_dim)
        means = x.cumsum(dim=1) / torch.arange(1, 6)[:, None]

        def holds(layer, x=x, means=means):
            one_head = type(layer).__name__ == "CausalAttention" and layer.n_heads == 1
            return one_head and torch.allclose(layer(x), means, atol=1e-5)

        yield case(
            answer,
            emb_dim,
            expected=holds,
            saying="a CausalAttention with one head whose output is the running mean of its input",
        )


class Attending(nn.Module):
    """One head without parameters, whose weights are given by a function of the scores."""

    def weigh(self, scores: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weigh(x @ x.mT / math.sqrt(x.shape[-1])) @ x


class Masked(Attending):
    """As it should be, or with a mask that is off by `late` tokens."""

    def __init__(self, late: int = 0):
        super().__init__()
        self.late = late

    def weigh(self, scores: torch.Tensor) -> torch.Tensor:
        future = torch.ones_like(scores, dtype=torch.bool).triu(1 + self.late)
        return scores.masked_fill(future, -math.inf).softmax(dim=-1)

    def extra_repr(self) -> str:
        return f"late={self.late}"


class ZeroedAfterSoftmax(Attending):
    """Leaks through the sum of the weights."""

    def weigh(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.softmax(dim=-1).tril()


class LeaksAtTheEnd(Masked):
    """Only the last token but one sees the last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x).clone()
        out[:, -2] = out[:, -2] + x[:, -1]
        return out


class ShiftedBack(nn.Module):
    """Sees only what lies strictly before: too blind, but no leak."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 0, 1, 0))[:, :-1]


@exercise("03.4")
def leaks_are_found(answer):
    x = noise(2, 6, 4)
    yield case(answer, Masked(), x, expected=False)
    yield case(answer, Masked(late=6), x, expected=True)
    yield case(answer, Masked(late=1), x, expected=True)
    yield case(answer, ZeroedAfterSoftmax(), x, expected=True)
    yield case(answer, LeaksAtTheEnd(), x, expected=True)
    yield case(answer, ShiftedBack(), x, expected=False)
    yield case(answer, Masked(), x[:, :1], expected=False)


@exercise("03.5")
def groups_share_keys_and_values(answer):
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
            saying=f"causal attention of 4 query heads over {n_groups} heads of keys and values",
        )
