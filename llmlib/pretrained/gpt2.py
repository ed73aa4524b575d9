# From notebooks/07_gpt2_weights.ipynb: edit there, then run make export.

"""GPT-2 in our GPT: published weights and vocabularies, in from files and out again.

Built in notebook 07. Two layouts are read and written: OpenAI's seven files, whose weights are a
TensorFlow checkpoint, and Hugging Face's folder, whose weights are `model.safetensors`. Both hold
the same tensors under other names. Left out: the graph in `model.ckpt.meta`, which nothing needs,
and pickled weights (`pytorch_model.bin`), since unpickling runs whatever code a file brings.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from llmlib import checks, files
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2_files import find_folder
from llmlib.pretrained.tensor_bundle import TensorBundle, write_bundle
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import ByteTokenizer
from llmlib.tokenization.formats import gpt2_files, vocabulary_of

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


def openai_name(name: str) -> str:
    """Return what OpenAI's files call a parameter of ours.

    >>> openai_name("h.10.attn.c_attn.weight")
    'model/h10/attn/c_attn/w'
    """
    number = re.match(r"h\.(\d+)\.", name)
    return NAMES[re.sub(r"^h\.\d+", "h.N", name)].replace("N", number[1] if number else "")


def is_transposed(name: str) -> bool:
    """Tell whether both layouts store a parameter as (in, out), where nn.Linear has (out, in)."""
    # not the two tables, wte and wpe: their rows are looked up, and not multiplied
    return name != "lm_head.weight" and openai_name(name).endswith("/w")


FIELDS = {  # of a GPTConfig: what hparams.json and config.json call them
    "vocab_size": ("n_vocab", "vocab_size"),
    "context_length": ("n_ctx", "n_positions"),
    "emb_dim": ("n_embd", "n_embd"),
    "n_heads": ("n_head", "n_head"),
    "n_layers": ("n_layer", "n_layer"),
}
FIXED = {  # what config.json may say besides, and is the same in every GPT-2
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "n_inner": None,
}


def read_config(path: Path) -> GPTConfig:
    """Return the configuration in an hparams.json or config.json.

    Raises FileError for a damaged file, or one that describes another kind of model.
    """
    content, hugging_face = checks.read_json(path), path.name == "config.json"
    names = {field: both[hugging_face] for field, both in FIELDS.items()}
    with checks.blame(path):
        checks.model_settings(content, names.values(), FIXED)
        # OpenAI's files do not say it, and its models all have a tied head
        tied = content.get("tie_word_embeddings", True)
        sizes = {field: content[name] for field, name in names.items()}
        return GPTConfig(**sizes, tie_weights=tied)


class OpenAIWeights:
    """Weights in OpenAI's layout: a tensor bundle, in which matrices have a third axis of one."""

    def __init__(self, folder: Path):
        self.config = read_config(folder / "hparams.json")
        self.bundle = TensorBundle(folder / checkpoint_name(folder / "checkpoint"))
        self.file = self.bundle.index
        self.shapes = {name: self.bundle.entry(name).shape for name in self.bundle}

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a parameter of ours has in the file."""
        return openai_name(name), (1, *shape[::-1]) if is_transposed(name) else shape

    def read(self, name: str) -> torch.Tensor:
        """Return a copy of a parameter, in float32 and as PyTorch has it."""
        array = self.bundle[openai_name(name)]
        array = array[0].T if is_transposed(name) else array  # (1, in, out) -> (out, in)
        self.bundle.release()  # what was read of a map counts as used memory
        return torch.from_numpy(np.array(array, np.float32, order="C"))


def checkpoint_name(path: Path) -> str:
    """Return the newest checkpoint that a file `checkpoint` names; without the file, model.ckpt.

    It may hold a whole path, on another machine: only the end of it counts.
    """
    if not path.exists():
        return "model.ckpt"
    with checks.blame(path), open(path, "rb") as file:
        pattern = rb'model_checkpoint_path: "(?:[^"\n]*[/\\])?([^"/\\\n]+)"'
        found = re.match(pattern, file.read(5000))
        return checks.found(found, "it names no checkpoint")[1].decode()


class HuggingFaceWeights:
    """Weights in Hugging Face's layout: a safetensors file."""

    def __init__(self, folder: Path):
        self.config = read_config(folder / "config.json")
        self.file = folder / "model.safetensors"
        with self.open() as file:
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in [*file.keys()]}
        # names begin so if the model was saved with its head
        self.prefix = "transformer." if "transformer.wte.weight" in self.shapes else ""

    def open(self) -> safe_open:
        """Map the file. Raises FileError if it is damaged or of another kind."""
        with checks.blame(self.file, about="it is not a whole safetensors file: "):
            return safe_open(self.file, "pt")

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a parameter of ours has in the file."""
        prefix = "" if name == "lm_head.weight" else self.prefix
        return prefix + name, shape[::-1] if is_transposed(name) else shape

    def read(self, name: str) -> torch.Tensor:
        """Return a copy of a parameter, in float32 and as PyTorch has it."""
        with self.open() as file:  # opened for each tensor, to let go of what was read
            tensor = file.get_tensor(self.stored(name, ())[0])
            tensor = tensor.T if is_transposed(name) else tensor  # (in, out) -> (out, in)
            return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def load_pretrained(name: str | Path, drop_rate: float = 0.0) -> GPT:
    """Load a GPT-2 by name ("gpt2-124M"), or from a folder in one of the two layouts.

    Its weights are float32 and can be trained. Memory holds them once, and beside them the tensor
    that is being read. drop_rate: see GPTConfig. Raises FileNotFoundError, saying which command to
    run, if there is no model, and FileError if it is damaged or not a GPT-2.
    """
    folder = find_folder(name)
    is_openai = (folder / "hparams.json").exists()
    weights = OpenAIWeights(folder) if is_openai else HuggingFaceWeights(folder)
    check_sizes(weights)
    # shapes only: no random numbers are drawn, to be thrown away. Not for a small model: to draw
    # on the meta device imports the compiler of torch, which takes as long as torch itself
    with torch.device("meta" if weights.config.emb_dim > 256 else "cpu"):
        model = GPT(replace(weights.config, drop_rate=drop_rate))
    state = {}
    for parameter_name, parameter in model.named_parameters():
        check_tensor(weights, parameter_name, tuple(parameter.shape))
        state[parameter_name] = weights.read(parameter_name)
    model.load_state_dict(state, assign=True)  # the tensors become the parameters: no copy
    return model.eval()


def check_tensor(weights: OpenAIWeights | HuggingFaceWeights, name: str, shape: tuple) -> None:
    """Raise FileError unless a file has a parameter, and with its shape."""
    stored_name, expected = weights.stored(name, shape)
    found = weights.shapes.get(stored_name)
    checks.as_in_model(weights.file, found, expected, f"the shape {found}", stored_name)


def check_sizes(weights: OpenAIWeights | HuggingFaceWeights) -> None:
    """Raise FileError unless a file has the vocabulary, positions and blocks of its config."""
    config = weights.config
    # before a model is built, which an absurd number would keep busy for ever
    check_tensor(weights, "wte.weight", (config.vocab_size, config.emb_dim))
    check_tensor(weights, "wpe.weight", (config.context_length, config.emb_dim))
    numbers = (re.match(r"(?:model/|transformer\.)?h\.?(\d+)[./]", name) for name in weights.shapes)
    blocks = {int(number[1]) for number in numbers if number}
    checks.as_in_model(weights.file, len(blocks), config.n_layers, f"{len(blocks)} blocks")


def stored_tensors(model: GPT) -> dict[str, torch.Tensor]:
    """Return the tensors of a model by our names, in float32 and as both layouts store them."""
    tensors = {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}
    for n in range(model.config.n_layers):  # GPT-2 always has this bias, our GPT may not
        zeros = torch.zeros(3 * model.config.emb_dim)
        tensors.setdefault(f"h.{n}.attn.c_attn.bias", zeros)
    return {n: (t.T if is_transposed(n) else t).contiguous() for n, t in tensors.items()}


def write_texts(folder: Path, contents: dict[str, str]) -> None:
    """Write the small files of a model, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        files.write_text(folder / name, text)


def vocabulary_texts(tokenizer: ByteTokenizer) -> tuple[str, str]:
    """Return the ids and the merges of a tokenizer as both layouts write them.

    Raises TypeError or ValueError for a tokenizer that GPT-2's files cannot describe.
    """
    checks.byte_tokenizer(tokenizer)
    content = tokenizer.vocabulary()
    texts = gpt2_files(content)
    checks.merge_order(content, vocabulary_of(content.merges), "the merges")
    checks.ends_documents(content.special_tokens, "the tokenizer")
    return texts


def save_openai(model: GPT, folder: str | Path, tokenizer: ByteTokenizer) -> None:
    """Write a model and its tokenizer as OpenAI's seven files; `model.ckpt.meta` stays empty.

    Raises ValueError or TypeError for what the files cannot hold, before anything is written.
    """
    vocabulary, merges = vocabulary_texts(tokenizer)
    checks.savable(model, GPT, tokenizer.vocab_size, needs_tied_head=True)
    sizes = {both[0]: getattr(model.config, field) for field, both in FIELDS.items()}
    paths = ("model_checkpoint_path", "all_model_checkpoint_paths")
    contents = {
        "hparams.json": json.dumps(sizes, indent=2) + "\n",
        "encoder.json": vocabulary,
        "vocab.bpe": merges,
        "checkpoint": "".join(f'{path}: "model.ckpt"\n' for path in paths),
        "model.ckpt.meta": "",  # an empty message: a graph without operations
    }
    tensors = {  # (in, out) -> (1, in, out), as a convolution has it
        openai_name(name): tensor[None].numpy() if is_transposed(name) else tensor.numpy()
        for name, tensor in stored_tensors(model).items()
    }
    write_texts(Path(folder), contents)
    write_bundle(Path(folder) / "model.ckpt", tensors)


def hugging_face_settings(
    model: GPT, tokenizer: ByteTokenizer | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of config.json and tokenizer_config.json."""
    config = model.config
    sizes = {both[1]: getattr(config, field) for field, both in FIELDS.items()}
    rates = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.drop_rate)
    end_id = tokenizer.eot_token if tokenizer else None
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), end_id)
    head = {"architectures": ["GPT2LMHeadModel"], "tie_word_embeddings": config.tie_weights}
    # GPT-2 has one special token, which begins and ends a text
    tokens = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    kind = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": config.context_length}
    return {**FIXED, **sizes, **rates, **ends, **head}, {**kind, **tokens}


def save_pretrained(model: GPT, folder: str | Path, tokenizer: ByteTokenizer | None = None) -> None:
    """Write a model, and its tokenizer if given, as Hugging Face's `from_pretrained` reads them.

    Raises ValueError or TypeError for what the files cannot hold, before anything is written.
    """
    vocabulary = () if tokenizer is None else vocabulary_texts(tokenizer)
    checks.savable(model, GPT, tokenizer.vocab_size if tokenizer else 0)
    settings = [json.dumps(part, indent=2) for part in hugging_face_settings(model, tokenizer)]
    contents = {"config.json": settings[0]}
    if vocabulary:
        contents |= dict(zip(("vocab.json", "merges.txt"), vocabulary))
        contents["tokenizer_config.json"] = settings[1]
    tensors = {
        name if name == "lm_head.weight" else f"transformer.{name}": tensor
        for name, tensor in stored_tensors(model).items()
    }
    write_texts(Path(folder), contents)
    with files.replacing(Path(folder) / "model.safetensors") as part:
        save_file(tensors, part, metadata={"format": "pt"})
