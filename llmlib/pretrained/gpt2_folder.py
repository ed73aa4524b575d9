"""A GPT-2 in Hugging Face's folder: its configuration, and its weights.

Written by hand. `config.json` is read as transformers 5 reads it: what computes the same GPT-2 as
ours is taken, whatever words it says it in, and everything else is refused.
"""

import re
from dataclasses import replace
from pathlib import Path

import torch

from llmlib import checks
from llmlib.model.config import GPTConfig
from llmlib.pretrained.layout import is_transposed
from llmlib.pretrained.safetensors_files import CONFIG, GENERATION, SafetensorsFolder, as_json

FIELDS = {  # of a GPTConfig: what config.json calls them
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "emb_dim": "n_embd",
    "n_heads": "n_head",
    "n_layers": "n_layer",
    "tie_weights": "tie_word_embeddings",
}
ALIASES = {  # they win over the first names
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
DEFAULTS = {  # of transformers' GPT2Config: what a file need not say
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "use_cache": True,
    "tie_word_embeddings": True,
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "initializer_range": 0.02,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
# The names of one function: the tanh form of GELU
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
# The causal masks that older files hold: every reader makes its own
MASKS = re.compile(r"h\.\d+\.attn\.(?:bias|masked_bias)")


def read_config(path: Path) -> GPTConfig:
    """Return the configuration in a config.json.

    Raises FileError for a damaged file, or one that describes another kind of model.
    """
    content = checks.read_json(path)
    with checks.blame(path):
        settings = DEFAULTS | content
        settings |= {name: content[alias] for alias, name in ALIASES.items() if alias in content}
        checks.transformers_settings(settings, DEFAULTS)
        checks.plain_gpt2(settings, TANH_GELU)
        return GPTConfig(**{field: settings[name] for field, name in FIELDS.items()})


class HuggingFaceWeights(SafetensorsFolder):
    """Weights in Hugging Face's layout: safetensors, in which matrices have two axes."""

    def __init__(self, folder: Path):
        self.config = read_config(folder / CONFIG)
        super().__init__(folder)  # by our names
        shape = self.config.vocab_size, self.config.emb_dim
        if self.config.tie_weights and self.has_own_head(shape):
            self.config = replace(self.config, tie_weights=False)

    def rename(self, name: str) -> str | None:
        """Return our name of a tensor; None for the masks that older files hold."""
        # names begin so if the model was saved with its head
        ours = re.sub(r"^transformer\.(?!lm_head)", "", name)
        return None if MASKS.fullmatch(ours) else ours

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a parameter of ours has in the file."""
        return name, shape[::-1] if is_transposed(name) else shape

    def read(self, name: str) -> torch.Tensor:
        """Return a copy of a parameter, in float32 and as PyTorch has it."""
        tensor = self.load(name)
        tensor = tensor.T if is_transposed(name) else tensor  # (in, out) -> (out, in)
        return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def model_texts(config: GPTConfig, eos_token_id: int | None) -> dict[str, str]:
    """Return the contents of config.json and generation_config.json."""
    sizes = {name: getattr(config, field) for field, name in FIELDS.items()}
    rates = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.drop_rate)
    # GPT-2 has one special token, which begins and ends a text
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), eos_token_id)
    kind = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    old = {"n_ctx": config.context_length}  # what llama.cpp's converter asks for
    settings = {**kind, **DEFAULTS, **sizes, **old, **rates, **ends}
    return {CONFIG: as_json(settings), GENERATION: as_json(ends)}
