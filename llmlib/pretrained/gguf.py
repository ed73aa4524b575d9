"""A GGUF file, as llama.cpp runs them: weights, configuration and tokenizer in one.

Written by hand. The package `gguf` reads the container and undoes the quantisation; here its names
become those of transformers, so that `families` knows the model. Two things differ. Files of a
`llama` pair neighbouring numbers of a head for the rotation, where transformers and we pair halves:
their queries and keys are permuted, and get their order back. And the tokenizer says by a name how
it splits a text. What is read: llama, qwen2 and qwen3 in any format that `gguf` can undo, with a
byte-level BPE. Left out: scaled rotary positions, and writing (notebook 22).
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor

from llmlib import checks
from llmlib.model.modern import Modern
from llmlib.pretrained.families import FAMILIES
from llmlib.pretrained.layout import StoredTensor
from llmlib.pretrained.modern_folder import build_modern
from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.pipeline import PipelineTokenizer

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
DIGITS = {"type": "Digits", "individual_digits": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
# llama.cpp's names for ways to split a text, as steps of a tokenizer.json
SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [BYTE_LEVEL | {"use_regex": True}],
    "smollm": [DIGITS, BYTE_LEVEL | {"use_regex": True}],
}
CONTROL, USER_DEFINED = 3, 4  # types of tokens


class GGUFFile:
    """A GGUF file: its fields, and its tensors by the names of transformers.

    Raises FileError for a damaged file, and for a model or a tokenizer that is not read here.
    """

    def __init__(self, path: Path):
        self.file = self.config_file = path
        with checks.blame(path, about="it is not a whole GGUF file: "), checks.whole_gguf():
            checks.gguf_magic(path)
            self.reader = GGUFReader(str(path))
        with checks.blame(path):
            self.architecture = checks.gguf_architecture(self.field("general.architecture"))
            self.family = FAMILIES[self.architecture]
            self.places = {transformers_name(t.name): t for t in self.reader.tensors}
            self.config = self.family.config(self.settings())
        self.tensors = {
            name: StoredTensor(path, t.name, tuple(map(int, t.shape[::-1])), "float32")
            for name, t in self.places.items()
        }

    def field(self, name: str, default: Any = None) -> Any:
        """Return the content of a field, or a default where the file does not have it."""
        field = self.reader.fields.get(name)
        return default if field is None else field.contents()

    def settings(self) -> dict[str, Any]:
        """Return what a config.json of transformers would say."""
        start = f"{self.architecture}."
        given = {n.removeprefix(start): self.field(n) for n in self.reader.fields if start in n}
        checks.gguf_settings(given, [*SETTINGS, *REPEATED])
        settings = {theirs: given[ours] for ours, theirs in SETTINGS.items() if ours in given}
        table = checks.found(self.places.get("embed_tokens.weight"), "it has no token_embd.weight")
        settings["vocab_size"] = int(table.shape[1])
        settings["tie_word_embeddings"] = "lm_head.weight" not in self.places
        return settings

    # --- tensors

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

    # --- tokenizer

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the file holds, with its chat template."""
        with checks.blame(self.file):
            kind, split = self.field("tokenizer.ggml.model"), self.field("tokenizer.ggml.pre")
            checks.gguf_tokenizer(kind, split, SPLITS)
            tokens = self.field("tokenizer.ggml.tokens")
            types = self.field("tokenizer.ggml.token_type", [1] * len(tokens))
            content = tokenizer_json(tokens, types, self.field("tokenizer.ggml.merges"), split)
            tokenizer = PipelineTokenizer(content)
            end = self.field("tokenizer.ggml.eos_token_id")
            if end is not None and tokens[end] in tokenizer.special_tokens:
                tokenizer.end_token = tokens[end]
            return tokenizer

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of a conversation, if the file holds one."""
        return self.field("tokenizer.chat_template")


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


def tokenizer_json(
    tokens: list[str], types: list[int], merges: list[str], split: str
) -> dict[str, Any]:
    """Return what a tokenizer.json would say of a byte-level BPE in a GGUF file."""
    vocab = {token: i for i, token in enumerate(tokens)}
    added = [
        vars(AddedToken(token, i, special=kind == CONTROL))
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
    steps = SPLITS[split]
    return {
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": BYTE_LEVEL | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": checks.merge_pairs(merges, vocab)},
    }


def load_gguf(path: str | Path, drop_rate: float = 0.0) -> tuple[Modern, Tokenizer]:
    """Return the model in a GGUF file, in float32, and its tokenizer.

    Raises FileError for a damaged file, and for a model that is not read here.
    """
    file = GGUFFile(Path(path))
    return build_modern(file, drop_rate), file.tokenizer
