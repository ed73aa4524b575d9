"""A GPT-2 in Hugging Face's folder: its configuration, its weights in one file or several.

Written by hand. `config.json` is read as transformers 5 reads it: what computes the same GPT-2 as
ours is taken, whatever words it says it in, and everything else is refused. Left out: pickled
weights (`pytorch_model.bin`), since unpickling runs whatever code a file brings.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open

from llmlib import checks
from llmlib.model.config import GPTConfig
from llmlib.pretrained.layout import StoredTensor, clean_name, is_transposed
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.bpe import ByteTokenizer
from llmlib.tokenization.formats import gpt2_files

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION = "generation_config.json"
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
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
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


def end_ids(folder: Path) -> list[int]:
    """Return the ids at which transformers ends a text of a model; none if its files do not say."""
    path = next((folder / n for n in (GENERATION, CONFIG) if (folder / n).is_file()), None)
    if path is None:
        return []
    ends = checks.read_json(path).get("eos_token_id")
    with checks.blame(path):
        return checks.end_ids(ends if isinstance(ends, list) else [ends] * (ends is not None))


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights: one, or those that an index names.

    Raises FileError for an index that is damaged, or names a file that is not there.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    content = checks.read_json(index)
    with checks.blame(index):
        return [folder / name for name in checks.shard_names(content.get("weight_map"), folder)]


class HuggingFaceWeights:
    """Weights in Hugging Face's layout: safetensors, in which matrices have two axes."""

    def __init__(self, folder: Path):
        self.config = read_config(folder / CONFIG)
        files = weight_files(folder)
        self.file = files[0] if len(files) == 1 else folder / INDEX
        self.tensors: dict[str, StoredTensor] = {}  # by our names
        for path in files:
            with self.open(path) as file:
                for name in [*file.keys()]:
                    part = file.get_slice(name)
                    shape, dtype = tuple(part.get_shape()), part.get_dtype()
                    stored = StoredTensor(path, name, shape, DTYPES.get(dtype, dtype))
                    # names begin so if the model was saved with its head
                    ours = re.sub(r"^transformer\.(?!lm_head)", "", clean_name(name))
                    if not MASKS.fullmatch(ours):
                        checks.only_one(self.tensors.get(ours), stored)
                        self.tensors[ours] = stored
        self.find_head()

    def find_head(self) -> None:
        """Keep a head of its own if there is one that differs from the embedding, as transformers.

        A tied head need not be there; of the two names, some libraries write only the head's.
        """
        head, table = (self.tensors.get(name) for name in ("lm_head.weight", "wte.weight"))
        expected = self.config.vocab_size, self.config.emb_dim
        if head is None or not self.config.tie_weights:
            return
        if table is None:
            self.tensors["wte.weight"] = self.tensors.pop("lm_head.weight")
        elif head.shape == table.shape == expected and torch.equal(  # else the sizes are refused
            self.read("lm_head.weight"), self.read("wte.weight")
        ):
            del self.tensors["lm_head.weight"]
        else:
            self.config = replace(self.config, tie_weights=False)

    def open(self, path: Path) -> safe_open:
        """Map a file. Raises FileError if it is damaged or of another kind."""
        with checks.blame(path, about="it is not a whole safetensors file: "):
            checks.safetensors_header(path)
            return safe_open(path, "pt")

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a parameter of ours has in the file."""
        return name, shape[::-1] if is_transposed(name) else shape

    def read(self, name: str) -> torch.Tensor:
        """Return a copy of a parameter, in float32 and as PyTorch has it."""
        stored = self.tensors[name]
        with self.open(stored.file) as file:  # for each tensor, to let go of what was read
            tensor = file.get_tensor(stored.name)
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
    return {
        CONFIG: json.dumps(settings, indent=2) + "\n",
        GENERATION: json.dumps(ends, indent=2) + "\n",
    }


def tokenizer_texts(tokenizer: Tokenizer, end_id: int | None, length: int) -> dict[str, str]:
    """Return the files of a tokenizer for a model of a context length.

    GPT-2's two files too, for programs that know no others, if they can say how a text is split.
    """
    tokens: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"))
    end = next((t for t, i in tokenizer.special_tokens.items() if i == end_id), None)
    vocabulary = tokenizer.vocabulary() if isinstance(tokenizer, ByteTokenizer) else None
    is_gpt2 = vocabulary is not None and vocabulary.pattern == "gpt2"
    settings = {
        "tokenizer_class": "GPT2Tokenizer" if is_gpt2 else "PreTrainedTokenizerFast",
        "model_max_length": length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,  # or decoding drops spaces before punctuation
        **dict.fromkeys(tokens, end),
    }
    with TemporaryDirectory() as folder:
        tokenizer.save(path := Path(folder, "tokenizer.json"))
        texts = {path.name: path.read_text(encoding="utf-8")}
    if is_gpt2 and not vocabulary.added_tokens:
        texts |= dict(zip(("vocab.json", "merges.txt"), gpt2_files(vocabulary)))
    return texts | {"tokenizer_config.json": json.dumps(settings, indent=2) + "\n"}
