"""The families of models that are read and written: Llama, Mistral, Qwen2, Qwen3, and others.

Written by hand. A new one is a subclass of `Family`, in a file of its own, that is registered under
its `model_type`; nothing else has to know it.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

from llmlib import checks
from llmlib.model.modern import ModernConfig
from llmlib.pretrained.family import SHARED, Family, mask, scaling, width

WINDOWS = {
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}


class Mistral(Family):
    """A Llama without biases, whose tokens may see a window only."""

    model_type, architecture = "mistral", "MistralForCausalLM"
    defaults: ClassVar[dict[str, Any]] = SHARED | {
        "vocab_size": 32000,
        "intermediate_size": 14336,
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    }
    fixed: ClassVar[dict[str, tuple]] = {
        "use_sliding_window": (None,),
        "attention_bias": (None, False),
        "mlp_bias": (None, False),
    }

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return nothing: it has no biases."""
        return {}

    def flags(self, config: ModernConfig) -> dict[str, Any]:
        """Return the width of the window."""
        return {"sliding_window": width(config)}


class Qwen2(Family):
    """A Llama whose queries, keys and values alone have a bias."""

    model_type, architecture = "qwen2", "Qwen2ForCausalLM"
    defaults: ClassVar[dict[str, Any]] = {
        **SHARED,
        **WINDOWS,
        "vocab_size": 151_936,
        "intermediate_size": 22016,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
    }
    fixed: ClassVar[dict[str, tuple]] = {"attention_bias": (None, True), "mlp_bias": (None, False)}

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the bias that is not said."""
        return {"qkv_bias": True}

    def window(self, settings: Mapping[str, Any]) -> int | None:
        """Return the window that all layers have, or None."""
        given = settings["sliding_window"] if settings["use_sliding_window"] else None
        n, first = settings["num_hidden_layers"], settings["max_window_layers"]
        sliding = [given is not None and layer >= first for layer in (0, n - 1)]
        if (kinds := settings["layer_types"]) is not None:
            sliding = checks.layer_types(kinds, n, given)
        is_whole = not given or given >= settings["max_position_embeddings"]
        return given if checks.same_layers([False] if is_whole else sliding) else None

    def flags(self, config: ModernConfig) -> dict[str, Any]:
        """Return the window; its layers are all from the first on."""
        given = width(config)
        return {"sliding_window": given, "use_sliding_window": given is not None} | (
            {} if given is None else {"max_window_layers": 0}
        )


class Qwen3(Qwen2):
    """A Llama that normalizes queries and keys, each head by itself."""

    model_type, architecture = "qwen3", "Qwen3ForCausalLM"
    defaults: ClassVar[dict[str, Any]] = Qwen2.defaults | {"head_dim": 128, "attention_bias": False}
    fixed: ClassVar[dict[str, tuple]] = {"mlp_bias": (None, False)}

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the norms, and the biases of attention."""
        bias = settings["attention_bias"]
        return {"qk_norm": True, "qkv_bias": bias, "o_bias": bias}

    def flags(self, config: ModernConfig) -> dict[str, Any]:
        """Return the window and the bias."""
        return {**super().flags(config), "attention_bias": config.qkv_bias}


FAMILIES: dict[str, Family] = {}  # model_type -> family


def register(family: Family) -> None:
    """Let a family be read and written."""
    FAMILIES[family.model_type] = family


for family in (Family(), Mistral(), Qwen2(), Qwen3()):
    register(family)


def comparable(config: ModernConfig) -> ModernConfig:
    """Return a configuration in which the same model is said in the same way."""
    changes: dict[str, Any] = {"drop_rate": 0.0, "zero_init": False}  # of training alone
    for kind in ("norm", "positions", "mask", "attention", "feed_forward"):
        name, settings = checks.choice_of_part(kind, getattr(config, kind))
        changes[kind] = {"name": name, **settings} if settings else name
        if name == "rope_scaling":
            changes[kind] = scaling(settings, config.context_length)
        if name == "window" and settings.keys() == {"width"}:
            changes[kind] = mask(settings["width"], config)
        if name == "moe":
            changes[kind] = part = sparse(config)
            if not part["dense_layers"]:  # then no layer has the width of dense ones
                changes["hidden_dim"] = part["hidden_dim"]
    return replace(config, **changes)


def sparse(config: ModernConfig) -> dict[str, Any]:
    """Return the settings of a mixture of experts that decide what it computes, all of them.

    Raises ValueError for a configuration without experts.
    """
    name, given = checks.choice_of_part("feed_forward", config.feed_forward)
    checks.require(name == "moe", f"feed_forward is {name!r}: experts are called 'moe'")
    usual = {"n_experts": 8, "top_k": 2, "normalize": True, "shared_dim": 0}
    part = {key: given.get(key, value) for key, value in usual.items()}
    n_dense, step = given.get("n_dense", 0), given.get("sparse_step", 1)
    dense = [
        layer
        for layer in range(config.n_layers)
        if layer < n_dense or layer in given.get("dense_layers", ()) or (layer + 1) % step
    ]
    hidden = given.get("hidden_dim") or config.hidden_dim
    return {"name": "moe", **part, "hidden_dim": hidden, "dense_layers": dense}


def family_of(config: ModernConfig) -> Family:
    """Return the first family that says all of a configuration: reading undoes writing.

    Raises ValueError, naming the fields that no family has, where there is none.
    """
    wanted, nearest = comparable(config), None
    for family in FAMILIES.values():
        try:
            again = comparable(family.config(family.settings(config)))
        except ValueError:
            continue
        names = (field.name for field in fields(config))
        differing = [name for name in names if getattr(again, name) != getattr(wanted, name)]
        if not differing:
            return family
        if nearest is None or len(differing) < len(nearest):
            nearest = differing
    raise checks.no_family(config, nearest or ["positions"], FAMILIES)
