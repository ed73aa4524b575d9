"""Losses, evaluation and n-gram models."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import torch

from llmlib.checks.model import finite_weights
from llmlib.checks.tokenization import known_ids
from llmlib.checks.values import number, one_of, require, tensor_of_ids, whole_number


def floats(name: str, value: Any, hint: str = "") -> None:
    """Raise TypeError unless a value is a tensor of floats."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a tensor of floats, not {kind}{hint}")


def logits(value: Any) -> None:
    """Raise TypeError or ValueError unless logits are a tensor of floats (..., V)."""
    floats("logits", value, ": the model has to map ids (B, T) to logits (B, T, V)")
    if value.ndim < 2:
        raise ValueError(
            f"logits have shape {tuple(value.shape)}, expected (batch, tokens, vocabulary)"
        )


def features(values: Any, weight: Any, chunk_size: int | None) -> None:
    """Raise TypeError or ValueError unless features (..., C) fit a weight (V, C)."""
    floats("features", values)
    floats("weight", weight)
    if weight.ndim != 2 or values.ndim < 2 or values.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"features {tuple(values.shape)} and weight {tuple(weight.shape)} do not fit: "
            "expected (batch, tokens, C) and (vocabulary, C)"
        )
    if chunk_size is not None:
        whole_number("chunk_size", chunk_size)


def targets(
    ids: Any, shape: Iterable[int], vocab_size: int, ignore_index: int, reduction: str
) -> None:
    """Raise TypeError or ValueError unless targets are token ids of a shape.

    The ids themselves are looked at on the CPU only: Python would have to wait for an accelerator.
    """
    one_of("reduction", reduction, ("mean", "sum"))
    tensor_of_ids("targets", ids)
    if ids.shape != torch.Size(shape):
        raise ValueError(
            f"targets have shape {tuple(ids.shape)}, expected {tuple(shape)}: "
            "one id for each position"
        )
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    counted = ids[ids != ignore_index]
    if reduction == "mean" and counted.numel() == 0:
        raise ValueError(f"none of the {ids.numel()} targets counts: there is no mean of nothing")
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
    given = type(model).__name__
    require(callable(model), f"the model is a {given}: give a function of ids (B, T)", TypeError)
    if max_batches is not None:
        whole_number("max_batches", max_batches)
    finite_weights(model)


def measured_loss(loss: float, number: int, compute_logits: Callable[[], torch.Tensor]) -> float:
    """Return a loss. Raises ValueError for logits that are nan or +inf, saying how many there are.

    A loss may be infinite: where the logit of a target is -inf, it has no probability.
    """
    if not math.isfinite(loss):
        values = compute_logits()
        bad = int((values.isnan() | values.isposinf()).sum())
        if bad or loss != loss:
            raise ValueError(
                f"the loss of batch {number} is not a number, nor would be any mean with it: "
                f"{bad} of {values.numel()} logits are NaN or infinite"
            )
    return loss


def measured_tokens(n_batches: int, n_tokens: int, ignore_index: int) -> int:
    """Return the number of tokens. Raises ValueError if there was nothing to evaluate."""
    require(n_batches, "there is no batch to evaluate: the loader is empty (or used up)")
    require(n_tokens, f"no target of {n_batches} batches counts: all of them are {ignore_index}")
    return n_tokens


def ngram_model(n: object, vocab_size: object, discount: float | None) -> None:
    """Raise ValueError for sizes or a discount that no n-gram model has."""
    for name, value in {"n": n, "vocab_size": vocab_size}.items():
        fits = isinstance(value, (int, np.integer)) and value >= 1
        require(fits, f"{name} is {value!r}: it must be a whole number of at least 1")
    if discount is not None:
        number("discount", discount, lambda d: 0 < d < 1, "between 0 and 1")


def ngram_documents(ids: Collection[np.ndarray], vocab_size: int) -> None:
    """Raise ValueError if no document has two tokens, or one has an id outside the vocabulary."""
    longest = max(map(len, ids), default=0)
    require(longest > 1, "there is nothing to count: no token follows another one")
    known_ids([int(document.max()) for document in ids if len(document)], vocab_size)


def ngram_ids(ids: object, is_fitted: bool) -> None:
    """Raise RuntimeError before the counting, and TypeError for ids that are not (B, T)."""
    require(is_fitted, "the model has counted nothing yet: call fit(ids) first", RuntimeError)
    fits = isinstance(ids, torch.Tensor) and ids.ndim == 2
    say = "ids must be a tensor (batch, tokens), for one sequence ids.unsqueeze(0)"
    require(fits, say, TypeError)
