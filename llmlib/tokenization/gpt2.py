"""GPT-2's own tokenizer, made from the `gpt2/vocab.bpe` of the course with no network.

Written by hand. Notebook 01 makes five merges, and notebook 09 builds the algorithm.
"""

import hashlib
import json
import threading
from functools import cache

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


GPT2_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"  # vocab.bpe
# tiktoken's way to write GPT-2's pattern; it finds the same pieces, with fewer ways to try.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
ONE_AT_A_TIME = threading.Lock()


@cache
def gpt2_encoding() -> tiktoken.Encoding:
    """Return GPT-2's tokenizer, made from the `gpt2/vocab.bpe` of the course with no network.

    Afterwards `tiktoken.get_encoding("gpt2")` works in this process too, and gives the same object.
    tiktoken's cache is neither read nor written. Raises ValueError if `vocab.bpe` differs from
    OpenAI's file in any byte.
    """
    source = shipped("gpt2/vocab.bpe")
    merges = source.read_bytes()
    digest = hashlib.sha256(merges).hexdigest()
    checks.gpt2_vocabulary(source, digest, GPT2_SHA256)
    byte_of = {symbol: byte for byte, symbol in gpt2_byte_symbols().items()}
    ids = json.loads(derive_encoder_json(merges.decode()))
    special = {END_OF_TEXT: ids.pop(END_OF_TEXT)}
    with ONE_AT_A_TIME:  # threads that all come first get the same object
        known = tiktoken.registry.ENCODINGS
        if "gpt2" not in known:
            ranks = {bytes(map(byte_of.__getitem__, token)): i for token, i in ids.items()}
            known["gpt2"] = tiktoken.Encoding(
                "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special
            )
        return known["gpt2"]
