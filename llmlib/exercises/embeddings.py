"""The checks of notebook 02, on word vectors."""

import torch
import torch.nn.functional as F

from llmlib.exercises import case, exercise


@exercise("02.1")
def without_direction():
    """02.1: rows without their part along a direction of any length."""
    matrix = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    yield case(
        matrix,
        torch.tensor([1.0, 0.0]),
        expected=torch.tensor([[0.0, 4.0], [0.0, 0.0], [0.0, 2.0]]),
    )
    yield case(  # a direction that is longer than 1
        matrix,
        torch.tensor([0.0, 10.0]),
        expected=torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
    )
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    axis = torch.tensor([1.0, -2.0, 0.5, 3.0])
    yield case(
        rows,
        axis,
        expected=lambda result: result.shape == rows.shape and (result @ axis).abs().max() < 1e-4,
        saying="rows at a right angle to the direction",
    )
    yield case(  # what is at a right angle already stays, whatever its length
        torch.tensor([[2.0, 1.0, 0.0, 0.0]]), axis, expected=torch.tensor([[2.0, 1.0, 0.0, 0.0]])
    )


@exercise("02.2")
def rank_of():
    """02.2: the rank of the right word among those that are not excluded."""
    scores = torch.tensor([4.0, 1.0, 3.0, 2.0])
    yield case(scores, 0, [], expected=1)
    yield case(scores, 3, [], expected=3)
    yield case(scores, 3, [0], expected=2)  # a word that is excluded does not count
    yield case(scores, 3, [0, 1, 2], expected=1)
    yield case(scores, 3, [1], expected=3)  # excluded, but not in the way


@exercise("02.3")
def analogy_by_product():
    """02.3: the word that the product of shifted cosines finds."""
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    lifted = torch.cat([square, torch.ones(4, 1)], dim=1)
    yield case(lifted, 0, 1, 3, expected=2)
    yield case(lifted * torch.tensor([[1.0], [5.0], [0.1], [2.0]]), 0, 1, 3, expected=2)
    for seed in range(4):  # where the product and the sum may differ
        matrix = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed))
        best = best_product(matrix, 0, 1, 2)
        hint = f"{best} (a product, of cosines shifted to lie between 0 and 1?)"
        yield case(matrix, 0, 1, 2, expected=best, saying=hint)


def best_product(matrix: torch.Tensor, a: int, b: int, c: int) -> int:
    """The reference for 02.3, written with loops."""
    similar = (F.cosine_similarity(matrix[:, None], matrix[None], dim=-1) + 1) / 2
    scores = {
        row: similar[row, b] * similar[row, c] / (similar[row, a] + 0.001)
        for row in range(len(matrix))
        if row not in (a, b, c)
    }
    return max(scores, key=scores.__getitem__)


@exercise("02.4")
def company_gradients():
    """02.4: the gradients of negative sampling, as autograd finds them."""
    zero = torch.zeros(2)
    yield case(  # every σ is ½
        torch.tensor([2.0, 4.0]),
        zero,
        torch.zeros(1, 2),
        expected=(torch.tensor([-1.0, -2.0]), torch.tensor([[1.0, 2.0]])),
    )
    generator = torch.Generator().manual_seed(1)
    v, u = torch.randn(3, generator=generator), torch.randn(3, generator=generator)
    noise = torch.randn(4, 3, generator=generator)
    u_leaf, noise_leaf = u.clone().requires_grad_(), noise.clone().requires_grad_()
    loss = -F.logsigmoid(u_leaf @ v) - F.logsigmoid(-(noise_leaf @ v)).sum()
    yield case(v, u, noise, expected=torch.autograd.grad(loss, (u_leaf, noise_leaf)))
