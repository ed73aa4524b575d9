"""One process or many: who this one is, and what all have to agree on.

Written by hand. `torchrun` starts the processes and tells each of them its place by environment
variables. Rank 0 is the one writer: it alone makes folders, saves, measures and prints.
"""

import os
from collections.abc import Callable
from types import TracebackType

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Processes:
    """This process among all: a context in which they are connected, if there are several."""

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))

    @property
    def is_writer(self) -> bool:
        return self.rank == 0

    def __enter__(self) -> "Processes":
        if self.world > 1:
            gpu = torch.cuda.is_available() and dist.is_nccl_available()
            if gpu:
                torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
            # both: gloo for what is agreed on the CPU, nccl for gradients on GPUs
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
        # what gloo and nccl raise in all the others when one process ends
        if self.world > 1 and isinstance(error, RuntimeError) and "onnection" in str(error):
            raise self.lost() from None

    def lost(self) -> ConnectionError:
        """The error of a process that can not go on because another one failed."""
        return ConnectionError(f"process {self.rank} stops, as another one failed: see its message")

    def by_writer(self, work: Callable[[], object]) -> object:
        """Let rank 0 do something alone, and give what it returns to all.

        Where it fails, its error is raised in rank 0, and ConnectionError in the others.
        """
        if self.world == 1:
            return work()
        box, failure = [None, False], None
        if self.is_writer:
            try:
                box = [work(), True]
            except BaseException as error:  # the others wait, whatever it is
                failure = error
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if not box[1]:
            raise failure or self.lost()
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags)

    def command(self) -> str:
        """What starts as many processes as these are."""
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        nodes = f"--nnodes={self.world // here} … " * (self.world > here)
        many = f"torchrun {nodes}--nproc_per_node={here} -m "
        return many * (self.world > 1) + "llmlib"

    def wrap(self, loss: nn.Module) -> nn.Module:
        """The loss as each process trains it: with gradients that are the mean over all of them."""
        return DistributedDataParallel(loss) if self.world > 1 else loss
