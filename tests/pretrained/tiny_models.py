"""Tiny random models of transformers, one of each kind that our one entry reads and writes."""

import json
import re
from typing import Any, NamedTuple

import torch
import transformers
from safetensors.torch import load_file, save_file

LLAMA = {
    "vocab_size": 20,
    "hidden_size": 16,  # four numbers per head: the first pair turns at one rate with any base
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
    "tie_word_embeddings": True,
}
EXPERTS = {"moe_intermediate_size": 12, "norm_topk_prob": True}
GPT2 = {"vocab_size": 20, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}


class Kind(NamedTuple):
    """A class of transformers, its sizes, and what it calls its parts."""

    family: str
    sizes: dict[str, Any]
    prefix: str = "model."
    table: str = "model.embed_tokens.weight"
    block: str = "model.layers."  # what the names of blocks begin with
    norm: str = "model.norm.weight"
    projection: str = "model.layers.1.mlp.down_proj.weight"
    n_layers: str = "num_hidden_layers"
    width: int = 16
    ours: str = "h.1.mlp.c_proj"  # the module of ours that has the projection

    def make(self, seed=0, **changes):
        """A model in which no parameter, no norm and no bias either, is as it is initialised."""
        head = "LMHeadModel" if self.family == "GPT2" else "ForCausalLM"
        config = getattr(transformers, f"{self.family}Config")(**self.sizes | changes)
        torch.manual_seed(seed)
        model = getattr(transformers, f"{self.family}{head}")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return model


KINDS = {
    "gpt2": Kind(
        "GPT2",
        GPT2,
        "transformer.",
        "transformer.wte.weight",
        "transformer.h.",
        "transformer.ln_f.weight",
        "transformer.h.1.mlp.c_proj.weight",
        "n_layer",
        8,
    ),
    "llama": Kind("Llama", LLAMA),
    "mistral": Kind("Mistral", LLAMA),
    "qwen2": Kind("Qwen2", LLAMA),
    "qwen3": Kind("Qwen3", LLAMA | {"head_dim": 6}),
    "mixtral": Kind(
        "Mixtral",
        LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 3},
        projection="model.layers.1.block_sparse_moe.experts.3.w2.weight",
        ours="h.1.mlp.experts.3.c_proj",
    ),
    "qwen3_moe": Kind(
        "Qwen3Moe",
        LLAMA | {"head_dim": 6, "num_experts": 4, "num_experts_per_tok": 2, **EXPERTS},
        projection="model.layers.1.mlp.experts.3.down_proj.weight",
        ours="h.1.mlp.experts.3.c_proj",
    ),
}


def gradient_of(named, name):
    """The gradient of a tensor of a file; in memory, transformers stacks the experts of a layer."""
    name = name.replace("block_sparse_moe", "mlp")
    found = re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name)
    if found is None:
        return named[name].grad
    place, number, kind = found.groups()
    if kind in ("w2", "down_proj"):
        return named[f"{place}.down_proj"].grad[int(number)]
    both = named[f"{place}.gate_up_proj"].grad[int(number)].chunk(2)
    return both[kind in ("w3", "up_proj")]


def change_config(folder, **changes):
    """Change keys of a config.json; ... takes one away."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value != ...}))


def change_tensors(folder, change):
    """Let a function change the tensors of a folder, in place or by what it returns."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors = change(tensors) or tensors
    save_file(tensors, path, metadata={"format": "pt"})
