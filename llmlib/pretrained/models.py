"""One way to name a model, for everything that starts from one: evaluation, generation, training.

Written by hand. `load_model` takes the name of a published model, a run of `llmlib train`, or a
folder in OpenAI's or Hugging Face's layout, or a .gguf, and returns the model with its tokenizer. A
known name wins over a folder that is called the same; `./NAME` is the folder. Left out, for now:
adapters.
"""

import sys
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from llmlib import checks
from llmlib.model.architectures import config_of, new_model
from llmlib.model.gpt import GPT
from llmlib.pretrained import huggingface
from llmlib.pretrained.gpt2_files import OPENAI
from llmlib.pretrained.layout import clean_name
from llmlib.pretrained.places import KNOWN_NAMES, find_folder, holds_model
from llmlib.pretrained.safetensors_files import end_ids
from llmlib.tokenization import chat_template, gguf
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.prepared import identity, load_prepared_tokenizer
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer, gpt2_tokenizer
from llmlib.training.checkpoint import MANIFEST, load_checkpoint


def load_model(
    name_or_path: str | Path, drop_rate: float | None = None, *, ignore_extra: bool = False
) -> tuple[GPT, Tokenizer]:
    """Return a model, in evaluation mode and float32 on the CPU, and the tokenizer it reads with.

    name_or_path: as for `find_model`. drop_rate: for training on; None keeps that of the run (of a
    published model: 0). ignore_extra: as for `load_pretrained`. Raises as `find_model` does, and
    ValueError for a model that is damaged, of another kind, or without its tokenizer.
    """
    folder = find_model(name_or_path)
    if (folder / MANIFEST).is_file():
        return load_run(folder, drop_rate)
    tokenizer = load_own_tokenizer(folder, name_or_path)
    model = huggingface.load_pretrained(folder, drop_rate or 0.0, ignore_extra=ignore_extra)
    if name_or_path not in OPENAI:  # whose files were verified
        checks.model_knows(tokenizer.vocab_size, model.config.vocab_size, folder)
    return model, tokenizer


def load_run(folder: Path, drop_rate: float | None = None) -> tuple[GPT, Tokenizer]:
    """Return the model in a checkpoint of a run, and its tokenizer, as `load_model` does."""
    found = load_checkpoint(folder)
    unknown = f"{folder} does not say which model its weights belong to"
    try:
        config = config_of(checks.found(found.model_config, unknown), found.config_class)
    except TypeError as error:
        raise ValueError(f"{folder} holds another kind of model: {error}") from None
    found = replace(found, weights={clean_name(name): t for name, t in found.weights.items()})
    checks.sizes_of_model(folder / MANIFEST, config, found.weights)
    checks.affordable(config)
    for name, tensor in found.weights.items():
        checks.finite_tensor(folder, name, tensor)
    tokenizer = load_run_tokenizer(folder.parent, found.notes.get("data"))
    model = new_model(config if drop_rate is None else replace(config, drop_rate=drop_rate))
    found.load_into(model)
    return model.eval(), tokenizer


def find_model(name_or_path: str | Path) -> Path:
    """Return the folder that a name or path stands for.

    name_or_path: one of KNOWN_NAMES, exactly and as a string; else a run folder (its best
    checkpoint, or the latest before there is a best), one of its checkpoints, a folder in OpenAI's
    or Hugging Face's layout, or a .gguf. Raises FileNotFoundError, with the command that downloads
    it, what is there instead, or the nearest name.
    """
    path = Path(name_or_path)
    if name_or_path in KNOWN_NAMES:
        place = find_folder(name_or_path)
        if path.is_dir() and not path.samefile(place):
            note = f"{path}: the model in {place}; ./{path} is the folder here"
            say_once(note)
        return place
    if (folder := model_folder(path)) is not None:
        return folder
    instead = checks.instead_of_a_model(path)
    if not path.is_dir() and model_folder(path.parent) is not None and len(path.parts) > 1:
        instead = f"it is a file of a model: give its folder, {path.parent}"
    siblings = [p.name for p in path.parent.glob("*") if p.is_dir()]
    near = [] if path.exists() else get_close_matches(path.name, [*siblings, *KNOWN_NAMES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    names = ", ".join(KNOWN_NAMES)
    kinds = "a run folder, a folder with a model of transformers, a .gguf"
    wanted = f"give {kinds}, or one of {names}{hint}"
    raise FileNotFoundError(f"there is no model at {path}: {instead or wanted}")


@cache
def say_once(note: str) -> None:
    """Print a line to stderr, however often a command asks for its model."""
    print(note, file=sys.stderr)


def model_folder(path: Path) -> Path | None:
    """Return a path if it holds a model, or the checkpoint of the run there, or None."""
    if holds_model(path):
        return path
    places = (path, path / "best", path / "latest")
    return next((folder for folder in places if (folder / MANIFEST).is_file()), None)


def stop_ids(name_or_path: str | Path, end: int, vocab_size: int) -> list[int]:
    """Return the ids that end a text: those that a model's files name, as in transformers, or end.

    end: that of its tokenizer. Ids outside the vocabulary are never written.
    """
    named = end_ids(find_model(name_or_path))
    return [i for i in named if 0 <= i < vocab_size] or [end]


def template_of(name_or_path: str | Path) -> str:
    """Return the chat template of a model: the Jinja program in its folder or its .gguf.

    Raises as `find_model` does, and ValueError for a model without one.
    """
    place = find_model(name_or_path)
    read = gguf.read_template if place.is_file() else chat_template.read_template
    missing = f"{name_or_path} has no chat template: it was not made for conversations"
    return checks.found(read(place), missing)


def load_own_tokenizer(folder: Path, name: str | Path) -> Tokenizer:
    """Return the tokenizer of a published model, by its name, or in the folder of another.

    In OpenAI's layout the ids follow from the merges, so files of two models are noticed.
    """
    if name in OPENAI:
        return gpt2_tokenizer()
    if (folder / "hparams.json").is_file():
        return TiktokenTokenizer.load(folder)
    tokenizer = load_tokenizer(folder)
    if (path := folder / "tokenizer_config.json").is_file():
        end = checks.read_json(path).get("eos_token")
        end = end.get("content") if isinstance(end, dict) else end
        if end in tokenizer.special_tokens:  # which ends a text, whatever it is called
            tokenizer.end_token = end
    return tokenizer


def load_run_tokenizer(run: Path, tokens: dict | None) -> Tokenizer:
    """Return the tokenizer that a run trains with; ValueError if the folder does not hold it.

    tokens: what the checkpoint has noted of them, by `identity`.
    """
    path = run / "data" / "data.json"
    fault = "data/data.json, which names the tokenizer of its checkpoints, is missing"
    checks.require(path.is_file(), f"{run} is not a run of llmlib train: {fault}")
    checks.same_data(path.parent, identity(path.parent), tokens)
    return load_prepared_tokenizer(path.parent)
