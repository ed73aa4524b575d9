"""The files that hold a byte-level BPE: what they say, GPT-2's two, and tiktoken's one.

Written by hand; notebook 09 says what stands in them. Left out: Hugging Face's tokenizer.json,
which `llmlib.tokenization.huggingface` reads; `llmlib.tokenization.storage` picks the format.
"""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from llmlib import checks, files
from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.gpt2 import GPT2_SHA256, gpt2_byte_symbols

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
    a piece that is a token is taken as it is, without a look at the merges. added_tokens: all
    tokens that are looked for in a text first, if some of them are more, or less, than special.
    add_prefix_space: whether a text begins with a space, whatever it begins with.
    """

    tokens: dict[bytes, int]
    merges: list[tuple[bytes, bytes]]
    special_tokens: dict[str, int] = field(default_factory=dict)
    pattern: str = "gpt2"
    whole_tokens: bool = True
    added_tokens: list[AddedToken] = field(default_factory=list)
    add_prefix_space: bool = False


def vocabulary_of(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Return the ids of all bytes in GPT-2's order, followed by those of the merged pairs."""
    ids = {bytes([byte]): i for i, byte in enumerate(SYMBOLS)}
    for first, second in merges:
        ids.setdefault(first + second, len(ids))
    return ids


def write_symbols(vocabulary: Vocabulary) -> tuple[dict[str, int], list[str]]:
    """Return token -> id, added tokens included, and the merges, all in GPT-2's symbols."""
    ids = {as_symbols(token): i for token, i in vocabulary.tokens.items()}
    added = vocabulary.special_tokens | {t.content: t.id for t in vocabulary.added_tokens}
    checks.no_clash({token for token in ids.keys() & added if ids[token] != added[token]})
    ids |= added
    merges = [f"{as_symbols(first)} {as_symbols(second)}" for first, second in vocabulary.merges]
    return {token: ids[token] for token in sorted(ids, key=ids.__getitem__)}, merges


def read_symbols(
    merges: Iterable[Iterable[str]], ids: Mapping[str, int], special: dict[str, int]
) -> Vocabulary:
    """Return the vocabulary that is written so."""
    tokens = {as_bytes(token): i for token, i in ids.items() if token not in special}
    pairs = [(as_bytes(first), as_bytes(second)) for first, second in merges]
    return Vocabulary(tokens, pairs, special, whole_tokens=False)


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
    checks.gpt2_pattern(vocabulary.pattern, vocabulary.add_prefix_space)
    if vocabulary.whole_tokens:  # which their readers do not know of
        merges_by_ids(vocabulary)
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
    pairs = checks.merge_lines(merges_file, BYTE_OF)
    tokens = dict.fromkeys([*BYTE_OF, *map("".join, pairs)])
    file = ids_file(merges_file)
    ids = checks.read_json(file) if file.exists() else dict(zip([*tokens, END_OF_TEXT], count()))
    special = checks.made_by_no_merge(ids, pairs, BYTE_OF, [END_OF_TEXT], file.name)
    return read_symbols(pairs, ids, {token: i for token, i in ids.items() if token in special})


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


def merges_by_ids(vocabulary: Vocabulary) -> None:
    """Raise ValueError unless the merges are those that tiktoken finds by the ids."""
    found = vocabulary.merges
    lines = [f"{as_symbols(first)} {as_symbols(second)}" for first, second in found]
    text = "\n".join(["#version: 0.2", *lines, ""])
    is_gpt2 = hashlib.sha256(text.encode()).hexdigest() == GPT2_SHA256
    # to find them again takes seconds: those of GPT-2 are known
    if not (is_gpt2 and vocabulary.tokens == vocabulary_of(found)):
        checks.same_merges(merges_of(vocabulary.tokens), found)


def write_tiktoken(path: Path, vocabulary: Vocabulary) -> None:
    """Write tokens and ranks as tiktoken's `load_tiktoken_bpe` reads them: no special tokens."""
    checks.no_prefix_space(vocabulary.add_prefix_space, "tiktoken's file")
    merges_by_ids(vocabulary)
    ranks = vocabulary.tokens
    tokens = sorted(ranks, key=ranks.__getitem__)
    lines = [f"{base64.b64encode(token).decode()} {ranks[token]}\n" for token in tokens]
    files.write_text(path, "".join(lines))


def read_tiktoken(path: Path, special_ids: Collection[int] = ()) -> Vocabulary:
    """Read a file of tiktoken; the merges, which it does not hold, are found again.

    special_ids: those of special tokens, which the file does not name either, and leaves free.
    """
    ranks = checks.tiktoken_ranks(path)
    checks.ids_without_holes([*ranks.values()], special_ids)
    return Vocabulary(ranks, merges_of(ranks))
