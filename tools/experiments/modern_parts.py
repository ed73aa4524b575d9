"""What each change since GPT-2 is worth: writes notebooks/results/modern_parts.csv.

    python tools/experiments/modern_parts.py              all runs, half an hour on one core
    python tools/experiments/modern_parts.py --calibrate  what a step of each variant costs

The base is the GPT of notebook 06; each variant changes one thing in it. Two things are the same
for all: the number of parameters, which the width of the feed-forward layers makes up for, and the
time, since a variant whose step costs a tenth more takes a tenth fewer steps (COSTS, measured
once). A variant begins with the weights of its own seed and reads the stories of that seed in the
same order. A row is written after each run, so that an interrupted experiment goes on where it was.
Notebook 11 draws the figures.
"""

import argparse
import csv
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock

from llmlib import stories
from llmlib.data.batches import create_document_loader
from llmlib.evaluation.perplexity import evaluate
from llmlib.files import write_text
from llmlib.model.modern import Modern, ModernConfig
from llmlib.tokenization.words import WordTokenizer
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "notebooks" / "results" / "modern_parts.csv"

BASE = {
    "context_length": 192,
    "emb_dim": 96,
    "n_heads": 4,
    "n_layers": 2,
    "norm": "layer",
    "positions": "learned",
    "feed_forward": "gelu",
    "qkv_bias": True,
    "o_bias": True,
    "mlp_bias": True,
    "tie_weights": True,
}
NO_BIASES = {"qkv_bias": False, "o_bias": False, "mlp_bias": False}
TOGETHER = {
    **NO_BIASES,
    "norm": "rms",
    "positions": "rotary",
    "feed_forward": "swiglu",
    "n_kv_heads": 2,
    "qk_norm": True,
    "zero_init": True,
}
VARIANTS = {
    "base": {},
    "a tenth more time": {},
    "no biases": NO_BIASES,
    "RMSNorm": {"norm": "rms"},
    "rotary": {"positions": "rotary"},
    "SwiGLU": {"feed_forward": "swiglu"},
    "ReLU²": {"feed_forward": "relu2"},
    "2 key heads": {"n_kv_heads": 2},
    "1 key head": {"n_kv_heads": 1},
    "q and k normed": {"qk_norm": True},
    "zero-init": {"zero_init": True},
    "untied": {"tie_weights": False},
    "capped at 30": {"logit_cap": 30.0},
    "together": TOGETHER,
    "picked": {"positions": "rotary", "tie_weights": False},  # what won with SEEDS
}
# CPU-seconds of a step, in those of the base: medians of `--calibrate`
COSTS = {
    "no biases": 0.98,
    "RMSNorm": 1.06,
    "rotary": 1.10,
    "SwiGLU": 0.99,
    "ReLU²": 0.99,
    "2 key heads": 1.02,
    "1 key head": 1.03,
    "q and k normed": 1.12,
    "untied": 0.90,
    "capped at 30": 1.12,
    "together": 1.20,
    "picked": 1.00,
}
SEEDS, NEW_SEEDS = range(5), range(5, 10)
# A choice is not tested on the seeds with which it was made
RUNS = [(seed, variant) for seed in SEEDS for variant in VARIANTS if variant != "picked"]
RUNS += [(seed, variant) for seed in NEW_SEEDS for variant in ("base", "picked")]
STEPS = 450  # of the base
MARKS = (0.2, 0.4, 0.7, 1.0)  # shares of a run after which the loss is measured
BATCH = 8
TRAINING = TrainConfig(
    STEPS,
    1e-2,
    final_fraction=0.0,
    warmup_steps=50,
    weight_decay=0.01,
    betas=(0.9, 0.99),
    optimizer="muon",
)
INIT_STD = 0.05
COLUMNS = ["variant", "seed", "steps", "parameters", "seconds", "loss", "excess"]
COLUMNS += [f"{kind}_{mark:.0%}" for mark in MARKS for kind in ("steps", "seconds", "loss")]


@lru_cache(1)
def language() -> tuple[WordTokenizer, list[list[int]], float]:
    """Return the tokenizer, the ids of the held-out stories, and their floor, in nats per token."""
    known = " ".join(story.text for story in stories.tell_many(2000, seed=1))
    tokenizer, held_out = WordTokenizer.from_text(known), stories.tell_many(200, seed=2)
    ids = [tokenizer.encode(story.text) for story in held_out]
    assert not any(tokenizer.special_tokens["<|unk|>"] in text for text in ids)
    n_tokens = sum(len(text) + 1 for text in ids)
    return tokenizer, ids, -sum(story.log_prob for story in held_out) / n_tokens


@lru_cache(1)
def stories_of(seed: int) -> list[list[int]]:
    """Return the ids of the stories of a seed: more than any variant reads, all new."""
    told = stories.tell_many(3 * STEPS * BATCH // 2, seed=100 + seed)
    return [language()[0].encode(story.text) for story in told]


@lru_cache
def config_of(variant: str) -> ModernConfig:
    """Return the configuration of a variant, as wide as it takes to have the base's parameters."""
    fields = {"vocab_size": language()[0].vocab_size, **BASE}
    with torch.device("meta"):
        wanted = Modern(ModernConfig(**fields)).num_parameters()
        sizes = {}
        for hidden in range(160, 800, 8):
            config = ModernConfig(**fields | VARIANTS[variant] | {"hidden_dim": hidden})
            sizes[config] = abs(Modern(config).num_parameters() - wanted)
    return min(sizes, key=lambda config: sizes[config])


def plan(variant: str) -> TrainConfig:
    """Return the settings of training: as many steps as fit the time of the base."""
    steps = round(STEPS / COSTS.get(variant, 1.0) * (1.1 if variant == "a tenth more time" else 1))
    return replace(TRAINING, max_steps=steps)


def start(variant: str, seed: int) -> tuple[Trainer, Iterator]:
    """Return the trainer of a run, and its steps."""
    model = Modern(config_of(variant))
    model.init_weights(INIT_STD, generator=torch.Generator().manual_seed(seed))
    order = torch.Generator().manual_seed(seed)
    end = language()[0].eot_token
    loader = create_document_loader(stories_of(seed), end, BATCH, generator=order)
    trainer = Trainer(model, plan(variant))
    return trainer, trainer.run(loader)


def run(variant: str, seed: int, marks: tuple[float, ...] = MARKS) -> dict:
    """Train a variant as far as the last of the marks, and return its row."""
    tokenizer, held_out, floor = language()
    loader = create_document_loader(held_out, tokenizer.eot_token, 50, shuffle=False)
    trainer, reports = start(variant, seed)
    steps, seconds, loss = trainer.config.max_steps, 0.0, float("nan")
    row = {"variant": variant, "seed": seed, "steps": steps}
    row["parameters"] = trainer.model.num_parameters()
    for mark in marks:
        began = time.process_time()
        while trainer.step < round(mark * steps):
            next(reports)
        seconds += time.process_time() - began  # what it takes to measure does not count
        loss = evaluate(trainer.model, loader).loss
        values = {"steps": trainer.step, "seconds": round(seconds, 2), "loss": round(loss, 5)}
        row |= {f"{kind}_{mark:.0%}": value for kind, value in values.items()}
    return row | {
        "seconds": round(seconds, 2),
        "loss": round(loss, 5),
        "excess": round(loss / floor - 1, 5),
    }


def calibrate(rounds: int = 10) -> None:
    """Print what a step of each variant costs, in turns, so that a busy machine meets all."""
    runs = {variant: start(variant, 0)[1] for variant in VARIANTS}
    times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, reports in runs.items():
            next(reports)  # puts the weights back into the processor's cache
            began = time.process_time()
            for _ in range(10):
                next(reports)
            times[variant].append(time.process_time() - began)
    for variant, taken in times.items():
        ratios = [own / base for own, base in zip(taken[2:], times["base"][2:])]
        print(f"    {variant!r}: {statistics.median(ratios):.2f},")


def read() -> list[dict]:
    """Return the rows that are there already."""
    if not PLACE.exists():
        return []
    lines = PLACE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def write(rows: list[dict]) -> None:
    """Write the rows under a header that says where they come from."""
    parts = [f"llmlib/{room}" for room in ("model", "training")]
    commit = ["git", "log", "-1", "--format=%h", "--", *parts]
    found = subprocess.run(commit, cwd=ROOT, capture_output=True, text=True, check=True)
    floor = language()[2]
    header = [
        "command: python tools/experiments/modern_parts.py",
        f"commit: {found.stdout.strip()}, the last one that changed models or training",
        f"versions: Python {platform.python_version()}, torch {torch.__version__}, one thread",
        f"CPU-seconds of training: {sum(float(row['seconds']) for row in rows):.0f}",
        f"floor of the held-out stories, nats per token: {floor:.6f}",
        f"base: {json.dumps(BASE)}",
        *(f"variant {name}: {json.dumps(VARIANTS[name])}" for name in VARIANTS),
    ]
    order = [*VARIANTS]
    rows.sort(key=lambda row: (int(row["seed"]), order.index(row["variant"])))
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    lines = "".join(f"# {line}\n" for line in header)
    write_text(PLACE, lines + table.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calibrate", action="store_true", help="measure the cost of steps")
    parser.add_argument("--seeds", type=int, nargs="*", help="only these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.calibrate:
        return calibrate()
    for seed, variant in RUNS:
        wanted = arguments.seeds is None or seed in arguments.seeds
        there = {(int(row["seed"]), row["variant"]) for row in read()}
        if wanted and (seed, variant) not in there:
            row = run(variant, seed)
            # others may work on other seeds
            with FileLock(Path(tempfile.gettempdir(), "modern_parts.lock")):
                write([*read(), row])
            print({key: row[key] for key in COLUMNS[:7]}, flush=True)


if __name__ == "__main__":
    sys.exit(main())
