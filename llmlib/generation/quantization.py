# From notebooks/10_inference.ipynb: edit there, then run make export.

"""A model whose weights do not change any more, stored in a format and order that are read fast.

Built in notebook 10. `quantize` returns a model of the same class, with the packed linear layers of
`llmlib.generation.packing` in float32, bfloat16, float16 or int8, that goes through the same
forward pass. No gradients. What is left out: formats below eight bits.
"""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from llmlib import checks
from llmlib.generation.packing import PackedLinear, packed_part
from llmlib.generation.rounding import BYTES
from llmlib.model.modes import evaluating


@torch.no_grad()
def quantize(model: Any, format: str = "int8") -> Any:
    """Return a copy of a model with its linear layers and head packed; the model stays as it is.

    model: any of `llmlib.model.protocol`, on its device. The copy is of the same class, in
    evaluation mode and without gradients; its token embedding has 16 bits a number, but for
    float32, and what is not packed is in float32. Warns if int8 changes what the model predicts.
    Raises ValueError for an unknown format, a packed model or a weight that is not finite.
    """
    checks.quantizable(model, format, BYTES)
    replaced: dict[int, Any] = {}  # id of a module -> what stands in its place in the copy
    tied = model.lm_head is None and model.head_weight is not None
    half = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(format, torch.float16)
    has_head = tied or model.lm_head is not None  # else the table itself is the head
    for module in model.modules():
        if isinstance(module, PackedLinear):
            checks.refuse_packed("cannot be packed again", "quantize the model that it was made of")
        if (stand_in := packed_part(module, format, module is model.lm_head)) is not None:
            replaced[id(module)] = stand_in
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
    for module in packed.modules():  # for speed: nn.Module searches three dicts for each part
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


def linear_weights(model: nn.Module) -> list[Any]:
    """Return the weights of all linear layers."""
    linear = [m for m in model.modules() if isinstance(m, (PackedLinear, nn.Linear))]
    return [m if isinstance(m, PackedLinear) else m.weight for m in linear]


def weight_matrices(model: Any) -> list[Any]:
    """Return the weights that tokens are multiplied with: of all linear layers and the head."""
    found, head = linear_weights(model), model.head_weight
    return found if head is None or any(w is head for w in found) else [*found, head]


def bytes_read(model: Any) -> int:
    """Return the bytes of weights that have to be read for a single token."""
    total = sum(weight.nbytes for weight in weight_matrices(model))
    mixtures = [module for module in model.modules() if hasattr(module, "experts")]
    for layer in mixtures:  # of whose experts some are idle (notebook 13)
        idle = layer.n_experts - layer.top_k
        total -= sum(weight.nbytes for weight in linear_weights(layer.experts[0])) * idle
    return total


def weight_bytes(model: Any) -> int:
    """Return the bytes of memory that the weights of a model take, packed ones and others."""
    packed = [m for m in model.modules() if isinstance(m, PackedLinear)]
    return sum(weight.nbytes for weight in [*packed, *model.parameters()])
