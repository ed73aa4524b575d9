"""The two halves of a layer's output, each in one piece.

Written by hand; notebook 11 uses it. A gated feed-forward layer multiplies halves of one product.
Step by step forward and back, each of its passes over memory then skips half of what it meets, and
takes up to twice as long. Two products from the same weight leave each half in one piece.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def halves(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Return layer(x) (..., 2n) as two tensors (..., n); of one vector, halves are in one piece."""
    trains = x.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    # hooks want to see what the whole layer returns
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    if not trains or hooked or type(layer) is not nn.Linear:
        return layer(x).chunk(2, dim=-1)
    if layer.bias is None:
        return tuple(F.linear(x, weight) for weight in layer.weight.chunk(2))
    return tuple(map(F.linear, (x, x), layer.weight.chunk(2), layer.bias.chunk(2)))
