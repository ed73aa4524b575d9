"""Checkpoints: a model and the state of its training in a folder, whole at every moment.

Written by hand; notebook 06 shows what it is for in section 13. A folder holds `checkpoint.json`,
which names two files of tensors with their sizes and SHA-256: the weights, and the state of a
Trainer. New files are written under new names, flushed to the disk, and only then named by a new
`checkpoint.json`, which takes the place of the old one in a single rename. If the process is
killed, at any moment, the folder holds the old checkpoint or the new one. `checkpoint.json` holds a
hash of itself too, so that it vouches for the tensors and for its own numbers. Nothing is pickled:
tensors are in safetensors, the rest is JSON. What is left out: keeping several (give each a
folder), and models in pieces on many machines.
"""

import json
import re
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save_file
from torch import nn

from llmlib import checks, files
from llmlib.model.protocol import unwrapped

MANIFEST = "checkpoint.json"
FORMAT, VERSION = "llmlib checkpoint", 2  # 1 had no hash of itself, and is read too


def config_fields(model: nn.Module) -> dict | None:
    """Return the fields of model.config as JSON gives them back; None unless it is a dataclass."""
    config = getattr(model, "config", None)
    is_instance = is_dataclass(config) and not isinstance(config, type)
    return json.loads(json.dumps(asdict(config))) if is_instance else None


@dataclass(frozen=True)
class Checkpoint:
    """What a folder held: see `save_checkpoint`, whose arguments these are."""

    folder: Path
    weights: dict[str, torch.Tensor]
    model_config: dict | None  # the fields of model.config, if it is a dataclass
    training: dict | None  # a Trainer's state_dict
    notes: dict
    config_class: str | None = None  # the name of model.config's class; None in older files

    @property
    def step(self) -> int:
        """The number of training steps behind the weights."""
        return (self.training or {}).get("step", 0)

    def load_into(self, model: nn.Module) -> None:
        """Copy the weights into a model.

        Raises FileError, and changes nothing, if they do not fit.
        """
        model = unwrapped(model)
        checks.checkpoint_fits(self, config_fields(model), model.state_dict())
        model.load_state_dict(self.weights)


def write_tensors(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> dict:
    """Write a file of tensors under a new name, and return what the manifest says of it."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    path, digest = files.write_named_by_hash(
        folder, name, "safetensors", lambda part: save_file(tensors, part)
    )
    return {"name": path.name, "size": path.stat().st_size, "sha256": digest}


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write checkpoint.json, and a hash of itself into it."""
    sealed = {**manifest, "sha256": files.digest(manifest)}
    # the rename in here is the moment in which a new checkpoint becomes valid
    files.write_json(folder / MANIFEST, sealed, indent=1)


def remove_others(folder: Path, kept: set[str]) -> None:
    """Delete what older or interrupted checkpoints left behind, and nothing else."""
    # the last two are what earlier versions left when they were killed: PID.part, and safetensors'
    names = r"(weights|training)-[0-9a-f]{16}\.safetensors|\d+\.part|\.tmp[A-Za-z0-9]{6}"
    for path in folder.iterdir():
        if re.fullmatch(names, path.name) and path.name not in kept and not path.is_dir():
            files.remove(path)
    for name in ("weights", "training", MANIFEST):
        files.remove_leftovers(folder / name)


def save_checkpoint(
    folder: str | Path, model: nn.Module, training: dict | None = None, notes: dict | None = None
) -> None:
    """Write a checkpoint into a folder, in place of the one that may be there.

    training: `trainer.state_dict()`, so that training can go on. notes: what else should be known,
    such as the name of the corpus, as JSON can say it; write numbers that may be nan as text.
    Raises OSError if it cannot be written (a full disk, a folder without permission), TypeError or
    ValueError for notes that are not JSON, and FloatingPointError for weights that are not finite;
    the checkpoint from before is then intact.
    """
    checks.finite_to_save(model)
    folder, training, model = Path(folder), dict(training or {}), unwrapped(model)
    content = {"weights": model.state_dict(), "training": training.pop("tensors", {})}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "model": config_fields(model),
        "config_class": type(getattr(model, "config", None)).__name__,
        "training": training or None,
        "notes": notes or {},
    }
    json.dumps(manifest, allow_nan=False)  # raises before anything is written
    with checks.saving_checkpoint(folder):
        folder.mkdir(parents=True, exist_ok=True)
        entries = {name: write_tensors(folder, name, content[name]) for name in content}
        files.flush_folder(folder)  # the files that it names have their names, on the disk too
        write_manifest(folder, {**manifest, "files": entries})
    remove_others(folder, {entry["name"] for entry in entries.values()})


def read_manifest(folder: Path) -> dict:
    """Return the content of a folder's checkpoint.json. Raises as `load_checkpoint` does."""
    return checks.manifest(folder / MANIFEST, FORMAT, VERSION)


def read_tensors(folder: Path, entry: dict) -> dict[str, torch.Tensor]:
    """Read a file that the manifest names, verified. Raises as `load_checkpoint` does."""
    path = folder / Path(entry["name"]).name  # never outside the folder
    checks.checkpoint_file(path, entry, MANIFEST)
    with checks.blame(path, about="it is not a safetensors file: "):
        if str(path).isprintable():
            return load_file(path)
        return load(path.read_bytes())  # safetensors cannot open a name that is not UTF-8


def read_parts(folder: Path) -> tuple[dict, list[dict[str, torch.Tensor]]]:
    """Return the manifest and the tensors of weights and training, which belong together.

    Another process may save meanwhile, and remove what the manifest named: then its new one counts.
    """
    manifest = read_manifest(folder)
    while True:
        try:
            entries = manifest["files"]
            return manifest, [read_tensors(folder, entries[n]) for n in ("weights", "training")]
        except (RuntimeError, ValueError):
            before, manifest = manifest, read_manifest(folder)
            if manifest == before:
                raise


def load_checkpoint(folder: str | Path, model: nn.Module | None = None) -> Checkpoint:
    """Read the checkpoint in a folder, verified to the last byte; with a model, fill that too.

    Raises FileNotFoundError if there is none, and FileError, naming the file and the reason, if it
    is damaged, of another kind, or does not fit the model.
    """
    folder = Path(folder)
    manifest, (weights, state) = read_parts(folder)
    training = manifest["training"] and {**manifest["training"], "tensors": state}
    kind = manifest.get("config_class")
    checkpoint = Checkpoint(folder, weights, manifest["model"], training, manifest["notes"], kind)
    if model is not None:
        checkpoint.load_into(model)
    return checkpoint
