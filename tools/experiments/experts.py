"""Experts against dense layers on four languages: writes notebooks/results/experts.csv.

    python tools/experiments/experts.py                all runs, about 15 minutes on one core
    python tools/experiments/experts.py --calibrate    what a step of each model costs

Stories of the default world in four languages that share no token. All models read the same rows of
a seed in the same order; they differ in their feed-forward layers. Two dense models stand beside
the experts: "dense", whose layers have the width that a token uses in the others, and "wide", with
as many parameters as the experts have together. Each gets about the same CPU-time (STEPS, from
`--calibrate`). A row is written at each mark of a run, so that an interrupted experiment goes on
with the next run. Notebook 13 draws the figures.
"""

import argparse
import csv
import io
import platform
import statistics
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from llmlib import stories
from llmlib.data.batches import create_document_loader
from llmlib.evaluation.perplexity import evaluate
from llmlib.evaluation.routing import (
    max_violation,
    mutual_information,
    route_tokens,
    router_entropy,
)
from llmlib.files import write_text
from llmlib.model.modern import Modern, ModernConfig
from llmlib.stories.languages import N_LANGUAGES, translate
from llmlib.tokenization.words import WordTokenizer
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "notebooks" / "results" / "experts.csv"

SIZES = {"context_length": 192, "emb_dim": 64, "n_heads": 4, "n_layers": 2, "n_kv_heads": 2}
WIDTH = 128  # of the layer that a token uses
N_EXPERTS = 16


def experts(balance: str | None) -> dict[str, Any]:
    """Return the fields of a model in which each token uses one expert (Fedus et al. 2021)."""
    part = {"name": "moe", "n_experts": N_EXPERTS, "top_k": 1, "normalize": False}
    return {"feed_forward": part | {"balance": balance}, "hidden_dim": WIDTH}


MODELS: dict[str, dict[str, Any]] = {
    "no balance": experts(None),
    "bias": experts("bias"),
    "dense": {"hidden_dim": WIDTH},
    "wide": {"hidden_dim": N_EXPERTS * WIDTH},
    "loss × 0.1": experts("loss"),
    "loss × 0.01": experts("loss"),
}
AUX_WEIGHTS = {"loss × 0.1": 0.1}
SEEDS = range(5)
# steps that take as long as 200 of "no balance", from `--calibrate`
STEPS = dict.fromkeys(MODELS, 200) | {"dense": 363, "wide": 85}
MARKS = (0.1, 0.25, 0.5, 1.0)  # shares of a run after which it is measured
BATCH, RATE, INIT_STD = 16, 1e-2, 0.05
COLUMNS = ["model", "seed", "mark", "step", "steps", "parameters", "seconds", "loss", "excess"]
PER_LAYER = ("violation", "entropy", "information")
COLUMNS += [f"{name}_{layer}" for layer in range(SIZES["n_layers"]) for name in PER_LAYER]


@lru_cache(1)
def tokenizer() -> WordTokenizer:
    """Return the tokenizer of all four languages."""
    told = stories.tell_many(3000, seed=1)
    texts = (translate(s.text, language) for language in range(N_LANGUAGES) for s in told)
    return WordTokenizer.from_text(" ".join(texts))


def in_languages(n: int, seed: int) -> tuple[list[list[int]], float]:
    """Return ids of n stories, in each language as many, and their floor in nats per token."""
    told = stories.tell_many(n, seed)
    ids = [
        tokenizer().encode(translate(story.text, number % N_LANGUAGES))
        for number, story in enumerate(told)
    ]
    return ids, -sum(story.log_prob for story in told) / sum(len(text) + 1 for text in ids)


@lru_cache(1)
def held_out() -> tuple[list, float, torch.Tensor]:
    """Return batches of held-out stories, their floor, and the language of each id (V,)."""
    ids, floor = in_languages(160, seed=2)
    loader = create_document_loader(ids, tokenizer().eot_token, 40, shuffle=False)
    language = torch.full((tokenizer().vocab_size,), -1)
    for number, text in enumerate(ids):
        language[text] = number % N_LANGUAGES
    return [*loader], floor, language


@lru_cache(1)
def stories_of(seed: int) -> list[list[int]]:
    """Return the ids of the stories that a seed trains on."""
    return in_languages(6000, seed=100 + seed)[0]


def start(name: str, seed: int, steps: int | None = None) -> tuple[Trainer, Any]:
    """Return the trainer of a run, and its steps; steps: of the whole run, by default STEPS."""
    fields = SIZES | {"vocab_size": tokenizer().vocab_size, "tie_weights": True} | MODELS[name]
    model = Modern(ModernConfig(**fields))
    model.init_weights(INIT_STD, generator=torch.Generator().manual_seed(seed))
    order = torch.Generator().manual_seed(seed)
    loader = create_document_loader(stories_of(seed), tokenizer().eot_token, BATCH, generator=order)
    steps = steps or STEPS[name]
    config = TrainConfig(
        steps,
        RATE,
        warmup_steps=steps // 10,
        final_fraction=0.0,
        weight_decay=0.01,
        optimizer="muon",
        aux_weights=AUX_WEIGHTS.get(name, 0.01),
    )
    trainer = Trainer(model, config)
    return trainer, trainer.run(loader)


def measure(model: Modern) -> dict[str, float]:
    """Return what is measured of a model on held-out stories."""
    batches, floor, language = held_out()
    loss = evaluate(model, batches).loss
    row = {"loss": round(loss, 5), "excess": round(loss / floor - 1, 5)}
    for layer, (routing, ids) in enumerate(route_tokens(model, batches)):
        counts = torch.zeros(N_EXPERTS, N_LANGUAGES)
        known = language[ids] >= 0  # all but the end of a text
        places = routing.chosen[known, 0], language[ids][known]
        counts.index_put_(places, torch.ones(()), accumulate=True)
        row[f"violation_{layer}"] = round(max_violation(routing.chosen, len(counts)), 4)
        row[f"entropy_{layer}"] = round(router_entropy(routing.probs), 4)
        row[f"information_{layer}"] = round(mutual_information(counts), 4)
    return row


def run(name: str, seed: int, marks: tuple[float, ...] = MARKS) -> list[dict]:
    """Train a model as far as the last of the marks; return a row for each of them."""
    trainer, reports = start(name, seed)
    steps, seconds, rows = trainer.config.max_steps, 0.0, []
    for mark in marks:
        began = time.process_time()
        while trainer.step < round(mark * steps):
            next(reports)
        seconds += time.process_time() - began  # what it takes to measure does not count
        row = {"model": name, "seed": seed, "mark": mark, "step": trainer.step, "steps": steps}
        row |= {"parameters": trainer.model.num_parameters(), "seconds": round(seconds, 2)}
        rows.append(row | measure(trainer.model))
    return rows


def calibrate(rounds: int = 8) -> None:
    """Print what a step of each model costs, in turns, so that a busy machine meets all."""
    runs = {name: start(name, 0, 1000)[1] for name in MODELS}
    times: dict[str, list[float]] = {name: [] for name in MODELS}
    for _ in range(rounds):
        for name, reports in runs.items():
            began = time.process_time()
            for _ in range(3):
                next(reports)
            times[name].append(time.process_time() - began)
    for name, taken in times.items():
        ratio = statistics.median(own / base for own, base in zip(taken, times["no balance"]))
        print(f"{name}: {statistics.median(taken) / 3:.4f} s a step, {200 / ratio:.0f} steps")


def read() -> list[dict]:
    """Return the rows that are there already."""
    if not PLACE.exists():
        return []
    lines = PLACE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def write(rows: list[dict]) -> None:
    """Write the rows under a header that says where they come from."""
    commit = ["git", "log", "-1", "--format=%h", "--", "llmlib"]
    found = subprocess.run(commit, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = sum(float(row["seconds"]) for row in rows if float(row["mark"]) == MARKS[-1])
    header = [
        "command: python tools/experiments/experts.py",
        f"commit: {found.stdout.strip()}, the last one that changed llmlib",
        f"versions: Python {platform.python_version()}, torch {torch.__version__}, one thread",
        f"CPU-seconds of training: {seconds:.0f}",
        f"floor of the held-out stories, nats per token: {held_out()[1]:.6f}",
    ]
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    PLACE.parent.mkdir(exist_ok=True)
    write_text(PLACE, "".join(f"# {line}\n" for line in header) + table.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calibrate", action="store_true", help="measure the cost of steps")
    torch.set_num_threads(1)
    if parser.parse_args().calibrate:
        return calibrate()
    rows = read()
    there = {(row["model"], int(row["seed"])) for row in rows}
    for seed in SEEDS:
        for name in MODELS:
            if (name, seed) not in there:
                rows += run(name, seed)
                write(rows)
                print({key: rows[-1].get(key) for key in COLUMNS}, flush=True)


if __name__ == "__main__":
    sys.exit(main())
