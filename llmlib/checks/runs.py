"""Runs: a folder that lost a part, settings that were changed, models that no memory holds."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmlib.checks.checkpoint import is_count
from llmlib.checks.values import require

DEEPEST = 10_000  # blocks; ten times the deepest that was trained (DeepNet, Wang et al. 2022)


def whole_run(folder: Path, traces: list[str], copy: str) -> None:
    """Raise ValueError for a run without its latest checkpoint, of which `traces` say it had one.

    copy: the command that puts the best one in its place.
    """
    lost = f"{folder}/latest holds no checkpoint, although {' and '.join(traces)} tell of steps"
    advice = f"to go on from the best one: `{copy}`" if copy else "put it back, or start a new run"
    require(not traces, f"{lost}; nothing was changed. {advice[0].upper()}{advice[1:]}")


def no_links(paths: Iterable[Path]) -> None:
    """Raise ValueError for a link in the place of a checkpoint: a save removes old files in it."""
    for path in paths:
        advice = f"replace it by a copy of {os.path.realpath(path)}"
        require(not path.is_symlink(), f"{path} is a link, and training saves there: {advice}")


def no_pipes(paths: Iterable[Path]) -> None:
    """Raise ValueError for a pipe in the place of a file: to open it could wait without end."""
    for path in paths:
        require(not path.is_fifo(), f"{path} is a pipe, and training adds to it: move it away")


def same_run(file: Path, now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Raise ValueError if settings in a file are others than those of the steps behind it."""
    for name, value in now.items():
        was = then.get(name, value)
        # in quotes, as in the file: a name alone would be shown as a flag
        fault = f"{file} says '{name}: {value!s:.100}', the steps so far were taken with"
        require(value == was, f"{fault} {was!s:.100}: put that back, or start a new run")


def same_data(source: object, now: Mapping[str, Any], then: Mapping[str, Any] | None) -> None:
    """Raise ValueError if tokens and tokenizer are not those of a checkpoint."""
    fault = f"{source} is not what it was when the run began: put that back"
    require(then in (None, now), fault)


def run_checkpoint(checkpoint: Any, growing: Iterable[str]) -> None:
    """Raise ValueError for a checkpoint that says more steps than there were, or no true sizes."""
    state, noted = checkpoint.training or {}, checkpoint.notes.get("files", {})
    tables = [checkpoint.notes.get(name, {}) for name in ("settings", "machine", "report")]
    for table in (*tables, state.get("config", {})):
        fault = f"{checkpoint.folder} is damaged: its notes hold {table!r:.100} for a table"
        require(isinstance(table, dict), fault)
    most = state.get("config", {}).get("max_steps", 0)
    sizes = [noted.get(name, 0) for name in growing] if isinstance(noted, dict) else [None]
    fault = (
        f"{checkpoint.folder} is damaged: it says step {checkpoint.step} of {most}, sizes {sizes}"
    )
    require(checkpoint.step <= most and all(map(is_count, sizes)), fault)


def affordable(config: Any) -> None:
    """Raise ValueError for a model that is larger than this machine's memory, before it is made."""
    layers, emb_dim = config.n_layers, config.emb_dim
    require(layers <= DEEPEST, f"n_layers is {layers:,}: it must be at most {DEEPEST:,}")
    tables = config.vocab_size * (1 if config.tie_weights else 2) + config.context_length
    n_parameters = block_parameters(config) + tables * emb_dim
    size, memory = 4 * n_parameters, machine_memory()
    require(
        size <= memory,
        f"a model with n_layers {layers:,}, emb_dim {emb_dim:,} and context_length "
        f"{config.context_length:,} takes {size / 1e9:,.1f} GB, and this machine has "
        f"{memory / 1e9:,.1f}: make it smaller",
    )


def block_parameters(config: Any) -> int:
    """Return about how many parameters all blocks have, but for biases and norms."""
    if not hasattr(config, "n_kv_heads"):  # a GPT
        return config.n_layers * 12 * config.emb_dim**2
    heads = 2 * (config.n_heads + config.n_kv_heads) * config.head_dim
    dense, part = 3 * config.hidden_dim, config.feed_forward
    if not isinstance(part, Mapping) or part.get("name") != "moe":
        return config.n_layers * config.emb_dim * (heads + dense)
    # counted as if no layer were dense; what is not a number is left to the part to refuse
    given = {"n_experts": 8, "hidden_dim": None, "shared_dim": 0} | dict(part)
    sizes: dict[str, Any] = {n: size if is_count(size) else 0 for n, size in given.items()}
    each = 3 * (sizes["hidden_dim"] or config.hidden_dim) + 1  # and a row of the router
    sparse = sizes["n_experts"] * each + 3 * sizes["shared_dim"]
    return config.n_layers * config.emb_dim * (heads + max(dense, sparse))


def machine_memory() -> float:
    """Return the bytes of memory of this machine; infinity where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return float("inf")
