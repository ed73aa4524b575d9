"""Losses, evaluation and n-gram models."""

from collections.abc import Callable, Collection, Iterable
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import torch

from llmlib.checks.tokenization import known_ids

T = TypeVar("T")


def logits(value: object) -> None:
    """Raise TypeError or ValueError unless logits are a tensor of floats (..., V)."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(
            f"logits must be a tensor of floats, not {kind}: the model has to map ids (B, T) to "
            "logits (B, T, V)"
        )
    if value.ndim < 2:
        raise ValueError(
            f"logits have shape {tuple(value.shape)}, expected (batch, tokens, vocabulary)"
        )


def features(values: Any, weight: Any, chunk_size: int | None) -> None:
    """Raise TypeError or ValueError unless features (..., C) fit a weight (V, C)."""
    for name, value in {"features": values, "weight": weight}.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a tensor of floats, not {kind}")
    if weight.ndim != 2 or values.ndim < 2 or values.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"features {tuple(values.shape)} and weight {tuple(weight.shape)} do not fit: "
            "expected (batch, tokens, C) and (vocabulary, C)"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")


def targets(
    ids: object, shape: Iterable[int], vocab_size: int, ignore_index: int, reduction: str
) -> None:
    """Raise TypeError or ValueError unless targets are token ids of a shape.

    The ids themselves are looked at on the CPU only: Python would have to wait for an accelerator.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}: it must be 'mean' or 'sum'")
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"targets are a {type(ids).__name__}: give a tensor of token ids")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"targets hold {ids.dtype}: token ids are torch.int64 (or int32)")
    if ids.shape != torch.Size(shape):
        raise ValueError(
            f"targets have shape {tuple(ids.shape)}, expected {tuple(shape)}: "
            "one id for each position"
        )
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    counted = ids[ids != ignore_index]
    if reduction == "mean" and counted.numel() == 0:
        raise ValueError(
            f"none of the {ids.numel()} targets counts: there is no mean loss of nothing"
        )
    low, high = (bound.item() for bound in counted.aminmax()) if counted.numel() else (0, 0)
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"target {low if low < 0 else high} is outside the vocabulary: ids are 0 to "
            f"{vocab_size - 1}, or {ignore_index} where a position does not count"
        )


def batch(value: object, name: str = "a batch") -> None:
    """Raise TypeError unless a batch is a pair or a triple of tensors."""
    fits = isinstance(value, (tuple, list)) and len(value) in (2, 3)
    if not fits or not all(isinstance(part, torch.Tensor) for part in value):
        raise TypeError(
            f"{name} is a {type(value).__name__}: give pairs (inputs, targets) of tensors, each "
            "(B, T), or triples (inputs, targets, segments)"
        )


def evaluation(model: object, max_batches: int | None) -> None:
    """Raise TypeError or ValueError for what cannot be evaluated."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a function of ids (B, T)")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches must be at least 1, not {max_batches}")


def measured_loss(loss: float, number: int, compute_logits: Callable[[], torch.Tensor]) -> float:
    """Return a loss. Raises ValueError for nan, saying how many logits are not finite."""
    if loss != loss:
        values = compute_logits()
        bad = (~values.isfinite()).sum().item()
        raise ValueError(
            f"the loss of batch {number} is not a number, nor would be any mean with it: "
            f"{bad} of {values.numel()} logits are NaN or infinite"
        )
    return loss


def measured_tokens(n_batches: int, n_tokens: int, ignore_index: int) -> None:
    """Raise ValueError if there was nothing to evaluate."""
    if n_batches == 0:
        raise ValueError("there is no batch to evaluate: the loader is empty (or used up)")
    if n_tokens == 0:
        raise ValueError(f"no target of {n_batches} batches counts: all of them are {ignore_index}")


def at_least_one_byte(n_bytes: int) -> int:
    """Return the number of bytes. Raises ValueError for a text without any."""
    if n_bytes < 1:
        raise ValueError(f"a text of {n_bytes} bytes has no bits per byte: give at least 1")
    return n_bytes


def ngram_model(n: object, vocab_size: object, discount: float | None) -> None:
    """Raise ValueError for sizes or a discount that no n-gram model has."""
    for name, value in {"n": n, "vocab_size": vocab_size}.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
    if discount is not None and not 0 < discount < 1:
        raise ValueError(f"discount is {discount!r}: it must lie between 0 and 1")


def ngram_documents(ids: Collection[np.ndarray], vocab_size: int) -> None:
    """Raise ValueError if no document has two tokens, or one has an id outside the vocabulary."""
    if max(map(len, ids), default=0) < 2:
        raise ValueError("there is nothing to count: no token follows another one")
    known_ids([int(document.max()) for document in ids if len(document)], vocab_size)


def ngram_ids(ids: object, is_fitted: bool) -> None:
    """Raise RuntimeError before the counting, and TypeError for ids that are not (B, T)."""
    if not is_fitted:
        raise RuntimeError("the model has counted nothing yet: call fit(ids) first")
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        raise TypeError("ids must be a tensor (batch, tokens), for one sequence ids.unsqueeze(0)")
