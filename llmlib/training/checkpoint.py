# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""Checkpoints: a model and the state of its training in a folder, whole at every moment.

Built in notebook 06. A folder holds `checkpoint.json`, which names two files of tensors with their
sizes and SHA-256: the weights, and the state of a Trainer. New files are written under new names,
flushed to the disk, and only then named by a new `checkpoint.json`, which takes the place of the
old one in a single rename. Whoever kills the process, at any moment, finds the old checkpoint or
the new one. Nothing is pickled: tensors are in safetensors, the rest is JSON. What is left out:
keeping several (give each a folder), and models in pieces on many machines.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

MANIFEST = "checkpoint.json"
FORMAT, VERSION = "llmlib checkpoint", 1


class CheckpointError(ValueError):
    """A checkpoint cannot be used: the message names the file, the reason and a way out."""


@dataclass(frozen=True)
class Checkpoint:
    """What a folder held: see `save_checkpoint`, whose arguments these are."""

    folder: Path
    weights: dict[str, torch.Tensor]
    model_config: dict | None  # the fields of model.config, where it is a dataclass
    training: dict | None  # a Trainer's state_dict
    notes: dict

    @property
    def step(self) -> int:
        """The steps of training that the weights have behind them."""
        return (self.training or {}).get("step", 0)

    def load_into(self, model: nn.Module) -> None:
        """Copy the weights into a model; CheckpointError, and no change, where they do not fit."""
        config = plain(getattr(model, "config", None))
        for name in config or {}:
            here, there = config[name], (self.model_config or config).get(name)
            if here != there and name != "drop_rate":  # which has no weights
                raise CheckpointError(
                    f"the checkpoint in {self.folder} has {name}={there!r}, the model has "
                    f"{name}={here!r}: build the model from checkpoint.model_config"
                )
        own = model.state_dict()
        for name in sorted(own.keys() | self.weights.keys()):
            here, there = own.get(name), self.weights.get(name)
            if here is None or there is None or here.shape != there.shape:
                shapes = ["nothing" if t is None else str(tuple(t.shape)) for t in (there, here)]
                raise CheckpointError(
                    f"the checkpoint in {self.folder} does not fit the model: under the name "
                    f"{name!r} it has {shapes[0]}, the model {shapes[1]}"
                )
        model.load_state_dict(self.weights)


def write_through(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file and wait until the disk has it: a rename must not overtake the content."""
    write(path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk knows the names in a folder; Windows cannot, and need not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_others(folder: Path, kept: set[str]) -> None:
    """Delete what older or interrupted checkpoints left behind, and nothing else."""
    for name in ("weights", "training"):
        for path in folder.glob(f"{name}-{'[0-9a-f]' * 16}.safetensors"):
            if path.name not in kept:
                with suppress(OSError):
                    path.unlink()
    for path in folder.glob("*.part"):
        if path.stem.isdigit():
            with suppress(OSError):
                path.unlink()


def plain(config: object) -> dict | None:
    """The fields of a dataclass as JSON would give them back; None for anything else."""
    is_instance = is_dataclass(config) and not isinstance(config, type)
    return json.loads(json.dumps(asdict(config))) if is_instance else None


def write_tensors(folder: Path, part: Path, name: str, tensors: dict[str, torch.Tensor]) -> dict:
    """Write a file of tensors, by way of part, and return what the manifest says of it."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_through(part, lambda path: save_file(tensors, path))
    digest, size = sha256(part), part.stat().st_size
    file = folder / f"{name}-{digest[:16]}.safetensors"
    os.replace(part, file)
    return {"name": file.name, "size": size, "sha256": digest}


def save_checkpoint(
    folder: str | Path,
    model: nn.Module,
    training: dict | None = None,
    notes: dict | None = None,
) -> None:
    """Write a checkpoint into a folder, in place of the one that may be there.

    training: `trainer.state_dict()`, so that training can go on. notes: what else should be known,
    such as the name of the corpus, as JSON can say it; numbers as text, please, where they are nan.
    Raises OSError where it cannot be written (a full disk, a folder without permission), and
    TypeError or ValueError for notes that are not JSON; the checkpoint from before is then intact.
    """
    folder, training = Path(folder), dict(training or {})
    content = {"weights": model.state_dict(), "training": training.pop("tensors", {})}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "model": plain(getattr(model, "config", None)),
    }
    manifest |= {"training": training or None, "notes": notes or {}, "files": {}}
    json.dumps(manifest, allow_nan=False)  # raises before anything is written
    part = folder / f"{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, tensors in content.items():
            manifest["files"][name] = write_tensors(folder, part, name, tensors)
        text = json.dumps(manifest, indent=1, allow_nan=False)
        write_through(part, lambda path: path.write_text(text, encoding="utf-8"))
        flush_folder(folder)  # the files that it names have their names, on the disk too
        os.replace(part, folder / MANIFEST)  # the moment in which the new one becomes valid
        flush_folder(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            getattr(error, "errno", None),
            f"the checkpoint could not be saved in {folder}: {reason}. "
            "What was saved there before is untouched",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    remove_others(folder, {entry["name"] for entry in manifest["files"].values()})


def read_manifest(folder: Path) -> dict:
    """The content of a folder's checkpoint.json; raises as `load_checkpoint` does."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint in {folder}: it would hold a {MANIFEST}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by llmlib: its format is not {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise CheckpointError(
            f"{path} is of version {manifest.get('version')!r}, this llmlib reads {VERSION}: "
            "use the llmlib that wrote it"
        )
    try:
        entries = [manifest["files"][name] for name in ("weights", "training")]
        whole = all(
            isinstance(entry["name"], str)
            and isinstance(entry["size"], int)
            and isinstance(entry["sha256"], str)
            for entry in entries
        )
        whole &= isinstance(manifest["notes"], dict)
        for name in ("model", "training"):
            whole &= manifest[name] is None or isinstance(manifest[name], dict)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path} is damaged: something is missing in it")
    return manifest


def read_tensors(folder: Path, entry: dict) -> dict[str, torch.Tensor]:
    """Read a file that the manifest names, verified; raises as `load_checkpoint` does."""
    path = folder / Path(entry["name"]).name  # never outside the folder
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, which {MANIFEST} beside it names")
    size, fault = path.stat().st_size, None
    if size != entry["size"]:
        fault = f"has {size:,} bytes instead of {entry['size']:,}"
    elif sha256(path) != entry["sha256"]:
        fault = "does not have the content that was saved"
    if fault:
        raise CheckpointError(f"{path} is damaged: it {fault}. Use another checkpoint")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from None


def load_checkpoint(folder: str | Path, model: nn.Module | None = None) -> Checkpoint:
    """Read the checkpoint in a folder, verified to the last byte; with a model, fill that too.

    Raises FileNotFoundError where there is none, and CheckpointError, naming the file and the
    reason, where it is damaged, of another kind, or does not fit the model.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    files = {name: read_tensors(folder, entry) for name, entry in manifest["files"].items()}
    training = manifest["training"]
    if training is not None:
        training = {**training, "tensors": files["training"]}
    checkpoint = Checkpoint(
        folder, files["weights"], manifest["model"], training, manifest["notes"]
    )
    if model is not None:
        checkpoint.load_into(model)
    return checkpoint
