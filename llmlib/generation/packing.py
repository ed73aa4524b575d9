"""Layers whose weights do not change any more, packed for the fastest product there is.

Written by hand, on the rounding of notebook 10. On the CPU each format has a kernel of torch that
wants its weight packed; where the kernel is missing (another processor, an accelerator), a plain
product gives the same numbers, more slowly. No gradients. What is left out: formats below 8 bits.

Shapes: N vectors of I numbers come in, a weight is (O, I), N vectors of O numbers come out.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.generation.rounding import BYTES, Product, quantize_rows, reference_product
from llmlib.model.layers import RMSNorm


def pack_float32(weight: Tensor, bias: Tensor | None) -> Product:
    """Keep float32, stored as (I, O): the order in which BLAS reads a weight for one vector."""
    transposed = weight.T.contiguous().T
    return lambda x: F.linear(x, transposed, bias)


def pack_bfloat16(weight: Tensor, bias: Tensor | None) -> Product:
    """Round to bfloat16, in the blocks that oneDNN would otherwise make at each call."""
    product = torch.ops.mkldnn._linear_pointwise.default
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
    bias = None if bias is None else bias.bfloat16()
    return lambda x: product(x.bfloat16(), packed, bias, "none", [], "")


def pack_float16(weight: Tensor, bias: Tensor | None) -> Product:
    """Round to float16, which FBGEMM widens on its way, so that all sums are in float32."""
    product = torch.ops.quantized.linear_dynamic_fp16.default
    packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
    return lambda x: product(x, packed)


def int8_kernel(weight: Tensor, bias: Tensor | None = None) -> Callable:
    """Return (x, step, zero) -> x weightᵀ + bias, with x (N, I) rounded to multiples of `step`.

    The integers of x lie between -zero and zero, and are stored with `zero` added.
    """
    rounded, scale = quantize_rows(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that these tensors will move elsewhere
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        tensor = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zeros, 0)
        packed = torch.ops.quantized.linear_prepack(tensor, bias)
    product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    return lambda x, step, zero: product(x, step, zero, packed)


@cache
def activation_steps() -> int:
    """Return 127, or 63 on a processor that adds two products in 16 bits, where they overflow."""
    ones = torch.ones(1, 64)
    return 127 if abs(int8_kernel(ones)(ones, 1 / 127, 128).item() - 64) < 1 else 63


def pack_int8(weight: Tensor, bias: Tensor | None) -> Product:
    """Round to int8, and each vector by its own largest number, whatever its batch.

    One scale for a whole batch would be simpler, and then texts would depend on their neighbours.
    """
    bias = torch.zeros(len(weight)) if bias is None else bias
    kernel, steps, n_in = int8_kernel(weight, bias), activation_steps(), weight.shape[1]

    def linear(x: Tensor) -> Tensor:
        if x.numel() == n_in:  # a single vector, as at each token of a single text
            largest = max(torch.linalg.vector_norm(x, math.inf).item(), 1e-30)
            return kernel(x, largest / steps, steps + 1)
        largest = torch.linalg.vector_norm(x, math.inf, -1, True).clamp_min_(1e-30)
        # the kernel adds the bias to what has to be multiplied by `largest` first
        return torch.lerp(bias, kernel(x / largest, 1 / steps, steps + 1), largest)

    return linear


def column_scales(weight: Tensor) -> Tensor | None:
    """Return how large each column is (I,), if they differ by more than a factor of 4.

    That is the mean of its sizes, where each row is divided by its own mean, and once more, since
    that may be ruled by a column that stands out (Sinkhorn and Knopp 1967).
    """
    size, columns = weight.abs(), weight.new_ones(weight.shape[1])
    for _ in range(2):  # a row of zeros says nothing about the columns
        rows = (size / columns).mean(dim=1, keepdim=True).clamp(min=1e-30)
        columns = (size / rows).mean(dim=0).clamp(min=1e-30)
    return columns if columns.amax() > 4 * columns.amin() else None


KERNELS = dict(zip(BYTES, [pack_float32, pack_bfloat16, pack_float16, pack_int8]))


@torch.no_grad()
def pack(weight: Tensor, bias: Tensor | None, format: str) -> Product:
    """Return the fastest product that works here, with a weight and bias in any precision.

    Where an input channel is far larger than the others, as in many large models, a vector's scale
    would round those to 0 (Dettmers and others 2022). Mostly the weights that wait for it are as
    much smaller: the factor goes from the vector to the weight (Xiao and others 2022, SmoothQuant).
    """
    weight, bias = weight.detach().float(), None if bias is None else bias.detach().float()
    if format == "int8" and (scale := column_scales(weight)) is not None:
        product = pack_columns(weight / scale, bias, format)
        return lambda x: product(x * scale)
    return pack_columns(weight, bias, format)


def pack_columns(weight: Tensor, bias: Tensor | None, format: str) -> Product:
    """Do what `pack` does, for a weight whose columns are about equally large."""
    if weight.device.type == "cpu":
        try:
            product = KERNELS[format](weight, bias)
            product(torch.zeros(1, weight.shape[1]))  # does it work?
            return product
        except (RuntimeError, AttributeError):  # this processor, or this torch, has no such kernel
            pass
    return reference_product(weight, bias, format)


class PackedLinear(nn.Module):
    """A linear layer without gradients, fast at a few vectors at a time: x weightᵀ + bias.

    weight: (O, I); bias: (O,); format: of `BYTES`. Takes x (..., I) in float32; returns (..., O) in
    bfloat16 for bfloat16 weights, else in float32, and always with float_output. Of x in another
    precision the result has that one. Raises ValueError for an unknown format and for weights that
    are not finite, or too large for it.

    >>> PackedLinear(torch.eye(2), format="int8")(torch.tensor([[1.0, -1.0]]))
    tensor([[ 1., -1.]])
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        format: str = "float32",
        float_output: bool = False,
    ):
        super().__init__()
        checks.one_of("format", format, BYTES)
        checks.packable(weight, torch.float16 if format == "float16" else torch.float32)
        self.out_features, self.in_features = weight.shape
        self.format, self.has_bias = format, bias is not None
        self.nbytes = weight.numel() * BYTES[format]
        self.takes = (torch.float32, torch.bfloat16)[: 1 + (format == "bfloat16")]
        product, self.float_output = pack(weight, bias, format), float_output
        self.product = (lambda x: product(x).float()) if float_output else product

    def __call__(self, x: Tensor) -> Tensor:
        """Map x (..., I) to (..., O), past the hooks of nn.Module: a step has fifty such calls."""
        if x.dtype in self.takes:
            return self.product(x)
        out = self.product(x.float())
        return out if self.float_output else out.to(x.dtype)

    forward = __call__

    def extra_repr(self) -> str:
        """Return what `print` shows in the brackets."""
        return f"{self.in_features}, {self.out_features}, bias={self.has_bias}, {self.format}"

    def _save_to_state_dict(self, *args: Any, **options: Any) -> None:
        checks.refuse_packed("has no state_dict", "save the model that it was made of")

    def __getstate__(self) -> None:
        checks.refuse_packed("has no pickle", "pickle the model that it was made of")

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLinear":
        return self  # it never changes


class PackedNorm(RMSNorm):
    """An RMSNorm without gradients, fast for a single vector, as at each token of a single text.

    torch has no kernel for it on a CPU: its function takes about ten steps, this one takes two.
    """

    def __init__(self, norm: RMSNorm):
        super().__init__(len(norm.weight), norm.eps)
        self.weight = nn.Parameter(norm.weight.detach().float(), requires_grad=False)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize the last axis, past the hooks of nn.Module."""
        if x.dtype is not self.weight.dtype:  # heads are in 16 bits behind a product in bfloat16
            return self(x.to(self.weight.dtype)).to(x.dtype)
        if x.numel() != len(self.weight) or x.dtype is not torch.float32 or not x.is_cpu:
            return self.forward(x)
        mean_square = torch.linalg.vector_norm(x).item() ** 2 / x.numel()
        scale = 1 / math.sqrt(mean_square + self.eps)
        return torch.addcmul(ZERO, x, self.weight, value=scale)  # two products in one call


ZERO = torch.zeros(1)


def packed_part(part: nn.Module, format: str, is_head: bool = False) -> nn.Module | None:
    """Return what stands in the place of a part in a packed model; None if it stays as it is."""
    if type(part) is nn.Linear:
        return PackedLinear(part.weight, part.bias, format, float_output=is_head)
    return PackedNorm(part) if type(part) is RMSNorm else None
