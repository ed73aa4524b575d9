"""Checks of the exercises of notebook 06; 06.6 and 06.7 have modules of their own."""

import math
from collections.abc import Callable
from typing import Any

import torch

from llmlib.exercises import case, exercise, noise, training_rates, training_readers

__all__ = ["training_rates", "training_readers"]  # whose import registers their checks


def untouched(*given: torch.Tensor, **options: Any) -> Any:
    """Return the case in which a function must leave the given tensors as they are.

    The function gets copies, so that no other case sees what it changed.
    """
    copies = [tensor.clone() for tensor in given]
    return case(
        *copies,
        expected=lambda _: all(map(torch.equal, copies, given)),
        saying="new tensors, and leave the given ones as they are",
        **options,
    )


@exercise("06.1")
def nesterov_looks_ahead():
    """06.1: a step of Nesterov's momentum, in new tensors."""

    def step(weight, grad, velocity, lr, beta):
        velocity = beta * velocity + grad
        return weight - lr * (grad + beta * velocity), velocity

    w, g, v = torch.tensor([1.0, 1.0]), torch.tensor([0.5, -1.0]), torch.tensor([0.0, 2.0])
    plain = (w - 0.1 * (0.9 * v + g), 0.9 * v + g)
    yield case(
        w.clone(),
        g.clone(),
        v.clone(),
        0.1,
        expected=step(w, g, v, 0.1, 0.9),
        mistakes={"this is plain momentum, without the look ahead": plain},
    )
    yield untouched(noise(3, seed=1), noise(3, seed=2), noise(3, seed=3), lr=0.1)
    w, g, v = noise(2, 3, seed=1), noise(2, 3, seed=2), noise(2, 3, seed=3)
    yield case(w, g, v, 0.5, beta=0.5, expected=step(w, g, v, 0.5, 0.5))


@exercise("06.2")
def lion_takes_signs():
    """06.2: a step of Lion, its new weight and momentum in new tensors."""

    def step(weight, grad, momentum, lr, betas, decay):
        mixed = betas[0] * momentum + (1 - betas[0]) * grad
        mean = betas[1] * momentum + (1 - betas[1]) * grad
        return weight - lr * (mixed.sign() + decay * weight), mean

    weight, grad = torch.ones(3), torch.tensor([0.5, -8.5, 0.0])
    momentum = torch.tensor([0.0, 1.0, 0.0])  # the old one decides against the gradient, just so
    expected = (torch.tensor([0.9, 0.9, 1.0]), torch.tensor([0.005, 0.905, 0.0]))
    late = 0.99 * momentum + 0.01 * grad
    mistakes = {
        "the step uses the old momentum": (step(weight, grad, late, 0.1, (0.9, 0.99), 0)[0], late),
        "the new momentum uses the second beta": (expected[0], 0.9 * momentum + 0.1 * grad),
    }
    yield case(
        weight.clone(), grad.clone(), momentum.clone(), 0.1, expected=expected, mistakes=mistakes
    )
    yield untouched(noise(4, seed=3), noise(4, seed=4), noise(4, seed=5), lr=0.1)
    given = noise(4, seed=3), noise(4, seed=4), noise(4, seed=5)
    options: dict[str, Any] = {"betas": (0.2, 0.7), "weight_decay": 0.5}
    without = step(*given, 0.1, (0.2, 0.7), 0.0)
    yield case(
        *given,
        0.1,
        **options,
        expected=step(*given, 0.1, (0.2, 0.7), 0.5),
        mistakes={"the weight decay is missing": without},
    )


def power(square: torch.Tensor, exponent: float) -> torch.Tensor:
    """Return a power of a symmetric matrix, in the directions in which it is not zero."""
    values, vectors = torch.linalg.eigh(square.double())
    there = values > 1e-6 * values.max()
    powers = torch.where(there, values.clamp(min=1e-30) ** exponent, 0)
    return ((vectors * powers) @ vectors.T).float()


@exercise("06.3")
def shampoo_knows_rows_and_columns():
    """06.3: a step of Shampoo, which on a first gradient is that of Muon."""

    def step(weight, grad, left, right, lr, exponent=-0.25):
        left, right = left + grad @ grad.T, right + grad.T @ grad
        return weight - lr * power(left, exponent) @ grad @ power(right, exponent), left, right

    zeros = torch.zeros(3, 3), torch.zeros(2, 2)
    weight, grad = noise(3, 2, seed=1), noise(3, 2, seed=2)
    U, _, Vt = torch.linalg.svd(grad, full_matrices=False)
    first = (weight - 0.5 * U @ Vt, grad @ grad.T, grad.T @ grad)
    mistakes: dict[str, Callable] = {
        "the step takes the new L and R": lambda result: (
            not result[0].isfinite().all() or torch.equal(result[0], weight)
        ),
        "this is a power of -1/2": lambda result: torch.allclose(
            result[0], step(weight, grad, *zeros, 0.5, -0.5)[0], rtol=0.01, atol=1e-3
        ),
    }
    yield case(
        weight.clone(),
        grad.clone(),
        zeros[0].clone(),
        zeros[1].clone(),
        0.5,
        expected=first,
        tolerance=1e-3,
        mistakes=mistakes,
    )
    yield untouched(noise(2, 2, seed=1), noise(2, 2, seed=2), torch.eye(2), torch.eye(2), lr=0.1)
    grads = [noise(2, 4, seed=seed) for seed in (5, 6, 7)]
    left = sum(g @ g.T for g in grads[:2])
    right = sum(g.T @ g for g in grads[:2])
    weight = noise(2, 4, seed=8)
    expected = step(weight, grads[2], left, right, 0.1)
    yield case(weight, grads[2], left, right, 0.1, expected=expected, tolerance=1e-3)


@exercise("06.4")
def the_schedule_is_a_trapezoid():
    """06.4: a learning rate that warms up, stays and decays."""
    soon = "the warm-up starts at 0 and peaks at step warmup_steps, as ours does"
    last = "it reaches 0 one step after the last, not at the last"
    for max_steps, warmup, decay in ((10, 4, 3), (12, 2, 5), (20, 5, 10), (9, 3, 6), (8, 6, 6)):
        for step in range(max_steps):
            rise, fall = step / warmup, (max_steps - step) / decay
            value = 0.8 * min(1.0, rise, fall)
            early = 0.8 * min(1.0, (step + 1) / warmup, fall)
            zero = 0.8 * min(1.0, rise, (max_steps - 1 - step) / decay)
            yield case(
                step,
                max_steps=max_steps,
                warmup_steps=warmup,
                decay_steps=decay,
                highest=0.8,
                expected=value,
                mistakes={soon: early} if early != value else {last: zero},
            )
    yield case(0, 5, 0, 2, 1.0, expected=1.0)
    yield case(4, 5, 0, 0, 1.0, expected=1.0)
    yield case(1, 5, 2, 0, 1.0, expected=0.5)


@exercise("06.5")
def the_noise_scale_is_estimated():
    """06.5: noise over signal of gradients, from batches of two sizes."""

    def estimate(gradients, batch_size):
        """Return noise over signal, from gradients of single batches and of all."""
        stack = torch.stack(gradients).double()
        n, small = len(stack), stack.square().sum(1).mean()
        large = stack.mean(0).square().sum()
        signal = (n * large - small) / (n - 1)
        return ((small - signal) * batch_size / signal).item()

    pair = [torch.tensor([3.0, 1.0]), torch.tensor([3.0, -1.0])]  # 10 and 9: signal 8, noise 2 B
    mistakes = {
        "the mean of the gradients is noisy too: its length is not yet |G|": 8 / 9,
        "multiply by the size of a batch": 0.25,
        "this is |G|² over Σ": 0.5,
        "this is Σ alone": 16.0,
    }
    yield case(pair, 8, expected=2.0, mistakes=mistakes)
    yield case([torch.tensor([2.0, 0.0])] * 3, 8, expected=0.0)
    for n, size in ((2, 1), (4, 16), (5, 3)):
        gradients = [torch.ones(6) + 0.5 * noise(6, seed=seed) for seed in range(n)]
        yield case(gradients, size, expected=estimate(gradients, size), tolerance=1e-4)


def factored(steps, lr, betas, weight, grads):
    """Return the weight after steps of factored Adam."""
    m, row, column = torch.zeros_like(weight), 0.0, 0.0
    for t in range(1, steps + 1):
        grad = grads[t - 1]
        m = betas[0] * m + (1 - betas[0]) * grad
        row = betas[1] * row + (1 - betas[1]) * grad.square().mean(1, keepdim=True)
        column = betas[1] * column + (1 - betas[1]) * grad.square().mean(0, keepdim=True)
        v = row * column / row.mean()
        mean, square = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        weight = weight - lr * mean / (square.sqrt() + 1e-8)
    return weight


def after_steps(steps: int) -> Callable:
    """Return what turns a step into a run of steps, which returns the weight and the memory."""

    def through(step: Callable) -> Callable:
        def run(weight, grads, lr, betas):
            """Return the weight after the steps, and how many numbers the state holds."""
            state: dict[str, Any] = {}
            for grad in grads[:steps]:
                weight = step(weight.clone(), grad.clone(), state, lr, betas)
            tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
            return weight, sum(tensor.numel() for tensor in tensors)

        run.__name__ = getattr(step, "__name__", "your function")
        return run

    return through


def ends_at(weight: torch.Tensor, most: float = math.inf) -> Callable:
    """Return a test of (weight, memory): whether the weight is this, with at most so much."""
    return lambda result: (
        torch.allclose(result[0], weight, rtol=1e-3, atol=1e-4) and result[1] <= most
    )


@exercise("06.8")
def adam_remembers_less():
    """06.8: Adam with the squares of a matrix kept as a row and a column."""
    weight, grads = noise(5, 7, seed=1), [noise(5, 7, seed=seed) for seed in range(2, 6)]
    flat = [torch.outer(noise(5, seed=9).exp(), noise(7, seed=8).exp()) for _ in range(3)]
    most = 5 * 7 + 5 + 7 + 4  # m, a row, a column, and a few numbers
    for steps, given, betas in (
        (1, grads, (0.9, 0.99)),
        (4, grads, (0.9, 0.9)),
        (3, flat, (0.5, 0.9)),
    ):
        expected = factored(steps, 0.1, betas, weight, given)
        uncorrected = without_correction(steps, 0.1, betas, weight, given)
        yield case(
            weight,
            given,
            0.1,
            betas,
            through=after_steps(steps),
            expected=ends_at(expected, most),
            saying=f"{[round(x, 2) for x in expected[0].tolist()]} …, and remember few numbers",
            mistakes={
                "the state holds too many numbers: v is never stored whole": ends_at(expected),
                "correct both means for their start at zero, as Adam does": ends_at(uncorrected),
            },
        )


def without_correction(steps, lr, betas, weight, grads):
    """Return the weight after steps of factored Adam whose means are not corrected."""
    m, row, column = torch.zeros_like(weight), 0.0, 0.0
    for grad in grads[:steps]:
        m = betas[0] * m + (1 - betas[0]) * grad
        row = betas[1] * row + (1 - betas[1]) * grad.square().mean(1, keepdim=True)
        column = betas[1] * column + (1 - betas[1]) * grad.square().mean(0, keepdim=True)
        weight = weight - lr * m / ((row * column / row.mean()).sqrt() + 1e-8)
    return weight
