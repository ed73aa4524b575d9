"""`llmlib train`: a run from its settings to its last checkpoint, on one process or many.

Written by hand. The steps are `llmlib.training.trainer.Trainer`'s; here they are given data and a
device, and what they report is kept. A run that is stopped, killed or crashes at any moment goes on
from its last checkpoint as if nothing had been, bit for bit.
"""

import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import FrameType, SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from llmlib.cli.config import DATA, check_flags, read_config, settle, settle_again
from llmlib.cli.console import tell
from llmlib.cli.dataset import Batch, TokenData, peek, read_about
from llmlib.cli.devices import choose_device, compiled
from llmlib.cli.look import draw, look, summary
from llmlib.cli.prepare import prepare
from llmlib.cli.processes import Processes
from llmlib.cli.run_folder import RunFolder
from llmlib.data import corpora
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import StepReport, Trainer


def train_command(config: str | None = None, resume: str | None = None, **flags: object) -> int:
    """Do what the command line asks for; 0 when the last step is taken, 130 when stopped before."""
    given = (read_config(config) if config else {}) | check_flags(flags)
    out = given.pop("out", None)
    if given.get("data"):
        given["data"] = locate(given["data"])
    with Processes() as processes:
        run = None

        def start() -> tuple[Path, SimpleNamespace]:
            nonlocal run  # which holds the lock
            run, settings = go_on(resume, out, given) if resume else begin(out, given)
            return run.path, settings

        path, settings = processes.by_writer(start)
        run = run or RunFolder(path)
        try:
            return train(run, settings, processes)
        except KeyboardInterrupt:  # before the first step, or a second one: nothing new to save
            if processes.is_writer:
                say_how_to_go_on("stopped", run, processes)
            return 130
        except ValueError:  # settings that do not fit the text, or a step that went wrong
            run.discard_unbegun()
            raise


def say_how_to_go_on(what: str, run: RunFolder, processes: Processes) -> None:
    """Say on stderr what has happened, and which command goes on from there."""
    command = f"{processes.command()} train --resume {run.path}"
    print(f"{what}; go on with: {command}", file=sys.stderr)


def locate(data: str) -> str:
    """The name of a corpus, or the absolute path of a file or folder, good from everywhere.

    Raises ValueError or OSError, naming the nearest corpus, for what is neither.
    """
    if data in {corpus.name for corpus in corpora.CORPORA}:
        return data
    if not Path(data).is_dir():
        corpora.documents(data)
    return str(Path(data).resolve())


def begin(out: str | None, given: dict) -> tuple[RunFolder, SimpleNamespace]:
    """Check all settings, and make the folder of a new run."""
    settings = settle(given)
    if Path(settings.data).is_dir():
        settings = settle(given, read_about(settings.data)["corpus"])
        for name in sorted(given.keys() & {option.name for option in DATA} - {"seed"}):
            raise ValueError(f"{name} was decided when {settings.data} was prepared: leave it out")
    check_sizes(settings)
    name = f"{Path(settings.data).stem}-{settings.preset}"
    return RunFolder.create(out, name, vars(settings)), settings


def go_on(resume: str, out: str | None, given: dict) -> tuple[RunFolder, SimpleNamespace]:
    """Open the folder of a run that was begun before."""
    if out:
        raise ValueError("give --resume or --out, not both: a run goes on in its own folder")
    run = RunFolder(resume)
    settings = settle_again(run.read_config(), given)
    check_sizes(settings)
    run.lock()
    run.write_config(vars(settings))
    return run, settings


def check_sizes(settings: SimpleNamespace) -> None:
    """Raise ValueError for sizes that no model or training can have, before a folder is made."""
    model_config(settings, vocab_size=3)  # the true size is known when the text is prepared
    train_config(settings)


def model_config(settings: SimpleNamespace, vocab_size: int) -> GPTConfig:
    """The configuration of the model: the preset's, with the sizes that were given."""
    changes = {
        field.name: value
        for field in fields(GPTConfig)
        if (value := getattr(settings, field.name, None)) is not None
    }
    return GPTConfig.preset(settings.preset, **{**changes, "vocab_size": vocab_size})


def train_config(settings: SimpleNamespace) -> TrainConfig:
    """The configuration of the training."""
    names = [field.name for field in fields(TrainConfig) if hasattr(settings, field.name)]
    return TrainConfig(**{name: getattr(settings, name) for name in names})


def open_data(run: RunFolder, settings: SimpleNamespace) -> None:
    """Prepare the text of a run in its own folder, unless it is there or was prepared elsewhere."""
    if (run.data_folder / "data.json").is_file():
        return
    if Path(settings.data).is_dir():
        run.keep_note_of(Path(settings.data))
    else:
        names = [option.name for option in DATA]
        prepare(settings.data, run.data_folder, **{n: getattr(settings, n) for n in names})


def train(run: RunFolder, settings: SimpleNamespace, processes: Processes) -> int:
    """Train from where the run stands to its end, or until it is asked to stop."""
    say = tell if processes.is_writer else lambda *_: None
    has_begun = (run.path / "latest" / "checkpoint.json").is_file()
    checkpoint = run.load("latest") if has_begun else None
    processes.by_writer(lambda: (run.mend(checkpoint), open_data(run, settings)))
    data = run.data()
    torch.manual_seed(settings.seed)
    model = GPT(model_config(settings, data.about["vocab_size"]))
    model.init_weights(settings.init_std)
    if checkpoint:
        checkpoint.load_into(model)
    context = model.config.context_length
    loader = data.train_loader(
        context, settings.batch_size, settings.seed, processes.rank, processes.world
    )
    first = peek(loader, settings.batch_size)
    choice = choose_device(settings.device, model, first, processes.local_rank)
    if processes.any(choice.device.type == "cpu") and choice.device.type != "cpu":
        choice = choice._replace(device=torch.device("cpu"), reason="another process needs it")
    model.to(choice.device)
    where = f" in each of {processes.world} processes" if processes.world > 1 else ""
    say(f"{run.path}: {model.num_parameters():,} parameters, {data.about['train']['n_tokens']:,} "
        f"tokens to train on\ndevice {choice.device}{where}: {choice.reason}")  # fmt: skip
    trainer = Trainer(
        model, train_config(settings), wrap=wrapper(settings.compile, first, processes, say)
    )
    torch.manual_seed(settings.seed)
    if checkpoint:
        trainer.load_state_dict(checkpoint.training)
    if processes.rank:  # what is dropped out differs between processes, or they would learn less
        torch.manual_seed(hash((settings.seed, processes.rank, trainer.step)) % 2**63)
    if trainer.step >= settings.max_steps:
        say(f"all {trainer.step:,} steps are taken: give --max-steps to go on")
        return 0
    return take_steps(run, settings, processes, data, trainer, loader, say)


def wrapper(compile: bool, first: Batch, processes: Processes, say: Callable) -> Callable:
    """What Trainer puts around the loss: compilation, and what joins the processes."""

    def wrap(loss: nn.Module) -> nn.Module:
        if compile:
            loss, word = compiled(loss, first)
            say(word)
        return processes.wrap(loss)

    return wrap


class StopRequest:
    """Notes Ctrl-C (SIGINT) and SIGTERM, so that a step is not left half taken.

    A second one is not waited for: it ends the process as ever, with the last checkpoint on disk.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> "StopRequest":
        self.made = False
        self.before = {number: signal.signal(number, self.note) for number in self.SIGNALS}
        return self

    def note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        self.restore()

    def restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __exit__(self, *_: object) -> None:
        self.restore()


def take_steps(
    run: RunFolder,
    settings: SimpleNamespace,
    processes: Processes,
    data: TokenData,
    trainer: Trainer,
    loader: DataLoader,
    say: Callable,
) -> int:
    """The loop: log, look and save while steps are taken; return the exit code."""
    keeper = Keeper(run, settings, data, trainer) if processes.is_writer else None
    hidden = None if keeper else True  # None: shown where somebody sits at a terminal
    bar = tqdm(total=settings.max_steps, initial=trainer.step, unit="step", disable=hidden)
    stopped = False
    with StopRequest() as stop, bar:
        for report in trainer.run(loader):
            stopped = processes.any(stop.made)  # all of them, or those left would wait for ever
            if keeper:
                keeper.keep(report, stopped)
                speed = f"{report.tokens_per_second:,.0f} tokens/s"
                bar.set_postfix_str(f"loss {report.loss:.3f}, {speed}", refresh=False)
                bar.update()
            if stopped:
                break
    if not stopped or trainer.step >= settings.max_steps:
        say(f"done: llmlib generate --checkpoint {run.path}")
        return 0
    if keeper:
        say_how_to_go_on(f"stopped and saved at step {trainer.step:,}", run, processes)
    return 130


class Keeper:
    """Keeps what a run gives: metrics of each step, looks, and checkpoints."""

    def __init__(
        self, run: RunFolder, settings: SimpleNamespace, data: TokenData, trainer: Trainer
    ):
        self.run, self.settings, self.data, self.trainer = run, settings, data, trainer
        context = trainer.model.config.context_length
        self.measure = data.measure(context, settings.batch_size, settings.eval_tokens)
        looks = [entry["val_loss"] for entry in run.metrics() if "val_loss" in entry]
        self.best = min(looks, default=float("inf"))
        if trainer.step == 0:
            self.save("latest")

    def keep(self, report: StepReport, stopped: bool) -> None:
        """Log a step, and look and save where it is time for that."""
        settings, step = self.settings, report.step
        last = step == settings.max_steps
        entry = {
            "step": step,
            "loss": report.loss,
            "learning_rate": report.learning_rate,
            "grad_norm": report.grad_norm,
            "n_tokens": report.n_tokens,
            "tokens_per_second": round(report.tokens_per_second),
        }
        looking = last or step % settings.eval_every == 0
        if looking:
            model = self.trainer.model
            entry |= look(
                self.run, model, self.data, self.measure, step, settings.n_samples, settings.seed
            )
            tell(summary(entry))
        self.run.log(entry)
        if looking:
            draw(self.run, self.run.path.name)
            if entry["val_loss"] < self.best:
                self.best = entry["val_loss"]
                self.save("best", val_loss=self.best)
        # after the best one: were it killed between the two, the best is found once more
        if last or stopped or step % settings.save_every == 0:
            self.save("latest")

    def save(self, name: str, **notes: object) -> None:
        self.run.save(name, self.trainer.model, self.trainer.state_dict(), notes)
