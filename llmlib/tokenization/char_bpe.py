"""A BPE over characters with bytes for the rest, as Llama 2 has it: learned from texts.

Written by hand, on the trainer of notebook 09. The merges are those of Hugging Face's trainer;
characters that are too rare to be tokens are written in bytes, `<0xE7>` and so on (byte fallback),
so that any text comes back. A space is written as U+2581 and begins its word.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from llmlib import checks
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN, split_special
from llmlib.tokenization.bpe_trainer import merge_most_frequent
from llmlib.tokenization.huggingface import FLAGS
from llmlib.tokenization.interface import each_text
from llmlib.tokenization.pipeline import PipelineTokenizer
from llmlib.tokenization.pre_tokenizers import make_pre_tokenizer

RARE = chr(sys.maxunicode)  # stands for characters that are no tokens
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train_characters(
    texts: str | Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    byte_fallback: bool = True,
    add_prefix_space: bool = False,
    max_characters: int = 1000,
    **rules: Any,
) -> PipelineTokenizer:
    """Learn a BPE over characters with vocab_size ids, from one text or several.

    byte_fallback: rare characters become bytes; without it, `<|unk|>`. add_prefix_space: a text
    begins with a space, which is taken off when decoding. max_characters: how many characters are
    tokens. rules: min_frequency and max_token_length, see `learn_merges`. Raises ValueError for an
    empty text, and if bytes, characters and special tokens do not fit.
    """
    scheme = "first" if add_prefix_space else "never"
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    pre_tokenize, counts = make_pre_tokenizer(space), Counter()
    for text in each_text(texts):
        parts = split_special(text, special_tokens, "all")
        for number, (part, is_special) in enumerate(parts):
            counts.update([] if is_special else pre_tokenize(part, number == 0))
    characters = Counter()
    for piece, n in counts.items():
        characters.update({character: n * piece.count(character) for character in set(piece)})
    alphabet = sorted(character for character, _ in characters.most_common(max_characters))
    fixed = [*(BYTES if byte_fallback else [UNKNOWN]), *alphabet]
    n_fixed = len(fixed) + len(special_tokens)
    needed = f"{len(fixed)} bytes and characters and {len(special_tokens)} special tokens"
    checks.learnable(counts, vocab_size, n_fixed, needed)
    merges = learn(counts, alphabet, vocab_size - n_fixed, rules)
    ids = {token: i for i, token in enumerate(dict.fromkeys([*fixed, *map("".join, merges)]))}
    special = {token: len(ids) + i for i, token in enumerate(special_tokens)}
    return PipelineTokenizer(content(ids, merges, special, space, byte_fallback))


def learn(
    counts: Counter[str], alphabet: Sequence[str], n_merges: int, rules: dict[str, Any]
) -> list[tuple[str, str]]:
    """Learn merges of characters; nothing is merged across one that is not in the alphabet."""
    signs = {character: chr(i) for i, character in enumerate(alphabet)}
    words: Counter[str] = Counter()
    for piece, n in counts.items():
        word = "".join(signs.get(character, RARE) for character in piece)
        for part in word.split(RARE):
            words[part] += n
    tokens = {chr(i): character for i, character in enumerate(alphabet)}
    found = list(words), list(words.values())
    return merge_most_frequent(*found, tokens, n_merges, lambda sign, _: sign, **rules)


def content(
    ids: dict[str, int],
    merges: list[tuple[str, str]],
    special: dict[str, int],
    space: dict[str, Any],
    byte_fallback: bool,
) -> dict[str, Any]:
    """Return the tokenizer.json that says all of this."""
    flags = dict.fromkeys(FLAGS, False) | {"special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags} for token, i in special.items()],
        "normalizer": None,
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, space]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if byte_fallback else UNKNOWN,
            "fuse_unk": False,
            "byte_fallback": byte_fallback,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [list(pair) for pair in merges],
        },
    }
