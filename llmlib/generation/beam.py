# From notebooks/10_inference.ipynb: edit there, then run make export.

"""More than one token at a time: beam search, and drafts that a larger model only has to check.

Built in notebook 10, on `llmlib.generation.inference`. Both take one prompt. What is left out:
drafts as trees, and heads that a model grows to draft for itself.

Shapes: K drafted tokens, V = vocab_size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from llmlib.generation.inference import Decoder, check_context, pad_left
from llmlib.model.gpt import GPT


class Beam(NamedTuple):
    """A text that beam search found: its new ids and the logarithm of their probability."""

    ids: list[int]
    log_prob: float


@torch.inference_mode()
def beam_search(
    model: GPT | Decoder,
    ids: torch.Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    n_beams: int,
    stop: int | None = None,
) -> list[Beam]:
    """The n_beams likeliest continuations of one prompt that a search of that width finds.

    Each text goes on until `stop` or for max_new_tokens; they are in order, the likeliest first.
    Raises TypeError and ValueError as `stream` does, and for more than one prompt.
    """
    decoder = model if isinstance(model, Decoder) else Decoder(model)
    prompt = pad_left(ids)[0].to(decoder.wpe.device)
    if len(prompt) != 1:
        raise ValueError(f"beam search takes one prompt, not {len(prompt)}: search for each alone")
    for name, value in {"max_new_tokens": max_new_tokens, "n_beams": n_beams}.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be an int of at least 1")
    check_context(prompt.shape[1], max_new_tokens, decoder.config.context_length)
    room = min(decoder.config.context_length, prompt.shape[1] + max_new_tokens)
    cache = decoder.new_cache(1, room)
    beams, finished = [Beam([], 0.0)], []
    unread = prompt
    for _ in range(max_new_tokens):
        log_probs = decoder.read(unread, cache).double().log_softmax(dim=-1)  # (beams, V)
        totals = log_probs + log_probs.new_tensor([beam.log_prob for beam in beams])[:, None]
        best = totals.flatten().topk(min(totals.numel(), 2 * n_beams))  # at most half of them stop
        rows, going_on = [], []
        for total, place in zip(best.values.tolist(), best.indices.tolist()):
            row, token = divmod(place, totals.shape[1])
            beam = Beam([*beams[row].ids, token], total)
            if token == stop:
                finished.append(beam)
            elif len(going_on) < n_beams:
                going_on.append(beam)
                rows.append(row)
        finished = sorted(finished, key=lambda beam: -beam.log_prob)[:n_beams]
        beams = going_on
        # a longer text is never likelier: nothing can come that is better than what is finished
        if not beams or (len(finished) == n_beams and finished[-1].log_prob >= beams[0].log_prob):
            return finished
        cache.select(torch.tensor(rows, device=prompt.device))
        unread = prompt.new_tensor([[beam.ids[-1]] for beam in beams])
    return sorted(finished + beams, key=lambda beam: -beam.log_prob)[:n_beams]
