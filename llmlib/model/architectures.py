"""The architectures that there are: which class a configuration belongs to, and all presets.

Written by hand: what the command line and the readers of runs ask, so that neither knows a model. A
new architecture adds a line to the table; parts of one (notebooks 12 and 13) not even that.
"""

from collections.abc import Callable, Mapping
from typing import Any

from llmlib import checks
from llmlib.model import config as gpt
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.presets import MODERN

Config = GPTConfig | ModernConfig

ARCHITECTURES: dict[type, Callable[[Any], GPT]] = {GPTConfig: GPT, ModernConfig: Modern}
PRESETS: dict[
    str, type[GPTConfig] | type[ModernConfig]
] = {  # name -> the class of its configuration
    **dict.fromkeys(gpt.PRESETS, GPTConfig),
    **dict.fromkeys(MODERN, ModernConfig),
}


def preset(name: str, **changes: Any) -> Config:
    """Return a preset of any architecture, with some fields changed.

    Raises ValueError for an unknown preset, and TypeError for a field that it does not have.
    """
    checks.known_name("preset", name, PRESETS)
    return PRESETS[name].preset(name, **changes)


def new_model(config: Config) -> GPT:
    """Return a new model of a configuration. Raises TypeError for one of another kind."""
    names = " or a ".join(kind.__name__ for kind in ARCHITECTURES)
    fault = f"a {type(config).__name__} is the configuration of no model here: give a {names}"
    checks.require(type(config) in ARCHITECTURES, fault, TypeError)
    return ARCHITECTURES[type(config)](config)


def config_of(fields: Mapping[str, Any], kind: str | None = None) -> Config:
    """Return the configuration with some fields; kind: the name of its class, GPTConfig if None.

    Raises ValueError for an unknown class, and TypeError for fields that it does not have.
    """
    kinds = {each.__name__: each for each in ARCHITECTURES}
    checks.known_name("kind of configuration", kind or "GPTConfig", kinds)
    return kinds[kind or "GPTConfig"](**fields)
