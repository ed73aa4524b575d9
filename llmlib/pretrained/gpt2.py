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

import numpy as np
import torch
from safetensors.torch import save_file

from llmlib import checks, files
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.model.protocol import unwrapped
from llmlib.pretrained.gpt2_files import find_folder
from llmlib.pretrained.gpt2_folder import HuggingFaceWeights, model_texts
from llmlib.pretrained.layout import (
    NAMES,
    StoredTensor,
    clean_name,
    is_transposed,
    openai_name,
    our_name,
)
from llmlib.pretrained.safetensors_files import tokenizer_texts
from llmlib.pretrained.tensor_bundle import TensorBundle, write_bundle
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.bpe import ByteTokenizer
from llmlib.tokenization.formats import gpt2_files, vocabulary_of

FIELDS = {  # of a GPTConfig: what hparams.json calls them
    "vocab_size": "n_vocab",
    "context_length": "n_ctx",
    "emb_dim": "n_embd",
    "n_heads": "n_head",
    "n_layers": "n_layer",
}


def read_hparams(path: Path) -> GPTConfig:
    """Return the configuration in an hparams.json; all models of OpenAI's have a tied head.

    Raises FileError for a damaged file, or one that describes another kind of model.
    """
    content = checks.read_json(path)
    with checks.blame(path):
        checks.hparams(content, FIELDS.values())
        return GPTConfig(**{field: content[name] for field, name in FIELDS.items()})


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


# What training leaves beside the weights: the step, and the averages of optimizers
TRAINING = re.compile(r"global_step|beta[12]_power(_\d+)?|.*/(Adam|Adafactor|Momentum|RMSProp)\w*")


class OpenAIWeights:
    """Weights in OpenAI's layout: a tensor bundle, in which matrices have a third axis of one."""

    def __init__(self, folder: Path):
        self.config = read_hparams(folder / "hparams.json")
        self.bundle = TensorBundle(folder / checkpoint_name(folder / "checkpoint"))
        self.file = self.bundle.index
        self.tensors = {}  # by our names
        for name in self.bundle:
            if not TRAINING.fullmatch(name):
                entry = self.bundle.entry(name)
                stored = StoredTensor(self.file, name, entry.shape, entry.dtype)
                self.tensors[our_name(name)] = stored

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a parameter of ours has in the file."""
        return openai_name(name), (1, *shape[::-1]) if is_transposed(name) else shape

    def read(self, name: str) -> torch.Tensor:
        """Return a copy of a parameter, in float32 and as PyTorch has it."""
        array = self.bundle[openai_name(name)]
        array = array[0].T if is_transposed(name) else array  # (1, in, out) -> (out, in)
        self.bundle.release()  # what was read of a map counts as used memory
        with np.errstate(over="ignore"):  # a float64 that is too large: refused as infinite
            return torch.from_numpy(np.array(array, np.float32, order="C"))


def load_pretrained(name: str | Path, drop_rate: float = 0.0, *, ignore_extra: bool = False) -> GPT:
    """Load a GPT-2 by name ("gpt2-124M"), or from a folder in one of the two layouts.

    Its weights are float32 and can be trained. Memory holds them once, and beside them the tensor
    that is being read. A head that differs from the token embedding is kept (`tie_weights=False`).
    drop_rate: see GPTConfig. ignore_extra: whether tensors that a GPT-2 has no place for may be in
    the file. Raises FileNotFoundError, saying which command to run, if there is no model, and
    FileError if it is damaged, not a GPT-2, or has weights that are not finite.
    """
    folder = find_folder(name)
    is_openai = (folder / "hparams.json").exists()
    weights = OpenAIWeights(folder) if is_openai else HuggingFaceWeights(folder)
    checks.gpt_sizes(weights, ignore_extra)
    # On the meta device a parameter is a shape, and no random numbers are drawn to be thrown away.
    # Not for a small model: using that device imports torch's compiler, which takes longer
    with torch.device("meta" if weights.config.emb_dim > 256 else "cpu"):
        model = GPT(replace(weights.config, drop_rate=drop_rate))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    checks.stored_tensors(weights, shapes, ignore_extra)
    state = {name: checks.finite_tensor(weights.file, name, weights.read(name)) for name in shapes}
    model.load_state_dict(state, assign=True)  # the tensors become the parameters: no copy
    return model.eval()


def stored_tensors(model: GPT) -> dict[str, torch.Tensor]:
    """Return the tensors of a model by our names, in float32 and as both layouts store them."""
    tensors = {clean_name(name): t.float().cpu() for name, t in model.state_dict().items()}
    checks.parts_of_gpt(tensors, model.config, [*NAMES, "lm_head.weight"])
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
    """Return the ids and the merges of a tokenizer as OpenAI's layout has them.

    Raises TypeError or ValueError for a tokenizer that its files cannot describe.
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
    model = unwrapped(model)
    vocabulary, merges = vocabulary_texts(tokenizer)
    checks.savable(model, GPT, tokenizer.vocab_size, needs_tied_head=True)
    sizes = {name: getattr(model.config, field) for field, name in FIELDS.items()}
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


def save_pretrained(
    model: GPT,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    *,
    eos_token_id: int | None = None,
) -> None:
    """Write a model, and its tokenizer if given, as Hugging Face's `from_pretrained` reads them.

    eos_token_id: the id that ends a text, by default that of the tokenizer's `<|endoftext|>`.
    Without either, a warning says that other programs will not know where a text ends. Raises
    ValueError or TypeError for what the files cannot hold, before anything is written.
    """
    model, folder = unwrapped(model), Path(folder)
    checks.savable(model, GPT, getattr(tokenizer, "vocab_size", 0))
    end_id = checks.end_of_text(tokenizer, eos_token_id, model.config.vocab_size)
    contents = model_texts(model.config, end_id)
    if tokenizer is not None:
        contents |= tokenizer_texts(tokenizer, end_id, model.config.context_length)
    tensors = {f"transformer.{name}": t for name, t in stored_tensors(model).items()}
    if (head := tensors.pop("transformer.lm_head.weight", None)) is not None:
        tensors["lm_head.weight"] = head.clone()  # it may be the embedding itself
    write_texts(folder, contents)
    with files.replacing(folder / "model.safetensors") as part:
        save_file(tensors, part, metadata={"format": "pt"})
