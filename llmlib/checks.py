"""Messages for bad input: what was given, what is allowed, what to do.

Written by hand. Checks stand at the doors (constructors of configurations, readers of files, the
public entry of a loop, the command line), so that the code behind them carries nothing but ideas.
Each function returns nothing, or the checked value, and raises TypeError or ValueError.
"""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

import torch

T = TypeVar("T")

# --- values


def whole_number(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless a value is an int (not a bool) from `least` to `most`."""
    fits = type(value) is int and value >= least and (most is None or value <= most)
    if not fits:
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}: it must be an int {allowed}")


def number(name: str, value: object, fits: Callable[[float], bool], allowed: str) -> None:
    """Raise ValueError unless a value is an int or float that fits, with `allowed` in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ValueError(f"{name} is {value!r}: it must be a number {allowed}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it must be True or False")


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless a value is among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(str, allowed))}")


def known_fields(cls: type[Any], given: Iterable[str]) -> None:
    """Raise TypeError, naming the nearest field, for a keyword that a dataclass does not have."""
    names = [field.name for field in fields(cls)]
    for name in given:
        if name not in names:
            raise TypeError(f"{cls.__name__} has no field {name!r}: {suggest(name, names)}")


def known_name(kind: str, name: str, allowed: Collection[str]) -> None:
    """Raise ValueError, naming the nearest one, for a name that is not among the allowed ones."""
    if name not in allowed:
        raise ValueError(f"there is no {kind} {name!r}: {suggest(name, list(allowed))}")


def instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError unless a value is of a kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


class KnownFields:
    """Base of a dataclass: a keyword that it does not have is answered with the nearest one.

    In __new__, which sees the keywords before the generated __init__ refuses them without a hint.
    """

    def __new__(cls: type[T], *args: object, **given: object) -> T:
        known_fields(cls, given)
        return object.__new__(cls)


def suggest(name: str, allowed: Collection[str]) -> str:
    """Return words that help with a misspelt name: the nearest allowed one, and all of them."""
    close = get_close_matches(str(name), allowed, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(allowed)}"


# --- tensors


def token_ids(ids: object) -> None:
    """Raise TypeError or ValueError unless ids are a tensor of ints (B, T) with at least one."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"ids are a {type(ids).__name__}: give a tensor, torch.tensor([ids])")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids hold {ids.dtype}: token ids are torch.int64 (or int32)")
    if ids.ndim != 2:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}, expected (batch, tokens); "
            "a single sequence is a batch of one: ids.unsqueeze(0)"
        )
    if ids.numel() == 0:
        raise ValueError(f"ids of shape {tuple(ids.shape)} hold no token: give at least one")


# --- model


def attention_sizes(emb_dim: int, n_heads: int, context_length: int, drop_rate: float) -> None:
    """Raise ValueError for sizes that no attention layer can have."""
    sizes = {"emb_dim": emb_dim, "n_heads": n_heads, "context_length": context_length}
    for name, size in sizes.items():
        whole_number(name, size)
    if emb_dim % n_heads:
        raise ValueError(
            f"emb_dim {emb_dim} is not divisible by n_heads {n_heads}: each head gets an equal part"
        )
    number("drop_rate", drop_rate, lambda rate: 0 <= rate < 1, "from 0 to below 1")


def gpt_config(config: Any) -> None:
    """Raise ValueError for a value that no GPT can have."""
    for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
        whole_number(name, getattr(config, name))
    for name in ("qkv_bias", "tie_weights"):
        flag(name, getattr(config, name))
    attention_sizes(config.emb_dim, config.n_heads, config.context_length, config.drop_rate)


def vectors(x: torch.Tensor, emb_dim: int, context_length: int) -> None:
    """Raise TypeError or ValueError unless x holds floats of shape (B, T, C), T at least 1."""
    if not torch.is_floating_point(x):
        raise TypeError(f"x holds {x.dtype}: attention takes vectors, so embed token ids first")
    if x.ndim != 3 or x.shape[2] != emb_dim:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (batch, tokens, {emb_dim}); "
            "a single sequence is a batch of one: x.unsqueeze(0)"
        )
    if x.shape[1] == 0:
        raise ValueError("x holds sequences of no tokens: give at least one")
    if x.shape[1] > context_length:
        raise ValueError(
            f"sequence of {x.shape[1]} tokens exceeds the layer's context_length of "
            f"{context_length}: crop it, or build the layer with a longer one"
        )


def model_input(
    ids: torch.Tensor, config: Any, device: torch.device, segments: torch.Tensor | None = None
) -> None:
    """Raise TypeError or ValueError unless a model can read ids (B, T) and their segments."""
    token_ids(ids)
    if ids.shape[1] > config.context_length:
        raise ValueError(
            f"sequence of {ids.shape[1]} tokens exceeds the model's context_length of "
            f"{config.context_length}: crop it, or build the model with a longer one"
        )
    if ids.device != device:
        raise ValueError(f"ids are on {ids.device}, the model on {device}: ids.to('{device}')")
    in_vocabulary(ids, config.vocab_size)
    if segments is not None and (segments.shape != ids.shape or segments.is_floating_point()):
        raise ValueError(
            f"segments of shape {tuple(segments.shape)} and {segments.dtype}: give an int for each "
            f"of the ids, {tuple(ids.shape)}: the number of its document, or -1 for padding"
        )


def language_model(model: Any) -> None:
    """Raise TypeError unless a model has what the protocol of a language model asks."""
    if not all(hasattr(model, name) for name in ("config", "features", "head", "head_weight")):
        raise TypeError(
            f"the model is a {type(model).__name__}: give one that has what "
            "llmlib.model.protocol.LanguageModel lists, as a GPT has"
        )


def in_vocabulary(ids: torch.Tensor, vocab_size: int) -> None:
    """Raise ValueError for an id outside the vocabulary; ids on an accelerator pass unseen.

    To look at numbers there, Python would have to wait for the device at every step. CUDA has an
    assertion of its own ("device-side assert"), and the same batch on the CPU tells which id it is.
    """
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (bound.item() for bound in ids.aminmax())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"token id {low if low < 0 else high} is outside the vocabulary: "
                f"ids are 0 to {vocab_size - 1}"
            )


def cache_size(batch_size: int, length: int, context_length: int) -> None:
    """Raise ValueError for a cache that a model cannot use."""
    if batch_size < 1 or not 1 <= length <= context_length:
        raise ValueError(
            f"a cache for {batch_size} rows of {length} tokens: give at least one row, and "
            f"1 to {context_length} tokens, the model's context_length"
        )


def cache_fits(cache: Any, batch_size: int, n_tokens: int) -> None:
    """Raise ValueError unless n_tokens more in each of batch_size rows fit in a cache."""
    if batch_size != cache.batch_size:
        raise ValueError(f"{batch_size} rows of ids, but the cache is for {cache.batch_size}")
    if cache.length + n_tokens > cache.capacity:
        raise ValueError(
            f"{n_tokens} tokens more than the {cache.length} in the cache do not fit: its capacity "
            f"is {cache.capacity}; make a larger one, up to the model's context_length, or "
            "re-encode a shorter window"
        )


def no_gradient(tensor: torch.Tensor, what: str) -> None:
    """Raise RuntimeError for a tensor that wants a gradient, where none is computed."""
    if tensor.requires_grad:
        raise RuntimeError(
            f"{what} passes no gradient: call the model under torch.no_grad(), or turn gradients "
            "off with model.requires_grad_(False)"
        )


# --- generation


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
