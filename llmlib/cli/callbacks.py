"""What happens between the steps of a training run: looks, the log with its curves, checkpoints.

Written by hand. Each is a callback of the trainer, a function of it and the report of a step. None
of them draws from the random generators of the training: a run that looks more often takes the same
steps.
"""

import json
from dataclasses import asdict
from typing import Any

import torch

from llmlib import stories
from llmlib.cli.console import tell
from llmlib.cli.dataset import Measure, TokenData
from llmlib.cli.run_folder import METRICS, PLOT, SAMPLES, RunFolder
from llmlib.evaluation.perplexity import evaluate
from llmlib.files import replacing
from llmlib.generation.generate import generate
from llmlib.training.trainer import StepReport, Trainer

SHOWN = 5  # samples written down at each look; more may have been checked
LONGEST = 200  # tokens of a sample


class Look:
    """Now and then, and after the last step: the validation loss, and samples.

    found: what metrics.jsonl gets of the last step's look; empty if there was none. `above_floor`
    is the share by which the loss exceeds the lowest possible one; `grammatical` and `consistent`
    are shares of the sampled stories.
    """

    def __init__(self, run: RunFolder, data: TokenData):
        self.run, self.data, self.found = run, data, {}
        self.measure: Measure | None = None  # made at the first look: nothing delays the first step

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        step, settings = report.step, self.run.settings
        self.found = {}
        if step % settings.eval_every and step != settings.max_steps:
            return
        model: Any = trainer.model
        if self.measure is None:
            sizes = (model.config.context_length, settings.batch_size, settings.eval_tokens)
            self.measure = self.data.measure(*sizes)
        loss, floor = evaluate(model, self.measure.batches).loss, self.measure.floor
        self.found["val_loss"] = loss
        if floor:
            self.found |= {"floor": floor, "above_floor": loss / floor - 1}
        texts = write_samples(model, self.data, settings.n_samples, settings.seed + step)
        if self.data.about["corpus"] == "stories":
            checked = [stories.check(text) for text in texts]
            for name in ("grammatical", "consistent"):
                self.found[name] = sum(getattr(each, name) for each in checked) / len(texts)
        shown = "\n\n".join(texts[:SHOWN])
        self.run.append(SAMPLES, f"=== step {step} ===\n\n{shown}\n\n")
        tell(summary(report, self.found))


class Log:
    """Every step: a line of metrics; after a look, the curves too."""

    def __init__(self, run: RunFolder, look: Look):
        self.run, self.look = run, look

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        entry = asdict(report)
        entry |= entry.pop("aux", {})
        entry["tokens_per_second"] = round(report.tokens_per_second)
        del entry["seconds"]  # which the two others say
        self.run.append(METRICS, json.dumps(entry | self.look.found) + "\n")
        if self.look.found:
            draw(self.run)


class Save:
    """Checkpoints: "best" after the best look, "latest" now and then and after the last step."""

    def __init__(self, run: RunFolder, look: Look):
        self.run, self.look = run, look
        looks = [entry["val_loss"] for entry in run.metrics() if "val_loss" in entry]
        self.best = min(looks, default=float("inf"))

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        step, settings = report.step, self.run.settings
        loss = self.look.found.get("val_loss", float("inf"))
        if loss < self.best:
            self.best = loss
            self.run.save("best", trainer, val_loss=loss)
        # after the best one: if it is killed between the two, the best is found once more
        if step % settings.save_every == 0 or step == settings.max_steps:
            self.run.save("latest", trainer)


def write_samples(model: Any, data: TokenData, n: int, seed: int) -> list[str]:
    """Let a model write n texts from their beginning."""
    device, end = next(model.parameters()).device, data.end_of_text
    longest = min(LONGEST, model.config.context_length - 1)
    generator = torch.Generator(device).manual_seed(seed)
    rows = generate(model, [[end]] * n, longest, stop=end, generator=generator)
    return [data.tokenizer.decode([token for token in row if token != end]) for row in rows]


def summary(report: StepReport, found: dict) -> str:
    """Return a line about a look, for people."""
    line = f"step {report.step:,}, loss {report.loss:.3f}, val {found['val_loss']:.3f}"
    if "floor" in found:
        line += f", {found['above_floor']:.1%} above the floor"
    if "grammatical" in found:
        line += f", {found['grammatical']:.0%} grammatical, {found['consistent']:.0%} consistent"
    return line


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
        steps, losses = [e["step"] for e in entries], [e["loss"] for e in entries]
        axes.plot(steps, losses, linewidth=0.8, alpha=0.6, label="train")
        steps, losses = [e["step"] for e in looks], [e["val_loss"] for e in looks]
        axes.plot(steps, losses, marker="o", markersize=3, label="validation")
        if looks and "floor" in looks[-1]:
            axes.axhline(looks[-1]["floor"], color="black", linestyle=":", label="the floor")
        axes.set(title=run.path.name, xlabel="step", ylabel="loss (nats per token)")
        axes.legend()
        figure.savefig(part, format="png", dpi=120)
