"""`llmlib prepare`: a text becomes a folder of token files that training maps into memory.

Written by hand. The folder holds train.npy and val.npy (uint16 where the ids fit, else uint32),
tokenizer.json unless it is GPT-2's, data.json with all that is to be known about them, and for
stories val_nats.npy, what each story of val.npy costs the world itself. `<|endoftext|>` follows
each document. The folder is made beside its place and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from llmlib import stories
from llmlib.cli.config import DATA, RECIPE, STORY_RECIPE, check_flags, nearest
from llmlib.cli.tokenizer import load_file
from llmlib.data import corpora
from llmlib.data.batches import split
from llmlib.tokenization import folders
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN, Tokenizer
from llmlib.tokenization.folders import KINDS, kind_of

FORMAT, VERSION = "llmlib data", 1


def prepare_command(data: str, out: str, **flags: object) -> int:
    """Do what the command line asks for, and say what was made."""
    recipe = STORY_RECIPE if data == "stories" else RECIPE
    defaults = {option.name: option.default for option in DATA}
    settings = defaults | {"tokenizer": recipe["tokenizer"]} | check_flags(flags)
    about = prepare(data, out, **settings)
    for part in ("train", "val"):
        counts = {name: f"{value:,}" for name, value in about[part].items() if "sha" not in name}
        print(f"{part:<6}" + ", ".join(f"{value} {name[2:]}" for name, value in counts.items()))
    print(f"{out}: {about['tokenizer']} tokenizer, {about['vocab_size']:,} token ids")
    print(f"train on it with: llmlib train {out}")
    return 0


def prepare(
    data: str,
    folder: str | Path,
    *,
    tokenizer: str,
    max_vocab: int | None = None,
    stories: int = 20_000,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> dict:
    """Make a folder of token files from a corpus or a text file; return what its data.json says.

    tokenizer: one of KINDS, "gpt2", or a file of `llmlib tokenizer`. A vocabulary is made from the
    part to train on only, as is right for what is to be new in the other part. Raises ValueError
    and OSError; no folder is left then.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists: remove it, or name another folder with --out")
    if tokenizer not in KINDS and max_vocab is not None:
        raise ValueError(f"max_vocab is for {', '.join(KINDS)}: {tokenizer} has learned already")
    parts, nats = divide(data, stories, val_fraction, seed)
    encoder = make_tokenizer(tokenizer, parts["train"], max_vocab)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "corpus": data if data in {corpus.name for corpus in corpora.CORPORA} else Path(data).name,
        "rows": "documents" if nats is not None else "windows",
        "tokenizer": tokenizer if tokenizer == "gpt2" else kind_of(encoder),
        "vocab_size": encoder.vocab_size,
        "end_of_text": encoder.special_tokens[END_OF_TEXT],
    }
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        for name, documents in parts.items():
            ids = encode_documents(encoder, documents, name)
            np.save(beside / f"{name}.npy", ids)
            about[name] = {
                "n_documents": len(documents),
                "n_tokens": len(ids),
                "n_bytes": sum(len(text.encode()) for text in documents),
                "n_unknown": count_unknown(encoder, ids),
                "sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
            }
        if nats is not None:
            np.save(beside / "val_nats.npy", np.array(nats))
        if tokenizer != "gpt2":
            encoder.save(beside / "tokenizer.json")
        (beside / "data.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return about


def divide(
    data: str, n_stories: int, val_fraction: float, seed: int
) -> tuple[dict[str, list[str]], list[float] | None]:
    """The documents to train on and to validate on, and for stories what each of the latter costs.

    Documents are divided as wholes, equal ones to the same side. A single text is cut once, where
    a paragraph ends: paragraphs drawn from everywhere would be surrounded by what was trained on.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}: it must lie between 0 and 1")
    if data == "stories":
        told = {story.text: story.log_prob for story in stories.tell_many(n_stories, seed)}
        train, val = split(list(told), val_fraction, seed)
        return {"train": train, "val": val}, [-told[text] for text in val]
    documents = corpora.documents(data)
    if len(documents) > 1:
        train, val = split(documents, val_fraction, seed)
    else:
        train, val = ([part] for part in cut(documents[0], val_fraction))
    return {"train": train, "val": val}, None


def cut(text: str, val_fraction: float) -> tuple[str, str]:
    """Divide a text into beginning and end, at the end of a paragraph, a line or a word."""
    limit = round((1 - val_fraction) * len(text))
    for separator in ("\n\n", "\n", " "):
        place = text.rfind(separator, 0, limit) + len(separator)
        if place >= max(limit // 2, len(separator)) and text[:place].strip():
            break
    else:
        place = limit
    if not text[:place].strip() or not text[place:].strip():
        raise ValueError(f"a text of {len(text)} characters is too short to be divided")
    return text[:place], text[place:]


def make_tokenizer(kind: str, documents: Sequence[str], max_vocab: int | None) -> Tokenizer:
    """Return a tokenizer of a kind, learned from the documents, or the one in a file."""
    if kind == "gpt2":
        return folders.load_tokenizer(kind)
    if kind in KINDS:
        return KINDS[kind].from_text("\n".join(documents), max_vocab)
    if not Path(kind).exists():
        near = nearest(kind, [*KINDS, "gpt2"])
        raise ValueError(
            f"no tokenizer and no file is called {kind!r}{near or '.'} There are "
            f"{', '.join(KINDS)}, gpt2, and files of `llmlib tokenizer`"
        )
    return load_file(kind)


def load_tokenizer(folder: Path, kind: str) -> Tokenizer:
    """Return the tokenizer of a prepared folder. Raises ValueError or OSError if it is damaged."""
    return folders.load_tokenizer(kind if kind == "gpt2" else folder / "tokenizer.json")


def encode_documents(tokenizer: Tokenizer, documents: Sequence[str], label: str = "") -> np.ndarray:
    """The ids of documents one after another, each with `<|endoftext|>` behind it."""
    end = np.array([tokenizer.special_tokens[END_OF_TEXT]])
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    pieces = []
    for text in tqdm(documents, desc=label, disable=None if label else True, leave=False):
        # a special token that stands in somebody's text is text, not a command
        pieces += [tokenizer.encode(text, disallowed_special=()), end]
    return np.concatenate([np.asarray(piece, dtype=dtype) for piece in pieces])


def count_unknown(tokenizer: Tokenizer, ids: np.ndarray) -> int:
    """Count the ids that stand for a piece of text that the tokenizer does not know."""
    special = tokenizer.special_tokens
    return int((ids == special[UNKNOWN]).sum()) if UNKNOWN in special else 0
