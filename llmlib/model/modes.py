"""Training or evaluation: dropout off while a model is read, and every part as it was afterwards.

Written by hand. Evaluation and generation use it, several at once if they like. What is left out:
a training step in another thread meanwhile; give each thread that trains a model of its own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LOCK = threading.RLock()
# id of a model -> the callers that are inside, and the parts that were training before the first
INSIDE: dict[int, tuple[set[object], list[nn.Module]]] = {}


@contextmanager
def evaluating(
    model: Callable[..., Tensor], parts: list[nn.Module] | None = None
) -> Iterator[None]:
    """Keep no gradients and drop nothing out; restore the mode of each part afterwards.

    Of several callers, also in other threads, the last one to leave restores it. parts: the modules
    of the model, from a caller who comes often and has listed them.
    """
    if parts is None:
        parts = list(model.modules()) if isinstance(model, nn.Module) else []
    caller, keeps_gradients = object(), torch.is_grad_enabled()
    try:  # from here on: an interrupt while entering leaves like any other error
        with LOCK:
            training = [part for part in parts if part.training]
            callers, training = INSIDE.setdefault(id(model), (set(), training))
            callers.add(caller)
            if len(callers) == 1 and training:
                parts[0].eval()  # calls what a model may have to do for it
        torch.set_grad_enabled(False)
        yield
    finally:
        torch.set_grad_enabled(keeps_gradients)
        with LOCK:
            leave(model, caller)


def leave(model: Callable[..., Tensor], caller: object) -> None:
    """Let a caller go, if it came in; the last one restores the mode of each part."""
    callers, training = INSIDE.get(id(model), (set(), []))
    callers.discard(caller)
    if not callers:
        for part in training:
            part.training = True
        INSIDE.pop(id(model), None)
