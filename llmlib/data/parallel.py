"""One function for many items, in as many processes as there are cores, with results in order.

Written by hand, since the pools of the standard library wait for ever when one of their processes
is killed, or leave processes behind when the first one is. Here each process has a pipe of its own:
if either end is gone, the other notices. A process calls nothing but the function, so it may be
forked from a program that has threads, as long as the function starts none and calls no torch.
"""

import gc
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from llmlib import checks

MOST = 16  # processes: more than these the first one could hardly feed, and each takes 30 MB
T = TypeVar("T")
R = TypeVar("R")


def n_cores() -> int:
    """Return how many cores this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def parallel_map(
    function: Callable[[T], R],
    items: Iterable[T],
    n_processes: int | None = None,
    method: str | None = None,
) -> Generator[R, None, None]:
    """Yield function(item) for each item, in order, computed in other processes.

    n_processes: by default as many as there are cores, up to MOST; 1 computes here. method: "fork",
    which needs little time and memory, or "spawn", for which function must be picklable; by default
    "fork" where that is safe. Raises what the function raises, and ChildProcessError if a process
    dies; afterwards, and when the iterator is closed, no process is left.
    """
    n = n_processes or min(n_cores(), MOST)
    if n == 1 or multiprocessing.current_process().daemon:  # a daemon may have no children
        yield from map(function, items)
        return
    context = multiprocessing.get_context(
        method or ("fork" if sys.platform == "linux" else "spawn")
    )
    workers, busy = [], deque()
    try:
        for item in items:
            if len(workers) < n:
                workers.append(worker := Worker(context, function))
            else:
                worker = busy.popleft()
                yield worker.receive()
            worker.send(item)
            busy.append(worker)
        while busy:
            yield busy.popleft().receive()
    finally:
        for worker in workers:
            worker.stop()


class Worker:
    """A process that applies a function to what it is sent."""

    def __init__(self, context: Any, function: Callable):
        self.connection, other = context.Pipe()
        self.process = context.Process(
            target=serve, args=(function, other, self.connection), daemon=True
        )
        with warnings.catch_warnings():  # Python 3.12 warns of threads when it forks: see above
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        other.close()  # so that it is closed when the process ends

    def send(self, item: object) -> None:
        """Give the process its next item, when it has answered the last."""
        with checks.lives(self.process):
            self.connection.send(item)

    def receive(self) -> Any:
        """Return the result for the last item, or raise what the function raised."""
        with checks.lives(self.process):
            result, error = self.connection.recv()
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.kill()  # a process that has hardly begun ignores SIGTERM if we do
        self.process.join()


def serve(function: Callable, connection: Connection, other: Connection) -> None:
    """Answer items with (result, error) until the other end of the pipe is gone."""
    gc.freeze()  # or collecting garbage would copy all the memory that we share with the first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    other.close()  # our copy of it, which would keep the pipe open
    with suppress(EOFError, OSError):
        while True:
            item = connection.recv()
            try:
                answer = function(item), None
            except Exception as error:
                answer = None, error
            connection.send(answer)
