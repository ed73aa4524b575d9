# From notebooks/07_gpt2_weights.ipynb: edit there, then run make export.

"""What the tensors of a GPT-2 are called, and how they lie in files.

Built in notebook 07. Names are ours, which are Hugging Face's too; OpenAI's follow from a table.
"""

import re
from pathlib import Path
from typing import NamedTuple

NAMES = {  # ours, which are Hugging Face's too -> OpenAI's; N is the number of a block
    "wte.weight": "model/wte",
    "wpe.weight": "model/wpe",
    "h.N.ln_1.weight": "model/hN/ln_1/g",
    "h.N.ln_1.bias": "model/hN/ln_1/b",
    "h.N.attn.c_attn.weight": "model/hN/attn/c_attn/w",
    "h.N.attn.c_attn.bias": "model/hN/attn/c_attn/b",
    "h.N.attn.c_proj.weight": "model/hN/attn/c_proj/w",
    "h.N.attn.c_proj.bias": "model/hN/attn/c_proj/b",
    "h.N.ln_2.weight": "model/hN/ln_2/g",
    "h.N.ln_2.bias": "model/hN/ln_2/b",
    "h.N.mlp.c_fc.weight": "model/hN/mlp/c_fc/w",
    "h.N.mlp.c_fc.bias": "model/hN/mlp/c_fc/b",
    "h.N.mlp.c_proj.weight": "model/hN/mlp/c_proj/w",
    "h.N.mlp.c_proj.bias": "model/hN/mlp/c_proj/b",
    "ln_f.weight": "model/ln_f/g",
    "ln_f.bias": "model/ln_f/b",
}
OURS = {theirs: ours for ours, theirs in NAMES.items()}


def openai_name(name: str) -> str:
    """Return what OpenAI's files call a parameter of ours.

    >>> openai_name("h.10.attn.c_attn.weight")
    'model/h10/attn/c_attn/w'
    """
    number = re.match(r"h\.(\d+)\.", name)
    return NAMES[re.sub(r"^h\.\d+", "h.N", name)].replace("N", number[1] if number else "")


def is_transposed(name: str) -> bool:
    """Tell whether files store a parameter as (in, out), where nn.Linear has (out, in)."""
    # not the two tables, wte and wpe: their rows are looked up, and not multiplied
    return name != "lm_head.weight" and openai_name(name).endswith("/w")


def our_name(name: str) -> str:
    """Return what we call a parameter of OpenAI's files; a name of something else is kept."""
    number = re.match(r"model/h(\d+)/", name)
    ours = OURS.get(re.sub(r"^model/h\d+/", "model/hN/", name))
    return name if ours is None else ours.replace("N", number[1] if number else "")


# What torch.compile, FSDP and activation checkpointing put around a model, or a part of it
WRAPPERS = re.compile(r"(?:^|(?<=\.))_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")


def clean_name(name: str) -> str:
    """Return the name of a parameter without what was around the model when it was saved.

    >>> clean_name("module._orig_mod.h.0.ln_1.weight")
    'h.0.ln_1.weight'
    """
    return re.sub(r"^(?:module\.)+", "", WRAPPERS.sub("", name))


class StoredTensor(NamedTuple):
    """A tensor as a file has it."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str  # as NumPy calls it
