"""Checks of the exercises of notebook 03."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from llmlib.exercises import case, exercise, noise
from llmlib.model.attention import CausalAttention, attention_weights


@exercise("03.1")
def the_logarithm_survives():
    """03.1: the log-softmax along any dimension, also where the softmax underflows."""
    infinite = "the logarithm of a weight that has underflowed to 0"
    overflow = "the exponential function has overflowed: subtract the maximum first"
    everything = "subtract the maximum along the dimension, not that of all scores"
    scores = torch.tensor([0.0, math.log(3.0)])
    yield case(
        scores,
        expected=torch.tensor([math.log(0.25), math.log(0.75)]),
        mistakes={"that is the softmax, not its logarithm": torch.tensor([0.25, 0.75])},
    )
    yield case(
        torch.tensor([1000.0, 0.0]),
        expected=torch.tensor([0.0, -1000.0]),
        mistakes={
            overflow: lambda result: bool((~result.isfinite()).all()),
            infinite: lambda result: bool(result.isneginf().any()),
        },
    )
    yield case(
        torch.tensor([-900.0, -900.0]),
        expected=torch.full((2,), math.log(0.5)),
        tolerance=1e-3,  # 900 and its logarithm of a sum are rounded, in whatever order
        mistakes={
            "the sum of the powers has underflowed to 0": lambda result: bool(
                (~result.isfinite()).any()
            )
        },
    )
    matrix = torch.tensor([[0.0, 500.0], [math.log(3.0), 500.0]])
    columns = torch.tensor([[math.log(0.25), math.log(0.5)], [math.log(0.75), math.log(0.5)]])
    yield case(
        matrix,
        dim=0,
        expected=columns,
        mistakes={
            "that is along the last dimension": matrix.log_softmax(-1),
            everything: lambda result: bool((~result.isfinite()).any()),
        },
    )
    cube = noise(2, 3, 4)
    yield case(cube, dim=1, expected=torch.log_softmax(cube, dim=1))
    yield case(
        expected=[],
        saying="a result that is computed without PyTorch's log_softmax, logsumexp and their like",
        through=forbidden_names,
    )


FORBIDDEN = {"log_softmax", "LogSoftmax", "logsumexp", "logaddexp", "cross_entropy", "logcumsumexp"}


def forbidden_names(answer: Any) -> Callable[[], list[str]]:
    """Return a function that lists the forbidden functions which an answer uses."""

    def used(code: CodeType) -> set[str]:
        inner = [const for const in code.co_consts if isinstance(const, CodeType)]
        return set(code.co_names).union(*map(used, inner))

    def names() -> list[str]:
        code = getattr(answer, "__code__", None)
        found = used(code) if code else {answer.__name__}
        return sorted(found & FORBIDDEN)

    names.__name__ = answer.__name__
    return names


@exercise("03.2")
def each_word_looks_one_back():
    """03.2: queries and keys of bare positions, by which each word finds the one before it."""

    def found(weights: torch.Tensor, back: int, share: float = 0.0) -> bool:
        rows = torch.arange(1, len(weights))
        at = (rows - back).clamp(max=len(weights) - 1)
        return bool((weights.argmax(-1)[1:] == at).all() and (weights[rows, at] > share).all())

    for n in (4, 2, 12, 1):
        yield case(
            n,
            expected=partial(found, back=1, share=0.99),
            saying="weights above 0.99 on the word before, in each row but the first",
            through=causal_weights_of,
            mistakes={
                "these look at the word itself": partial(found, back=0, share=0.5),
                "no word finds another: are queries and keys swapped, so that they ask for the "
                "word after?": all_alike,
                "the right words, but the scores are too close: make the queries louder": partial(
                    found, back=1
                ),
            },
        )


def all_alike(weights: torch.Tensor) -> bool:
    """Tell whether each row of causal weights is nearly a plain mean."""
    return bool((weights.amax(-1) <= 1 / torch.arange(1, 1 + len(weights)) + 0.01).all())


def causal_weights_of(answer: Any) -> Callable[[int], torch.Tensor]:
    """Return n -> the causal weights of bare positions, by the matrices of an answer."""

    def weights(n: int) -> torch.Tensor:
        W_query, W_key = answer(n)
        positions, mask = torch.eye(n), torch.ones(n, n, dtype=torch.bool).tril()
        return attention_weights(positions @ W_query.float(), positions @ W_key.float(), mask)

    weights.__name__ = answer.__name__
    return weights


@exercise("03.3")
def packed_texts_have_a_mask():
    """03.3: a causal mask with a window, within documents, without padding."""

    def wanted(segments: torch.Tensor, window: int, **faults: bool) -> torch.Tensor:
        i, j = torch.arange(len(segments))[:, None], torch.arange(len(segments))
        mask = (i - j < window + faults.get("wide", 0)) & ((i >= j) | faults.get("ahead", False))
        mask &= (segments[:, None] == segments) | faults.get("across", False)
        padded = (segments == -1)[:, None] | (segments == -1)
        return mask & (~padded | faults.get("padding", False))

    def packed(*segments: int, window: int) -> Any:
        row = torch.tensor(segments)
        right = wanted(row, window)
        mistakes = {
            "words of other documents are seen": wanted(row, window, across=True),
            "padding is seen by padding": wanted(row, window, padding=True),
            "the window counts the token itself": wanted(row, window, wide=True),
            "the future is seen": wanted(row, window, ahead=True),
            "words are seen in both directions": right | right.T,
            "True marks what may be seen": ~right,
        }
        wrong = {name: mask for name, mask in mistakes.items() if not torch.equal(mask, right)}
        return case(row.clone(), window, expected=right, mistakes=wrong)

    yield packed(0, 0, 0, 0, window=2)
    yield packed(0, 0, 1, 1, window=4)
    yield packed(0, 0, -1, -1, window=3)
    yield packed(-1, -1, 3, 3, 3, 7, 7, 7, 7, -1, window=3)
    yield packed(0, 0, 0, window=1)
    yield packed(0, 1, 1, 0, window=9)  # a number that comes back is the same document
    row = torch.tensor([0, 0, 1])
    yield case(row, 2, expected=is_boolean, saying="a tensor of booleans")


def is_boolean(result: torch.Tensor) -> bool:
    """Tell whether a tensor holds booleans."""
    return result.dtype == torch.bool


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


class Blocks:
    """Pairs of keys and values, one at a time, each overwritten when the next is asked for."""

    def __init__(self, k: torch.Tensor, v: torch.Tensor, sizes: list[int]):
        self.pairs = list(zip(k.split(sizes), v.split(sizes)))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for k, v in self.pairs:
            lent_k, lent_v = k.clone(), v.clone()
            yield lent_k, lent_v
            lent_k.fill_(math.nan)
            lent_v.fill_(math.nan)

    def __repr__(self) -> str:
        return f"<{len(self.pairs)} blocks of keys and values>"


@exercise("03.5")
def the_softmax_comes_in_blocks():
    """03.5: attention of one query, computed block by block with a running maximum and sum."""
    loud = noise(12, 4, seed=3) * torch.linspace(1, 300, 12)[:, None]
    for k, sizes, size in (
        (noise(4, 4, seed=1), [4], 1),
        (noise(7, 4, seed=2), [3, 3, 1], 1),
        (3 * noise(9, 4, seed=5).sort(dim=0)[0], [1] * 9, 2),
        (loud, [5, 4, 3], 1),
        (loud.flip(0), [2, 10], 1),
    ):
        q, v = size * torch.ones(4), noise(len(k), 3, seed=4)
        scores = k @ q
        ends = list(torch.tensor(sizes).cumsum(0))
        each = zip([0, *ends[:-1]], ends)
        separate = [(scores[a:b] / 2).softmax(0) @ v[a:b] for a, b in each]
        yield case(
            q,
            Blocks(k, v, sizes),
            expected=(scores / 2).softmax(0) @ v,
            mistakes={
                "the scores are not divided by √d": scores.softmax(0) @ v,
                "the scores are divided by d, not by √d": (scores / 4).softmax(0) @ v,
                "that is the mean of the blocks, each with a softmax of its own": sum(separate)
                / len(separate),
                "that is the last block alone": separate[-1],
                "a power has overflowed, or a block was kept and has been overwritten": (
                    lambda result: bool(result.isnan().any())
                ),
                "a larger score came in a later block: the sums so far need a new scale": (
                    lambda result: result.shape == (3,)
                ),
            },
        )


@exercise("03.6")
def groups_share_keys_and_values():
    """03.6: causal attention in which groups of query heads share keys and values."""
    single = torch.zeros(1, 4, 1, 1)  # a single token: each head gives the value it looks at
    shared = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    expected = torch.tensor([10.0, 10.0, 20.0, 20.0]).view(1, 4, 1, 1)
    alternating = torch.tensor([10.0, 20.0, 10.0, 20.0]).view(1, 4, 1, 1)
    neighbours = "neighbouring query heads share: a, a, b, b and not a, b, a, b"
    yield case(single, single[:, :2], shared, expected=expected, mistakes={neighbours: alternating})

    equal = torch.zeros(1, 1, 3, 1)  # equal scores: a running mean of the values
    v = torch.tensor([6.0, 0.0, 3.0]).view(1, 1, 3, 1)
    yield case(
        equal,
        equal,
        v,
        expected=torch.tensor([6.0, 3.0, 3.0]).view(1, 1, 3, 1),
        mistakes={"the future is seen": torch.full((1, 1, 3, 1), 3.0)},
    )

    q = torch.zeros(1, 1, 2, 4)
    q[..., 1, 0] = 2 * math.log(3.0)  # divided by √4, a score of log 3: three times the weight
    k = torch.eye(2, 4).view(1, 1, 2, 4)
    v = torch.tensor([[8.0], [4.0]]).view(1, 1, 2, 1)
    yield case(
        q,
        k,
        v,
        expected=torch.tensor([[8.0], [7.0]]).view(1, 1, 2, 1),
        mistakes={
            "the scores are not divided by √d": torch.tensor([[8.0], [7.6]]).view(1, 1, 2, 1),
            "the scores are divided by d, not by √d": lambda result: bool(
                (result[0, 0, 1, 0] - 6.536).abs() < 0.01
            ),
        },
    )

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
