"""`llmlib prepare`: a text becomes a folder of token files that training maps into memory.

Written by hand. The folder holds train.npy and val.npy (uint16 if the ids fit, else uint32),
tokenizer.json unless it is GPT-2's, data.json, which describes them, and for stories val_nats.npy,
the least that each story of val.npy can cost any model. `<|endoftext|>` follows each document.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tqdm import tqdm

from llmlib import checks, files, stories
from llmlib.cli.console import tell
from llmlib.cli.settings import check_flags, settle
from llmlib.cli.tokenizer import tell_cuts, tell_sample
from llmlib.data import corpora
from llmlib.data.corpora import NAMES
from llmlib.data.division import TRAIN, VAL, Division, divide
from llmlib.data.texts import separator_of
from llmlib.data.token_files import ArrayWriter, write_array
from llmlib.messages import quoted, quoted_word
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.documents import encode_parts
from llmlib.tokenization.folders import KINDS, kind_of, load_tokenizer
from llmlib.tokenization.learning import learn
from llmlib.tokenization.prepared import write_about

PARTS = {TRAIN: "train", VAL: "val"}


def prepare_command(data: str, out: str, **flags: object) -> int:
    """Do what the command line asks for, and say what was made."""
    checks.require(not os.path.lexists(out), f"{out} exists: remove it, or choose another --out")
    about = prepare(data, out, **flags)
    for part in ("train", "val"):
        counts = [f"{n:,} {name[2:]}" for name, n in about[part].items() if name != "sha256"]
        print(f"{part:<6}" + ", ".join(counts))
    print(f"{out}: {about['tokenizer']} tokenizer, {about['vocab_size']:,} token ids")
    print(f"train on it with: llmlib train {quoted(out, NAMES)}")
    return 0


def prepare(data: str, folder: str | Path, **given: object) -> dict:
    """Make a folder of token files from a corpus or a text; return what its data.json says.

    given: settings of DATA. A tokenizer is learned from the training part only, since the
    validation part stands for texts that nobody has seen. The text is read several times, piece by
    piece, and may be larger than memory.
    Raises ValueError and OSError, and then leaves no folder.
    """
    settings = settle(check_flags({"data": data, **given}))
    kind = settings.tokenizer
    if kind not in KINDS and settings.max_vocab is not None:
        raise ValueError(f"max_vocab is for {', '.join(KINDS)}: {kind} has learned already")
    checks.number("val_fraction", settings.val_fraction, lambda x: 0 < x < 1, "between 0 and 1")
    texts, log_probs = open_texts(data, settings)
    division = divide(texts, settings.val_fraction, settings.seed, data)
    tell_cuts(data, division.n_documents, texts, settings.separator)
    tokenizer = make_tokenizer(kind, division, texts, settings.max_vocab)
    tokenizer = ending_with(settings.end_token, tokenizer, kind)
    about: dict[str, Any] = {
        "corpus": data if corpora.is_name(data) else f"./{Path(data).name}",
        "rows": "documents" if log_probs else "windows",
        "tokenizer": kind if kind == "gpt2" else kind_of(tokenizer),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.eot_token,
        "text_sha256": division.sha256,
        "n_separators": getattr(texts, "n_separators", 0),
    }
    if settings.end_token != END_OF_TEXT:
        about["end_token"] = settings.end_token
    with files.making_folder(folder) as beside:
        about |= write_ids(beside, tokenizer, division, texts)
        if log_probs:
            nats = -np.array(log_probs)[division.sides == VAL]
            about["val_nats_sha256"] = write_array(beside / "val_nats.npy", nats)
        if kind != "gpt2":
            tokenizer.save(beside / "tokenizer.json")
        return write_about(beside, about)


def open_texts(data: str, settings: SimpleNamespace) -> tuple[Iterable[tuple[int, str]], list]:
    """Return texts as `divide` reads them, and of each story that was told its log-probability."""
    if data == "stories":
        corpora.note_shadowed(data)
        told = stories.tell_many(settings.stories, settings.seed)
        log_probs = {story.text: story.log_prob for story in told}
        return list(enumerate(log_probs)), list(log_probs.values())
    return corpora.texts(data, separator_of(settings.separator), settings.text_field), []


def write_ids(
    folder: Path, tokenizer: Tokenizer, division: Division, texts: Iterable[tuple[int, str]]
) -> dict[str, dict]:
    """Write train.npy and val.npy, and return what data.json says about them."""
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    about: dict[str, dict] = {name: {} for name in PARTS.values()}
    special = tokenizer.special_tokens if len(tokenizer.special_tokens) <= 16 else ()
    marks = Counter(dict.fromkeys([tokenizer.end_token, END_OF_TEXT, *special], 0))
    bar = tqdm(total=division.n_bytes, unit="B", unit_scale=True, disable=None, leave=False)
    with (
        ArrayWriter(folder / "train.npy", dtype) as train,
        ArrayWriter(folder / "val.npy", dtype) as val,
        bar,
    ):
        for part, ids, counts in encode_parts(tokenizer, counting(marks, division.parts(texts))):
            (val if part == VAL else train).append(ids)
            said = about[PARTS[part]]
            said |= {name: said.get(name, 0) + n for name, n in counts.items()}
            bar.update(counts["n_bytes"])
    about["train"]["sha256"], about["val"]["sha256"] = train.sha256, val.sha256
    for mark, n in (+marks).items():
        flag = quoted_word(f"--separator={mark}")
        tell(f"{mark} stands in the documents {n:,} times, as plain text: {flag} would cut there")
    return about


def counting(
    marks: Counter[str], parts: Iterable[tuple[int, int, str]]
) -> Iterator[tuple[int, int, str]]:
    """Yield parts of documents, and count the strings in them that are tokens elsewhere."""
    longest, last, end = max(map(len, marks)), -1, ""
    for side, number, text in parts:
        before = end if number == last else ""  # a string may lie across two parts
        whole, last = before + text, number
        marks.update({mark: whole.count(mark) - before.count(mark) for mark in marks})
        end = whole[1 - longest :]
        yield side, number, text


def make_tokenizer(
    kind: str, division: Division, texts: Iterable[tuple[int, str]], max_vocab: int | None
) -> Tokenizer:
    """Return a tokenizer of a kind, learned from what is to train on, or that of a name or file."""
    if kind in KINDS:
        tell_sample(kind, division.n_bytes)
        parts = ((n, text) for side, n, text in division.parts(texts) if side == TRAIN)
        return learn(kind, parts, division.n_bytes, max_vocab)
    if not Path(kind).exists():
        checks.known_name("tokenizer", kind, [*KINDS, "gpt2", "any file of `llmlib tokenizer`"])
    return load_tokenizer(kind)


def open_tokenizer(source: str | Path, end_token: str = END_OF_TEXT) -> Tokenizer:
    """Return the tokenizer of a name, a file or a folder, if it can end a document.

    Raises as `load_tokenizer` does, and ValueError for one without the end_token.
    """
    return ending_with(end_token, load_tokenizer(source), source)


def ending_with(end_token: str, tokenizer: Tokenizer, source: str | Path) -> Tokenizer:
    """Return a tokenizer that ends documents with a special token; ValueError if it lacks that."""
    checks.ends_documents(tokenizer.special_tokens, source, end_token)
    tokenizer.end_token = end_token
    return tokenizer


def encode_documents(
    tokenizer: Tokenizer, documents: Sequence[str]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the ids (N,) of documents one after another, each with `<|endoftext|>` behind it.

    And how many there were of what; n_unknown of the ids stand for text that the tokenizer does not
    know.
    """
    checks.ends_documents(tokenizer.special_tokens, "the tokenizer", tokenizer.end_token)
    found = list(encode_parts(tokenizer, ((TRAIN, n, text) for n, text in enumerate(documents))))
    totals = {name: sum(counts[name] for *_, counts in found) for name in found[0][2]}
    return np.concatenate([ids for _, ids, _ in found]), totals
