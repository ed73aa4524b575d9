"""The folder of a run: all that it leaves behind, whole after a crash at any moment.

Written by hand.

    config.yaml     the settings, enough to go on with, and to begin another run like it
    data/           the token files, or a note on the prepared folder they came from
    latest/, best/  checkpoints: the last one, and the one with the least loss on other texts
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
from itertools import count
from pathlib import Path

import yaml
from torch import nn

from llmlib.cli.config import OPTIONS, convert, nearest
from llmlib.cli.dataset import TokenData, read_about
from llmlib.files import write_text
from llmlib.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

try:
    import fcntl
except ImportError:  # Windows: two processes in one run are not noticed there
    fcntl = None

CONFIG, METRICS, SAMPLES, PLOT = "config.yaml", "metrics.jsonl", "samples.txt", "loss.png"
GROWING = (METRICS, SAMPLES)


class RunFolder:
    """A run's folder; see the module. All its methods raise OSError where it cannot be written."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.lock_file = None
        self.is_new = False

    @classmethod
    def create(cls, path: str | Path | None, name: str, settings: dict) -> "RunFolder":
        """Begin a run in a new folder: at path, or at runs/name, with a number where that is taken.

        Raises ValueError where something lies at path already.
        """
        if path is None:
            numbers = (f"-{n}" if n > 1 else "" for n in count(1))
            path = next(p for n in numbers if not (p := Path("runs") / f"{name}{n}").exists())
        run = cls(path)
        if (run.path / CONFIG).exists():
            raise ValueError(
                f"{run.path} holds a run already: go on with `llmlib train --resume {run.path}`, "
                "or name another folder with --out"
            )
        if run.path.is_dir() and {p.name for p in run.path.iterdir()} - {".lock"}:
            raise ValueError(f"{run.path} is not empty: name a new folder with --out")
        run.path.mkdir(parents=True, exist_ok=True)
        run.lock()
        run.is_new = True
        run.write_config(settings)
        return run

    def discard_unbegun(self) -> None:
        """Remove the folder of a new run that has no checkpoint, so that its name is free again."""
        if self.is_new and not (self.path / "latest" / "checkpoint.json").exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def lock(self) -> None:
        """Be the only one who writes here; ends with the process, even one that is killed.

        Raises ValueError where another process was first.
        """
        self.lock_file = open(self.path / ".lock", "w")  # noqa: SIM115 - held while we live
        try:
            if fcntl:
                fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {self.path}: wait for it") from None
        except OSError:  # some network drives cannot lock: go on without
            pass

    def write_config(self, settings: dict) -> None:
        """Replace config.yaml, whole at every moment."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        write_text(self.path / CONFIG, text)

    def read_config(self) -> dict:
        """The settings of the run; ValueError where there is none, or one that was spoiled."""
        path = self.path / CONFIG
        if not path.is_file():
            raise ValueError(f"there is no run in {self.path}: it would hold a {CONFIG}")
        try:
            content = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from None
        for name in content.keys() - OPTIONS.keys() - {"data"}:
            raise ValueError(f"{path}: no setting {name!r}{nearest(str(name), list(OPTIONS))}")
        for name in [*OPTIONS, "data"]:
            if name not in content:
                raise ValueError(f"{path} is damaged: {name} is missing in it")
        return {k: convert(OPTIONS[k], v, str(path)) if k in OPTIONS else v
                for k, v in content.items()}  # fmt: skip

    @property
    def data_folder(self) -> Path:
        return self.path / "data"

    def keep_note_of(self, prepared: Path) -> None:
        """Copy what says which tokens a prepared folder held, and what they mean."""
        self.data_folder.mkdir(exist_ok=True)
        for name in ("tokenizer.json", "data.json"):
            if (prepared / name).is_file():
                shutil.copyfile(prepared / name, self.data_folder / f"{name}.part")
                os.replace(self.data_folder / f"{name}.part", self.data_folder / name)

    def data(self) -> TokenData:
        """The tokens of the run, of its own or of the prepared folder that config.yaml names."""
        if (self.data_folder / "train.npy").is_file():
            return TokenData(self.data_folder)
        prepared = TokenData(self.read_config()["data"])
        if prepared.about != read_about(self.data_folder):
            raise ValueError(f"{prepared.folder} holds other tokens than when the run began")
        return prepared

    def log(self, entry: dict) -> None:
        """Add a line to the metrics."""
        self.append(METRICS, json.dumps(entry) + "\n")

    def append(self, name: str, text: str) -> None:
        """Add text to one of the files that only grow."""
        with self.writing(name), open(self.path / name, "ab") as file:
            file.write(text.encode())

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Inside this context, an OSError says which file could not be written."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path / name} could not be written: {error.strerror}. "
                "The checkpoints are untouched",
            ) from error

    def metrics(self) -> list[dict]:
        """The lines of the metrics, as far as they are whole."""
        path = self.path / METRICS
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def save(self, name: str, model: nn.Module, training: dict, notes: dict) -> None:
        """Save a checkpoint, "latest" or "best", once the files that it counts on are on disk."""
        sizes = {}
        for file in GROWING:
            with open(self.path / file, "ab") as opened:
                os.fsync(opened.fileno())
                sizes[file] = opened.tell()
        save_checkpoint(self.path / name, model, training, {**notes, "files": sizes})

    def load(self, name: str) -> Checkpoint:
        """A checkpoint of the run; raises as `load_checkpoint` does."""
        return load_checkpoint(self.path / name)

    def mend(self, checkpoint: Checkpoint | None) -> None:
        """Cut off what was written after a checkpoint (None: after the very beginning)."""
        sizes = checkpoint.notes.get("files", {}) if checkpoint else {}
        for name in GROWING:
            path = self.path / name
            if path.is_file():
                content = path.read_bytes()[: sizes.get(name, 0)]
                os.truncate(path, content.rfind(b"\n") + 1)
        for part in [*self.path.glob("*.part"), *self.data_folder.glob("*.part")]:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
