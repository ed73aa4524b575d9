"""Checks of the exercises of notebook 03 that are about whole layers: 03.4, 03.7 and 03.8."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

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


@exercise("03.7")
def leaks_are_found():
    """03.7: a test that finds each layer in which a token sees a later one, and no other."""
    x = noise(2, 6, 4)
    own = {"a token may see itself: only outputs before the changed token count": True}
    missed = {
        "that leak was not found: is every position changed, every earlier output compared?": False
    }
    causal = Layer("a causal layer", masked)
    yield case(causal, x.clone(), expected=False, mistakes=own)
    for late in (6, 1):
        layer = Layer(f"a layer whose mask starts {late} too late", partial(masked, late=late))
        yield case(layer, x.clone(), expected=True, mistakes=missed)
    for name, attend in (
        ("zeroes weights after the softmax", zeroed_after_softmax),
        ("lets only the third token see the next", partial(leaking_at, t=2)),
        ("lets only the last token but one see the next", partial(leaking_at, t=-2)),
    ):
        yield case(Layer(f"a layer that {name}", attend), x.clone(), expected=True, mistakes=missed)
    blind = Layer("a layer in which a token sees only those before it", shifted_back)
    yield case(blind, x.clone(), expected=False)
    yield case(causal, x[:, :1].clone(), expected=False, mistakes=own)


@exercise("03.8")
def two_layers_repeat_what_was_there():
    """03.8: two layers, set by hand, that find what followed a word when it occurred before."""
    yield case(3, 4, expected=fits, saying="two CausalAttentions for vectors of 3·3 + 4 numbers")
    for ids in (
        [2, 0, 1, 0],
        [3, 1, 2, 0, 1],
        [4, 5, 5],
        [1, 2, 7, 2, 7, 2],
        [7, 0, 3, 6, 2, 5, 1, 4, 0],
    ):
        V, P = max(ids) + 1, max(12, len(ids))
        followed = ids[ids[:-1].index(ids[-1]) + 1]
        before = ids[max(0, ids.index(ids[-1]) - 1)]
        mistakes = {
            "that is the word itself": ids[-1],
            "that is the word before the earlier occurrence, not the one after it": before,
            "that is the word before the last one: the second layer has to compare words": ids[-2],
        }
        yield case(
            ids,
            expected=followed,
            through=partial(repeated, V=V, P=P),
            mistakes={name: i for name, i in mistakes.items() if i != followed},
        )


def fits(result: Any) -> bool:
    """Tell whether a result is two layers with one head for 13 numbers."""
    # by name: a learner who runs the notebook has a class of the notebook's own
    return len(result) == 2 and all(
        type(layer).__name__ == "CausalAttention" and layer.n_heads == 1 and layer.emb_dim == 13
        for layer in result
    )


def repeated(answer: Any, V: int, P: int) -> Callable[[list[int]], int]:
    """Return ids -> the word that the two layers write into `after` at the last word."""

    def predict(ids: list[int]) -> int:
        """Return the word that is written at the last of the ids."""
        first, second = answer(V, P)
        x = torch.zeros(1, len(ids), 3 * V + P)
        places = torch.arange(len(ids))
        x[0, places, torch.tensor(ids)] = x[0, places, V + places] = 1.0
        with torch.no_grad():
            x = x + first(x)
            x = x + second(x)
        return int(x[0, -1, -V:].argmax())

    predict.__name__ = f"{answer.__name__}({V}, {P}), then"
    return predict
