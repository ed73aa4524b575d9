"""The check of exercise 03.7: the backward pass of attention, without its T × T matrix."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from llmlib.exercises import Case, case, exercise, noise

PARTS = ("d_q", "d_k", "d_v", "d_bias")


def distances(n_queries: int, n_keys: int) -> Tensor:
    """Return (T, S): how far before each query each key stands; negative in the future."""
    return torch.arange(n_keys - n_queries, n_keys)[:, None] - torch.arange(n_keys)


def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs and the logsumexp of each row, the slow way, with all T × S scores."""
    back = distances(len(q), len(k))
    seen = (back >= 0) & (back < len(bias))
    scores = q @ k.T / math.sqrt(q.shape[1]) + bias[back.clamp(0, len(bias) - 1)]
    scores = scores.masked_fill(~seen, -math.inf)
    return scores.softmax(dim=-1) @ v, scores.logsumexp(dim=-1)


def given(n_queries: int, n_keys: int, window: int, d: int = 4, loud: float = 1.0) -> list[Tensor]:
    """Return random arguments (q, k, v, bias, out, logsumexp, d_out, d_logsumexp)."""
    q, k = loud * noise(n_queries, d, seed=1), noise(n_keys, d, seed=2)
    v, bias = noise(n_keys, d, seed=3), noise(window, seed=4)
    upstream = [noise(n_queries, d, seed=5), noise(n_queries, seed=6)]
    return [q, k, v, bias, *forward(q, k, v, bias), *upstream]


def by_autograd(*args: Tensor) -> tuple[Tensor, ...]:
    """Return the four gradients as autograd finds them, in 64 bits."""
    leaves = [arg.double().requires_grad_() for arg in args[:4]]
    found = torch.autograd.grad(forward(*leaves), leaves, [arg.double() for arg in args[6:]])
    return tuple(gradient.float() for gradient in found)


def part_of(answer: Any, part: str, results: dict) -> Callable[..., Tensor]:
    """Return the function that gives one of the answer's four gradients, computed once."""

    def called(*args: Tensor) -> Tensor:
        """Return the part; the answer itself is called only for the first of the four."""
        found = results.get("found") or without_autograd(answer, args)
        if not isinstance(found, (tuple, list)) or len(found) != len(PARTS):
            raise ValueError("return four tensors: d_q, d_k, d_v, d_bias")
        results["found"] = found
        return found[PARTS.index(part)]

    called.__name__ = f"{part} of {answer.__name__}"
    return called


def without_autograd(answer: Any, args: tuple[Tensor, ...]) -> Any:
    """Return what the answer gives for copies, where autograd records nothing."""
    with torch.inference_mode():
        try:
            return answer(*(arg.clone() for arg in args))
        except RuntimeError as error:
            if "grad" not in str(error):
                raise
            raise RuntimeError("autograd is switched off: write the formulas") from None


def wrong_gradients(args: list[Tensor], part: str) -> dict[str, Any]:
    """Return the mistakes that the check knows, for one of the four gradients."""
    q, k, v, bias, out, logsumexp, d_out, d_logsumexp = args
    root, back = math.sqrt(q.shape[1]), distances(len(q), len(k))
    seen = (back >= 0) & (back < len(bias))
    scores = q @ k.T / root + bias[back.clamp(0, len(bias) - 1)]
    weights = (scores - logsumexp[:, None]).exp().where(seen, 0.0)
    d_weights, mean = d_out @ v.T, (d_out * out).sum(dim=1, keepdim=True)

    def parts(d_scores: Tensor, scale: float = root) -> Tensor:
        """Return the part of interest, made of the derivatives by the scores."""
        if part == "d_bias":
            return torch.zeros_like(bias).index_add(0, back[seen], d_scores[seen])
        return {"d_q": d_scores @ k / scale, "d_k": d_scores.T @ q / scale}.get(part, weights @ v)

    d_scores = weights * (d_weights - mean + d_logsumexp[:, None])
    if part == "d_v":
        return {"that holds the outputs' gradients unweighted": seen.float().T @ d_out}
    named = {
        "the gradient of the logsumexp is missing": parts(weights * (d_weights - mean)),
        "the gradient of the logsumexp has the wrong sign": parts(
            weights * (d_weights - mean - d_logsumexp[:, None])
        ),
        "the softmax is not undone: its weights share one sum": parts(
            weights * (d_weights + d_logsumexp[:, None])
        ),
        "that is the opposite sign": parts(-d_scores),
    }
    if part != "d_bias":
        named["the scores are divided by √d, so their gradients are too"] = parts(d_scores, 1.0)
    return named | {"a power has overflowed": lambda result: not bool(result.isfinite().all())}


def comparisons(args: list[Tensor], tolerance: float = 1e-4) -> list[Case]:
    """Return a case for each of the four gradients."""
    cases, results = [], {}
    for part, expected in zip(PARTS, by_autograd(*args)):
        wrong = {
            name: bad
            for name, bad in wrong_gradients(args, part).items()
            if callable(bad) or bad.shape != expected.shape or not bad.allclose(expected, atol=1e-3)
        }
        through = partial(part_of, part=part, results=results)
        cases.append(
            case(*args, expected=expected, through=through, mistakes=wrong, tolerance=tolerance)
        )
    return cases


class Largest(TorchDispatchMode):
    """Note the most numbers that any tensor holds which an operation makes; views make none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, and look at what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                held = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.numbers = max(self.numbers, held)
        return result


def largest_tensor(answer: Any) -> Callable[..., int]:
    """Return the function that says how many numbers the answer's largest tensor holds."""

    def called(*args: Tensor) -> int:
        with torch.no_grad(), Largest() as watch:
            answer(*args)
        return watch.numbers

    called.__name__ = f"the largest tensor of {answer.__name__}"
    return called


def products(answer: Any) -> Callable[..., int]:
    """Return the function that counts the multiplications in the answer's matrix products."""

    def called(*args: Tensor) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            answer(*args)
        return counter.get_total_flops() // 2

    called.__name__ = f"multiplications in {answer.__name__}"
    return called


@exercise("03.7")
def the_way_back_in_blocks():
    """03.7: gradients of attention with a window and a bias, without the matrix of weights."""
    q, k, v, bias = torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([[0.0], [4.0]]), noise(2)
    upstream = [torch.ones(1, 1), torch.zeros(1)]
    yield from comparisons([q, k, v, 0 * bias, *forward(q, k, v, 0 * bias), *upstream])
    yield from comparisons(given(1, 1, 1))
    for sizes in ((6, 6, 6), (7, 7, 3), (3, 8, 8), (5, 9, 2), (4, 6, 11), (70, 83, 40)):
        yield from comparisons(given(*sizes))
    yield from comparisons(given(40, 50, 12, loud=60), tolerance=2e-3)  # scores far beyond 88
    long, windowed = given(400, 400, 400), given(320, 400, 96)
    back, limit = distances(320, 400), 32 * 400
    most = 10 * 4 * int(((back >= 0) & (back < 96)).sum())
    for args, n_queries in ((long, 400), (windowed, 320)):
        yield case(
            *args,
            expected=partial(at_most, limit),
            saying=f"at most 32 S = {limit:,} numbers",
            through=largest_tensor,
            mistakes={
                "that grows with T times S or W: go block by block": partial(
                    at_least, n_queries * 96
                )
            },
        )
    far = "skip the keys out of view, those too far back as well as those of the future"
    yield case(
        *windowed,
        expected=partial(at_most, most),
        saying=f"at most 10 d for each pair in view, {most:,}",
        through=products,
        mistakes={far: partial(at_least, most)},
    )
    for args in (long, windowed):
        yield from comparisons(args, tolerance=1e-3)


def at_most(limit: int, found: int) -> bool:
    """Tell whether a count keeps within a limit."""
    return found <= limit


def at_least(limit: int, found: int) -> bool:
    """Tell whether a count reaches a limit."""
    return found >= limit
