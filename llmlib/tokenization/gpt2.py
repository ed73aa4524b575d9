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

from llmlib.files import shipped
from llmlib.tokenization.base import END_OF_TEXT

GPT2_FILES = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"


def gpt2_byte_symbols() -> dict[int, str]:
    """Return the visible character that GPT-2's files write for each byte, in order of the ids."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + n) for n, byte in enumerate(others)
    }


def derive_encoder_json(vocab_bpe: str) -> str:
    """Derive GPT-2's `encoder.json` (token -> id) from the text of its `vocab.bpe`."""
    merges = vocab_bpe.split("\n")[1:-1]
    tokens = [
        *gpt2_byte_symbols().values(),
        *(merge.replace(" ", "") for merge in merges),
        END_OF_TEXT,
    ]
    return json.dumps({token: number for number, token in enumerate(tokens)})


@cache
def gpt2_encoding() -> tiktoken.Encoding:
    """Return GPT-2's tokenizer, made from the `gpt2/vocab.bpe` of the course with no network.

    Afterwards `tiktoken.get_encoding("gpt2")` works in this process too. The user's own
    TIKTOKEN_CACHE_DIR is neither read nor written. Raises ValueError where `vocab.bpe` is not
    OpenAI's file, to the byte.
    """
    source = shipped("gpt2/vocab.bpe")
    vocab_bpe = source.read_bytes()
    if (
        hashlib.sha256(vocab_bpe).hexdigest()
        != "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    ):
        raise ValueError(
            f"{source} is not GPT-2's vocabulary: restore it with `git checkout gpt2/vocab.bpe`"
        )
    files = {
        "vocab.bpe": vocab_bpe,
        "encoder.json": derive_encoder_json(vocab_bpe.decode()).encode(),
    }
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    with tempfile.TemporaryDirectory() as cache:
        for name, content in files.items():
            # tiktoken names a cached file by the SHA-1 of its address
            (Path(cache) / hashlib.sha1(f"{GPT2_FILES}/{name}".encode()).hexdigest()).write_bytes(
                content
            )
        os.environ["TIKTOKEN_CACHE_DIR"] = cache
        try:
            return tiktoken.get_encoding("gpt2")
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before
