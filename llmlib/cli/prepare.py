"""`llmlib prepare`: a text becomes a folder of token files that training maps into memory.

Written by hand. The folder holds train.npy and val.npy (uint16 if the ids fit, else uint32),
tokenizer.json unless it is GPT-2's, data.json, which describes them, and for stories val_nats.npy,
the least that each story of val.npy can cost any model. `<|endoftext|>` follows each document.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from llmlib import checks, files, stories
from llmlib.cli.settings import DATA, check_flags, did_you_mean, settle
from llmlib.data import corpora
from llmlib.data.batches import split
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN, Tokenizer
from llmlib.tokenization.folders import KINDS, kind_of, load_tokenizer

FORMAT, VERSION = "llmlib data", 1  # of a prepared folder


def prepare_command(data: str, out: str, **flags: object) -> int:
    """Do what the command line asks for, and say what was made."""
    if Path(out).exists():
        raise ValueError(f"{out} exists: remove it, or name another folder with --out")
    settings = settle(check_flags({"data": data, **flags}))
    about = prepare(
        data, out, **{setting.name: getattr(settings, setting.name) for setting in DATA}
    )
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

    tokenizer: one of KINDS, "gpt2", or a file of `llmlib tokenizer`. A tokenizer is learned from
    the training part only, since the validation part stands for texts that nobody has seen.
    Raises ValueError and OSError, and then leaves no folder.
    """
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
    with files.making_folder(folder) as beside:
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
        files.write_json(beside / "data.json", about, indent=1)
    return about


def divide(
    data: str, n_stories: int, val_fraction: float, seed: int
) -> tuple[dict[str, list[str]], list[float] | None]:
    """Return the documents to train and to validate on, and of stories the cost of the latter.

    No document is divided, and equal ones go to the same side. A single text is cut once, where a
    paragraph ends: paragraphs drawn from everywhere would be surrounded by what was trained on.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}: it must be between 0 and 1")
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
    """Cut a text in two, at the end of a paragraph, a line or a word."""
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
    """Return a tokenizer of a kind, learned from the documents, or the one of a name or a file."""
    if kind in KINDS:
        return KINDS[kind].from_text("\n".join(documents), max_vocab)
    if kind != "gpt2" and not Path(kind).exists():
        near = did_you_mean(kind, [*KINDS, "gpt2"])
        raise ValueError(
            f"no tokenizer and no file is called {kind!r}{near or '.'} There are "
            f"{', '.join(KINDS)}, gpt2, and files of `llmlib tokenizer`"
        )
    return open_tokenizer(kind)


def open_tokenizer(source: str | Path) -> Tokenizer:
    """Return the tokenizer of a name, a file or a folder, if it can end a document.

    Raises as `load_tokenizer` does, and ValueError for one without `<|endoftext|>`.
    """
    tokenizer = load_tokenizer(source)
    checks.ends_documents(tokenizer.special_tokens, source)
    return tokenizer


def encode_documents(tokenizer: Tokenizer, documents: Sequence[str], label: str = "") -> np.ndarray:
    """Return the ids (N,) of documents one after another, each with `<|endoftext|>` behind it."""
    end = [tokenizer.special_tokens[END_OF_TEXT]]
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    pieces = []
    for text in tqdm(documents, desc=label, disable=None if label else True, leave=False):
        # a special token that stands in the text of a document is text, not a command
        pieces += [tokenizer.encode(text, disallowed_special=()), end]
    return np.concatenate([np.asarray(piece, dtype=dtype) for piece in pieces])


def count_unknown(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> int:
    """Return how many ids stand for text that the tokenizer does not know."""
    return int(np.count_nonzero(np.asarray(ids) == tokenizer.special_tokens.get(UNKNOWN, -1)))
