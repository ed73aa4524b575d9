"""The settings of a run: one table, read from flags and from YAML or TOML files.

Written by hand. Flags and files use the same names and pass the same checks. A setting that is not
given comes from the recipe of the corpus, or from the table. GPTConfig and TrainConfig check the
ranges that they know; `tests/cli/test_cli_config.py` compares this table with theirs.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


class Setting(NamedTuple):
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


TOKENIZERS = (
    "word (used for stories), char, bpe, wordpiece, unigram (these are learned here), gpt2, "
    "or a file that `llmlib tokenizer` wrote"
)
PLACES = [
    Setting("data", str, None, "a corpus, a text file, or a folder that `llmlib prepare` made"),
    Setting("out", str, None, "the folder of a new run [runs/NAME]"),
]
DATA = [
    Setting("tokenizer", str, "gpt2", TOKENIZERS),
    Setting("max_vocab", int, None, "largest vocabulary of a tokenizer learned here", least=3),
    Setting("stories", int, 20_000, "how many stories the world tells", least=2),
    Setting("val_fraction", float, 0.1, "share of the text that is kept for validation"),
    Setting("separator", str, "<|endoftext|>", "ends a document inside a text; none: nothing does"),
    Setting("text_field", str, "text", "where each line of a .jsonl has its text"),
    Setting("seed", int, 0, "seed of everything random", least=0),
]
START = [
    Setting("preset", str, "story-small", "sizes to start from, such as gpt2-124M"),
    Setting("init_std", float, 0.02, "standard deviation of the initial weights"),
    Setting("from", str, None, "start from this MODEL's weights, with its tokenizer and sizes"),
    Setting("ignore_extra", bool, False, "let --from drop tensors that a GPT-2 has no place for"),
]
MODEL = [  # each a field of GPTConfig
    Setting("context_length", int, None, "most tokens read at once [the preset's, as below]"),
    Setting("emb_dim", int, None, "width: numbers per token"),
    Setting("n_heads", int, None, "attention heads in each block"),
    Setting("n_layers", int, None, "blocks"),
    Setting("drop_rate", float, None, "dropout while training"),
    Setting("qkv_bias", bool, None, "give queries, keys and values a bias"),
    Setting("tie_weights", bool, None, "use the embedding as the head"),
]
TRAINING = [  # each a field of TrainConfig
    Setting("max_steps", int, 1000, "training steps in all"),
    Setting("accumulation_steps", int, 1, "batches per step, their gradients added up"),
    Setting("learning_rate", float, 1e-3, "peak, reached after the warm-up"),
    Setting("warmup_steps", int, 100, "steps in which the learning rate rises to its peak"),
    Setting("final_fraction", float, 0.1, "share of the learning rate left at the last step"),
    Setting("weight_decay", float, 0.1, "for matrices and embeddings"),
    Setting("betas", tuple, (0.9, 0.95), "AdamW's two decay rates"),
    Setting("grad_clip", float, 1.0, "longest gradient, or none for no limit"),
    Setting("optimizer", str, "adamw", "adamw, or muon for the matrices", ("adamw", "muon")),
    Setting("dtype", str, "float32", "of the matrix products", ("float32", "bfloat16")),
]
RUN = [
    Setting("batch_size", int, 8, "rows per batch, over all processes", least=1),
    Setting("device", str, "auto", "auto, cpu, cuda, cuda:1, mps"),
    Setting("compile", bool, False, "compile with torch.compile, if that works here"),
    Setting("eval_every", int, 250, "steps from one look at loss and samples to the next", least=1),
    Setting("eval_tokens", int, 20_000, "validation tokens per look", least=1),
    Setting("save_every", int, 250, "steps from one checkpoint to the next", least=1),
    Setting("n_samples", int, 2, "samples per look, for stories 32", least=1),
]
GROUPS = {"data": DATA, "start": START, "model": MODEL, "training": TRAINING, "run": RUN}
SETTINGS = {setting.name: setting for group in [PLACES, *GROUPS.values()] for setting in group}

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

# A run is resumed with the settings it began with. These may change; the others may not.
CHANGEABLE = {setting.name for setting in TRAINING + RUN} - {"batch_size", "optimizer"}
# What was decided when a folder was prepared.
PREPARED = {setting.name for setting in DATA} - {"seed"}

WORDS: dict[type, str] = {
    bool: "true or false",
    tuple: "two numbers",
    str: "a text",
    int: "a whole number",
    float: "a number",
}


def parse(kind: Any, value: Any) -> Any:
    """Return a value as a bool, a pair of numbers, a text or a number; raise if it is not one."""
    if kind is bool:
        return {"true": True, "false": False}[str(value).lower()]
    if kind is tuple:
        first, second = map(float, value)
        return first, second
    result = kind(value)
    # YAML reads 1e-3 as text; but True is not 1, 1.5 not a whole number, and 3 not a text
    same = result == value or (kind is not str and isinstance(value, str))
    if not same or isinstance(value, bool) or result == "":
        raise TypeError
    return result


def convert(setting: Setting, value: Any, where: str) -> object:
    """Return a value as a flag or a file has it (text, number, list) as the type of the setting.

    Raises ValueError, saying where the value stood and what is allowed.
    """
    may_be_none = setting.default is None or setting.name == "grad_clip"
    if may_be_none and (value is None or (setting.kind is not str and value in ("none", "null"))):
        return None
    least, choices = setting.least, setting.choices
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        result = parse(setting.kind, value)
        if (least is None or result >= least) and (not choices or result in choices):
            return result
    allowed = "one of " + ", ".join(choices) if choices else WORDS[setting.kind]
    allowed += "" if least is None else f" of at least {least}"
    raise ValueError(f"{where}: {setting.name} is {value!r}: it must be {allowed}")


def did_you_mean(name: str, allowed: Collection[str]) -> str:
    """Return `, did you mean 'max_steps'?` if a name is close to an allowed one, else nothing."""
    close = get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings in a YAML or TOML file, checked; dashes and underscores mean the same.

    Raises ValueError for an unknown setting, naming the nearest, and OSError for a missing file.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise ValueError(f"{path} must be a .yaml or a .toml file")
    text = path.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text) or {}
    except (yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no settings: write lines such as 'max_steps: 1000'")
    settings = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in SETTINGS:
            raise ValueError(f"{path}: no setting {key!r}{did_you_mean(name, SETTINGS)}")
        settings[name] = convert(SETTINGS[name], value, str(path))
    return settings


def check_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    """Return flags, as argparse read them, as settings of the right types."""
    return {name: convert(SETTINGS[name], value, SETTINGS[name].flag)
            for name, value in flags.items()}  # fmt: skip


def values(settings: SimpleNamespace, group: str) -> dict[str, Any]:
    """Return the values of the settings in a group, by name."""
    return {setting.name: getattr(settings, setting.name) for setting in GROUPS[group]}


def settle(given: Mapping[str, Any], corpus: str | None = None) -> SimpleNamespace:
    """Return all settings of a new run: those given, and the recipe's or the table's for the rest.

    corpus: what a prepared folder holds.
    """
    defaults = {setting.name: setting.default for group in GROUPS.values() for setting in group}
    recipe = STORY_RECIPE if "stories" in (given.get("data"), corpus) else {}
    return SimpleNamespace(**{**defaults, **recipe, **given})
