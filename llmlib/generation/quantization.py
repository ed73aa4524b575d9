# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Products with a weight that does not change: stored in the format and order that are read fast.

Built in notebook 10. A weight is stored as float32, bfloat16, float16 or int8. On the CPU each has
a kernel that wants it packed; where the kernel is missing (another processor, an accelerator), a
plain product gives the same numbers, more slowly. What is left out: formats below eight bits.

Shapes: N vectors of I numbers come in, a weight is (O, I), N vectors of O numbers come out.
"""

import math
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}  # of each number in a weight


def quantize_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a weight (O, I) to int8 (O, I) and a scale for each row (O,): weight ≈ int8 · scale.

    No number moves by more than half a scale. Raises ValueError for nan, infinity, or another
    number of dimensions.
    """
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"a weight {tuple(weight.shape)} of {weight.dtype}: give floats (O, I)")
    if not weight.isfinite().all():
        raise ValueError("the weight holds nan or infinity: its model is broken")
    scale = weight.float().abs().amax(dim=1).clamp(min=1e-30) / 127  # a row of zeros: any scale
    return (weight / scale[:, None]).round().to(torch.int8), scale


def plain_product(weight: torch.Tensor, bias: torch.Tensor | None, weights: str) -> Callable:
    """The product in plain torch, on any device; see `pack_linear`."""
    if weights == "int8":
        rounded, scale = quantize_rows(weight)
        return lambda x: F.linear(x, rounded.to(x.dtype) * scale.to(x.dtype)[:, None], bias)
    weight = weight.to(getattr(torch, weights))
    bias = None if bias is None else bias.to(vector_dtype(weights))
    return lambda x: F.linear(x, weight.to(x.dtype), bias)  # float16 would overflow in the sums


def fast_float32(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable:
    """float32, stored turned as (I, O): the order in which BLAS reads a weight for one vector."""
    turned = weight.float().T.contiguous().T
    return lambda x: F.linear(x, turned, bias)


def fast_bfloat16(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable:
    """bfloat16 in and out, the weight in the blocks that oneDNN would else make at each call."""
    product = torch.ops.mkldnn._linear_pointwise.default
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
    bias = None if bias is None else bias.bfloat16()
    return lambda x: product(x, packed, bias, "none", [], "")


def fast_float16(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable:
    """A weight in float16 that FBGEMM widens on its way, so that all sums are in float32."""
    product = torch.ops.quantized.linear_dynamic_fp16.default
    packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), bias)
    return lambda x: product(x, packed)


def int8_product(weight: torch.Tensor) -> Callable:
    """x (N, I) in -1 … 1 -> x · weight, through integers: 127 steps on either side of zero."""
    rounded, scale = quantize_rows(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that these tensors will move elsewhere
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        tensor = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zeros, 0)
        packed = torch.ops.quantized.linear_prepack(tensor, None)
    product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    steps = activation_steps() if len(weight) > 1 else 127
    return lambda x: product(x, 1 / steps, steps + 1, packed)


@lru_cache(maxsize=1)
def activation_steps() -> int:
    """127, or 63 on a processor that adds two products in 16 bits, where large ones overflow."""
    ones = torch.ones(1, 64)
    return 127 if abs(int8_product(ones)(ones).item() - 64) < 1 else 63


def fast_int8(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable:
    """int8 weights, and each vector rounded too: by its own largest number, whatever its batch."""
    product = int8_product(weight)
    bias = torch.zeros(len(weight)) if bias is None else bias.float()

    def linear(x: torch.Tensor) -> torch.Tensor:
        largest = torch.linalg.vector_norm(x, math.inf, -1, True).clamp_min_(1e-30)
        return torch.addcmul(bias, product(x / largest), largest)

    return linear


FAST = {
    "float32": fast_float32,
    "bfloat16": fast_bfloat16,
    "float16": fast_float16,
    "int8": fast_int8,
}


def check_format(weights: str) -> None:
    """Raise ValueError unless `weights` names a format."""
    if weights not in BYTES:
        raise ValueError(f"weights are {weights!r}: they must be one of {', '.join(BYTES)}")


@torch.no_grad()
def pack_linear(
    weight: torch.Tensor, bias: torch.Tensor | None = None, weights: str = "float32"
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function x (..., I) -> x weightᵀ + bias (..., O), fast at a few vectors at a time.

    weight: (O, I); bias: (O,); weights: the format that it is stored in, of `BYTES`. x is bfloat16
    for bfloat16 weights, else float32; so is the result. No gradients. Raises ValueError for a
    format that does not exist and for weights that are not finite.

    >>> pack_linear(torch.eye(2), weights="int8")(torch.tensor([[1.0, -1.0]]))
    tensor([[ 1., -1.]])
    """
    check_format(weights)
    weight = weight.detach()
    bias = None if bias is None else bias.detach()
    if weight.device.type == "cpu":
        try:
            linear = FAST[weights](weight, bias)
            linear(torch.zeros(1, weight.shape[1], dtype=vector_dtype(weights)))  # does it work?
            return linear
        except (RuntimeError, AttributeError):  # this processor, or this torch, has no such kernel
            pass
    return plain_product(weight, bias, weights)


def vector_dtype(weights: str) -> torch.dtype:
    """The dtype of the vectors that meet weights in a format."""
    return torch.bfloat16 if weights == "bfloat16" else torch.float32
