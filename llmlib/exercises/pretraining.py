"""Checks of the exercises of notebook 06."""

import math
from typing import Any

import torch

from llmlib.exercises import case, exercise, noise


@exercise("06.1")
def the_schedule_is_a_trapezoid():
    """06.1: a learning rate that warms up, stays and decays."""
    settings: dict[str, Any] = {
        "max_steps": 10,
        "warmup_steps": 4,
        "decay_steps": 3,
        "highest": 0.8,
    }
    expected = [0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8 * 2 / 3, 0.8 / 3]
    for step in (0, 3, 4, 7, 8, 9):
        yield case(step, **settings, expected=expected[step])
    yield case(0, 5, 0, 2, 1.0, expected=1.0)
    yield case(4, 5, 0, 0, 1.0, expected=1.0)


@exercise("06.2")
def every_target_weighs_the_same():
    """06.2: the mean of gradients, weighted by their targets."""
    yield case([torch.tensor([4.0]), torch.tensor([0.0])], [3, 1], expected=torch.ones(1) * 3)
    same = [noise(2, 3, seed=1), noise(2, 3, seed=2)]
    yield case(same, [5, 5], expected=(same[0] + same[1]) / 2)
    three, counts = [noise(4, seed=seed) for seed in range(3)], [7, 1, 2]
    mean = sum(n * gradient for n, gradient in zip(counts, three)) / 10
    yield case(three, counts, expected=mean)


@exercise("06.3")
def lion_takes_signs():
    """06.3: a step of Lion, its new weight and momentum in new tensors."""
    weight, grad = torch.ones(3), torch.tensor([0.5, -8.5, 0.0])
    momentum = torch.tensor([0.0, 1.0, 0.0])  # the old one decides against the gradient, just so
    expected = (torch.tensor([0.9, 0.9, 1.0]), torch.tensor([0.005, 0.905, 0.0]))
    yield case(weight, grad, momentum, 0.1, expected=expected)
    weight, grad, momentum = noise(4, seed=3), noise(4, seed=4), noise(4, seed=5)
    before = [tensor.clone() for tensor in (weight, grad, momentum)]
    step = (0.2 * momentum + 0.8 * grad).sign() + 0.5 * weight
    yield case(
        weight,
        grad,
        momentum,
        0.1,
        betas=(0.2, 0.7),
        weight_decay=0.5,
        expected=(weight - 0.1 * step, 0.7 * momentum + 0.3 * grad),
    )
    yield case(
        weight,
        grad,
        momentum,
        0.1,
        expected=lambda result: all(map(torch.equal, before, (weight, grad, momentum))),
        saying="new tensors, and leave the given ones as they are",
    )


@exercise("06.4")
def the_best_word_sets_the_mark():
    """06.4: logits below a share of the best probability become -inf (min-p)."""
    logits = torch.tensor([[0.5, 0.3, 0.14, 0.06]]).log()
    low = -math.inf
    kept = torch.tensor([[logits[0, 0], logits[0, 1], low, low]])
    yield case(logits, 0.5, expected=kept)
    yield case(logits + 7, 0.5, expected=kept + 7)
    batch = torch.tensor([[0.0, -1.0, -3.0], [-9.0, -6.0, -8.0]])
    both = torch.tensor([[0.0, -1.0, low], [low, -6.0, -8.0]])
    yield case(batch, 0.1, expected=both)
    yield case(batch, 1.0, expected=torch.tensor([[0.0, low, low], [low, -6.0, low]]))


@exercise("06.5")
def what_was_said_is_less_likely():
    """06.5: the repetition penalty, for either sign and once per token."""
    logits = torch.tensor([[2.0, -1.0, 1.0, 0.5]])
    expected = torch.tensor([[1.0, -2.0, 1.0, 0.5]])
    yield case(logits, torch.tensor([[0, 1]]), 2.0, expected=expected)
    yield case(logits, torch.tensor([[0, 1, 0]]), 2.0, expected=expected)
    rows = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    ids = torch.tensor([[0, 0], [2, 1]])
    punished = torch.tensor([[0.5, 1.0, 1.0], [-1.0, -2.0, -2.0]])
    yield case(rows, ids, 2.0, expected=punished)
    before = logits.clone()
    yield case(
        logits,
        torch.tensor([[3]]),
        2.0,
        expected=lambda result: torch.equal(logits, before) and result[0, 3] == 0.25,
        saying="new logits, and leave the given ones as they are",
    )
