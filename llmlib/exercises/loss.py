"""Checks of the exercises of notebook 05."""

import math

import torch

from llmlib.exercises import case, exercise


@exercise("05.1")
def perplexity_is_a_number_of_choices():
    """05.1: perplexity, also of a long text and of one called impossible."""
    yield case([0.5, 0.5, 0.5], expected=2.0)
    yield case([0.5, 0.125], expected=4.0)
    yield case([1.0], expected=1.0)
    yield case(
        [0.1] * 2000,
        expected=lambda result: abs(result - 10) < 1e-6,
        saying="10.0, for a long text too",
    )
    yield case(
        [0.5, 0.0],
        expected=lambda result: result == math.inf,
        saying="inf, because the model called impossible what came",
    )


@exercise("05.2")
def bytes_are_counted_and_not_characters():
    """05.2: bits per byte of a text in UTF-8."""
    bit = -math.log(2)
    yield case("abcd", [4 * bit, 4 * bit], expected=2.0)
    yield case("ab", [bit, bit, bit], expected=1.5)
    yield case("é", [6 * bit], expected=3.0)
    yield case("🦊!", [math.log(0.5), math.log(0.25)], expected=0.6)


@exercise("05.3")
def every_token_counts_the_same():
    """05.3: the mean of losses, weighted by their tokens."""
    yield case([(2.0, 10), (4.0, 10)], expected=3.0)
    yield case([(2.0, 30), (4.0, 10)], expected=2.5)
    yield case([(1.5, 7)], expected=1.5)
    yield case([(2.0, 30), (math.nan, 0), (4.0, 10)], expected=2.5)


@exercise("05.4")
def the_divergence_is_measured():
    """05.4: the Kullback-Leibler divergence of two distributions."""
    p = {"a": 0.5, "b": 0.5}
    yield case(p, p, expected=0.0)
    yield case(p, {"a": 0.25, "b": 0.75}, expected=0.5 * math.log(4 / 3))
    yield case({"a": 1.0}, p, expected=math.log(2))
    yield case({"a": 1.0, "b": 0.0}, p, expected=math.log(2))
    yield case(
        p,
        {"a": 1.0},
        expected=lambda result: result == math.inf,
        saying="inf, because q rules out what p allows",
    )


@exercise("05.5")
def the_gradient_is_what_autograd_finds():
    """05.5: the gradient of the cross-entropy, without the targets of -100."""

    def given(logits, targets):
        """Return a case: logits and targets, and the gradient that the formula gives."""
        logits = torch.tensor(logits)
        probabilities = logits.softmax(dim=-1)
        counts = [row for row, target in enumerate(targets) if target != -100]
        gradient = torch.zeros_like(logits)
        gradient[counts] = probabilities[counts]
        for row in counts:
            gradient[row, targets[row]] -= 1
        return case(logits, torch.tensor(targets), expected=gradient / len(counts))

    yield given([[0.0, 0.0]], [0])
    yield given([[0.0, 0.0], [2.0, 1.0]], [0, 1])
    yield given([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [3.0, -1.0, 1.0]], [2, -100, 0])
    yield given([[200.0, 0.0], [0.0, 200.0]], [0, 0])
