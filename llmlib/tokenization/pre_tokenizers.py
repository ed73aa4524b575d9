"""How a tokenizer.json cuts a text into pieces, before any merge.

Written by hand, after the pre-tokenizers of Hugging Face's `tokenizers`. Each one is a function of
a piece, and of whether the piece is the start of the text, that returns smaller pieces; none of
them is empty. Left out, and refused when a file is read: BertPreTokenizer, UnicodeScripts.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import regex

from llmlib import checks
from llmlib.tokenization.normalizers import search_pattern, to_symbols
from llmlib.tokenization.splitting import PATTERNS

PreTokenizer = Callable[[str, bool], list[str]]
Matches = Iterator[tuple[str, bool]]  # parts of a text, and whether each was found

GPT2 = regex.compile(PATTERNS["gpt2"])
# Rust's char::is_numeric, and its \w, whose engine `Whitespace` uses
NUMERIC, WORDS = regex.compile(r"\p{N}"), regex.compile(r"\w+|[^\w\s]+")
PUNCTUATION, SPACE = regex.compile(r"[!-/:-@\[-`{-~\p{P}]"), regex.compile(r"\s")


def make_pre_tokenizer(spec: Mapping[str, Any] | None) -> PreTokenizer:
    """Return the function that a pre-tokenizer of a tokenizer.json stands for; None cuts nothing.

    Raises ValueError for one that is not supported, or lacks a field.
    """
    if spec is None:
        return lambda text, _: [text] if text else []
    kind = checks.kind_of_part("pre_tokenizer", spec, PRE_TOKENIZERS)
    return PRE_TOKENIZERS[kind](spec)


def matches_of(found: Any, text: str) -> Matches:
    """Yield what a pattern finds in a text, and what lies between."""
    place = 0
    with checks.in_time():
        for match in found.finditer(text, timeout=checks.time_for(found.pattern, text)):
            if place < match.start():
                yield text[place : match.start()], False
            yield match[0], True
            place = match.end()
    if place < len(text):
        yield text[place:], False


def split_at(matches: Matches, behavior: str, invert: bool = False) -> list[str]:
    """Return the pieces that a text is cut into at delimiters; behavior: what becomes of those."""
    parts = [(part, is_match != invert) for part, is_match in matches]
    if behavior == "Removed":
        return [part for part, is_match in parts if not is_match]
    if behavior == "Isolated":
        return [part for part, _ in parts]
    backwards = behavior == "MergedWithNext"
    pieces, before = [], False
    for part, is_match in reversed(parts) if backwards else parts:
        joins = is_match == before if behavior == "Contiguous" else is_match and not before
        if joins and pieces:
            pieces[-1] = part + pieces[-1] if backwards else pieces[-1] + part
        else:
            pieces.append(part)
        before = is_match
    return pieces[::-1] if backwards else pieces


def delimited(found: Any, behavior: str, invert: bool = False) -> PreTokenizer:
    """Return the pre-tokenizer that cuts at what a pattern finds."""
    return lambda text, _: split_at(matches_of(found, text), behavior, invert)


def byte_level(spec: Mapping[str, Any]) -> PreTokenizer:
    """Cut as GPT-2 does, or not at all, and write bytes with its symbols."""
    prefix = checks.part(spec, "add_prefix_space", bool)
    checks.part(spec, "trim_offsets", bool)
    use_regex = checks.part(spec, "use_regex", bool, True)

    def cut(text: str, _: bool) -> list[str]:
        text = " " + text if prefix and text[:1] != " " else text
        return [to_symbols(p) for p in (GPT2.findall(text) if use_regex else [text])]

    return cut


def metaspace(spec: Mapping[str, Any]) -> PreTokenizer:
    """Write spaces with a mark, as SentencePiece does, and cut before each mark."""
    mark, scheme = metaspace_scheme(spec)
    pattern = regex.compile(regex.escape(mark)) if split_on(spec) else None

    def cut(text: str, is_start: bool) -> list[str]:
        text = text.replace(" ", mark)
        if (scheme == "always" or (scheme == "first" and is_start)) and text[0] != mark:
            text = mark + text
        return split_at(matches_of(pattern, text), "MergedWithNext") if pattern else [text]

    return cut


def split_on(spec: Mapping[str, Any]) -> bool:
    """Return whether a Metaspace cuts before each of its marks: it does by default."""
    return checks.part(spec, "split", (bool, type(None)), None) is not False


def metaspace_scheme(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return the character for a space, and where one is prepended: first, always or never."""
    mark = checks.character_part(spec, "replacement")
    split_on(spec)
    scheme = checks.choice_part(spec, "prepend_scheme", ("always", "first", "never"), "always")
    prefix = checks.part(spec, "add_prefix_space", (bool, type(None)), None)
    agree = prefix is not False or scheme == "never"
    checks.require(agree, "its Metaspace has add_prefix_space false and another prepend_scheme")
    return mark, scheme


def split(spec: Mapping[str, Any]) -> PreTokenizer:
    found, behavior = search_pattern(spec), checks.choice_part(spec, "behavior", BEHAVIORS)
    return delimited(found, behavior, checks.part(spec, "invert", bool))


def digits(spec: Mapping[str, Any]) -> PreTokenizer:
    alone = checks.part(spec, "individual_digits", bool)
    return delimited(NUMERIC, "Isolated" if alone else "Contiguous")


def punctuation(spec: Mapping[str, Any]) -> PreTokenizer:
    return delimited(PUNCTUATION, checks.choice_part(spec, "behavior", BEHAVIORS, "Isolated"))


def delimiter(spec: Mapping[str, Any]) -> PreTokenizer:
    sign = checks.character_part(spec, "delimiter")
    return delimited(regex.compile(regex.escape(sign)), "Removed")


def fixed_length(spec: Mapping[str, Any]) -> PreTokenizer:
    size = checks.part(spec, "length", int, 5)
    checks.require(size > 0, f"its FixedLength has the length {size}")
    return lambda text, _: [text[i : i + size] for i in range(0, len(text), size)]


def sequence(spec: Mapping[str, Any]) -> PreTokenizer:
    steps = [make_pre_tokenizer(step) for step in checks.steps_of(spec, "pretokenizers")]

    def cut(text: str, is_start: bool) -> list[str]:
        pieces = [(text, is_start)]
        for step in steps:
            cuts = [(step(piece, first), first) for piece, first in pieces]
            pieces = [
                (p, first and i == 0) for parts, first in cuts for i, p in enumerate(parts) if p
            ]
        return [piece for piece, _ in pieces]

    return cut


BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
PRE_TOKENIZERS: dict[str, Callable[[Mapping[str, Any]], PreTokenizer]] = {
    "ByteLevel": byte_level,
    "Metaspace": metaspace,
    "Split": split,
    "Digits": digits,
    "Punctuation": punctuation,
    "CharDelimiterSplit": delimiter,
    "FixedLength": fixed_length,
    "Whitespace": lambda _: delimited(WORDS, "Removed", invert=True),
    "WhitespaceSplit": lambda _: delimited(SPACE, "Removed"),
    "Sequence": sequence,
}
