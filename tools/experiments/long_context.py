"""How models fare beyond the length of their training: writes notebooks/results/long_context.csv.

    python tools/experiments/long_context.py            all runs, some minutes on one core
    python tools/experiments/long_context.py lengths    one of the experiments by itself

lengths: the loss by position, for kinds of positions that were trained on short windows of a stream
of stories. recall: pairs of a key and a value, recalled by kinds of attention. A run's rows are
appended when it ends, so that an interrupted experiment goes on where it was. Notebook 12 draws
the figures. distance: recall through a window, by how far back a value stood.
"""

import argparse
import csv
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from llmlib.evaluation.long_context import (
    fit,
    losses_at,
    recall_accuracy,
    recall_batches,
    recall_by_distance,
    stream_of_stories,
    windows,
)
from llmlib.model.modern import Modern, ModernConfig

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "notebooks" / "results" / "long_context.csv"
COLUMNS = ["experiment", "model", "seed", "x", "value", "seconds"]

SIZES = {"context_length": 512, "emb_dim": 48, "n_heads": 4, "n_layers": 2, "tie_weights": True}
TRAINED = 48  # tokens in a window of the training
LONG = 384  # tokens in a window of the measurement
BIN = 16  # positions that are averaged
POSITIONS: dict[str, dict[str, Any]] = {
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "rotary": {"positions": "rotary"},
    "ALiBi": {"positions": "none", "mask": "alibi"},
    "none": {"positions": "none"},
}
RULES = ("softmax", "linear", "delta")
PAIRS = (2, 4, 8, 16)
WINDOW = 12  # tokens that each one sees, itself included, in the experiment distance
MASKS: dict[str, Any] = {"causal": "causal", "window": {"name": "window", "width": WINDOW}}
STEPS = {"lengths": 400, "recall": 300, "distance": 300}
SEEDS = (0, 1, 2, 3, 4)


def seeded(seed: int) -> torch.Generator:
    """Return a generator with a seed."""
    return torch.Generator().manual_seed(seed)


def new(vocab_size: int, seed: int, **changes: Any) -> Modern:
    """Return a small model whose weights depend on the seed alone."""
    model = Modern(ModernConfig(**({"vocab_size": vocab_size} | SIZES | changes)))
    model.init_weights(0.05, generator=seeded(seed))
    return model


@lru_cache(1)
def streams() -> tuple[int, torch.Tensor, torch.Tensor]:
    """Return the size of the vocabulary, ids to train on and held-out ids."""
    tokenizer, ids = stream_of_stories(4000, seed=7)
    return tokenizer.vocab_size, ids, stream_of_stories(800, seed=8)[1]


def by_position(model: Modern, n_rows: int = 64) -> list[tuple[int, float]]:
    """Return the loss in bins of positions: (the first position, nats)."""
    held_out = streams()[2]
    rows = held_out[: len(held_out) // (LONG + 1) * (LONG + 1)].view(-1, LONG + 1)[:n_rows]
    losses = losses_at(model, rows).view(-1, BIN).mean(dim=1)
    return [(BIN * at, loss) for at, loss in enumerate(losses.tolist())]


def lengths(name: str, seed: int) -> list[tuple[int, float]]:
    """Train one of POSITIONS on short windows, and measure it beyond their length."""
    vocab_size, ids, _ = streams()
    batches = windows(ids, TRAINED, 16, seeded(100 + seed))
    model = fit(new(vocab_size, seed, **POSITIONS[name]), batches, STEPS["lengths"])
    return by_position(model)


def recall(name: str, seed: int, pairs: tuple[int, ...] = PAIRS) -> list[tuple[int, float]]:
    """Measure one of RULES by how many values it recalls."""
    model = new(128, seed, attention={"name": "linear_attention", "rule": name})
    fit(model, recall_batches(max(PAIRS), 16, seeded(300 + seed)), STEPS["recall"])
    return [(n, recall_accuracy(model, n, seeded(400))) for n in pairs]


def distance(name: str, seed: int) -> list[tuple[int, float]]:
    """Measure a model with one of MASKS by what it recalls from how far back."""
    attention = {"name": "linear_attention", "rule": "softmax"}
    model = new(128, seed, attention=attention, mask=MASKS[name])
    fit(model, recall_batches(max(PAIRS), 16, seeded(300 + seed)), STEPS["distance"])
    return [*recall_by_distance(model, max(PAIRS), 2, seeded(400)).items()]


RUNS: dict[str, tuple[Callable[[str, int], list[tuple[int, float]]], list[str]]] = {
    "lengths": (lengths, [*POSITIONS]),
    "recall": (recall, [*RULES]),
    "distance": (distance, [*MASKS]),
}


def header() -> str:
    """Return where the file comes from."""
    commit = ["git", "log", "-1", "--format=%h", "--", "llmlib", "tools/experiments"]
    found = subprocess.run(commit, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [
        "command: python tools/experiments/long_context.py",
        f"commit: {found.stdout.strip()}",
        f"versions: Python {platform.python_version()}, torch {torch.__version__}, one thread",
        "seconds: CPU-seconds of the whole run, in each of its rows",
    ]
    return "".join(f"# {line}\n" for line in lines) + ",".join(COLUMNS) + "\n"


def done() -> set[tuple[str, str, int]]:
    """Return the runs whose rows are there already."""
    if not PLACE.exists():
        PLACE.write_text(header(), encoding="utf-8")
    lines = PLACE.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {(row["experiment"], row["model"], int(row["seed"])) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", choices=[*RUNS, []], help="by default, all")
    torch.set_num_threads(1)
    chosen = parser.parse_args().experiments or list(RUNS)
    for experiment in chosen:
        measure, models = RUNS[experiment]
        for seed in SEEDS:
            for model in models:
                if (experiment, model, seed) in done():
                    continue
                began = time.process_time()
                values = measure(model, seed)
                seconds = round(time.process_time() - began, 1)
                with PLACE.open("a", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    for x, value in values:
                        writer.writerow([experiment, model, seed, x, f"{value:.4f}", seconds])
                print(experiment, model, seed, f"{seconds} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
