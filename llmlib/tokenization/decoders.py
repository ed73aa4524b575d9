"""How a tokenizer.json makes a text of tokens again.

Written by hand, after the decoders of Hugging Face's `tokenizers`: each is a function of a list of
strings that returns another one; in the end they are joined. Left out, and refused when a file is
read: CTC.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from llmlib import checks
from llmlib.tokenization.formats import BYTE_OF
from llmlib.tokenization.normalizers import replaced, search_pattern
from llmlib.tokenization.pre_tokenizers import metaspace_scheme

Decoder = Callable[[list[str]], list[str]]
BYTE = re.compile(r"<0x(\+?[0-9A-Fa-f]|[0-9A-Fa-f]{2})>")  # Rust reads +A as a number, too
CLEANUP = [(" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")]
CLEANUP += [(" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")]


def make_decoder(spec: Mapping[str, Any] | None) -> Decoder:
    """Return the function that a decoder of a tokenizer.json stands for.

    Without one, tokens are joined by spaces. Raises ValueError for one that is not supported, or
    lacks a field.
    """
    if spec is None:
        return lambda tokens: [" ".join(tokens)]
    kind = checks.kind_of_part("decoder", spec, DECODERS)
    return DECODERS[kind](spec)


def bytes_of(token: str) -> bytes:
    """Return the bytes that a token in GPT-2's symbols stands for, or those of the token itself."""
    found = [BYTE_OF.get(symbol) for symbol in token]
    return token.encode() if None in found else bytes(b for b in found if b is not None)


def byte_level(spec: Mapping[str, Any]) -> Decoder:
    for field in ("add_prefix_space", "trim_offsets"):  # of no use here, and yet required
        checks.part(spec, field, bool)
    checks.part(spec, "use_regex", bool, True)
    return lambda tokens: [b"".join(map(bytes_of, tokens)).decode("utf-8", "replace")]


def byte_fallback(tokens: list[str]) -> list[str]:
    """Put tokens like <0xE2> together to characters; where they are none, each becomes U+FFFD."""
    pieces, waiting = [], b""
    for token in [*tokens, None]:
        if token and (found := BYTE.fullmatch(token)):
            waiting += bytes([int(found[1], 16)])
            continue
        if waiting:
            try:
                pieces.append(waiting.decode())
            except UnicodeDecodeError:
                pieces += ["\ufffd"] * len(waiting)
            waiting = b""
        if token is not None:
            pieces.append(token)
    return pieces


def replace(spec: Mapping[str, Any]) -> Decoder:
    found, content = search_pattern(spec), checks.part(spec, "content", str)
    return lambda tokens: [replaced(found, content, token) for token in tokens]


def strip(spec: Mapping[str, Any]) -> Decoder:
    """Take a character off both ends of each token, as often as the spec allows."""
    sign = checks.character_part(spec, "content")
    start, stop = checks.part(spec, "start", int), checks.part(spec, "stop", int)

    def cut(token: str) -> str:
        """Return a token without the character at its ends."""
        first = len(token) - len(token.lstrip(sign))
        token = token[min(first, start) :]
        last = len(token) - len(token.rstrip(sign))
        return token[: len(token) - min(last, stop)]

    return lambda tokens: list(map(cut, tokens))


def metaspace(spec: Mapping[str, Any]) -> Decoder:
    mark, scheme = metaspace_scheme(spec)

    def decode(tokens: list[str]) -> list[str]:
        first = [token.replace(mark, "" if scheme != "never" else " ") for token in tokens[:1]]
        return first + [token.replace(mark, " ") for token in tokens[1:]]

    return decode


def bpe_decoder(spec: Mapping[str, Any]) -> Decoder:
    suffix = checks.part(spec, "suffix", str)
    return lambda tokens: (
        [t.replace(suffix, " ") for t in tokens[:-1]] + [t.replace(suffix, "") for t in tokens[-1:]]
    )


def wordpiece(spec: Mapping[str, Any]) -> Decoder:
    """Join words to what continues them, which begins with the prefix; all else is set apart."""
    prefix, cleanup = checks.part(spec, "prefix", str), checks.part(spec, "cleanup", bool)

    def decode(tokens: list[str]) -> list[str]:
        """Return the parts of the text, with spaces before new words."""
        rest = [t.removeprefix(prefix) if t.startswith(prefix) else " " + t for t in tokens[1:]]
        tokens = tokens[:1] + rest
        for old, new in CLEANUP if cleanup else ():
            tokens = [token.replace(old, new) for token in tokens]
        return tokens

    return decode


def sequence(spec: Mapping[str, Any]) -> Decoder:
    steps = [make_decoder(step) for step in checks.steps_of(spec, "decoders")]

    def decode(tokens: list[str]) -> list[str]:
        for step in steps:
            tokens = step(tokens)
        return tokens

    return decode


DECODERS: dict[str, Callable[[Mapping[str, Any]], Decoder]] = {
    "ByteLevel": byte_level,
    "ByteFallback": lambda _: byte_fallback,
    "Fuse": lambda _: lambda tokens: ["".join(tokens)],
    "Replace": replace,
    "Strip": strip,
    "Metaspace": metaspace,
    "BPEDecoder": bpe_decoder,
    "WordPiece": wordpiece,
    "Sequence": sequence,
}
