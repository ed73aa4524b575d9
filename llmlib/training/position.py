"""Where training stands in its data, and the random states that bring its order back.

Written by hand; notebook 06 explains it in section 12. The order of an epoch is drawn when it
begins. To return to its middle, the random generators go back to that moment, the same order is
drawn again, and the batches that were read are skipped. What is left out: loaders that can jump to
a batch without reading those before.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from llmlib import checks


def find_generators(loader: Any) -> list[torch.Generator]:
    """Return the random generators that a loader draws its order from, each one once."""
    own = getattr(loader, "generator", None)
    found = [own] if isinstance(own, torch.Generator) else []
    for name in ("sampler", "batch_sampler"):  # where torch's loaders and samplers keep each other
        inner = getattr(loader, name, None)
        found += find_generators(inner) if inner is not None else []
    return list(dict.fromkeys(found))


def random_states(loader: Iterable | None = None) -> dict[str, torch.Tensor]:
    """Return the states of torch's own generators and of a loader's, as tensors of bytes."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
    return states | {f"loader.{n}": g.get_state() for n, g in enumerate(find_generators(loader))}


def restore_random_states(states: dict[str, torch.Tensor], loader: Iterable | None = None) -> None:
    """Put generators back to what `random_states` returned, as far as they are here."""
    generators = find_generators(loader)
    for name, state in states.items():
        kind, _, number = name.partition(".")
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == "cuda" and int(number) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(number))
        elif kind == "loader" and int(number) < len(generators):
            generators[int(number)].set_state(state)


class Position:
    """Where training stands in its data: the epoch, and how many of its batches were read."""

    def __init__(self) -> None:
        self.epoch = self.batch = 0
        self.n_batches: int | None = None  # of an epoch, if the loader knows it
        self.epoch_start: dict[str, torch.Tensor] = {}  # random states when the epoch began
        self.loader: Iterable = ()  # the one that is being read

    def batches(self, loader: Iterable) -> Iterator:
        """Return the batches from here on, epoch after epoch, without an end.

        Raises TypeError for a loader that can be read only once, and ValueError for one that is
        empty or has another number of batches than before.
        """
        self.n_batches = checks.loader(loader, self.batch, self.n_batches)
        self.loader = loader
        return self.read(loader)

    def read(self, loader: Iterable) -> Iterator:
        """Yield the batches of a loader from here on."""
        rest = self.resume_epoch(loader) if self.batch else self.start_epoch(loader)
        while True:
            for batch in rest:
                self.batch += 1
                yield batch
            checks.require(self.batch, "the loader gives no batches: there is nothing to train on")
            self.epoch, self.batch = self.epoch + 1, 0
            rest = self.start_epoch(loader)

    def start_epoch(self, loader: Iterable) -> Iterator:
        """Begin to read a loader, and note the random states of this moment."""
        self.epoch_start = random_states(loader)
        return iter(loader)

    def resume_epoch(self, loader: Iterable) -> Iterator:
        """Read a loader as in the epoch that was interrupted, up to where it was."""
        now = random_states()
        restore_random_states(self.epoch_start, loader)
        batches = iter(loader)
        deque(islice(batches, self.batch), maxlen=0)  # draws the order, then skips what was read
        restore_random_states(now)
        return batches

    def moment(self) -> tuple:
        """Return where training stands now, random states included, for `return_to`."""
        place = self.epoch, self.batch, self.n_batches, self.epoch_start
        return *place, random_states(self.loader)

    def return_to(self, moment: tuple) -> None:
        """Go back to a moment: `batches` then gives again what it gave after it."""
        self.epoch, self.batch, self.n_batches, self.epoch_start, random = moment
        restore_random_states(random, self.loader)
