# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""The files that hold a byte-level BPE: GPT-2's two, tiktoken's one, Hugging Face's tokenizer.json.

Built in notebook 09; `llmlib.tokenization.bpe` reads and writes through it. What is left out:
everything that a tokenizer.json can say beyond byte-level BPE; such a file is refused.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from llmlib import checks, files
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe_trainer import PATTERNS
from llmlib.tokenization.gpt2 import gpt2_byte_symbols

SYMBOLS = gpt2_byte_symbols()
BYTE_OF = {symbol: byte for byte, symbol in SYMBOLS.items()}


def as_symbols(token: bytes) -> str:
    """Write bytes with the visible characters of GPT-2's files."""
    return "".join(map(SYMBOLS.__getitem__, token))


def as_bytes(symbols: str) -> bytes:
    """Read what `as_symbols` wrote. Raises KeyError for a character that stands for no byte."""
    return bytes(map(BYTE_OF.__getitem__, symbols))


@dataclass
class Vocabulary:
    """All that a file says about a tokenizer.

    tokens: bytes -> id. merges: pairs of tokens, in the order in which they were learned.
    pattern: a name in PATTERNS, or the regular expression that splits a text. whole_tokens: whether
    a piece that is a token is taken as it is, without a look at the merges.
    """

    tokens: dict[bytes, int]
    merges: list[tuple[bytes, bytes]]
    special_tokens: dict[str, int] = field(default_factory=dict)
    pattern: str = "gpt2"
    whole_tokens: bool = True


def vocabulary_of(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Return the ids of all bytes in GPT-2's order, followed by those of the merged pairs."""
    ids = {bytes([byte]): i for i, byte in enumerate(SYMBOLS)}
    for first, second in merges:
        ids.setdefault(first + second, len(ids))
    return ids


def write_symbols(vocabulary: Vocabulary) -> tuple[dict[str, int], list[str]]:
    """Return token -> id, special tokens included, and the merges, all in GPT-2's symbols."""
    ids = {as_symbols(token): i for token, i in vocabulary.tokens.items()}
    checks.no_clash(ids.keys() & vocabulary.special_tokens)
    ids |= vocabulary.special_tokens
    merges = [f"{as_symbols(first)} {as_symbols(second)}" for first, second in vocabulary.merges]
    return {token: ids[token] for token in sorted(ids, key=ids.__getitem__)}, merges


def read_symbols(
    merges: Iterable[Sequence[str]], ids: Mapping[str, int], special: dict[str, int], *rest: Any
) -> Vocabulary:
    """Return the vocabulary that is written so; rest: its pattern and whole_tokens."""
    tokens = {as_bytes(token): i for token, i in ids.items() if token not in special}
    pairs = [(as_bytes(first), as_bytes(second)) for first, second in merges]
    return Vocabulary(tokens, pairs, special, *rest)


def ids_file(path: Path) -> Path:
    """Return the file with the ids of a vocabulary: beside that with the merges, or the same."""
    if path.name == "merges.txt":
        return path.with_name("vocab.json")
    return path.with_name("encoder.json") if path.suffix == ".bpe" else path


def gpt2_files(vocabulary: Vocabulary) -> tuple[str, str]:
    """Return the texts of `encoder.json` and `vocab.bpe`, as OpenAI wrote them for GPT-2.

    They do not say how a text is split: readers assume GPT-2's pattern. Raises ValueError for
    another one.
    """
    checks.gpt2_pattern(vocabulary.pattern)
    ids, merges = write_symbols(vocabulary)
    return json.dumps(ids), "\n".join(["#version: 0.2", *merges, ""])


def write_gpt2(folder: Path, vocabulary: Vocabulary) -> None:
    """Write the two files of GPT-2 into a folder."""
    encoder, merges = gpt2_files(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "encoder.json", encoder)
    files.write_text(folder / "vocab.bpe", merges)


def read_gpt2(merges_file: Path) -> Vocabulary:
    """Read GPT-2's two files; the ids are derived from the merges if their file is missing."""
    lines = merges_file.read_text(encoding="utf-8").split("\n")
    pairs = [line.split(" ") for line in lines[lines[0].startswith("#version") :] if line]
    tokens = dict.fromkeys([*BYTE_OF, *map("".join, pairs)])
    checks.known_parts(pairs, tokens)
    file = ids_file(merges_file)
    ids = checks.read_json(file) if file.exists() else dict(zip([*tokens, END_OF_TEXT], count()))
    return read_symbols(pairs, ids, {token: i for token, i in ids.items() if token not in tokens})


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Find the two parts that each token is made of, by encoding it with the tokens before it.

    Raises ValueError for a token that the earlier ones do not lead to.
    """
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(a + b, ranks[token]) for a, b in zip(parts, parts[1:])]
            i = found.index(min(found))
            checks.mergeable(found[i], ranks[token], token)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def write_tiktoken(path: Path, vocabulary: Vocabulary) -> None:
    """Write tokens and ranks as tiktoken's `load_tiktoken_bpe` reads them: no special tokens."""
    checks.same_merges(merges_of(vocabulary.tokens), vocabulary.merges)
    ranks = vocabulary.tokens
    tokens = sorted(ranks, key=ranks.__getitem__)
    lines = [f"{base64.b64encode(token).decode()} {ranks[token]}\n" for token in tokens]
    files.write_text(path, "".join(lines))


def read_tiktoken(path: Path) -> Vocabulary:
    """Read a file of tiktoken; the merges, which it does not hold, are found again."""
    pairs = [line.split(" ") for line in path.read_text(encoding="ascii").split("\n") if line]
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    return Vocabulary(ranks, merges_of(ranks))


def huggingface_text(vocabulary: Vocabulary) -> str:
    """Return a `tokenizer.json` that Hugging Face's tokenizers and transformers load."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = byte_level | {"use_regex": vocabulary.pattern == "gpt2"}
    if vocabulary.pattern != "gpt2":
        pattern = {"Regex": PATTERNS.get(vocabulary.pattern, vocabulary.pattern)}
        cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        split = {"type": "Sequence", "pretokenizers": [cut, split]}
    ids, merges = write_symbols(vocabulary)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": number, "content": token, **flags, "special": True}
        for token, number in vocabulary.special_tokens.items()
    ]
    bpe = {"type": "BPE", "ignore_merges": vocabulary.whole_tokens, "vocab": ids, "merges": merges}
    # transformers.js asks for each part by name, also for those that do nothing
    steps = {"normalizer": None, "pre_tokenizer": split, "post_processor": None}
    rest = {"decoder": byte_level | {"use_regex": True}, "model": bpe}
    content = {"version": "1.0", "added_tokens": added, **steps, **rest}
    return json.dumps(content, indent=1, ensure_ascii=False)


def write_huggingface(path: Path, vocabulary: Vocabulary) -> None:
    """Write a `tokenizer.json`."""
    files.write_text(path, huggingface_text(vocabulary))


def read_huggingface(path: Path) -> Vocabulary:
    """Read a `tokenizer.json`. Raises ValueError if it asks for more than byte-level BPE.

    What it would add around a text (its post-processor) is not read.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    model, splits = content["model"], content["pre_tokenizer"]
    splits = splits.get("pretokenizers", [splits])
    checks.byte_level_bpe(content, splits)
    pattern = splits[0]["pattern"]["Regex"] if len(splits) == 2 else "gpt2"
    # a merge is a string with a space in older files, a pair in newer ones
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    return read_symbols(pairs, model["vocab"], added, pattern, bool(model.get("ignore_merges")))


def save(path: str | Path, vocabulary: Vocabulary) -> None:
    """Write a `.json` for Hugging Face, a `.tiktoken`, or else a folder with GPT-2's two files.

    Raises ValueError for another name, and for what the format cannot hold.
    """
    path = Path(path)
    writers = {".json": write_huggingface, ".tiktoken": write_tiktoken, "": write_gpt2}
    allowed = "give a name that ends in .json or .tiktoken, or a folder"
    write = checks.found(writers.get(path.suffix), f"{path}: {allowed}")
    write(path, vocabulary)


def find(path: str | Path) -> Path:
    """Return the file of a tokenizer: the path itself, or the first one in a folder.

    Raises FileNotFoundError if nothing is there, or a folder holds no tokenizer.
    """
    path = Path(path)
    names = ("tokenizer.json", "vocab.bpe", "merges.txt")
    found = [path / name for name in names if (path / name).exists()]
    return checks.tokenizer_place(path, found)


def load(path: str | Path) -> Vocabulary:
    """Read what `save` writes, a folder of Hugging Face, or GPT-2's `vocab.bpe` alone.

    Raises FileNotFoundError, and FileError for a file that is damaged or of another kind.
    """
    path = find(path)
    with checks.tokenizer_file(path, "a byte-level BPE"):
        if ids_file(path) != path:
            return read_gpt2(path)
        return (read_tiktoken if path.suffix == ".tiktoken" else read_huggingface)(path)
