# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""How logits become the probabilities of the next token, and how a token is drawn.

Built in notebook 06, and used again in notebook 10. Each row of a batch has a generator of its own,
so that its text does not depend on its neighbours. What is left out: ways to choose that look at
more than one step, such as beam search (`llmlib.generation.beam`).

Shapes: B rows in a batch, V = vocab_size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib import checks


def top_k_filter(logits: Tensor, k: int) -> Tensor:
    """Set all but the k highest logits (..., V) to -inf; those equal to the k-th stay too.

    Source: Fan, Lewis and Dauphin 2018, section 5.1. Raises ValueError for a k below 1.
    """
    checks.whole_number("top_k", k)
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Set logits (..., V) to -inf but for the fewest tokens that have probability p together.

    The likeliest token stays always. Source: Holtzman et al. 2019, section 3.1 ("nucleus").
    Raises ValueError for a p that is not above 0 and at most 1.
    """
    checks.top_p(p)
    if p == 1:
        return logits
    # from the least likely upwards: a token goes if it and all below it make up no more than 1 - p
    ordered, order = logits.sort(dim=-1)
    outside = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    outside[..., -1] = False
    return logits.masked_fill(outside.scatter(-1, order, outside), -math.inf)


@dataclass(frozen=True)
class Sampling(checks.KnownFields):
    """How logits become the probabilities that a token is drawn with; checked when it is made.

    Raises ValueError, saying what is allowed, for values that are not possible.
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    top_k: int | None = None  # only the k likeliest (Fan and others 2018)
    top_p: float | None = None  # only the fewest that make up p (Holtzman and others 2019)
    min_p: float | None = None  # only those at least min_p times as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1 makes tokens less likely that were there already
    no_repeat_ngram_size: int | None = None  # no run of so many tokens comes twice in a text
    min_new_tokens: int = 0  # before so many are there, the text does not stop
    bad_words: tuple[tuple[int, ...], ...] = ()  # sequences of ids that are never written

    def __post_init__(self):
        checks.sampling(self)

    def probabilities(self, logits: Tensor, seen: Tensor | None = None) -> Tensor:
        """Map logits (B, V) to probabilities (B, V); seen: (B, V), the tokens a row holds already.

        In this order: penalty (Keskar and others 2019), temperature, top_k, top_p, min_p (Nguyen
        and others 2024). Raises ValueError for logits that leave no choice.
        """
        logits = logits.float()
        if self.repetition_penalty != 1 and seen is not None:
            logits = penalize(logits, seen, self.repetition_penalty)
        best = logits.amax(dim=-1, keepdim=True)
        checks.finite_logits(best)
        if self.temperature == 0:
            return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
        # at most 0, so that no temperature makes it overflow; one below 1e-38 would be 0 in float32
        logits = (logits - best) / max(float(self.temperature), 1e-30)
        if self.top_k is not None:
            logits = top_k_filter(logits, self.top_k)
        if self.top_p is not None:
            logits = top_p_filter(logits, self.top_p)
        if self.min_p:  # the likeliest has logit 0
            logits = logits.masked_fill(logits < math.log(self.min_p), -math.inf)
        return logits.softmax(dim=-1)


AS_LEARNED = Sampling()  # the distribution that the model has learned


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Lower the logits (B, V) of the tokens that were seen, (B, V), whatever their sign."""
    lower = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lower, logits)


def row_generators(n_rows: int, generator: torch.Generator | None = None) -> list[torch.Generator]:
    """Return a generator for each row, seeded in turn: row i gets the same one among any number.

    Without `generator`, torch's global one is asked for the seeds.
    """
    device = "cpu" if generator is None else generator.device
    seeds = [
        int(torch.randint(2**62, (), generator=generator, device=device)) for _ in range(n_rows)
    ]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(probs: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token (B,) from each row of probabilities (B, V), with the generator of the row.

    Raises ValueError for a row that is not finite, or all 0.
    """
    if probs.shape[-1] == 1:
        return torch.zeros(len(probs), dtype=torch.int64, device=probs.device)
    probs = probs.detach().float()
    # 53 random bits each, as torch.rand has in float64, and sums to match
    uniform = [int(torch.randint(2**53, (), generator=g)) / 2**53 for g in generators]
    if probs.is_cuda:  # one call for all rows, since each call to the GPU has a price
        sums = probs.double().cumsum(dim=-1)
        below = sums[:, -1:] * sums.new_tensor(uniform)[:, None]
        return torch.searchsorted(sums, below, right=True).squeeze(-1)
    # other accelerators have no float64, so that NumPy does it
    sums = checks.probability_sums(probs.cpu().numpy().astype(np.float64).cumsum(axis=-1))
    # right: the first token whose sum is above the number; one of probability 0 never is
    pairs = zip(sums, uniform, strict=True)
    tokens = [np.searchsorted(s, u * s[-1], side="right") for s, u in pairs]
    return torch.tensor(np.array(tokens), device=probs.device)
