"""`llmlib train --from MODEL`: the model that a run begins with, in place of random weights.

Written by hand. The model brings its sizes and its tokenizer, which become settings of the run. Its
weights stand in the run's first checkpoint, so that the run goes on without the model it came from.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from llmlib import checks
from llmlib.cli.run_folder import model_config
from llmlib.cli.settings import MODEL, SETTINGS
from llmlib.model.architectures import Config, config_of
from llmlib.pretrained.models import KNOWN_NAMES, find_model, load_model
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.prepared import is_prepared, load_prepared_tokenizer, read_about
from llmlib.training.checkpoint import MANIFEST, Checkpoint


def decided_by_base(data: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the model in given["from"] decides, as good from everywhere.

    Raises ValueError for settings, or prepared tokens, that contradict it, and as `load_model`.
    """
    source = given["from"]
    model, tokenizer = load_model(source, ignore_extra=bool(given.get("ignore_extra")))
    if is_prepared(data):
        theirs, kind = load_prepared_tokenizer(data), read_about(data)["tokenizer"]
        vocabularies = [t.token_byte_values() for t in (tokenizer, theirs)]
        checks.same_tokenizer(data, source, vocabularies[0] == vocabularies[1])
    else:
        kind = tokenizer_of(source)
    sizes = {setting.name: vars(model.config).get(setting.name) for setting in MODEL}
    checks.shorter_context(given.get("context_length"), model.config.context_length, source)
    for name in ("context_length", "drop_rate"):  # these may be others than the model's
        sizes[name] = sizes[name] if given.get(name) is None else given[name]
    checks.no_preset(given.get("preset"), SETTINGS["preset"].default)
    decided = {**sizes, "tokenizer": kind, "end_token": document_end(find_model(source), tokenizer)}
    checks.decided(given, decided, source)
    return {**decided, "from": source if source in KNOWN_NAMES else str(Path(source).resolve())}


def tokenizer_of(source: str) -> str:
    """Return what `llmlib prepare --tokenizer` takes for the tokenizer of a model."""
    folder = find_model(source)
    if source.startswith("gpt2-") and source in KNOWN_NAMES:
        return "gpt2"
    if not (folder / MANIFEST).is_file():
        return str(folder.resolve())
    path = folder.parent / "data" / "tokenizer.json"
    return str(path.resolve()) if path.is_file() else "gpt2"


def first_weights(settings: SimpleNamespace, checkpoint: Checkpoint | None) -> dict[str, Tensor]:
    """Return the weights that a run goes on from: its checkpoint's, or those of its first model.

    Of the position embeddings, the run takes as many as its context has.
    """
    options = vars(settings)
    if checkpoint or not options["from"]:
        return checkpoint.weights if checkpoint and options["from"] else {}
    model, _ = load_model(options["from"], ignore_extra=settings.ignore_extra)
    weights = model.state_dict()
    tables = {name for name in ("wpe.weight", "positions.wpe.weight") if name in weights}
    return weights | {name: weights[name][: settings.context_length] for name in tables}


def config_of_run(
    settings: SimpleNamespace, checkpoint: Checkpoint | None, vocab_size: int
) -> Config:
    """Return the configuration of a run's model.

    A run that began with a model goes on with all of its configuration, of which the settings hold
    a part; only the context and the dropout are the run's own.
    """
    if not vars(settings)["from"]:
        return model_config(settings, vocab_size)
    if checkpoint is not None and checkpoint.model_config is not None:
        config = config_of(checkpoint.model_config, checkpoint.config_class)
    else:
        config = load_model(vars(settings)["from"], ignore_extra=settings.ignore_extra)[0].config
    own = {name: getattr(settings, name) for name in ("context_length", "drop_rate")}
    return replace(config, **{name: value for name, value in own.items() if value is not None})


def document_end(folder: Path, tokenizer: Tokenizer) -> str:
    """Return the special token that stood between the documents that a model has read.

    folder: where its files are. A run ended documents with its tokenizer's end_token. In a chat
    model's files that is the end of a turn, such as `<|im_end|>`; what it was pretrained on had
    `<|endoftext|>` between documents, if there is such a token.
    """
    is_published = not (folder / MANIFEST).is_file()
    in_between = is_published and END_OF_TEXT in tokenizer.special_tokens
    return END_OF_TEXT if in_between else tokenizer.end_token
