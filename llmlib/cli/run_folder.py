"""The folder of a run: everything it leaves behind, intact after a crash at any moment.

Written by hand.

    config.yaml     the settings: enough to resume, and to start another run like it
    data/           the token files, or a note on the prepared folder they came from
    latest/, best/  checkpoints: the last one, and the one with the lowest validation loss
    metrics.jsonl   a JSON object for each step
    samples.txt     what the model wrote, over time
    loss.png        the curves

The two text files only ever grow, and each checkpoint notes how long they were when it was saved.
Whatever stands behind that belongs to steps that will be taken again: resuming cuts it off.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count, filterfalse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from filelock import FileLock, Timeout

from llmlib import checks, files
from llmlib.cli.dataset import TokenData
from llmlib.cli.prepare import prepare
from llmlib.cli.settings import CHANGEABLE, PREPARED, SETTINGS, read_settings, settle, values
from llmlib.data import corpora
from llmlib.model.config import GPTConfig
from llmlib.tokenization.prepared import is_prepared, read_about
from llmlib.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

CONFIG, METRICS, SAMPLES, PLOT = "config.yaml", "metrics.jsonl", "samples.txt", "loss.png"
GROWING = (METRICS, SAMPLES)


def new_run(data: str | None = None, out: str | None = None, **given: Any) -> "RunFolder":
    """Start a run in a new folder: `out`, or runs/NAME, with a number if that is taken.

    Raises ValueError for settings that are impossible, and for a folder that is not empty.
    """
    data, corpus = locate(data), None
    if is_prepared(data):
        corpus = read_about(data)["corpus"]
        for name in sorted(given.keys() & PREPARED):
            raise ValueError(f"{name} was decided when {data} was prepared: leave it out")
    settings = settle({**given, "data": data}, corpus)
    name = f"runs/{Path(data).stem}-{settings.preset}"
    numbered = chain([name], (f"{name}-{n}" for n in count(2)))
    path = Path(out or next(filterfalse(os.path.exists, numbered)))
    hint = f"go on with `llmlib train --resume {path}`, or name another folder with --out"
    checks.require(not (path / CONFIG).exists(), f"{path} holds a run already: {hint}")
    others = path.is_dir() and {p.name for p in path.iterdir()} - {".lock"}
    checks.require(not others, f"{path} is not empty: name a new folder with --out")
    run = RunFolder(path, settings)
    run.begin()
    return run


def resume_run(path: str | Path, **given: Any) -> "RunFolder":
    """Open the folder of an earlier run to go on with it; given: settings that change.

    Raises ValueError for a change that would make it another run, and if the folder is in use.
    """
    checks.require("out" not in given, "give --resume or --out, not both: a run keeps its folder")
    if "data" in given:
        given["data"] = locate(given["data"])
    run = open_run(path)
    for name, value in given.items():
        own = getattr(run.settings, name)
        if name not in CHANGEABLE and value != own:
            change = f"this run has {name} {own!r}, and cannot go on with {value!r}"
            raise ValueError(f"{change}: start a new run for that")
    vars(run.settings).update(given)
    run.begin()
    return run


def open_run(path: str | Path) -> "RunFolder":
    """Open the folder of an earlier run to read it. Raises ValueError if it is not whole."""
    file = Path(path) / CONFIG
    checks.require(file.is_file(), f"there is no run in {path}: it would hold a {CONFIG}")
    settings = read_settings(file)
    for name in SETTINGS.keys() - settings.keys() - {"out"}:
        raise ValueError(f"{file} is damaged: {name} is missing in it")
    return RunFolder(path, SimpleNamespace(**settings))


def locate(data: str | None) -> str:
    """Return the name of a corpus, or the absolute path of a file or folder, good from everywhere.

    Raises ValueError or OSError, naming the nearest corpus, for anything else.
    """
    kinds = "a corpus, a text file or a prepared folder, such as `llmlib train stories`"
    data = checks.found(data, f"no data to train on: name {kinds}")
    if corpora.is_name(data):
        return data
    if not is_prepared(data):
        next(iter(corpora.texts(data)), None)  # raises now what is wrong with its beginning
    return str(Path(data).resolve())


def model_config(settings: SimpleNamespace, vocab_size: int) -> GPTConfig:
    """Return the configuration of the model: the preset's, with the sizes that were given."""
    sizes = {k: size for k, size in values(settings, "model").items() if size is not None}
    return GPTConfig.preset(settings.preset, vocab_size=vocab_size, **sizes)


def train_config(settings: SimpleNamespace) -> TrainConfig:
    """Return the configuration of the training."""
    return TrainConfig(**values(settings, "training"))


class RunFolder:
    """A run's folder and its settings. All methods raise OSError if it cannot be written."""

    def __init__(self, path: str | Path, settings: SimpleNamespace):
        self.path, self.settings = Path(path), settings
        self.data_folder = self.path / "data"
        self.file_lock = FileLock(self.path / ".lock", timeout=0)

    def __reduce__(self) -> tuple:
        """Send path and settings to other processes; the lock stays with the writer."""
        return RunFolder, (self.path, self.settings)

    def begin(self) -> None:
        """Make the folder if there is none, lock it, and write the settings into it.

        Raises ValueError, before that, for sizes that no model or training can have.
        """
        model_config(self.settings, vocab_size=3)  # the true size is known when there are tokens
        train_config(self.settings)
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.settings).items()}
        text = yaml.safe_dump(lists, sort_keys=False, allow_unicode=True)
        files.write_text(self.path / CONFIG, text)

    def lock(self) -> None:
        """Be the only process that writes here, until this one ends or is killed.

        Raises ValueError if another process was first.
        """
        try:
            self.file_lock.acquire()
        except Timeout:
            raise ValueError(f"another process is training in {self.path}: wait for it") from None
        except (OSError, NotImplementedError):  # some network drives cannot lock: go on without
            pass

    def prepare_data(self, checkpoint: Checkpoint | None) -> None:
        """Make the folder ready for the step after a checkpoint: cut off the rest, encode the text.

        A text is prepared in the run's own folder. Of a folder that was prepared elsewhere, the run
        keeps what tells which tokens it held and what they mean.
        """
        self.cut_back(checkpoint)
        settings, folder = self.settings, self.data_folder
        if (folder / "data.json").is_file():
            return
        if not is_prepared(settings.data):
            prepare(settings.data, folder, **values(settings, "data"))
            return
        with files.making_folder(folder) as beside:
            for path in Path(settings.data).glob("*.json"):
                shutil.copy(path, beside)

    def cut_back(self, checkpoint: Checkpoint | None) -> None:
        """Cut off what was written after a checkpoint (None: after the very beginning)."""
        sizes = checkpoint.notes.get("files", {}) if checkpoint else {}
        for name in GROWING:
            path = self.path / name
            if path.is_file():
                content = path.read_bytes()[: sizes.get(name, 0)]
                os.truncate(path, content.rfind(b"\n") + 1)
        for part in [*self.path.glob("*.part"), *self.data_folder.glob("*.part")]:
            shutil.rmtree(part) if part.is_dir() else part.unlink()

    def data(self) -> TokenData:
        """Return the tokens of the run: its own, or those of the prepared folder.

        Raises ValueError if the prepared folder has changed since the run began.
        """
        if (self.data_folder / "train.npy").is_file():
            return TokenData(self.data_folder)
        prepared = TokenData(self.settings.data)
        same = prepared.about == read_about(self.data_folder)
        checks.require(same, f"{prepared.folder} holds other tokens than when the run began")
        return prepared

    def append(self, name: str, text: str) -> None:
        """Add text to one of the files that only grow."""
        with self.writing(name), open(self.path / name, "ab") as file:
            file.write(text.encode())

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield the path of a file; an OSError inside says that this file could not be written."""
        try:
            yield self.path / name
        except OSError as error:
            what = f"{self.path / name} could not be written: {error.strerror}"
            raise OSError(error.errno, f"{what}. The checkpoints are untouched") from error

    def metrics(self) -> list[dict]:
        """Return the lines of the metrics, which `cut_back` has left whole."""
        path = self.path / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    def has_begun(self) -> bool:
        """Return whether there is a checkpoint to go on from."""
        return (self.path / "latest" / "checkpoint.json").is_file()

    def load(self, name: str = "latest") -> Checkpoint:
        """Return a checkpoint of the run; raises as `load_checkpoint` does."""
        return load_checkpoint(self.path / name)

    def save(self, name: str, trainer: Trainer, **notes: object) -> None:
        """Save a checkpoint, "latest" or "best", once the files that it counts on are on disk."""
        sizes = {}
        for file in GROWING:
            with open(self.path / file, "ab") as opened:
                os.fsync(opened.fileno())
                sizes[file] = opened.tell()
        notes |= {"files": sizes}
        save_checkpoint(self.path / name, trainer.model, trainer.state_dict(), notes)
