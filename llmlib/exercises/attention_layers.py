"""Checks of the exercises of notebook 03 that are about whole layers: 03.4 and 03.8."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from llmlib.exercises import case, exercise, noise
from llmlib.model.attention import CausalAttention


@exercise("03.4")
def heads_add_up():
    """03.4: what each head adds to the output of a layer."""
    for n_heads, seed in ((2, 1), (1, 2), (4, 3)):
        torch_state = torch.get_rng_state()
        torch.manual_seed(seed)
        layer = CausalAttention(8, n_heads, 16)
        torch.set_rng_state(torch_state)
        x = noise(2, 5, 8, seed=seed)
        q, k, v = (
            part.unflatten(-1, (n_heads, -1)).transpose(1, 2)
            for part in layer.c_attn(x).detach().chunk(3, dim=-1)
        )
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, d)
        W = layer.c_proj.weight.detach()
        added = torch.einsum("bhtd,chd->bhtc", heads, W.unflatten(1, (n_heads, -1)))
        by_rows = torch.einsum("bhtd,hdc->bhtc", heads, W.unflatten(0, (n_heads, -1)))
        everywhere = F.scaled_dot_product_attention(q, k, v)
        mistakes = {
            "the bias of c_proj belongs to no head": added + layer.c_proj.bias.detach(),
            "a head's part of c_proj.weight is columns, not rows": by_rows,
            "the future is seen": torch.einsum(
                "bhtd,chd->bhtc", everywhere, W.unflatten(1, (n_heads, -1))
            ),
        }
        yield case(
            layer,
            x,
            expected=added,
            saying=f"a tensor of shape {tuple(added.shape)}: what each of the {n_heads} heads adds",
            through=detached,
            mistakes=mistakes,
        )


def detached(answer: Any) -> Callable[..., torch.Tensor]:
    """Return the answer without its gradient, under its own name."""

    def call(*args: Any) -> torch.Tensor:
        return answer(*args).detach()

    call.__name__ = answer.__name__
    return call


TEXTS: list[list[int]] = [
    [0, 1, 2, 1],
    [0, 4, 4],
    [0, 3, 5],
    [0],
    [0, 2],
    [0, 5, 1, 5, 2, 5],
    [0, 3, 5, 1, 5, 2, 3, 5],
    [0, 3, 5, 1, 3, 5, 2, 3, 5],
    [0, 3, 5, 1, 5, 2, 3, 5, 4, 5, 6, 5, 5],
    [0, 3, 7, 1, 2, 4, 3, 5],  # before the last word stands one that is known
    [0, 4, 4, 4, 2, 4, 4],
    [0, 3, 5, 1, *[6, 5] * 15, 2, 3, 5],  # the pair is far back, the last word near
    [0, 5, 1, *[3, 6] * 16, 5],
    [0, *[3, 1, 6] * 11, 3, 5],
]


@exercise("03.8")
def two_layers_back_off():
    """03.8: two layers, set by hand, that find what followed the last words earlier."""
    yield case(3, 4, expected=fits, saying="two layers for 4·3 + 4 numbers, of 2 heads and of 1")
    for ids in TEXTS:
        V, P = max(max(ids) + 1, 3), max(4, len(ids) + len(ids) % 2)
        V = max(V, math.ceil(P / 4))
        right = one_hot(follower(ids), V)
        mistakes = {
            "the first of several places counts, not the latest": follower(ids, first=True),
            "the pair counts before the last word alone": follower(ids, pair=False),
            "that place agrees only in the word before the last": follower(ids, only_before=True),
            "that is the word itself": ids[-1],
        }
        named = {name: one_hot(found, V) for name, found in mistakes.items() if found is not None}
        yield case(
            ids,
            expected=right,
            through=partial(written, V=V, P=P),
            tolerance=0.01,
            mistakes={name: bad for name, bad in named.items() if not torch.equal(bad, right)}
            | {
                "the words have not come before: look at word 0, and let it hand over nothing": (
                    lambda found, right=right: not right.any() and bool(found.abs().max() > 0.01)
                ),
                "what was found is not handed over": lambda found: bool(found.abs().max() < 0.01),
                "that is a blend of several places: widen the steps of the scores": blended,
            },
        )


def follower(
    ids: list[int], *, first: bool = False, pair: bool = True, only_before: bool = False
) -> int | None:
    """Return the word that followed the last two, or else the last, when they came before."""
    after_pair = [j for j in range(2, len(ids)) if ids[j - 2 : j] == ids[-2:]]
    after_last = [j for j in range(1, len(ids)) if ids[j - 1] == ids[-1]]
    found = (after_pair if pair else []) or after_last
    if only_before:
        found = [j for j in range(2, len(ids)) if ids[j - 2] == ids[-2]]
    return ids[found[0 if first else -1]] if found else None


def one_hot(word: int | None, V: int) -> torch.Tensor:
    """Return V zeros, with a one for the word, if there is any."""
    return torch.tensor([float(i == word) for i in range(V)])


def blended(found: torch.Tensor) -> bool:
    """Tell whether a vector gives parts of one to several words."""
    return bool((found > -0.01).all() and (found.sum() - 1).abs() < 0.1 and found.max() < 0.99)


def fits(result: Any) -> bool:
    """Tell whether a result is two layers for 16 numbers, with two heads and with one."""
    # by name: a learner who runs the notebook has a class of the notebook's own
    return len(result) == 2 and all(
        type(layer).__name__ == "CausalAttention" and (layer.n_heads, layer.emb_dim) == (heads, 16)
        for layer, heads in zip(result, (2, 1))
    )


def written(answer: Any, V: int, P: int) -> Callable[[list[int]], torch.Tensor]:
    """Return ids -> what the two layers write into `after` at the last word."""

    def predict(ids: list[int]) -> torch.Tensor:
        """Return the part `after` at the last of the ids."""
        first, second = answer(V, P)
        x = torch.zeros(1, len(ids), 4 * V + P)
        places = torch.arange(len(ids))
        x[0, places, torch.tensor(ids)] = x[0, places, V + places] = 1.0
        with torch.no_grad():
            x = x + first(x)
            x = x + second(x)
        return x[0, -1, -V:]

    predict.__name__ = f"{answer.__name__}({V}, {P}), then"
    return predict
