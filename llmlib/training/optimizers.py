# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""The optimizers, their schedule, and their state by the names of the parameters.

Built in notebook 06. What is left out: other optimizers than AdamW and Muon, and states in pieces
on many machines.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from llmlib import checks
from llmlib.training.config import TrainConfig


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Return the optimizers for a model's parameters: AdamW, or Muon and AdamW.

    Only matrices (embeddings among them) have weight decay: a bias or the scale of a norm is not
    made simpler by being smaller. With "muon", the matrices between embedding and head go to Muon
    (Jordan 2024), whose steps are scaled so that one learning rate suits both (Liu et al. 2025).
    Raises ValueError for a model without parameters to train.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    checks.require(trained, "the model has no parameters to train: all are frozen, or none exist")
    hidden = hidden_matrices(model) if config.optimizer == "muon" else []
    # compared as objects: `in` would compare the numbers of tensors
    rest = [p for p in trained if all(p is not other for other in hidden)]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    # fused: one pass over memory for each tensor, where the plain loop makes a dozen
    adamw = torch.optim.AdamW(groups, config.learning_rate, config.betas, fused=True)
    if not hidden:
        return [adamw]
    rate, decay = config.learning_rate, config.weight_decay
    return [adamw, torch.optim.Muon(hidden, rate, decay, adjust_lr_fn="match_rms_adamw")]


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the trained matrices between embedding and head, which map features to features."""
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    head = getattr(model, "head_weight", None)
    ends = {id(table) for table in [*tables, head]}
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim == 2]
    if head is None:  # a head that is not one plain product: known by its shape, (V, C)
        ends |= {id(p) for p in matrices for table in tables if p.shape == table.shape}
    return [p for p in matrices if id(p) not in ends]


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then half a cosine down.

    It rises from 0 at step 0, is `learning_rate` at step `warmup_steps` and at no other, and
    `final_fraction` of it from the last step on. A warm-up that would fill the run takes a tenth of
    it. Source: Loshchilov and Hutter 2016 (SGDR), equation 5. The warm-up is that of transformers
    and of Stanford's CS336; llm.c and build-nanogpt begin at peak / W and have it a step sooner.
    """
    checks.whole_number("step", step, least=0)
    warmup_steps = config.warmup()
    if step < warmup_steps:
        return config.learning_rate * step / warmup_steps
    # from the end of the warm-up to the last step; at least 1 where there is no room between them
    length = max(1, config.max_steps - 1 - warmup_steps)
    progress = min(1.0, (step - warmup_steps) / length)
    lowest = config.final_fraction * config.learning_rate
    return lowest + (config.learning_rate - lowest) * (1 + math.cos(math.pi * progress)) / 2


def optimizer_state(
    optimizers: Sequence[torch.optim.Optimizer], parameters: dict[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """Return what optimizers remember, as tensors named after parameter and kind of value."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {
        f"{names[id(parameter)]}.{key}": value
        for optimizer in optimizers
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def load_optimizer_state(
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: dict[str, nn.Parameter],
    tensors: dict[str, torch.Tensor],
) -> None:
    """Put back what `optimizer_state` returned.

    Raises ValueError, and changes nothing, if it does not fit the parameters.
    """
    values: dict[int, dict[str, torch.Tensor]] = {id(p): {} for p in parameters.values()}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        # all are checked before the first one is put back
        own = checks.own_parameter(key, name, tensor, parameters.get(name))
        values[id(own)][key] = tensor.to(own.device)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            optimizer.state.update({p: values[id(p)] for p in group["params"]})
