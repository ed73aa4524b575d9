# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Speculative decoding: drafts that a larger model only has to check.

Built in notebook 10, on `llmlib.generation.generate`. It takes one prompt. What is left out: drafts
as trees, and heads that a model grows to draft for itself.

Shapes: K drafted tokens, V = vocab_size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib import checks
from llmlib.generation.generate import Prompts, TextReader, pad_left
from llmlib.generation.sampling import AS_LEARNED, Sampling, draw, row_generators


@torch.no_grad()
def accept(p: Tensor, q: Tensor, drafted: Sequence[int], generator: torch.Generator) -> list[int]:
    """Return the drafted tokens that stay, and one that the target chooses: 1 to K + 1 tokens.

    p: the target's probabilities (K + 1, V); q: those that the K drafted tokens were drawn with,
    (K, V). The result is distributed as if the target had drawn each (Leviathan, Kalman and Matias
    2023, theorem 1; Chen and others 2023).
    """
    for place, token in enumerate(drafted):
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        if uniform * q[place, token].item() >= p[place, token].item():
            missing = (p[place] - q[place]).clamp(min=0)[None]  # what q gave too little
            return [*drafted[:place], int(draw(missing, [generator]))]
    return [*drafted, int(draw(p[-1:], [generator]))]


def speculate(
    target: Any,
    draft: Any,
    ids: Prompts,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    n_draft: int = 4,
    stop: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[list[int]]:
    """Continue ids (1, T) as the target would, and yield the tokens of each of its readings.

    draft: a cheaper model with the same vocabulary, which proposes n_draft tokens; the target reads
    them all at once and keeps those that it might have drawn itself. Both may be any callable that
    maps ids (B, T) to logits. For the other arguments see `stream`; there is no repetition_penalty.
    Raises TypeError and ValueError at once.
    """
    ids, padding = pad_left(ids)
    checks.instance("sampling", sampling, Sampling)
    checks.speculation((target, draft), ids, max_new_tokens, sampling, n_draft)
    readers = [TextReader(model, ids, padding, max_new_tokens) for model in (target, draft)]
    (own,) = row_generators(1, generator)
    return rounds(*readers, ids, max_new_tokens, sampling, n_draft, stop, own)


def rounds(
    target: TextReader,
    draft: TextReader,
    ids: Tensor,
    left: int,
    sampling: Sampling,
    n_draft: int,
    stop: int | None,
    generator: torch.Generator,
) -> Iterator[list[int]]:
    """Run the loop of `speculate` until `left` tokens are written."""
    while left:
        text, q = ids, []
        for _ in range(min(n_draft, left - 1)):
            q.append(sampling.probabilities(draft.logits(text)[0]))  # (1, V)
            text = torch.cat([text, draw(q[-1], [generator])[:, None].to(ids)], dim=1)
        drafted = text[0, ids.shape[1] :].tolist()
        p = sampling.probabilities(target.logits(text, len(drafted) + 1)[0])  # in one reading
        new = accept(p, torch.cat(q) if q else p[:0], drafted, generator)
        if stop in new:
            yield new[: new.index(stop) + 1]
            return
        yield new
        ids = torch.cat([ids, ids.new_tensor([new])], dim=1)
        left -= len(new)
