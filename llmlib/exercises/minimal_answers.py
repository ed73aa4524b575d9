"""For the checks of notebook 08: a small GPT2, and what is measured while an answer works on it.

Written by hand.
"""

import copy
import json
import tempfile
import weakref
from functools import wraps
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from llmlib.minimal import GPT2


def small_model(n_layer: int = 2) -> GPT2:
    """Return a GPT2 with random weights that are the same in every run."""
    model = GPT2(n_vocab=12, n_ctx=16, n_embd=8, n_head=2, n_layer=n_layer)
    generator = torch.Generator().manual_seed(28)
    for _, weight in sorted(model.named_parameters()):
        nn.init.normal_(weight, std=0.7, generator=generator)
    vars(model)["__name__"] = "model"  # what a message calls it
    return model.eval()


def multiplications(call, *args) -> int:
    """Return how many operations of matrix products a call takes, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*args)
    return counter.get_total_flops()


def saved(answer):
    """Return a function that saves a model by the answer, and gives what the files hold."""

    def save(model):
        with tempfile.TemporaryDirectory() as folder:
            answer(model, Path(folder))
            sizes = json.loads((Path(folder) / "hparams.json").read_text())
            data = (Path(folder) / "model.ckpt.data-00000-of-00001").read_bytes()
        return sizes, np.frombuffer(data, "<f4").copy()

    return save


def window_losses(
    model: nn.Module, ids: list[int], n_ctx: int, stride: int
) -> list[tuple[torch.Tensor, int]]:
    """Return for each window the losses of its targets, and how many of them are not new."""
    windows, counted = [], 0
    for start in range(0, len(ids) - 1, stride):
        inputs = torch.tensor([ids[start : start + n_ctx]])
        targets = torch.tensor(ids[start + 1 : start + n_ctx + 1])
        with torch.no_grad():
            logits = model(inputs)[0, : len(targets)]
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        windows.append((losses, counted - start))
        counted = start + len(targets)
        if counted == len(ids) - 1:
            break
    return windows


def greedy(model: nn.Module, ids: list[int], n: int) -> list[int]:
    """Return the n most probable tokens after some, one after the other."""
    text = list(ids)
    for _ in range(n):
        with torch.no_grad():
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return text[len(ids) :]


def measured(measure):
    """Return what turns an answer into the function that measures it, under the answer's name."""
    return lambda answer: wraps(answer)(lambda *args: measure(answer, *args))


def passes(answer, model: GPT2, *args) -> tuple[int, int]:
    """Return how often an answer calls a layer of the blocks, and on how many tokens, at most."""
    seen: dict[nn.Module, list[int]] = {}

    def count(module, inputs, output):
        seen.setdefault(module, []).append(inputs[0].numel() // 8)

    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if name.endswith(("c_attn", "mlp.c_fc")):
            module.register_forward_hook(count)
    answer(model, *args)
    return max(map(len, seen.values())), max(map(sum, seen.values()))


def at_once(model: GPT2, ids: torch.Tensor) -> float:
    """Compute the loss and all gradients as one usually does."""
    logits = model(ids[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    return loss.item()


def block_alone(model: GPT2, ids: torch.Tensor) -> None:
    model.h[0](torch.zeros(len(ids), ids.shape[1] - 1, 8, requires_grad=True))


def trained(
    answer, model: GPT2, ids: torch.Tensor, start: float | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return what an answer gives, and the gradients that it leaves, where some may have been."""
    model = copy.deepcopy(model)
    for weight in model.parameters():
        weight.grad = None if start is None else torch.full_like(weight, start)
    result = answer(model, ids)
    zeros = {name: torch.zeros_like(w) for name, w in model.named_parameters() if w.grad is None}
    return result, zeros | {n: w.grad for n, w in model.named_parameters() if w.grad is not None}


def peak(answer, model: GPT2, ids: torch.Tensor) -> int:
    """Return the largest number of numbers that autograd has saved at once, weights left out."""
    model = copy.deepcopy(model)
    weights = {weight.data_ptr() for weight in model.parameters()}
    held = [0, 0]  # now, and at most

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

    def release(size):
        held[0] -= size

    def pack(tensor):
        """Keep a tensor, and count it as long as it is kept."""
        kept = Held(tensor)
        if tensor.untyped_storage().data_ptr() not in weights:
            held[0] += tensor.numel()
            held[1] = max(held)
            weakref.finalize(kept, release, tensor.numel())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        answer(model, ids)
    return held[1]
