"""Queries, keys and values cut apart and rotated with gradients, in few passes over memory.

Written by hand; notebook 11 uses it. On a CPU, rotating and cutting cost a fifth of what products
cost, nearly all of it memory: step by step, each gradient is written four times. Here it is written
once. What is left out: bfloat16, in which this gained nothing, and gradients of gradients.

Shapes: B rows, T tokens, D numbers a head; H heads of queries, G of keys and G of values.
"""

from typing import Any

import torch
from torch import Tensor

from llmlib.model.positions import Rotation, rotate


def rotated_heads(qkv: Tensor, rotation: Rotation | None, H: int, G: int) -> tuple[Tensor, ...]:
    """Cut qkv (B, T, H + 2G, D) into q (B, H, T, D), k and v (B, G, T, D), with q and k rotated."""
    trains = qkv.requires_grad and qkv.is_cpu and not torch.compiler.is_compiling()
    if trains and rotation is not None and rotation[0].dtype is qkv.dtype:
        return RotatedHeads.apply(qkv, *rotation, H, G)
    both, v = qkv.transpose(1, 2).split_with_sizes([H + G, G], dim=1)
    q, k = rotate(both, rotation).split_with_sizes([H, G], dim=1)  # in one call
    return q, k, v


class RotatedHeads(torch.autograd.Function):
    """What `rotated_heads` does; its gradient is the rotation by the negative angles."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, H: int, G: int
    ) -> tuple[Tensor, ...]:
        """Rotate, and keep the angles."""
        ctx.save_for_backward(cos, sin)
        both, v = qkv.split_with_sizes([H + G, G], dim=2)
        rotated = torch.empty_like(both, memory_format=torch.contiguous_format)
        write_rotated(both, cos, sin, rotated)
        q, k = rotated.transpose(1, 2).split_with_sizes([H, G], dim=1)
        return q, k, v.transpose(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of qkv."""
        cos, sin = ctx.saved_tensors
        q, k, v = (grad.transpose(1, 2) for grad in grads)  # (B, T, heads, D)
        heads = [part.shape[2] for part in (q, k, v)]
        grad = q.new_empty(*q.shape[:2], sum(heads), q.shape[3])
        to_q, to_k, to_v = grad.split_with_sizes(heads, dim=2)
        write_rotated(q, cos, -sin, to_q)
        write_rotated(k, cos, -sin, to_k)
        to_v.copy_(v)
        return grad, None, None, None, None


def write_rotated(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Write to `out` what `rotate` makes of x, both (B, T, N, D)."""
    B, T, N, D = x.shape
    # tables as wide as all heads, (1 or B, T, N D): loops over one head at a time are far slower
    cos, sin = (part.reshape(-1, T, D).repeat(1, 1, N) for part in (cos, sin))
    swapped = x.roll(D // 2, -1).flatten(-2)  # see `rotate`
    torch.mul(x.flatten(-2), cos, out=out.view(B, T, N * D)).addcmul_(swapped, sin)
