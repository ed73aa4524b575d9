"""Training or evaluation: dropout off while a model is read, and every part as it was afterwards.

Written by hand. Evaluation and generation use it, several at once if they like. What is left out:
a training step in another thread meanwhile; give each thread that trains a model of its own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LOCK = threading.Lock()
# id of a model -> how many are inside, and the parts that were training when the first one entered
INSIDE: dict[int, tuple[int, list[nn.Module]]] = {}


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
    with LOCK:
        count, training = INSIDE.get(id(model), (0, []))
        if count == 0 and (training := [part for part in parts if part.training]):
            parts[0].eval()  # calls what a model may have to do for it
        INSIDE[id(model)] = count + 1, training
    try:
        with torch.no_grad():
            yield
    finally:
        with LOCK:
            count, training = INSIDE.pop(id(model))
            if count > 1:
                INSIDE[id(model)] = count - 1, training
            else:
                for part in training:
                    part.training = True
