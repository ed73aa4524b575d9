# From notebooks/05_loss.ipynb: edit there, then run make export.

"""How good a model is: its loss on held-out tokens, as nats, perplexity and bits per byte.

Built in notebook 05. `evaluate` takes a model of `llmlib.model.protocol`, or any function that maps
ids to logits, so that counts and networks are measured alike.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor, nn

from llmlib import checks
from llmlib.model.modes import evaluating
from llmlib.training.loss import IGNORED, next_token_loss, split_batch


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: the loss in nats per token, the mean over n_tokens of them."""

    loss: float
    n_tokens: int

    @property
    def perplexity(self) -> float:
        """The number of sides of a fair die that surprises as much: e to the loss."""
        return math.exp(self.loss) if self.loss < 700 else math.inf  # e^710 is not a float any more

    def bits_per_byte(self, n_bytes: int) -> float:
        """Return the loss of the whole text in bits for each of its bytes.

        n_bytes: the length, in UTF-8, of the text that all the targets spell. Only what is measured
        in bytes compares between tokenizers. Raises ValueError for less than one byte.
        """
        checks.whole_number("n_bytes", n_bytes)
        return self.loss * self.n_tokens / math.log(2) / n_bytes


def evaluate(
    model: Callable[..., Tensor],
    batches: Iterable[Sequence[Tensor]],
    *,
    max_batches: int | None = None,
) -> Evaluation:
    """Return the loss of a model over batches, in which every token counts the same.

    model: as in `llmlib.model.protocol`, or any function that maps ids (B, T) to logits (B, T, V).
    A module is evaluated without dropout, on the device where its parameters are, and each of its
    parts is left in the mode in which it was.
    batches: pairs (inputs, targets), ids (B, T) each, or triples with segments; see `split_batch`.
    max_batches: stop after so many.
    The loss is infinite if a target was given no probability at all. Raises ValueError where there
    is nothing to measure, for weights or logits that are nan or +inf, and as `cross_entropy` does.
    """
    checks.evaluation(model, max_batches)
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    device = parameter.device if parameter is not None else None  # None: as it is
    total, n_tokens, number = 0.0, 0, 0  # in Python's floats, which have double precision
    with evaluating(model):
        for number, batch in enumerate(islice(batches, max_batches), 1):
            inputs, targets, segments = split_batch(batch, name=f"batch {number}")
            inputs, targets = inputs.to(device), targets.to(device)
            segments = None if segments is None else segments.to(device)
            loss = next_token_loss(model, inputs, targets, segments).item()
            total += checks.measured_loss(loss, number, lambda ids=inputs: model(ids))
            n_tokens += int((targets != IGNORED).sum())
    n_tokens = checks.measured_tokens(number, n_tokens, IGNORED)
    return Evaluation(total / n_tokens, n_tokens)
