# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Beam search: the likeliest text that a search of a given width finds.

Built in notebook 10, on `llmlib.generation.generate`. It finds what beam search in transformers
finds. What is left out: beams that are drawn, or kept apart from each other.

Shapes: n beams, T tokens, V = vocab_size.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmlib import checks
from llmlib.generation.constraints import rules_of
from llmlib.generation.generate import Prompts, Stop, TextReader, constrain, place_prompts
from llmlib.generation.sampling import AS_LEARNED, Sampling


class Beam(NamedTuple):
    """A text that beam search found: its new ids and the logarithm of their probability."""

    ids: list[int]
    log_prob: float

    def score(self, length_penalty: float) -> float:
        """Return log_prob, divided by the number of ids to the power of length_penalty."""
        return self.log_prob / len(self.ids) ** length_penalty


class Search:
    """The search for one prompt: its beams, and the n best texts that are finished."""

    def __init__(
        self,
        n: int,
        longest: int,
        stops: tuple[int, ...],
        length_penalty: float,
        early_stopping: Any,
    ):
        self.n, self.longest, self.stops = n, longest, stops
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.beams: list[Beam] = [Beam([], 0.0)]
        self.finished: list[Beam] = []

    def advance(self, log_probs: Tensor) -> list[int]:
        """Make each beam longer by its log-probabilities (n, V); return which beam each was."""
        totals = log_probs + log_probs.new_tensor([b.log_prob for b in self.beams])[:, None]
        # a beam can end in one way for each stop token: of so many, n or more go on
        n_best = self.n * max(2, 1 + len(self.stops))
        best = totals.flatten().topk(min(totals.numel(), n_best))
        origins, beams, finished = [], [], []
        for rank, (total, place) in enumerate(zip(best.values.tolist(), best.indices.tolist())):
            origin, token = divmod(place, totals.shape[1])
            beam = Beam([*self.beams[origin].ids, token], total)
            if total == -math.inf:
                continue  # forbidden
            if token in self.stops or len(beam.ids) == self.longest:
                finished += [beam] * (rank < self.n)  # only what is among the n best has finished
            elif len(beams) < self.n:
                beams.append(beam)
                origins.append(origin)
        self.beams = beams
        self.finished = sorted(self.finished + finished, key=self.score, reverse=True)[: self.n]
        if self.is_over():
            self.beams, origins = [], []
        return origins

    def score(self, beam: Beam) -> float:
        """Return by what finished texts are compared."""
        return beam.score(self.length_penalty)

    def is_over(self) -> bool:
        """Tell whether no beam is left, or none that may become better than what is finished."""
        if not self.beams or len(self.finished) < self.n:
            return not self.beams
        if self.early_stopping is True:
            return True
        # without a penalty a longer text is never likelier; with one, guess at the final length
        never = self.early_stopping == "never" and self.length_penalty > 0
        length = self.longest if never else len(self.beams[0].ids)
        best_possible = self.beams[0].log_prob / length**self.length_penalty
        return best_possible <= self.score(self.finished[-1])


def beam_searches(
    model: Any,
    prompts: Prompts,
    max_new_tokens: int,
    n_beams: int,
    stop: Stop = None,
    *,
    length_penalty: float = 0.0,
    early_stopping: bool | str = False,
    sampling: Sampling = AS_LEARNED,
) -> list[list[Beam]]:
    """Return, for each prompt, the n_beams best continuations that a search of that width finds.

    Each text goes on until `stop` or for max_new_tokens; they are in order, the best first.
    length_penalty: a text is judged by its log_prob over its length to this power; 0 is the
    log_prob itself, above 0 favours long texts. early_stopping: True ends with the first n_beams
    texts; False when the best beam, ended now, would not be among them; "never" when at no length.
    sampling: of its settings the rules count: penalty, min_new_tokens, bad_words, n-grams.
    Raises TypeError and ValueError as `stream` does.
    """
    (ids, padding), stops = place_prompts(model, prompts), checks.stop_ids(model, stop)
    settings = n_beams, max_new_tokens, stops, length_penalty, early_stopping
    checks.beams(model, ids, sampling, *settings)
    rules = rules_of(sampling, stops, ids.shape[1])
    reader = TextReader(model, ids, padding, max_new_tokens)
    searches = going = [Search(*settings) for _ in ids]
    while going:
        log_probs = reader.logits(ids)[:, -1].float().log_softmax(dim=-1)  # (rows, V)
        checks.finite_logits(log_probs.amax(dim=-1))
        log_probs = constrain(log_probs, ids, reader.padding, rules)
        rows, begin = [], 0  # where each new beam was among all rows
        for search, part in zip(going, log_probs.split([len(s.beams) for s in going])):
            rows += [begin + origin for origin in search.advance(part)]
            begin += len(part)
        going = [search for search in going if search.beams]
        reader.select(torch.tensor(rows, dtype=torch.int64, device=ids.device))
        newest = ids.new_tensor([[beam.ids[-1]] for search in going for beam in search.beams])
        ids = torch.cat([ids[rows], newest.view(-1, 1)], dim=1)
    return [search.finished for search in searches]


def beam_search(model: Any, ids: Prompts, *arguments: Any, **settings: Any) -> list[Beam]:
    """Return what `beam_searches` does, for one prompt."""
    checks.one_prompt("beam search", ids)
    return beam_searches(model, ids, *arguments, **settings)[0]
