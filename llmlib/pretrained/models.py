"""One way to name a model, for everything that starts from one: evaluation, generation, training.

Written by hand. `load_model` takes the name of a published model, a run of `llmlib train`, or a
folder in OpenAI's or Hugging Face's layout, and returns the model with its tokenizer. A known name
wins over a folder that is called the same; `./NAME` is the folder. Left out, for now: adapters and
`.gguf`.
"""

import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from llmlib import checks
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained import gpt2
from llmlib.pretrained.gpt2_files import OPENAI, find_folder, holds_gpt2
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.prepared import load_prepared_tokenizer
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer, gpt2_tokenizer
from llmlib.training.checkpoint import MANIFEST, load_checkpoint

KNOWN_NAMES = [*OPENAI, "gpt2/nano"]  # the last one ships with the course


def load_model(name_or_path: str | Path, drop_rate: float | None = None) -> tuple[GPT, Tokenizer]:
    """Return a model, in evaluation mode and float32 on the CPU, and the tokenizer it reads with.

    name_or_path: as for `find_model`. drop_rate: for training on; None keeps that of the run (of a
    published GPT-2: 0). Raises as `find_model` does, and ValueError for a model that is damaged,
    of another kind, or without its tokenizer.
    """
    folder = find_model(name_or_path)
    if holds_gpt2(folder):
        # not by load_tokenizer, which takes ids in any order: here, files of two models would pass
        is_known = str(name_or_path) in OPENAI
        tokenizer = gpt2_tokenizer() if is_known else TiktokenTokenizer.load(folder)
        return gpt2.load_pretrained(folder, drop_rate or 0.0), tokenizer
    checkpoint = load_checkpoint(folder)
    unknown = f"{folder} does not say which model its weights belong to"
    try:
        config = GPTConfig(**checks.found(checkpoint.model_config, unknown))
    except TypeError as error:
        raise ValueError(f"{folder} holds another kind of model: {error}") from None
    tokenizer = load_run_tokenizer(folder.parent)
    model = GPT(config if drop_rate is None else replace(config, drop_rate=drop_rate))
    checkpoint.load_into(model)
    return model.eval(), tokenizer


def find_model(name_or_path: str | Path) -> Path:
    """Return the folder that a name or path stands for.

    name_or_path: one of KNOWN_NAMES; else a run folder (its best checkpoint, or the latest before
    there is a best), one of its checkpoints, or a folder with a GPT-2 in OpenAI's or Hugging Face's
    layout. Raises FileNotFoundError, with the command that downloads it or the nearest name.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in KNOWN_NAMES:
        place = find_folder(name)
        if path.is_dir() and not path.samefile(place):
            print(f"{name}: the model in {place}; ./{name} is the folder here", file=sys.stderr)
        return place
    if holds_gpt2(path):
        return path
    for folder in (path, path / "best", path / "latest"):
        if (folder / MANIFEST).is_file():
            return folder
    siblings = [p.name for p in path.parent.glob("*") if p.is_dir()]
    near = [] if path.exists() else get_close_matches(path.name, [*siblings, *KNOWN_NAMES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise FileNotFoundError(
        f"there is no model at {path}: give a run folder, a folder with a GPT-2, or one of "
        f"{', '.join(KNOWN_NAMES)}{hint}"
    )


def load_run_tokenizer(run: Path) -> Tokenizer:
    """Return the tokenizer that a run trains with; ValueError if the folder does not hold one."""
    path = run / "data" / "data.json"
    fault = "data/data.json, which names the tokenizer of its checkpoints, is missing"
    checks.require(path.is_file(), f"{run} is not a run of llmlib train: {fault}")
    return load_prepared_tokenizer(path.parent)
