"""What a checkpoint of a run notes besides the model: its tokens, its settings, its machine.

Written by hand. A run that is resumed is held against these notes, so that it goes on with what it
began with, or says what has changed.
"""

import json
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from llmlib import checks


def machine(model: torch.nn.Module) -> dict[str, Any]:
    """Return what the last bits of a step depend on, besides settings and data."""
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return {
        "device": next(model.parameters()).device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "torch": torch.__version__,
    }


def as_json(settings: SimpleNamespace) -> dict[str, Any]:
    """Return settings as JSON gives them back, but for the data and the run: those may move."""
    noted = {name: value for name, value in vars(settings).items() if name not in ("data", "out")}
    return json.loads(json.dumps(noted))


def changes(
    file: Path, settings: SimpleNamespace, changeable: Collection[str], notes: dict[str, Any]
) -> list[str]:
    """Return a line about settings that are not those of a checkpoint's notes, if there are any.

    Raises ValueError, naming the file that they stand in, for one that is not changeable.
    """
    now, then = as_json(settings), notes.get("settings", {})
    checks.same_run(file, {name: now[name] for name in now.keys() - {*changeable}}, then)
    return differences("settings from here on", then, now)


def machine_changes(model: torch.nn.Module, notes: dict[str, Any]) -> list[str]:
    """Return a line about a machine that is not that of a checkpoint's notes, if it is not."""
    what = "computed in another way than before, so the last bits of each step may differ"
    return differences(what, notes.get("machine", {}), machine(model))


def differences(what: str, then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line such as `what: max_steps 10 → 20`, or nothing if all are equal."""
    changed = [f"{k} {then[k]} → {now[k]}" for k in now if then.get(k, now[k]) != now[k]]
    return [f"{what}: {', '.join(changed)}"] if changed else []
