"""`llmlib prepare`: a text becomes a folder of token files that training maps into memory.

Written by hand. The folder holds train.npy and val.npy (uint16 if the ids fit, else uint32),
tokenizer.json unless it is GPT-2's, data.json, which describes them, and for stories val_nats.npy,
the least that each story of val.npy can cost any model. `<|endoftext|>` follows each document.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llmlib import checks, files, stories
from llmlib.cli.settings import check_flags, settle
from llmlib.data import corpora
from llmlib.data.batches import split
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN, Tokenizer
from llmlib.tokenization.folders import KINDS, kind_of, load_tokenizer

FORMAT, VERSION = "llmlib data", 1  # of a prepared folder


def prepare_command(data: str, out: str, **flags: object) -> int:
    """Do what the command line asks for, and say what was made."""
    checks.require(not Path(out).exists(), f"{out} exists: remove it, or choose another --out")
    about = prepare(data, out, **flags)
    for part in ("train", "val"):
        counts = [f"{n:,} {name[2:]}" for name, n in about[part].items() if name != "sha256"]
        print(f"{part:<6}" + ", ".join(counts))
    print(f"{out}: {about['tokenizer']} tokenizer, {about['vocab_size']:,} token ids")
    print(f"train on it with: llmlib train {out}")
    return 0


def prepare(data: str, folder: str | Path, **given: object) -> dict:
    """Make a folder of token files from a corpus or a text file; return what its data.json says.

    given: settings of DATA. A tokenizer is learned from the training part only, since the
    validation part stands for texts that nobody has seen.
    Raises ValueError and OSError, and then leaves no folder.
    """
    settings = settle(check_flags({"data": data, **given}))
    kind = settings.tokenizer
    if kind not in KINDS and settings.max_vocab is not None:
        raise ValueError(f"max_vocab is for {', '.join(KINDS)}: {kind} has learned already")
    train, val, nats = divide(data, settings.stories, settings.val_fraction, settings.seed)
    tokenizer = make_tokenizer(kind, train, settings.max_vocab)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "corpus": Path(data).name,
        "rows": "documents" if nats else "windows",
        "tokenizer": kind if kind == "gpt2" else kind_of(tokenizer),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.special_tokens[END_OF_TEXT],
    }
    with files.making_folder(folder) as beside:
        for name, documents in {"train": train, "val": val}.items():
            ids, about[name] = encode_documents(tokenizer, documents, name)
            np.save(beside / f"{name}.npy", ids)
        if nats:
            np.save(beside / "val_nats.npy", np.array(nats))
        if kind != "gpt2":
            tokenizer.save(beside / "tokenizer.json")
        files.write_json(beside / "data.json", about, indent=1)
    return about


def divide(
    data: str, n_stories: int, val_fraction: float, seed: int
) -> tuple[list[str], list[str], list[float]]:
    """Return the documents to train and to validate on, and of stories the cost of the latter.

    No document is divided, and equal ones go to the same side. A single text is cut once, where a
    paragraph ends: paragraphs drawn from everywhere would be surrounded by what was trained on.
    """
    checks.number("val_fraction", val_fraction, lambda x: 0 < x < 1, "between 0 and 1")
    told = stories.tell_many(n_stories, seed) if data == "stories" else []
    log_probs = {story.text: story.log_prob for story in told}
    documents = list(log_probs) or corpora.documents(data)
    if told or len(documents) > 1:
        train, val = split(documents, val_fraction, seed)
    else:
        train, val = ([part] for part in cut(documents[0], val_fraction))
    return train, val, [-log_probs[text] for text in val if told]


def cut(text: str, val_fraction: float) -> tuple[str, str]:
    """Cut a text in two, at the end of a paragraph, a line or a word."""
    first = text[: round((1 - val_fraction) * len(text))]
    for separator in ("\n\n", "\n", " "):
        shorter = "".join(first.rpartition(separator)[:2])
        if len(shorter) >= len(first) // 2 and shorter.strip():
            first = shorter
            break
    rest = text[len(first) :]
    whole = first.strip() and rest.strip()
    checks.require(whole, f"a text of {len(text)} characters is too short to be divided")
    return first, rest


def make_tokenizer(kind: str, documents: Sequence[str], max_vocab: int | None) -> Tokenizer:
    """Return a tokenizer of a kind, learned from the documents, or the one of a name or a file."""
    if kind in KINDS:
        return KINDS[kind].from_text("\n".join(documents), max_vocab)
    if not Path(kind).exists():
        checks.known_name("tokenizer", kind, [*KINDS, "gpt2", "any file of `llmlib tokenizer`"])
    return open_tokenizer(kind)


def open_tokenizer(source: str | Path) -> Tokenizer:
    """Return the tokenizer of a name, a file or a folder, if it can end a document.

    Raises as `load_tokenizer` does, and ValueError for one without `<|endoftext|>`.
    """
    tokenizer = load_tokenizer(source)
    checks.ends_documents(tokenizer.special_tokens, source)
    return tokenizer


def encode_documents(
    tokenizer: Tokenizer, documents: Sequence[str], label: str = ""
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the ids (N,) of documents one after another, each with `<|endoftext|>` behind it.

    And what data.json says about them; n_unknown of the ids stand for text that the tokenizer does
    not know.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    bar = tqdm(documents, desc=label, disable=None if label else True, leave=False)
    # a special token that stands in the text of a document is text, not a command
    rows = ([*tokenizer.encode(text, disallowed_special=()), end] for text in bar)
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    ids = np.fromiter(chain.from_iterable(rows), dtype)
    return ids, {
        "n_documents": len(documents),
        "n_tokens": len(ids),
        "n_bytes": sum(len(text.encode()) for text in documents),
        "n_unknown": int((ids == tokenizer.special_tokens.get(UNKNOWN, -1)).sum()),
        "sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
    }
