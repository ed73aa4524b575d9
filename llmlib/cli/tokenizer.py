"""`llmlib tokenizer`: a tokenizer of any kind is learned from a text and written to a file.

Written by hand. `--tokenizer FILE` of `llmlib prepare` and `llmlib train` reads such files, and
whatever else `llmlib.tokenization.folders.load_tokenizer` knows.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from llmlib import checks
from llmlib.cli.console import tell
from llmlib.data import corpora
from llmlib.data.division import survey
from llmlib.data.texts import SEPARATOR, separator_of
from llmlib.messages import quoted, quoted_word
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import KINDS
from llmlib.tokenization.learning import learn, one_in


def tokenizer_command(
    data: str,
    out: str,
    kind: str = "bpe",
    vocab_size: int | None = None,
    pattern: str = "gpt2",
    separator: str = SEPARATOR,
    text_field: str = "text",
) -> int:
    """Do what the command line asks for, and say how well the tokenizer fits its text.

    It learns from the whole text, `llmlib prepare --tokenizer bpe` from the training part; where
    that is very long, from a part of it.
    """
    checks.one_of("kind", kind, KINDS)
    path = Path(out)
    fits = kind == "bpe" or (path.suffix == ".json" and pattern == "gpt2")
    taken = f"{path} exists: remove it, or name another file with --out"
    checks.require(not os.path.lexists(path), taken)
    checks.require(path.parent.is_dir(), f"{path.parent} is not a folder: make it, or change --out")
    checks.require(fits, f"a {kind} tokenizer is written to a .json file and has no pattern")
    checks.holds_end_of_text(path)
    if kind == "bpe":  # what the file cannot hold is not found out after hours of learning
        with TemporaryDirectory() as place:
            BPETokenizer([], [END_OF_TEXT], pattern=pattern).save(Path(place, path.name))
    texts = corpora.texts(data, separator_of(separator), text_field)
    found = survey(texts)
    checks.some_text(data, len(found.blank), len(found.keys))
    tell_cuts(data, len(found.keys), texts, separator)
    tell_sample(kind, found.n_bytes)
    settings = {"pattern": pattern} if kind == "bpe" else {}
    tokenizer = learn(kind, texts, found.n_bytes, vocab_size, **settings)
    tokenizer.save(path)
    beginning = next(text for _, text in texts if text.strip())[:1_000_000]
    n_tokens = len(tokenizer.encode(beginning, disallowed_special=()))
    print(f"{path}: {kind} tokenizer, {tokenizer.vocab_size:,} token ids, "
          f"{len(beginning.encode()) / n_tokens:.2f} bytes per token")  # fmt: skip
    flags = f" {quoted_word(f'--separator={separator}')}" * (separator != SEPARATOR)
    flags += f" {quoted_word(f'--text-field={text_field}')}" * (text_field != "text")
    file = quoted(path, [*KINDS, "gpt2"])
    print(f"train with it: llmlib train {quoted(data)} --tokenizer {file}{flags}")
    return 0


def tell_cuts(data: str, n_documents: int, texts: object, separator: str) -> None:
    """Say how many documents a text was cut into, and if the separator that was given cut none."""
    n, mark = getattr(texts, "n_separators", None), f"{separator!r:.40}"
    if n:
        tell(f"{data}: {n_documents:,} documents, cut at {n:,} times {mark}")
    elif n == 0 and separator not in (SEPARATOR, "none"):
        tell(f"{data}: it does not hold the separator {mark}, so nothing is cut there")


def tell_sample(kind: str, n_bytes: int) -> None:
    """Say if a text is so long that a tokenizer of a kind learns from a part of it."""
    if (n := one_in(kind, n_bytes)) > 1:
        tell(f"the tokenizer learns from one piece in {n} of the text, which is long enough")
