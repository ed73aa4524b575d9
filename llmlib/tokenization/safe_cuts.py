"""Where a long text may be cut so that the ids of its parts are those of the whole.

Written by hand, on `splitting.blocks`, which knows such places for the patterns of GPT-2 and
GPT-4. `tests/tokenization/test_documents.py` holds them against all the tokenizers of this list.
Left out: what a normalizer, a pre-tokenizer or an added token with flags does beyond that. With
one of those a document is encoded as a whole.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.pipeline import PipelineTokenizer
from llmlib.tokenization.splitting import PATTERNS, blocks

# Of other models, which split at the same places: Qwen 2, and GPT-4o (o200k_base in tiktoken).
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SAFE = {
    *PATTERNS,
    *PATTERNS.values(),
    PATTERNS["gpt4"].replace("{1,3}", ""),
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def safe_pieces(texts: Iterable[str], tokenizer: Any, size: int) -> Iterator[str]:
    """Cut a document, given in pieces, into others of about `size` characters.

    Encoded one by one, they give the ids of the whole; tokenizer: by default any that is learned
    here. The document is one piece where it is not known how to cut it.
    """
    if not may_cut(tokenizer):
        return iter(["".join(texts)])
    special = [*getattr(tokenizer, "special_tokens", ())]
    special += [token.content for token in added_tokens(tokenizer)]
    return blocks(texts, special, size=size)


def added_tokens(tokenizer: Any) -> list[AddedToken]:
    """Return the tokens that are looked for with flags, or though they are not special."""
    return getattr(getattr(tokenizer, "added", None), "tokens", [])


def may_cut(tokenizer: Any) -> bool:
    """Return whether a tokenizer treats each side of a safe cut as if it stood alone."""
    for token in added_tokens(tokenizer):
        changed = token.normalized and not token.content.isascii()
        if token.single_word or token.lstrip or token.rstrip or changed:
            return False
    if not isinstance(tokenizer, PipelineTokenizer):
        # those without a pattern, of words or characters, cut there, too
        prefix = getattr(tokenizer, "add_prefix_space", False)
        return getattr(tokenizer, "pattern", "gpt2") in SAFE and not prefix
    steps = [*flat(tokenizer.content.get("pre_tokenizer"))]
    cuts = any(step["type"] == "Split" or step.get("use_regex") for step in steps)
    plain = tokenizer.content.get("normalizer") in (None, {"type": "NFC"})
    return plain and cuts and all(map(cuts_safely, steps))


def flat(spec: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield a pre-tokenizer, or the steps of a Sequence of them."""
    if spec is not None and spec["type"] == "Sequence":
        yield from chain.from_iterable(map(flat, spec["pretokenizers"]))
    elif spec is not None:
        yield spec


def cuts_safely(spec: dict[str, Any]) -> bool:
    """Return whether a step joins nothing across a safe cut."""
    if spec["type"] == "Split":
        isolated = spec["behavior"] == "Isolated" and not spec["invert"]
        return isolated and spec["pattern"].get("Regex") in SAFE
    return spec["type"] == "Digits" or (
        spec["type"] == "ByteLevel" and not spec["add_prefix_space"]
    )
