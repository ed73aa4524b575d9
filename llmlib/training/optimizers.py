# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""The optimizers, their schedule, and their state by the names of the parameters.

Built in notebook 06.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from llmlib.training.config import TrainConfig


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """The optimizers for a model's parameters: AdamW, or Muon and AdamW.

    Only matrices (embeddings among them) have weight decay: a bias or the scale of a norm is not
    made simpler by being smaller. With "muon", the matrices between embedding and head go to Muon
    (Jordan 2024), whose steps are scaled so that one learning rate suits both (Liu et al. 2025).
    Raises ValueError for a model without parameters to train.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the model has no parameters to train: all are frozen, or there are none")
    ends = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    ends.add(id(getattr(model, "head_weight", None)))
    use_muon = config.optimizer == "muon"
    hidden = [p for p in trained if use_muon and p.ndim == 2 and id(p) not in ends]
    rest = [p for p in trained if all(p is not other for other in hidden)]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers = []
    if groups:
        settings = {"lr": config.learning_rate, "betas": config.betas, "fused": True}
        optimizers.append(torch.optim.AdamW(groups, **settings))
    if hidden:
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        optimizers.append(torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw", **settings))
    return optimizers


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The learning rate of a step, counted from 0: a linear rise, then half a cosine down.

    It reaches `learning_rate` at the last step of the warm-up, and `final_fraction` of it at the
    last step of all, where it stays. Source: Loshchilov and Hutter 2016 (SGDR), equation 5.
    """
    if step < 0:
        raise ValueError(f"there is no step {step}: steps are counted from 0")
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    length = max(1, config.max_steps - 1 - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / length)
    lowest = config.final_fraction * config.learning_rate
    return lowest + (config.learning_rate - lowest) * (1 + math.cos(math.pi * progress)) / 2


def optimizer_state(
    optimizers: Sequence[torch.optim.Optimizer], parameters: dict[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """What optimizers remember, as tensors named after the parameter and the kind of value."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {
        f"{names[id(parameter)]}.{key}": value
        for optimizer in optimizers
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def set_optimizer_state(
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: dict[str, nn.Parameter],
    tensors: dict[str, torch.Tensor],
) -> None:
    """Put back what `optimizer_state` returned; ValueError, and no change, if it does not fit."""
    values: dict[int, dict] = {id(parameter): {} for parameter in parameters.values()}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters.get(name)
        if parameter is None or (key != "step" and tensor.shape != parameter.shape):
            own = "nothing" if parameter is None else tuple(parameter.shape)
            raise ValueError(
                f"the state holds {key} of {name} {tuple(tensor.shape)}, where the model has "
                f"{own}: build the model as it was when the state was saved"
            )
        values[id(parameter)][key] = tensor.to(parameter.device)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            optimizer.state.update({p: values[id(p)] for p in group["params"]})
