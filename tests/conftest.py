"""What tests of several rooms share. This file also makes `tests/toy.py` importable from them."""

import gc
import signal

import pytest
import torch.distributed as dist
from toy import Toy


def take_signals() -> None:
    """Take the signals again that `nohup` and a shell's `&` ignore, here and in all children."""
    for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTERM"):
        number = getattr(signal, name, None)  # Windows has two of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(number, usual)


take_signals()


@pytest.fixture
def toy():
    """A model of the protocol that is not a GPT, in evaluation mode."""
    return Toy().eval()


@pytest.fixture
def process_group(tmp_path):
    """A group of one process, over gloo.

    What was put inside DistributedDataParallel goes before the group does: torch's destructor of a
    group waits for its threads, and those may wait for the interpreter that the destructor holds.
    """
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    gc.collect()
    dist.destroy_process_group()
