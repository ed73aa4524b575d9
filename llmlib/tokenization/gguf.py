"""The tokenizer inside a GGUF file, and the file itself, read once.

Written by hand. The package `gguf` reads the container; tokens, merges and the name of a way to
split a text become what a tokenizer.json would say, and `PipelineTokenizer` does it. Left out: the
tokenizers of SentencePiece, and ways to split that are not in SPLITS.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from llmlib import checks
from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.pipeline import PipelineTokenizer

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
GPT2 = BYTE_LEVEL | {"use_regex": True}
# llama.cpp's names for ways to split a text, as steps of a tokenizer.json
SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [GPT2],
    "smollm": [{"type": "Digits", "individual_digits": True}, GPT2],
}
CONTROL, USER_DEFINED = 3, 4  # types of tokens


def open_gguf(path: str | Path) -> GGUFReader:
    """Return the reader of a file; the last one is kept, since reading the fields takes seconds.

    Raises FileError for a file that is damaged or of another kind.
    """
    path = Path(path)
    with checks.blame(path, about="it is not a whole GGUF file: "), checks.whole_gguf():
        checks.gguf_magic(path)
        status = path.stat()
        return reader_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def reader_of(path: Path, time: int, size: int) -> GGUFReader:
    """Return a reader, for a file of a time and a size."""
    return GGUFReader(str(path))


def field_of(reader: GGUFReader, name: str, default: Any = None) -> Any:
    """Return the content of a field, or a default where the file does not have it."""
    field = reader.fields.get(name)
    return default if field is None else field.contents()


def read_tokenizer(path: str | Path) -> PipelineTokenizer:
    """Return the tokenizer in a GGUF file. Raises FileError for one that is not read here."""
    reader = open_gguf(path)
    with checks.blame(Path(path)):
        kind, split = (field_of(reader, f"tokenizer.ggml.{name}") for name in ("model", "pre"))
        checks.gguf_tokenizer(kind, split, SPLITS)
        tokens = field_of(reader, "tokenizer.ggml.tokens")
        types = field_of(reader, "tokenizer.ggml.token_type", [1] * len(tokens))
        merges = field_of(reader, "tokenizer.ggml.merges", [])
        tokenizer = PipelineTokenizer(tokenizer_json(tokens, types, merges, split))
        end = field_of(reader, "tokenizer.ggml.eos_token_id")
        if end is not None and tokens[end] in tokenizer.special_tokens:
            tokenizer.end_token = tokens[end]
        return tokenizer


def read_template(path: str | Path) -> str | None:
    """Return the Jinja template of a conversation in a GGUF file, or None."""
    return field_of(open_gguf(path), "tokenizer.chat_template")


def tokenizer_json(
    tokens: list[str], types: list[int], merges: list[str], split: str
) -> dict[str, Any]:
    """Return what a tokenizer.json would say of a byte-level BPE in a GGUF file."""
    vocab = {token: i for i, token in enumerate(tokens)}
    added = [
        vars(AddedToken(token, i, special=kind == CONTROL))
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
    return {
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": SPLITS[split]},
        "decoder": GPT2,
        "model": {"type": "BPE", "vocab": vocab, "merges": checks.merge_pairs(merges, vocab)},
    }
