# From notebooks/07_gpt2_weights.ipynb: edit there, then run make export.

"""GPT-2 in our GPT: published weights and vocabularies, in from files and out again.

Built in notebook 07. Two layouts are read and written: OpenAI's seven files, whose weights are a
TensorFlow checkpoint, and Hugging Face's folder, whose weights are `model.safetensors`. Both hold
the same tensors under other names. Left out: the graph in `model.ckpt.meta`, which nothing needs,
and pickled weights (`pytorch_model.bin`), since unpickling runs whatever code a file brings.
"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from llmlib import checks
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2_files import OPENAI, available_or_nano, download_gpt2, find_folder
from llmlib.pretrained.tensor_bundle import (
    BundleError,
    TensorBundle,
    blame,
    looks_like,
    write_bundle,
)
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import ByteTokenizer
from llmlib.tokenization.formats import gpt2_files, vocabulary_of
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer, gpt2_tokenizer

__all__ = [
    "available_or_nano",
    "download_gpt2",
    "load_pretrained",
    "load_tokenizer",
    "save_openai",
    "save_pretrained",
]

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
    """What OpenAI's files call a parameter of ours.

    >>> openai_name("h.10.attn.c_attn.weight")
    'model/h10/attn/c_attn/w'
    """
    number = re.match(r"h\.(\d+)\.", name)
    return NAMES[re.sub(r"^h\.\d+", "h.N", name)].replace("N", number[1] if number else "")


def is_turned(name: str) -> bool:
    """Whether both layouts store a parameter as (in, out), where nn.Linear has (out, in)."""
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
    """The shape of a model, from hparams.json or config.json. Raises BundleError."""
    content, hugging_face = checks.read_json(path), path.name == "config.json"
    with blame(path):
        names = {field: both[hugging_face] for field, both in FIELDS.items()}
        if missing := [name for name in names.values() if name not in content]:
            raise ValueError(f"it does not say {missing[0]}")
        config = GPTConfig(**{field: content[name] for field, name in names.items()})
        if not hugging_face:
            return config
        for name, value in FIXED.items():
            if content.get(name, value) != value:
                raise ValueError(f"{name} is {content[name]!r}: a GPT-2 has {value!r}")
        return replace(config, tie_weights=content.get("tie_word_embeddings", True))


class OpenAIWeights:
    """The weights in OpenAI's layout: what they should be, and what is there."""

    block = r"model/h(\d+)/"  # how the name of a block's tensor begins

    def __init__(self, folder: Path):
        self.config = read_config(folder / "hparams.json")
        self.prefix = folder / checkpoint_name(folder / "checkpoint")
        bundle = TensorBundle(self.prefix)
        self.file, self.shapes = bundle.index, {name: bundle.entry(name).shape for name in bundle}

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """The name and the shape that a parameter of ours has in the file."""
        return openai_name(name), (1, *shape[::-1]) if is_turned(name) else shape

    def read(self, name: str, turned: bool) -> torch.Tensor:
        """A copy of a tensor by its name in the file, in float32, turned round or as it is."""
        part = name.split("/")[1]
        if getattr(self, "part", None) != part:  # for each block anew, to let go of what was read
            self.part, self.bundle = part, TensorBundle(self.prefix)
        array = self.bundle[name]
        return torch.from_numpy(np.array(array[0].T if turned else array, np.float32, order="C"))


def checkpoint_name(path: Path) -> str:
    """The newest checkpoint, by what `checkpoint` says; `model.ckpt` if there is no such file.

    It may hold a whole path, on another machine: only the end of it counts.
    """
    if not path.exists():
        return "model.ckpt"
    with blame(path), open(path, "rb") as file:
        data = file.read(5000)
        found = re.match(rb'model_checkpoint_path: "(?:[^"\n]*[/\\])?([^"/\\\n]+)"', data)
        if not found:
            raise ValueError(f"it names no checkpoint{looks_like(data)}")
        return found[1].decode()


class HuggingFaceWeights:
    """The weights in Hugging Face's layout: what they should be, and what is there."""

    def __init__(self, folder: Path):
        self.config = read_config(folder / "config.json")
        self.file = folder / "model.safetensors"
        with self.open() as file:
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in [*file.keys()]}
        # names begin so where the model was saved with its head
        self.prefix = "transformer." if "transformer.wte.weight" in self.shapes else ""
        self.block = re.escape(self.prefix) + r"h\.(\d+)\."

    def open(self) -> safe_open:
        """Map the file; BundleError where it is none."""
        with blame(self.file):
            try:
                return safe_open(self.file, "pt")
            except SafetensorError as error:
                with open(self.file, "rb") as file:
                    other = looks_like(file.read(200))
                raise ValueError(f"it is no whole safetensors file ({error}){other}") from None

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """The name and the shape that a parameter of ours has in the file."""
        prefix = "" if name == "lm_head.weight" else self.prefix
        return prefix + name, shape[::-1] if is_turned(name) else shape

    def read(self, name: str, turned: bool) -> torch.Tensor:
        """A copy of a tensor by its name in the file, in float32, turned round or as it is."""
        with self.open() as file:  # anew, to let go of what was read
            tensor = file.get_tensor(name)
            tensor = tensor.T if turned else tensor
            return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def load_pretrained(name: str | Path, drop_rate: float = 0.0) -> GPT:
    """Load a GPT-2 by name ("gpt2-124M"), or from a folder in one of the two layouts.

    Its weights are float32 and can be trained. Memory holds them once, and beside them the tensor
    that is being read. drop_rate: see GPTConfig. Raises FileNotFoundError, saying which command to
    run, where there is no model, and BundleError where one is damaged or is no GPT-2.
    """
    folder = find_folder(name)
    openai = (folder / "hparams.json").exists()
    weights = OpenAIWeights(folder) if openai else HuggingFaceWeights(folder)
    check_sizes(weights)
    # shapes only: no random numbers are drawn, to be thrown away. Not for a small model: to draw
    # on the meta device imports the compiler of torch, which takes as long as torch itself
    with torch.device("meta" if weights.config.emb_dim > 256 else "cpu"):
        model = GPT(replace(weights.config, drop_rate=drop_rate))
    state = {}
    for ours, parameter in model.named_parameters():
        theirs = check_tensor(weights, ours, tuple(parameter.shape))
        state[ours] = weights.read(theirs, is_turned(ours))
    model.load_state_dict(state, assign=True)
    return model.eval()


def check_tensor(weights: OpenAIWeights | HuggingFaceWeights, name: str, shape: tuple) -> str:
    """The name in the file of a parameter; BundleError unless it is there, and of this shape."""
    theirs, needed = weights.stored(name, shape)
    found = weights.shapes.get(theirs)
    if found != needed:
        has = "is not there" if found is None else f"has the shape {found}"
        raise BundleError(weights.file, f"it {has}, where the model has {needed}", theirs)
    return theirs


def check_sizes(weights: OpenAIWeights | HuggingFaceWeights) -> None:
    """Raise BundleError unless a file has the vocabulary, positions and blocks of its config.

    Before a model is built: an absurd number would keep that busy for ever.
    """
    config = weights.config
    check_tensor(weights, "wte.weight", (config.vocab_size, config.emb_dim))
    check_tensor(weights, "wpe.weight", (config.context_length, config.emb_dim))
    blocks = {int(m[1]) for name in weights.shapes if (m := re.match(weights.block, name))}
    if len(blocks) != config.n_layers:
        reason = f"it has {len(blocks)} blocks, where the model has {config.n_layers}"
        raise BundleError(weights.file, reason)


def load_tokenizer(name: str | Path) -> TiktokenTokenizer:
    """Return the tokenizer of a GPT-2, by name or from the files of its vocabulary in a folder.

    Raises FileNotFoundError if they are missing, and FileError if they do not fit together.
    """
    return gpt2_tokenizer() if str(name) in OPENAI else TiktokenTokenizer.load(name)


def save_pretrained(model: GPT, folder: str | Path, tokenizer: ByteTokenizer | None = None) -> None:
    """Write a model, and its tokenizer if given, as Hugging Face's `from_pretrained` reads them.

    Raises ValueError or TypeError for what the files cannot hold, before anything is written.
    """
    files = check_fits(model, tokenizer)
    folder, config = Path(folder), model.config
    sizes = {both[1]: getattr(config, field) for field, both in FIELDS.items()}
    rates = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), config.drop_rate)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eot_token if files else None)
    head = {"architectures": ["GPT2LMHeadModel"], "tie_word_embeddings": config.tie_weights}
    contents = {"config.json": json.dumps({**FIXED, **sizes, **rates, **ends, **head}, indent=2)}
    if files:
        contents |= dict(zip(("vocab.json", "merges.txt"), files))
        tokens = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
        kind = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": config.context_length}
        contents["tokenizer_config.json"] = json.dumps({**kind, **tokens}, indent=2)
    tensors = {
        name if name == "lm_head.weight" else f"transformer.{name}": tensor
        for name, tensor in stored_tensors(model).items()
    }
    replace_files(folder, contents)
    part = folder / "model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    os.replace(part, folder / "model.safetensors")


def save_openai(model: GPT, folder: str | Path, tokenizer: ByteTokenizer) -> None:
    """Write a model and its tokenizer as OpenAI's seven files; `model.ckpt.meta` stays empty.

    Raises ValueError or TypeError for what the files cannot hold, before anything is written.
    """
    checks.byte_tokenizer(tokenizer)
    vocabulary, merges = check_fits(model, tokenizer)
    if not model.config.tie_weights:
        raise ValueError("OpenAI's files have no place for a head of its own: use save_pretrained")
    folder = Path(folder)
    sizes = {both[0]: getattr(model.config, field) for field, both in FIELDS.items()}
    paths = ("model_checkpoint_path", "all_model_checkpoint_paths")
    contents = {
        "hparams.json": json.dumps(sizes, indent=2) + "\n",
        "encoder.json": vocabulary,
        "vocab.bpe": merges,
        "checkpoint": "".join(f'{path}: "model.ckpt"\n' for path in paths),
        "model.ckpt.meta": "",  # an empty message: a graph without operations
    }
    replace_files(folder, contents)
    tensors = {
        openai_name(name): tensor[None].numpy() if is_turned(name) else tensor.numpy()
        for name, tensor in stored_tensors(model).items()
    }
    write_bundle(folder / "model.ckpt", tensors)


def check_fits(model: GPT, tokenizer: ByteTokenizer | None) -> tuple[str, str] | None:
    """The files of a tokenizer; TypeError or ValueError for what cannot be saved."""
    if not isinstance(model, GPT):
        raise TypeError(f"only a GPT can be saved as a GPT-2, not a {type(model).__name__}")
    if tokenizer is None:
        return None
    checks.byte_tokenizer(tokenizer)
    content = tokenizer.vocabulary()
    checks.gpt2_pattern(content.pattern)
    files = gpt2_files(content)
    expected = vocabulary_of(content.merges)
    checks.merge_order(content.tokens, expected, content.special_tokens, "the merges")
    checks.ends_documents(content.special_tokens, "the tokenizer")
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model knows only "
            f"{model.config.vocab_size:,}: give the tokenizer it was trained with"
        )
    return files


def stored_tensors(model: GPT) -> dict[str, torch.Tensor]:
    """The tensors of a model by our names, in float32 and turned as both layouts store them."""
    tensors = {}
    for name, parameter in model.state_dict().items():
        tensor = parameter.detach().float().cpu()
        tensors[name] = (tensor.T if is_turned(name) else tensor).contiguous()
    for n in range(model.config.n_layers):  # GPT-2 has a bias where a model may have none
        zeros = torch.zeros(3 * model.config.emb_dim)
        tensors.setdefault(f"h.{n}.attn.c_attn.bias", zeros)
    return tensors


def replace_files(folder: Path, contents: dict[str, str]) -> None:
    """Write small files, each beside its place first, so that none is ever half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, folder / name)
