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
    """Raise ValueError for settings that a part does not have, and for those that it needs.

    A part that takes any keyword (`**keys`) checks them by itself.
    """
    _, _, *own = inspect.signature(build).parameters.values()  # config, layer, …
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
    for key in () if takes_any else settings:
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


# The keys of each kind of scaled rotary positions, and what they are if left out; ... is needed
ROPE_SCALING: dict[str, dict[str, Any]] = {
    "linear": {"factor": ...},
    "ntk": {"factor": ...},
    "dynamic": {"factor": ...},
    "yarn": {
        "factor": None,
        "original_max_position_embeddings": None,
        "attention_factor": None,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": None,
        "mscale_all_dim": None,
        "truncate": True,
    },
    "llama3": {
        "factor": ...,
        "original_max_position_embeddings": None,
        "low_freq_factor": ...,
        "high_freq_factor": ...,
    },
}


def rope_scaling(kind: str, given: Mapping[str, Any], context_length: int) -> dict[str, Any]:
    """Return the keys of a kind of scaled rotary positions, complete.

    Raises ValueError for a kind or key that is not computed, a key that is missing, or a value that
    means nothing.
    """
    known_name("type of rope_scaling", kind, list(ROPE_SCALING))
    usual = ROPE_SCALING[kind]
    for key in given:
        known_name(f"key of rope_scaling {kind!r}", key, list(usual))
    keys = usual | {key: value for key, value in given.items() if value is not None}
    for key, value in keys.items():
        require(value is not ..., f"rope_scaling {kind!r} needs the key {key!r}")
    if "original_max_position_embeddings" in keys:
        length = keys["original_max_position_embeddings"] or context_length
        whole_number("original_max_position_embeddings", length)
        keys["original_max_position_embeddings"] = length
        keys["factor"] = keys["factor"] or context_length / length
    number("factor", keys["factor"], lambda factor: 1 <= factor < math.inf, "of at least 1")
    for key in keys.keys() - {"factor", "original_max_position_embeddings", "truncate"}:
        if keys[key] is not None:
            number(key, keys[key], lambda value: 0 <= value < math.inf, "of at least 0")
    if kind == "yarn":
        flag("truncate", keys["truncate"])
        keys["beta_fast"], keys["beta_slow"] = keys["beta_fast"] or 32, keys["beta_slow"] or 1
        ordered("beta_slow", "beta_fast", keys)
    if kind == "llama3":
        ordered("low_freq_factor", "high_freq_factor", keys)
    return keys


def ordered(low: str, high: str, keys: Mapping[str, Any]) -> None:
    """Raise ValueError unless the value of one key is below that of another."""
    below = keys[low] < keys[high]
    require(below, f"{low} {keys[low]} must be below {high}, which is {keys[high]}")


def window(config: Any, width: Any, sinks: Any, streaming: Any) -> None:
    """Raise ValueError for a window that no model can have."""
    whole_number("width", width, least=0, optional=True)
    whole_number("sinks", sinks, least=0)
    flag("streaming", streaming)
    rest = f"sinks {sinks} and streaming {streaming} need a window: give width, or leave them out"
    require(width or not (sinks or streaming), rest)


def positions_that_move(positions: Any) -> None:
    """Raise ValueError for positions that cannot be changed once a key is computed."""
    dynamic = getattr(positions, "kind", "") == "dynamic"
    fixed = any(True for _ in positions.parameters()) or not hasattr(positions, "turn")
    require(
        not dynamic and (not fixed or type(positions).__name__ == "NoPositions"),
        f"a streaming window counts positions inside the cache, and moves keys: {positions} cannot "
        "be moved; take positions='rotary', a rope_scaling other than 'dynamic', or 'none'",
    )


def one_at_a_time(n_new: int, length: int, width: int) -> None:
    """Raise ValueError for tokens whose sinks would have to stand in several places at once."""
    require(
        n_new == 1 or length <= width,
        f"a streaming window reads one token at a time behind {width} tokens, not {n_new}: its "
        "sinks stand elsewhere for each; generate(…, prefill=1) reads a long prompt so",
    )


def ring_entry(cache: Any, layer: int, keys: Any) -> None:
    """Raise ValueError unless keys (B, G, T, D) are those that a layer of a ring waits for."""
    require(
        layer < cache.n_layers and cache.stored < cache.n_layers,
        f"keys of layer {layer} come to a cache that has {cache.stored} of {cache.n_layers} "
        "layers: it belongs to another model, or cache.grow(batch_size, n_new) was not called",
    )
    B, G, T, D = keys.shape
    fits = (cache.batch_size, cache.length - cache.begun) == (B, T)
    if cache.data is not None:
        fits &= (G, D, keys.dtype) == (*cache.data.shape[2::2], cache.data.dtype)
    require(
        fits,
        f"keys {tuple(keys.shape)}, {keys.dtype}, for {cache.length - cache.begun} new tokens do "
        "not fit the cache: it belongs to another model, or to this one in another precision",
    )


def rewindable(cache: Any, length: Any) -> None:
    """Raise ValueError for a length to which a ring cannot be rewound."""
    whole_number("length", length, least=0, most=cache.length)
    whole = length == 0 or cache.stored == cache.n_layers
    require(whole, "a reading was cut off, and a window may have moved: rewind(0), and read again")
    needed, oldest = max(0, length - cache.width + 1), cache.furthest - cache.ring
    least = max(oldest + cache.width - 1, cache.least)
    kept = length == 0 or (needed >= oldest and length >= cache.least)
    require(
        kept,
        f"a window of {cache.width} tokens cannot be rewound from {cache.length} to {length}: what "
        f"it overwrote is gone; keep {least} tokens or more, or "
        "none: rewind(0), and read again",
    )


def latent_attention(
    config: Any, rank: Any, nope: Any, v_dim: Any, q_rank: Any, rope_interleave: Any
) -> None:
    """Raise ValueError for latent attention that no model can have."""
    whole_numbers(kv_lora_rank=rank, qk_nope_head_dim=nope, v_head_dim=v_dim)
    whole_number("q_lora_rank", q_rank, optional=True)
    flag("rope_interleave", rope_interleave)
    all_heads = "all heads of queries read the same latents: leave n_kv_heads out"
    require(
        config.n_kv_heads == config.n_heads, f"n_kv_heads is {config.n_kv_heads}, and {all_heads}"
    )
    require(not config.qk_norm, "latent attention has norms of its own: leave qk_norm at False")
    name, _ = choice_of_part("mask", config.mask)
    require(name == "causal", f"latent attention has no mask {name!r}: leave mask at 'causal'")
    name, _ = choice_of_part("positions", config.positions)
    rotary = name in ("rotary", "rope_scaling")
    wanted = "head_dim numbers of its keys turn: take 'rotary' or 'rope_scaling'"
    require(rotary, f"latent attention has no positions {name!r}, since {wanted}")


def own_memory(config: Any, rule: Any) -> None:
    """Raise ValueError for parts that an attention without scores cannot have."""
    one_of("rule", rule, ("linear", "delta", "softmax"))
    name, _ = choice_of_part("mask", config.mask)
    fits = name == "causal" or rule == "softmax"
    require(fits, f"linear attention has no mask {name!r}: leave mask at 'causal'")
    same = config.n_kv_heads == config.n_heads and not config.qk_norm
    require(same, "linear attention has neither grouped queries nor qk_norm: leave both out")


def reads_whole_rows(cache: Any, rule: str, segments: Any) -> None:
    """Raise ValueError for a cache, or documents in a row, which linear attention does not know."""
    # a mask of a softmax comes as a cache that cannot grow
    alone = cache is None or (rule == "softmax" and not hasattr(cache, "grow"))
    what = "linear attention reads single documents from their beginning: no cache, no segments"
    require(alone and segments is None, what)


def no_cache(what: str) -> Any:
    """Raise ValueError: there is no cache for it."""
    raise ValueError(
        f"{what} has no cache here: generate with model.forward, which reads all again"
    )
