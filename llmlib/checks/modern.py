"""The configuration of a modern transformer, and the parts that it names."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from llmlib.checks.values import (
    flag,
    known_name,
    number,
    one_of,
    require,
    whole_number,
    whole_numbers,
)
from llmlib.messages import shown


def width_of_head(config: Any) -> int | None:
    """Return emb_dim / n_heads. Raises ValueError if it is not whole and head_dim is not given."""
    whole_numbers(emb_dim=config.emb_dim, n_heads=config.n_heads)
    if config.head_dim is None and config.emb_dim % config.n_heads:
        raise ValueError(
            f"emb_dim {config.emb_dim} is not divisible by n_heads {config.n_heads}: give a "
            "multiple, or head_dim, the numbers per head"
        )
    return config.emb_dim // config.n_heads


def even_head(head_dim: int) -> None:
    """Raise ValueError for heads whose numbers do not come in pairs."""
    whole_number("head_dim", head_dim)
    pairs = "rotary positions turn pairs of numbers: give an even one"
    require(head_dim % 2 == 0, f"head_dim is {head_dim}, and {pairs}")


def modern_config(config: Any) -> None:
    """Raise ValueError for a value that no modern transformer can have."""
    names = ("vocab_size", "context_length", "n_layers", "n_kv_heads", "head_dim", "hidden_dim")
    whole_numbers(**{name: getattr(config, name) for name in names})
    H, G = config.n_heads, config.n_kv_heads
    require(H % G == 0, f"n_kv_heads {G} does not divide n_heads {H}: each serves an equal group")
    for name in ("qkv_bias", "o_bias", "mlp_bias", "qk_norm", "tie_weights", "zero_init"):
        flag(name, getattr(config, name))
    number("norm_eps", config.norm_eps, lambda eps: 0 < eps < 1, "above 0 and below 1")
    number("rope_base", config.rope_base, lambda base: 1 < base < math.inf, "above 1")
    number("drop_rate", config.drop_rate, lambda rate: 0 <= rate < 1, "from 0 to below 1")
    if config.logit_cap is not None:
        number("logit_cap", config.logit_cap, lambda cap: 0 < cap < math.inf, "above 0, or None")
    for kind in ("norm", "positions", "mask", "attention", "feed_forward"):
        choice_of_part(kind, getattr(config, kind))


def choice_of_part(kind: str, choice: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of a part and its settings.

    Raises ValueError unless choice is a name, or a mapping with a "name".
    """
    if isinstance(choice, str):
        return choice, {}
    named = isinstance(choice, Mapping) and isinstance(choice.get("name"), str)
    allowed = 'give the name of a part, or a dict with "name" and the settings of the part'
    require(named, f"{kind} is {shown(choice)}: {allowed}")
    return choice["name"], {key: value for key, value in choice.items() if key != "name"}


def settings_of_part(kind: str, name: str, build: Callable, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that a part does not have, and for those that it needs."""
    _, _, *own = inspect.signature(build).parameters.values()  # config, layer, …
    for key in settings:
        known_name(f"setting of {kind} {name!r} named", key, [parameter.name for parameter in own])
    for parameter in own:
        needed = (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        )
        given = not needed or parameter.name in settings
        require(given, f"{kind} {name!r} needs the setting {parameter.name!r}")


def experts(config: Any, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that no mixture of experts can have."""
    E, k, hidden = settings["n_experts"], settings["top_k"], settings["hidden_dim"]
    whole_numbers(n_experts=E, sparse_step=settings["sparse_step"])
    whole_number("hidden_dim", config.hidden_dim if hidden is None else hidden)
    require(
        isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= E,
        f"top_k is {shown(k)}, of {E} experts: it must be a whole number from 1 to n_experts",
    )
    flag("normalize", settings["normalize"])
    whole_number("shared_dim", settings["shared_dim"], least=0)
    whole_number("n_dense", settings["n_dense"], least=0)
    if settings["balance"] is not None:
        one_of("balance", settings["balance"], ("loss", "bias"))
    if settings["capacity"] is not None:
        allowed = "above 0 (1 is an equal share for each expert), or None for no limit"
        number("capacity", settings["capacity"], lambda factor: 0 < factor < math.inf, allowed)
    for layer in settings["dense_layers"]:
        whole_number("a number in dense_layers", layer, least=0, most=config.n_layers - 1)
    gated = "experts have no biases: set mlp_bias to False"
    require(not config.mlp_bias, gated)
