"""What a tokenizer.json does to a text before it is cut: Unicode forms, case, accents, spaces.

Written by hand, after the normalizers of Hugging Face's `tokenizers`. Left out, and refused when a
file is read: Nmt, Precompiled (of SentencePiece) and BertNormalizer.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import regex

from llmlib import checks
from llmlib.tokenization.added_tokens import SPACES
from llmlib.tokenization.gpt2 import gpt2_byte_symbols
from llmlib.tokenization.patterns import from_oniguruma

Normalizer = Callable[[str], str]
SYMBOLS = gpt2_byte_symbols()


def make_normalizer(spec: Mapping[str, Any] | None) -> Normalizer:
    """Return the function that a normalizer of a tokenizer.json stands for; None changes nothing.

    Raises ValueError for one that is not supported, or lacks a field.
    """
    if spec is None:
        return str
    kind = checks.kind_of_part("normalizer", spec, NORMALIZERS)
    return NORMALIZERS[kind](spec)


def to_symbols(text: str) -> str:
    """Write the bytes of a text with GPT-2's symbols."""
    return "".join(map(SYMBOLS.__getitem__, text.encode()))


def lowercase(text: str) -> str:
    """Return the text in small letters, each by itself: the last sigma of a word is no other."""
    return "".join(map(str.lower, text))


def sequence(spec: Mapping[str, Any]) -> Normalizer:
    steps = [make_normalizer(step) for step in checks.steps_of(spec, "normalizers")]
    return lambda text: reduce(lambda done, step: step(done), steps, text)


def strip(spec: Mapping[str, Any]) -> Normalizer:
    left, right = checks.part(spec, "strip_left", bool), checks.part(spec, "strip_right", bool)

    def cut(text: str) -> str:
        text = text.lstrip(SPACES) if left else text
        return text.rstrip(SPACES) if right else text

    return cut


def prepend(spec: Mapping[str, Any]) -> Normalizer:
    before = checks.part(spec, "prepend", str)
    return lambda text: text and before + text


def replace(spec: Mapping[str, Any]) -> Normalizer:
    found, content = search_pattern(spec), checks.part(spec, "content", str)
    return lambda text: replaced(found, content, text)


def replaced(found: Any, content: str, text: str) -> str:
    """Return a text with all that a pattern finds replaced. Raises ValueError if it has no end."""
    with checks.in_time():
        return found.sub(lambda _: content, text, timeout=checks.time_for(found.pattern, text))


def search_pattern(spec: Mapping[str, Any]) -> Any:
    """Compile what a Split or Replace looks for: a string, or a regular expression."""
    kind, source = checks.pattern_part(spec)
    return regex.compile(regex.escape(source) if kind == "String" else from_oniguruma(source))


NORMALIZERS: dict[str, Callable[[Mapping[str, Any]], Normalizer]] = {
    **{f: lambda _, f=f: partial(unicodedata.normalize, f) for f in ("NFC", "NFD", "NFKC", "NFKD")},
    "Lowercase": lambda _: lowercase,
    "StripAccents": lambda _: partial(regex.compile(r"\p{M}+").sub, ""),
    "ByteLevel": lambda _: to_symbols,
    "Sequence": sequence,
    "Strip": strip,
    "Prepend": prepend,
    "Replace": replace,
}
