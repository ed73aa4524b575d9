"""What happens between the steps of a training run: it is measured, logged, drawn and saved.

Written by hand. A step is described by one dict, the line that metrics.jsonl gets. The callbacks of
a run get it one after another, and a look adds what it found. None of them draws from the random
generators of the training: a run that looks more often takes the same steps.
"""

import json

import torch

from llmlib import stories
from llmlib.cli.console import tell
from llmlib.cli.dataset import TokenData
from llmlib.cli.run_folder import METRICS, PLOT, SAMPLES, RunFolder
from llmlib.evaluation.perplexity import evaluate
from llmlib.files import replacing
from llmlib.generation.generate import generate
from llmlib.model.gpt import GPT
from llmlib.training.trainer import StepReport, Trainer

SHOWN = 5  # samples written down at each look; more may have been checked
LONGEST = 200  # tokens of a sample


def describe(report: StepReport) -> dict:
    """Return what metrics.jsonl says about a step."""
    return {
        "step": report.step,
        "loss": report.loss,
        "learning_rate": report.learning_rate,
        "grad_norm": report.grad_norm,
        "n_tokens": report.n_tokens,
        "tokens_per_second": round(report.tokens_per_second),
    }


class Look:
    """Now and then, and after the last step: the validation loss, and samples.

    `above_floor` is the share by which the loss exceeds the lowest possible one; `grammatical` and
    `consistent` are shares of the sampled stories.
    """

    def __init__(self, run: RunFolder, model: GPT, data: TokenData):
        self.run, self.model, self.data, self.settings = run, model, data, run.settings
        settings, context = run.settings, model.config.context_length
        self.measure = data.measure(context, settings.batch_size, settings.eval_tokens)

    def __call__(self, entry: dict) -> None:
        step, settings = entry["step"], self.settings
        if step % settings.eval_every and step != settings.max_steps:
            return
        loss = evaluate(self.model, self.measure.batches).loss
        entry["val_loss"] = loss
        if self.measure.floor:
            entry |= {"floor": self.measure.floor, "above_floor": loss / self.measure.floor - 1}
        texts = write_samples(self.model, self.data, settings.n_samples, settings.seed + step)
        if self.data.about["corpus"] == "stories":
            reports = [stories.check(text) for text in texts]
            entry["grammatical"] = sum(report.grammatical for report in reports) / len(texts)
            entry["consistent"] = sum(report.consistent for report in reports) / len(texts)
        shown = "\n\n".join(texts[:SHOWN])
        self.run.append(SAMPLES, f"=== step {step} ===\n\n{shown}\n\n")
        tell(summary(entry))


class Log:
    """Every step: a line of metrics; after a look, the curves too."""

    def __init__(self, run: RunFolder):
        self.run = run

    def __call__(self, entry: dict) -> None:
        self.run.append(METRICS, json.dumps(entry) + "\n")
        if "val_loss" in entry:
            draw(self.run)


class Save:
    """Checkpoints: "latest" now and then and after the last step, "best" after the best look."""

    def __init__(self, run: RunFolder, trainer: Trainer):
        self.run, self.trainer = run, trainer
        looks = [entry["val_loss"] for entry in run.metrics() if "val_loss" in entry]
        self.best = min(looks, default=float("inf"))
        if trainer.step == 0:
            self.save("latest")

    def __call__(self, entry: dict) -> None:
        loss, settings = entry.get("val_loss", float("inf")), self.run.settings
        if loss < self.best:
            self.best = loss
            self.save("best", val_loss=loss)
        # after the best one: if it is killed between the two, the best is found once more
        if entry["step"] % settings.save_every == 0 or entry["step"] == settings.max_steps:
            self.save("latest")

    def save(self, name: str, **notes: object) -> None:
        self.run.save(name, self.trainer.model, self.trainer.state_dict(), notes)


def write_samples(model: GPT, data: TokenData, n: int, seed: int) -> list[str]:
    """Let a model write n texts from their beginning."""
    device, end = next(model.parameters()).device, data.end_of_text
    rows = generate(
        model,
        torch.full((n, 1), end, device=device),
        min(LONGEST, model.config.context_length - 1),
        stop=end,
        generator=torch.Generator(device).manual_seed(seed),
    ).tolist()
    rows = [row[1:] for row in rows]
    return [data.tokenizer.decode(row[: row.index(end)] if end in row else row) for row in rows]


def summary(entry: dict) -> str:
    """Return a line about a look, for people."""
    parts = [f"step {entry['step']:,}", f"loss {entry['loss']:.3f}", f"val {entry['val_loss']:.3f}"]
    if "floor" in entry:
        parts.append(f"{entry['above_floor']:.1%} above the floor")
    if "grammatical" in entry:
        parts.append(f"{entry['grammatical']:.0%} grammatical")
        parts.append(f"{entry['consistent']:.0%} consistent")
    return ", ".join(parts)


def draw(run: RunFolder) -> None:
    """Draw the curves of the metrics into loss.png."""
    import matplotlib  # late: it takes as long as a look
    from matplotlib.figure import Figure

    from llmlib.plots import use_style

    entries = run.metrics()
    looks = [entry for entry in entries if "val_loss" in entry]
    with matplotlib.rc_context(), run.writing(PLOT) as path, replacing(path) as part:
        use_style()
        figure = Figure()
        axes = figure.subplots()
        line = {"linewidth": 0.8, "alpha": 0.6}
        axes.plot([e["step"] for e in entries], [e["loss"] for e in entries], label="train", **line)
        steps, losses = [e["step"] for e in looks], [e["val_loss"] for e in looks]
        axes.plot(steps, losses, marker="o", markersize=3, label="validation")
        if looks and "floor" in looks[-1]:
            axes.axhline(looks[-1]["floor"], color="black", linestyle=":", label="the floor")
        axes.set(title=run.path.name, xlabel="step", ylabel="loss (nats per token)")
        axes.legend()
        figure.savefig(part, format="png", dpi=120)
