"""Families with a mixture of experts in transformers' words: Mixtral and Qwen3-MoE.

Written by hand. transformers 5 keeps the experts of a layer in one tensor while a model is in
memory; its files have a tensor for each matrix of each expert, as before, and so have ours.
Training alone needs how the load is evened, so that a file says nothing of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from llmlib import checks
from llmlib.model.modern import ModernConfig
from llmlib.pretrained.families import FAMILIES as FAMILIES  # with those of this file
from llmlib.pretrained.families import Mistral, Qwen3, register, sparse
from llmlib.pretrained.family import SHARED, Pieces, linear

ROUTING = {"output_router_logits": False, "router_aux_loss_coef": 0.001}  # of training
KINDS: dict[str, tuple[type, ...]] = {
    "num_experts_per_tok": (int,),
    "num_experts": (int,),
    "num_local_experts": (int,),
    "moe_intermediate_size": (int,),
    "decoder_sparse_step": (int,),
    "norm_topk_prob": (bool,),
    "mlp_only_layers": (list, type(None)),
    "router_jitter_noise": (int, float),
    "output_router_logits": (bool,),
    "router_aux_loss_coef": (int, float),
}


def expert_tensors(config: Any, place: str, names: tuple[str, str, str]) -> dict[str, Pieces]:
    """Return the tensors of a layer of experts; names: what the file calls gate, up and down."""
    part = sparse(config)
    wide, hidden = config.emb_dim, part["hidden_dim"]
    found = linear("mlp.router", {f"{place}.gate": part["n_experts"]}, wide, False)
    for number in range(part["n_experts"]):
        gate, up, down = (f"{place}.experts.{number}.{name}" for name in names)
        ours = f"mlp.experts.{number}"
        found |= linear(f"{ours}.c_fc", {gate: hidden, up: hidden}, wide, False)
        found |= linear(f"{ours}.c_proj", {down: wide}, hidden, False)
    return found


class Mixtral(Mistral):
    """A Mistral whose feed-forward layers are all experts, with weights that sum to 1."""

    model_type, architecture = "mixtral", "MixtralForCausalLM"
    defaults: ClassVar[dict[str, Any]] = {
        **SHARED,
        **ROUTING,
        "rms_norm_eps": 1e-5,
        "vocab_size": 32000,
        "intermediate_size": 14336,
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "sliding_window": None,
        "rope_theta": 1_000_000.0,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "router_jitter_noise": 0.0,
    }
    kinds: ClassVar[dict[str, tuple[type, ...]]] = KINDS
    NAMES: ClassVar[dict[str, str]] = {
        "n_experts": "num_local_experts",
        "top_k": "num_experts_per_tok",
    }

    def config(self, content: Mapping[str, Any]) -> ModernConfig:
        """Return the configuration in a config.json."""
        return checked(super().config(content), self.NAMES)

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the experts."""
        part = {ours: settings[theirs] for ours, theirs in self.NAMES.items()}
        return {"feed_forward": {"name": "moe", **part}}

    def flags(self, config: ModernConfig) -> dict[str, Any]:
        """Return the experts and the window."""
        part = sparse(config)
        return super().flags(config) | {
            "intermediate_size": part["hidden_dim"],
            "num_local_experts": part["n_experts"],
            "num_experts_per_tok": part["top_k"],
        }

    def feed_forward(self, config: Any, layer: int) -> dict[str, Pieces]:
        """Return the tensors of a block's experts."""
        return expert_tensors(config, "block_sparse_moe", ("w1", "w3", "w2"))


class Qwen3MoE(Qwen3):
    """A Qwen3 with experts in place of some or all feed-forward layers."""

    model_type, architecture = "qwen3_moe", "Qwen3MoeForCausalLM"
    defaults: ClassVar[dict[str, Any]] = {
        **{name: value for name, value in Qwen3.defaults.items() if name != "max_window_layers"},
        **ROUTING,
        "head_dim": None,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": None,
    }
    kinds: ClassVar[dict[str, tuple[type, ...]]] = KINDS
    NAMES: ClassVar[dict[str, str]] = {
        "n_experts": "num_experts",
        "top_k": "num_experts_per_tok",
        "hidden_dim": "moe_intermediate_size",
        "normalize": "norm_topk_prob",
        "sparse_step": "decoder_sparse_step",
        "dense_layers": "mlp_only_layers",
    }

    def config(self, content: Mapping[str, Any]) -> ModernConfig:
        """Return the configuration in a config.json, of which there are two generations."""
        content = dict(content)
        if "num_local_experts" in content:  # as transformers 5 writes it
            content.setdefault("num_experts", content.pop("num_local_experts"))
        return checked(super().config(content), self.NAMES)

    def own(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the norms, the biases of attention, and the experts."""
        part = {ours: settings[theirs] for ours, theirs in self.NAMES.items()}
        part["dense_layers"] = list(part["dense_layers"] or [])
        return super().own(settings) | {"feed_forward": {"name": "moe", **part}}

    def window(self, settings: Mapping[str, Any]) -> int | None:
        """Return the window, which all layers have, or None."""
        return settings["sliding_window"] if settings["use_sliding_window"] else None

    def flags(self, config: ModernConfig) -> dict[str, Any]:
        """Return the window, the bias and the experts."""
        part = sparse(config)
        window = {k: v for k, v in super().flags(config).items() if k != "max_window_layers"}
        return window | {
            "num_experts": part["n_experts"],
            "num_experts_per_tok": part["top_k"],
            "moe_intermediate_size": part["hidden_dim"],
            "norm_topk_prob": part["normalize"],
            "decoder_sparse_step": 1,
            "mlp_only_layers": part["dense_layers"],
        }

    def feed_forward(self, config: Any, layer: int) -> dict[str, Pieces]:
        """Return the tensors of a block's experts, or of its dense layer."""
        if layer in sparse(config)["dense_layers"]:
            return super().feed_forward(config, layer)
        return expert_tensors(config, "mlp", ("gate_proj", "up_proj", "down_proj"))


def checked(config: ModernConfig, names: Mapping[str, str]) -> ModernConfig:
    """Return a configuration whose experts can be built, its dense layers listed.

    names: what a file calls the settings, for messages.
    """
    _, settings = checks.choice_of_part("feed_forward", config.feed_forward)
    with checks.renamed(names):
        checks.file_experts(config, settings)
    return replace(config, feed_forward=sparse(config))


for family in (Mixtral(), Qwen3MoE()):
    register(family)
