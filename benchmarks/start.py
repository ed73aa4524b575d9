"""How long the command line takes to answer: `python benchmarks/start.py`, about half a minute.

Each line is the median of 7 whole processes, alternating so that a busy moment meets all.
`llmlib generate` counts from its start to the first character of its first token, on stdout, with
the small GPT-2 that ships. An interpreter that does nothing, and one that imports torch, show how
much of that is not ours. The seconds are right on a quiet machine only; the CPU-seconds of the
whole process are nearly right on a busy one.
"""

import os
import statistics
import subprocess
import sys
import time

RUNS = 7
LIMITS = {"llmlib --help": 0.5, "llmlib generate, to its first token": 2.0}  # seconds
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import torch'": ["-c", "import torch"],
    "llmlib --help": ["-m", "llmlib", "--help"],
    "llmlib generate, to its first token": [
        *("-m", "llmlib", "generate", "--checkpoint", "gpt2/nano", "--device", "cpu"),
        *("--max-new-tokens", "1", "--seed", "1"),
    ],
}


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Start Python; return the seconds to its first character, or to its end, and CPU-seconds."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        if not process.stdout.read(1):
            process.wait()
        elapsed = time.perf_counter() - start
        process.stdout.read()
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    used = os.times()
    cpu = used.children_user + used.children_system
    return elapsed, cpu - before.children_user - before.children_system


def main() -> None:
    times = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    print(f"{'':<38} seconds  (from, to)       CPU-seconds")
    for name, values in times.items():
        elapsed, cpu = zip(*values)
        limit = f"   at most {LIMITS[name]} s wanted" if name in LIMITS else ""
        spread = f"({min(elapsed):.2f}, {max(elapsed):.2f})"
        middle = statistics.median(elapsed)
        print(f"{name:<38} {middle:7.2f}  {spread:<15} {statistics.median(cpu):7.2f}{limit}")


if __name__ == "__main__":
    main()
