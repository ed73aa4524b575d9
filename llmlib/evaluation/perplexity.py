# From notebooks/05_loss.ipynb: edit there, then run make export.

"""How good a model is: its loss on held-out tokens, as nats, perplexity and bits per byte.

Built in notebook 05.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from llmlib.training.loss import IGNORED, cross_entropy


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: the loss in nats a token, and of how many tokens it is the mean."""

    loss: float
    n_tokens: int

    @property
    def perplexity(self) -> float:
        """The number of sides of a fair die that surprises as much: e to the loss."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def bits_per_byte(self, n_bytes: int) -> float:
        """Return the loss of the whole text in bits for each of its bytes.

        n_bytes: the length, in UTF-8, of the text that all the targets spell. Only what is measured
        in bytes compares between tokenizers. Raises ValueError for less than one byte.
        """
        if n_bytes < 1:
            raise ValueError(f"a text of {n_bytes} bytes has no bits per byte: give at least 1")
        return self.loss * self.n_tokens / math.log(2) / n_bytes


@contextmanager
def evaluating(model: Callable) -> Iterator[None]:
    """No gradients and no dropout inside; afterwards each submodule is in its former mode again."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules[:1]:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode


def sum_of_batch(model: Callable, batch: Sequence[torch.Tensor], number: int) -> tuple[float, int]:
    """The loss of one batch in nats, summed, and how many of its tokens count."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"batch {number} is a {type(batch).__name__}: give pairs (inputs, targets)")
    inputs, targets = batch
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if parameter is not None:
        inputs, targets = inputs.to(parameter.device), targets.to(parameter.device)
    logits = model(inputs)
    if not isinstance(logits, torch.Tensor):
        raise TypeError(
            f"the model gave a {type(logits).__name__}: evaluate needs logits (B, T, V)"
        )
    loss = cross_entropy(logits, targets, reduction="sum").item()
    if math.isnan(loss):
        bad = (~logits.isfinite()).sum().item()
        raise ValueError(
            f"the loss of batch {number} is not a number, nor would be any mean with it: "
            f"{bad} of {logits.numel()} logits are NaN or infinite"
        )
    return loss, int((targets != IGNORED).sum())


def evaluate(
    model: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    max_batches: int | None = None,
) -> Evaluation:
    """Return the loss of a model over batches, in which every token counts the same.

    model: maps ids (B, T) to logits (B, T, V). A module is evaluated without dropout, on the device
    where its parameters are, and each of its parts is left in the mode in which it was.
    batches: pairs (inputs, targets), ids (B, T) each; targets of -100 do not count.
    max_batches: stop after so many.
    The loss is infinite if a target was given no probability at all. Raises ValueError where there
    is nothing to measure or a loss is not a number, and as `cross_entropy` does.
    """
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a function of ids (B, T)")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches must be at least 1, not {max_batches}")
    total, n_tokens, number = 0.0, 0, 0
    with evaluating(model):
        for number, batch in enumerate(islice(batches, max_batches), 1):
            loss, counted = sum_of_batch(model, batch, number)
            total, n_tokens = total + loss, n_tokens + counted
    if number == 0:
        raise ValueError("there is no batch to evaluate: the loader is empty (or used up)")
    if n_tokens == 0:
        raise ValueError(f"no target of {number} batches counts: all of them are {IGNORED}")
    return Evaluation(total / n_tokens, n_tokens)
