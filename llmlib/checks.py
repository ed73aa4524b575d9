"""Messages for bad input: what was given, what is allowed, what to do.

Written by hand. Checks stand at the doors (constructors of configurations, readers of files, the
public entry of a loop, the command line), so that the code behind them carries nothing but ideas.
Each function returns nothing, or the checked value, and raises TypeError or ValueError.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from numbers import Integral
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError

from llmlib.files import sha256

T = TypeVar("T")

# --- values


def whole_number(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless a value is an int (not a bool) from `least` to `most`."""
    fits = type(value) is int and value >= least and (most is None or value <= most)
    if not fits:
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}: it must be an int {allowed}")


def number(name: str, value: object, fits: Callable[[float], bool], allowed: str) -> None:
    """Raise ValueError unless a value is an int or float that fits, with `allowed` in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ValueError(f"{name} is {value!r}: it must be a number {allowed}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it must be True or False")


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless a value is among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(str, allowed))}")


def known_fields(cls: type[Any], given: Iterable[str]) -> None:
    """Raise TypeError, naming the nearest field, for a keyword that a dataclass does not have."""
    names = [field.name for field in fields(cls)]
    for name in given:
        if name not in names:
            raise TypeError(f"{cls.__name__} has no field {name!r}: {suggest(name, names)}")


def known_name(kind: str, name: str, allowed: Collection[str]) -> None:
    """Raise ValueError, naming the nearest one, for a name that is not among the allowed ones."""
    if name not in allowed:
        raise ValueError(f"there is no {kind} {name!r}: {suggest(name, list(allowed))}")


def instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError unless a value is of a kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


class KnownFields:
    """Base of a dataclass: a keyword that it does not have is answered with the nearest one.

    In __new__, which sees the keywords before the generated __init__ refuses them without a hint.
    """

    def __new__(cls: type[T], *args: object, **given: object) -> T:
        known_fields(cls, given)
        return object.__new__(cls)


def suggest(name: str, allowed: Collection[str]) -> str:
    """Return words that help with a misspelt name: the nearest allowed one, and all of them."""
    close = get_close_matches(str(name), allowed, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(allowed)}"


# --- tensors


def token_ids(ids: object) -> None:
    """Raise TypeError or ValueError unless ids are a tensor of ints (B, T) with at least one."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"ids are a {type(ids).__name__}: give a tensor, torch.tensor([ids])")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids hold {ids.dtype}: token ids are torch.int64 (or int32)")
    if ids.ndim != 2:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}, expected (batch, tokens); "
            "a single sequence is a batch of one: ids.unsqueeze(0)"
        )
    if ids.numel() == 0:
        raise ValueError(f"ids of shape {tuple(ids.shape)} hold no token: give at least one")


# --- losses, evaluation and n-gram models


def logits(value: object) -> None:
    """Raise TypeError or ValueError unless logits are a tensor of floats (..., V)."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(
            f"logits must be a tensor of floats, not {kind}: the model has to map ids (B, T) to "
            "logits (B, T, V)"
        )
    if value.ndim < 2:
        raise ValueError(
            f"logits have shape {tuple(value.shape)}, expected (batch, tokens, vocabulary)"
        )


def features(values: object, weight: object, chunk_size: int | None) -> None:
    """Raise TypeError or ValueError unless features (..., C) fit a weight (V, C)."""
    for name, value in {"features": values, "weight": weight}.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a tensor of floats, not {kind}")
    if weight.ndim != 2 or values.ndim < 2 or values.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"features {tuple(values.shape)} and weight {tuple(weight.shape)} do not fit: "
            "expected (batch, tokens, C) and (vocabulary, C)"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")


def targets(
    ids: object, shape: Iterable[int], vocab_size: int, ignore_index: int, reduction: str
) -> None:
    """Raise TypeError or ValueError unless targets are token ids of a shape.

    The ids themselves are looked at on the CPU only: Python would have to wait for an accelerator.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}: it must be 'mean' or 'sum'")
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"targets are a {type(ids).__name__}: give a tensor of token ids")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"targets hold {ids.dtype}: token ids are torch.int64 (or int32)")
    if ids.shape != torch.Size(shape):
        raise ValueError(
            f"targets have shape {tuple(ids.shape)}, expected {tuple(shape)}: "
            "one id for each position"
        )
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    counted = ids[ids != ignore_index]
    if reduction == "mean" and counted.numel() == 0:
        raise ValueError(
            f"none of the {ids.numel()} targets counts: there is no mean loss of nothing"
        )
    low, high = (bound.item() for bound in counted.aminmax()) if counted.numel() else (0, 0)
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"target {low if low < 0 else high} is outside the vocabulary: ids are 0 to "
            f"{vocab_size - 1}, or {ignore_index} where a position does not count"
        )


def batch(value: object, name: str = "a batch") -> None:
    """Raise TypeError unless a batch is a pair or a triple of tensors."""
    fits = isinstance(value, (tuple, list)) and len(value) in (2, 3)
    if not fits or not all(isinstance(part, torch.Tensor) for part in value):
        raise TypeError(
            f"{name} is a {type(value).__name__}: give pairs (inputs, targets) of tensors, each "
            "(B, T), or triples (inputs, targets, segments)"
        )


def evaluation(model: object, max_batches: int | None) -> None:
    """Raise TypeError or ValueError for what cannot be evaluated."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a function of ids (B, T)")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches must be at least 1, not {max_batches}")


def measured_loss(loss: float, number: int, compute_logits: Callable[[], torch.Tensor]) -> float:
    """Return a loss. Raises ValueError for nan, saying how many logits are not finite."""
    if loss != loss:
        values = compute_logits()
        bad = (~values.isfinite()).sum().item()
        raise ValueError(
            f"the loss of batch {number} is not a number, nor would be any mean with it: "
            f"{bad} of {values.numel()} logits are NaN or infinite"
        )
    return loss


def measured_tokens(n_batches: int, n_tokens: int, ignore_index: int) -> None:
    """Raise ValueError if there was nothing to evaluate."""
    if n_batches == 0:
        raise ValueError("there is no batch to evaluate: the loader is empty (or used up)")
    if n_tokens == 0:
        raise ValueError(f"no target of {n_batches} batches counts: all of them are {ignore_index}")


def at_least_one_byte(n_bytes: int) -> int:
    """Return the number of bytes. Raises ValueError for a text without any."""
    if n_bytes < 1:
        raise ValueError(f"a text of {n_bytes} bytes has no bits per byte: give at least 1")
    return n_bytes


def ngram_model(n: object, vocab_size: object, discount: float | None) -> None:
    """Raise ValueError for sizes or a discount that no n-gram model has."""
    for name, value in {"n": n, "vocab_size": vocab_size}.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
    if discount is not None and not 0 < discount < 1:
        raise ValueError(f"discount is {discount!r}: it must lie between 0 and 1")


def ngram_documents(ids: Collection[np.ndarray], vocab_size: int) -> None:
    """Raise ValueError if no document has two tokens, or one has an id outside the vocabulary."""
    if max(map(len, ids), default=0) < 2:
        raise ValueError("there is nothing to count: no token follows another one")
    known_ids([int(document.max()) for document in ids], vocab_size)


def ngram_ids(ids: object, is_fitted: bool) -> None:
    """Raise RuntimeError before the counting, and TypeError for ids that are not (B, T)."""
    if not is_fitted:
        raise RuntimeError("the model has counted nothing yet: call fit(ids) first")
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        raise TypeError("ids must be a tensor (batch, tokens), for one sequence ids.unsqueeze(0)")


# --- documents in rows


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say what a TypeError or ValueError from inside this context is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


def documents(n_documents: int, end_of_text: int) -> None:
    """Raise ValueError if there are no documents or end_of_text is no id."""
    if n_documents == 0:
        raise ValueError("there are no documents: give at least one")
    if end_of_text < 0:
        raise ValueError(f"end_of_text must be a token id, so at least 0, not {end_of_text}")


def document(number: int, ids: np.ndarray, end_of_text: int, context_length: int | None) -> None:
    """Raise ValueError for a document that is too long or already holds end_of_text."""
    if context_length is not None and len(ids) + 1 > context_length:
        raise ValueError(
            f"document {number} of {len(ids)} tokens, and end_of_text before it, exceeds "
            f"the context_length of {context_length}: divide it, or use create_dataloader"
        )
    if (ids == end_of_text).any():
        raise ValueError(
            f"document {number} holds end_of_text ({end_of_text}): it is added here, so "
            "give each document without it"
        )


def document_batches(n_documents: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if a loader of documents would have no batch."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if drop_last and n_documents < batch_size:
        raise ValueError(
            f"{n_documents} documents do not fill one batch of {batch_size}: "
            "give more of them, a smaller batch_size, or drop_last=False"
        )


# --- training


def train_config(config: Any) -> None:
    """Raise ValueError for a setting with which nothing can be trained."""
    for name, least in (("max_steps", 1), ("warmup_steps", 0), ("accumulation_steps", 1)):
        whole_number(name, getattr(config, name), least)
    if not isinstance(config.betas, (tuple, list)) or len(config.betas) != 2:
        raise ValueError(f"betas is {config.betas!r}: it must be two numbers")
    for which, beta in zip(("first", "second"), config.betas):
        number(f"the {which} of betas", beta, lambda x: 0 <= x < 1, "from 0 to below 1")
    number("learning_rate", config.learning_rate, lambda x: 0 < x < math.inf, "above 0")
    number("final_fraction", config.final_fraction, lambda x: 0 <= x <= 1, "from 0 to 1")
    number("weight_decay", config.weight_decay, lambda x: 0 <= x < math.inf, "of at least 0")
    if config.grad_clip is not None:
        number("grad_clip", config.grad_clip, lambda x: x > 0, "above 0, or None")
    weights = config.aux_weights
    named = weights if isinstance(weights, dict) else {"": weights}
    for name, weight in named.items():
        name = f"aux_weights[{name!r}]" if name else "aux_weights"
        number(name, weight, lambda x: 0 <= x < math.inf, "of at least 0, or a dict of them")
    one_of("dtype", config.dtype, ("float32", "bfloat16"))
    one_of("optimizer", config.optimizer, ("adamw", "muon"))


def trained_parameters(parameters: Collection[object]) -> None:
    """Raise ValueError for a model without parameters to train."""
    if not parameters:
        raise ValueError("the model has no parameters to train: all are frozen, or there are none")


def step_number(step: int) -> None:
    """Raise ValueError for a step below 0."""
    if step < 0:
        raise ValueError(f"there is no step {step}: steps are counted from 0")


def aux_names(names: Iterable[str], weights: float | dict[str, float]) -> None:
    """Raise ValueError if a model adds a loss for which there is no weight."""
    for name in names:
        if isinstance(weights, dict) and name not in weights:
            given = ", ".join(weights) or "none at all"
            raise ValueError(
                f"the model adds a loss {name!r}, but aux_weights names {given}: give its weight "
                "(0 to log it only), or one number for all losses"
            )


def loader(given: object, n_read: int, n_batches: int | None) -> None:
    """Raise TypeError for a loader that can be read only once, ValueError for one of other size.

    n_read: batches already read in an epoch of n_batches.
    """
    if isinstance(given, Iterator):
        raise TypeError(
            f"a {type(given).__name__} can be read only once: give a DataLoader or a list, "
            "which can be read again from its beginning"
        )
    n_given = len(given) if hasattr(given, "__len__") else None
    if n_read and n_given != n_batches:
        raise ValueError(
            f"training stands in an epoch of {n_batches} batches, but this loader has {n_given}: "
            "resume with the same data, batch size and number of processes"
        )


def some_batches(n_read: int) -> None:
    """Raise ValueError for a loader that gave no batch in an epoch."""
    if n_read == 0:
        raise ValueError("the loader gives no batches: there is nothing to train on")


def some_targets(batches: Collection[tuple], ignore_index: int) -> None:
    """Raise ValueError for a batch from which nothing can be learned, or for none at all."""
    if not batches:
        raise ValueError("there is no batch to learn from: give at least one")
    for _, ids, *_ in batches:
        if not (ids != ignore_index).any():
            raise ValueError(f"a batch has no targets: all of them are {ignore_index}")


def finite_step(step: int, loss: float, grad_norm: float) -> None:
    """Raise FloatingPointError if the loss or the gradient of a step is not finite."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise FloatingPointError(
            f"step {step}: the loss is {loss}, the gradient's length {grad_norm}: lower the "
            "learning rate, warm up longer, or set grad_clip"
        )


def trainer_state(state: Any, optimizer: str) -> None:
    """Raise ValueError unless a state is a Trainer's, saved with the same optimizer."""
    try:
        values = [state[name] for name in ("step", "epoch", "batch", "n_batches")]
        kinds = {name.partition(".")[0] for name in state["tensors"]}
        saved_with = state["config"]["optimizer"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the state of a Trainer: {error!r}") from None
    if any(type(value) is not int for value in values[:3]):
        raise ValueError(f"this is not the state of a Trainer: it stands at {values}")
    if unknown := kinds - {"random", "epoch_start", "optimizer"}:
        raise ValueError(f"this is not the state of a Trainer: it holds {min(unknown)!r}")
    if state["step"] and "optimizer" not in kinds:
        raise ValueError(f"the state of step {state['step']} holds no values of an optimizer")
    if saved_with != optimizer:
        raise ValueError(
            f"the state was saved with optimizer={saved_with!r}, this trainer has {optimizer!r}: "
            "make it with the same one"
        )


def optimizer_tensor(key: str, name: str, tensor: torch.Tensor, own: torch.Tensor | None) -> None:
    """Raise ValueError if what an optimizer remembers does not fit the model's parameter."""
    if own is None or (key != "step" and tensor.shape != own.shape):
        found = "nothing" if own is None else tuple(own.shape)
        raise ValueError(
            f"the state holds {key} of {name} {tuple(tensor.shape)}, where the model has "
            f"{found}: build the model as it was when the state was saved"
        )


# --- checkpoints


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
    for name in config or {}:
        here, there = config[name], (saved_config or config).get(name, config[name])
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


# --- model


def attention_sizes(emb_dim: int, n_heads: int, context_length: int, drop_rate: float) -> None:
    """Raise ValueError for sizes that no attention layer can have."""
    sizes = {"emb_dim": emb_dim, "n_heads": n_heads, "context_length": context_length}
    for name, size in sizes.items():
        whole_number(name, size)
    if emb_dim % n_heads:
        raise ValueError(
            f"emb_dim {emb_dim} is not divisible by n_heads {n_heads}: each head gets an equal part"
        )
    number("drop_rate", drop_rate, lambda rate: 0 <= rate < 1, "from 0 to below 1")


def gpt_config(config: Any) -> None:
    """Raise ValueError for a value that no GPT can have."""
    for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
        whole_number(name, getattr(config, name))
    for name in ("qkv_bias", "tie_weights"):
        flag(name, getattr(config, name))
    attention_sizes(config.emb_dim, config.n_heads, config.context_length, config.drop_rate)


def vectors(x: torch.Tensor, emb_dim: int, context_length: int) -> None:
    """Raise TypeError or ValueError unless x holds floats of shape (B, T, C), T at least 1."""
    if not torch.is_floating_point(x):
        raise TypeError(f"x holds {x.dtype}: attention takes vectors, so embed token ids first")
    if x.ndim != 3 or x.shape[2] != emb_dim:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (batch, tokens, {emb_dim}); "
            "a single sequence is a batch of one: x.unsqueeze(0)"
        )
    if x.shape[1] == 0:
        raise ValueError("x holds sequences of no tokens: give at least one")
    if x.shape[1] > context_length:
        raise ValueError(
            f"sequence of {x.shape[1]} tokens exceeds the layer's context_length of "
            f"{context_length}: crop it, or build the layer with a longer one"
        )


def model_input(
    ids: torch.Tensor, config: Any, device: torch.device, segments: torch.Tensor | None = None
) -> None:
    """Raise TypeError or ValueError unless a model can read ids (B, T) and their segments."""
    token_ids(ids)
    if ids.shape[1] > config.context_length:
        raise ValueError(
            f"sequence of {ids.shape[1]} tokens exceeds the model's context_length of "
            f"{config.context_length}: crop it, or build the model with a longer one"
        )
    if ids.device != device:
        raise ValueError(f"ids are on {ids.device}, the model on {device}: ids.to('{device}')")
    in_vocabulary(ids, config.vocab_size)
    if segments is not None and (segments.shape != ids.shape or segments.is_floating_point()):
        raise ValueError(
            f"segments of shape {tuple(segments.shape)} and {segments.dtype}: give an int for each "
            f"of the ids, {tuple(ids.shape)}: the number of its document, or -1 for padding"
        )


def language_model(model: Any) -> None:
    """Raise TypeError unless a model has what the protocol of a language model asks."""
    if not all(hasattr(model, name) for name in ("config", "features", "head", "head_weight")):
        raise TypeError(
            f"the model is a {type(model).__name__}: give one that has what "
            "llmlib.model.protocol.LanguageModel lists, as a GPT has"
        )


def in_vocabulary(ids: torch.Tensor, vocab_size: int) -> None:
    """Raise ValueError for an id outside the vocabulary; ids on an accelerator pass unseen.

    To look at numbers there, Python would have to wait for the device at every step. CUDA has an
    assertion of its own ("device-side assert"), and the same batch on the CPU tells which id it is.
    """
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (bound.item() for bound in ids.aminmax())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"token id {low if low < 0 else high} is outside the vocabulary: "
                f"ids are 0 to {vocab_size - 1}"
            )


def cache_size(batch_size: int, length: int, context_length: int) -> None:
    """Raise ValueError for a cache that a model cannot use."""
    if batch_size < 1 or not 1 <= length <= context_length:
        raise ValueError(
            f"a cache for {batch_size} rows of {length} tokens: give at least one row, and "
            f"1 to {context_length} tokens, the model's context_length"
        )


def cache_fits(cache: Any, batch_size: int, n_tokens: int) -> None:
    """Raise ValueError unless n_tokens more in each of batch_size rows fit in a cache."""
    if batch_size != cache.batch_size:
        raise ValueError(f"{batch_size} rows of ids, but the cache is for {cache.batch_size}")
    if cache.length + n_tokens > cache.capacity:
        raise ValueError(
            f"{n_tokens} tokens more than the {cache.length} in the cache do not fit: its capacity "
            f"is {cache.capacity}; make a larger one, up to the model's context_length, or "
            "re-encode a shorter window"
        )


def no_gradient(tensor: torch.Tensor, what: str) -> None:
    """Raise RuntimeError for a tensor that wants a gradient, where none is computed."""
    if tensor.requires_grad:
        raise RuntimeError(
            f"{what} passes no gradient: call the model under torch.no_grad(), or turn gradients "
            "off with model.requires_grad_(False)"
        )


# --- generation


def top_k(value: object) -> None:
    """Raise ValueError for a number of tokens that cannot be kept."""
    if type(value) is not int or value < 1:
        raise ValueError(
            f"top_k is {value!r}: it must be an int of at least 1, or None for all tokens"
        )


def top_p(value: object) -> None:
    """Raise ValueError for a share of probability that cannot be kept."""
    number("top_p", value, lambda p: 0 < p <= 1, "above 0 and at most 1")


def sampling(settings: Any) -> None:
    """Raise ValueError for settings with which nothing can be drawn."""
    allowed = "of at least 0, where 0 takes the likeliest token"
    number("temperature", settings.temperature, lambda t: 0 <= t < math.inf, allowed)
    if settings.top_k is not None:
        top_k(settings.top_k)
    if settings.top_p is not None:
        top_p(settings.top_p)
    if settings.min_p is not None:
        number("min_p", settings.min_p, lambda p: 0 <= p <= 1, "from 0 to 1")
    penalty = settings.repetition_penalty
    number("repetition_penalty", penalty, lambda p: 0 < p < math.inf, "above 0")


def finite_logits(logits: torch.Tensor) -> None:
    """Raise ValueError for rows of logits that leave no choice."""
    if not logits.amax(dim=-1).isfinite().all():
        raise ValueError("the model gives logits that are nan or infinite: its weights are broken")


def prompts(given: Any) -> Any:
    """Return ids (B, T) as they are, and lists of ids as tensors; raise for anything else."""
    if isinstance(given, torch.Tensor):
        if given.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids hold {given.dtype}: token ids are torch.int64 (or int32)")
        if given.ndim != 2 or given.numel() == 0:
            raise ValueError(
                f"ids have shape {tuple(given.shape)}, expected (batch, tokens) with at least one "
                "token, such as the one for the end of a text, after which a new one begins"
            )
        return given
    try:
        rows = [torch.tensor(list(prompt)) for prompt in given]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "ids must be a tensor of token ids (B, T), torch.tensor([tokenizer.encode(text)]), or "
            "a list of lists of ids"
        ) from error
    if not rows or any(len(row) == 0 for row in rows):
        raise ValueError("give at least one prompt, and at least one token in each")
    if any(row.dtype != torch.int64 for row in rows):
        raise TypeError("the prompts hold other things than token ids, which are of type int")
    return rows


def single_prompt(ids: torch.Tensor, what: str) -> None:
    """Raise ValueError for more than one prompt."""
    if len(ids) != 1:
        raise ValueError(f"{what} takes one prompt, not {len(ids)}: call it for each alone")


def generation(
    model: Any, ids: torch.Tensor, max_new_tokens: int, stop: int | None, slide: int | None
) -> None:
    """Raise TypeError or ValueError unless a model can continue ids (B, T)."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a GPT, or a function of ids")
    whole_number("max_new_tokens", max_new_tokens, least=0)
    if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(f"stop is {stop!r}: it must be a token id, or None")
    context_length = getattr(getattr(model, "config", None), "context_length", None)
    if slide is not None:
        whole_number("slide", slide, most=context_length)
    slides = slide is not None or not hasattr(model, "new_cache")
    readable(model, ids, 0 if slides else max_new_tokens)


def readable(model: Any, ids: torch.Tensor, max_new_tokens: int) -> None:
    """Raise ValueError unless ids (B, T) are in a model's vocabulary and fit, with the new ones."""
    config = getattr(model, "config", None)
    if (vocab_size := getattr(config, "vocab_size", None)) is not None:
        in_vocabulary(ids, vocab_size)
    if max_new_tokens and (context_length := getattr(config, "context_length", None)) is not None:
        context(ids.shape[1], max_new_tokens, context_length)


def context(n_tokens: int, max_new_tokens: int, context_length: int) -> None:
    """Raise ValueError if a prompt and its new tokens are more than a model can read."""
    if n_tokens + max_new_tokens > context_length + 1:  # the last one is not read any more
        raise ValueError(
            f"{n_tokens} tokens and {max_new_tokens} new ones exceed the model's context_length of "
            f"{context_length}: ask for fewer, crop the prompt, or let the window slide (slide=…)"
        )


def beams(model: Any, ids: torch.Tensor, max_new_tokens: int, n_beams: int) -> None:
    """Raise ValueError unless beam search can continue ids (1, T)."""
    single_prompt(ids, "beam search")
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_beams", n_beams)
    readable(model, ids, max_new_tokens)


def speculation(
    models: tuple[Any, Any], ids: torch.Tensor, max_new_tokens: int, settings: Any, n_draft: int
) -> None:
    """Raise ValueError unless target and draft can continue ids (1, T) together."""
    single_prompt(ids, "speculative decoding")
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_draft", n_draft)
    if settings.repetition_penalty != 1:
        raise ValueError("a repetition_penalty depends on the drafted tokens: leave it at 1")
    sizes = {getattr(getattr(model, "config", None), "vocab_size", None) for model in models}
    if len(sizes - {None}) > 1:
        raise ValueError("target and draft have different vocabularies: their tokens do not match")
    for model in models:
        readable(model, ids, max_new_tokens)


def stop_strings(stops: tuple[object, ...]) -> None:
    """Raise ValueError unless each stop is a string with a character."""
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stops are {stops!r}: each must be a string of one character or more")


def finite_matrix(weight: torch.Tensor) -> None:
    """Raise ValueError unless a weight is a matrix of finite floats."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"a weight {tuple(weight.shape)} of {weight.dtype}: give floats (O, I)")
    if not weight.isfinite().all():
        raise ValueError("the weight holds nan or infinity: its model is broken")


def refuse_packed(problem: str, remedy: str) -> None:
    """Raise TypeError: packed weights are for reading only."""
    raise TypeError(f"a model with packed weights {problem}: {remedy}")


# --- files


class FileError(ValueError):
    """A file is damaged, missing or of another kind, or a tensor in it cannot be read.

    file, reason, and tensor: None if the file as a whole is meant.
    """

    def __init__(self, file: str | Path, reason: str, tensor: str | None = None):
        super().__init__(file, reason, tensor)  # all three, so that a copy can be pickled
        self.file, self.reason, self.tensor = Path(file), reason, tensor

    def __str__(self) -> str:
        tensor = "" if self.tensor is None else f"tensor {self.tensor!r}: "
        return f"{self.file}: {tensor}{self.reason}"


class MissingTensor(FileError, KeyError):
    """A checkpoint has no tensor of that name."""


@contextmanager
def blame(file: Path, tensor: str | None = None) -> Iterator[None]:
    """Turn a ValueError or OSError of the block into a FileError that names file and tensor."""
    try:
        yield
    except FileError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(file, reason, tensor) from error


def looks_like(start: bytes) -> str:
    """Return a sentence about what a file is instead, by how it begins, or an empty string."""
    if start.startswith(b"version https://git-lfs"):
        return ". It is a Git LFS pointer: fetch the file that it stands for"
    if start.lstrip().startswith(b"<"):
        return ". It is a page that a server sent in its place: download the file again"
    return ""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises FileError, saying what is there instead."""
    with blame(path):
        data = path.read_bytes()
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"it is not JSON{looks_like(data)}") from None
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object: it should begin with {")
        return content


# --- tokenization


def text(value: object, role: str) -> None:
    """Raise TypeError unless a value is a string, with what needs one in words."""
    if not isinstance(value, str):
        raise TypeError(f"{role}, not {type(value).__name__}")


def no_special_tokens(value: str, refused: Iterable[str]) -> None:
    """Raise TypeError unless a value is a text, and ValueError if it holds a special token."""
    text(value, "encode takes a string")
    for token in sorted(refused):
        if token in value:
            raise ValueError(
                f"the text contains the special token {token!r}: pass allowed_special="
                f"{{{token!r}}} to encode it as such, or disallowed_special=() as plain text"
            )


def vocabulary(tokens: Sequence[str], reserved: Collection[str]) -> None:
    """Raise TypeError or ValueError unless tokens are different strings, and none is reserved."""
    if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in tokens):
        raise TypeError("tokens must be a list of strings that are not empty")
    repeated = [token for token, count in Counter(tokens).items() if count > 1]
    if repeated:
        raise ValueError(f"each token may occur once, but {repeated[0]!r} occurs more often")
    if added := set(reserved) & set(tokens):
        raise ValueError(f"{min(added)!r} is added by the tokenizer itself: leave it out")


def piece_scores(pieces: object) -> None:
    """Raise TypeError unless pieces are a table of finite floats."""
    scores = pieces.values() if isinstance(pieces, Mapping) else ()
    if not scores or not all(isinstance(x, float) and np.isfinite(x) for x in scores):
        raise TypeError("pieces must be a table piece -> log-probability (a finite float)")


def learnable(
    counts: Mapping[str, int],
    vocab_size: int | None,
    least: int,
    needed: str,
    parameter: str | None = None,
) -> None:
    """Raise ValueError for a text without pieces, and for too few ids.

    needed: what takes `least` ids, in words; parameter: what else can be made smaller.
    """
    if not counts:
        raise ValueError("a vocabulary cannot be made from an empty text")
    if vocab_size is not None and index(vocab_size) < least:
        hint = f", or a smaller {parameter}" if parameter else ""
        raise ValueError(
            f"vocab_size {vocab_size} is too small for {needed}: give at least {least}{hint}"
        )


def known_ids(ids: Iterable[int], vocab_size: int) -> None:
    """Raise ValueError for an id outside 0 … vocab_size - 1."""
    for i in ids:
        if not 0 <= i < vocab_size:
            raise unknown_id(i, vocab_size)


def unknown_id(i: object, vocab_size: int) -> ValueError:
    """Return the error for an id that no token has."""
    return ValueError(f"token id {i!r} is not in the vocabulary: ids are 0 to {vocab_size - 1}")


@contextmanager
def unknown_ids(vocab_size: int) -> Iterator[None]:
    """Turn the failed lookup of a token id into a ValueError that names it."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise unknown_id(*error.args[:1], vocab_size) from None


@contextmanager
def whole_characters() -> Iterator[None]:
    """Turn the error of UTF-8 for a lone surrogate into a ValueError that says what to do."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds the lone surrogate {error.object[error.start]!r}, half a character: "
            "repair it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from error


@contextmanager
def valid_utf8() -> Iterator[None]:
    """Turn the failed decoding of bytes into a ValueError that shows them."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the ids give {error.object[error.start : error.end]!r} at byte {error.start}, which "
            "is not UTF-8: pass errors='replace' to get U+FFFD in its place"
        ) from None


@contextmanager
def split_pattern(pattern: object, names: Collection[str]) -> Iterator[None]:
    """Turn the failed compilation of a regular expression into a ValueError."""
    try:
        yield
    except Exception as error:  # the regex package has an exception class of its own
        raise ValueError(
            f"pattern is {pattern!r}, which is neither one of {', '.join(names)} nor a regular "
            f"expression: {error}"
        ) from None


def no_groups(pattern: str, n_groups: int) -> None:
    """Raise ValueError for a pattern whose groups would hide parts of the text."""
    if n_groups:
        raise ValueError(f"pattern {pattern!r} has groups: write (?:...) in place of (...)")


def nothing_skipped(pieces: list[str], text: str, pattern: str) -> None:
    """Raise ValueError unless pieces make up a text."""
    if sum(map(len, pieces)) != len(text):
        raise ValueError(
            rf"the pattern {pattern!r} skips a part of the text: add |\s+|\S at its end"
        )


def special_token_names(tokens: object) -> None:
    """Raise TypeError for a single string in place of a list of special tokens."""
    if isinstance(tokens, str):
        raise TypeError(f"special_tokens is {tokens!r}: give a list of strings")


def special_tokens(numbered: Sequence[tuple[str, int]]) -> None:
    """Raise ValueError unless special tokens are different texts, each with an id from 0."""
    for token, i in numbered:
        if not isinstance(token, str) or not token or isinstance(i, bool) or index(i) < 0:
            raise ValueError(f"special token {token!r} with id {i!r}: give a text and an id from 0")
    if len(dict(numbered)) < len(numbered):
        raise ValueError("a special token is named twice")


def bpe_vocabulary(ids: Mapping[bytes, int], merges: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise ValueError unless all bytes, and all parts and results of merges, have ids."""
    for byte in range(256):
        if bytes([byte]) not in ids:
            raise ValueError(f"the byte {byte:#04x} has no id: all 256 must have one")
    for rank, (first, second) in enumerate(merges):
        if not {first, second, first + second} <= ids.keys():
            raise ValueError(f"merge {rank} of {first!r} and {second!r} is of unknown tokens")


def different_ids(n_ids: int, n_tokens: int) -> None:
    """Raise ValueError if there are fewer ids than tokens."""
    if n_ids < n_tokens:
        raise ValueError("two tokens have the same id")


# --- tokenizer files


@contextmanager
def tokenizer_file(path: str | Path, kind: str) -> Iterator[None]:
    """Turn any failure to read a file into a FileError, with what it should be in words.

    Errors of the system pass: a missing file stays a FileNotFoundError.
    """
    try:
        yield
    except FileError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f": {error}" if type(error) in (ValueError, TypeError) else ""
        start = Path(path).read_bytes()[:64] if Path(path).is_file() else b""
        raise FileError(path, f"it is not {kind}{reason}{looks_like(start)}") from error


def same_kind(found: object, expected: str) -> None:
    """Raise ValueError if a file holds a tokenizer of another class."""
    if found != expected:
        raise ValueError(f"it holds a {found}: load it with {found}.load")


def known_format(path: Path, formats: Collection[str], pattern: str) -> None:
    """Raise ValueError for a file name whose ending names no format, or one without the pattern."""
    if path.suffix not in formats:
        raise ValueError(f"{path}: give a name that ends in .json or .tiktoken, or a folder")
    if path.suffix == "":
        gpt2_pattern(pattern)


def gpt2_vocabulary(path: Path, found: str, expected: str) -> None:
    """Raise ValueError for a vocab.bpe whose SHA-256 is not that of OpenAI's file."""
    if found != expected:
        raise ValueError(
            f"{path} is not GPT-2's vocabulary: restore it with `git checkout gpt2/vocab.bpe`"
        )


def gpt2_pattern(pattern: str) -> None:
    """Raise ValueError for a tokenizer that GPT-2's two files cannot describe."""
    if pattern != "gpt2":
        raise ValueError(
            "GPT-2's files cannot say how a text is split, and readers assume GPT-2's pattern: "
            "save this tokenizer as a tokenizer.json"
        )


def plain_special_token(token: str, number: int, written: int) -> None:
    """Raise ValueError if a special token is written like an ordinary one with another id."""
    if written != number:
        raise ValueError(f"the special token {token!r} looks like an ordinary one in this file")


def same_merges(found: list, given: list) -> None:
    """Raise ValueError if the order of the merges does not follow from the ids."""
    if found != given:
        raise ValueError(
            "tiktoken takes ids for the order of the merges, and here these differ: save this "
            "tokenizer as a tokenizer.json"
        )


def byte_tokenizer(tokenizer: object) -> None:
    """Raise TypeError for a tokenizer that is not a byte-level BPE of ours."""
    if not hasattr(tokenizer, "vocabulary"):
        raise TypeError(
            f"a {type(tokenizer).__name__} does not fit GPT-2's files: give a BPETokenizer or a "
            "TiktokenTokenizer(encoding)"
        )


def known_class(path: Path, name: object, allowed: Iterable[str | None]) -> None:
    """Raise FileError unless the class of tokenizers in a file is among the allowed ones."""
    if name not in (names := list(allowed)):
        raise FileError(path, f"it holds a {name}: there are {', '.join(filter(None, names))}")


def ends_documents(special: Collection[str], source: object) -> None:
    """Raise ValueError for a tokenizer without `<|endoftext|>`."""
    if "<|endoftext|>" not in special:
        raise ValueError(
            f"{source} has no <|endoftext|>, which has to stand between documents: learn a "
            "tokenizer with `llmlib tokenizer`"
        )


def tokenizer_place(path: Path, found: Sequence[Path]) -> Path:
    """Return the first file found in a folder, or a path that is a file.

    Raises FileNotFoundError if there is neither.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: give the path of a tokenizer")
    if path.is_dir() and not found:
        raise FileNotFoundError(
            f"{path} holds no vocabulary: that takes tokenizer.json, vocab.bpe with encoder.json, "
            "or merges.txt with vocab.json"
        )
    return found[0] if found else path


def merge_order(
    found: Mapping[bytes, int],
    expected: Mapping[bytes, int],
    special: Mapping[str, int],
    merges: str,
) -> None:
    """Raise ValueError unless ids are in order: 256 bytes, merged pairs, special tokens.

    Of the special ones, `<|endoftext|>` is the first.
    """
    for token, number in expected.items():
        if found.get(token) != number:
            name, given = token.decode(errors="replace"), found.get(token)
            raise ValueError(f"the id of {name!r} is {given}, by {merges} it is {number}")
    if len(found) > len(expected):
        raise ValueError(f"{len(found) - len(expected)} tokens come from no merge in {merges}")
    places = [*range(len(found), len(found) + len(special))]
    if special and [*special.items()] != [*zip(["<|endoftext|>", *[*special][1:]], places)]:
        raise ValueError(
            f"after {len(found):,} tokens from {merges} the special ones should follow, "
            f"<|endoftext|> first, and not {[*special][:3]}"
        )


def known_parts(merges: Iterable[Sequence[str]], known: Collection[str]) -> None:
    """Raise ValueError unless each merge has two parts, which are bytes or merged themselves."""
    for rank, parts in enumerate(merges):
        if len(parts) != 2 or not all(part in known for part in parts):
            line = " ".join(parts)
            raise ValueError(f"merge {rank} is {line!r}: merges join two tokens that are known")


def mergeable(rank: int, limit: int, token: bytes) -> None:
    """Raise ValueError for a token that is not made of two earlier ones."""
    if rank >= limit:
        raise ValueError(f"no merges of earlier tokens lead to the token {token!r}")


def byte_level_bpe(content: Mapping[str, Any], splits: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for a tokenizer.json that asks for more than a byte-level BPE."""
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"it holds a {model['type']} tokenizer, not a BPE")
    extras = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    used = [name for name in (*extras, "byte_fallback") if model.get(name)]
    if content.get("normalizer") or used:
        raise ValueError(f"it uses {(used or ['a normalizer'])[0]}, which is not supported")
    kinds = [split["type"] for split in splits]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]) or splits[-1]["add_prefix_space"]:
        raise ValueError(f"it splits a text by {' and '.join(kinds)}, which is not supported")
    if (kinds == ["ByteLevel"]) != splits[-1].get("use_regex", True):
        raise ValueError("it splits a text by other rules than one regular expression")
    if len(splits) == 2 and (splits[0]["behavior"], splits[0]["invert"]) != ("Isolated", False):
        raise ValueError(f"it splits a text with the behaviour {splits[0]['behavior']}")


# --- data


def token_array(array: np.ndarray) -> np.ndarray:
    """Return an array. Raises ValueError or TypeError unless it is one sequence of ids from 0."""
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"token ids must be one sequence of at least one id, not of shape {array.shape}"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, not {array.dtype}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise ValueError(f"token ids start at 0, but {array.min()} is among them")
    return array


def npy_file(path: str | Path) -> None:
    """Raise ValueError for a path that does not name a .npy file."""
    if Path(path).suffix != ".npy":
        raise ValueError(f"{str(path)!r} is neither token ids nor a .npy file: encode a text first")


def window_fits(n_tokens: int, max_length: int, stride: int) -> None:
    """Raise ValueError for sizes below 1, and for a text shorter than a window and its target."""
    whole_number("max_length", max_length)
    whole_number("stride", stride)
    if n_tokens < max_length + 1:
        raise ValueError(
            f"a window of {max_length} inputs and one more target needs {max_length + 1} "
            f"tokens, but there are {n_tokens}: take a longer text or a smaller max_length"
        )


def window_batches(n_windows: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if windows do not fill a single batch."""
    whole_number("batch_size", batch_size)
    if drop_last and n_windows < batch_size:
        raise ValueError(
            f"{n_windows} windows do not fill one batch of {batch_size}: "
            "take a longer text, a smaller batch_size or stride, or drop_last=False"
        )


def divisible(documents: Sequence[str], val_fraction: float) -> None:
    """Raise TypeError or ValueError unless there are two different documents to divide."""
    if isinstance(documents, str):
        raise TypeError(
            "split takes a list of documents; divide one long text with text.split('\\n\\n')"
        )
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must lie between 0 and 1, not at {val_fraction}")
    if (n_distinct := len(set(documents))) < 2:
        raise ValueError(
            f"{n_distinct} different documents cannot be divided: give at least two, "
            "for example the paragraphs of a text, text.split('\\n\\n')"
        )


def download(
    urls: Sequence[object],
    sha256: str | None,
    size: int | None,
    timeout: float,
    tries: int,
    pause: float,
) -> None:
    """Raise TypeError or ValueError for arguments of `fetch` that make no sense."""
    if not urls:
        raise ValueError("no address to download from: give at least one URL")
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"a URL is a string, not {url!r}")
        if not re.match(r"https?://[^/]", url, re.IGNORECASE):
            raise ValueError(f"{url!r} is not an address: it has to begin with https:// or http://")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 is {sha256!r}: it must be 64 hexadecimal digits")
    if size is not None:
        whole_number("size", size, least=0)
    whole_number("tries", tries)
    number("timeout", timeout, lambda x: x >= 0.001, "of at least 0.001 seconds")
    number("pause", pause, lambda x: x >= 0, "of at least 0 seconds")


def corpus(name: object, known: Collection[str]) -> None:
    """Raise TypeError or ValueError for a name that is neither a corpus nor a file."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a corpus is a name or a path, not {name!r}")
    is_path = Path(name).exists() or not re.fullmatch(r"[\w -]*", str(name))
    if name == "" or not (name in known or is_path):
        near = get_close_matches(str(name).lower(), known, n=1)
        raise ValueError(
            f"no corpus {str(name)!r}{f', did you mean {near[0]!r}' if near else ''}: "
            f"there are {', '.join(known)}, and the path of any text file works too"
        )


def text_path(path: Path) -> None:
    """Raise IsADirectoryError for a folder, and FileNotFoundError for a missing file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of one text file")
    if not path.exists():
        raise FileNotFoundError(
            f"no file {path}: check the path, which starts from {Path.cwd()}; a file that ships "
            "with the course comes back with git checkout"
        )


@contextmanager
def utf8_file(path: Path) -> Iterator[None]:
    """Turn the failed decoding of a file into a ValueError that says what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}. Save "
            'it as UTF-8 in an editor, or read it with path.read_text(encoding="...") if you know '
            "its encoding (latin-1, cp1252 and utf-16 are common) and write it back"
        ) from None


def text_content(path: Path, text: str) -> None:
    """Raise ValueError for a text with zeros in it, or with nothing but white space."""
    if "\0" in text:
        raise ValueError(f"{path} is not text: character {text.index(chr(0)):,} is a zero")
    if not text.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from")
