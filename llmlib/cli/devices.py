"""Which device to compute on, and whether compiling works: tried before it is trusted.

Written by hand. An accelerator can be fast and wrong: on some versions of Apple's MPS, training
runs without a complaint and learns nothing. So `auto` takes one only if its loss on the first batch
equals the CPU's.
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import nn

from llmlib.cli.console import pass_on_stop
from llmlib.cli.dataset import Batch
from llmlib.training.loss import NextTokenLoss

TOLERANCE = 1e-3  # relative; float32 on two right devices differs by some 1e-6


class Choice(NamedTuple):
    """A device, and why it was chosen."""

    device: torch.device
    reason: str


def accelerators() -> list[str]:
    """Return the accelerators that torch sees here."""
    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return found + ["mps"] * torch.backends.mps.is_available()


def loss_on(device: str, model: nn.Module, batch: Batch) -> float:
    """Return the loss of a batch in nats per token, by a copy of a model on a device."""
    inputs, targets = (part.to(device) for part in batch)
    twin = copy.deepcopy(model).to(device).eval()
    with torch.no_grad():
        total, _ = NextTokenLoss(twin)(inputs, targets)
    return total.item() / max(1, int((targets != -100).sum()))


def choose_device(name: str, model: nn.Module, batch: Batch, local_rank: int = 0) -> Choice:
    """Return the device of a name; for "auto", an accelerator if its loss is right, else the CPU.

    local_rank: the number of this process on its machine; each gets another GPU.
    Raises ValueError for a device that is not here.
    """
    here = accelerators()
    if name != "auto":
        if name == "cuda" and here and here[0] != "mps":
            name = here[local_rank % len(here)]
        if name not in ("cpu", *here):
            raise ValueError(f"no device {name!r} here: there are {', '.join(['cpu', *here])}")
        return Choice(torch.device(name), "as requested")
    cpu = torch.device("cpu")
    if not here:
        return Choice(cpu, "no accelerator here")
    candidate = here[local_rank % len(here)]
    expected = loss_on("cpu", model, batch)
    try:
        found = loss_on(candidate, model, batch)
    except RuntimeError as error:
        pass_on_stop(error)
        reason = str(error).strip().partition("\n")[0]
        return Choice(cpu, f"{candidate} failed on the first batch: {reason}")
    seen = f"{candidate} gives a loss of {found:.4f} on the first batch, the CPU {expected:.4f}"
    if not math.isclose(found, expected, rel_tol=TOLERANCE):
        return Choice(cpu, f"{seen}: it cannot be trusted")
    return Choice(torch.device(candidate), f"{seen}: equal within {TOLERANCE:g}")


def compiled(loss: nn.Module, batch: Batch) -> tuple[nn.Module, str]:
    """Return the loss with its model's blocks compiled, and a word on it; as it was if that fails.

    The blocks share one compiled function. The loss itself goes through its rows in a Python loop,
    which would be compiled again for each length of a batch. Compiling happens at the first call:
    so there is one here, on a batch, that leaves no trace.
    """
    model: Any = loss.model
    blocks = model.h
    device = next(loss.parameters()).device
    inputs, targets = (part.to(device) for part in batch)
    devices = [device] if device.type == "cuda" else []
    try:
        for block in blocks:  # dynamic: compiled once for all T
            block.forward = torch.compile(block.forward, dynamic=True)
        with torch.random.fork_rng(devices):
            loss(inputs, targets)[0].backward()
        return loss, "compiled"
    except Exception as error:  # whatever it is: training works without compiling
        pass_on_stop(error)
        for block in blocks:
            vars(block).pop("forward", None)
        torch._dynamo.reset()
        reason = str(error).strip().partition("\n")[0]
        return loss, f"not compiled, as that fails here ({type(error).__name__}: {reason})"
    finally:
        loss.zero_grad(set_to_none=True)
