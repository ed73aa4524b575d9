"""Old against new: the same work by two checkouts, alternating, and the ratio with its uncertainty.

Written by hand. Each checkout works in its own process, which imports that checkout's llmlib,
warms up, and then works whenever it is asked to, so that a machine that is busy slows both. What is
compared are CPU-seconds of one thread. A worker is a script that calls `serve`.
"""

import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class Worker:
    """A process that does a piece of work in a checkout when asked, and says what it took."""

    def __init__(self, root: Path, script: Path, arguments: Sequence[str]):
        if not (root / "llmlib").is_dir():
            raise FileNotFoundError(f"{root} is not a checkout of the course: it has no llmlib")
        environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=root,
        )
        self.answer()  # the warm-up is over

    def answer(self) -> str:
        """Return the next line that the worker says. Raises RuntimeError if it has died."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {self.process.args} died, see above")
        return line

    def seconds(self) -> float:
        """Let it work once, and return the CPU-seconds."""
        self.process.stdin.write("work\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def serve(work: Callable[[], object]) -> None:
    """In a worker: do the work twice to warm up, then once for each line of the input."""
    work(), work()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        work()
        print(time.process_time() - start, flush=True)


def ratios(old: Path, new: Path, script: Path, arguments: Sequence[str], n: int) -> list[float]:
    """Return n times the seconds of the old checkout over those of the new; above 1, new is faster.

    Old and new alternate in who begins a pair.
    """
    workers = [Worker(root, script, arguments) for root in (old, new)]
    try:
        pairs = []
        for number in range(n):
            order = workers if number % 2 else workers[::-1]
            taken = {worker: worker.seconds() for worker in order}
            pairs.append(taken[workers[0]] / taken[workers[1]])
        return pairs
    finally:
        for worker in workers:
            worker.close()


def interval(values: Sequence[float], share: float = 0.95, n: int = 10_000) -> tuple[float, float]:
    """Return the bootstrap interval of the median (percentile method, Efron 1979)."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(n))
    cut = round((1 - share) / 2 * n)
    return medians[cut], medians[n - 1 - cut]


def compare(old: Path, new: Path, script: Path, figures: dict[str, list[str]], n: int) -> None:
    """Print the median ratio of each figure with its interval, and the geometric mean of all.

    figures: what each one is called, and the arguments that its workers get.
    """
    print(f"seconds of {old.name} / seconds of {new.name}: above 1, {new.name} is faster")
    print(f"{'':24s}{'median':>8s}   95 % of medians   ({n} pairs, CPU-seconds of one thread)")
    medians = []
    for name, arguments in figures.items():
        found = ratios(old, new, script, arguments, n)
        low, high = interval(found)
        medians.append(statistics.median(found))
        print(f"{name:24s}{medians[-1]:8.3f}   {low:.3f} to {high:.3f}", flush=True)
    print(f"{'geometric mean':24s}{math.prod(medians) ** (1 / len(medians)):8.3f}")
