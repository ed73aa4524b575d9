"""Runs the command line again and again, and kills it at random moments: `kill -9`.

    python cli_killer.py RUN TIMES ARGUMENTS...

A separate program, because it forks: torch is imported once and has no threads yet. Each turn
begins the run with ARGUMENTS, or resumes it once there is something to resume. Prints a JSON list:
"killed" or "done" for each turn, and behind it the step of the checkpoint that was found intact.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import llmlib.cli.train
import llmlib.plots  # noqa: F401 - imported once, and not after each fork
from llmlib.__main__ import main
from llmlib.training.checkpoint import load_checkpoint


def state(path):
    """Something that is another one as soon as a file was replaced."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def turn(arguments, manifest, saves, seconds):
    """Run the command line until it saved some times and for some seconds more, and kill it.

    Counting what it saved, and not the time alone, meets its steps on a slow machine too. Returns
    "killed", or "done" where it came to its end with exit code 0.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(arguments))
    last, end = state(manifest), None
    while end is None or time.monotonic() < end:
        if (now := state(manifest)) != last:
            last, saves = now, saves - 1
        if saves <= 0 and end is None:
            end = time.monotonic() + seconds
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return "done"
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "killed"


def torment(run, times, begin):
    rng, outcomes = random.Random(1), []
    while outcomes.count("killed") < times:
        resume = (run / "config.yaml").exists()
        arguments = ["train", "--resume", str(run)] if resume else begin
        # at its beginning, or in the middle of its steps
        saves, longest = rng.choice([(0, 0.05), (0, 0.4), (1, 0.02), (2, 0.02), (3, 0.02)])
        manifest = run / "latest" / "checkpoint.json"
        outcomes.append(turn(arguments, manifest, saves, longest * rng.random()))
        for name in ("latest", "best"):
            if (run / name / "checkpoint.json").exists():
                outcomes.append(load_checkpoint(run / name).step)  # verified to the last byte
    return outcomes


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(torment(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
