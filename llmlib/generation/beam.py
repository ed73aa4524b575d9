# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Beam search: the likeliest text that a search of a given width finds.

Built in notebook 10, on `llmlib.generation.generate`. It takes one prompt. What is left out:
penalties for short texts, and beams that are kept apart from each other.

Shapes: n beams, T tokens, V = vocab_size.
"""

from typing import Any, NamedTuple

import torch

from llmlib import checks
from llmlib.generation.generate import Prompts, TextReader, pad_left


class Beam(NamedTuple):
    """A text that beam search found: its new ids and the logarithm of their probability."""

    ids: list[int]
    log_prob: float


def likeliest(beams: list[Beam], n: int) -> list[Beam]:
    """Return the n likeliest beams in order."""
    return sorted(beams, key=lambda beam: -beam.log_prob)[:n]


def beam_search(
    model: Any, ids: Prompts, max_new_tokens: int, n_beams: int, stop: int | None = None
) -> list[Beam]:
    """Return the n_beams likeliest continuations of one prompt that a search of that width finds.

    Each text goes on until `stop` or for max_new_tokens; they are in order, the likeliest first.
    Raises TypeError and ValueError as `stream` does, and for more than one prompt.
    """
    ids, padding = pad_left(ids)
    checks.beams(model, ids, max_new_tokens, n_beams)
    reader = TextReader(model, ids, padding, max_new_tokens)
    beams, finished = [Beam([], 0.0)], []
    for _ in range(max_new_tokens):
        log_probs = reader.logits(ids)[:, -1].double().log_softmax(dim=-1)  # (n, V)
        totals = log_probs + log_probs.new_tensor([beam.log_prob for beam in beams])[:, None]
        best = totals.flatten().topk(min(totals.numel(), 2 * n_beams))  # at most half of them stop
        rows, active = [], []
        for total, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            row, token = divmod(place, totals.shape[1])
            beam = Beam([*beams[row].ids, token], total)
            if token == stop:
                finished.append(beam)
            elif len(active) < n_beams:
                active.append(beam)
                rows.append(row)
        finished, beams = likeliest(finished, n_beams), active
        # a longer text is never likelier: nothing can come that is better than what is finished
        if not beams or (len(finished) == n_beams and finished[-1].log_prob >= beams[0].log_prob):
            return finished
        reader.select(torch.tensor(rows, device=ids.device))
        newest = ids.new_tensor([[beam.ids[-1]] for beam in beams])  # (n, 1)
        ids = torch.cat([ids[rows], newest], dim=1)
    return likeliest(finished + beams, n_beams)
