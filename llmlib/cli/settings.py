"""The settings of a run: one table, read from flags and from YAML or TOML files.

Written by hand. Flags and files use the same names and pass the same checks. A setting that is not
given comes from the recipe of the corpus, or from the table. GPTConfig and TrainConfig check the
ranges that they know; `tests/cli/test_cli_config.py` compares this table with theirs.
"""

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from llmlib.cli.settings_files import read_pairs
from llmlib.messages import shown
from llmlib.model.presets import NAMES

BIG = 2**31 - 1  # more of anything is a slip of the finger
SEEDS = (0, 2**63 - 1)  # a step is added to them, and torch takes 64 bits


class Part(str):
    """The kind of a setting that names a part of a model; in a file, a table may add to its name.

    Such as `feed_forward: {name: moe, n_experts: 8}`, which a model decides that a run starts from.
    """


class SettingsFileError(ValueError):
    """A file of settings says something impossible: the message has the names that stand in it."""


class Setting(NamedTuple):
    """A setting: `--max-steps` as a flag, `max_steps` in a file."""

    name: str
    kind: type
    default: object
    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        bounds = [f"at least {self.least}"] * (self.least > -math.inf)
        bounds += [f"at most {self.most}"] * (self.most < math.inf)
        words = " of ".join(filter(None, [WORDS[self.kind], " and ".join(bounds)]))
        return words + (", or none" if self.may_be_none and self.kind is not Part else "")

    @property
    def may_be_none(self) -> bool:
        return self.default is None or self.name == "grad_clip"


def whole(name: str, default: int | None, help: str, least: int = 1, most: int = BIG) -> Setting:
    """Return a setting that is a whole number."""
    return Setting(name, int, default, help, least=least, most=most)


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
    whole("max_vocab", None, "largest vocabulary of a tokenizer learned here", least=3),
    whole("stories", 20_000, "how many stories the world tells", least=2),
    Setting("val_fraction", float, 0.1, "share of the text that is kept for validation"),
    Setting("separator", str, "<|endoftext|>", "ends a document inside a text; none: nothing does"),
    Setting("end_token", str, "<|endoftext|>", "the special token that stands between documents"),
    Setting("text_field", str, "text", "where each line of a .jsonl has its text"),
    whole("seed", 0, "seed of everything random", *SEEDS),
]
START = [
    Setting("preset", str, "story-small", f"sizes to start from: {', '.join(NAMES)}"),
    Setting("init_std", float, 0.02, "standard deviation of the initial weights", least=0),
    Setting("from", str, None, "start from this MODEL's weights, with its tokenizer and sizes"),
    Setting("ignore_extra", bool, False, "let --from drop tensors that the model has no place for"),
]
MODEL = [  # each a field of GPTConfig or ModernConfig
    whole("context_length", None, "most tokens read at once [the preset's, as below]"),
    whole("emb_dim", None, "width: numbers per token"),
    whole("n_heads", None, "attention heads in each block"),
    whole("n_layers", None, "blocks"),
    Setting("drop_rate", float, None, "dropout while training"),
    Setting("qkv_bias", bool, None, "give queries, keys and values a bias"),
    Setting("tie_weights", bool, None, "use the embedding as the head"),
    whole("n_kv_heads", None, "heads of keys and values, for modern presets"),
    whole("hidden_dim", None, "width inside the feed-forward layers, for modern presets"),
    Setting("qk_norm", bool, None, "normalize queries and keys, for modern presets"),
    Setting("feed_forward", Part, None, "swiglu, relu2, gelu or moe, for modern presets"),
    Setting("positions", Part, None, "rotary, rope_scaling, …, none, for modern presets"),
    Setting("mask", Part, None, "causal, window or alibi, for modern presets"),
    Setting("attention", Part, None, "grouped, latent_attention, …, for modern presets"),
]
TRAINING = [  # each a field of TrainConfig
    whole("max_steps", 1000, "training steps in all"),
    whole("accumulation_steps", 1, "batches per step, their gradients added up"),
    Setting("learning_rate", float, 1e-3, "peak, reached after the warm-up"),
    whole("warmup_steps", 100, "steps in which the learning rate rises to its peak", least=0),
    Setting("final_fraction", float, 0.1, "share of the learning rate left at the last step"),
    Setting("weight_decay", float, 0.1, "for matrices and embeddings"),
    Setting("betas", tuple, (0.9, 0.95), "AdamW's two decay rates"),
    Setting("grad_clip", float, 1.0, "longest gradient, or none for no limit"),
    Setting("optimizer", str, "adamw", "adamw, or muon for the matrices", ("adamw", "muon")),
    Setting("dtype", str, "float32", "of the matrix products", ("float32", "bfloat16")),
]
RUN = [
    whole("batch_size", 8, "rows per batch, over all processes"),
    Setting("device", str, "auto", "auto, cpu, cuda, cuda:1, mps"),
    Setting("compile", bool, False, "compile with torch.compile, if that works here"),
    whole("eval_every", 250, "steps from one look at loss and samples to the next"),
    whole("eval_tokens", 20_000, "validation tokens per look"),
    whole("save_every", 250, "steps from one checkpoint to the next"),
    whole("n_samples", 2, "samples per look, for stories 32"),
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
TEXTS = {"separator", "end_token", "text_field"}  # which are looked for in texts

WORDS: dict[type, str] = {
    bool: "true or false",
    tuple: "two numbers",
    str: "a text",
    Part: "the name of a part, or a table with a name and settings",
    int: "a whole number",
    float: "a number",
}


TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")  # all that YAML ever took for one


def parse(kind: Any, value: Any) -> Any:
    """Return a value as a bool, a pair of numbers, a text or a number; raise if it is not one."""
    if kind is bool:
        return {word: word in TRUE for word in TRUE + FALSE}[str(value).lower()]
    if kind is Part and isinstance(value, Mapping):
        return {"name": parse(str, value["name"])} | value
    if kind is Part:
        return parse(str, value)
    if kind is tuple:
        numbers = [parse(float, number) for number in value if isinstance(value, (list, tuple))]
        first, second = numbers
        return first, second
    result = kind(value)
    # YAML gives 1e-3 and 010 as text; but True is not 1, 1.5 not a whole number, and 3 not a text
    same = result == value or (kind is not str and isinstance(value, str))
    sound = math.isfinite(result) if kind is float else result != "" and "\0" not in str(result)
    if not same or isinstance(value, bool) or not sound:
        raise TypeError
    return result


def convert(setting: Setting, value: Any, name: str) -> object:
    """Return a value as a flag or a file has it (text, number, list) as the type of the setting.

    Raises ValueError, saying by which name it was given and what is allowed.
    """
    words = () if setting.kind in (str, Part) else ("none", "null")  # which may be a name
    none = value is None or value in words
    if none and setting.may_be_none:
        return None
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        result = parse(setting.kind, value)
        if setting.choices:
            fits = result in setting.choices
        else:
            fits = setting.kind not in (int, float) or setting.least <= result <= setting.most
        if fits:
            return result
    raise ValueError(f"{name} is {shown(value)}: it must be {setting.allowed}")


def did_you_mean(name: str, allowed: Collection[str]) -> str:
    """Return `, did you mean 'max_steps'?` if a name is close to an allowed one, else nothing."""
    close = get_close_matches(name[:100], allowed, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings in a YAML or TOML file, checked; dashes and underscores mean the same.

    Raises SettingsFileError, a ValueError, for a file that cannot be read and for an unknown or
    impossible setting, naming the nearest, and OSError for a missing file.
    """
    path, settings = Path(path), {}
    try:
        for key, value in read_pairs(path):
            name = key.replace("-", "_")
            if name not in SETTINGS:
                raise ValueError(f"{path}: no setting {shown(key)}{did_you_mean(name, SETTINGS)}")
            if name in settings:
                raise ValueError(f"{path}: {name} is given twice, with - and with _")
            settings[name] = convert(SETTINGS[name], value, f"{path}: {name}")
    except ValueError as error:
        raise SettingsFileError(*error.args) from None
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
