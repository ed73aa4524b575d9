"""The files and folders that hold a tokenizer."""

import base64
import codecs
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from llmlib.checks.files import FileError, looks_like
from llmlib.checks.values import require
from llmlib.messages import quoted, shown


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
        reason = ": it is nested too deeply" if isinstance(error, RecursionError) else reason
        raise FileError(path, f"it is not {kind}{reason}{looks_like(Path(path))}") from error


def gpt2_vocabulary(path: Path, found: str, expected: str) -> None:
    """Raise ValueError for a vocab.bpe whose SHA-256 is not that of OpenAI's file."""
    if found != expected:
        raise ValueError(
            f"{path} is not GPT-2's vocabulary: restore it with `git -C {quoted(path.parent)} "
            f"checkout {path.name}`"
        )


def gpt2_pattern(pattern: str, add_prefix_space: bool = False) -> None:
    """Raise ValueError for a tokenizer that GPT-2's two files cannot describe."""
    if pattern != "gpt2" or add_prefix_space:
        raise ValueError(
            "GPT-2's files cannot say how a text is split, and readers assume GPT-2's pattern: "
            "save this tokenizer as a tokenizer.json"
        )


def no_prefix_space(add_prefix_space: bool, what: str) -> None:
    """Raise ValueError for a tokenizer that puts a space before a text, which `what` cannot say."""
    require(not add_prefix_space, f"add_prefix_space cannot be written with {what}")


def no_clash(tokens: Collection[str]) -> None:
    """Raise ValueError if there are special tokens that are written like ordinary ones."""
    if tokens:
        raise ValueError(f"the special token {min(tokens)!r} looks like an ordinary one in a file")


def same_merges(found: list, given: list) -> None:
    """Raise ValueError if the order of the merges does not follow from the ids."""
    if found != given:
        raise ValueError(
            "tiktoken takes ids for the order of the merges, and joins any two tokens that make a "
            "third, which is not so here: a BPETokenizer, and a tokenizer.json, can have it"
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


def ends_documents(
    special: Collection[str], source: object, end_token: str = "<|endoftext|>"
) -> None:
    """Raise ValueError for a tokenizer without the special token that ends a document."""
    others = f"name one of its own with --end-token: {shown([*special])}, or " if special else ""
    require(
        end_token in special,
        f"{source} has no {end_token}, which has to stand between documents: {others}learn a "
        "tokenizer with `llmlib tokenizer`",
    )


def holds_end_of_text(path: Path) -> None:
    """Raise ValueError for a name that a tokenizer with an end of text cannot be written to."""
    require(
        path.suffix != ".tiktoken",
        f"{path}: a .tiktoken file holds no special tokens, and <|endoftext|> has to stand between "
        "documents: change --out to a name that ends in .json",
    )
    fits = path.suffix in (".json", "")
    require(fits, f"{path}: change --out to a name that ends in .json, or to a folder")


OF_OTHERS = {  # files that hold a tokenizer in a form which is not read
    "vocab.txt": "a list of WordPieces, as BERT has it, which is not supported",
    "tekken.json": "Mistral's, which is not supported: transformers writes it as a tokenizer.json",
    "vocab.json": "to which merges.txt belongs, and that is missing",
    "encoder.json": "to which vocab.bpe belongs, and that is missing",
}


def of_others(path: Path) -> str:
    """Return what a file is, if it looks like the tokenizer of another program, or ""."""
    if path.suffix != ".model":
        return "a file of tiktoken" if path.suffix == ".tiktoken" else OF_OTHERS.get(path.name, "")
    with path.open("rb") as file:
        if re.match(rb"[A-Za-z0-9+/]+=* [0-9]+\r?\n", file.read(200)):  # as Meta has it
            return "a file of tiktoken: give it a name that ends in .tiktoken"
    return "of SentencePiece, which is not supported: transformers writes it as a tokenizer.json"


def tokenizer_place(path: Path, found: Sequence[Path]) -> Path:
    """Return the first file found in a folder, or a path that is a file.

    Raises FileNotFoundError if there is neither, and FileError for a tokenizer of other programs.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}: give the path of a tokenizer")
    other = f"{path} is a pipe or a device, not a file: save the tokenizer in a file"
    require(path.is_file() or path.is_dir(), other)
    if path.is_file():
        foreign = path.suffix == ".model" or path.name in ("vocab.txt", "tekken.json")
        if foreign:
            raise FileError(path, f"it is {of_others(path)}")
    elif not found:
        others = [file for file in sorted(path.iterdir()) if file.is_file() and of_others(file)]
        raise FileNotFoundError(
            f"{path} holds no vocabulary but {others[0].name}, {of_others(others[0])}"
            if others
            else f"{path} holds no vocabulary: that takes tokenizer.json, vocab.bpe with "
            "encoder.json, or merges.txt with vocab.json"
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
            line = shown(" ".join(parts))
            raise ValueError(f"merge {rank} is {line}: merges join two tokens that are known")


def merge_lines(path: Path, symbols: Collection[str]) -> list[list[str]]:
    """Return the pairs in a file of merges, which join bytes, or what other lines have merged.

    Raises ValueError for a line that does not.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines[: None if lines[-1] else -1] if not line.startswith("#version")]
    pairs = [line.split(" ") for line in lines]
    for number, pair in enumerate(pairs, 1):
        line = shown(" ".join(pair))
        fits = len(pair) == 2 and all(pair)
        require(fits, f"merge {number} is {line}: merges join two tokens, with a space between")
    known_parts(pairs, {*symbols, *map("".join, pairs)})
    return pairs


def ids_beside(merges_file: Path, ids_file: Path) -> None:
    """Raise ValueError for merges without ids; those of a vocab.bpe, of GPT-2, follow from them."""
    there = ids_file.exists() or merges_file.suffix == ".bpe"
    require(there, f"{ids_file.name}, which has the ids of its tokens, is missing beside it")


def tiktoken_ranks(path: Path) -> dict[bytes, int]:
    """Return the tokens in a file of tiktoken, each with its rank.

    Raises ValueError for a line that holds anything else, and for a token that is there twice.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        if not line:
            continue
        try:
            symbols, rank = line.split()
            token, i = base64.b64decode(symbols, validate=True), int(rank)
        except ValueError:
            what = "it should be a token in base64, and its rank"
            raise ValueError(f"line {number} is {shown(line)}: {what}") from None
        require(token and ranks.setdefault(token, i) == i, f"line {number} repeats a token")
    return ranks


def looks_special(token: str) -> bool:
    """Return whether a token looks like a special one, as <s> and [PAD] do."""
    return token[:1] + token[-1:] in ("<>", "[]") and len(token) > 2


def told_by_their_looks(special: Iterable[str], added: Collection[object], suffix: str) -> None:
    """Raise ValueError for tokens that a file without a list of them would lose."""
    require(not added, "only a .json file holds added tokens that are more, or less, than special")
    plain = [token for token in special if not looks_special(token)]
    name = shown(plain[0]) if plain else ""
    require(
        suffix or not plain,
        f"in GPT-2's files, the special token {name} looks like a token whose merge is lost: save "
        "this tokenizer as a tokenizer.json",
    )


def made_by_no_merge(
    ids: Mapping[str, Any],
    pairs: Iterable[Sequence[str]],
    symbols: Collection[str],
    known: Collection[str],
    file: str,
) -> set[str]:
    """Return the special tokens among ids: those that are no byte, and that no merge makes.

    Raises ValueError for one that does not look like it: then a line of the merges was lost. known:
    the special tokens that are named elsewhere. file: that of the ids.
    """
    ids_of_tokens(ids)
    special = set(ids) - set(symbols) - set(map("".join, pairs))
    for token in sorted(special - set(known)):
        looks = looks_special(token)
        lost = f"no merge makes the token {shown(token)} of {file}"
        why = "a line of the merges is lost, or the files are of two models"
        require(looks, f"{lost}: {why}")
    return special


def mergeable(rank: int, limit: int, token: bytes) -> None:
    """Raise ValueError for a token that is not made of two earlier ones."""
    if rank >= limit:
        raise ValueError(f"no merges of earlier tokens lead to the token {token!r}")


def ids_of_tokens(ids: Mapping[Any, Any]) -> None:
    """Raise ValueError unless ids are different whole numbers from 0, with few of them left out."""
    owner: dict[int, object] = {}
    for token, i in ids.items():
        require(
            # special tokens may be numbered after those of a far larger vocabulary, as in minbpe
            type(i) is int and 0 <= i < 2 * len(ids) + 2**17,
            f"the id of {shown(token)} is {shown(i)}: ids are whole numbers from 0, hardly "
            f"more than the {len(ids):,} tokens",
        )
        other = owner.setdefault(i, token)
        require(other == token, f"{shown(other)} and {shown(token)} have the same id {i}")


def ids_without_holes(ids: Collection[int], filled: Collection[int]) -> None:
    """Raise ValueError unless ids, with those of special tokens among them, are 0, 1, 2 and so on.

    Special tokens may follow farther away, as in cl100k_base, which leaves one id out.
    """
    found = set(ids) | set(filled)
    missing = next(i for i in range(len(found) + 1) if i not in found)
    require(
        missing > max(ids, default=-1),
        f"no token has the id {missing}: a line is lost, or it is the id of a special token, which "
        "special_tokens={name: id} gives",
    )


def splits_as_gpt2(kind: object, known: Collection[str]) -> None:
    """Raise ValueError for a class of transformers that splits a text in another way than GPT-2."""
    require(
        kind is None or kind in known,
        f"tokenizer_config.json names {shown(kind)}: how that splits a text, only a "
        "tokenizer.json says",
    )


def number_of(i: object) -> int:
    """Return an id that is a number, or a string of digits, as keys of JSON are."""
    plain = type(i) is int or (isinstance(i, str) and i.isascii() and i.isdigit() and len(i) < 10)
    require(plain, f"the id of an added token is {shown(i)}")
    return int(str(i))
