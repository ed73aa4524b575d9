"""What happens between the steps of a training run: looks, the log with its curves, checkpoints.

Written by hand. Nothing here draws from the random generators of the training: a run that looks
more often takes the same steps.
"""

import json
import os
import warnings
from dataclasses import asdict
from typing import Any

import torch

from llmlib import stories
from llmlib.cli.console import tell, warn
from llmlib.cli.dataset import Measure, TokenData
from llmlib.cli.run_folder import PLOT, RunFolder
from llmlib.cli.run_log import METRICS, SAMPLES, append, writing
from llmlib.evaluation.perplexity import evaluate
from llmlib.files import replacing
from llmlib.generation.constraints import only_tokens
from llmlib.generation.generate import generate
from llmlib.generation.sampling import AS_LEARNED
from llmlib.training.checkpoint import Checkpoint
from llmlib.training.trainer import StepReport, Trainer

SHOWN = 5  # samples written down at each look; more may have been checked
LONGEST = 200  # tokens of a sample


class Decoration:
    """A context for what only decorates a run: an error in it becomes a warning.

    A class, not a generator, so that an error of memory passes through it as it is.
    """

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        ends = isinstance(error, MemoryError) or not isinstance(error, Exception)
        if not ends:
            reason = " ".join(str(error).split())
            warn(f"{self.what} failed, and the training goes on: {reason:.300}")
        return not ends


class Recorder:
    """A callback of the trainer that fills the folder of a run, after each step.

    Every step becomes a line of metrics. Now and then, and after the last step, it looks at the
    validation loss and at samples, and saves a checkpoint, "latest"; after the best look, "best".
    """

    def __init__(self, run: RunFolder, data: TokenData):
        self.run, self.data = run, data
        self.measure: Measure | None = None  # made at the first look: nothing delays the first step
        self.best = run.best_loss()

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        step, settings = report.step, self.run.settings
        is_last = step == settings.max_steps
        looks = is_last or step % settings.eval_every == 0
        saves = is_last or step % settings.save_every == 0
        if not looks:
            self.log(report, {})
        if saves:  # before the look, in which more can go wrong than in a step
            notes = {"report": asdict(report)} if looks else {}
            self.run.save("latest", trainer, **notes)
        if looks:
            self.look_and_log(trainer, report)
        if looks and saves:
            self.run.finish_look()

    def catch_up(self, trainer: Trainer, checkpoint: Checkpoint) -> None:
        """Look at the step of a checkpoint, if the run ended between its save and its look."""
        if report := checkpoint.notes.get("report"):
            self.look_and_log(trainer, StepReport(**report))
            self.run.finish_look()

    def look_and_log(self, trainer: Trainer, report: StepReport) -> None:
        """Look, write down what was found, and save the best checkpoint if it is a better one."""
        found = self.look(trainer.model, report.step)
        tell(summary(report, found))
        self.log(report, found)
        if found["val_loss"] < self.best:
            self.best = found["val_loss"]
            self.run.save("best", trainer, val_loss=self.best)

    def look(self, model: Any, step: int) -> dict[str, float]:
        """Measure the validation loss, write samples, and return what metrics.jsonl gets of it.

        `above_floor` is the share by which the loss exceeds the lowest possible one; `grammatical`
        and `consistent` are shares of the sampled stories.
        """
        settings = self.run.settings
        if self.measure is None:
            sizes = (model.config.context_length, settings.batch_size, settings.eval_tokens)
            self.measure = self.data.measure(*sizes)
        loss, floor = evaluate(model, self.measure.batches).loss, self.measure.floor
        found = {"val_loss": loss}
        if floor:
            found |= {"floor": floor, "above_floor": loss / floor - 1}
        with Decoration("writing samples"):
            texts = write_samples(model, self.data, settings.n_samples, settings.seed + step)
            if self.data.about["corpus"] == "stories":
                checked = [stories.check(text) for text in texts]
                for name in ("grammatical", "consistent"):
                    found[name] = sum(getattr(each, name) for each in checked) / len(texts)
            shown = "\n\n".join(texts[:SHOWN])
            append(self.run.path / SAMPLES, f"=== step {step} ===\n\n{shown}\n\n")
        return found

    def log(self, report: StepReport, found: dict[str, float]) -> None:
        """Write a line of metrics; after a look, draw the curves too."""
        entry = asdict(report)
        entry |= {**entry.pop("aux"), "tokens_per_second": round(report.tokens_per_second)}
        del entry["seconds"]  # which the two others say
        append(self.run.path / METRICS, json.dumps(entry | found) + "\n")
        if found:
            with Decoration("drawing the curves"):
                draw(self.run)


def write_samples(model: Any, data: TokenData, n: int, seed: int) -> list[str]:
    """Let a model write n texts from their beginning."""
    device, end = next(model.parameters()).device, data.end_of_text
    longest = min(LONGEST, model.config.context_length - 1)
    generator = torch.Generator(device).manual_seed(seed % 2**63)
    sampling = only_tokens(AS_LEARNED, data.tokenizer, model)
    rows = generate(model, [[end]] * n, longest, sampling, stop=end, generator=generator)
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
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context(),
        writing(run.path / PLOT) as path,
        replacing(path) as part,
    ):
        warnings.simplefilter("ignore")  # of fonts that lack a character of the name
        use_style()
        figure = Figure()
        axes = figure.subplots()
        axes.plot(*curve(entries, "loss"), linewidth=0.8, alpha=0.6, label="train")
        axes.plot(*curve(entries, "val_loss"), marker="o", markersize=3, label="validation")
        if floor := entries[-1].get("floor"):  # which a look found after the last step
            axes.axhline(floor, color="black", linestyle=":", label="the floor")
        title = os.fsencode(run.path.name).decode(errors="replace")
        axes.set_title(title, parse_math=False)  # it may hold a $
        axes.set(xlabel="step", ylabel="loss (nats per token)")
        axes.legend()
        figure.savefig(part, format="png", dpi=120)


def curve(entries: list[dict], name: str) -> tuple[list, list]:
    """Return the steps at which something was measured, and what it was."""
    found = [entry for entry in entries if name in entry]
    return [entry["step"] for entry in found], [entry[name] for entry in found]
