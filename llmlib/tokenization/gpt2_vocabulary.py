# From notebooks/07_gpt2_weights.ipynb: edit there, then run make export.

"""GPT-2's vocabulary as two files, and as the tokenizer that `tiktoken` makes of them.

Built in notebook 07. `vocab.bpe` lists merges in order, and `encoder.json` gives each token its id;
Hugging Face calls the same files `merges.txt` and `vocab.json`. Left out: how merges are found and
applied, which is the subject of notebook 09, and ways to cut a text other than GPT-2's.
"""

import json
from pathlib import Path

import tiktoken

from llmlib import checks
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.formats import as_bytes, as_symbols, merges_of
from llmlib.tokenization.gpt2 import gpt2_byte_symbols, gpt2_encoding

# GPT-2's way to cut a text into words; tokens never reach across
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def make_encoding(name: str, vocabulary: Path, merges: Path) -> tiktoken.Encoding:
    """A tokenizer from the file of ids and that of merges; FileError where they do not agree."""
    ids = checks.read_json(vocabulary)
    with checks.blame(merges):
        data = merges.read_bytes()
        pairs = [line.split(" ") for line in data.decode().splitlines() if line[:8] != "#version"]
        tokens = [*gpt2_byte_symbols().values(), *("".join(pair) for pair in pairs)]
        known = {token: number for number, token in enumerate(tokens)}
        if any(len(pair) != 2 or not known.keys() >= {*pair} for pair in pairs):
            raise ValueError(f"it holds no merges of a byte-level BPE{checks.looks_like(data)}")
        if len(known) < len(tokens):
            raise ValueError("it makes a token twice")
    with checks.blame(vocabulary):
        if wrong := [token for token in tokens if ids.get(token) != known[token]]:
            given, right = ids.get(wrong[0]), known[wrong[0]]
            raise ValueError(f"the id of {wrong[0]!r} is {given}, by {merges.name} it is {right}")
        special = {token: number for token, number in ids.items() if token not in known}
        places = [*range(len(tokens), len(ids))]
        if ids.get(END_OF_TEXT) != len(tokens) or [*special.values()] != places:
            raise ValueError(
                f"after {len(tokens):,} tokens from {merges.name} the special ones should follow, "
                f"{END_OF_TEXT} first, and not {[*special][:3]}"
            )
    ranks = {as_bytes(token): number for token, number in known.items()}
    return tiktoken.Encoding(name, pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def vocabulary_files(encoding: tiktoken.Encoding) -> tuple[str, str]:
    """What encoder.json and vocab.bpe say of a tokenizer, the inverse of `make_encoding`.

    Raises TypeError or ValueError for a tokenizer that these files cannot describe.
    """
    if not isinstance(encoding, tiktoken.Encoding):
        kind = type(encoding).__name__
        raise TypeError(f"a {kind} does not fit GPT-2's files, which take a tiktoken.Encoding")
    ranks, special = encoding._mergeable_ranks, encoding._special_tokens
    if encoding._pat_str not in (PATTERN, gpt2_encoding()._pat_str):
        raise ValueError(f"{encoding.name} cuts texts in another way than GPT-2 does")
    if [ranks.get(bytes([byte])) for byte in gpt2_byte_symbols()] != [*range(256)]:
        raise ValueError(f"{encoding.name} numbers bytes in another way than GPT-2 does")
    if END_OF_TEXT not in special:
        raise ValueError(f"{encoding.name} has no {END_OF_TEXT}, with which GPT-2 ends a text")
    lines = [f"{as_symbols(left)} {as_symbols(right)}\n" for left, right in merges_of(ranks)]
    ids = {as_symbols(token): rank for token, rank in ranks.items()} | special
    in_order = dict(sorted(ids.items(), key=lambda item: item[1]))
    return json.dumps(in_order), "".join(["#version: 0.2\n", *lines])
