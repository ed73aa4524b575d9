"""Files of settings, damaged, read by us and by PyYAML or tomllib.

    python tests/cli/settings_fuzz.py 10000

What we read has to be what the file shows: PyYAML's BaseLoader gives each value as the text that
stands there, and from that text, as from a flag, the setting is made. tomllib knows the types. What
they refuse we refuse; what they read we refuse only for a reason that names a setting or a rule.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from llmlib.cli import settings_files
from llmlib.cli.settings import SETTINGS, Part, SettingsFileError, convert, read_settings

VALUES = [
    *("1", "010", "0x1F", "0o7", "1e-3", "1.5e-3", ".5", "-3", "+4", "1_000", "1:30", "2020-01-01"),
    *("yes", "off", "no", "true", "False", "null", "~", "", "NULL", "none", ".inf", ".nan", "inf"),
    *("word", "gpt2", "é", "'010'", '"a b"', "'it''s'", "a # b", "a#b", "\\n", "[0.9, 0.95]"),
    *("[1, 2, 3]", "{a: 1}", "*a", "&a 1", "!!str 1", "<<", "-", "- 1", "? a"),
    *("|\n  text", ">\n  text"),
]
FITTING = {
    int: ["1", "010", "+4", "1_000", "5.0", "300", "'7'", "9007199254740993"],
    float: ["1", "0.5", ".5", "1e-3", "1.5e-3", "1E-1", "0_1.5", "'0.25'"],
    bool: ["true", "False", "yes", "off", "on", "NO", "'true'"],
    tuple: ["[0.9, 0.95]", "[9e-1, .95]", "[0, 0]", "['0.9', 0.95]", "[ 0.9 ,0.95 ]"],
    Part: ["swiglu", "gelu", "'relu2'", "moe"],
    str: ["gpt2", "adamw", "float32", "word", "no", "08", "1e3x", "1:30", "a#b", "é", "'it''s'"],
}
OUR_RULES = (
    "given twice",
    "left out",
    "nest too deeply",
    "no setting",
    "must be",
    "too many parts",
)
NOTHING = ("", "~", "null", "Null", "NULL")


def whole(rng, toml):
    lines = []
    for name in rng.sample([*SETTINGS], rng.randrange(1, 5)):
        kind = SETTINGS[name].kind
        value = rng.choice(VALUES if rng.random() < 0.15 else FITTING[kind])
        value = f'"{value}"' if toml and kind is str and rng.random() < 0.9 else value
        shown = name.replace("_", rng.choice("_-"))
        lines.append(f"{shown}{' = ' if toml else ': '}{value}")
    return rng.choice(["\n", "\n", "\r\n"]).join(lines).encode() + b"\n" * rng.randrange(2)


def damaged(rng, data):
    a = rng.randrange(len(data) + 1)
    new = rng.choice([*b"\0\t\n #'-0:\x85\xff", None])
    new = b"" if new is None else bytes([new])
    return data[:a] + new + data[a + rng.choice([0, 0, 1, 3]) :]


def shown(path, toml):
    """The settings that the file shows to the reference program, or None where it refuses."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = settings_files.tomllib.loads(text) if toml else yaml.load(text, yaml.BaseLoader)
        if content is None or content == "":
            return {}
        found = {}
        for key, value in content.items():
            setting = SETTINGS[key.replace("-", "_")]
            is_null = value in NOTHING or (value == "none" and setting.kind is not str)
            value = None if is_null and not toml and setting.may_be_none else value
            if setting.kind is int and "." in str(value):  # a whole number, in a file
                value = float(value)
            found[setting.name] = convert(setting, value, key)
    except Exception:
        return None
    return found


def judge(rng, path, toml):
    data = whole(rng, toml)
    path.write_bytes(damaged(rng, data) if rng.random() < 0.5 else data)
    theirs = shown(path, toml)
    try:
        ours = read_settings(path)
    except SettingsFileError as error:
        ruled = theirs is None or any(rule in str(error) for rule in OUR_RULES)
        return "refused" if ruled else f"FAULT refused {error}"
    return "same" if theirs == ours else f"FAULT {theirs} read as {ours}"


def run(n, seed=0):
    """Return how often each verdict came, and the faults."""
    rng, counts, faults = random.Random(seed), Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n):
            toml = number % 2 == 1
            path = Path(folder, "run.toml" if toml else "run.yaml")
            verdict = judge(rng, path, toml)
            counts[verdict.split()[0]] += 1
            faults += [(verdict, path.read_bytes())] if "FAULT" in verdict else []
    return counts, faults


if __name__ == "__main__":
    counts, faults = run(int(sys.argv[1]))
    print(dict(counts))
    print(*faults[:20], sep="\n")
