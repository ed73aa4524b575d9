"""Folders as transformers writes them: safetensors in one file or several, and small JSON beside.

Written by hand: what all kinds of models have in common, whatever their tensors are called. Left
out: pickled weights (`pytorch_model.bin`), since unpickling runs whatever code a file brings.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open

from llmlib import checks
from llmlib.pretrained.layout import StoredTensor, clean_name
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.bpe import ByteTokenizer
from llmlib.tokenization.formats import gpt2_files

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION, TOKENIZER = "generation_config.json", "tokenizer_config.json"
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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


def open_safetensors(path: Path) -> safe_open:
    """Map a file. Raises FileError if it is damaged or of another kind."""
    with checks.blame(path, about="it is not a whole safetensors file: "):
        checks.safetensors_header(path)
        return safe_open(path, "pt")


class SafetensorsFolder:
    """The tensors of a folder, by the names that `rename` gives them.

    A subclass has `rename`, and TABLE and HEAD: what it calls token embedding and output head.
    """

    TABLE, HEAD = "wte.weight", "lm_head.weight"

    def __init__(self, folder: Path):
        paths = weight_files(folder)
        self.file = paths[0] if len(paths) == 1 else folder / INDEX
        self.tensors: dict[str, StoredTensor] = {}
        for path in paths:
            with open_safetensors(path) as file:
                for name in [*file.keys()]:
                    part = file.get_slice(name)
                    shape, dtype = tuple(part.get_shape()), part.get_dtype()
                    stored = StoredTensor(path, name, shape, DTYPES.get(dtype, dtype))
                    # without what was around the model when it was saved
                    ours = self.rename(clean_name(name))
                    if ours is not None:
                        checks.only_one(self.tensors.get(ours), stored)
                        self.tensors[ours] = stored

    def rename(self, name: str) -> str | None:
        """Return what we call a tensor of the file; None for one that nothing needs."""
        return name

    def has_own_head(self, shape: tuple[int, int]) -> bool:
        """Tell whether a model that is called tied has a head of its own, as transformers does.

        A tied head need not be there; of the two names, some libraries write only the head's. Only
        one that differs from the embedding, whose shape is given, counts.
        """
        head, table = self.tensors.get(self.HEAD), self.tensors.get(self.TABLE)
        if head is None:
            return False
        if table is None:
            self.tensors[self.TABLE] = self.tensors.pop(self.HEAD)
        elif head.shape == table.shape == shape and torch.equal(  # else the sizes are refused
            self.load(self.HEAD).float(), self.load(self.TABLE).float()
        ):
            del self.tensors[self.HEAD]
        else:
            return True
        return False

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor as the file has it."""
        stored = self.tensors[name]
        with open_safetensors(stored.file) as file:  # for each tensor, to let go of what was read
            return file.get_tensor(stored.name)


def as_json(content: dict[str, Any]) -> str:
    """Return the text of a small file."""
    return json.dumps(content, indent=2) + "\n"


def tokenizer_texts(tokenizer: Tokenizer, end_id: int | None, length: int) -> dict[str, str]:
    """Return the files of a tokenizer for a model of a context length.

    GPT-2's two files too, for programs that know no others, if they can say how a text is split.
    A tokenizer with a `chat_template` brings it along.
    """
    tokens: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "unk_token"))
    end = next((t for t, i in tokenizer.special_tokens.items() if i == end_id), None)
    begin = END_OF_TEXT if end and END_OF_TEXT in tokenizer.special_tokens else end
    vocabulary = tokenizer.vocabulary() if isinstance(tokenizer, ByteTokenizer) else None
    is_gpt2 = vocabulary is not None and vocabulary.pattern == "gpt2"
    template = getattr(tokenizer, "chat_template", None)
    settings = {
        "tokenizer_class": "GPT2Tokenizer" if is_gpt2 else "PreTrainedTokenizerFast",
        "model_max_length": length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,  # or decoding drops spaces before punctuation
        **dict.fromkeys(tokens, end),
        "bos_token": begin,  # which ends a text as well, unless a chat has an end of its own
        **({"chat_template": template} if template else {}),
    }
    with TemporaryDirectory() as folder:
        tokenizer.save(path := Path(folder, "tokenizer.json"))
        texts = {path.name: path.read_text(encoding="utf-8")}
    if is_gpt2 and not vocabulary.added_tokens:
        texts |= dict(zip(("vocab.json", "merges.txt"), gpt2_files(vocabulary)))
    return texts | {TOKENIZER: as_json(settings)}
