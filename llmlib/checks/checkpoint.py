"""Checkpoints: what a manifest and its files have to say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from llmlib.files import sha256


class CheckpointError(ValueError):
    """A checkpoint cannot be used: the message names the file, the reason and a way out."""


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


def checkpoint_is_there(path: Path) -> None:
    """Raise FileNotFoundError if a folder has no checkpoint."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint in {path.parent}: it would hold a {path.name}"
        )


def manifest(path: Path, content: bytes, kind: str, version: int) -> dict[str, Any]:
    """Return the content of a checkpoint.json. Raises CheckpointError unless it is whole."""
    try:
        found = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error})") from None
    if not isinstance(found, dict) or found.get("format") != kind:
        raise CheckpointError(f"{path} was not written by llmlib: its format is not {kind!r}")
    if found.get("version") != version:
        raise CheckpointError(
            f"{path} is of version {found.get('version')!r}, this llmlib reads {version}: "
            "use the llmlib that wrote it"
        )
    try:
        entries = [found["files"][name] for name in ("weights", "training")]
        fields = {"name": str, "size": int, "sha256": str}
        whole = all(
            isinstance(entry[key], kind) for entry in entries for key, kind in fields.items()
        )
        whole &= isinstance(found["notes"], dict)
        whole &= all(
            found[name] is None or isinstance(found[name], dict) for name in ("model", "training")
        )
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path} is damaged: something is missing in it")
    return found


def checkpoint_file(path: Path, entry: dict[str, Any], named_by: str) -> None:
    """Raise CheckpointError unless a file has the size and SHA-256 that its manifest names."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, which {named_by} beside it names")
    size, fault = path.stat().st_size, None
    if size != entry["size"]:
        fault = f"has {size:,} bytes instead of {entry['size']:,}"
    elif sha256(path) != entry["sha256"]:
        fault = "does not have the content that was saved"
    if fault:
        raise CheckpointError(f"{path} is damaged: it {fault}. Use another checkpoint")


@contextmanager
def reading_safetensors(path: Path) -> Iterator[None]:
    """Inside this context, a file that is not safetensors is a CheckpointError."""
    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def checkpoint_fits(
    folder: Path,
    saved: tuple[dict | None, dict[str, torch.Tensor]],
    own: tuple[dict | None, dict[str, torch.Tensor]],
) -> None:
    """Raise CheckpointError unless (configuration, weights) of a checkpoint and a model agree.

    The dropout may differ, as it has no weights; so may a field that is younger than the file.
    """
    (saved_config, saved_weights), (config, weights) = saved, own
    for name, here in (config or {}).items():
        there = (saved_config or {}).get(name, here)
        if here != there and name != "drop_rate":
            raise CheckpointError(
                f"the checkpoint in {folder} has {name}={there!r}, the model has "
                f"{name}={here!r}: build the model from checkpoint.model_config"
            )
    for name in sorted(weights.keys() | saved_weights.keys()):
        here, there = weights.get(name), saved_weights.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = ["nothing" if t is None else str(tuple(t.shape)) for t in (there, here)]
            raise CheckpointError(
                f"the checkpoint in {folder} does not fit the model: under the name "
                f"{name!r} it has {shapes[0]}, the model {shapes[1]}"
            )
