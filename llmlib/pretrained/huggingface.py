"""One entry for folders of transformers: `load_pretrained` and `save_pretrained`, for all models.

Written by hand. What a folder holds decides who reads it: GPT-2 in either of its layouts, or Llama
and its kin. Each reader takes what computes the same model as ours, whatever words `config.json`
says it in, and refuses everything else by name. Left out: pickled weights (`pytorch_model.bin`),
since unpickling runs whatever code a file brings.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from llmlib import checks, files
from llmlib.model.gpt import GPT
from llmlib.model.modern import Modern
from llmlib.model.protocol import unwrapped
from llmlib.pretrained import gguf, gpt2, modern_folder
from llmlib.pretrained.families import FAMILIES, family_of
from llmlib.pretrained.places import find_folder, is_gguf
from llmlib.pretrained.safetensors_files import CONFIG, end_ids, tokenizer_texts
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer

__all__ = ["end_ids", "load_pretrained", "model_type", "save_pretrained"]


def model_type(folder: Path) -> str:
    """Return what kind of model a folder holds, as its config.json says it.

    Raises FileError for a damaged config.json, or a kind that is not read.
    """
    if (folder / "hparams.json").is_file():  # OpenAI's layout
        return "gpt2"
    path = folder / CONFIG
    found = checks.read_json(path).get("model_type", "gpt2")  # which old files do not say
    with checks.blame(path):
        checks.known_model_type(found, ["gpt2", *FAMILIES])
    return found


def load_pretrained(name: str | Path, drop_rate: float = 0.0, *, ignore_extra: bool = False) -> GPT:
    """Load a model by name ("gpt2-124M", "smollm2-135m", ...), or from a folder or a .gguf.

    Its weights are float32 and can be trained. Memory holds them once, and beside them the tensor
    that is being read. A head that differs from the token embedding is kept (`tie_weights=False`).
    drop_rate: see GPTConfig. ignore_extra: whether tensors that the model has no place for may be
    in the file. Raises FileNotFoundError, saying which command to run, if there is no model, and
    FileError if it is damaged, computes what no model here does, or has weights that are not
    finite.
    """
    folder = find_folder(name)
    if is_gguf(folder):
        return gguf.load_gguf(folder, drop_rate, ignore_extra=ignore_extra)
    load = gpt2.load_pretrained if model_type(folder) == "gpt2" else modern_folder.load_modern
    return load(folder, drop_rate, ignore_extra=ignore_extra)


def save_pretrained(
    model: Any,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    *,
    eos_token_id: int | list[int] | None = None,
    dtype: Any = None,
) -> None:
    """Write a model, and its tokenizer if given, as transformers' `from_pretrained` reads them.

    A `Modern` becomes the model type that can say all of its configuration: llama, or mistral,
    qwen2, qwen3. eos_token_id: the id that ends a text, or several, by default the tokenizer's
    `end_token`. Without either, a warning says that other programs will not know where a text ends.
    dtype: of a Modern's weights in the file, float32 (the default) or bfloat16. Raises ValueError
    or TypeError for what the files cannot hold, before anything is written.
    """
    model, folder = unwrapped(model), Path(folder)
    if not isinstance(model, Modern):
        checks.one_of("dtype", dtype, (None, "float32", torch.float32))
        one: Any = eos_token_id  # a GPT-2 has one end
        return gpt2.save_pretrained(model, folder, tokenizer, eos_token_id=one)
    kind = checks.dtype_of_file(dtype)
    checks.fitting_tokenizer(getattr(tokenizer, "vocab_size", 0), model.config.vocab_size)
    end = checks.end_of_text(tokenizer, eos_token_id, model.config.vocab_size, several=True)
    first = end[0] if isinstance(end, list) else end
    begin = getattr(tokenizer, "special_tokens", {}).get(END_OF_TEXT, first)
    family = family_of(model.config)
    contents = modern_folder.model_texts(model.config, family, begin, end, kind)
    if tokenizer is not None:
        contents |= tokenizer_texts(tokenizer, first, model.config.context_length)
    tensors = dict(modern_folder.stored_tensors(model, family, getattr(torch, kind)))
    gpt2.write_texts(folder, contents)
    with files.replacing(folder / "model.safetensors") as part:
        save_file(tensors, part, metadata={"format": "pt"})
