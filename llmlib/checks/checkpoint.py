"""Checkpoints: what a manifest and its files have to say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from llmlib.checks.files import FileError, blame, read_json
from llmlib.checks.values import require
from llmlib.files import digest, sha256


@contextmanager
def saving_checkpoint(folder: Path) -> Iterator[None]:
    """Inside this context, a failure to write says where, and that the old checkpoint is intact."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            getattr(error, "errno", None),
            f"the checkpoint could not be saved in {folder}: {reason}. "
            "What was saved there before is untouched",
        ) from error


def manifest(path: Path, kind: str, version: int) -> dict[str, Any]:
    """Return the content of a checkpoint.json, without the hash of itself.

    Raises FileNotFoundError if it is not there, and FileError unless it is whole.
    """
    absent = f"there is no checkpoint in {path.parent}: it would hold a {path.name}"
    require(path.is_file(), absent, FileNotFoundError)
    content = read_json(path)
    with blame(path):
        found = content.get("version")
        other = f"it was not written by llmlib: its format is not {kind!r}"
        require(content.get("format") == kind, other)
        later = f"it is of version {found!r:.100}, this llmlib reads {version}"
        is_known = isinstance(found, int) and found <= version
        require(is_known, f"{later}: use the llmlib that wrote it")
        # version 1 had no hash of itself
        sealed = content.pop("sha256", None if found == 1 else "")
        require(sealed in (None, digest(content)), "it is damaged: it does not say what was saved")
        require(is_complete(content), "it is damaged: something is missing or impossible in it")
        return content


def is_complete(content: dict[str, Any]) -> bool:
    """Return whether a manifest has all its parts, and numbers that a checkpoint can have."""
    match content:
        case {
            "files": {
                "weights": {"name": str(), "size": weights_size, "sha256": str()},
                "training": {"name": str(), "size": training_size, "sha256": str()},
            },
            "notes": dict(),
            "model": dict() | None,
            "training": dict() | None as training,
        }:
            names = ("step", "epoch", "batch", "n_batches")
            counts = [weights_size, training_size]
            given = ((training or {}).get(name) for name in names)
            counts += [count for count in given if count is not None]
            return all(map(is_count, counts))
    return False


def is_count(value: object) -> bool:
    """Return whether a value of JSON is a number of things: whole, from 0, and believable."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def checkpoint_file(path: Path, entry: dict[str, Any], named_by: str) -> None:
    """Raise FileError unless a file has the size and SHA-256 that its manifest names."""
    with blame(path):
        require(path.is_file(), f"it is missing, which {named_by} beside it names")
        size, expected = path.stat().st_size, entry["size"]
        fault = f"has {size:,} bytes instead of {expected:,}" if size != expected else None
        if fault is None and sha256(path) != entry["sha256"]:
            fault = "does not have the content that was saved"
        require(fault is None, f"it is damaged: it {fault}. Use another checkpoint")


def checkpoint_fits(saved: Any, config: dict | None, weights: dict[str, torch.Tensor]) -> None:
    """Raise FileError unless a saved checkpoint has the configuration and the weights of a model.

    The dropout may differ, as it has no weights; so may a field that is younger than the file.
    """
    for name, here in (config or {}).items():
        there = (saved.model_config or {}).get(name, here)
        if here != there and name != "drop_rate":
            difference = f"it has {name}={there!r}, the model has {name}={here!r}"
            raise FileError(
                saved.folder, f"{difference}: build the model from checkpoint.model_config"
            )
    for name in sorted(weights.keys() | saved.weights.keys()):
        tensors = saved.weights.get(name), weights.get(name)
        there, here = ("nothing" if t is None else tuple(t.shape) for t in tensors)
        if there != here:
            difference = f"under the name {name!r} it has {there}, the model {here}"
            raise FileError(saved.folder, f"it does not fit the model: {difference}")


def sizes_of_model(file: Path, config: Any, weights: dict[str, torch.Tensor]) -> None:
    """Raise FileError unless weights have the vocabulary, positions and blocks of a configuration.

    Asked before the model is made, which an absurd number would keep busy for ever.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    blocks = {name.split(".")[1] for name in weights if name.startswith("h.")}
    fits = len(blocks) == config.n_layers
    fits = fits and shapes.get("wte.weight") == (config.vocab_size, config.emb_dim)
    for name in ("wpe.weight", "positions.wpe.weight"):  # where positions are learned
        there = shapes.get(name, (config.context_length, config.emb_dim))
        fits = fits and there == (config.context_length, config.emb_dim)
    with blame(file):
        require(fits, "it is damaged, or was changed: its sizes are not those of the saved weights")


def finite_to_save(model: torch.nn.Module) -> None:
    """Raise FloatingPointError if a parameter of a model holds a number that is not finite."""
    for name, parameter in model.named_parameters():
        require(
            parameter.isfinite().all(),
            f"the model is not saved: {name} holds numbers that are not finite. What was saved "
            "before is untouched: go on from it with a lower learning rate or a longer warm-up",
            FloatingPointError,
        )
