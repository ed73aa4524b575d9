"""A config.json of Llama's kin: keys that are read, keys that do not matter, no others."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError
from llmlib.checks.modern import experts
from llmlib.checks.values import known_name, one_of, require
from llmlib.messages import shown

NUMBER, COUNT, SWITCH = (int, float), (int,), (bool,)
NONE = (type(None),)
TOKEN = COUNT + NONE
TEXT = (str, *NONE)

KINDS: dict[str, tuple[type, ...]] = {  # of the keys that are read
    "vocab_size": COUNT,
    "hidden_size": COUNT,
    "intermediate_size": COUNT,
    "max_position_embeddings": COUNT,
    "num_hidden_layers": COUNT,
    "num_attention_heads": COUNT,
    "num_key_value_heads": COUNT + NONE,
    "head_dim": COUNT + NONE,
    "rms_norm_eps": (float,),
    "tie_word_embeddings": SWITCH,
    "attention_bias": SWITCH,
    "mlp_bias": SWITCH,
    "use_sliding_window": SWITCH,
    "sliding_window": COUNT + NONE,
    "max_window_layers": COUNT,
    "layer_types": (list, *NONE),
}
IGNORED: dict[str, tuple[type, ...] | None] = {  # no logit depends on them; None: any type
    "architectures": None,
    "transformers_version": None,
    "transformers.js_config": None,
    "_name_or_path": None,
    "name_or_path": None,
    "_commit_hash": None,
    "is_llama_config": None,
    "unsloth_version": None,
    "unsloth_fixed": None,
    "attn_implementation": TEXT,
    "_attn_implementation": TEXT,
    "_attn_implementation_autoset": None,
    "_flash_attn_2_enabled": None,
    "use_cache": SWITCH,
    "initializer_range": (float,),
    "attention_dropout": NUMBER,
    "pretraining_tp": COUNT + NONE,
    "bos_token_id": TOKEN,
    "eos_token_id": (*TOKEN, list),
    "pad_token_id": TOKEN,
    "unk_token_id": TOKEN,
    "sep_token_id": TOKEN,
    "decoder_start_token_id": TOKEN,
    "output_hidden_states": SWITCH + NONE,
    "output_attentions": SWITCH + NONE,
    "return_dict": SWITCH + NONE,
    "torchscript": SWITCH,
    "tokenizer_class": None,
    "task_specific_params": None,
    "finetuning_task": None,
    "prefix": None,
    "id2label": None,
    "label2id": None,
    "num_labels": TOKEN,
    "problem_type": TEXT,
    "model_max_length": None,
    "max_window_layers": COUNT,
    # how texts are written, where old files say it
    **dict.fromkeys(
        (
            *("max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping"),
            *("num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p"),
            *("typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
            *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences"),
            *("forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"),
            *("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"),
            *("output_scores", "return_dict_in_generate"),
        )
    ),
}
DTYPES = (None, "float32", "float16", "bfloat16", "float64", "float", "half", "double")
FIXED: dict[str, tuple[Any, ...]] = {  # that change logits somewhere, at values that change none
    "dtype": DTYPES,
    "torch_dtype": DTYPES,
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "is_decoder": (False, True),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "tie_encoder_decoder": (False,),
    "chunk_size_feed_forward": (0,),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "per_layer_config": (None, {}),
    "transformers_weights": (None,),
    "rope_interleaved": (None, False),
    "use_mrope": (None, False),
    "partial_rotary_factor": (None, 1, 1.0),
}


def is_among(value: Any, allowed: Sequence[Any]) -> bool:
    """Tell whether a value is one of the allowed ones, and of its type: 0 is not False."""
    return any(type(value) is type(one) and value == one for one in allowed)


def known_settings(
    content: Mapping[str, Any],
    kind: str,
    read: Collection[str],
    fixed: Mapping[str, tuple[Any, ...]],
) -> None:
    """Raise ValueError, naming it, for a key of a config.json that might change logits unread.

    read: the keys that the reader looks at. fixed: keys that it has with few values only.
    """
    quantized = "its weights are quantized (quantization_config): save them as floating-point first"
    require(content.get("quantization_config") is None, quantized)
    fixed = {**FIXED, **fixed}
    for name, value in content.items():
        if name in fixed:
            allowed = " or ".join(map(repr, fixed[name]))
            fault = f"{name} is {shown(value)}: a {kind} that is read here has {allowed}"
            require(is_among(value, fixed[name]), fault)
        elif name not in read and name != "model_type":
            fault = (
                f"it says {name} ({shown(value)}), which is not read for a {kind} and may change "
                "what the model computes: if it does not, take the line out of the file"
            )
            require(name in IGNORED, fault)
            of_kind(name, value, IGNORED[name])


def of_kind(name: str, value: Any, kinds: tuple[type, ...] | None) -> None:
    """Raise ValueError unless a value is of one of some types; None: any."""
    if kinds is not None:
        allowed = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        fault = f"{name} is {shown(value)}: it should be of type {allowed}"
        require(type(value) in kinds, fault)


def family_settings(
    settings: Mapping[str, Any], names: Collection[str], more: Mapping[str, tuple[type, ...]]
) -> None:
    """Raise ValueError for a value of another type, or an activation that is not computed here.

    more: the types of keys that only one family has.
    """
    for name in names:
        of_kind(name, settings[name], {**KINDS, **more}.get(name))
    act = settings["hidden_act"]
    require(act in ("silu", "swish"), f"hidden_act is {shown(act)}: only 'silu' is computed here")
    window = settings.get("sliding_window")
    fault = f"sliding_window is {window}: it should be a number of tokens, or None"
    require(window is None or window >= 0, fault)


def whole_heads(wide: int, n_heads: int) -> None:
    """Raise ValueError unless a width is a multiple of the number of heads."""
    fault = f"hidden_size {wide} is not a multiple of num_attention_heads {n_heads}"
    require(n_heads > 0 and wide % n_heads == 0, f"{fault}: a llama's is")


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors in the block speak of a file's names in place of ours."""
    try:
        yield
    except ValueError as error:
        words = re.compile(rf"\b({'|'.join(names)})\b")
        raise ValueError(words.sub(lambda found: names[found[0]], str(error))) from None


def layer_types(kinds: Sequence[Any], n_layers: int, window: int | None) -> list[bool]:
    """Return which layers have a window. Raises ValueError for other kinds of layers."""
    fits = len(kinds) == n_layers
    require(fits, f"layer_types has {len(kinds)} entries, where the model has {n_layers} layers")
    for kind in kinds:
        known = kind in ("full_attention", "sliding_attention")
        allowed = "'full_attention' or 'sliding_attention'"
        require(known, f"layer_types holds {shown(kind)}: only {allowed} is computed here")
    sliding = [kind == "sliding_attention" for kind in kinds]
    fault = "layer_types has sliding_attention, and sliding_window does not say how wide"
    require(window is not None or not any(sliding), fault)
    return sliding


def same_layers(sliding: Sequence[bool]) -> bool:
    """Return whether layers have a window. Raises ValueError if some have and some have not."""
    mixed = "some layers have a window and some have none (layer_types, max_window_layers)"
    require(len(set(sliding)) == 1, f"{mixed}: a model that is read here has one kind of layer")
    return sliding[0]


def rope_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config.json says of rotary positions, in either generation's words.

    Raises ValueError where it says two things at once, which programs would read differently.
    """
    places = {name: settings.get(name) for name in ("rope_scaling", "rope_parameters")}
    for name, value in places.items():
        fits = value is None or isinstance(value, dict)
        require(fits, f"{name} is {shown(value)}: it should be an object, or null")
    # of "type" and "rope_type", its newer name, the newer one counts
    old, new = (
        {"rope_type" if key == "type" else key: value[key] for key in sorted(value, reverse=True)}
        for value in (places[name] or {} for name in places)
    )
    bases = [place["rope_theta"] for place in (settings, old, new) if "rope_theta" in place]
    both = f"rope_theta, at the top and in rope_parameters, is {' and '.join(map(shown, bases))}"
    require(all(base == bases[0] for base in bases), f"{both}: say it once")
    for each in (old, new):
        each.pop("rope_theta", None)
    fault = "rope_scaling and rope_parameters do not say the same: keep one of them"
    require(not old or not new or old == new, fault)
    found = old or new
    share = found.pop("partial_rotary_factor", 1.0)
    fault = f"partial_rotary_factor is {shown(share)}: only whole heads are turned here (1.0)"
    require(is_among(share, FIXED["partial_rotary_factor"]), fault)
    return {"rope_theta": bases[0], **found} if bases else found


def rope_kind(kind: Any, settings: Mapping[str, Any], scaled: Sequence[str]) -> None:
    """Raise ValueError for rotary positions that are not computed here."""
    allowed = ", ".join(("default", *scaled))
    fault = f"rope_type (rope_scaling, rope_parameters) is {shown(kind)}: there are {allowed}"
    require(isinstance(kind, str) and kind in ("default", *scaled), fault)
    if kind == "default" and settings:
        raise ValueError(
            f"rope_type 'default' has no {shown(next(iter(settings)))}: is a type missing?"
        )


def known_model_type(kind: Any, known: Collection[str]) -> None:
    """Raise ValueError, with what is read, for a model_type that is not."""
    require(isinstance(kind, str), f"model_type is {shown(kind)}: it should be a name")
    known_name("model_type", kind, known)


def same_parameters(file: Path, model: Collection[str], places: Collection[str]) -> None:
    """Raise FileError unless the parameters of a model are those that a file has places for."""
    for name in {*model} ^ {*places}:
        raise FileError(file, "the model and the file do not have the same parameters", name)


def parameters_of_family(state: Mapping[str, Any], places: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError unless tensors by our names are those that a model type has places for.

    places: the tensors of a file for each of ours, and their shapes.
    """
    for name in {*state} ^ {*places}:
        lacks = f"the model has {name!r:.100}, which no {kind} has: merge it into the weights"
        fault = lacks if name in state else f"the model has no {name!r:.100}, as a {kind} has"
        raise ValueError(f"{fault}, or save it by itself")
    for name, pieces in places.items():
        expected, found = sum(math.prod(shape) for _, shape in pieces), state[name].numel()
        fault = f"{name} has {found:,} numbers in the model, and {expected:,} by its configuration"
        require(found == expected, f"{fault}: they have to agree")


def dtype_of_file(dtype: Any) -> str:
    """Return the name of a type in which weights are written. Raises ValueError for another."""
    name = str("float32" if dtype is None else dtype).removeprefix("torch.")
    one_of("dtype", name, ("float32", "bfloat16"))
    return name


def no_family(config: Any, differing: Sequence[str], known: Collection[str]) -> ValueError:
    """Return the error for a configuration that no model type of transformers can hold."""
    said = ", ".join(f"{name}={shown(getattr(config, name))}" for name in differing)
    return ValueError(
        f"no model type of transformers that is written here ({', '.join(known)}) has {said} "
        "beside the rest of this configuration: keep the run's own checkpoint instead"
    )


def file_experts(config: Any, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for experts that no model has, before a name is made for each of them."""
    most = 100_000  # more than any model has
    for name, n in (("n_experts", settings["n_experts"]), ("n_layers", config.n_layers)):
        require(0 < n <= most, f"{name} is {n:,}: it should be from 1 to {most:,}")
    usual = {"hidden_dim": None, "normalize": True, "shared_dim": 0, "dense_layers": ()}
    usual |= {"balance": None, "capacity": None, "n_dense": 0, "sparse_step": 1}
    experts(config, {**usual, **settings})
