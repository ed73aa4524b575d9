"""Published models: their configuration, their tensors, and what lies in their place."""

import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError, read_json
from llmlib.checks.tokenizer_files import byte_tokenizer, ends_documents
from llmlib.checks.values import require, whole_number
from llmlib.messages import quoted


def hparams(content: Mapping[str, Any], names: Collection[str]) -> None:
    """Raise ValueError for an hparams.json that lacks a size, or has more than OpenAI's."""
    for name in names:
        require(name in content, f"it does not say {name}")
    for name in content.keys() - set(names):
        raise ValueError(f"it says {name}, which OpenAI's GPT-2 does not have")


# Fields of transformers' GPT2Config that change nothing here, and still have to be of their type
UNUSED: dict[str, tuple[type, ...]] = {
    "pad_token_id": (int, type(None)),
    "summary_type": (str,),
    "summary_activation": (str, type(None)),
    "summary_use_proj": (bool,),
    "summary_proj_to_labels": (bool,),
    "summary_first_dropout": (float, int),
    "is_causal": (bool,),  # and true: see plain_gpt2
}


def transformers_settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise ValueError for a value of another type than transformers' GPT2Config takes."""
    for name, default in defaults.items():
        value, kinds = settings[name], {type(default)}
        if default is None or name.endswith("_token_id"):
            kinds |= {int, type(None)}
        elif name.endswith("_pdrop"):
            kinds |= {int}
        several = name == "eos_token_id" and isinstance(value, list)
        for part in value if several else [value]:
            allowed = " or ".join(sorted(kind.__name__ for kind in kinds))
            require(type(part) in kinds, f"{name} is {part!r:.100}: it should be of type {allowed}")
            impossible = name.endswith("_pdrop") and (part < 0 or part > 1)
            require(not impossible, f"{name} is {part}: a share is from 0 to 1")
    for name in UNUSED.keys() & settings.keys():
        fits = type(settings[name]) in UNUSED[name]
        require(fits, f"{name} is {settings[name]!r:.100}, which transformers refuses")


def end_ids(ids: list) -> list[int]:
    """Return token ids of a configuration. Raises ValueError if one is not a whole number."""
    for i in ids:
        require(type(i) is int, f"eos_token_id holds {i!r:.100}: give ids of tokens")
    return ids


def plain_gpt2(settings: Mapping[str, Any], activations: Sequence[str]) -> None:
    """Raise ValueError for settings with which transformers computes another model than a GPT-2."""
    quantized = "its weights are quantized (quantization_config): save them as floating-point first"
    require(settings.get("quantization_config") is None, quantized)
    one_wide, one_layer = settings["n_embd"] == settings["n_head"], settings["n_layer"] == 1
    dtypes = (None, {}, "float32", "float16", "bfloat16", "float64", "float", "half", "double")
    allowed: dict[str, Sequence[Any]] = {
        "model_type": ["gpt2"],
        "activation_function": activations,
        "layer_norm_epsilon": [1e-5],
        # what they change is 1 / sqrt(width of a head), and 1 / number of the layer
        "scale_attn_weights": [True, False] if one_wide else [True],
        "scale_attn_by_inverse_layer_idx": [False, True] if one_layer else [False],
        "n_inner": [None, 4 * settings["n_embd"]],
        "is_causal": [True],
        "sliding_window": [None],
        "layer_types": [None],
        "per_layer_config": [None, {}],
        "transformers_weights": [None],
        "torch_dtype": dtypes,
        "dtype": dtypes,
    }
    for name, values in allowed.items():
        found, words = settings.get(name, values[0]), " or ".join(map(repr, values))
        require(found in values, f"{name} is {found!r:.100}: a GPT-2 has {words}")


def shard_names(weight_map: Any, folder: Path) -> list[str]:
    """Return the files that an index of weights names. Raises ValueError for one that is malformed.

    Only names beside the index: a path could lead anywhere.
    """
    names = weight_map.values() if isinstance(weight_map, dict) else ()
    require(names, "its weight_map names no files")
    for name in names:
        beside = isinstance(name, str) and Path(name).name == name
        require(beside, f"it names the file {name!r:.100}: the parts have to lie beside it")
        there = (folder / name).is_file()
        require(there, f"it names {name!r:.100}, which is not there: download all of its parts")
    return sorted(set(names))


def safetensors_header(path: Path, most: int = 2**24) -> None:
    """Raise ValueError for a header that is far larger than the names of any GPT-2 are.

    Reading one of the 100 MB that the format allows takes more memory than a small model.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    require(size <= most, f"its header has {size:,} bytes, and may have {most:,}")


def only_one(first: Any, second: Any) -> None:
    """Raise FileError for two tensors that are the same parameter of a model."""
    if first is not None:
        other = f"it is there twice: as {first.name!r} in {first.file.name}, too"
        raise FileError(second.file, other, second.name)


def gpt_sizes(weights: Any, truncate: bool = False) -> None:
    """Raise FileError unless a file has the vocabulary, positions and blocks of its configuration.

    Before a model is built, which an absurd number would keep busy for ever. weights: its file,
    config, tensors by our names, and `stored`, their names in the file. truncate: whether there may
    be more blocks.
    """
    config = weights.config
    for name, rows in (("wte.weight", config.vocab_size), ("wpe.weight", config.context_length)):
        tensor_shape(weights, name, (rows, config.emb_dim))
    number_of_blocks(weights, r"h\.(\d+)\.", truncate)


def number_of_blocks(weights: Any, pattern: str, truncate: bool) -> None:
    """Raise FileError unless a file has as many blocks as its configuration says; see gpt_sizes."""
    numbers = (re.match(pattern, name) for name in weights.tensors)
    blocks = len({int(number[1]) for number in numbers if number})
    expected = weights.config.n_layers
    found = min(blocks, expected) if truncate else blocks
    as_in_model(weights.file, found, expected, f"{blocks} blocks")


def tensor_shape(weights: Any, name: str, shape: tuple[int, ...]) -> None:
    """Raise FileError unless a file has a parameter of ours, and with its shape."""
    stored_name, expected = weights.stored(name, shape)
    tensor = weights.tensors.get(name)
    found = None if tensor is None else tuple(tensor.shape)
    as_in_model(weights.file, found, expected, f"the shape {found}", stored_name)


def stored_tensors(weights: Any, shapes: Mapping[str, tuple[int, ...]], ignore: bool) -> None:
    """Raise FileError unless a file has the parameters of a model, of floats, and nothing else."""
    extra = [tensor.name for name, tensor in weights.tensors.items() if name not in shapes]
    no_leftovers(weights.file, extra, ignore, getattr(weights, "kind", "GPT-2"))
    for name, shape in shapes.items():
        tensor_shape(weights, name, shape)
        floating(weights.tensors[name])


def no_leftovers(file: Path, names: Sequence[str], ignore: bool, kind: str) -> None:
    """Raise FileError, naming them, for tensors that a kind of model has no place for."""
    if not names or ignore:
        return
    some = ", ".join(f"{name!r:.100}" for name in names[:3]) + ", …" * (len(names) > 3)
    kinds = {"lora|adapter": "an adapter, which has to be merged into the weights first",
             "scale|zero|absmax|qweight|quant": "quantized weights"}  # fmt: skip
    known = [kind for part, kind in kinds.items() if re.search(part, " ".join(names))]
    hint = f" They belong to {known[0]}." if known else ""
    reason = (
        f"it has {len(names)} tensors that no {kind} has: {some}.{hint} To load it without them,"
    )
    raise FileError(file, f"{reason} pass ignore_extra=True (--ignore-extra)")


def floating(stored: Any) -> None:
    """Raise FileError for a tensor of the wrong type of number."""
    floats = ("float32", "float16", "bfloat16", "float64")
    fault = f"its numbers are {stored.dtype}: weights are {', '.join(floats)}"
    if stored.dtype not in floats:
        raise FileError(stored.file, fault, stored.name)


def finite_tensor(file: Path, name: str, tensor: Any) -> Any:
    """Return a tensor. Raises FileError unless it holds floats, none of them NaN or infinite."""
    if not tensor.is_floating_point():
        raise FileError(file, f"its numbers are {tensor.dtype}, and should be floats", name)
    if not all(math.isfinite(bound.item()) for bound in tensor.aminmax()):  # NaN passes through
        raise FileError(file, "it has numbers that are not finite (NaN or infinite)", name)
    return tensor


def as_in_model(file: Path, found: Any, expected: Any, what: str, name: str | None = None) -> None:
    """Raise FileError unless a file has what the model has; what: the found one in words."""
    if found != expected:
        has = "is not there" if found is None else f"has {what}"
        raise FileError(file, f"it {has}, where the model has {expected}", name)


def savable(model: Any, kind: type, n_tokens: int, needs_tied_head: bool = False) -> None:
    """Raise TypeError or ValueError for a model that the files of a GPT-2 cannot hold."""
    given = type(model).__name__
    fits = isinstance(model, kind) and hasattr(model, "wpe")  # a modern one is a GPT, too
    fault = f"only a GPT can be saved as a GPT-2, not a {given}"
    require(fits, f"{fault}: for others there is huggingface.save_pretrained", TypeError)
    fitting_tokenizer(n_tokens, model.config.vocab_size)
    tied = model.config.tie_weights or not needs_tied_head
    require(tied, "OpenAI's files have no place for a separate head: use save_pretrained")


def fitting_tokenizer(n_tokens: int, known: int) -> None:
    """Raise ValueError for a tokenizer with more tokens than a model knows."""
    sizes = f"the tokenizer has {n_tokens:,} tokens, the model knows only {known:,}"
    require(n_tokens <= known, f"{sizes}: give the tokenizer it was trained with")


def parts_of_gpt(tensors: Mapping[str, Any], config: Any, names: Collection[str]) -> None:
    """Raise ValueError for tensors that are not those of a GPT-2 of a configuration."""
    for name in tensors:
        known = re.sub(r"^h\.\d+\.", "h.N.", name) in names
        remedy = "merge it into the weights, or save it by itself"
        require(known, f"the model has {name!r:.100}, which no GPT-2 has: {remedy}")
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("h.")})
    found = blocks, *tensors["wte.weight"].shape
    said = config.n_layers, config.vocab_size, config.emb_dim
    sizes = f"n_layers, vocab_size and emb_dim are {found} in the model, and {said} in its config"
    require(found == said, f"{sizes}: they have to agree")


def end_of_text(tokenizer: Any, eos_token_id: Any, vocab_size: int, several: bool = False) -> Any:
    """Return the id that ends a text: the given one, or that of the tokenizer's `end_token`.

    several: whether a list of ids may be given. Warns where there is none; raises TypeError or
    ValueError for a tokenizer or id of no use.
    """
    if tokenizer is not None:
        if not hasattr(tokenizer, "content"):  # of a tokenizer.json
            byte_tokenizer(tokenizer)
        if eos_token_id is None:
            ends_documents(tokenizer.special_tokens, "the tokenizer", tokenizer.end_token)
            return tokenizer.special_tokens[tokenizer.end_token]
    if eos_token_id is None:
        warnings.warn(
            "config.json will not say which token ends a text, and other programs will write on: "
            "pass the tokenizer, or eos_token_id",
            stacklevel=3,
        )
    many = several and isinstance(eos_token_id, list) and eos_token_id
    for each in many or [eos_token_id]:
        whole_number("eos_token_id", each, 0, vocab_size - 1, optional=not many)
    return eos_token_id


def instead_of_a_model(path: Path) -> str:
    """Return a sentence about what lies at a path in place of a model, or an empty string."""
    names = {path.name} if path.is_file() else {p.name for p in path.glob("*")}
    if any(re.fullmatch(r"adapter_model\..*|adapter_config\.json", name) for name in names):
        base = "?"
        with suppress(ValueError):
            config = path / "adapter_config.json" if path.is_dir() else path
            base = read_json(config).get("base_model_name_or_path", base)
        return (
            f"it is a peft adapter for {base!r:.100}, which cannot be loaded without it: in peft, "
            "merge it with `model.merge_and_unload().save_pretrained(FOLDER)`, and give FOLDER"
        )
    pickled = r".*\.(bin|pt|pth|ckpt|pkl|h5|msgpack)|pytorch_model\.bin\.index\.json"
    found = sorted(name for name in names if re.fullmatch(pickled, name))
    if found:
        return (
            f"{found[0]} is pickled or of another library, and is not read, since unpickling runs "
            "what a file brings: convert it with transformers, `AutoModelForCausalLM"
            ".from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)`"
        )
    if found := sorted(name for name in names if name.endswith(".gguf")):
        return f"it holds a .gguf: give that file, {path / found[0]}"
    if "config.yaml" in names and path.is_dir():
        return (
            f"the run has no checkpoint yet: train it with `llmlib train --resume {quoted(path)}`"
        )
    return ""


def model_knows(n_tokens: int, vocab_size: int, folder: Path) -> None:
    """Raise ValueError if a tokenizer has ids that the model beside it has no embedding for."""
    fits = n_tokens <= vocab_size
    sizes = f"its tokenizer has ids up to {n_tokens - 1:,}, its model knows {vocab_size:,} tokens"
    require(fits, f"{folder} holds files of two models: {sizes}")


def same_tokenizer(data: object, source: object, are_equal: bool) -> None:
    """Raise ValueError unless tokens were made by the tokenizer of the model that reads them."""
    fault = f"{data} was prepared with another tokenizer than that of {source}"
    require(are_equal, f"{fault}: give the text itself, which will be prepared with the right one")


def no_preset(given: str | None, default: object) -> None:
    """Raise ValueError for a preset beside a model that training starts from."""
    require(given in (None, default), f"preset {given!r} is for a new model: leave it out")


def shorter_context(given: int | None, length: int, source: object) -> None:
    """Raise ValueError for more tokens than a model has positions for."""
    fault = f"context_length is {given}, and {source} has positions for {length} tokens: give less"
    require(given is None or given <= length, fault)


def decided(given: Mapping[str, Any], by_model: Mapping[str, Any], source: object) -> None:
    """Raise ValueError for a setting that contradicts the model that training starts from."""
    for name, value in by_model.items():
        hint = f"{name} is decided by {source}, which has {value!r:.100}: leave it out"
        require(given.get(name) in (None, value), hint)
