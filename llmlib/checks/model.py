"""The sizes of a model, and what it is given to read."""

from typing import Any, TypeVar

import torch

from llmlib.checks.values import flag, number, token_ids, whole_number

T = TypeVar("T")


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
