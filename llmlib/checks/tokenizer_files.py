"""The files and folders that hold a tokenizer."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError, looks_like
from llmlib.checks.values import require


@contextmanager
def tokenizer_file(path: str | Path, kind: str) -> Iterator[None]:
    """Turn any failure to read a file into a FileError, with what it should be in words.

    Errors of the system pass: a missing file stays a FileNotFoundError.
    """
    try:
        yield
    except FileError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f": {error}" if type(error) in (ValueError, TypeError) else ""
        raise FileError(path, f"it is not {kind}{reason}{looks_like(Path(path))}") from error


def gpt2_vocabulary(path: Path, found: str, expected: str) -> None:
    """Raise ValueError for a vocab.bpe whose SHA-256 is not that of OpenAI's file."""
    if found != expected:
        raise ValueError(
            f"{path} is not GPT-2's vocabulary: restore it with `git checkout gpt2/vocab.bpe`"
        )


def gpt2_pattern(pattern: str) -> None:
    """Raise ValueError for a tokenizer that GPT-2's two files cannot describe."""
    if pattern != "gpt2":
        raise ValueError(
            "GPT-2's files cannot say how a text is split, and readers assume GPT-2's pattern: "
            "save this tokenizer as a tokenizer.json"
        )


def no_clash(tokens: Collection[str]) -> None:
    """Raise ValueError if there are special tokens that are written like ordinary ones."""
    if tokens:
        raise ValueError(f"the special token {min(tokens)!r} looks like an ordinary one in a file")


def same_merges(found: list, given: list) -> None:
    """Raise ValueError if the order of the merges does not follow from the ids."""
    if found != given:
        raise ValueError(
            "tiktoken takes ids for the order of the merges, and here these differ: save this "
            "tokenizer as a tokenizer.json"
        )


def byte_tokenizer(tokenizer: object) -> None:
    """Raise TypeError for a tokenizer that is not a byte-level BPE of ours."""
    if not hasattr(tokenizer, "vocabulary"):
        raise TypeError(
            f"a {type(tokenizer).__name__} does not fit GPT-2's files: give a BPETokenizer or a "
            "TiktokenTokenizer(encoding)"
        )


def known_class(path: Path, name: object, allowed: Iterable[str | None]) -> None:
    """Raise FileError unless the class of tokenizers in a file is among the allowed ones."""
    if name not in (names := list(allowed)):
        raise FileError(path, f"it holds a {name}: there are {', '.join(filter(None, names))}")


def ends_documents(special: Collection[str], source: object) -> None:
    """Raise ValueError for a tokenizer without `<|endoftext|>`."""
    if "<|endoftext|>" not in special:
        raise ValueError(
            f"{source} has no <|endoftext|>, which has to stand between documents: learn a "
            "tokenizer with `llmlib tokenizer`"
        )


def tokenizer_place(path: Path, found: Sequence[Path]) -> Path:
    """Return the first file found in a folder, or a path that is a file.

    Raises FileNotFoundError if there is neither.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: give the path of a tokenizer")
    if path.is_dir() and not found:
        raise FileNotFoundError(
            f"{path} holds no vocabulary: that takes tokenizer.json, vocab.bpe with encoder.json, "
            "or merges.txt with vocab.json"
        )
    return found[0] if found else path


def merge_order(found: Any, expected: Mapping[bytes, int], merges: str) -> None:
    """Raise ValueError unless a Vocabulary is in order: 256 bytes, merged pairs, special tokens.

    Of the special ones, `<|endoftext|>` is the first. merges: where the order comes from, in words.
    """
    ids, special, n = found.tokens, found.special_tokens, len(found.tokens)
    for token, number in expected.items():
        if ids.get(token) != number:
            name = token.decode(errors="replace")
            raise ValueError(f"the id of {name!r} is {ids.get(token)}, by {merges} it is {number}")
    require(n == len(expected), f"{n - len(expected)} tokens come from no merge in {merges}")
    names = ["<|endoftext|>", *[*special][1:]] if special else []
    require(
        [*special.items()] == [*zip(names, count(n))],
        f"after {n:,} tokens from {merges} the special ones should follow, <|endoftext|> first, "
        f"and not {[*special][:3]}",
    )


def known_parts(merges: Iterable[Sequence[str]], known: Collection[str]) -> None:
    """Raise ValueError unless each merge has two parts, which are bytes or merged themselves."""
    for rank, parts in enumerate(merges):
        if len(parts) != 2 or parts[0] not in known or parts[1] not in known:
            line = " ".join(parts)
            raise ValueError(f"merge {rank} is {line!r}: merges join two tokens that are known")


def mergeable(rank: int, limit: int, token: bytes) -> None:
    """Raise ValueError for a token that is not made of two earlier ones."""
    if rank >= limit:
        raise ValueError(f"no merges of earlier tokens lead to the token {token!r}")


def byte_level_bpe(content: Mapping[str, Any], splits: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for a tokenizer.json that asks for more than a byte-level BPE."""
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"it holds a {model['type']} tokenizer, not a BPE")
    extras = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    used = [name for name in (*extras, "byte_fallback") if model.get(name)]
    if content.get("normalizer") or used:
        raise ValueError(f"it uses {(used or ['a normalizer'])[0]}, which is not supported")
    kinds = [split["type"] for split in splits]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]) or splits[-1]["add_prefix_space"]:
        raise ValueError(f"it splits a text by {' and '.join(kinds)}, which is not supported")
    if (kinds == ["ByteLevel"]) != splits[-1].get("use_regex", True):
        raise ValueError("it splits a text by other rules than one regular expression")
    if len(splits) == 2 and (splits[0]["behavior"], splits[0]["invert"]) != ("Isolated", False):
        raise ValueError(f"it splits a text with the behaviour {splits[0]['behavior']}")
