"""Llama and its kin in a folder of transformers: weights in, and a model out again.

Written by hand. `families` knows what a model type says and how its tensors are called; here they
are cut and joined. One model type a file: what a folder holds of another kind is refused by name.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmlib import checks
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained.family import Family, Pieces
from llmlib.pretrained.layout import clean_name
from llmlib.pretrained.safetensors_files import CONFIG, GENERATION, SafetensorsFolder, as_json
from llmlib.pretrained.sparse_families import FAMILIES

# What older files hold of rotary positions: every reader computes it
RATES = re.compile(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


class ModernWeights(SafetensorsFolder):
    """The weights of a Llama or of its kin, by their own names without "model." in front."""

    TABLE = "embed_tokens.weight"

    def __init__(self, folder: Path):
        self.config_file = folder / CONFIG
        content = checks.read_json(self.config_file)
        with checks.blame(self.config_file):
            checks.known_model_type(content.get("model_type"), FAMILIES)
            self.family: Family = FAMILIES[content["model_type"]]
            self.config: ModernConfig = self.family.config(content)
        self.kind = self.family.model_type
        super().__init__(folder)
        shape = self.config.vocab_size, self.config.emb_dim
        if self.config.tie_weights and self.has_own_head(shape):
            self.config = replace(self.config, tie_weights=False)

    def rename(self, name: str) -> str | None:
        """Return the name without "model.", which is missing if a model was saved without head."""
        name = name.removeprefix("model.")
        return None if RATES.fullmatch(name) else name

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        """Return the name and the shape that a tensor should have in the file."""
        return full_name(name), shape


def joined(weights: Any, pieces: Pieces, shape: tuple[int, ...]) -> Tensor:
    """Return a parameter of ours, in float32: tensors of a file, one below the other."""
    found, at = torch.empty(shape), 0
    rows = found.view(-1, *pieces[0][1][1:])
    for name, (n, *_) in pieces:
        part = rows[at : at + n].copy_(weights.load(name))
        checks.finite_tensor(weights.tensors[name].file, weights.tensors[name].name, part)
        at += n
    return found


def full_name(name: str) -> str:
    """Return the name of a tensor as transformers writes it."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def load_modern(folder: Path, drop_rate: float = 0.0, *, ignore_extra: bool = False) -> Modern:
    """Return the model in a folder; arguments and errors as for `huggingface.load_pretrained`."""
    return build_modern(ModernWeights(folder), drop_rate, ignore_extra=ignore_extra)


def build_modern(weights: Any, drop_rate: float = 0.0, *, ignore_extra: bool = False) -> Modern:
    """Return the model of a file's weights: a `ModernWeights`, or what offers the same."""
    config = replace(weights.config, drop_rate=drop_rate)
    # before anything is built, which an absurd number would keep busy for ever
    checks.number_of_blocks(weights, r"layers\.(\d+)\.", ignore_extra)
    places = weights.family.tensors(config)
    pieces = dict(piece for several in places.values() for piece in several)
    checks.stored_tensors(weights, pieces, ignore_extra)
    # On the meta device a parameter is a shape, and no random numbers are drawn to be thrown away.
    # Not for a small model: using that device imports torch's compiler, which takes longer
    with checks.blame(weights.config_file), torch.device("meta" if config.emb_dim > 256 else "cpu"):
        model = Modern(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    checks.same_parameters(weights.config_file, shapes, places)
    state = {name: joined(weights, places[name], shape) for name, shape in shapes.items()}
    model.load_state_dict(state, assign=True)  # the tensors become the parameters: no copy
    return model.eval()


def stored_tensors(
    model: Modern, family: Family, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a file and their names, cut out of ours."""
    state = {clean_name(name): tensor for name, tensor in model.state_dict().items()}
    config: Any = model.config
    places = family.tensors(config)
    checks.parameters_of_family(state, places, family.model_type)
    for ours, pieces in places.items():
        rows = state[ours].detach().reshape(-1, *pieces[0][1][1:])
        for (name, _), part in zip(pieces, rows.split([size[0] for _, size in pieces])):
            # a copy: files cannot hold what shares memory
            yield full_name(name), part.to("cpu", dtype, copy=True).contiguous()


def model_texts(
    config: ModernConfig, family: Family, begin: int | None, end: Any, dtype: str
) -> dict[str, str]:
    """Return the contents of config.json and generation_config.json.

    begin, end: ids; the second may be a list.
    """
    ends = {"bos_token_id": begin, "eos_token_id": end}
    kind = {"architectures": [family.architecture], "model_type": family.model_type}
    rates = {"attention_dropout": config.drop_rate}
    settings = {**kind, **family.settings(config), **rates, **ends, "torch_dtype": dtype}
    return {CONFIG: as_json(settings), GENERATION: as_json(ends)}
