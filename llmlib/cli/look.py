"""A look at a model while it trains: its loss on other texts, what it writes, and the curves.

Written by hand. Looking draws nothing from the random generators that training draws from: a run
that looks more often takes the same steps.
"""

import os

import torch

from llmlib import stories
from llmlib.cli.dataset import Measure, TokenData
from llmlib.cli.run_folder import PLOT, SAMPLES, RunFolder
from llmlib.evaluation.perplexity import evaluate
from llmlib.generation.generate import generate
from llmlib.model.gpt import GPT

SHOWN = 5  # samples written down at each look; more may have been marked
LONGEST = 200  # tokens of a sample


def look(
    run: RunFolder, model: GPT, data: TokenData, measure: Measure, step: int, n: int, seed: int
) -> dict:
    """Measure, write samples down, and return what the metrics should say of it.

    `above_floor` is the share by which the loss exceeds the least that is possible; `grammatical`
    and `consistent` are shares of n stories.
    """
    loss = evaluate(model, measure.batches).loss
    entry = {"val_loss": loss}
    if measure.floor:
        entry |= {"floor": measure.floor, "above_floor": loss / measure.floor - 1}
    texts = write_samples(model, data, n, seed + step)
    if data.about["corpus"] == "stories":
        reports = [stories.check(text) for text in texts]
        entry["grammatical"] = sum(report.grammatical for report in reports) / n
        entry["consistent"] = sum(report.consistent for report in reports) / n
    shown = "\n\n".join(texts[:SHOWN])
    run.append(SAMPLES, f"=== step {step} ===\n\n{shown}\n\n")
    return entry


def write_samples(model: GPT, data: TokenData, n: int, seed: int) -> list[str]:
    """Let a model write n texts from their beginning."""
    device, end = model.wte.weight.device, data.end_of_text
    rows = generate(
        model,
        torch.full((n, 1), end, device=device),
        min(LONGEST, model.config.context_length - 1),
        stop=end,
        generator=torch.Generator(device).manual_seed(seed),
    )
    rows = [row[1:] for row in rows]
    return [data.tokenizer.decode(row[: row.index(end)] if end in row else row) for row in rows]


def summary(entry: dict) -> str:
    """A line on a look, for people."""
    parts = [f"step {entry['step']:,}", f"loss {entry['loss']:.3f}", f"val {entry['val_loss']:.3f}"]
    if "floor" in entry:
        parts.append(f"{entry['above_floor']:.1%} above the floor")
    if "grammatical" in entry:
        parts.append(f"{entry['grammatical']:.0%} grammatical")
        parts.append(f"{entry['consistent']:.0%} consistent")
    return ", ".join(parts)


def draw(run: RunFolder, title: str) -> None:
    """Draw the curves of the metrics into loss.png, which is whole at every moment."""
    import matplotlib
    from matplotlib.figure import Figure

    from llmlib.plots import use_style

    entries = run.metrics()
    looks = [entry for entry in entries if "val_loss" in entry]
    with matplotlib.rc_context():
        use_style()
        figure = Figure()
        axes = figure.subplots()
        line = {"linewidth": 0.8, "alpha": 0.6}
        axes.plot([e["step"] for e in entries], [e["loss"] for e in entries], label="train", **line)
        steps, losses = [e["step"] for e in looks], [e["val_loss"] for e in looks]
        axes.plot(steps, losses, marker="o", markersize=3, label="validation")
        if looks and "floor" in looks[-1]:
            axes.axhline(looks[-1]["floor"], color="black", linestyle=":", label="the floor")
        axes.set(title=title, xlabel="step", ylabel="loss (nats a token)")
        axes.legend()
        part = run.path / f"{PLOT}.part"
        with run.writing(PLOT):
            figure.savefig(part, format="png", dpi=120)
            os.replace(part, run.path / PLOT)
