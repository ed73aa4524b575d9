"""A folder of transformers: what the files beside a tokenizer's vocabulary add to it.

Written by hand, after `PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend` of
transformers 5. Of tokenizer_config.json, added_tokens.json and special_tokens_map.json we take the
tokens, and whether a space is put in front of a text.
"""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from llmlib import checks
from llmlib.tokenization.formats import BYTE_OF, as_bytes, as_symbols, vocabulary_of
from llmlib.tokenization.huggingface import FLAGS, number_added, split_pattern

NAMED = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
# Models whose tokenizer.json transformers 5 reads as it is, whatever class stands beside: of its
# TOKENIZER_MAPPING_NAMES those that are TokenizersBackend. StarCoder is a gpt_bigcode.
AS_IT_IS = {"gpt_bigcode", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared"}
AS_IT_IS |= {"flex_olmo", "mistral", "nemotron", "olmo2", "olmo3", "olmo_hybrid", "stablelm"}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
BYTE_LEVEL |= {"use_regex": True}


def from_merges(merges_file: Path, ids_file: Path) -> dict[str, Any]:
    """Return what vocab.json and merges.txt hold, as a tokenizer.json would say it.

    It splits as GPT-2 does. Tokens that no merge makes have to look like special tokens, in
    brackets, or to stand in the files beside; otherwise a line of the merges was lost. They are
    looked for in a text only if they stand there: nothing else says so to transformers either.
    """
    beside = settings_of(merges_file.parent)
    checks.splits_as_gpt2(beside.get("tokenizer_class"), GPT2_CLASSES)
    checks.ids_beside(merges_file, ids_file)
    pairs = checks.merge_lines(merges_file, BYTE_OF)
    derived = map(as_symbols, vocabulary_of([(as_bytes(a), as_bytes(b)) for a, b in pairs]))
    vocab = checks.strict_json(ids_file) if ids_file.exists() else dict(zip(derived, count()))
    tokens = declared_tokens(beside, "<|endoftext|>")
    named = {token["content"] for token in tokens}
    checks.made_by_no_merge(vocab, pairs, BYTE_OF, named, ids_file.name)
    prefix = checks.part(beside, "add_prefix_space", bool, False)
    return {
        "added_tokens": number_added(tokens, vocab, []),
        "pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": prefix},
        "decoder": BYTE_LEVEL,
        "model": {"type": "BPE", "vocab": vocab, "merges": checks.merge_pairs(pairs, vocab)},
    }


def complete(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a tokenizer.json with the tokens that the files beside it add.

    Raises ValueError where transformers would not do what the tokenizer.json says.
    """
    beside, before = settings_of(folder), content["added_tokens"]
    is_gpt2 = beside.get("tokenizer_class") in GPT2_CLASSES
    is_gpt2 = is_gpt2 and beside["model_type"] not in AS_IT_IS
    if is_gpt2:  # transformers rebuilds this class from its vocabulary alone
        checks.class_agrees(beside["tokenizer_class"], splits_as_gpt2(content, beside))
        before = [] if "added_tokens_decoder" in beside else before
    known = {token["content"] for token in before}
    tokens = declared_tokens(beside, "<|endoftext|>" if is_gpt2 else None)
    # a name adds nothing to a token that stands in the file with its flags
    tokens = [token for token in tokens if token["wins"] or token["content"] not in known]
    content["added_tokens"] = number_added(tokens, content["model"]["vocab"], before)
    return content


def splits_as_gpt2(content: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return whether a tokenizer.json says what transformers does for the class GPT2Tokenizer."""
    prefix = checks.part(settings, "add_prefix_space", bool, False)
    splits = content.get("pre_tokenizer") or {"type": None}
    last = (splits.get("pretokenizers", [splits]) or [{}])[-1]
    same = last.get("add_prefix_space") is prefix and split_pattern(splits) == "gpt2"
    decoder = content.get("decoder") or {}
    same = same and decoder.get("type") == "ByteLevel" and not content.get("normalizer")
    options = ("unk_token", "end_of_word_suffix", "byte_fallback")
    return same and not any(content["model"].get(option) for option in options)


def settings_of(folder: Path) -> dict[str, Any]:
    """Return what the files beside a vocabulary say, those of tokenizer_config.json first."""
    files = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
    read = {name: checks.strict_json(folder / name) for name in files if (folder / name).is_file()}
    settings = dict(read.get(files[0], {}))
    if "added_tokens_decoder" not in settings:  # as older versions of transformers wrote it
        settings |= read.get(files[1], {})
        settings["added_tokens.json"] = read.get(files[2], {})
    settings["model_type"] = str(read.get(files[3], {}).get("model_type"))
    if settings.get("tokenizer_class") is None and settings["model_type"] == "gpt2":
        settings["tokenizer_class"] = "GPT2Tokenizer"
    return settings


def token_of(token: Any, **given: bool) -> dict[str, Any]:
    """Return a token with all flags; a name alone stands for a special token without any."""
    found = {"content": token, "special": True} if isinstance(token, str) else token
    checks.require(isinstance(found, dict), f"the token {checks.shown(token)} is not one")
    found = found | given
    flags = {flag: checks.part(found, flag, bool, False) for flag in FLAGS}
    flags["normalized"] = checks.part(found, "normalized", bool, not flags["special"])
    return {"content": checks.part(found, "content", str), **flags, "wins": False}


def named_tokens(settings: Mapping[str, Any], default: str | None) -> list[Any]:
    """Return the tokens under their names, then those under names of a model's own, and others."""
    defaults = {f"{name}_token": default for name in ("bos", "eos", "unk")}
    named = [settings.get(name, defaults.get(name)) for name in NAMED]
    own = [key for key in settings if key.endswith("_token") and key not in NAMED]
    extra = settings.get("extra_special_tokens") or {}
    more = settings.get("additional_special_tokens") or []
    checks.one_list(extra, more)
    named += [settings[key] for key in own if isinstance(settings[key], (str, dict))]
    named += list(extra.values() if isinstance(extra, dict) else extra)
    return named + list(more)


def declared_tokens(settings: Mapping[str, Any], default: str | None = None) -> list[dict]:
    """Return the tokens that these settings name, in the order in which transformers adds them.

    default: the token for the ends of a text, and for what is unknown, where none is named.
    """
    named = named_tokens(settings, default)
    special = [token_of(token, special=True) for token in named if token is not None]
    names = {token["content"] for token in special}
    table = checks.part(settings, "added_tokens_decoder", dict, {})
    found = {checks.number_of(i): {**token_of(token), "wins": True} for i, token in table.items()}
    for token, i in checks.part(settings, "added_tokens.json", dict, {}).items():
        flags = {"special": token in names, "normalized": token not in names}
        found[checks.number_of(i)] = token_of(token, **flags)
    tokens = [{**token, "id": i} for i, token in sorted(found.items())]
    contents = {token["content"] for token in tokens}
    return tokens + [token for token in special if token["content"] not in contents]
