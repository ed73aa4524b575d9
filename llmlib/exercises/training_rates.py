"""Check of exercise 06.6, the slopes of the rates; `pretraining` has the others of notebook 06."""

import functools
import itertools
import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmlib.exercises import case, exercise, noise


class AliveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside and still alive; `most` is the peak."""

    def __init__(self):
        super().__init__()
        self.storages: dict[int, Any] = {}
        self.bytes = self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        """Count a storage once, until it is freed."""
        key, size = storage._cdata, storage.nbytes()
        if key not in self.storages:
            self.storages[key] = weakref.finalize(storage, self.forget, key, size)
            self.bytes += size
            self.most = max(self.most, self.bytes)

    def forget(self, key: int, size: int) -> None:
        """Take a storage that was freed off the count."""
        del self.storages[key]
        self.bytes -= size


def with_little(answer: Callable) -> Callable:
    """Return the answer, refused where it changes what is given, or needs too much of it."""

    @functools.wraps(answer)
    def called(loss, weight, rates, momentum):
        """Return the answer's result, its tensors and its calls of the loss counted."""
        calls, alive, n = itertools.count(1), AliveTensors(), len(rates)
        given = weight.clone(), rates.clone()

        def counted(w: torch.Tensor, k: int) -> torch.Tensor:
            if next(calls) > 4 * n + 1:
                raise RuntimeError(f"more than 4 n + 1 = {4 * n + 1} calls of the loss")
            return loss(w, k)

        with alive:
            result = answer(counted, *given, momentum)
        if not (torch.equal(given[0], weight) and torch.equal(given[1], rates)):
            raise RuntimeError("the given tensors were changed")
        most, tensors = 6 * math.sqrt(n) + 30, alive.most / weight.nbytes
        if n >= 100 and tensors > most:  # small tensors, such as the result, count for little here
            raise RuntimeError(
                f"up to {tensors:.0f} tensors of the size of the weight were alive, "
                f"where 6 √n + 30 = {most:.0f} are allowed"
            )
        return result.detach() if isinstance(result, torch.Tensor) else result

    return called


def unrolled(loss, weight, rates, momentum, *, constant=False, forgets=False, old=False, last=None):
    """Return the derivatives by the graph of the whole run; the options are mistakes."""
    rates, w, v = rates.clone().requires_grad_(), weight.clone().requires_grad_(), 0.0 * weight
    for k, rate in enumerate(rates):
        (g,) = torch.autograd.grad(loss(w, k), w, create_graph=True)
        before, kept = v, v.detach() if forgets else v
        v = momentum * kept + (g.detach() if constant else g)
        w = w - rate * (before if old else v)
    end = loss(w, len(rates) if last is None else last)
    (slopes,) = torch.autograd.grad(end, rates, allow_unused=True)
    return torch.zeros_like(rates) if slopes is None else slopes


def half_square(w: torch.Tensor, k: int) -> torch.Tensor:
    """The loss of the worked example: w² / 2 at every step."""
    return w.square().sum() / 2


def waves(size: int, steps: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Return a loss whose curvature changes with the weight, and with the step."""
    steep = torch.linspace(0.2, 1.0, size)
    targets = [0.7 * noise(size, seed=100 + k) for k in range(steps + 1)]

    def wavy(w: torch.Tensor, k: int) -> torch.Tensor:
        return (1 - torch.cos(w - targets[k])) @ steep

    return wavy


@exercise("06.6")
def each_rate_has_a_slope():
    """06.6: derivatives of the final loss by the rate of each step, in little memory."""

    def given(loss, weight, rates, momentum, tolerance=1e-4):
        """Return a case: a run, and what the slow derivative gives."""
        run, n = (loss, weight, rates, momentum), len(rates)
        right = unrolled(*run)
        wrong = {
            "the gradient of a step changes with the weight: its derivative is missing": {
                "constant": True
            },
            "the velocity carries a change on to later steps": {"forgets": True},
            "a step moves by the new velocity": {"old": True},
            f"the final loss is loss(w, {n}), which no step has seen": {"last": n - 1},
        }
        mistakes: dict[str, Any] = {it: unrolled(*run, **how) for it, how in wrong.items()}
        mistakes["the sign is wrong"] = -right
        mistakes["that is the slope of one rate for all steps"] = lambda result: (
            result.numel() == 1 < n
            and math.isclose(float(result), float(right.sum()), rel_tol=0.01)
        )
        mistakes["a rate or a momentum of 0 is divided by"] = lambda result: bool(
            result.isnan().any() or result.isinf().any()
        )
        options: dict[str, Any] = {"through": with_little, "tolerance": tolerance}
        return case(*run, expected=right, mistakes=mistakes, **options)

    yield given(half_square, torch.ones(1), torch.tensor([0.0, 0.5]), 0.5)
    yield given(waves(3, 1), noise(3, seed=1), torch.tensor([0.3]), 0.9)
    yield given(waves(3, 5), noise(3, seed=2), torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2]), 0.6)
    yield given(waves(4, 7), noise(4, seed=3), torch.full((7,), 0.3), 0.0)
    falling = torch.linspace(0.008, 0.0, 196)
    yield given(waves(400, 196), noise(400, seed=4), falling, 0.9, tolerance=1e-3)
