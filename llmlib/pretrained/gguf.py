"""A model in a GGUF file, as llama.cpp runs them.

Written by hand. The package `gguf` undoes the quantisation, and the names become those of
transformers, so that `families` knows the model. One thing differs: files of a `llama` pair
neighbouring numbers of a head for the rotation, where transformers and we pair halves, so that the
rows of queries and keys are permuted, and get their order back. What is read: llama, qwen2 and
qwen3, in any format that `gguf` can undo. Left out: scaled rotary positions, and writing (notebook
22). The tokenizer beside the model is read by `llmlib.tokenization.gguf`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.quants import dequantize
from torch import Tensor

from llmlib import checks
from llmlib.model.modern import Modern
from llmlib.pretrained.families import FAMILIES
from llmlib.pretrained.layout import StoredTensor
from llmlib.pretrained.modern_folder import build_modern
from llmlib.tokenization.gguf import field_of, open_gguf

NAMES = {  # of tensors: GGUF's -> those of transformers, without "model." in front
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SETTINGS = {  # of the configuration, after the name of the architecture -> those of config.json
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
REPEATED = ("attention.value_length", "rope.dimension_count", "vocab_size")  # follow from others
PERMUTED = ("llama",)  # architectures whose queries and keys pair neighbours in the file
PAIRED = ("q_proj", "k_proj")  # what is rotated


class GGUFFile:
    """A GGUF file: its configuration, and its tensors by the names of transformers.

    Raises FileError for a damaged file, and for a model that is not read here.
    """

    def __init__(self, path: Path):
        self.file = self.config_file = path
        self.reader = open_gguf(path)
        with checks.blame(path):
            self.architecture = checks.gguf_architecture(
                field_of(self.reader, "general.architecture")
            )
            self.family = FAMILIES[self.architecture]
            self.places = {transformers_name(t.name): t for t in self.reader.tensors}
            self.config: Any = self.family.config(self.settings())
        self.tensors = {
            name: StoredTensor(path, t.name, tuple(map(int, t.shape[::-1])), "float32")
            for name, t in self.places.items()
        }

    def settings(self) -> dict[str, Any]:
        """Return what a config.json of transformers would say."""
        start = f"{self.architecture}."
        names = [name for name in self.reader.fields if name.startswith(start)]
        given = {name.removeprefix(start): field_of(self.reader, name) for name in names}
        checks.gguf_settings(given, [*SETTINGS, *REPEATED])
        settings = {theirs: given[ours] for ours, theirs in SETTINGS.items() if ours in given}
        table = checks.found(self.places.get("embed_tokens.weight"), "it has no token_embd.weight")
        settings["vocab_size"] = int(table.shape[1])
        settings["tie_word_embeddings"] = "lm_head.weight" not in self.places
        return settings

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a tensor should have in the file."""
        found = self.tensors.get(name)
        return name if found is None else found.name, shape

    def load(self, name: str) -> Tensor:
        """Return a tensor in float32, with queries and keys in the order of transformers."""
        stored = self.places[name]
        array = dequantize(stored.data, stored.tensor_type).astype(np.float32, copy=True)
        tensor = torch.from_numpy(array).view(self.tensors[name].shape)
        if self.architecture in PERMUTED and name.split(".")[-2] in PAIRED:
            return halves_from_neighbours(tensor, self.config.head_dim)
        return tensor


def halves_from_neighbours(weight: Tensor, head_dim: int) -> Tensor:
    """Return rows of queries or keys (H·D, ...) so that halves are pairs, not neighbours.

    In each head, rows 0, 2, 4, ... come first, then 1, 3, 5, ...: a permutation, so that all scores
    stay what they were.
    """
    pairs = weight.view(-1, head_dim // 2, 2, *weight.shape[1:])  # (H, D/2, 2, ...)
    return pairs.transpose(1, 2).reshape(weight.shape)


def transformers_name(name: str) -> str:
    """Return what transformers calls a tensor of GGUF's; a name of something else is kept.

    >>> transformers_name("blk.7.attn_q.weight")
    'layers.7.self_attn.q_proj.weight'
    """
    parts = name.split(".")
    layer = f"layers.{parts[1]}." if parts[0] == "blk" and len(parts) > 2 else ""
    place, kind = (parts[2] if layer else parts[0]), parts[-1]
    known = place in NAMES and len(parts) == (4 if layer else 2)
    return f"{layer}{NAMES[place]}.{kind}" if known else name


def load_gguf(path: str | Path, drop_rate: float = 0.0, *, ignore_extra: bool = False) -> Modern:
    """Return the model in a GGUF file, in float32.

    Arguments are those of `huggingface.load_pretrained`. Raises FileError for a damaged file, and
    for a model that is not read here.
    """
    return build_modern(GGUFFile(Path(path)), drop_rate, ignore_extra=ignore_extra)
