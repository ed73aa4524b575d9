"""The settings of a training run, its batches, its steps."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from llmlib.checks.values import number, one_of, require, whole_number

MOST_STEPS = 2**31 - 1  # beyond every run; range and islice take it on all systems


def train_config(config: Any) -> None:
    """Raise ValueError for a setting with which nothing can be trained."""
    for name, least in (("max_steps", 1), ("warmup_steps", 0), ("accumulation_steps", 1)):
        whole_number(name, getattr(config, name), least)
        whole_number(name, getattr(config, name), least, MOST_STEPS)
    two = isinstance(config.betas, (tuple, list)) and len(config.betas) == 2
    require(two, f"betas is {config.betas!r}: it must be two numbers")
    for which, beta in zip(("first", "second"), config.betas):
        number(f"the {which} of betas", beta, lambda x: 0 <= x < 1, "from 0 to below 1")
    number("learning_rate", config.learning_rate, lambda x: 0 < x < math.inf, "above 0")
    number("final_fraction", config.final_fraction, lambda x: 0 <= x <= 1, "from 0 to 1")
    number("weight_decay", config.weight_decay, lambda x: 0 <= x < math.inf, "of at least 0")
    if config.grad_clip is not None:
        number("grad_clip", config.grad_clip, lambda x: 0 < x < math.inf, "above 0, or None")
    weights = config.aux_weights
    named = weights if isinstance(weights, dict) else {"": weights}
    for name, weight in named.items():
        name = f"aux_weights[{name!r}]" if name else "aux_weights"
        number(name, weight, lambda x: 0 <= x < math.inf, "of at least 0, or a dict of them")
    one_of("dtype", config.dtype, ("float32", "bfloat16"))
    one_of("optimizer", config.optimizer, ("adamw", "muon"))


def aux_weight(name: str, weights: float | dict[str, float]) -> float:
    """Return the weight of a loss that a model adds. Raises ValueError if there is none."""
    if not isinstance(weights, dict):
        return weights
    if name not in weights:
        given = ", ".join(weights) or "none at all"
        raise ValueError(
            f"the model adds a loss {name!r}, but aux_weights names {given}: give its weight "
            "(0 to log it only), or one number for all losses"
        )
    return weights[name]


def loader(given: Any, n_read: int, n_batches: int | None) -> int | None:
    """Return the number of batches of a loader, if it knows it.

    n_read: batches already read in an epoch of n_batches. Raises TypeError for a loader that can
    be read only once, and ValueError for one of another size.
    """
    if isinstance(given, Iterator):
        raise TypeError(
            f"a {type(given).__name__} can be read only once: give a DataLoader or a list, "
            "which can be read again from its beginning"
        )
    n_given = len(given) if hasattr(given, "__len__") else None
    if n_read and n_given != n_batches:
        raise ValueError(
            f"training stands in an epoch of {n_batches} batches, but this loader has {n_given}: "
            "resume with the same data, batch size and number of processes"
        )
    return n_given


def place(environment: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Return the number of processes, which one this is, and the same two on its machine.

    Raises ValueError for variables that torchrun would not have set.
    """
    world = count_in(environment, "WORLD_SIZE", usual=1, least=1)
    rank = count_in(environment, "RANK", usual=0, most=world - 1)
    local_world = count_in(environment, "LOCAL_WORLD_SIZE", usual=world, least=1, most=world)
    local_rank = count_in(environment, "LOCAL_RANK", usual=0, most=local_world - 1)
    return world, rank, local_rank, local_world


def meeting_place(environment: Mapping[str, str]) -> None:
    """Raise ValueError unless several processes are told where to meet, and which one this is."""
    missing = [v for v in ("RANK", "MASTER_ADDR", "MASTER_PORT") if v not in environment]
    say = f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {' and '.join(missing)} are not set"
    require(not missing, f"{say}: start with torchrun, or unset WORLD_SIZE")


def count_in(
    environment: Mapping[str, str], name: str, usual: int, least: int = 0, most: int = 2**31
) -> int:
    """Return the whole number in a variable. Raises ValueError if it is none, or out of bounds."""
    text = environment.get(name, str(usual))
    fits = text.isascii() and text.isdigit() and len(text) < 11 and least <= int(text) <= most
    allowed = f"a whole number from {least} to {most}, as torchrun sets it"
    require(fits, f"the environment variable {name} is {text[:100]!r}: it must be {allowed}")
    return int(text)


def some_batches(batches: Collection[tuple]) -> None:
    """Raise ValueError if there is no batch to learn from."""
    require(batches, "there is no batch to learn from: give at least one")


def step(number: int, loss: float, grad_norm: float, n_tokens: int) -> None:
    """Raise ValueError for a step without targets, FloatingPointError for one that is not finite.

    All processes see the same numbers, so that all of them stop.
    """
    none = f"step {number} has no targets: all those of its batches are -100, which do not count"
    require(n_tokens, f"{none}. Leave such rows out, or accumulate more batches in a step")
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise FloatingPointError(
            f"step {number}: the loss is {loss}, the gradient's length {grad_norm}: lower the "
            "learning rate, warm up longer, or set grad_clip"
        )


def not_torn(torn: list[int] | None, steps: int) -> None:
    """Raise RuntimeError for a trainer whose weights are half those of another step."""
    if torn is not None:
        raise RuntimeError(
            f"step {steps + 1} was interrupted while its weights were being written, so that they "
            "are neither the old nor the new ones. Go back to the last checkpoint: llmlib train "
            "--resume RUN, or load_checkpoint(folder, model) and the trainer's load_state_dict"
        )


def weights_loaded(torn: list[int] | None, now: list[int]) -> None:
    """Raise ValueError if a torn trainer's weights, by their versions, have not been replaced."""
    replaced = not torn or all(before != after for before, after in zip(torn, now))
    require(replaced, "the weights are still torn: load those of the checkpoint first")


def trainer_state(state: Any, optimizer: str) -> None:
    """Raise ValueError unless a state is a Trainer's, saved with the same optimizer."""
    try:
        values = [state[name] for name in ("step", "epoch", "batch", "n_batches")]
        kinds = {name.partition(".")[0] for name in state["tensors"]}
        saved_with = state["config"]["optimizer"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the state of a Trainer: {error!r}") from None
    counted = all(type(value) is int for value in values[:3])
    require(counted, f"this is not the state of a Trainer: it stands at {values}")
    unknown = kinds - {"random", "epoch_start", "optimizer"}
    require(not unknown, f"this is not the state of a Trainer: it holds {unknown}")
    whole = values[0] == 0 or "optimizer" in kinds
    require(whole, f"the state of step {values[0]} holds no values of an optimizer")
    both = f"was saved with optimizer={saved_with!r}, this trainer has {optimizer!r}"
    require(saved_with == optimizer, f"the state {both}: make it with the same one")


def own_parameter(key: str, name: str, tensor: torch.Tensor, own: Any) -> torch.Tensor:
    """Return a model's parameter. Raises ValueError if what an optimizer remembers does not fit."""
    if own is None or (key != "step" and tensor.shape != own.shape):
        found = "nothing" if own is None else tuple(own.shape)
        raise ValueError(
            f"the state holds {key} of {name} {tuple(tensor.shape)}, where the model has "
            f"{found}: build the model as it was when the state was saved"
        )
    return own
