"""The beginning of a training run: in a new folder, or in that of an earlier run.

Written by hand. Whatever can be refused is refused here, before a folder is made or changed.
"""

import os
from itertools import chain, count, filterfalse
from pathlib import Path
from typing import Any

from llmlib import checks
from llmlib.cli.base_model import decided_by_base
from llmlib.cli.run_folder import RunFolder, open_run
from llmlib.cli.run_log import GROWING
from llmlib.cli.settings import PREPARED, read_settings, settle
from llmlib.data import corpora
from llmlib.messages import quoted
from llmlib.tokenization.folders import KINDS
from llmlib.tokenization.prepared import is_prepared, read_about
from llmlib.training.checkpoint import MANIFEST


def new_run(data: str | None = None, out: str | None = None, **given: Any) -> "RunFolder":
    """Start a run in a new folder: `out`, or runs/NAME, with a number if that is taken.

    Raises ValueError for settings that are impossible, and for a folder that is not empty.
    """
    data, corpus, decided = locate(data, given.get("text_field")), None, {}
    if is_prepared(data):
        about = read_about(data)
        corpus, decided = about["corpus"], {"tokenizer": about["tokenizer"]}
        for name in sorted(given.keys() & PREPARED):
            hint = f"{name} was decided when {data} was prepared: leave it out"
            checks.require(given[name] == decided.get(name), hint)
    if given.get("from"):
        decided |= decided_by_base(data, given)
    settings = settle({**given, **decided, "data": data}, corpus)
    if settings.tokenizer not in (*KINDS, "gpt2") and Path(settings.tokenizer).exists():
        settings.tokenizer = str(Path(settings.tokenizer).resolve())  # good from everywhere
    origin = Path(given["from"]).name if given.get("from") else settings.preset
    name = f"runs/{Path(data).stem}-{origin}"
    numbered = chain([name], (f"{name}-{n}" for n in count(2)))
    run = RunFolder(out or next(filterfalse(os.path.lexists, numbered)), settings)
    run.require_free()
    run.open()
    run.require_free()  # another process may have been faster
    try:
        run.write_settings()
    except BaseException:
        run.discard()
        raise
    return run


def settings_like(path: str | Path) -> dict[str, Any]:
    """Return the settings in a file, such as the config.yaml of another run.

    A run on a prepared folder used to note defaults where that folder had decided: they say
    nothing. Raises as `read_settings` does.
    """
    settings = read_settings(path)
    if is_prepared(settings.get("data") or ""):
        defaults = [vars(settle({}, corpus)) for corpus in (None, "stories")]
        for name in PREPARED & settings.keys():
            if settings[name] in [default[name] for default in defaults]:
                del settings[name]
    return settings


def resume_run(path: str | Path, **given: Any) -> "RunFolder":
    """Open the folder of an earlier run to go on with it; given: settings that change.

    Raises ValueError for a change that would make it another run, and if the folder is in use.
    """
    checks.require("out" not in given, "give --resume or --out, not both: a run keeps its folder")
    run = open_run(path)
    if "data" in given:
        given["data"] = locate(given["data"], given.get("text_field", run.settings.text_field))
    traces = [] if run.has_begun() else run.traces()
    best, latest = quoted(run.path / "best") + "/.", quoted(run.path / "latest")
    copy = f"cp -r {best} {latest}" if (run.path / "best" / MANIFEST).is_file() else ""
    checks.whole_run(run.path, traces, copy)
    checks.no_links(run.path / name for name in ("latest", "best"))
    checks.no_pipes(run.path / name for name in GROWING)
    for name, value in given.items():
        own = getattr(run.settings, name)
        if name not in run.changeable() and value != own:
            change = f"this run has {name} {own!r}, and cannot go on with {value!r}"
            raise ValueError(f"{change}: start a new run for that")
    vars(run.settings).update(given)
    run.open()
    return run


def locate(data: str | None, text_field: str | None = None) -> str:
    """Return the name of a corpus, or the absolute path of a file or folder, good from everywhere.

    text_field: where a line of a .jsonl has its text, if not where it usually is.
    Raises ValueError or OSError, naming the nearest corpus, for anything else.
    """
    kinds = "a corpus, a text file or a prepared folder, such as `llmlib train stories`"
    data = checks.found(data, f"no data to train on: name {kinds}")
    if corpora.is_name(data):
        return data
    if not is_prepared(data):
        # raises now what is wrong with its beginning
        next(iter(corpora.texts(data, text_field=text_field or "text")), None)
    return str(Path(data).resolve())
