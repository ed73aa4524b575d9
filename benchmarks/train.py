"""Training speed: `llmlib` beside Hugging Face's GPT-2 and a plain textbook GPT, in one run.

Each contestant has the same shape and batches, and takes forward, loss, backward and step (with
gradient clipping). They take turns, a few steps each, round after round, so that a machine that is
busy slows all of them; the ratio to Hugging Face is formed in each round, and the median is shown.

    python benchmarks/train.py                 tokens per second at shapes S and M
    python benchmarks/train.py --losses        and the loss after 300 steps, in both formats
    python benchmarks/train.py --stories       and loss reached per second on the story world
    python benchmarks/train.py --against PATH  this checkout beside an older one, and nothing else

`OMP_NUM_THREADS=1 python benchmarks/train.py --cpu-time` counts the seconds of the processor and
not those of the clock: on a busy machine, only these mean something.
"""

import argparse
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if sys.path[0] == str(Path(__file__).parent):  # tokenizers.py, beside this file, is not the library
    del sys.path[0]

import torch
from torch import nn

from llmlib import stories
from llmlib.data.batches import create_dataloader
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.tokenization.words import WordTokenizer
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

sys.path.append(str(Path(__file__).parent))
from paired import compare

SHAPES = {  # name: (model, batch size)
    "S": (GPTConfig(512, 128, emb_dim=128, n_heads=4, n_layers=4), 32),
    "M": (GPTConfig(50257, 256, emb_dim=384, n_heads=6, n_layers=6), 4),
}


class TextbookBlock(nn.Module):
    """A block as textbooks write it: separate q, k and v, an explicit mask, exact softmax."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        C, T = config.emb_dim, config.context_length
        self.n_heads = config.n_heads
        self.query, self.key, self.value = (nn.Linear(C, C) for _ in range(3))
        self.out = nn.Linear(C, C)
        self.register_buffer("mask", torch.triu(torch.ones(T, T), diagonal=1).bool())
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.mlp = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        B, T, C = x.shape
        h = self.norm1(x)
        q, k, v = (
            part(h).view(B, T, self.n_heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(C // self.n_heads)
        scores = scores.masked_fill(self.mask[:T, :T], -torch.inf)
        mixed = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(B, T, C)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class TextbookGPT(nn.Module):
    """The whole model, with a separate output head, and all logits at once."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.emb_dim)
        self.positions = nn.Embedding(config.context_length, config.emb_dim)
        self.blocks = nn.Sequential(*(TextbookBlock(config) for _ in range(config.n_layers)))
        self.norm = nn.LayerNorm(config.emb_dim)
        self.head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to logits (B, T, V)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.blocks(x)))


def textbook_steps(
    model: nn.Module, logits_of: Callable, batches: list, dtype: torch.dtype | None = None
) -> Iterator[float]:
    """Run the loop that everybody writes; yield the loss after each step, without an end."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    device = next(model.parameters()).device.type
    while True:
        for inputs, targets in batches:
            with torch.autocast(device, dtype, enabled=dtype is not None):
                logits = logits_of(model(inputs))
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield loss.item()


def hugging_face(config: GPTConfig, device: str) -> nn.Module:
    """Return a GPT2LMHeadModel of the same shape."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_embd": config.emb_dim, "n_head": config.n_heads, "n_layer": config.n_layers}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"vocab_size": config.vocab_size, "n_positions": config.context_length}
    no_text = {"bos_token_id": None, "eos_token_id": None, "use_cache": False}  # only trained
    return GPT2LMHeadModel(GPT2Config(**sizes, **shape, **drop, **no_text)).to(device)


def our_steps(config: GPTConfig, batches: list, dtype: str, device: str) -> Iterator[float]:
    """Train as `llmlib.training.trainer` does; yield the loss of each step."""
    torch.manual_seed(0)
    plan = TrainConfig(max_steps=10**9, learning_rate=1e-3, warmup_steps=10, dtype=dtype)
    trainer = Trainer(GPT(config).to(device), plan)
    for report in trainer.run(batches):
        yield report.loss


def contestants(config: GPTConfig, batches: list, device: str) -> dict[str, Iterator[float]]:
    """Return, by name, endless iterators whose every item costs one training step."""
    return {
        "Hugging Face": textbook_steps(
            hugging_face(config, device), lambda out: out.logits, batches
        ),
        "textbook GPT": textbook_steps(TextbookGPT(config).to(device), lambda out: out, batches),
        "llmlib float32": our_steps(config, batches, "float32", device),
        "llmlib bfloat16": our_steps(config, batches, "bfloat16", device),
    }


def race(name: str, rounds: int, steps: int, device: str, clock: Callable[[], float]) -> None:
    """Let all take turns, and print tokens per second and the ratio to Hugging Face."""
    config, batch_size = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    shape = (8, batch_size, config.context_length + 1)
    ids = torch.randint(config.vocab_size, shape, generator=generator).to(device)
    runners = contestants(config, [(row[:, :-1], row[:, 1:]) for row in ids], device)
    for runner in runners.values():  # warm up
        next(runner), next(runner)
    seconds = {runner: [] for runner in runners}
    for _ in range(rounds):
        for runner, iterator in runners.items():
            start = clock()
            for _ in range(steps):
                next(iterator)
            seconds[runner].append((clock() - start) / steps)
    print(f"\n{name}: {config}, batch {batch_size}")
    print(f"{'':18s}{'tokens/s':>10s}{'ratio':>8s}   (min to max of {rounds} rounds)")
    for runner, times in seconds.items():
        ratios = [base / own for base, own in zip(seconds["Hugging Face"], times)]
        speed = batch_size * config.context_length / statistics.median(times)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{runner:18s}{speed:10,.0f}{statistics.median(ratios):8.2f}   ({spread})")


def story_batches(n_stories: int) -> tuple[WordTokenizer, list]:
    """Return a tokenizer, and stories as one stream of words, in windows."""
    told = [story.text for story in stories.tell_many(n_stories, seed=0)]
    random.Random(0).shuffle(told)
    tokenizer = WordTokenizer.from_text(" ".join(told))
    end = tokenizer.special_tokens["<|endoftext|>"]
    ids = [i for text in told for i in [*tokenizer.encode(text), end]]
    generator = torch.Generator().manual_seed(0)
    return tokenizer, list(create_dataloader(ids, 128, batch_size=16, generator=generator))


def compare_losses(device: str, steps: int = 300) -> None:
    """Show that bfloat16 learns what float32 learns."""
    tokenizer, batches = story_batches(3000)
    config = GPTConfig(tokenizer.vocab_size, 128, emb_dim=128, n_heads=4, n_layers=4)
    final = {}
    for dtype in ("float32", "bfloat16"):
        losses = [loss for loss, _ in zip(our_steps(config, batches, dtype, device), range(steps))]
        final[dtype] = statistics.mean(losses[-20:])
    share = final["bfloat16"] / final["float32"] - 1
    print(f"\nloss on stories after {steps} steps (mean of the last 20):", end=" ")
    print(f"float32 {final['float32']:.4f}, bfloat16 {final['bfloat16']:.4f} ({share:+.2%})")


def race_on_stories(seconds: float, device: str) -> None:
    """Print the loss that each contestant reaches in the same time, taking turns."""
    tokenizer, batches = story_batches(20_000)
    config = GPTConfig(tokenizer.vocab_size, 128, emb_dim=128, n_heads=4, n_layers=4)
    runners = contestants(config, batches, device)
    spent, recent = dict.fromkeys(runners, 0.0), {runner: [] for runner in runners}
    marks = [seconds / 4, seconds / 2, seconds]
    after = ", ".join(f"{mark:.0f}" for mark in marks)
    print(f"\nloss on stories (nats per token) after … seconds: {after}")
    reached = {runner: [] for runner in runners}
    while min(spent.values()) < seconds:
        for runner, iterator in runners.items():
            start = time.perf_counter()
            recent[runner].append(next(iterator))
            spent[runner] += time.perf_counter() - start
            done = len(reached[runner])
            if done < len(marks) and spent[runner] >= marks[done]:
                reached[runner].append(statistics.mean(recent[runner][-20:]))
    for runner, losses in reached.items():
        shown = "  ".join(f"{loss:.3f}" for loss in losses)
        print(f"{runner:18s}{shown}   ({len(recent[runner])} steps)")


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of each in a round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true", help="for busy machines")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--stories", type=float, nargs="?", const=60, metavar="SECONDS")
    parser.add_argument("--against", type=Path, metavar="PATH", help="an older checkout")
    parser.add_argument("--pairs", type=int, default=15, help="of --against, for each figure")
    options = parser.parse_args()
    if options.against:
        here = Path(__file__).resolve()
        figures = {
            f"{shape} {dtype}": [shape, dtype, "3" if shape == "S" else "1"]
            for shape in options.shapes
            for dtype in ("float32", "bfloat16")
        }
        worker = here.with_name("train_worker.py")
        compare(options.against.resolve(), here.parents[1], worker, figures, options.pairs)
        return
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads")
    for name in options.shapes:
        clock = time.process_time if options.cpu_time else time.perf_counter
        race(name, options.rounds, options.steps, options.device, clock)
    if options.losses:
        compare_losses(options.device)
    if options.stories:
        race_on_stories(options.stories, options.device)


if __name__ == "__main__":
    main()
