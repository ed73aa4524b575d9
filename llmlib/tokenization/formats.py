# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""The files that hold a byte-level BPE: GPT-2's two, tiktoken's one, Hugging Face's tokenizer.json.

Built in notebook 09; `llmlib.tokenization.bpe` reads and writes through it. What is left out:
everything that a tokenizer.json can say beyond byte-level BPE; a file that says such things is
refused.
"""

import base64
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmlib.tokenization.gpt2 import derive_encoder_json, gpt2_byte_symbols

SYMBOLS = gpt2_byte_symbols()
BYTE_OF = {symbol: byte for byte, symbol in SYMBOLS.items()}


def as_symbols(token: bytes) -> str:
    """Write bytes with the visible characters of GPT-2's files."""
    return "".join(map(SYMBOLS.__getitem__, token))


def as_bytes(symbols: str) -> bytes:
    """Read what `as_symbols` has written; KeyError for a character that stands for no byte."""
    return bytes(map(BYTE_OF.__getitem__, symbols))


@dataclass
class Vocabulary:
    """All that a file says about a tokenizer.

    tokens: bytes -> id. merges: pairs of tokens, in the order in which they are made.
    pattern: "gpt2", or the regular expression that splits a text. whole_tokens: whether a piece
    that is a token is taken as it is, without a look at the merges.
    """

    tokens: dict[bytes, int]
    merges: list[tuple[bytes, bytes]]
    special_tokens: dict[str, int] = field(default_factory=dict)
    pattern: str = "gpt2"
    whole_tokens: bool = True


def write(path: Path, content: str) -> None:
    """Write a file; an old one stays whole until the new one is."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(content, encoding="utf-8", newline="\n")
    os.replace(beside, path)


def vocabulary_json(vocabulary: Vocabulary) -> dict[str, int]:
    """Token -> id in GPT-2's symbols, special tokens included, in the order of the ids."""
    content = {as_symbols(token): number for token, number in vocabulary.tokens.items()}
    for token, number in vocabulary.special_tokens.items():
        if content.setdefault(token, number) != number:
            raise ValueError(f"the special token {token!r} looks like an ordinary one in this file")
    return dict(sorted(content.items(), key=lambda item: item[1]))


def divide(content: Mapping[str, int], special: Iterable[str]) -> tuple[dict, dict]:
    """Token -> id as a file has it, divided into ordinary tokens (bytes) and special ones."""
    special = set(special)
    ordinary = {as_bytes(token): n for token, n in content.items() if token not in special}
    return ordinary, {token: n for token, n in content.items() if token in special}


def write_gpt2(folder: Path, vocabulary: Vocabulary) -> None:
    """Write `encoder.json` and `vocab.bpe` into a folder, as OpenAI did for GPT-2."""
    if vocabulary.pattern != "gpt2":
        raise ValueError(
            "GPT-2's files can not say how a text is split, so that readers assume GPT-2's "
            "pattern: save this tokenizer as a tokenizer.json"
        )
    lines = [f"{as_symbols(a)} {as_symbols(b)}\n" for a, b in vocabulary.merges]
    encoder = json.dumps(vocabulary_json(vocabulary))
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "encoder.json", encoder)
    write(folder / "vocab.bpe", "".join(["#version: 0.2\n", *lines]))


def read_gpt2(merges_file: Path, encoder_file: Path) -> Vocabulary:
    """Read GPT-2's two files, `encoder.json` being derived from the other if it is not there."""
    lines = merges_file.read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines[lines[0].startswith("#version") :] if line]
    merges = [tuple(line.split(" ")) for line in lines]
    if encoder_file.exists():
        content = json.loads(encoder_file.read_text(encoding="utf-8"))
    else:
        content = json.loads(derive_encoder_json("\n".join(["#version", *lines, ""])))
    made = {a + b for a, b in merges} | BYTE_OF.keys()
    tokens, special_tokens = divide(content, content.keys() - made)
    return Vocabulary(tokens, [(as_bytes(a), as_bytes(b)) for a, b in merges], special_tokens)


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Find the two parts that each token is made of, by encoding it with the tokens before it."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(a + b, rank) for a, b in zip(parts, parts[1:])]
            i = found.index(min(found))
            if found[i] >= rank:
                raise ValueError(f"no merges of earlier tokens lead to the token {token!r}")
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        merges += [tuple(parts)] * (len(parts) == 2)
    return merges


def write_tiktoken(path: Path, vocabulary: Vocabulary) -> None:
    """Write tokens and ranks as tiktoken's `load_tiktoken_bpe` reads them: no special tokens."""
    if merges_of(vocabulary.tokens) != vocabulary.merges:
        raise ValueError(
            "tiktoken takes ids for the order of the merges, and here these differ: save this "
            "tokenizer as a tokenizer.json"
        )
    ranks = sorted(vocabulary.tokens.items(), key=lambda item: item[1])
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks]
    write(path, "".join(lines))


def read_tiktoken(path: Path) -> Vocabulary:
    """Read a file of tiktoken; the merges, which it does not hold, are found again."""
    lines = path.read_text(encoding="ascii").split("\n")
    pairs = [line.split(" ") for line in lines if line]
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    return Vocabulary(ranks, merges_of(ranks))


def write_huggingface(path: Path, vocabulary: Vocabulary) -> None:
    """Write a `tokenizer.json` that Hugging Face's tokenizers and transformers load."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = byte_level | {"use_regex": vocabulary.pattern == "gpt2"}
    if vocabulary.pattern != "gpt2":
        pattern = {"Regex": vocabulary.pattern}
        cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        split = {"type": "Sequence", "pretokenizers": [cut, split]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": token, **flags, "special": True}
        for token, number in vocabulary.special_tokens.items()
    ]
    model = {
        "type": "BPE",
        "ignore_merges": vocabulary.whole_tokens,
        "vocab": vocabulary_json(vocabulary),
        "merges": [f"{as_symbols(a)} {as_symbols(b)}" for a, b in vocabulary.merges],
    }
    parts = {"pre_tokenizer": split, "decoder": byte_level | {"use_regex": True}, "model": model}
    content = {"version": "1.0", "added_tokens": added, **parts}
    write(path, json.dumps(content, ensure_ascii=False, indent=1))


def read_huggingface(path: Path) -> Vocabulary:
    """Read a `tokenizer.json`; ValueError where it asks for more than byte-level BPE.

    What it would add around a text (its post-processor) is not read.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"it holds a {model['type']} tokenizer, not a BPE")
    extras = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    strange = [name for name in (*extras, "byte_fallback") if model.get(name)]
    if content.get("normalizer") or strange:
        raise ValueError(f"it uses {(strange or ['a normalizer'])[0]}, which is not supported")
    splits = content["pre_tokenizer"]
    splits = splits.get("pretokenizers", [splits])
    kinds = [split["type"] for split in splits]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]) or splits[-1]["add_prefix_space"]:
        raise ValueError(f"it splits a text by {' and '.join(kinds)}, which is not supported")
    if (kinds == ["ByteLevel"]) != splits[-1].get("use_regex", True):
        raise ValueError("it splits a text by other rules than one regular expression")
    if len(splits) == 2 and (splits[0]["behavior"], splits[0]["invert"]) != ("Isolated", False):
        raise ValueError(f"it splits a text with the behaviour {splits[0]['behavior']}")
    pattern = splits[0]["pattern"]["Regex"] if len(splits) == 2 else "gpt2"
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    merges = [(as_bytes(a), as_bytes(b)) for a, b in merges]
    added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    tokens, _ = divide(model["vocab"], added)
    return Vocabulary(tokens, merges, added, pattern, bool(model.get("ignore_merges")))


def save(path: str | Path, vocabulary: Vocabulary) -> None:
    """Write a `.json` for Hugging Face, a `.tiktoken`, or else a folder with GPT-2's two files."""
    path = Path(path)
    writers = {".json": write_huggingface, ".tiktoken": write_tiktoken, "": write_gpt2}
    if path.suffix not in writers:
        raise ValueError(f"{path}: give a name that ends in .json or .tiktoken, or a folder")
    writers[path.suffix](path, vocabulary)


def load(path: str | Path) -> Vocabulary:
    """Read what `save` writes, a folder of Hugging Face, or GPT-2's `vocab.bpe` alone.

    Raises FileNotFoundError, and ValueError that names the file where it is something else.
    """
    path = Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "vocab.bpe", "merges.txt")
        found = [path / name for name in names if (path / name).exists()]
        if not found:
            raise FileNotFoundError(f"{path} holds no {' or '.join(names)}")
        path = found[0]
    try:
        if path.name == "merges.txt":
            return read_gpt2(path, path.with_name("vocab.json"))
        if path.suffix == ".bpe":
            return read_gpt2(path, path.with_name("encoder.json"))
        return (read_tiktoken if path.suffix == ".tiktoken" else read_huggingface)(path)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = error if type(error) is ValueError else "it is damaged, or another kind of file"
        raise ValueError(f"{path} is not a byte-level BPE that can be read: {reason}") from error
