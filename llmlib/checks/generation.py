"""Prompts, sampling, beams, speculation, packed weights."""

import math
import sys
import warnings
from collections.abc import Collection, Sequence
from reprlib import repr  # cuts what is long
from typing import Any

import torch
from torch import Tensor

from llmlib.checks.model import all_finite, finite_weights, in_vocabulary, language_model
from llmlib.checks.values import number, one_of, token_ids, whole_number

MOST_BEAMS = 1024  # each has a row of the cache, and a step takes them all to memory


def top_p(value: object) -> None:
    """Raise ValueError for a share of probability that cannot be kept."""
    number("top_p", value, lambda p: 0 < p <= 1, "above 0 and at most 1")


def sampling(settings: Any) -> None:
    """Raise ValueError for settings with which nothing can be drawn."""
    allowed = "of at least 0, where 0 takes the likeliest token"
    number("temperature", settings.temperature, lambda t: 0 <= t <= sys.float_info.max, allowed)
    whole_number("top_k", settings.top_k, optional=True)
    if settings.top_p is not None:
        top_p(settings.top_p)
    if settings.min_p is not None:
        number("min_p", settings.min_p, lambda p: 0 <= p <= 1, "from 0 to 1")
    penalty = settings.repetition_penalty
    # beyond these, logits would overflow; a thousand is as good as a ban
    allowed = "above 0, from 1e-6 to 1e6, where 1 changes nothing"
    number("repetition_penalty", penalty, lambda p: 1e-6 <= p <= 1e6, allowed)
    whole_number("no_repeat_ngram_size", settings.no_repeat_ngram_size, optional=True)
    whole_number("min_new_tokens", settings.min_new_tokens, least=0)
    bad_words(settings.bad_words)


def bad_words(words: Any) -> None:
    """Raise ValueError unless words are a tuple of tuples of token ids."""
    fits = isinstance(words, tuple) and all(isinstance(word, tuple) and word for word in words)
    if not fits or not all(type(i) is int and 0 <= i < 2**31 for word in words for i in word):
        raise ValueError(
            f"bad_words are {repr(words)}: give a tuple of tuples of token ids, such as "
            "tuple(tuple(tokenizer.encode(word)) for word in words)"
        )


def settings_of(model: Any, settings: Any) -> None:
    """Raise TypeError or ValueError unless settings are a Sampling that fits a model."""
    if not hasattr(settings, "bad_words"):
        raise TypeError(f"sampling must be a Sampling, not {type(settings).__name__}")
    config, words = getattr(model, "config", None), settings.bad_words
    if words and hasattr(config, "vocab_size"):
        in_vocabulary_of("bad_words", max(map(max, words)), config.vocab_size)


def has_logit(name: str, token: int, logits: Tensor) -> None:
    """Raise ValueError for a token of a setting that logits (B, V) do not know."""
    in_vocabulary_of(name, token, logits.shape[-1])


def in_vocabulary_of(name: str, token: int, vocab_size: int) -> None:
    """Raise ValueError for a token of a setting that is outside a vocabulary."""
    if token >= vocab_size:
        raise ValueError(
            f"{name} has the id {token}, which the model has not: ids are 0 to {vocab_size - 1}"
        )


def generator(value: Any) -> None:
    """Raise TypeError unless a value is a random generator of torch, or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(
            f"generator is {repr(value)}: give torch.Generator().manual_seed(…), or None"
        )


def ways_to_write(n: int, num_beams: int | None, prompt_lookup: int | None, settings: Any) -> None:
    """Raise ValueError for numbers of texts, beams, drafts and settings that exclude each other."""
    whole_number("n", n, most=sys.maxsize)
    whole_number("num_beams", num_beams, most=MOST_BEAMS, optional=True)
    whole_number("prompt_lookup", prompt_lookup, optional=True)
    if num_beams is not None and prompt_lookup is not None:
        raise ValueError("num_beams and prompt_lookup exclude each other: leave one of them out")
    if num_beams is not None and n > num_beams:
        raise ValueError(f"n is {n}: {num_beams} beams find at most as many texts (num_beams)")
    if num_beams is not None:
        rules_only(settings)


def strings(name: str, values: Any) -> None:
    """Raise TypeError unless values are several strings."""
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} are {repr(values)}: give a list of strings")


def finite_logits(best: Tensor) -> None:
    """Raise ValueError unless the highest logit of each row is finite; a low one may be -inf."""
    if not all_finite(best):
        raise ValueError("the model gives logits that are nan or infinite: its weights are broken")


def some_choice(logits: Tensor, rules: Sequence[Any]) -> None:
    """Raise ValueError for rows of logits (B, V) in which rules forbid everything."""
    if rules and logits.amax(dim=-1).isneginf().any():
        raise ValueError(
            "no token is left to choose: the settings (bad_words, no_repeat_ngram_size, "
            "min_new_tokens) forbid all of them, or the model gives -inf for each"
        )


def probability_sums(sums: Any) -> Any:
    """Return sums (B, V) of probabilities; raise ValueError where they are not finite, or 0."""
    if not all(0 < total < math.inf for total in sums[:, -1].tolist()):
        raise ValueError("the probabilities are nan, infinite or all 0: nothing can be drawn")
    return sums


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
    model: Any,
    ids: Tensor,
    max_new_tokens: int,
    slide: int | None,
    random: Any,
) -> None:
    """Raise TypeError or ValueError unless a model can continue ids (B, T)."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a GPT, or a function of ids")
    whole_number("max_new_tokens", max_new_tokens, least=0)
    generator(random)
    context_length = getattr(getattr(model, "config", None), "context_length", None)
    whole_number("slide", slide, most=context_length, optional=True)
    slides = slide is not None or not hasattr(model, "new_cache")
    readable(model, ids, 0 if slides else max_new_tokens)


def stop_ids(model: Any, stop: Any) -> tuple[int, ...]:
    """Return a stop, one id or several, as a tuple; ValueError unless a model can write each."""
    vocab_size = getattr(getattr(model, "config", None), "vocab_size", 2**31)
    ids = () if stop is None else tuple(stop) if isinstance(stop, (list, tuple)) else (stop,)
    if not all(type(i) is int and 0 <= i < vocab_size for i in ids):
        raise ValueError(
            f"stop is {repr(stop)}: it must be a token id, 0 to {vocab_size - 1}, a list of such, "
            "or None"
        )
    return ids


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


def one_prompt(what: str, ids: Any) -> None:
    """Raise ValueError for more than one prompt."""
    rows = prompts(ids)
    if len(rows) != 1:
        raise ValueError(f"{what} takes one prompt, not {len(rows)}: call it for each alone")


def beams(
    model: Any,
    ids: Tensor,
    settings: Any,
    n_beams: Any,
    max_new_tokens: Any,
    stops: Any,
    length_penalty: Any,
    early_stopping: Any,
) -> None:
    """Raise ValueError unless beam search can continue ids (B, T) by the settings of a Sampling."""
    settings_of(model, settings)
    rules_only(settings)
    whole_number("max_new_tokens", max_new_tokens)
    readable(model, ids, max_new_tokens)
    whole_number("n_beams", n_beams, most=MOST_BEAMS)
    number("length_penalty", length_penalty, lambda p: -100 <= p <= 100, "from -100 to 100")
    if not isinstance(early_stopping, bool) and early_stopping != "never":
        raise ValueError(f"early_stopping is {repr(early_stopping)}: it is True, False or 'never'")


def rules_only(settings: Any) -> None:
    """Raise ValueError for settings of a Sampling that only count where tokens are drawn."""
    others = (settings.top_k, settings.top_p, settings.min_p)
    if settings.temperature not in (0, 1) or any(value is not None for value in others):
        raise ValueError(
            "beam search draws nothing: leave temperature at 1 (or 0), top_k, top_p and min_p at "
            "None, or draw with generate"
        )


def speculation(
    models: Sequence[Any], ids: Tensor, max_new_tokens: int, stop: Any, n_draft: int, random: Any
) -> None:
    """Raise ValueError unless target and draft can continue ids (1, T) together."""
    one_prompt("speculative decoding", ids)
    generator(random)
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_draft", n_draft)
    for model in models:
        readable(model, ids, max_new_tokens)
        stop_ids(model, stop)
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


def quantizable(model: Any, format: object, formats: Collection[object]) -> None:
    """Raise TypeError or ValueError for what `quantize` cannot pack: no model, nan, a format."""
    language_model(model)
    one_of("format", format, formats)
    finite_weights(model)


def packable(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight; raise ValueError unless it is a matrix whose floats fit a type of number."""
    finite_matrix(weight)
    largest, most = weight.abs().max().item(), torch.finfo(dtype).max
    if largest > most:
        raise ValueError(
            f"a weight of {largest:.3g} does not fit in {dtype}, which ends at {most:.3g}: take "
            "bfloat16 or float32"
        )
    return weight


def small_change(nats: float) -> None:
    """Warn if packed weights predict other tokens than their model, by a divergence in nats."""
    if not nats < 0.1:
        warnings.warn(
            f"int8 weights change what this model predicts: by {nats:.2f} nats per token, measured "
            "on random tokens. bfloat16, float16 and float32 keep it",
            stacklevel=3,
        )


def refuse_packed(problem: str, remedy: str) -> None:
    """Raise TypeError: packed weights are for reading only."""
    raise TypeError(f"a model with packed weights {problem}: {remedy}")
