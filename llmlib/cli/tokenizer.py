"""`llmlib tokenizer`: a tokenizer of any kind is learned from a text and written to a file.

Written by hand. `--tokenizer FILE` of `llmlib prepare` and `llmlib train` reads such files, and
whatever else `llmlib.tokenization.folders.load_tokenizer` knows.
"""

import os
from pathlib import Path

from llmlib import checks
from llmlib.data import corpora
from llmlib.data.division import survey
from llmlib.data.texts import SEPARATOR, separator_of
from llmlib.messages import pasted, quoted
from llmlib.tokenization.folders import KINDS
from llmlib.tokenization.learning import learn


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

    It learns from all of the text; `llmlib prepare --tokenizer bpe` learns from the training part.
    """
    checks.one_of("kind", kind, KINDS)
    path = Path(out)
    fits = kind == "bpe" or (path.suffix == ".json" and pattern == "gpt2")
    taken = f"{path} exists: remove it, or name another file with --out"
    checks.require(not os.path.lexists(path), taken)
    checks.require(path.parent.is_dir(), f"{path.parent} is not a folder: make it, or change --out")
    checks.require(fits, f"a {kind} tokenizer is written to a .json file and has no pattern")
    checks.holds_end_of_text(path)
    texts = corpora.texts(data, separator_of(separator), text_field)
    found = survey(texts)
    checks.some_text(data, len(found.blank), len(found.keys))
    settings = {"pattern": pattern} if kind == "bpe" else {}
    tokenizer = learn(kind, texts, found.n_bytes, vocab_size, **settings)
    tokenizer.save(path)
    beginning = next(text for _, text in texts if text.strip())[:1_000_000]
    n_tokens = len(tokenizer.encode(beginning, disallowed_special=()))
    print(f"{path}: {kind} tokenizer, {tokenizer.vocab_size:,} token ids, "
          f"{len(beginning.encode()) / n_tokens:.2f} bytes per token")  # fmt: skip
    command = f"llmlib train {quoted(data)} --tokenizer {quoted(path, [*KINDS, 'gpt2'])}"
    # =, as a text may begin with a dash
    command += f" --separator={pasted(separator)}" * (separator != SEPARATOR)
    command += f" --text-field={pasted(text_field)}" * (text_field != "text")
    print(f"train with it: {command}")
    return 0
