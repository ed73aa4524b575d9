"""The sizes of a model, and what it is given to read."""

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from llmlib.checks.values import flag, number, require, token_ids, whole_number, whole_numbers


def attention_sizes(emb_dim: int, n_heads: int, context_length: int, drop_rate: float) -> None:
    """Raise ValueError for sizes that no attention layer can have."""
    whole_numbers(emb_dim=emb_dim, n_heads=n_heads, context_length=context_length)
    if emb_dim % n_heads:
        raise ValueError(
            f"emb_dim {emb_dim} is not divisible by n_heads {n_heads}: each head gets an equal part"
        )
    number("drop_rate", drop_rate, lambda rate: 0 <= rate < 1, "from 0 to below 1")


def gpt_config(config: Any) -> None:
    """Raise ValueError for a value that no GPT can have."""
    whole_numbers(vocab_size=config.vocab_size, n_layers=config.n_layers)
    flag("qkv_bias", config.qkv_bias)
    flag("tie_weights", config.tie_weights)
    attention_sizes(config.emb_dim, config.n_heads, config.context_length, config.drop_rate)


def attention_mask(mask: Any) -> None:
    """Raise TypeError unless a mask is a tensor of bool."""
    given = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
    say = f"the mask is {given}: give a bool tensor, True where a query may look"
    require(given is torch.bool, say, TypeError)


def vectors(x: Tensor, emb_dim: int, context_length: int) -> None:
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
    in_context(x, context_length, "layer")


def in_context(x: Tensor, context_length: int, reader: str, n_read: int = 0) -> None:
    """Raise ValueError for more tokens, x (B, T, ...) behind n_read others, than a model reads."""
    if n_read + x.shape[1] > context_length:
        raise ValueError(
            f"sequence of {n_read + x.shape[1]} tokens exceeds the {reader}'s context_length of "
            f"{context_length}: crop it, or build the {reader} with a longer one"
        )


def model_input(
    ids: Tensor,
    config: Any,
    device: torch.device,
    segments: Tensor | None = None,
    n_read: int = 0,
) -> None:
    """Raise TypeError or ValueError unless a model can read ids (B, T), behind n_read others."""
    token_ids(ids)
    in_context(ids, config.context_length, "model", n_read)
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


def in_vocabulary(ids: Tensor, vocab_size: int) -> None:
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


def finite_weights(model: Any) -> None:
    """Raise ValueError if a weight or buffer of a model is not finite, and name it.

    The logits would not always tell: where a query or a key is nan, torch's attention on the CPU
    returns 0. Packed weights were looked at when they were packed.
    """
    model = getattr(model, "__self__", model)  # a bound model.forward
    if not isinstance(model, nn.Module) or getattr(model, "is_packed", False):
        return
    floats = ((name, t) for name, t in model.named_buffers() if t.is_floating_point())
    buffers = ((name, t.clamp(min=0)) for name, t in floats)  # -inf is a mask that forbids
    for name, tensor in chain(model.named_parameters(), buffers):
        if tensor.is_floating_point() and not all_finite(tensor.detach()):
            raise ValueError(
                f"{name} holds numbers that are nan or infinite, as logits would be: the model is "
                "broken"
            )


def all_finite(values: Tensor) -> bool:
    """Tell whether all values are finite; by their sum, which is cheap, where that is finite."""
    return math.isfinite(values.sum()) or bool(values.isfinite().all())


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
    if cache.stored != cache.n_layers:
        raise ValueError(
            f"the cache has {cache.n_layers} layers, and {cache.stored} were stored when tokens "
            f"were read last: it belongs to another model, or the reading was cut off; "
            f"cache.rewind({cache.begun}) forgets it"
        )
    if cache.length + n_tokens > cache.capacity:
        raise ValueError(
            f"{n_tokens} tokens more than the {cache.length} in the cache do not fit: its capacity "
            f"is {cache.capacity}; make a larger one, up to the model's context_length, or "
            "re-encode a shorter window"
        )


def cache_entry(cache: Any, layer: int, keys: Tensor) -> None:
    """Raise ValueError unless keys (B, H, T, D) are those that a layer of a cache waits for."""
    if not (layer < cache.n_layers and cache.stored < cache.n_layers):
        raise ValueError(
            f"keys of layer {layer} come to a cache that has {cache.stored} of {cache.n_layers} "
            "layers: it belongs to another model, or cache.grow(batch_size, n_new) was not called"
        )
    if cache.data is None:
        fits = keys.shape[0] == cache.batch_size and keys.shape[2] == cache.length - cache.begun
    else:
        fits = keys.shape == cache.new[0].shape and keys.dtype == cache.data.dtype
    if not fits:
        kind = (
            "none yet" if cache.data is None else f"{tuple(cache.data.shape)}, {cache.data.dtype}"
        )
        raise ValueError(
            f"keys {tuple(keys.shape)}, {keys.dtype}, for {cache.length - cache.begun} new tokens "
            f"do not fit the cache (2 layers, B, H, capacity, D: {kind}): it belongs to another "
            "model, or to this one in another precision"
        )


def cache_copy(cache: Any, n: int, capacity: int) -> None:
    """Raise ValueError unless n rows of a capacity can be made of each row of a cache."""
    whole_number("n", n)
    whole_number("capacity", capacity, least=max(1, cache.length))


def prepared_cache(model: Any, cache: Any, ids: Tensor, padding: Tensor, capacity: int) -> None:
    """Raise TypeError or ValueError unless a cache can hold the beginning of ids (B, T)."""
    if not hasattr(model, "new_cache"):
        raise TypeError(f"a {type(model).__name__} reads no cache: leave cache at None")
    if not all(hasattr(cache, name) for name in ("batch_size", "length", "capacity", "rewind")):
        raise TypeError(f"cache is a {type(cache).__name__}: give one of model.new_cache, or None")
    if cache.batch_size != len(ids) or cache.length >= ids.shape[1]:
        raise ValueError(
            f"the cache holds {cache.length} tokens in each of {cache.batch_size} rows, the "
            f"prompts are {len(ids)} rows of {ids.shape[1]}: it must have read their beginning, at "
            "most all but the last token. One text uses it up: give each a copy, cache.copy()"
        )
    if cache.capacity < capacity or capacity < ids.shape[1]:
        raise ValueError(
            f"the cache has place for {cache.capacity} tokens, {max(capacity, ids.shape[1])} are "
            f"needed: cache.copy(capacity=…), up to the model's context_length"
        )
    segments = getattr(cache, "segments", None)
    none = padding * 0
    n_read = none if segments is None else (segments[:, : cache.length] < 0).sum(dim=1)
    if (n_read != padding.clamp(max=cache.length)).any():
        raise ValueError(
            "the cache did not read the padding before shorter prompts as padding: read it with "
            "segments (B, T) that are -1 there"
        )


def no_gradient(keys: Tensor) -> None:
    """Raise RuntimeError for keys that want a gradient, which a cache does not compute."""
    if keys.requires_grad:
        raise RuntimeError(
            "a cache passes no gradient: call the model under torch.no_grad(), or turn gradients "
            "off with model.requires_grad_(False)"
        )
