"""Llama in transformers' words: what config.json says, and what the tensors are called.

Written by hand. A family is one `model_type`: it reads a configuration into a `ModernConfig`, and
back, and maps each parameter of ours to the tensors of a file. Ours lie closer together: c_attn
holds the rows of queries, keys and values, c_fc those of gate and up. Llama is the base of the
others, which `families` lists.

Both generations of configurations are read: `rope_theta` and `rope_scaling` at the top, as
transformers 4 writes them, or together in `rope_parameters`, as transformers 5 does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from llmlib import checks
from llmlib.model.modern import ModernConfig

# Tensors of a file, with their shapes: in a parameter of ours their rows follow each other
Pieces = list[tuple[str, tuple[int, ...]]]

SIZES = {  # fields of a ModernConfig: what config.json calls them
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "emb_dim": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "tie_weights": "tie_word_embeddings",
}
ROPE = ("rope_theta", "rope_scaling", "rope_parameters")
SHARED = {  # what all families read, and what it is where the file does not say it
    "head_dim": None,
    "hidden_act": "silu",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
SCALED = ("linear", "dynamic", "yarn", "llama3")  # the types of scaled rotary positions
BASE = 10_000.0  # of rotary positions, where a file does not say it


class Family:
    """Llama, and what its kin has in common with it: the base of the others.

    defaults: the keys that are read, with the values that transformers takes where a file lacks
    them. kinds: the types of those that only one family has. fixed: keys that this family does not
    have and others do, with the values that they may have.
    """

    model_type, architecture = "llama", "LlamaForCausalLM"
    defaults: ClassVar[dict[str, Any]] = SHARED | {
        "vocab_size": 32000,
        "intermediate_size": 11008,
        "max_position_embeddings": 2048,
        "num_key_value_heads": None,
        "attention_bias": False,
        "mlp_bias": False,
    }
    kinds: ClassVar[dict[str, tuple[type, ...]]] = {}
    fixed: ClassVar[dict[str, tuple]] = {
        "sliding_window": (None, 0),
        "use_sliding_window": (None, False),
        "layer_types": (None,),
    }

    # --- config.json

    def config(self, content: Mapping[str, Any]) -> ModernConfig:
        """Return the configuration in a config.json. Raises ValueError for one of another model."""
        read = {*self.defaults, *ROPE}
        checks.known_settings(content, self.model_type, read, self.fixed)
        settings = {**self.defaults, **content}
        checks.family_settings(settings, self.defaults, self.kinds)
        sizes = {ours: settings[theirs] for ours, theirs in SIZES.items()}
        base, positions = rope(settings)
        with checks.renamed(SIZES | {"rope_base": "rope_theta"}):
            found = ModernConfig(**sizes, rope_base=base, positions=positions)
            return replace(found, mask=mask(self.window(settings), found), **self.own(settings))

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields in which this family differs from the others."""
        wide, heads = settings["hidden_size"], settings["num_attention_heads"]
        checks.whole_heads(wide, heads)  # also where head_dim is given
        bias = settings["attention_bias"]
        return {"qkv_bias": bias, "o_bias": bias, "mlp_bias": settings["mlp_bias"]}

    def window(self, settings: Mapping[str, Any]) -> int | None:
        """Return how many tokens each token sees, itself included; None for all before it."""
        return settings.get("sliding_window")

    def settings(self, config: ModernConfig) -> dict[str, Any]:
        """Return what config.json says of a configuration; `config` undoes it if it can."""
        sizes = {theirs: getattr(config, ours) for ours, theirs in SIZES.items()}
        _, scaling = checks.choice_of_part("positions", config.positions)
        scaling = {"rope_type": scaling.pop("type", None)} | scaling if scaling else None
        # as in transformers 4, which transformers 5 and all other programs read, too
        rope = {"rope_theta": config.rope_base, "rope_scaling": scaling}
        return {**self.defaults, **sizes, **rope, **self.flags(config)}

    def flags(self, config: ModernConfig) -> dict[str, Any]:
        """Return the keys that `own` and `window` read."""
        return {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}

    # --- tensors

    def tensors(self, config: Any) -> dict[str, Pieces]:
        """Return for each parameter of ours the tensors of a file, without "model." in front."""
        table = config.vocab_size, config.emb_dim
        found: dict[str, Pieces] = {"wte.weight": [("embed_tokens.weight", table)]}
        for n in range(config.n_layers):
            for ours, pieces in self.block(config, n).items():
                found[f"h.{n}.{ours}"] = [(f"layers.{n}.{name}", size) for name, size in pieces]
        found["ln_f.weight"] = [("norm.weight", (config.emb_dim,))]
        if not config.tie_weights:
            found["lm_head.weight"] = [("lm_head.weight", table)]
        return found

    def block(self, config: Any, layer: int) -> dict[str, Pieces]:
        """Return the tensors of a block by our names, both without the number of the block."""
        norms = {"ln_1": "input_layernorm", "ln_2": "post_attention_layernorm"}
        found: dict[str, Pieces] = {
            f"{ours}.weight": [(f"{theirs}.weight", (config.emb_dim,))]
            for ours, theirs in norms.items()
        }
        return found | self.attention(config, layer) | self.feed_forward(config, layer)

    def attention(self, config: Any, layer: int) -> dict[str, Pieces]:
        """Return the tensors of a block's attention."""
        queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        rows = {f"self_attn.{name}": n for name, n in rows.items()}
        found = linear("attn.c_attn", rows, config.emb_dim, config.qkv_bias)
        found |= linear("attn.c_proj", {"self_attn.o_proj": config.emb_dim}, queries, config.o_bias)
        if config.qk_norm:
            for name in ("q_norm.weight", "k_norm.weight"):
                found[f"attn.{name}"] = [(f"self_attn.{name}", (config.head_dim,))]
        return found

    def feed_forward(self, config: Any, layer: int) -> dict[str, Pieces]:
        """Return the tensors of a block's feed-forward layer."""
        wide, hidden, bias = config.emb_dim, config.hidden_dim, config.mlp_bias
        gates = {"mlp.gate_proj": hidden, "mlp.up_proj": hidden}
        return linear("mlp.c_fc", gates, wide, bias) | linear(
            "mlp.c_proj", {"mlp.down_proj": wide}, hidden, bias
        )


def linear(ours: str, rows: Mapping[str, int], columns: int, bias: bool) -> dict[str, Pieces]:
    """Return the tensors of a linear layer of ours: several of a file, by name, with their rows."""
    found: dict[str, Pieces] = {
        f"{ours}.weight": [(f"{name}.weight", (n, columns)) for name, n in rows.items()]
    }
    if bias:
        found[f"{ours}.bias"] = [(f"{name}.bias", (n,)) for name, n in rows.items()]
    return found


def rope(settings: Mapping[str, Any]) -> tuple[float, str | dict[str, Any]]:
    """Return the base and the kind of rotary positions, of either generation of files."""
    found = checks.rope_settings(settings)
    kind, base = found.pop("rope_type", "default"), found.pop("rope_theta", BASE)
    checks.rope_kind(kind, found, SCALED)
    if kind == "default":
        return base, "rotary"
    return base, scaling({"type": kind} | found, settings["max_position_embeddings"])


def scaling(given: Mapping[str, Any], context_length: int) -> dict[str, Any]:
    """Return positions that are scaled, and from which length, if their type has one."""
    first = {"original_max_position_embeddings": context_length}
    return {
        "name": "rope_scaling",
        **(first if given.get("type") in ("llama3", "yarn") else {}),
        **given,
    }


def mask(window: int | None, config: ModernConfig) -> str | dict[str, Any]:
    """Return the mask of a window; one that holds the whole context, 0 and None mean no window."""
    if not window or window >= config.context_length:
        return "causal"
    return {"name": "window", "width": window}


def width(config: ModernConfig) -> int | None:
    """Return the width of a configuration's window, if it has one."""
    return checks.choice_of_part("mask", config.mask)[1].get("width")
