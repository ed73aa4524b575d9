"""Checks of the exercises of notebook 02; those of the hard ones are in `word_spaces`."""

import torch
import torch.nn.functional as F

from llmlib.exercises import case, exercise, noise, word_spaces

__all__ = ["word_spaces"]  # whose import registers its checks


@exercise("02.1")
def company_is_weighted_by_distance():
    """02.1: pairs in a window, each counting as the inverse of its distance."""
    plain = "each pair counts 1 there: divide by the distance"
    one_side = "company is mutual: each word is the centre in its turn"
    from_zero = "the next word is at distance 1, so it counts 1"
    yield case(
        ["a", "b", "c"],
        2,
        expected={
            ("a", "b"): 1.0, ("a", "c"): 0.5, ("b", "a"): 1.0,
            ("b", "c"): 1.0, ("c", "a"): 0.5, ("c", "b"): 1.0,
        },
        mistakes={
            plain: lambda result: result["a", "c"] == 1,
            one_side: {("a", "b"): 1.0, ("a", "c"): 0.5, ("b", "c"): 1.0},
            from_zero: lambda result: result["a", "b"] == 0.5,
        },
    )  # fmt: skip
    yield case(
        ["a", "b", "a"],
        2,
        expected={("a", "b"): 2.0, ("a", "a"): 1.0, ("b", "a"): 2.0},
        mistakes={
            "a word that occurs twice can be its own company": {("a", "b"): 2.0, ("b", "a"): 2.0}
        },
    )
    yield case(
        ["a", "b", "c"],
        1,
        expected={("a", "b"): 1.0, ("b", "a"): 1.0, ("b", "c"): 1.0, ("c", "b"): 1.0},
        mistakes={"some of these are further apart than the window": lambda r: ("a", "c") in r},
    )
    yield case(["a"], 3, expected={})


@exercise("02.2")
def company_has_gradients():
    """02.2: the gradients of negative sampling, as autograd finds them."""
    swapped = "these are the signs of a step against the gradient"
    summed = "each noise vector has a gradient, a row each"
    zero = torch.zeros(2)
    row = torch.tensor([2.0, 4.0])
    yield case(  # every σ is ½
        row,
        zero,
        torch.zeros(1, 2),
        expected=(torch.tensor([-1.0, -2.0]), torch.tensor([[1.0, 2.0]])),
        mistakes={
            swapped: (torch.tensor([1.0, 2.0]), torch.tensor([[-1.0, -2.0]])),
            summed: lambda result: result[1].dim() == 1,
        },
    )
    generator = torch.Generator().manual_seed(1)
    v, u = torch.randn(3, generator=generator), torch.randn(3, generator=generator)
    noises = torch.randn(4, 3, generator=generator)
    u_leaf, noise_leaf = u.clone().requires_grad_(), noises.clone().requires_grad_()
    loss = -F.logsigmoid(u_leaf @ v) - F.logsigmoid(-(noise_leaf @ v)).sum()
    for_u, for_noise = torch.autograd.grad(loss, (u_leaf, noise_leaf))
    pull = (1 - torch.sigmoid(noises @ v))[:, None] * v
    yield case(
        v.clone(),
        u.clone(),
        noises.clone(),
        expected=(for_u, for_noise),
        mistakes={
            summed: lambda result: result[1].dim() == 1,
            "for the noise, σ and not 1 − σ": (for_u, pull),
        },
    )


@exercise("02.3")
def probabilities_come_back():
    """02.3: how likely each word is as company, from vectors and the noise distribution."""
    forgotten = "that is the softmax alone; the noise distribution is missing"
    unnormalised = "these do not add up to 1"

    def chances(v, contexts, noises):
        likely = noises * torch.exp(contexts @ v)
        yield case(
            v.clone(),
            contexts.clone(),
            noises.clone(),
            expected=likely / likely.sum(),
            mistakes={
                forgotten: torch.softmax(contexts @ v, dim=0),
                "divided by the noise, not multiplied": torch.softmax(
                    contexts @ v - noises.log(), dim=0
                ),
                "that is σ, the belief that a pair is true": torch.sigmoid(contexts @ v),
                unnormalised: lambda result: abs(result.sum() - 1) > 1e-3,
            },
        )

    noises = torch.tensor([0.5, 0.25, 0.25])
    yield from chances(torch.zeros(2), noise(3, 2), noises)
    yield from chances(torch.tensor([1.0, -2.0]), noise(3, 2, seed=1), noises)
    yield from chances(noise(4, seed=2), noise(6, 4, seed=3), torch.softmax(noise(6), dim=0))


@exercise("02.5")
def right_answer_has_a_rank():
    """02.5: the rank of the right word among those that are not excluded."""

    def place(scores, right, excluded, rank, **mistakes):
        return case(
            torch.tensor(scores),
            right,
            excluded,
            expected=lambda result: float(result) == rank,
            saying=str(rank),
            mistakes={
                words: lambda result, bad=bad: float(result) == bad
                for words, bad in mistakes.items()
            },
        )

    scores = [4.0, 1.0, 3.0, 2.0]
    yield place(scores, 0, [], 1, **{"the best word has rank 1": 0})
    yield place(scores, 3, [], 3, **{"the best word has rank 1": 2})
    yield place(scores, 3, [0], 2, **{"a word that is excluded does not count": 3})
    yield place(scores, 3, [0, 1, 2], 1, **{"not every excluded word is ahead of it": 0})
    yield place(scores, 3, [1], 3, **{"this excluded word scores lower: it is not in the way": 2})
    tie = {"words with the same score are not ahead of it": 2}
    yield place([2.0, 2.0, 1.0], 0, [], 1, **tie)
    yield place([2.0, 2.0, 1.0], 1, [], 1, **tie)


@exercise("02.7")
def directions_are_removed():
    """02.7: rows without their part along a direction of any length."""
    rows = noise(5, 4, seed=1)
    short = "the direction has to be scaled to length 1, both times that it occurs"
    part = "that is the part along the direction; it is what has to go"
    for matrix, axis in (
        (torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 0.0])),
        (torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.0, 10.0])),
        (rows, torch.tensor([1.0, -2.0, 0.5, 3.0])),
        (torch.tensor([[2.0, 1.0, 0.0, 0.0]]), torch.tensor([1.0, -2.0, 0.5, 3.0])),
    ):
        g = axis / axis.norm()
        along = (matrix @ g)[:, None] * g
        yield case(
            matrix.clone(),
            axis.clone(),
            expected=matrix - along,
            tolerance=1e-4,
            mistakes={
                short: matrix - (matrix @ axis)[:, None] * axis,
                f"{short}, not once": matrix - (matrix @ axis)[:, None] * g,
                part: along,
                "the rows should keep their lengths across the direction": F.normalize(
                    matrix - along, dim=1
                ),
            },
        )


@exercise("02.8")
def senses_are_told_apart():
    """02.8: two groups of rows by direction, whatever their lengths and whichever is 0."""

    def groups(sizes, seed, dim=8):
        """Return the case of two groups with so many rows each."""
        truth = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
        order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))
        truth = truth[order]
        ways = torch.linalg.qr(noise(dim, dim, seed=seed)).Q[:2] + 0.3  # they share a part
        company = ways[truth] + 0.12 * noise(len(truth), dim, seed=seed + 2)
        company = company * torch.exp(1.5 * noise(len(truth), 1, seed=seed + 1))

        def right(result):
            labels = torch.as_tensor(result).long().flatten()
            same = (labels == truth).float().mean()
            return len(labels) == len(truth) and max(same, 1 - same) > 0.97

        by_length = "this sorts by length: scale the rows first"
        lengths = company.norm(dim=1)

        def sorted_by_length(result):
            labels = torch.as_tensor(result).long().flatten()
            means = [lengths[labels == label].mean() for label in (0, 1)]
            return max(means) > 3 * min(means)

        return case(
            company,
            expected=right,
            saying=f"{sizes[0]} and {sizes[1]} rows that point the same way",
            mistakes={
                "all rows are in one group": lambda result: len(set(map(int, result))) == 1,
                "the two groups need not be equally large": (
                    lambda result: sizes[0] != sizes[1] and 2 * sum(map(int, result)) == len(truth)
                ),
                by_length: sorted_by_length,
            },
        )

    yield groups((20, 20), seed=0)
    yield groups((35, 7), seed=10)
    yield groups((12, 60), seed=20, dim=16)
