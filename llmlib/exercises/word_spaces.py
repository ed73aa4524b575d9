"""Checks of the hard exercises of notebook 02: a table compressed with weights, and two spaces."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmlib.exercises import Case, case, exercise


class Made(TorchDispatchMode):
    """Count the numbers in the tensors that are made: in all, and in the largest one."""

    def __init__(self):
        super().__init__()
        self.total, self.largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {storage_of(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and storage_of(x) not in known:  # views cost nothing
                size = x._nnz() if x.layout != torch.strided else x.numel()
                self.total, self.largest = self.total + size, max(self.largest, size)
        return result


def storage_of(x: Tensor) -> int:
    """Return the address of a tensor's numbers; a sparse one has none of its own."""
    return x.untyped_storage().data_ptr() if x.layout == torch.strided else -id(x)


def counted(answer: Callable) -> Callable:
    """Return a function that also tells how many numbers were made: (result, total, largest)."""

    def run(*args):
        """Return the result, the numbers in all new tensors, and those in the largest one."""
        with Made() as made:
            result = answer(*args)
        return result, made.total, made.largest

    run.__name__ = getattr(answer, "__name__", "your function")
    return run


def half_step(table, weight, other, shift, ridge, apart=False):
    """Return the best vectors and shifts, row by row, from the whole table; `apart`: in turns."""
    n, k = len(table), other.shape[1]
    vectors, shifts = torch.zeros(n, k).double(), torch.zeros(n).double()
    beside = torch.cat([other, torch.ones(len(other), 1).double()], dim=1)
    for i in range(n):
        root, target = weight[i].sqrt()[:, None], (table[i] - shift)[:, None]

        def solve(columns, target, root=root):
            """Return the least squares of one row, weighted and with the ridge."""
            penalty = math.sqrt(ridge) * torch.eye(columns.shape[1]).double()
            zeros = torch.zeros(len(penalty), 1).double()
            left, right = torch.cat([root * columns, penalty]), torch.cat([root * target, zeros])
            return torch.linalg.lstsq(left, right).solution

        if apart:
            vectors[i] = solve(other, target)[:, 0]
            shifts[i] = solve(beside[:, k:], target - other @ vectors[i][:, None])[0, 0]
        else:
            both = solve(beside, target)[:, 0]
            vectors[i], shifts[i] = both[:k], both[k]
    return vectors, shifts


def compressed(table, weight, ridge, v, q, rounds, apart=False, old=False):
    """Return u, p, v, q after some rounds; `old`: v and q are fitted to the u and p before."""
    u, p = torch.zeros_like(v), torch.zeros_like(q)
    for _ in range(rounds):
        before = u, p
        u, p = half_step(table, weight, v, q, ridge, apart)
        v, q = half_step(table.T, weight.T, *(before if old else (u, p)), ridge, apart)
    return u, p, v, q


def near(expected: tuple) -> Callable:
    """Return a test of (result, …): whether its four tensors are these."""

    def test(result):
        return len(result[0]) == 4 and all(
            a.shape == b.shape and torch.allclose(a.double(), b, rtol=1e-3, atol=1e-4)
            for a, b in zip(result[0], expected)
        )

    return test


def slips(table, weight, background, v, q, rounds) -> dict[str, Callable]:
    """Return the named mistakes, each with a test of what it leads to."""
    seen = table != 0

    def ends(omega, **how):
        return near(compressed(table, omega, 0.5, v, q, rounds, **how))

    return {
        "a counted cell weighs what `weights` says, and the background does not come on top": ends(
            weight + background * seen
        ),
        "the cells that were not counted are 0, with the weight of the background": ends(
            weight * seen
        ),
        "the weights are squared": ends(weight**2),
        "u and p have to be fitted together, and so have v and q": ends(weight, apart=True),
        "v and q are fitted to the new u and p": ends(weight, old=True),
    }


def table_case(n: int, cells: int, k: int, background: float, rounds: int, seed: int) -> Case:
    """Return the case of a table with so many counted cells; the first and last words have none."""
    g = torch.Generator().manual_seed(seed)
    places = torch.randperm((n - 2) ** 2, generator=g)[:cells]
    pairs = torch.stack([places // (n - 2) + 1, places % (n - 2) + 1], dim=1)
    values = 3 * torch.rand(cells, generator=g).double()
    weights = 2 * torch.rand(cells, generator=g).double() + 0.01  # some below the background
    v, q = torch.randn(n, k, generator=g).double(), torch.randn(n, generator=g).double()
    table, weight = torch.zeros(n, n).double(), torch.full((n, n), background).double()
    table[pairs[:, 0], pairs[:, 1]], weight[pairs[:, 0], pairs[:, 1]] = values, weights
    right = near(compressed(table, weight, 0.5, v, q, rounds))
    large = n > 100  # where work is counted, and the slow ways are slow
    whole = {
        "right, but the whole table was made": lambda r: right(r) and r[2] >= n * n,
        "right, but so many numbers were made as if each cell was visited": right,
    }
    return case(
        pairs, values.float(), weights.float(), background, 0.5, v.float(), q.float(), rounds,
        through=counted,
        expected=lambda r: right(r) and (not large or (r[2] < n * n and r[1] <= n * n * k)),
        saying=f"u, p, v, q where {rounds} rounds lead, and make few numbers",
        mistakes=whole if large else slips(table, weight, background, v, q, rounds),
    )  # fmt: skip


@exercise("02.4")
def counted_cells_are_compressed():
    """02.4: weighted least squares by turns, with a background that is never written down."""
    yield case(
        torch.tensor([[0, 1]]), torch.tensor([2.0]), torch.tensor([1.0]), 0.0, 1.0,
        torch.tensor([[0.0], [1.0]]), torch.zeros(2), 1,
        expected=lambda result: near(
            tuple(
                torch.tensor(x).double()
                for x in ([[2 / 3], [0.0]], [2 / 3, 0], [[0.0], [4 / 11]], [0, 6 / 11])
            )
        )([result]),
        saying="u = [[2/3], [0]], p = [2/3, 0], v = [[0], [4/11]] and q = [0, 6/11]",
        mistakes={
            "the ridge holds for p and q, too": lambda r: abs(r[1][0] - 2) < 1e-3,
            "u and p have to be fitted together, and so have v and q": (
                lambda r: abs(r[0][0, 0] - 1) < 1e-3
            ),
            "v and q are fitted to the new u and p": lambda r: abs(r[3][1] - 1) < 1e-3,
        },
    )  # fmt: skip
    yield table_case(n=9, cells=20, k=2, background=0.0, rounds=1, seed=1)
    yield table_case(n=9, cells=20, k=2, background=0.3, rounds=1, seed=2)
    yield table_case(n=14, cells=50, k=4, background=0.5, rounds=3, seed=3)
    yield table_case(n=600, cells=900, k=7, background=0.1, rounds=1, seed=4)


def spaces(shared, lonely, dim, n_known, seed, push=1.0):
    """Return a, b, known, radius and the dictionary; each side has so many lonely words.

    The lonely words of each side lie off the others by a vector that is `push` long in each
    component. Even seeds have a mirror.
    """
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    n = shared + 2 * lonely
    words = normal(n, dim)
    words[shared : shared + lonely] += push * normal(dim)
    words[shared + lonely :] += push * normal(dim)
    words = words * torch.linspace(1.3, 0.7, dim).double()
    turn = torch.linalg.qr(normal(dim, dim)).Q
    if (torch.linalg.det(turn) > 0) == (seed % 2 == 0):
        turn[:, 0] *= -1
    left, right = torch.arange(shared + lonely), torch.arange(n)
    right = right[(right < shared) | (right >= shared + lonely)]
    left, right = (side[torch.randperm(len(side), generator=g)] for side in (left, right))
    to_a, to_b = 2 * normal(dim), 3 * normal(dim)
    a, b = words[left] + to_a, 4 * words[right] @ turn + to_b
    b = b + 0.2 * normal(len(right), dim)
    row = {word: j for j, word in enumerate(right.tolist())}
    truth = {i: row[word] for i, word in enumerate(left.tolist()) if word < shared}
    gaps = torch.cdist(4 * words[left] @ turn + to_b, b)
    partners = torch.zeros_like(gaps, dtype=torch.bool)
    partners[list(truth), list(truth.values())] = True
    radius = float((gaps[partners].max() * gaps[~partners].min()).sqrt())
    keys = list(truth)
    known = [keys[place] for place in torch.randperm(shared, generator=g)[:n_known].tolist()]
    return a, b, [(i, truth[i]) for i in known], radius, truth


def spaces_case(a, b, known, radius, truth, advice) -> Case:
    """Return the case of two spaces; advice is what is said of a dictionary with gaps."""

    def pairs(result):
        return {int(i): int(j) for i, j in dict(result).items()}

    def right(result):
        return sum(truth.get(i) == j for i, j in pairs(result).items())

    return case(
        a.float(),
        b.float(),
        list(known),
        radius,
        expected=lambda result: pairs(result) == truth,
        saying=str(truth) if len(truth) < 9 else f"a dictionary of {len(truth)} words",
        mistakes={
            "one row of b is given to two words": (
                lambda result: len(set(pairs(result).values())) < len(pairs(result))
            ),
            "the keys are rows of a, the values rows of b": (
                lambda result: pairs(result) == {j: i for i, j in truth.items()}
            ),
            "words that are in one space only have no partner": (
                lambda result: len(pairs(result)) > right(result) == len(truth)
            ),
            f"not all of the pairs are right. {advice}": lambda result: right(result) < len(truth),
        },
    )


@exercise("02.6")
def two_spaces_have_one_dictionary():
    """02.6: the words of one space found in another, from a few known pairs."""
    corners = torch.tensor([[0.0, 0], [2, 0], [0, 1], [2, 1], [9, 9]]).double()
    turned = torch.tensor([[-10.0, 0], [0, 0], [0, 20], [-10, 20], [50, 50]]).double()
    advice = "Check the fit: Q may be a mirror, and s and t come from the pairs, not from all rows"
    known = [(0, 1), (1, 2), (2, 0)]
    yield spaces_case(corners, turned, known, 1.0, {0: 1, 1: 2, 2: 0, 3: 3}, advice)
    yield spaces_case(*spaces(60, 0, dim=6, n_known=12, seed=2), advice)
    yield spaces_case(
        *spaces(120, 40, dim=10, n_known=12, seed=1, push=2.0),
        "The means and the sizes of the two spaces differ: estimate s and t from pairs, not from "
        "all rows",
    )
    again = "Too few pairs are known for one fit: fit again with what it found"
    yield spaces_case(*spaces(150, 0, dim=10, n_known=8, seed=8), f"{again}, until nothing changes")
    yield spaces_case(*spaces(160, 60, dim=12, n_known=9, seed=7), f"{again}, many times")
    yield spaces_case(
        *spaces(100, 100, dim=10, n_known=8, seed=5),
        "Half of the words have no partner, and false pairs spoil the next fit: let the surest "
        "pairs in first",
    )
