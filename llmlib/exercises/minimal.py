"""Checks of the exercises of notebook 08."""

import numpy as np
import torch

from llmlib.exercises import case, exercise


@exercise("08.1")
def all_parameters_are_counted():
    """08.1: the number of parameters of GPT-2, of its sizes and of a tiny one."""
    yield case(50257, 1024, 768, 12, 12, expected=124_439_808)
    yield case(50257, 1024, 1600, 25, 48, expected=1_557_611_200)
    yield case(10, 4, 2, 1, 1, expected=106)


@exercise("08.2")
def the_thirds_are_split_and_transposed():
    """08.2: queries, keys and values, out of the array that holds all three."""
    yield case(
        np.arange(12, dtype=np.float32).reshape(1, 2, 6),
        expected=(
            torch.tensor([[0.0, 6.0], [1.0, 7.0]]),
            torch.tensor([[2.0, 8.0], [3.0, 9.0]]),
            torch.tensor([[4.0, 10.0], [5.0, 11.0]]),
        ),
    )
    matrix = np.random.default_rng(0).normal(size=(1, 6, 18)).astype(np.float32)
    parts = (torch.tensor(matrix[0, :, at : at + 6].T.copy()) for at in (0, 6, 12))
    yield case(matrix, expected=tuple(parts))


@exercise("08.3")
def the_distribution_is_that_of_sample():
    """08.3: the probabilities by temperature and top-k; the logits stay as they are."""
    logits = torch.tensor([1.0, 3.0, 2.0, -1.0])
    yield case(logits, 1.0, 4, expected=logits.softmax(0))
    yield case(logits, 0.5, 4, expected=(2 * logits).softmax(0))
    two = torch.tensor([0.0, 1.0, 0.5, 0.0]) * 2
    two = torch.where(two > 0, logits / 2, -torch.inf).softmax(0)
    yield case(logits, 2.0, 2, expected=two)
    yield case(logits, 0.0, 3, expected=torch.tensor([0.0, 1.0, 0.0, 0.0]))
    yield case(logits, 1.0, 50, expected=logits.softmax(0))
    yield case(
        logits,
        1.0,
        2,
        expected=lambda _: logits[0] == 1,
        saying="its result, and leave the logits as they are",
    )
