"""Prompts, sampling, beams, speculation, packed weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.checks.model import in_vocabulary
from llmlib.checks.values import number, token_ids, whole_number


def top_p(value: object) -> None:
    """Raise ValueError for a share of probability that cannot be kept."""
    number("top_p", value, lambda p: 0 < p <= 1, "above 0 and at most 1")


def sampling(settings: Any) -> None:
    """Raise ValueError for settings with which nothing can be drawn."""
    allowed = "of at least 0, where 0 takes the likeliest token"
    number("temperature", settings.temperature, lambda t: 0 <= t < math.inf, allowed)
    whole_number("top_k", settings.top_k, optional=True)
    if settings.top_p is not None:
        top_p(settings.top_p)
    if settings.min_p is not None:
        number("min_p", settings.min_p, lambda p: 0 <= p <= 1, "from 0 to 1")
    penalty = settings.repetition_penalty
    number("repetition_penalty", penalty, lambda p: 0 < p < math.inf, "above 0")


def finite_logits(logits: Tensor) -> None:
    """Raise ValueError for rows of logits that leave no choice."""
    if not logits.amax(dim=-1).isfinite().all():
        raise ValueError("the model gives logits that are nan or infinite: its weights are broken")


def prompts(given: Any) -> Any:
    """Return ids (B, T) as they are, and lists of ids as tensors; raise for anything else."""
    if isinstance(given, Tensor):
        token_ids(given)
        return given
    try:
        rows = [torch.tensor(list(prompt)) for prompt in given]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "ids must be a tensor of token ids (B, T), torch.tensor([tokenizer.encode(text)]), or "
            "a list of lists of ids"
        ) from error
    if not rows or any(len(row) == 0 for row in rows):
        raise ValueError("give at least one prompt, and at least one token in each")
    if any(row.dtype != torch.int64 for row in rows):
        raise TypeError("the prompts hold other things than token ids, which are of type int")
    return rows


def generation(
    model: Any, ids: Tensor, max_new_tokens: int, stop: int | None, slide: int | None
) -> None:
    """Raise TypeError or ValueError unless a model can continue ids (B, T)."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a GPT, or a function of ids")
    whole_number("max_new_tokens", max_new_tokens, least=0)
    if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(f"stop is {stop!r}: it must be a token id, or None")
    context_length = getattr(getattr(model, "config", None), "context_length", None)
    whole_number("slide", slide, most=context_length, optional=True)
    slides = slide is not None or not hasattr(model, "new_cache")
    readable(model, ids, 0 if slides else max_new_tokens)


def readable(model: Any, ids: Tensor, max_new_tokens: int) -> None:
    """Raise ValueError unless ids (B, T) are in a model's vocabulary and fit, with the new ones."""
    config = getattr(model, "config", None)
    if (vocab_size := getattr(config, "vocab_size", None)) is not None:
        in_vocabulary(ids, vocab_size)
    context_length = getattr(config, "context_length", None) or math.inf
    needed = ids.shape[1] + max_new_tokens - 1  # the last one is not read any more
    if max_new_tokens and needed > context_length:
        raise ValueError(
            f"{ids.shape[1]} tokens and {max_new_tokens} new ones exceed the model's "
            f"context_length of {context_length}: ask for fewer, crop the prompt, or let the "
            "window slide (slide=…)"
        )


def single_prompt(what: str, models: Sequence[Any], ids: Tensor, max_new_tokens: int) -> None:
    """Raise ValueError unless each of the models can continue ids (1, T)."""
    if len(ids) != 1:
        raise ValueError(f"{what} takes one prompt, not {len(ids)}: call it for each alone")
    whole_number("max_new_tokens", max_new_tokens)
    for model in models:
        readable(model, ids, max_new_tokens)


def beams(model: Any, ids: Tensor, max_new_tokens: int, n_beams: int) -> None:
    """Raise ValueError unless beam search can continue ids (1, T)."""
    single_prompt("beam search", [model], ids, max_new_tokens)
    whole_number("n_beams", n_beams)


def speculation(
    models: Sequence[Any], ids: Tensor, max_new_tokens: int, settings: Any, n_draft: int
) -> None:
    """Raise ValueError unless target and draft can continue ids (1, T) together."""
    single_prompt("speculative decoding", models, ids, max_new_tokens)
    whole_number("n_draft", n_draft)
    if settings.repetition_penalty != 1:
        raise ValueError("a repetition_penalty depends on the drafted tokens: leave it at 1")
    sizes = {getattr(getattr(model, "config", None), "vocab_size", None) for model in models}
    if len(sizes - {None}) > 1:
        raise ValueError("target and draft have different vocabularies: their tokens do not match")


def stop_strings(stops: tuple[object, ...]) -> None:
    """Raise ValueError unless each stop is a string with a character."""
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stops are {stops!r}: each must be a string of one character or more")


def finite_matrix(weight: Tensor) -> None:
    """Raise ValueError unless a weight is a matrix of finite floats."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"a weight {tuple(weight.shape)} of {weight.dtype}: give floats (O, I)")
    if not weight.isfinite().all():
        raise ValueError("the weight holds nan or infinity: its model is broken")


def refuse_packed(problem: str, remedy: str) -> None:
    """Raise TypeError: packed weights are for reading only."""
    raise TypeError(f"a model with packed weights {problem}: {remedy}")
