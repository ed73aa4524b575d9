"""Checks of the exercises of notebook 03; those about whole layers are in `attention_layers`."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType
from typing import Any

import torch
import torch.nn.functional as F

from llmlib.exercises import Case, attention_gradients, attention_layers, case, exercise, noise
from llmlib.model.attention import attention_weights

__all__ = ["attention_gradients", "attention_layers"]  # whose import registers their checks


@exercise("03.1")
def the_logarithm_survives():
    """03.1: the log-softmax along any dimension, also where the softmax underflows."""
    infinite = "the logarithm of a weight that has underflowed to 0"
    overflow = "the exponential function has overflowed: subtract the maximum first"
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
    yield from along_one_dimension()
    yield case(
        expected=[],
        saying="a result that is computed without PyTorch's log_softmax, logsumexp and their like",
        through=forbidden_names,
    )


def along_one_dimension() -> Iterator[Case]:
    """Yield the cases of 03.1 in which the dimension matters."""
    everything = "subtract the maximum along the dimension, not that of all scores"
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
        """Return the mask (T, T) that is right, or one with the faults named."""
        i, j = torch.arange(len(segments))[:, None], torch.arange(len(segments))
        mask = (i - j < window + faults.get("wide", 0)) & ((i >= j) | faults.get("ahead", False))
        mask &= (segments[:, None] == segments) | faults.get("across", False)
        padded = (segments == -1)[:, None] | (segments == -1)
        return mask & (~padded | faults.get("padding", False))

    def packed(*segments: int, window: int) -> Any:
        """Return the case of a row with these document numbers."""
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
    yield from several_groups()


def several_groups() -> Iterator[Case]:
    """Yield the cases of 03.6 with 4 query heads, and 4, 2 and 1 of keys and values."""
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
