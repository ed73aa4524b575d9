"""Generating: `llmlib.generation` beside Hugging Face's `generate` with its cache, in one run.

GPT-2 124M's shape with random weights. The contestants take turns, round after round, so that a
machine that is busy slows all of them; the ratio to Hugging Face is formed in each round, and the
median is shown. The limit is what the memory allows: bytes of weights that a step reads, over the
bandwidth measured in the same round.

    python benchmarks/generate.py                      batch 1, 16 + 128 tokens; a prefill of 512
    python benchmarks/generate.py --batch 8 --new 32   the same for eight texts at once

`OMP_NUM_THREADS=1 python benchmarks/generate.py --cpu-time` counts the seconds of the processor and
not those of the clock: on a busy machine, only these mean something.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if sys.path[0] == str(Path(__file__).parent):  # tokenizers.py, beside this file, is no library
    del sys.path[0]

import torch

from llmlib.generation.inference import Decoder, generate
from llmlib.generation.quantization import BYTES
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT

CONFIG = GPTConfig.preset("gpt2-124M")
PREFILL = 512


def read_bandwidth(memory: torch.Tensor, clock: Callable[[], float]) -> float:
    """Bytes a second, from a reduction that does nothing but read."""
    start = clock()
    memory.amax()
    return memory.numel() * memory.element_size() / (clock() - start)


def hugging_face(dtype: torch.dtype) -> tuple[Callable, Callable]:
    """(generate, prefill) of GPT2LMHeadModel of the same shape."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None)).eval().to(dtype)

    def write(ids: torch.Tensor, n: int) -> None:
        model.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0)

    def prefill(ids: torch.Tensor) -> None:
        with torch.inference_mode():
            model(ids, use_cache=True, logits_to_keep=1)

    return write, prefill


def ours(model: GPT, weights: str) -> tuple[Callable, Callable]:
    """(generate, prefill) of a Decoder."""
    decoder = Decoder(model, weights)

    def write(ids: torch.Tensor, n: int) -> None:
        generate(decoder, ids, n, temperature=0)

    return write, lambda ids: decoder.read(ids, decoder.new_cache(*ids.shape))


def race(options: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Let all take turns, and print speeds, ratios and shares of the limit."""
    torch.manual_seed(0)
    model = GPT(CONFIG).eval()
    contestants = {"Hugging Face float32": (*hugging_face(torch.float32), "float32")}
    if options.hf_bfloat16:
        contestants["Hugging Face bfloat16"] = (*hugging_face(torch.bfloat16), "bfloat16")
    for weights in options.weights:
        contestants[f"llmlib {weights}"] = (*ours(model, weights), weights)
    n_weights = sum(p.numel() for p in model.h.parameters() if p.ndim == 2)
    n_weights += model.head_weight.numel()
    ids = torch.randint(CONFIG.vocab_size, (options.batch, 16))
    long = torch.randint(CONFIG.vocab_size, (1, PREFILL))
    memory = torch.ones(n_weights)
    seconds, prefills = ({name: [] for name in contestants} for _ in range(2))
    bandwidths = [read_bandwidth(memory, clock) for _ in range(3)][2:]
    for write, prefill, _ in contestants.values():  # warm up
        write(ids, 4), prefill(long)
    for _ in range(options.rounds):
        for name, (write, prefill, _) in contestants.items():
            bandwidths.append(read_bandwidth(memory, clock))
            start = clock()
            write(ids, options.new)
            seconds[name].append((clock() - start) / options.new)
            start = clock()
            prefill(long)
            prefills[name].append(clock() - start)
    bandwidth = statistics.median(bandwidths)
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s; batch {options.batch}, 16 + {options.new}")
    print(
        f"{'':22s}{'tokens/s':>9s}{'ratio':>7s}{'':14s}{'of the limit':>14s}{'prefill ms':>12s}"
        f"{'ratio':>7s}"
    )
    for name, (*_, weights) in contestants.items():
        speed = 1 / statistics.median(seconds[name])
        limit = bandwidth / (n_weights * BYTES[weights])
        ratios = ratios_to_first(seconds, name)
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        prefill = statistics.median(prefills[name]) * 1e3
        print(
            f"{name:22s}{speed * options.batch:9.1f}{statistics.median(ratios):7.2f} {spread:13s}"
            f"{speed / limit:14.0%}{prefill:12.0f}"
            f"{statistics.median(ratios_to_first(prefills, name)):7.2f}"
        )


def ratios_to_first(seconds: dict[str, list[float]], name: str) -> list[float]:
    """How many times faster than the first contestant, in each round."""
    first = next(iter(seconds.values()))
    return [base / own for base, own in zip(first, seconds[name])]


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--new", type=int, default=128, help="new tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", nargs="+", choices=BYTES, default=list(BYTES))
    parser.add_argument("--hf-bfloat16", action="store_true", help="Hugging Face in bfloat16 too")
    parser.add_argument("--cpu-time", action="store_true", help="for busy machines")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    race(options, time.process_time if options.cpu_time else time.perf_counter)


if __name__ == "__main__":
    main()
