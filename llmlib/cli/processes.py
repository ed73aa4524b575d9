"""One process or many: which one this is, and what all of them have to agree on.

Written by hand. `torchrun` starts the processes and tells each its place by environment variables.
Rank 0 is the only writer: it alone makes folders, saves, evaluates and prints.
"""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from llmlib import checks
from llmlib.cli.console import tell

T = TypeVar("T")
CPU = torch.device("cpu")


class Processes:
    """This process among all; as a context manager, it connects them if there are several."""

    def __init__(self):
        self.world, self.rank, self.local_rank, self.local_world = checks.place(os.environ)
        self.group: dist.ProcessGroup | None = None  # for what is agreed on; None: the default one

    @property
    def is_writer(self) -> bool:
        return self.rank == 0

    def __enter__(self) -> "Processes":
        if self.world > 1:
            checks.meeting_place(os.environ)
            gpu = torch.cuda.is_available() and dist.is_nccl_available()
            if gpu:
                torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
            # both: gloo for what is agreed on the CPU, nccl for gradients on GPUs
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
            # one of its own for what takes as long as it takes (preparing a text, a look at the
            # samples): a process that dies is noticed at once, and one that works is waited for
            self.group = dist.new_group(backend="gloo", timeout=timedelta(days=365))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
        # what gloo and nccl raise in all the others when one process ends
        if self.world > 1 and isinstance(error, RuntimeError) and "onnection" in str(error):
            raise self.lost() from None

    def lost(self) -> ConnectionError:
        """Return the error of a process that cannot go on because another one failed."""
        return ConnectionError(f"process {self.rank} stops, as another one failed: see its message")

    def say(self, text: str) -> None:
        """Print a line, once for all processes."""
        if self.is_writer:
            tell(text)

    def by_writer(self, work: Callable[[], T]) -> T:
        """Let rank 0 alone do some work, and return its result in all processes.

        If the work fails, rank 0 raises its error, and the others raise ConnectionError.
        """
        if self.world == 1:
            return work()
        message: list = [None, False]  # the result, and whether there is one
        failure: BaseException = self.lost()
        if self.is_writer:
            try:
                message = [work(), True]
            except BaseException as error:  # whatever it is: the others wait
                failure = error
        dist.broadcast_object_list(message, src=0, group=self.group, device=CPU)
        if not message[1]:
            raise failure
        return message[0]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.world == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.group)
        return bool(flags)

    def command(self) -> str:
        """Return the command that starts as many processes as these are."""
        here = self.local_world
        nodes = f"--nnodes={self.world // here} … " * (self.world > here)
        many = f"torchrun {nodes}--nproc_per_node={here} -m "
        return many * (self.world > 1) + "llmlib"


class StopRequest:
    """Notes Ctrl-C (SIGINT), SIGTERM and a closed terminal (SIGHUP): no step is left half taken.

    A second Ctrl-C or SIGTERM ends the process at once, with the last checkpoint on disk. SIGHUP
    may come twice, from the terminal and from its shell, and behind a SIGTERM: it ends nothing at
    once. A process started with `nohup` is meant to ignore it.
    """

    def __enter__(self) -> "StopRequest":
        self.made = False
        numbers = [signal.SIGINT, signal.SIGTERM]
        # under torchrun, which hears it for its processes and then kills them, it is not ignored
        if hasattr(signal, "SIGHUP") and (
            signal.getsignal(signal.SIGHUP) != signal.SIG_IGN or "TORCHELASTIC_RUN_ID" in os.environ
        ):
            numbers.append(signal.SIGHUP)
        self.before = {number: signal.signal(number, self.note) for number in numbers}
        return self

    def note(self, *_: object) -> None:
        self.made = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
