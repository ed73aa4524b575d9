"""Which device to compute on, and whether compiling works: tried before it is trusted.

Written by hand. An accelerator can be fast and wrong: on some versions of Apple's MPS, training
goes on without a complaint, and learns nothing. So `auto` takes one only where the loss of the
first batch equals the CPU's.
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import nn

from llmlib.cli.dataset import Batch
from llmlib.training.loss import NextTokenLoss

TOLERANCE = 1e-3  # relative; float32 on two right devices differs by some 1e-6


class Choice(NamedTuple):
    """A device, and why it was taken."""

    device: torch.device
    reason: str


def accelerators() -> list[str]:
    """The accelerators that torch sees here."""
    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return found + ["mps"] * torch.backends.mps.is_available()


def loss_on(device: str, model: nn.Module, batch: Batch) -> float:
    """The loss of a batch in nats a token, computed in float32 on a device by a copy of a model."""
    inputs, targets = (part.to(device) for part in batch)
    twin = copy.deepcopy(model).to(device).eval()
    with torch.no_grad():
        total, _ = NextTokenLoss(twin)(inputs, targets)
    return total.item() / max(1, int((targets != -100).sum()))


def choose_device(name: str, model: nn.Module, batch: Batch, local_rank: int = 0) -> Choice:
    """The device of a name; for "auto", an accelerator if its loss is right, and else the CPU.

    local_rank: of several processes on a machine, each gets a GPU of its own.
    Raises ValueError for a device that is not here.
    """
    here = accelerators()
    if name != "auto":
        if name == "cuda" and here and here[0] != "mps":
            name = here[local_rank % len(here)]
        if name not in ("cpu", *here):
            raise ValueError(f"no device {name!r} here: there are {', '.join(['cpu', *here])}")
        return Choice(torch.device(name), "as asked for")
    cpu = torch.device("cpu")
    if not here:
        return Choice(cpu, "no accelerator here")
    candidate = here[local_rank % len(here)]
    expected = loss_on("cpu", model, batch)
    try:
        found = loss_on(candidate, model, batch)
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        return Choice(cpu, f"{candidate} failed on the first batch: {reason}")
    seen = f"{candidate} gives a loss of {found:.4f} on the first batch, the CPU {expected:.4f}"
    if not math.isclose(found, expected, rel_tol=TOLERANCE):
        return Choice(cpu, f"{seen}: it is not to be trusted")
    return Choice(torch.device(candidate), f"{seen}: equal within {TOLERANCE:g}")


def compiled(loss: nn.Module, batch: Batch) -> tuple[nn.Module, str]:
    """The loss with its model's blocks compiled, and a word on it; or as it was, where that fails.

    One block is compiled, and all are run by that. The loss itself goes through its rows in a
    Python loop, which would be compiled again for each length of a batch. Compiling happens at the
    first call: so there is one, on a batch, that leaves no trace.
    """
    blocks = loss.model.h
    device = next(loss.parameters()).device
    inputs, targets = (part.to(device) for part in batch)
    devices = [device] if device.type == "cuda" else []
    try:
        for block in blocks:  # B stays the same, T does not: compiled once for all lengths
            block.forward = torch.compile(block.forward, dynamic=True)
        with torch.random.fork_rng(devices):
            loss(inputs, targets)[0].backward()
        return loss, "compiled"
    except Exception as error:  # whatever it is: training works without
        for block in blocks:
            vars(block).pop("forward", None)
        torch._dynamo.reset()
        reason = str(error).strip().partition("\n")[0]
        return loss, f"not compiled, as that fails here ({type(error).__name__}: {reason})"
    finally:
        loss.zero_grad(set_to_none=True)
