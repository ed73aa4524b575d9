# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Speculative decoding: drafts that a larger model only has to check.

Built in notebook 10, on `llmlib.generation.generate`. It takes one prompt. What is left out: drafts
as trees, and heads that a model grows to draft for itself.

Shapes: K drafted tokens, V = vocab_size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib import checks
from llmlib.generation.constraints import Rule, rules_of
from llmlib.generation.generate import Prompts, Stop, TextReader, constrain, place_prompts
from llmlib.generation.sampling import AS_LEARNED, Sampling, draw, row_generators


@torch.no_grad()
def accept(p: Tensor, q: Tensor, drafted: Sequence[int], generator: torch.Generator) -> list[int]:
    """Return the drafted tokens that stay, and one that the target chooses: 1 to K + 1 tokens.

    p: the target's probabilities (K + 1, V); q: those that the K drafted tokens were drawn with,
    (K, V). The result is distributed as if the target had drawn each (Leviathan, Kalman and Matias
    2023, theorem 1; Chen and others 2023).
    """
    for place, token in enumerate(drafted):
        uniform = int(torch.randint(2**53, (), generator=generator)) / 2**53
        if uniform * q[place, token].item() >= p[place, token].item():
            missing = (p[place] - q[place]).clamp(min=0)[None]  # what q gave too little
            if not missing.any():  # p and q differ by rounding only
                missing = p[place][None]
            return [*drafted[:place], int(draw(missing, [generator]))]
    return [*drafted, int(draw(p[-1:], [generator]))]


class PromptLookup:
    """A draft without a model: what followed the last tokens where they stood first.

    longest: so many of the last tokens are looked for, then fewer. Apoorv Saxena 2023; transformers
    calls it `prompt_lookup_num_tokens`, for what is n_draft in `speculate`.

    >>> PromptLookup()([5, 6, 7, 8, 5, 6], 3)
    [7, 8, 5]
    """

    def __init__(self, longest: int = 2):
        checks.whole_number("longest", longest)
        self.longest = longest

    def __call__(self, ids: Sequence[int], n: int) -> list[int]:
        """Return at most n tokens that may follow; none where nothing stood before."""
        ids = list(ids)
        for size in range(min(self.longest, len(ids) - 1), 0, -1):
            for end in range(size, len(ids)):
                if ids[end - size : end] == ids[-size:]:
                    return ids[end : end + n]
        return []


def probabilities(
    reader: TextReader, text: Tensor, count: int, sampling: Sampling, rules: Sequence[Rule]
) -> Tensor:
    """Return the probabilities (count, V) after each of the last `count` tokens of text (1, T)."""
    logits, begun = reader.logits(text, count)[0], text.shape[1] - count + 1
    if rules:  # each depends on the text so far
        texts = [text[:, : begun + place] for place in range(count)]
        logits = torch.cat(
            [constrain(row[None], t, reader.padding, rules) for row, t in zip(logits, texts)]
        )
    return sampling.probabilities(logits)


def speculate(
    target: Any,
    draft: Any,
    ids: Prompts,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    n_draft: int = 4,
    stop: Stop = None,
    generator: torch.Generator | None = None,
) -> Iterator[list[int]]:
    """Continue ids (1, T) as the target would, and yield the tokens of each of its readings.

    draft: a cheaper model with the same vocabulary, or a PromptLookup: it proposes n_draft tokens;
    the target reads them all at once and keeps those that it might have drawn itself. Both may be
    any callable that maps ids (B, T) to logits. For the other arguments see `stream`.
    Raises TypeError and ValueError at once, and ValueError for logits that are nan or infinite.
    """
    ids, padding = place_prompts(target, ids)
    checks.settings_of(target, sampling)
    checks.speculation((target, draft), ids, max_new_tokens, stop, n_draft, generator)
    stops = checks.stop_ids(target, stop)
    rules = rules_of(sampling, stops, ids.shape[1])
    reader = TextReader(target, ids, padding, max_new_tokens)
    if not isinstance(draft, PromptLookup):
        draft = TextReader(draft, ids, padding, max_new_tokens)
    (own,) = row_generators(1, generator)
    return rounds(reader, draft, ids, max_new_tokens, sampling, rules, n_draft, stops, own)


def rounds(
    target: TextReader,
    draft: TextReader | PromptLookup,
    ids: Tensor,
    left: int,
    sampling: Sampling,
    rules: Sequence[Rule],
    n_draft: int,
    stops: tuple[int, ...],
    generator: torch.Generator,
) -> Iterator[list[int]]:
    """Run the loop of `speculate` until `left` tokens are written."""
    while left:
        text, n, q = ids, min(n_draft, left - 1), []
        if isinstance(draft, PromptLookup):
            text = torch.cat([ids, ids.new_tensor([draft(ids[0].tolist(), n)]).long()], dim=1)
        else:
            for _ in range(n):
                q.append(probabilities(draft, text, 1, sampling, rules))  # (1, V)
                text = torch.cat([text, draw(q[-1], [generator])[:, None].to(ids)], dim=1)
        drafted = text[0, ids.shape[1] :]
        p = probabilities(target, text, len(drafted) + 1, sampling, rules)  # in one reading
        certain = F.one_hot(drafted.long(), p.shape[1])  # what was looked up was not drawn
        new = accept(p, torch.cat(q) if q else certain.to(p), drafted.tolist(), generator)
        if ends := [at for at, token in enumerate(new, 1) if token in stops]:
            yield new[: ends[0]]
            return
        yield new
        ids = torch.cat([ids, ids.new_tensor([new])], dim=1)
        left -= len(new)
