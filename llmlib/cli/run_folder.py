"""The folder of a run: everything it leaves behind, intact after a crash at any moment.

Written by hand.

    config.yaml     the settings: enough to resume, and to start another run like it
    data/           the token files, or a note on the prepared folder they came from
    latest/, best/  checkpoints: the last one, and the one with the lowest validation loss
    metrics.jsonl   a JSON object for each step
    samples.txt     what the model wrote, over time
    loss.png        the curves

The two text files only ever grow, and each checkpoint notes how long they were when it was saved.
Whatever stands behind that belongs to steps that will be taken again: resuming cuts it off. A
checkpoint also notes which tokens, which settings and what kind of machine its steps were taken
with, and a run that is resumed is held against that.
"""

import os
import re
import shutil
from contextlib import suppress
from math import inf
from pathlib import Path
from types import SimpleNamespace

import yaml
from filelock import FileLock, Timeout

from llmlib import checks, files
from llmlib.cli.console import warn
from llmlib.cli.dataset import TokenData
from llmlib.cli.prepare import prepare
from llmlib.cli.run_log import GROWING, METRICS, SAMPLES, cut, read_metrics, sizes
from llmlib.cli.run_notes import as_json, machine
from llmlib.cli.settings import (
    CHANGEABLE,
    PREPARED,
    SETTINGS,
    SettingsFileError,
    read_settings,
    values,
)
from llmlib.messages import quoted
from llmlib.model import architectures
from llmlib.tokenization.prepared import identity, is_prepared
from llmlib.training.checkpoint import (
    MANIFEST,
    Checkpoint,
    load_checkpoint,
    read_manifest,
    remove_others,
    save_checkpoint,
    write_manifest,
)
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

CONFIG, PLOT, LOCK = "config.yaml", "loss.png", ".lock"
NAMES = (CONFIG, METRICS, SAMPLES, PLOT, LOCK, "data", "latest", "best")
# what runs did before there were settings for it
BEFORE = {
    "separator": "none",
    "text_field": "text",
    "end_token": "<|endoftext|>",
    "from": None,
    "ignore_extra": False,
    **dict.fromkeys(("n_kv_heads", "hidden_dim", "qk_norm", "feed_forward")),
    **dict.fromkeys(("positions", "mask", "attention")),
}
# what a killed process leaves: NAME.PID.part, and before, without PID
LEFT = re.compile(
    r"(config\.yaml|loss\.png)(\.\d+)?\.part|(data|metrics\.jsonl|samples\.txt)\.\d+\.part"
)


def open_run(path: str | Path) -> "RunFolder":
    """Open the folder of an earlier run to read it. Raises ValueError if it is not whole."""
    file = Path(path) / CONFIG
    checks.require(file.is_file(), f"there is no run in {path}: it would hold a {CONFIG}")
    settings = BEFORE | read_settings(file)
    for name in SETTINGS.keys() - settings.keys() - {"out"}:
        raise SettingsFileError(f"{file} is damaged: {name} is missing in it")
    return RunFolder(path, SimpleNamespace(**settings))


def model_config(settings: SimpleNamespace, vocab_size: int) -> architectures.Config:
    """Return the configuration of the model: the preset's, with the sizes that were given.

    Raises ValueError for an unknown preset, and for a size that its architecture does not have.
    """
    sizes = {k: size for k, size in values(settings, "model").items() if size is not None}
    try:
        return architectures.preset(settings.preset, vocab_size=vocab_size, **sizes)
    except TypeError as error:
        raise ValueError(f"preset {settings.preset}: {error}") from None


def train_config(settings: SimpleNamespace) -> TrainConfig:
    """Return the configuration of the training."""
    return TrainConfig(**values(settings, "training"))


class RunFolder:
    """A run's folder and its settings. All methods raise OSError if it cannot be written."""

    def __init__(self, path: str | Path, settings: SimpleNamespace):
        self.path, self.settings = Path(path), settings
        self.data_folder = self.path / "data"
        self.file_lock = FileLock(self.path / LOCK, timeout=0)
        self.made: list[Path] = []  # folders that `open` made
        self.tokens: dict = {}  # what tells them from others, once they are prepared

    def __reduce__(self) -> tuple:
        """Send path and settings to other processes; the lock stays with the writer."""
        return RunFolder, (self.path, self.settings)

    def require_free(self) -> None:
        """Raise ValueError if something is in the folder that a new run would change.

        What a killed start left is not, nor is a run of the same settings without a step.
        """
        is_new = not os.path.lexists(self.path)
        checks.require(
            is_new or self.path.is_dir(),
            f"{self.path} is a file, not a folder: name a new one with --out",
        )
        names = set() if is_new else {path.name for path in self.path.iterdir()}
        others = {name for name in names if name != LOCK and not LEFT.fullmatch(name)}
        hint = f"go on with `llmlib train --resume {quoted(self.path)}`"
        hint += ", or name another folder with --out"
        if CONFIG in names:
            free = not (self.has_begun() or self.traces())
            with suppress(ValueError, OSError):
                free = free and vars(open_run(self.path).settings) == vars(self.settings)
                others -= {*NAMES} if free else set()
            checks.require(not others, f"{self.path} holds a run already: {hint}")
        checks.require(not others, f"{self.path} is not empty: name a new folder with --out")

    def open(self) -> None:
        """Make the folder if there is none, and lock it.

        Raises ValueError, before that, for sizes that no model or training can have.
        """
        if not vars(self.settings)["from"]:  # else a model that is here has these sizes
            config = model_config(self.settings, vocab_size=3)  # the true size: once there are ids
            checks.affordable(config)
        train_config(self.settings)
        self.made = [place for place in (self.path, *self.path.parents) if not place.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()

    def write_settings(self) -> None:
        """Write config.yaml, unless it says the same already, as it may hold comments."""
        with suppress(ValueError, OSError):
            if vars(open_run(self.path).settings) == vars(self.settings):
                return
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.settings).items()}
        text = yaml.safe_dump(lists, sort_keys=False, allow_unicode=True)
        files.write_text(self.path / CONFIG, text)

    def discard(self) -> None:
        """Remove a run that has no checkpoint, and nothing else: its name is free again."""
        self.file_lock.release()
        for path in [*self.path.iterdir()] if self.path.is_dir() else []:
            if path.name in NAMES:
                files.remove(path)
        for folder in self.made:
            with suppress(OSError):
                folder.rmdir()

    def lock(self) -> None:
        """Be the only process that writes here, until this one ends or is killed.

        Raises ValueError if another process was first.
        """
        if (self.path / LOCK).is_symlink():  # what it points to would be emptied
            files.remove(self.path / LOCK)
        try:
            self.file_lock.acquire()
        except Timeout:
            raise ValueError(f"another process is training in {self.path}: wait for it") from None
        except (OSError, NotImplementedError):  # some network drives cannot lock: go on without
            pass

    def prepare_data(self, checkpoint: Checkpoint | None) -> None:
        """Encode the text, unless that is done. Raises ValueError for other tokens than before.

        A text is prepared in the run's own folder. Of a folder that was prepared elsewhere, the run
        keeps what tells which tokens it held and what they mean.
        """
        settings, folder = self.settings, self.data_folder
        is_new = not (folder / "data.json").is_file()
        if is_new and not is_prepared(settings.data):
            prepare(settings.data, folder, **values(settings, "data"))
        elif is_new:
            with files.making_folder(folder) as beside:
                for path in Path(settings.data).glob("*.json"):
                    shutil.copy(path, beside)
        self.tokens = identity(folder)
        try:
            then = checkpoint.notes.get("data") if checkpoint else None
            checks.same_data(settings.data if is_new else folder, self.tokens, then)
        except ValueError:
            if is_new:
                files.remove(folder)
            raise

    def cut_back(self, checkpoint: Checkpoint | None) -> None:
        """Cut off what was written after a checkpoint (None: after the very beginning)."""
        noted = checkpoint.notes.get("files", {}) if checkpoint else {}
        for name in GROWING:
            cut(self.path / name, noted.get(name, 0))
        sizes(self.path)  # raises now what would go wrong at the first save
        for path in filter(lambda path: LEFT.fullmatch(path.name), [*self.path.iterdir()]):
            files.remove(path)
        if not self.data_folder.is_symlink():
            files.remove(self.data_folder / "tokenizer.json.part")
        for name in ("latest", "best"):
            with suppress(ValueError, OSError):
                entries = read_manifest(self.path / name)["files"].values()
                remove_others(self.path / name, {entry["name"] for entry in entries})
        step = checkpoint.step - ("report" in checkpoint.notes) if checkpoint else 0
        lost = {*range(1, step + 1)} - {entry["step"] for entry in self.metrics()}
        if lost:
            hint = "the curves will do without them"
            warn(
                f"{self.path / METRICS}: {len(lost)} of {step} steps are missing or damaged: {hint}"
            )

    def data(self) -> TokenData:
        """Return the tokens of the run: its own, or those of the prepared folder.

        Raises ValueError if the prepared folder has changed since the run began.
        """
        own, given = self.data_folder, Path(self.settings.data)
        if (own / "train.npy").is_file():
            return TokenData(own)
        gone = f"{own} holds no train.npy, and there is no prepared folder at {given}: put it back"
        checks.require(given.is_dir(), gone)
        same = identity(given) == identity(own)
        checks.require(same, f"{given} holds other tokens than when the run began")
        return TokenData(given)

    def metrics(self) -> list[dict]:
        """Return the lines of the metrics, without damaged ones."""
        return read_metrics(self.path)

    def has_begun(self) -> bool:
        """Return whether there is a checkpoint to go on from."""
        return (self.path / "latest" / MANIFEST).is_file()

    def traces(self) -> list[str]:
        """Return the names of what says that steps were taken."""
        found = [name for name in (*GROWING, PLOT) if (self.path / name).is_file()]
        found = [name for name in found if (self.path / name).stat().st_size]
        return found + ["best"] * any((self.path / "best").glob("*"))

    def changeable(self) -> set[str]:
        """Return the settings that may change from here on: before there is a step, nearly all."""
        if self.has_begun():
            return CHANGEABLE
        return {setting for setting in SETTINGS if setting not in {*PREPARED, "data", "seed"}}

    def load(self, name: str = "latest") -> Checkpoint:
        """Return a checkpoint of the run; raises as `load_checkpoint` does."""
        checkpoint = load_checkpoint(self.path / name)
        checks.run_checkpoint(checkpoint, GROWING)
        return checkpoint

    def best_loss(self) -> float:
        """Return the validation loss of the best checkpoint; infinity if there is none."""
        if not (self.path / "best" / MANIFEST).is_file():
            return inf
        noted = read_manifest(self.path / "best")["notes"].get("val_loss")
        losses = [entry.get("val_loss", inf) for entry in self.metrics()]
        return noted if isinstance(noted, float) else min(losses, default=inf)

    def save(self, name: str, trainer: Trainer, **notes: object) -> None:
        """Save a checkpoint, "latest" or "best", once the files that it counts on are on disk."""
        notes |= {"data": self.tokens, "machine": machine(trainer.model)}
        notes |= {"settings": as_json(self.settings), "files": sizes(self.path)}
        save_checkpoint(self.path / name, trainer.model, trainer.state_dict(), notes)

    def finish_look(self) -> None:
        """Note in the latest checkpoint that the look at it is done, and what it has written."""
        manifest = read_manifest(self.path / "latest")
        manifest["notes"].pop("report", None)
        manifest["notes"]["files"] = sizes(self.path)
        write_manifest(self.path / "latest", manifest)
