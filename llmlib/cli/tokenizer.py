"""`llmlib tokenizer`: a tokenizer of any kind is learned from a text, and written to a file.

Written by hand. `--tokenizer FILE` of `llmlib prepare` and `llmlib train` reads such files, and
those of other programs that `BPETokenizer.load` knows.
"""

import json
from pathlib import Path

from llmlib.data import corpora
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.unigram import UnigramTokenizer
from llmlib.tokenization.wordpiece import WordPieceTokenizer
from llmlib.tokenization.words import CharTokenizer, WordTokenizer

KINDS = {
    "word": WordTokenizer,
    "char": CharTokenizer,
    "bpe": BPETokenizer,
    "wordpiece": WordPieceTokenizer,
    "unigram": UnigramTokenizer,
}


def tokenizer_command(
    data: str, out: str, kind: str = "bpe", vocab_size: int | None = None, pattern: str = "gpt2"
) -> int:
    """Do what the command line asks for, and say how well the tokenizer fits its text.

    The vocabulary is made from all of the text; `llmlib prepare --tokenizer bpe` makes one from the
    part to train on only.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    path = Path(out)
    if path.exists():
        raise ValueError(f"{path} exists: remove it, or name another file with --out")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder: make it, or name another file with --out")
    if kind != "bpe" and (path.suffix != ".json" or pattern != "gpt2"):
        raise ValueError(f"a {kind} tokenizer is written to a .json file and has no pattern")
    text = "\n\n".join(corpora.documents(data))
    if kind == "bpe":
        size = 4000 if vocab_size is None else vocab_size
        tokenizer = BPETokenizer.train(text, size, pattern=pattern, special_tokens=[END_OF_TEXT])
    else:
        tokenizer = KINDS[kind].from_text(text, vocab_size)
    tokenizer.save(path)
    beginning = text[:1_000_000]
    n_tokens = len(tokenizer.encode(beginning, disallowed_special=()))
    print(f"{path}: {kind} tokenizer, {tokenizer.vocab_size:,} token ids, "
          f"{len(beginning.encode()) / n_tokens:.2f} bytes a token")  # fmt: skip
    print(f"train with it: llmlib train {data} --tokenizer {path}")
    return 0


def kind_of(tokenizer: object) -> str:
    """The name that a tokenizer's class has in KINDS."""
    return next(name for name, kind in KINDS.items() if type(tokenizer) is kind)


def load_file(path: str | Path) -> object:
    """The tokenizer in a file or folder, whatever its kind.

    Raises ValueError for another file, or a tokenizer without `<|endoftext|>`; OSError.
    """
    path, kinds = Path(path), {kind.__name__: kind for kind in KINDS.values()}
    name = None
    if path.is_file() and path.suffix == ".json":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no tokenizer: {error}") from None
        name = content.get("tokenizer") if isinstance(content, dict) else None
    if name is not None and name not in list(kinds):
        raise ValueError(f"{path} holds a {name}: there are {', '.join(kinds)}")
    tokenizer = (kinds[name] if name else BPETokenizer).load(path)
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(f"{path} knows no {END_OF_TEXT}, which has to stand between documents")
    return tokenizer
