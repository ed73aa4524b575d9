"""The root mean square norm with gradients, in the few steps that a CPU needs for it.

Written by hand; notebook 11 uses it. torch has no kernel for it on a CPU, where its function takes
about ten steps forward and more back: three to four times as long as its LayerNorm. What is left
out: gradients of gradients, for which `torch.nn.functional.rms_norm` is there.

Shapes: x (..., C), weight (C,), one root mean square for each vector (..., 1).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / √(mean of x² + eps) · weight, along the last axis."""
    alike = x.dtype is weight.dtype and x.dtype in (torch.float32, torch.float64)
    if alike and x.is_cpu and not torch.compiler.is_compiling():
        return CPUNorm.apply(x, weight, eps)
    if weight.dtype is torch.float32 and x.dtype in (torch.bfloat16, torch.float16):
        return rms_norm(x.float(), weight, eps).to(x.dtype)  # as torch does, with a warning
    return F.rms_norm(x, weight.shape, weight, eps)


class CPUNorm(torch.autograd.Function):
    """The norm, and its gradient by that of LayerNorm, for which torch has a kernel.

    With n = x / rms and h = gradient · weight, LayerNorm's is (h − mean(h) − n · mean(h · n)) / rms
    if the mean of x is taken to be 0; the RMS norm subtracts no mean, so mean(h) / rms comes back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Normalize, and keep 1 / rms."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = squares.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of x and weight."""
        x, weight, inverse = ctx.saved_tensors
        layer_norm = torch.ops.aten.native_layer_norm_backward
        zeros, both = torch.zeros_like(inverse), [True, True, False]
        shape = list(weight.shape)
        grad_x, grad_weight, _ = layer_norm(grad, x, shape, zeros, inverse, weight, None, both)
        with torch.autocast("cpu", enabled=False):
            mean = (grad @ weight)[..., None]
        # small products first: a sum with one number a vector runs at full width, addcmul does not
        return grad_x.add_(mean * inverse / len(weight)), grad_weight, None
