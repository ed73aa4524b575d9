"""Files of settings: YAML and TOML, read as a person means them, or refused with their name.

Written by hand. Of YAML, the types that settings have: texts, whole numbers, decimal fractions,
true and false, null, lists. Whatever older readers would take for something else stays text, which
`settings.convert` turns into the number that it shows: `010` is 10 and not 8, and `1:30`, which
was 90, is no number. Left out: aliases, with which a few lines become gigabytes, and tags.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

LARGEST = 100_000  # bytes of a file
DEEPEST = 4  # lists in lists; a recursion without an end is stopped before Python stops it


class Loader(yaml.SafeLoader):
    """Reads YAML with no aliases, no tags, and each key once."""

    # all of these are what yaml.safe_dump writes, too, so that it puts any other text in quotes
    yaml_implicit_resolvers = {}  # noqa: RUF012 - as in its parent
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read a node as yaml does, but refuse aliases, tags, and what nests too deeply."""
        event = self.peek_event()
        known = not isinstance(event, yaml.AliasEvent) and getattr(event, "tag", None) is None
        self.depth += 1
        if not known or self.depth > DEEPEST:
            fault = "lists and tables nest too deeply" if known else "aliases and tags are left out"
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                fault = f"{key[:100]!r} is given twice"
                raise yaml.MarkedYAMLError(problem=fault, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


for tag, pattern, first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,30})", "-+0123456789"),
    ("float", r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?", "-+0123456789"),
]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"({pattern})$"), first)


def read_pairs(path: Path) -> list[tuple[str, Any]]:
    """Return the names and values of a YAML or TOML file, in order.

    Raises ValueError, which names the file, if it cannot be read, and OSError if it is missing.
    """
    if path.suffix not in (".yaml", ".yml", ".toml"):
        raise ValueError(f"{path} must be a .yaml or a .toml file")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    try:
        text = decode(data)
        content = load_toml(text) if path.suffix == ".toml" else load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).replace(' in "<unicode string>",', "").split())
        raise ValueError(f"{path} cannot be read: {reason[:300]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings: write lines such as 'max_steps: 1000'")
    return [(str(key), value) for key, value in content.items()]


def load_toml(text: str) -> Any:
    """Return what a TOML text says. Raises ValueError for what no settings have, before reading."""
    # for a name of n parts tomllib takes n² of time and memory
    lines = (line for line in text.split("\n") if not line.lstrip().startswith("#"))
    if any(line.count(".") > 100 for line in lines):
        raise ValueError("a name in it has too many parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("lists and tables nest too deeply") from None
    except ValueError:  # of int() and date()
        raise ValueError("a number or a date in it is impossible") from None


def load_yaml(text: str) -> Any:
    """Return what a YAML text says; an empty one is a table of nothing."""
    content = yaml.load(text, Loader)
    return {} if content is None else content


def decode(data: bytes) -> str:
    """Return bytes as text, without a byte-order mark. Raises ValueError if it is not UTF-8."""
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes, as no settings are")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is text in UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start:,} is {error.object[error.start]:#04x}"
        raise ValueError(f"it is not UTF-8 ({wrong}): save it as UTF-8") from None
