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

NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
BYTE_LEVEL |= {"use_regex": True}


def from_merges(merges_file: Path, ids_file: Path) -> dict[str, Any]:
    """Return what vocab.json and merges.txt hold, as a tokenizer.json would say it.

    It splits as GPT-2 does. Tokens that no merge makes have to look like special tokens, in
    brackets, or to stand in the files beside; otherwise a line of the merges was lost.
    """
    beside = settings_of(merges_file.parent)
    kind = beside.get("tokenizer_class")
    checks.splits_as_gpt2(kind, GPT2_CLASSES)
    pairs = checks.merge_lines(merges_file, BYTE_OF)
    derived = map(as_symbols, vocabulary_of([(as_bytes(a), as_bytes(b)) for a, b in pairs]))
    vocab = checks.strict_json(ids_file) if ids_file.exists() else dict(zip(derived, count()))
    tokens = declared_tokens(beside, "<|endoftext|>")
    declared = {token["content"] for token in tokens}
    special = checks.made_by_no_merge(vocab, pairs, BYTE_OF, declared, ids_file.name)
    tokens = [token_of(t) for t in sorted(special - declared, key=vocab.__getitem__)] + tokens
    prefix = checks.part(beside, "add_prefix_space", bool, False)
    model = {"type": "BPE", "vocab": vocab, "merges": checks.merge_pairs(pairs, vocab)}
    return {
        "added_tokens": number_added(tokens, vocab, []),
        "pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": prefix},
        "decoder": BYTE_LEVEL,
        "model": model,
    }


def complete(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a tokenizer.json with the tokens that the files beside it add.

    Raises ValueError where transformers would not do what the tokenizer.json says.
    """
    beside = settings_of(folder)
    is_gpt2 = beside.get("tokenizer_class") in GPT2_CLASSES
    if is_gpt2:  # transformers builds this class anew, and takes its vocabulary alone
        prefix = checks.part(beside, "add_prefix_space", bool, False)
        splits = content.get("pre_tokenizer") or {"type": None}
        plain = splits | {"add_prefix_space": False}
        same = splits.get("add_prefix_space") is prefix and split_pattern(plain) == "gpt2"
        checks.class_agrees(beside["tokenizer_class"], same and not content.get("normalizer"))
    tokens = declared_tokens(beside, "<|endoftext|>" if is_gpt2 else None)
    known = {token["content"] for token in content["added_tokens"]}
    # a name alone adds nothing to a token that stands there with its flags
    tokens = [token for token in tokens if token.pop("full") or token["content"] not in known]
    content["added_tokens"] = number_added(
        tokens, content["model"]["vocab"], content["added_tokens"]
    )
    return content


def settings_of(folder: Path) -> dict[str, Any]:
    """Return what the files beside a vocabulary say, those of tokenizer_config.json first."""
    files = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
    read = {name: checks.read_json(folder / name) for name in files if (folder / name).is_file()}
    settings = dict(read.get(files[0], {}))
    if "added_tokens_decoder" not in settings:  # as older versions of transformers wrote it
        settings |= read.get(files[1], {})
        settings["added_tokens.json"] = read.get(files[2], {})
    if (
        settings.get("tokenizer_class") is None
        and read.get(files[3], {}).get("model_type") == "gpt2"
    ):
        settings["tokenizer_class"] = "GPT2Tokenizer"
    return settings


def token_of(token: Any, **given: bool) -> dict[str, Any]:
    """Return a token with all flags; a name alone stands for a special token without any."""
    found = {"content": token, "special": True} if isinstance(token, str) else token
    checks.require(isinstance(found, dict), f"the token {checks.shown(token)} is not one")
    found = found | given
    flags = {flag: checks.part(found, flag, bool, False) for flag in FLAGS}
    flags["normalized"] = checks.part(found, "normalized", bool, not flags["special"])
    content = checks.part(found, "content", str)
    return {"content": content, **flags, "full": not isinstance(token, str)}


def declared_tokens(settings: Mapping[str, Any], default: str | None = None) -> list[dict]:
    """Return the tokens that these settings name, in the order in which transformers adds them.

    default: the token for the ends of a text, and for what is unknown, where none is named.
    """
    named = [
        settings.get(f"{name}_token", default if name in NAMED[:3] else None) for name in NAMED
    ]
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    named += list(extra.values() if isinstance(extra, Mapping) else extra)
    special = [token_of(token, special=True) for token in named if token is not None]
    names = {token["content"] for token in special}
    table = checks.part(settings, "added_tokens_decoder", dict, {})
    numbers = checks.part(settings, "added_tokens.json", dict, {})
    found = {checks.number_of(i): token_of(token) for i, token in table.items()}
    for token, i in numbers.items():
        flags = {"special": token in names, "normalized": token not in names}
        found[checks.number_of(i)] = {**token_of(token, **flags), "full": True}
    tokens = [{**token, "id": i} for i, token in sorted(found.items())]
    contents = {token["content"] for token in tokens}
    return tokens + [token for token in special if token["content"] not in contents]
