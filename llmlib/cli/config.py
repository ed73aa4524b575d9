"""The settings of a run: a table of them, read from flags and from YAML or TOML files.

Written by hand. Flags and files know the same names and go through the same checks. What is not
given comes from the recipe of the corpus, or from the table. Ranges are checked by GPTConfig and
TrainConfig where they know them; `tests/test_cli_config.py` holds this table against theirs.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


class Option(NamedTuple):
    """A setting: `--max-steps` as a flag, `max_steps` in a file."""

    name: str
    kind: type
    default: object
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


DATA = [
    Option(
        "tokenizer",
        str,
        None,
        "word, char, bpe, wordpiece, unigram (learned here), gpt2, or a file that "
        "`llmlib tokenizer` wrote [words for stories, else gpt2]",
    ),
    Option("max_vocab", int, None, "most tokens that a tokenizer learned here may know", least=3),
    Option("stories", int, 20_000, "how many stories the world tells", least=2),
    Option("val_fraction", float, 0.1, "share of the text that is never trained on"),
    Option("seed", int, 0, "of all that is drawn at random", least=0),
]
MODEL = [
    Option("preset", str, "story-small", "sizes to start from, such as gpt2-124M"),
    Option("context_length", int, None, "most tokens read at once (the preset's, as below)"),
    Option("emb_dim", int, None, "numbers per token"),
    Option("n_heads", int, None, "attention heads in each block"),
    Option("n_layers", int, None, "blocks"),
    Option("drop_rate", float, None, "share dropped while training"),
    Option("qkv_bias", bool, None, "a bias for queries, keys and values"),
    Option("tie_weights", bool, None, "the head is the embedding"),
    Option("init_std", float, 0.02, "standard deviation of the first weights"),
]
TRAINING = [
    Option("max_steps", int, 1000, "updates of the weights in all"),
    Option("batch_size", int, 8, "rows of a batch, shared out among all processes", least=1),
    Option("accumulation_steps", int, 1, "batches whose gradients make one step"),
    Option("learning_rate", float, 1e-3, "the highest, reached after the warm-up"),
    Option("warmup_steps", int, 100, "steps in which the learning rate rises"),
    Option("final_fraction", float, 0.1, "of the learning rate, at the last step"),
    Option("weight_decay", float, 0.1, "of matrices and embeddings"),
    Option("betas", tuple, (0.9, 0.95), "AdamW's two"),
    Option("grad_clip", float, 1.0, "longest gradient, or none"),
    Option("optimizer", str, "adamw", "adamw, or muon for the matrices", ("adamw", "muon")),
    Option("dtype", str, "float32", "of the large products", ("float32", "bfloat16")),
]
RUN = [
    Option("device", str, "auto", "auto, cpu, cuda, cuda:1, mps"),
    Option("compile", bool, False, "with torch.compile, where there is a compiler"),
    Option("eval_every", int, 250, "steps between two looks at loss and samples", least=1),
    Option("eval_tokens", int, 20_000, "tokens of such a look", least=1),
    Option("save_every", int, 250, "steps between two checkpoints", least=1),
    Option("n_samples", int, None, "texts of a look: 32 stories, else 2", least=1),
]
GROUPS = {"data": DATA, "model": MODEL, "training": TRAINING, "run": RUN}
OPTIONS = {option.name: option for group in GROUPS.values() for option in group}

# What suits the story world (notebook 06): in minutes on two cores it is near its floor.
STORY_RECIPE = {
    "tokenizer": "word",
    "optimizer": "muon",
    "learning_rate": 4e-3,
    "weight_decay": 0.01,
    "betas": (0.9, 0.99),
    "final_fraction": 0.0,
    "init_std": 0.05,
    "n_samples": 32,
}
RECIPE = {"tokenizer": "gpt2", "n_samples": 2}

# A run is resumed with the settings it began with; these may be others, and the rest may not.
CHANGEABLE = {option.name for option in TRAINING + RUN} - {"batch_size", "optimizer"}


def convert(option: Option, value: object, where: str) -> object:
    """A value as a flag (text) or a file (text, number, list) has it, as the setting's own type.

    Raises ValueError, saying where the value stood and what is allowed.
    """
    problem = ValueError(f"{where}: {option.name} is {value!r}: it must be {kind_name(option)}")
    if value is None or (value in ("none", "null") and option.default in (None, 1.0)):
        if option.default is None or option.name == "grad_clip":
            return None
        raise problem
    try:
        if option.kind is bool:
            result = {"true": True, "false": False}[str(value).lower()]
        elif option.kind is tuple:
            first, second = (float(part) for part in value)
            result = (first, second)
        elif option.kind is str:
            result = value if isinstance(value, str) and value else None
        else:  # YAML reads 1e-3 as text, and True would pass for 1
            result = None if isinstance(value, bool) else option.kind(value)
            if option.kind is int and isinstance(value, float) and value != result:
                result = None
    except (ValueError, TypeError, KeyError, OverflowError):
        raise problem from None
    too_small = option.least is not None and result is not None and result < option.least
    if result is None or too_small or (option.choices and result not in option.choices):
        raise problem
    return result


def kind_name(option: Option) -> str:
    """What a setting may be, in words."""
    if option.choices:
        return "one of " + ", ".join(option.choices)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    least = f" of at least {option.least}" if option.least is not None else ""
    return names.get(option.kind, "two numbers") + least


def nearest(name: str, allowed: list[str]) -> str:
    """`, did you mean 'max_steps'?` where a name is close to an allowed one, and else nothing."""
    close = get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def read_config(path: str | Path) -> dict[str, object]:
    """The settings in a YAML or TOML file, checked; dashes and underscores mean the same.

    Raises ValueError for what is no setting, naming the nearest one, and OSError for no such file.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise ValueError(f"{path} must be a .yaml or a .toml file")
    text = path.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content or {}, Mapping):
        raise ValueError(f"{path} holds no settings: write lines such as 'max_steps: 1000'")
    settings = {}
    for key, value in (content or {}).items():
        name = str(key).replace("-", "_")
        if name not in {*OPTIONS, "data", "out"}:
            raise ValueError(f"{path}: no setting {key!r}{nearest(name, [*OPTIONS, 'data'])}")
        if name in OPTIONS:
            value = convert(OPTIONS[name], value, str(path))
        elif not isinstance(value, str):
            raise ValueError(f"{path}: {name} is {value!r}: it must be a text")
        settings[name] = value
    return settings


def check_flags(flags: Mapping[str, object]) -> dict[str, object]:
    """Flags as argparse read them, as settings of the right types."""
    return {
        name: convert(OPTIONS[name], value, OPTIONS[name].flag) if name in OPTIONS else value
        for name, value in flags.items()
    }


def settle(given: Mapping[str, object], corpus: str | None = None) -> SimpleNamespace:
    """All settings of a new run: those given, and the recipe's or the table's for the rest.

    corpus: what is in a prepared folder. Raises ValueError where nothing says what to train on.
    """
    if not given.get("data"):
        raise ValueError(
            "no data to train on: name a corpus, a text file or a prepared folder, such as "
            "`llmlib train stories`"
        )
    defaults = {option.name: option.default for option in OPTIONS.values()} | RECIPE
    if "stories" in (given["data"], corpus):
        defaults |= STORY_RECIPE
    return SimpleNamespace(**defaults | given)


def settle_again(stored: Mapping[str, object], given: Mapping[str, object]) -> SimpleNamespace:
    """The settings of a run that is resumed: its own, with the changes that are possible.

    Raises ValueError for a change that would make it another run.
    """
    for name, value in given.items():
        if name not in CHANGEABLE and value != stored.get(name):
            raise ValueError(
                f"this run has {name} {stored.get(name)!r}, and cannot go on with {value!r}: "
                "start a new run for that"
            )
    return SimpleNamespace(**{**stored, **given})
