"""Byte-level BPE in Python against the Rust of Hugging Face (training) and of tiktoken (encoding).

One run, one thread. Each time is the best of a few, the contestants taking turns; every result is
checked to be equal. Run from the checkout: python benchmarks/tokenizers.py [--repeat 3]
"""

import argparse
import json
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

# before the libraries are imported: a thread each, so that the work is compared
os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
sys.path.remove(str(Path(__file__).parent))  # or `import tokenizers` would find this file

import tokenizers as hf

from llmlib.data import corpora
from llmlib.files import home
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.formats import as_bytes
from llmlib.tokenization.gpt2 import gpt2_encoding


def ten_megabytes() -> str:
    """Text of many kinds: wiki, python-docs, and the source of the standard library."""
    parts, size = [corpora.load("wiki"), corpora.load("python-docs")], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        size = sum(map(len, parts))
        if size > 10_000_000:
            break
        if "site-packages" not in path.parts:
            parts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n\n".join(parts)[:10_000_000]


def train_hugging_face(text: str, vocab_size: int) -> hf.Tokenizer:
    """Learn merges with the trainer in Rust."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def merges_of(tokenizer: hf.Tokenizer) -> list[tuple[bytes, bytes]]:
    """The merges of a tokenizer of Hugging Face, as bytes."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(as_bytes(part) for part in merge) for merge in merges]


def timed(function: Callable, *arguments: object) -> tuple[float, object]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def compare_training(name: str, text: str, vocab_size: int, repeat: int) -> None:
    """Print a row: seconds of both, and how fast ours is."""
    ours, theirs = [], []
    for _ in range(repeat):
        seconds, tokenizer = timed(BPETokenizer.train, text, vocab_size)
        ours.append(seconds)
        seconds, reference = timed(train_hugging_face, text, vocab_size)
        theirs.append(seconds)
    equal = merges_of(reference) == tokenizer.merges
    print(
        f"{f'{name} to {vocab_size:,}':28s}{min(theirs):10.2f} s{min(ours):10.2f} s"
        f"{min(theirs) / min(ours):9.2f}   {'equal merges' if equal else 'DIFFERENT MERGES'}",
        flush=True,
    )


def compare_encoding(name: str, text: str, repeat: int) -> None:
    """Print two rows: megabytes per second with an empty memory, and with a full one."""
    encoding, vocabulary = gpt2_encoding(), home() / "gpt2" / "vocab.bpe"
    size = len(text.encode()) / 1e6
    times = {"cold": [], "warm": [], "tiktoken": []}
    for _ in range(repeat):
        tokenizer = BPETokenizer.load(vocabulary)
        for kind in ("cold", "warm"):
            seconds, ids = timed(tokenizer.encode, text)
            times[kind].append(seconds)
        seconds, expected = timed(encoding.encode, text)
        times["tiktoken"].append(seconds)
    rust = min(times["tiktoken"])
    for kind in ("cold", "warm"):
        ours = min(times[kind])
        print(
            f"{f'{name}, {kind}':28s}{size / rust:7.1f} MB/s{size / ours:7.1f} MB/s"
            f"{rust / ours:9.2f}   {'equal ids' if ids == expected else 'DIFFERENT IDS'}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    wiki = corpora.load("wiki")
    print(f"{'training':28s}{'Rust':>12s}{'llmlib':>12s}{'ratio':>9s}")
    compare_training("wiki", wiki, 1000, repeat)
    compare_training("wiki", wiki, 5000, repeat)
    compare_training("10 MB", ten_megabytes(), 5000, repeat)
    print(f"{'encoding, GPT-2':28s}{'tiktoken':>12s}{'llmlib':>12s}{'ratio':>9s}")
    compare_encoding("1 MB of wiki", wiki[:1_000_000], repeat)
    compare_encoding("wiki", wiki, repeat)


if __name__ == "__main__":
    main()
