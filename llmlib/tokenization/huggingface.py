"""Hugging Face's tokenizer.json: a byte-level BPE read from it and written to it.

Written by hand. `read_content` holds the file to what Hugging Face's own reader demands of it;
`to_vocabulary` returns what a `BPETokenizer` needs, or says what the file asks for beyond that,
which `llmlib.tokenization.pipeline` may know. Not read is what a post-processor would put around a
text: with `tokenizers`, that is `encode(text, add_special_tokens=False)`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmlib import checks, files
from llmlib.tokenization.added_tokens import AddedToken, are_plain
from llmlib.tokenization.decoders import make_decoder
from llmlib.tokenization.formats import BYTE_OF, Vocabulary, as_bytes, write_symbols
from llmlib.tokenization.normalizers import make_normalizer
from llmlib.tokenization.patterns import from_oniguruma
from llmlib.tokenization.pre_tokenizers import make_pre_tokenizer
from llmlib.tokenization.splitting import PATTERNS

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_content(path: Path) -> dict[str, Any]:
    """Return the object in a tokenizer.json, with the ids of its added tokens as they are given.

    Raises ValueError for what Hugging Face would not read, and for ids that cannot be right.
    """
    content = checks.strict_json(path)
    checks.tokenizer_json(content)
    checks.known_start(content)
    # made here to be checked; who needs them makes them again
    make_normalizer(content.get("normalizer"))
    make_pre_tokenizer(content.get("pre_tokenizer"))
    make_decoder(content.get("decoder"))
    model = content["model"]
    checks.ids_of_tokens(model["vocab"])
    model["merges"] = checks.merge_pairs(model["merges"], model["vocab"])
    tokens = content.get("added_tokens", [])
    content["added_tokens"] = number_added(tokens, model["vocab"], [])
    return content


def number_added(
    given: Sequence[Mapping[str, Any]], vocab: Mapping[str, int], before: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return added tokens, those before and those given now, with the ids that they get.

    A token that the vocabulary holds keeps its id; the others are numbered after all. Raises
    ValueError if the file says otherwise, since other programs would then disagree.
    """
    tokens = {token["content"]: token for token in before}
    highest = max([token["id"] for token in before], default=-1)
    following = highest + 1 if highest >= len(vocab) or not vocab else len(vocab)
    for token in given:
        content = token["content"]
        if not content:
            continue
        i = tokens[content]["id"] if content in tokens else vocab.get(content)
        if i is None:
            i, following = following, following + 1
        checks.declared_id(content, token.get("id", i), i)
        tokens[content] = {"id": i, "content": content, **{flag: token[flag] for flag in FLAGS}}
    checks.ids_of_tokens({**vocab, **{content: token["id"] for content, token in tokens.items()}})
    return list(tokens.values())


def added_tokens(content: Mapping[str, Any]) -> list[AddedToken]:
    """Return the added tokens of a tokenizer.json that `read_content` has read, by their ids."""
    tokens = [AddedToken(**token) for token in content["added_tokens"]]
    return sorted(tokens, key=lambda token: token.id)


def latest(merges: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Return merges without repetitions: of equal ones, the last one counts, as in `tokenizers`."""
    last = {tuple(pair): rank for rank, pair in enumerate(merges)}
    return [(pair[0], pair[1]) for pair in sorted(last, key=last.__getitem__)]


def split_pattern(spec: Mapping[str, Any]) -> str | None:
    """Return how a pre-tokenizer splits a text of bytes: a name or a pattern; None for other ways.

    Raises ValueError for a pattern that other engines read differently.
    """
    steps = spec.get("pretokenizers", [spec]) if spec["type"] == "Sequence" else [spec]
    if not steps or steps[-1]["type"] != "ByteLevel":
        return None
    if len(steps) == 1 and steps[0].get("use_regex", True):
        return "gpt2"
    if steps[-1]["add_prefix_space"]:  # of each piece, then
        return None
    isolated = {"type": "Split", "behavior": "Isolated", "invert": False}
    kinds = {key: steps[0].get(key) for key in isolated}
    if len(steps) != 2 or steps[1].get("use_regex", True) or kinds != isolated:
        return None
    kind, source = checks.pattern_part(steps[0])
    names = {source: name for name, source in PATTERNS.items()}
    return names.get(source) or (from_oniguruma(source) if kind == "Regex" else None)


def in_words(spec: Mapping[str, Any] | None) -> str:
    """Return a part of a tokenizer.json as its types, with the settings that are switched on."""
    if spec is None:
        return "null"
    steps = next((value for value in spec.values() if isinstance(value, list)), [])
    inside = [in_words(step) for step in steps if isinstance(step, dict)]
    on = [key for key, value in spec.items() if value is True]
    on += [spec["behavior"]] if "behavior" in spec else []
    return f"{spec.get('type')} ({', '.join([*on, *inside])})"


def beyond_bytes(content: Mapping[str, Any]) -> str:
    """Return what a tokenizer.json asks for that a `BPETokenizer` does not do, or ""."""
    model, splits = content["model"], content.get("pre_tokenizer")
    if content.get("normalizer"):
        return f"the normalizer {content['normalizer']['type']}"
    options = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    if used := [option for option in options if model.get(option)]:
        return used[0]
    if not splits or split_pattern(splits) is None:
        return f"the pre_tokenizer {in_words(splits)}"
    if (content.get("decoder") or {}).get("type") != "ByteLevel":
        return f"the decoder {in_words(content.get('decoder'))}"
    added = {token["content"] for token in content["added_tokens"]}
    for token in added:
        if not token.isascii() and BYTE_OF.keys() >= set(token):
            return f"the added token {token!r}, which its decoder takes for bytes"
    symbols = [token for token in model["vocab"] if len(token) == 1]
    if missing := checks.missing_bytes({BYTE_OF[s] for s in symbols if s in BYTE_OF}):
        return f"a vocabulary without the byte {missing[0]:#04x}"
    other = [t for t in model["vocab"].keys() - added if not BYTE_OF.keys() >= set(t)]
    return f"the token {min(other)!r}, which is not made of bytes" if other else ""


def to_vocabulary(content: Mapping[str, Any]) -> Vocabulary:
    """Return the byte-level BPE of a tokenizer.json. Raises ValueError if it asks for more."""
    checks.only_bytes(beyond_bytes(content))
    model, added = content["model"], added_tokens(content)
    merges = latest(model["merges"])
    used = {token for pair in merges for token in (*pair, "".join(pair))} | BYTE_OF.keys()
    contents = {token.content for token in added}
    # an added token is written in the vocabulary, too, and may be one that merges make
    known = {t: i for t, i in model["vocab"].items() if t in used or t not in contents}
    return Vocabulary(
        tokens={as_bytes(token): i for token, i in known.items()},
        merges=[(as_bytes(first), as_bytes(second)) for first, second in merges],
        special_tokens={t.content: t.id for t in added if t.special},
        pattern=split_pattern(content["pre_tokenizer"]) or "gpt2",
        whole_tokens=bool(model.get("ignore_merges")),
        added_tokens=[] if are_plain(added) else added,
        add_prefix_space='"add_prefix_space": true' in json.dumps(content["pre_tokenizer"]),
    )


def write(path: Path, vocabulary: Vocabulary) -> None:
    """Write a `tokenizer.json` that `tokenizers`, transformers and transformers.js load.

    Raises ValueError for a pattern that these would read differently.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = byte_level | {"use_regex": vocabulary.pattern == "gpt2"}
    split |= {"add_prefix_space": vocabulary.add_prefix_space}
    if vocabulary.pattern != "gpt2":
        checks.no_prefix_space(vocabulary.add_prefix_space, "a pattern other than gpt2")
        source = PATTERNS.get(vocabulary.pattern, vocabulary.pattern)
        pattern = {"Regex": from_oniguruma(source)}
        checks.portable(source, pattern["Regex"])
        cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        split = {"type": "Sequence", "pretokenizers": [cut, split]}
    plain = [AddedToken(token, i) for token, i in vocabulary.special_tokens.items()]
    added = [vars(token) for token in vocabulary.added_tokens or plain]
    ids, merges = write_symbols(vocabulary)
    settings = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    settings |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}
    settings |= {"ignore_merges": vocabulary.whole_tokens}
    content = {
        # transformers.js reads the first four, too, whether or not there is anything in them
        **{"version": "1.0", "truncation": None, "padding": None},
        "added_tokens": added,
        **{"normalizer": None, "pre_tokenizer": split, "post_processor": None},
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", **settings, "vocab": ids, "merges": merges},
    }
    checks.decodable(token["content"] for token in added)
    files.write_json(path, content, indent=1)


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `read_content` has read."""
    files.write_json(path, json.loads(json.dumps(content)), indent=1)
