# From notebooks/01_data_preparation.ipynb: edit there, then run make export.

"""GPT-2's own tokenizer, made from the `gpt2/vocab.bpe` of the course with no network.

Built in notebook 01. Notebook 09 builds the algorithm itself.
"""

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path

import tiktoken

from llmlib import checks
from llmlib.files import shipped
from llmlib.tokenization.base import END_OF_TEXT


def gpt2_byte_symbols() -> dict[int, str]:
    """Return the visible character that GPT-2's files write for each byte, in order of the ids."""
    printable = {byte: chr(byte) for byte in range(ord("!"), 256) if chr(byte).isprintable()}
    others = [byte for byte in range(256) if byte not in printable]
    return printable | {byte: chr(256 + n) for n, byte in enumerate(others)}


def derive_encoder_json(vocab_bpe: str) -> str:
    """Derive GPT-2's `encoder.json` (token -> id) from the text of its `vocab.bpe`."""
    merges = vocab_bpe.split("\n")[1:-1]  # without the version, and the empty last line
    merged = [merge.replace(" ", "") for merge in merges]
    tokens = [*gpt2_byte_symbols().values(), *merged, END_OF_TEXT]
    return json.dumps({token: number for number, token in enumerate(tokens)})


GPT2_FILES = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
GPT2_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"  # vocab.bpe


@cache
def gpt2_encoding() -> tiktoken.Encoding:
    """Return GPT-2's tokenizer, made from the `gpt2/vocab.bpe` of the course with no network.

    Afterwards `tiktoken.get_encoding("gpt2")` works in this process too. The user's own
    TIKTOKEN_CACHE_DIR is neither read nor written. Raises ValueError if `vocab.bpe` differs from
    OpenAI's file in any byte.
    """
    source = shipped("gpt2/vocab.bpe")
    merges = source.read_bytes()
    digest = hashlib.sha256(merges).hexdigest()
    checks.gpt2_vocabulary(source, digest, GPT2_SHA256)
    contents = {"vocab.bpe": merges, "encoder.json": derive_encoder_json(merges.decode()).encode()}
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            # tiktoken names a cached file by the SHA-1 of its address
            cached = hashlib.sha1(f"{GPT2_FILES}/{name}".encode()).hexdigest()
            Path(folder, cached).write_bytes(content)
        os.environ["TIKTOKEN_CACHE_DIR"] = folder
        try:
            return tiktoken.get_encoding("gpt2")
        finally:
            del os.environ["TIKTOKEN_CACHE_DIR"]
            if before is not None:
                os.environ["TIKTOKEN_CACHE_DIR"] = before
