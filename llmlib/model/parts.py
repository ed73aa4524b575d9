"""Parts of a model that a configuration chooses by name: a new one is a new file, and no patch.

Written by hand; notebook 11 uses it. A part is a class or function, registered under a kind and a
name, that takes the configuration and the number of a layer. A configuration may add settings of
the part: `{"name": "window", "width": 64}`. A name that nobody has registered yet is taken for a
module of `llmlib.model`, which registers it when it is imported.

>>> @part("norm", "no_norm")
... def no_norm(config, layer):
...     return f"no norm in layer {layer}"
>>> build_part("norm", "no_norm", config=None)
'no norm in layer 0'
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from llmlib import checks

Choice = str | Mapping[str, Any]  # a name, or a name with settings

PARTS: dict[tuple[str, str], Callable[..., Any]] = {}  # (kind, name) -> builder(config, layer, …)


def part(kind: str, name: str) -> Callable:
    """Register the decorated class or function as the part of a kind with a name."""

    def register(build: Callable) -> Callable:
        PARTS[kind, name] = build
        return build

    return register


def find_part(kind: str, name: str) -> Callable[..., Any]:
    """Return the builder of a part. Raises ValueError for an unknown name, with the known ones."""
    if (kind, name) not in PARTS and str(name).isidentifier():
        module = f"llmlib.model.{name}"
        if find_spec(module) is not None:
            import_module(module)
    checks.known_name(kind, name, [known for of, known in PARTS if of == kind])
    return PARTS[kind, name]


def build_part(kind: str, choice: Choice, config: Any, layer: int = 0) -> Any:
    """Build a part for one layer: choice is its name, or a mapping with "name" and its settings.

    Raises ValueError for an unknown name or setting.
    """
    name, settings = checks.choice_of_part(kind, choice)
    build = find_part(kind, name)
    checks.settings_of_part(kind, name, build, settings)
    return build(config, layer, **settings)
