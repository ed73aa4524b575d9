# From notebooks/10_inference.ipynb: edit there, then run make export.

"""How logits become the probabilities of the next token, and how a token is drawn.

Built in notebook 10, with the filters of notebook 06. Each row of a batch has a generator of its
own, so that its text does not depend on its neighbours. What is left out: ways to choose that look
at more than one step, such as beam search (`llmlib.generation.beam`).

Shapes: B rows in a batch, V = vocab_size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from llmlib.generation.generate import check_settings, top_k_filter, top_p_filter


@dataclass(frozen=True)
class Sampling:
    """How logits become the probabilities that a token is drawn with; checked when it is made.

    Raises ValueError, saying what is allowed, for values that are not possible.
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    top_k: int | None = None  # only the k likeliest (Fan and others 2018)
    top_p: float | None = None  # only the fewest that make up p (Holtzman and others 2019)
    min_p: float | None = None  # only those at least min_p times as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1 makes tokens less likely that were there already

    def __post_init__(self):
        check_settings(self.temperature, self.top_k, self.top_p)
        if self.min_p is not None and not (is_number(self.min_p) and 0 <= self.min_p <= 1):
            raise ValueError(f"min_p is {self.min_p!r}: it must be a number from 0 to 1")
        penalty = self.repetition_penalty
        if not (is_number(penalty) and 0 < penalty < math.inf):
            raise ValueError(f"repetition_penalty is {penalty!r}: it must be a number above 0")

    def probabilities(self, logits: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, V) -> probabilities (B, V); seen: (B, V), which tokens a row holds already.

        In this order: penalty (Keskar and others 2019), temperature, top_k, top_p, min_p (Nguyen
        and others 2024). Raises ValueError for logits that leave no choice.
        """
        highest = logits.amax(dim=-1, keepdim=True)
        if not highest.isfinite().all():
            raise ValueError("the model gives logits that are nan or infinite: it is broken")
        if self.repetition_penalty != 1 and seen is not None:
            penalty = self.repetition_penalty
            less = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(seen, less, logits)
            highest = logits.amax(dim=-1, keepdim=True)
        if self.temperature == 0:
            return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
        logits = (logits - highest).float() / max(self.temperature, 1e-30)
        if self.top_k is not None:
            logits = top_k_filter(logits, self.top_k)
        if self.top_p is not None:
            logits = top_p_filter(logits, self.top_p)
        if self.min_p:  # the likeliest has logit 0
            logits = logits.masked_fill(logits < math.log(self.min_p), -math.inf)
        return logits.softmax(dim=-1)


def is_number(value: object) -> bool:
    """Whether a value is an int or a float; True and False are neither."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def make_sampling(sampling: dict) -> Sampling:
    """A Sampling from keyword arguments; TypeError, naming all, for one that does not exist."""
    try:
        return Sampling(**sampling)
    except TypeError:
        allowed = ", ".join(Sampling.__dataclass_fields__)
        given = ", ".join(sampling)
        raise TypeError(f"among {given} is no setting for sampling: there are {allowed}") from None


def one_generator_per_row(
    n_rows: int, generator: torch.Generator | None = None
) -> list[torch.Generator]:
    """Generators whose seeds are drawn in turn: row i gets the same one among any number of rows.

    Without `generator`, torch's own is asked.
    """
    device = "cpu" if generator is None else generator.device
    seeds = [
        torch.randint(2**62, (), generator=generator, device=device).item() for _ in range(n_rows)
    ]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(probs: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """One token (B,) from each row of probabilities (B, V), by one uniform number of its own."""
    if probs.shape[-1] == 1:
        return torch.zeros(len(probs), dtype=torch.int64, device=probs.device)
    uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    sums = probs.double().cumsum(dim=-1)
    # right: the first token whose sum is above the number; one of probability 0 never is
    return torch.searchsorted(sums, uniform.to(sums.device) * sums[:, -1:], right=True).squeeze(-1)
