"""Prompts, sampling, beams, speculation, packed weights."""

import math
from typing import Any, TypeVar

import torch

from llmlib.checks.model import in_vocabulary
from llmlib.checks.values import number, whole_number

T = TypeVar("T")


def top_k(value: object) -> None:
    """Raise ValueError for a number of tokens that cannot be kept."""
    if type(value) is not int or value < 1:
        raise ValueError(
            f"top_k is {value!r}: it must be an int of at least 1, or None for all tokens"
        )


def top_p(value: object) -> None:
    """Raise ValueError for a share of probability that cannot be kept."""
    number("top_p", value, lambda p: 0 < p <= 1, "above 0 and at most 1")


def sampling(settings: Any) -> None:
    """Raise ValueError for settings with which nothing can be drawn."""
    allowed = "of at least 0, where 0 takes the likeliest token"
    number("temperature", settings.temperature, lambda t: 0 <= t < math.inf, allowed)
    if settings.top_k is not None:
        top_k(settings.top_k)
    if settings.top_p is not None:
        top_p(settings.top_p)
    if settings.min_p is not None:
        number("min_p", settings.min_p, lambda p: 0 <= p <= 1, "from 0 to 1")
    penalty = settings.repetition_penalty
    number("repetition_penalty", penalty, lambda p: 0 < p < math.inf, "above 0")


def finite_logits(logits: torch.Tensor) -> None:
    """Raise ValueError for rows of logits that leave no choice."""
    if not logits.amax(dim=-1).isfinite().all():
        raise ValueError("the model gives logits that are nan or infinite: its weights are broken")


def prompts(given: Any) -> Any:
    """Return ids (B, T) as they are, and lists of ids as tensors; raise for anything else."""
    if isinstance(given, torch.Tensor):
        if given.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids hold {given.dtype}: token ids are torch.int64 (or int32)")
        if given.ndim != 2 or given.numel() == 0:
            raise ValueError(
                f"ids have shape {tuple(given.shape)}, expected (batch, tokens) with at least one "
                "token, such as the one for the end of a text, after which a new one begins"
            )
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


def single_prompt(ids: torch.Tensor, what: str) -> None:
    """Raise ValueError for more than one prompt."""
    if len(ids) != 1:
        raise ValueError(f"{what} takes one prompt, not {len(ids)}: call it for each alone")


def generation(
    model: Any, ids: torch.Tensor, max_new_tokens: int, stop: int | None, slide: int | None
) -> None:
    """Raise TypeError or ValueError unless a model can continue ids (B, T)."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a GPT, or a function of ids")
    whole_number("max_new_tokens", max_new_tokens, least=0)
    if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(f"stop is {stop!r}: it must be a token id, or None")
    context_length = getattr(getattr(model, "config", None), "context_length", None)
    if slide is not None:
        whole_number("slide", slide, most=context_length)
    slides = slide is not None or not hasattr(model, "new_cache")
    readable(model, ids, 0 if slides else max_new_tokens)


def readable(model: Any, ids: torch.Tensor, max_new_tokens: int) -> None:
    """Raise ValueError unless ids (B, T) are in a model's vocabulary and fit, with the new ones."""
    config = getattr(model, "config", None)
    if (vocab_size := getattr(config, "vocab_size", None)) is not None:
        in_vocabulary(ids, vocab_size)
    if max_new_tokens and (context_length := getattr(config, "context_length", None)) is not None:
        context(ids.shape[1], max_new_tokens, context_length)


def context(n_tokens: int, max_new_tokens: int, context_length: int) -> None:
    """Raise ValueError if a prompt and its new tokens are more than a model can read."""
    if n_tokens + max_new_tokens > context_length + 1:  # the last one is not read any more
        raise ValueError(
            f"{n_tokens} tokens and {max_new_tokens} new ones exceed the model's context_length of "
            f"{context_length}: ask for fewer, crop the prompt, or let the window slide (slide=…)"
        )


def beams(model: Any, ids: torch.Tensor, max_new_tokens: int, n_beams: int) -> None:
    """Raise ValueError unless beam search can continue ids (1, T)."""
    single_prompt(ids, "beam search")
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_beams", n_beams)
    readable(model, ids, max_new_tokens)


def speculation(
    models: tuple[Any, Any], ids: torch.Tensor, max_new_tokens: int, settings: Any, n_draft: int
) -> None:
    """Raise ValueError unless target and draft can continue ids (1, T) together."""
    single_prompt(ids, "speculative decoding")
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_draft", n_draft)
    if settings.repetition_penalty != 1:
        raise ValueError("a repetition_penalty depends on the drafted tokens: leave it at 1")
    sizes = {getattr(getattr(model, "config", None), "vocab_size", None) for model in models}
    if len(sizes - {None}) > 1:
        raise ValueError("target and draft have different vocabularies: their tokens do not match")
    for model in models:
        readable(model, ids, max_new_tokens)


def stop_strings(stops: tuple[object, ...]) -> None:
    """Raise ValueError unless each stop is a string with a character."""
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stops are {stops!r}: each must be a string of one character or more")


def finite_matrix(weight: torch.Tensor) -> None:
    """Raise ValueError unless a weight is a matrix of finite floats."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"a weight {tuple(weight.shape)} of {weight.dtype}: give floats (O, I)")
    if not weight.isfinite().all():
        raise ValueError("the weight holds nan or infinity: its model is broken")


def refuse_packed(problem: str, remedy: str) -> None:
    """Raise TypeError: packed weights are for reading only."""
    raise TypeError(f"a model with packed weights {problem}: {remedy}")
