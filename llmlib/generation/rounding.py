# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Weights rounded to 16 or 8 bits, and products with them, by the definition.

Built in notebook 10. `llmlib.generation.packing` has the fast products. What is left out: formats
below eight bits.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib import checks

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}  # of each number in a weight


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight (O, I) to int8 (O, I) and a scale for each row (O,): weight ≈ int8 · scale.

    No number moves by more than half a scale. Raises ValueError for nan, infinity, or another
    number of dimensions.
    """
    checks.finite_matrix(weight)
    scale = weight.float().abs().amax(dim=1).clamp(min=1e-30) / 127  # a row of zeros: any scale
    return (weight / scale[:, None]).round().to(torch.int8), scale


Product = Callable[[Tensor], Tensor]  # x (..., I) -> x weightᵀ + bias (..., O)


def reference_product(weight: Tensor, bias: Tensor | None, format: str) -> Product:
    """Return the product with a weight in a format, by the definition, on any device."""
    if format == "int8":
        rounded, scale = quantize_rows(weight)
        return lambda x: F.linear(x, rounded.to(x.dtype) * scale.to(x.dtype)[:, None], bias)
    weight = weight.to(getattr(torch, format))
    if format == "bfloat16":
        bias = None if bias is None else bias.bfloat16()
        return lambda x: F.linear(x.bfloat16(), weight, bias)
    return lambda x: F.linear(x, weight.to(x.dtype), bias)  # float16 would overflow in the sums
