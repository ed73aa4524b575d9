"""Generating: `llmlib.generation` beside Hugging Face's `generate`, or beside an older checkout.

GPT-2 124M's shape with random weights. The contestants take turns, round after round, so that a
machine that is busy slows all of them; the ratio to Hugging Face is formed in each round, and the
median is shown. The limit is what the memory allows: bytes of weights that a step reads, over the
bandwidth measured in the same round.

    python benchmarks/generate.py                      batch 1, 16 + 128 tokens; a prefill of 512
    python benchmarks/generate.py --batch 8 --new 32   the same for eight texts at once
    python benchmarks/generate.py --against ../old     this checkout beside an older one

With `--against` each state runs in its own process, with one thread, and they take turns. For
each format, batch of 1 and of 8, and for a prefill, the ratio of their CPU-seconds is formed in
each round; above 1, this checkout is faster. The median is shown with a 95 % bootstrap interval,
and at the end the geometric mean of all medians. Batches of 1 and 8 write `--new` tokens per round.

`OMP_NUM_THREADS=1 python benchmarks/generate.py --cpu-time` counts the seconds of the processor and
not those of the clock: on a busy machine, only these mean something.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if sys.path[0] == str(Path(__file__).parent):  # tokenizers.py, beside this file, is not the library
    del sys.path[0]

import torch

import llmlib

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}  # of each number in a weight
PREFILL = 512


def has_rooms() -> bool:
    """Tell whether the llmlib on the path has rooms; an import could find those of another one."""
    return Path(llmlib.__file__).with_name("generation").is_dir()


def make_model() -> Any:
    """Return GPT-2 124M's shape with random weights, from the llmlib that is on the path."""
    if has_rooms():
        from llmlib.model.config import GPTConfig
        from llmlib.model.gpt import GPT
    else:
        from llmlib.gpt import GPT, GPTConfig
    torch.manual_seed(0)
    return GPT(GPTConfig.preset("gpt2-124M")).eval().requires_grad_(False)


def ours(model: Any, weights: str) -> tuple[Callable, Callable]:
    """Return (write, prefill) of a model with packed weights; each takes ids (B, T)."""
    if not has_rooms():
        from llmlib.inference import Decoder, generate

        decoder = Decoder(model, weights)
        return (
            lambda ids, n: generate(decoder, ids, n, temperature=0),
            lambda ids: decoder.read(ids, decoder.new_cache(*ids.shape)),
        )
    from llmlib.generation.generate import generate
    from llmlib.generation.quantization import quantize
    from llmlib.generation.sampling import Sampling

    packed, greedy = quantize(model, weights), Sampling(temperature=0)

    @torch.inference_mode()
    def prefill(ids: torch.Tensor) -> torch.Tensor:
        features = packed.features(ids, packed.new_cache(*ids.shape))
        return packed.head(features[:, -1])

    return lambda ids, n: generate(packed, ids, n, greedy), prefill


def read_bandwidth(memory: torch.Tensor, clock: Callable[[], float]) -> float:
    """Bytes per second, from a reduction that does nothing but read."""
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


def race(options: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Let all take turns, and print speeds, ratios and shares of the limit."""
    model = make_model()
    contestants = {"Hugging Face float32": (*hugging_face(torch.float32), "float32")}
    if options.hf_bfloat16:
        contestants["Hugging Face bfloat16"] = (*hugging_face(torch.bfloat16), "bfloat16")
    for weights in options.weights:
        contestants[f"llmlib {weights}"] = (*ours(model, weights), weights)
    n_weights = sum(p.numel() for p in model.h.parameters() if p.ndim == 2)
    n_weights += model.head_weight.numel()
    ids = torch.randint(model.config.vocab_size, (options.batch, 16))
    long = torch.randint(model.config.vocab_size, (1, PREFILL))
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


# --- two states of this repository


def work() -> None:
    """Serve one state: read a request on each line of stdin, and print the CPU-seconds it took."""
    model, name, engine = make_model(), "", None
    for line in sys.stdin:
        request = json.loads(line)
        if request["weights"] != name:
            engine = None  # the memory of one format before that of the next
            name, engine = request["weights"], ours(model, request["weights"])
        write, prefill = engine
        shape = request["batch"], request["tokens"]
        ids = torch.randint(50257, shape, generator=torch.Generator().manual_seed(0))
        start = time.process_time()
        write(ids, request["new"]) if request["new"] else prefill(ids)
        print(time.process_time() - start, flush=True)


def start_worker(checkout: Path) -> subprocess.Popen:
    """Start a process that serves the state of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ask(worker: subprocess.Popen, request: dict) -> float:
    """Return the CPU-seconds that a worker needs for a request."""
    worker.stdin.write(json.dumps(request) + "\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise RuntimeError("a worker has ended: see above why")
    return float(answer)


def interval(ratios: list[float], n: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a median."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(n))
    return medians[round(0.025 * n)], medians[round(0.975 * n) - 1]


def compare(options: argparse.Namespace) -> None:
    """Let two states take turns; print the ratio of their times for each figure."""
    old, new = start_worker(options.against), start_worker(Path(__file__).parents[1])
    decode = {"tokens": 16, "new": options.new}
    medians = []
    print(f"old: {options.against}; ratio of CPU-seconds, above 1 this checkout is faster")
    for weights in options.weights:
        figures = {
            "batch 1": {"batch": 1, **decode},
            "batch 8": {"batch": 8, **decode},
            f"prefill {PREFILL}": {"batch": 1, "tokens": PREFILL, "new": 0},
        }
        for name, figure in figures.items():
            request, seconds = {"weights": weights, **figure}, {old: [], new: []}
            for round_ in range(options.rounds + 1):  # the first one warms up
                for worker in (old, new) if round_ % 2 else (new, old):
                    seconds[worker].append(ask(worker, request))
            pairs = zip(seconds[old][1:], seconds[new][1:], strict=True)
            ratios = [before / after for before, after in pairs]
            low, high = interval(ratios)
            medians.append(statistics.median(ratios))
            print(f"{weights:9s} {name:12s} {medians[-1]:6.3f}   ({low:.3f} to {high:.3f})")
    mean = math.exp(statistics.mean(map(math.log, medians)))
    print(f"geometric mean of {len(medians)} medians of {options.rounds} pairs: {mean:.3f}")
    for worker in (old, new):
        worker.stdin.close()
        worker.wait()


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--new", type=int, default=128, help="new tokens")
    parser.add_argument("--rounds", type=int, help="default 3, or 15 with --against")
    parser.add_argument("--weights", nargs="+", choices=BYTES, default=list(BYTES))
    parser.add_argument("--hf-bfloat16", action="store_true", help="Hugging Face in bfloat16 too")
    parser.add_argument("--cpu-time", action="store_true", help="for busy machines")
    parser.add_argument("--against", type=Path, help="a checkout to compare with")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    options.rounds = options.rounds or (15 if options.against else 3)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if options.against:
        compare(options)
    else:
        race(options, time.process_time if options.cpu_time else time.perf_counter)


if __name__ == "__main__":
    main()
