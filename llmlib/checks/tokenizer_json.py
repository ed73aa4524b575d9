"""What Hugging Face's tokenizer.json must hold, so that its own reader, and ours, can read it."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmlib.checks.files import blame, not_json
from llmlib.checks.values import require, shown


def only_bytes(feature: str) -> None:
    """Raise ValueError for a tokenizer.json that asks for more than a byte-level BPE."""
    require(
        not feature,
        f"it uses {feature}, which a BPETokenizer does not: "
        "llmlib.tokenization.folders.load_tokenizer reads it",
    )


def strict_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, read as strictly as by Rust's serde. ValueError if not."""

    def refuse(name: str) -> None:
        raise ValueError(f"it holds {name}, which is not JSON")

    with blame(path):
        data = path.read_bytes()
        try:
            content = json.loads(data.decode(), parse_constant=refuse)
        except (ValueError, RecursionError):
            raise ValueError(not_json(data)) from None
        require(isinstance(content, dict), "it is not a JSON object: it should begin with {")
        if rb"\ud" in data.lower():  # by itself, half a character, which no UTF-8 can write
            half = LONE.search(json.dumps(content, ensure_ascii=False))
            require(not half, "it holds a lone surrogate, half a character")
    return content


LONE = re.compile("[\ud800-\udfff]")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
TOKEN: dict[str, type] = {"id": int, "content": str, **dict.fromkeys(FLAGS, bool)}
OPTIONS = {"unk_token": str, "continuing_subword_prefix": str, "end_of_word_suffix": str}
SWITCHES = ("fuse_unk", "byte_fallback", "ignore_merges")
PARTS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer")
PARTS += ("post_processor", "decoder", "model")


def tokenizer_json(content: Mapping[str, Any]) -> None:
    """Raise ValueError unless a tokenizer.json holds a BPE whose fields have the right types."""
    model = part(content, "model", dict)
    kind = model.get("type", "BPE")
    require(kind == "BPE", f"it holds a {str(kind)[:50]} tokenizer, not a BPE")
    unknown = sorted(content.keys() - set(PARTS))
    require(not unknown, f"it has {shown(unknown[:1])}, which no tokenizer.json has")
    require(content.get("version", "1.0") == "1.0", f"its version is {content.get('version')!r}")
    for name in ("truncation", "padding"):
        require(content.get(name) is None, f"it asks for {name}: set that to null")
    post_processor(content.get("post_processor"))
    for token in part(content, "added_tokens", list, []):
        require(isinstance(token, dict), f"its added token {shown(token)} is not one")
        for name, kind in TOKEN.items():
            part(token, name, kind)
    part(model, "vocab", dict)
    part(model, "merges", list)
    for name, kind in OPTIONS.items():
        part(model, name, (kind, type(None)), None)
    for name in SWITCHES:
        part(model, name, (bool, type(None)), None)
    dropout = part(model, "dropout", (float, int, type(None)), None)
    require(not dropout, f"it uses dropout {dropout}, and so gives other ids each time")
    prefix = model.get("continuing_subword_prefix")
    require(not prefix, f"it uses continuing_subword_prefix {prefix!r}, which is not supported")


def merge_pairs(merges: Sequence[Any], vocab: Mapping[str, int]) -> list[list[str]]:
    """Return merges as pairs; older files have strings with a space. All are in the vocabulary."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    kinds = set(map(type, merges))
    require(len(kinds) < 2, "some of its merges are strings, and some are pairs")
    for rank, pair in enumerate(pairs):
        fits = isinstance(pair, list) and len(pair) == 2 and all(type(t) is str for t in pair)
        require(fits, f"merge {rank} is {shown(merges[rank])}: merges join two tokens")
        for token in (*pair, "".join(pair)):
            require(token in vocab, f"merge {rank} is of {shown(token)}, which is no token")
    return pairs


def declared_id(content: str, declared: object, found: int) -> None:
    """Raise ValueError if an added token has another id in the file than programs give it."""
    require(
        type(declared) is int and declared == found,
        f"the added token {shown(content)} has the id {shown(declared)} in the file, and as "
        f"`tokenizers` numbers it {found}: tokens before it are lost",
    )


def portable(source: str, portable_source: str) -> None:
    """Raise ValueError for a pattern that means something else to the reader of a file."""
    require(
        source == portable_source,
        f"Hugging Face would read the pattern {shown(source)} as {shown(portable_source)}",
    )


def decodable(contents: Iterable[str]) -> None:
    """Raise ValueError for a special token that Hugging Face's decoder would take for bytes."""
    for token in contents:
        latin = not token.isascii() and all(
            "!" <= c <= "~" or "\xa1" <= c <= "\u0143" for c in token
        )
        require(not latin, f"a tokenizer.json cannot hold the special token {shown(token)}")


def class_agrees(kind: str, same: bool) -> None:
    """Raise ValueError if transformers splits otherwise than the tokenizer.json beside says."""
    require(
        same,
        f"tokenizer_config.json names {kind}, for which transformers splits a text as GPT-2 does, "
        "and tokenizer.json says otherwise: name PreTrainedTokenizerFast there, or give the file",
    )


def kind_of_part(role: str, spec: object, known: Collection[str]) -> str:
    """Return the type of a part of a tokenizer.json; ValueError for one that is not supported."""
    kind = spec.get("type") if isinstance(spec, dict) else spec
    require(isinstance(spec, dict) and isinstance(kind, str), f"its {role} is {shown(spec)}")
    require(kind in known, f"it uses the {role} {shown(kind)}, which is not supported")
    return str(kind)


def part(spec: Mapping[str, Any], name: str, kind: Any, default: object = ...) -> Any:
    """Return a field of a part; ValueError if it is missing, or of another type than allowed."""
    role = str(spec.get("type", "added token" if "content" in spec else "file"))[:40]
    require(name in spec or default is not ..., f"its {role} lacks {name!r}")
    value = spec.get(name, default)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    fits = type(value) in kinds and (type(value) is not int or value >= 0)
    require(fits, f"{name!r} of its {role} is {shown(value)}")
    return value


def steps_of(spec: Mapping[str, Any], name: str) -> list[Any]:
    """Return the steps of a sequence; ValueError where one is null, which only a whole may be."""
    steps = part(spec, name, list)
    require(None not in steps, f"a step of its {name} is null")
    return steps


def choice_part(
    spec: Mapping[str, Any], name: str, choices: Collection[str], default: object = ...
) -> str:
    """Return a field of a part that is one of several words; ValueError for another one."""
    value = part(spec, name, str, default)
    require(value in choices, f"{name!r} of its {spec['type']} is {shown(value)}")
    return value


def character_part(spec: Mapping[str, Any], name: str) -> str:
    """Return a field of a part that is a single character."""
    value = part(spec, name, str)
    require(len(value) == 1, f"{name!r} of its {spec['type']} is {shown(value)}")
    return value


def pattern_part(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a part looks for: ("String" or "Regex", the source). It may not be empty."""
    pattern = part(spec, "pattern", dict)
    kinds = [kind for kind in ("String", "Regex") if isinstance(pattern.get(kind), str)]
    require(len(kinds) == len(pattern) == 1, f"its {spec['type']} looks for {shown(pattern)}")
    require(pattern[kinds[0]], f"its {spec['type']} looks for an empty string")
    return kinds[0], pattern[kinds[0]]


def different_tokens(contents: Iterable[str]) -> None:
    """Raise ValueError if two added tokens are looked for by the same string."""
    for content, n in Counter(contents).items():
        require(n == 1 and content, f"two added tokens look like {content!r} once normalized")


PROCESSORS = {  # of which the fields are required, and have these types
    "ByteLevel": {"add_prefix_space": bool, "trim_offsets": bool},
    "BertProcessing": {"sep": list, "cls": list},
    "RobertaProcessing": {"sep": list, "cls": list, "trim_offsets": bool, "add_prefix_space": bool},
    "TemplateProcessing": {"single": list, "pair": list, "special_tokens": dict},
    "Sequence": {"processors": list},
}


def post_processor(spec: Any) -> None:
    """Raise ValueError for a post-processor that Hugging Face would not read; we leave it out."""
    if spec is None:
        return
    kind = kind_of_part("post_processor", spec, PROCESSORS)
    for name, type_of_field in PROCESSORS[kind].items():
        part(spec, name, type_of_field)
    for step in steps_of(spec, "processors") if kind == "Sequence" else ():
        post_processor(step)
    for name in {"sep", "cls"} & PROCESSORS[kind].keys():
        require([*map(type, spec[name])] == [str, int], f"{name!r} of its {kind} is no token")
    if kind == "TemplateProcessing":
        texts = [
            p.get("Sequence") for p in spec["single"] if isinstance(p, dict) and "Sequence" in p
        ]
        one = len(texts) == 1 and isinstance(texts[0], dict) and texts[0].get("id") == "A"
        require(one, "its template for one text does not hold that text once")
        for piece in [*spec["single"], *spec["pair"]]:
            names = [*piece] if isinstance(piece, dict) else []
            require(names in (["Sequence"], ["SpecialToken"]), f"its template has {shown(piece)}")
            inside = {"type": names[0], **part({"type": kind, **piece}, names[0], dict)}
            require(part(inside, "id", str) in "AB" or names[0] != "Sequence", "its template fails")
            part(inside, "type_id", int)
        for token in spec["special_tokens"].values():
            require(isinstance(token, dict), f"its template has {shown(token)}")
            given = {"type": "template", **token}
            part(given, "id", str)
            kinds = (
                {type(i) for i in part(given, "ids", list)},
                {type(t) for t in part(given, "tokens", list)},
            )
            require(kinds[0] <= {int} and kinds[1] <= {str}, "its template names no tokens")


def known_unknown(token: str, ids: Collection[str]) -> None:
    """Raise ValueError for a text that needs the token for unknown characters, and has none."""
    require(
        token in ids, f"the text holds a character without a token, and {token!r} is none either"
    )


def json_name(path: Path) -> None:
    """Raise ValueError for a name of a file that does not end in .json."""
    require(path.suffix == ".json", f"{path}: this tokenizer is written to a .json file only")


def without_replacement(text: str, errors: str) -> None:
    """Raise ValueError for a decoded text with U+FFFD, if errors are strict."""
    wrong = errors == "strict" and "\ufffd" in text
    require(not wrong, "the ids give bytes that are not UTF-8: pass errors='replace'")


def one_list(extra: Any, more: Any) -> None:
    """Raise ValueError for two lists of special tokens: which one counts, versions differ about."""
    allowed = isinstance(extra, (dict, list)) and isinstance(more, list)
    both = isinstance(extra, list) and extra and more and extra != more
    require(
        allowed and not both,
        "extra_special_tokens and additional_special_tokens name different tokens: keep one list",
    )


KEEPS_START = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Sequence"}


def known_start(content: Mapping[str, Any]) -> None:
    """Raise ValueError if a space goes to the first word, and which one that is, is not known."""
    splits = json.dumps(content.get("pre_tokenizer"))
    before = set(KIND.findall(json.dumps(content.get("normalizer")))) - KEEPS_START
    kinds = [kind for kind in KIND.findall(splits) if kind != "Sequence"]
    alone = splits.count('"first"') == 1 and kinds[:1] == ["Metaspace"]
    require(
        '"first"' not in splits or (alone and not before and kinds.count("Metaspace") == 1),
        "it uses Metaspace with prepend_scheme first behind other steps: whether a word is the "
        "first one is not known there",
    )


KIND = re.compile('"type": "(\\w+)"')
