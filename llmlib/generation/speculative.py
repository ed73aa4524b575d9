# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Speculative decoding: drafts that a larger model only has to check.

Built in notebook 10, on `llmlib.generation`. Left out: drafts as trees.

Shapes: K drafted tokens, V = vocab_size.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from llmlib.generation.inference import Decoder, check_context, pad_left
from llmlib.generation.sampling import Sampling, draw, make_sampling, one_generator_per_row
from llmlib.model.gpt import GPT


class Reader:
    """Logits for the ends of a growing text, from a Decoder with its cache or from any callable."""

    def __init__(self, model: Decoder | Callable, n_tokens: int):
        self.model = Decoder(model) if isinstance(model, GPT) else model
        decoder = isinstance(self.model, Decoder)
        self.cache = self.model.new_cache(1, n_tokens) if decoder else None

    def logits(self, ids: torch.Tensor, count: int) -> torch.Tensor:
        """Logits (count, V) after each of the last `count` of ids (1, T)."""
        if self.cache is None:
            return self.model(ids)[0, -count:]
        # what was read but is not in the text any more is forgotten
        self.cache.rewind(min(self.cache.length, ids.shape[1] - count))
        return self.model.read(ids[:, self.cache.length :], self.cache, every=True)[0, -count:]


@torch.inference_mode()
def accept(
    p: torch.Tensor, q: torch.Tensor, drafted: Sequence[int], generator: torch.Generator
) -> list[int]:
    """Which drafted tokens stay, and one more that the target chooses: 1 to K + 1 tokens.

    p: the target's probabilities (K + 1, V); q: those that the K drafted tokens were drawn with,
    (K, V). The result is distributed as if the target had drawn each (Leviathan, Kalman and Matias
    2023, theorem 1; Chen and others 2023).
    """
    for place, token in enumerate(drafted):
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        if uniform * q[place, token].item() >= p[place, token].item():
            missing = (p[place] - q[place]).clamp(min=0)[None]  # what q gave too little
            return [*drafted[:place], draw(missing, [generator]).item()]
    return [*drafted, draw(p[-1:], [generator]).item()]


def speculate(
    target: GPT | Decoder | Callable,
    draft: GPT | Decoder | Callable,
    ids: torch.Tensor,
    max_new_tokens: int,
    *,
    n_draft: int = 4,
    stop: int | None = None,
    generator: torch.Generator | None = None,
    **sampling: float | None,
) -> Iterator[list[int]]:
    """Continue ids (1, T) as the target would, and yield the tokens of each of its readings.

    draft: a cheaper model with the same vocabulary, which proposes n_draft tokens; the target reads
    them all at once and keeps those that it might have drawn itself. Both may be any callable that
    maps ids (B, T) to logits. For the other settings see `stream`; there is no repetition_penalty.
    Raises TypeError and ValueError at once.
    """
    settings = make_sampling(sampling)
    if settings.repetition_penalty != 1:
        raise ValueError("a repetition_penalty depends on the drafted tokens: leave it at 1")
    ids, _ = pad_left(ids)
    if len(ids) != 1:
        raise ValueError(f"speculative decoding takes one prompt, not {len(ids)}")
    for name, value in {"max_new_tokens": max_new_tokens, "n_draft": n_draft}.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be an int of at least 1")
    configs = [model.config for model in (target, draft) if isinstance(model, (GPT, Decoder))]
    if len({config.vocab_size for config in configs}) > 1:
        raise ValueError("target and draft have different vocabularies: their tokens do not match")
    for config in configs:
        check_context(ids.shape[1], max_new_tokens, config.context_length)
    room = ids.shape[1] + max_new_tokens - 1
    readers = Reader(target, room), Reader(draft, room)
    (generator,) = one_generator_per_row(1, generator)
    return rounds(readers, ids, max_new_tokens, n_draft, settings, stop, generator)


def rounds(
    readers: tuple[Reader, Reader],
    ids: torch.Tensor,
    max_new_tokens: int,
    n_draft: int,
    settings: Sampling,
    stop: int | None,
    generator: torch.Generator,
) -> Iterator[list[int]]:
    """The loop of `speculate`."""
    target, draft = readers
    left = max_new_tokens
    while left:
        text, q = ids, []
        for _ in range(min(n_draft, left - 1)):
            q.append(settings.probabilities(draft.logits(text, 1)))
            text = torch.cat([text, draw(q[-1], [generator])[:, None].to(ids)], dim=1)
        drafted = text[0, ids.shape[1] :].tolist()
        p = settings.probabilities(target.logits(text, len(drafted) + 1))  # in one reading
        new = accept(p, torch.cat(q) if q else p[:0], drafted, generator)
        if stop in new:
            yield new[: new.index(stop) + 1]
            return
        yield new
        ids = torch.cat([ids, ids.new_tensor([new])], dim=1)
        left -= len(new)
