# From notebooks/10_inference.ipynb: edit there, then run make export.

"""A model whose weights do not change any more, stored in a format and order that are read fast.

Built in notebook 10. `quantize` returns a model of the same class, with packed linear layers in
float32, bfloat16, float16 or int8, that goes through the same forward pass. On the CPU each format
has a kernel that wants it packed; where the kernel is missing (another processor, an accelerator),
a plain product gives the same numbers, more slowly. No gradients. What is left out: formats below
eight bits.

Shapes: N vectors of I numbers come in, a weight is (O, I), N vectors of O numbers come out.
"""

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.modes import evaluating

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
    """Round to int8, and each vector by its own largest number, whatever its batch."""
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
    """Return the fastest product that works here, with a weight and bias in any precision."""
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


@torch.no_grad()
def quantize(model: Any, format: str = "int8") -> Any:
    """Return a copy of a model with its linear layers and head packed; the model stays as it is.

    model: any of `llmlib.model.protocol`, on its device. The copy is of the same class, in
    evaluation mode and without gradients; its token embedding has 16 bits a number, but for
    float32, and what is not packed is in float32. Warns if int8 changes what the model predicts.
    Raises ValueError for an unknown format, a packed model or a weight that is not finite.
    """
    checks.language_model(model)
    checks.one_of("format", format, BYTES)
    checks.finite_weights(model)
    replaced: dict[int, Any] = {}  # id of a module -> what stands in its place in the copy
    tied = model.lm_head is None and model.head_weight is not None
    half = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(format, torch.float16)
    has_head = tied or model.lm_head is not None  # else the table itself is the head
    for module in model.modules():
        if isinstance(module, PackedLinear):
            checks.refuse_packed("cannot be packed again", "quantize the model that it was made of")
        if type(module) is nn.Linear:
            is_head = module is model.lm_head
            replaced[id(module)] = PackedLinear(module.weight, module.bias, format, is_head)
        elif has_head and getattr(module, "num_embeddings", 0) == model.config.vocab_size:
            table = checks.packable(module.weight.detach(), half).to(half, copy=True)
            replaced[id(module)] = nn.Embedding.from_pretrained(table)
    kept = {id(table) for part in replaced.values() for table in part.parameters()}
    packed = deepcopy(model, replaced)  # it copies only what is not replaced
    for tensor in [*packed.parameters(), *packed.buffers()]:
        if tensor.is_floating_point() and id(tensor) not in kept:
            tensor.data = tensor.data.float()
    if tied:
        packed.lm_head = PackedLinear(model.head_weight, None, format, float_output=True)
    for module in packed.modules():  # nn.Module finds its parts in three dicts, at each token
        vars(module).update(module._modules | module._parameters)
    packed.eval().requires_grad_(False)
    packed.is_packed = True  # so that its weights need not be looked at again
    if format == "int8":
        checks.small_change(divergence(model, packed))
    return packed


@torch.no_grad()
def divergence(model: Any, other: Any, n_tokens: int = 32) -> float:
    """Return how far another model's predictions are from a model's: mean KL divergence, in nats.

    Measured after each of n_tokens random tokens, always the same ones.
    """
    shape = 1, min(n_tokens, model.config.context_length)
    ids = torch.randint(model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    ids = ids.to(next(model.parameters()).device)
    with evaluating(model), evaluating(other):
        p, q = (each(ids).float().log_softmax(dim=-1).flatten(0, 1) for each in (model, other))
    return F.kl_div(q, p, reduction="batchmean", log_target=True).item()


def weight_matrices(model: Any) -> list[Any]:
    """Return the weights that every token is multiplied with: of all linear layers and the head."""
    linear = [m for m in model.modules() if isinstance(m, (PackedLinear, nn.Linear))]
    found = [m if isinstance(m, PackedLinear) else m.weight for m in linear]
    head = model.head_weight
    return found if head is None or any(w is head for w in found) else [*found, head]


def bytes_read(model: Any) -> int:
    """Return the bytes of weights that have to be read for each token."""
    return sum(weight.nbytes for weight in weight_matrices(model))


def weight_bytes(model: Any) -> int:
    """Return the bytes of memory that the weights of a model take, packed ones and others."""
    packed = [m for m in model.modules() if isinstance(m, PackedLinear)]
    return sum(weight.nbytes for weight in [*packed, *model.parameters()])
