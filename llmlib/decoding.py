# From notebooks/10_inference.ipynb: edit there, then run make export.

"""More than one token at a time: beam search, and drafts that a larger model only has to check.

Built in notebook 10, on `llmlib.inference`. Both take one prompt. What is left out: drafts
as trees, and heads that a model grows to draft for itself.

Shapes: K drafted tokens, V = vocab_size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from llmlib.gpt import GPT
from llmlib.inference import Decoder, check_context, pad_left
from llmlib.sampling import Sampling, draw, make_sampling, one_generator_per_row


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
