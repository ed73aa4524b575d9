"""The speedrun: CPU-seconds of one thread until a small model predicts Wikipedia's characters.

Three recipes race to a loss on held-out text: nanoGPT's README recipe for a processor (`nanogpt`),
the parts of notebook 11 (`modern`), and the same with tables for the last characters (`ours`).

The rules, fixed before anything was tuned:
- Text: the first 1,000,000 characters of `wiki`, the last tenth held out. The vocabulary has the
  characters of the training part, and one token for all others.
- Loss: nats per character, the mean over all held-out characters, in windows of 256 that do not
  overlap. A model that reads fewer at once, such as nanoGPT's 64, reads a window in pieces.
- At most 800,000 parameters, embeddings included. Weights are learned by gradient descent: no
  counts of the text go into them. (nanoGPT's recipe has 824,448, as it is in its README.)
- CPU-seconds from the first step on; evaluations do not count.
- Reached: the first of evaluations every 10 steps, if the next one confirms it. An evaluation
  begins with every eighth window; where these are hopeless, it ends there, and is above the target.
- Recipes are tuned on seeds 0 to 2. Seeds 10 to 14 are reported.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/speedrun.py   the report: some 25 minutes
    python benchmarks/speedrun.py --recipe ours --seeds 0   a few seconds
    python benchmarks/speedrun.py --quick                   nanoGPT and ours to 2.6 nats
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

if sys.path[0] == str(Path(__file__).parent):  # tokenizers.py, beside this file, is not the library
    del sys.path[0]

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from llmlib.data.corpora import load
from llmlib.model.layers import PLAIN, Places, PlainFeedForward
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.parts import part
from llmlib.training.config import TrainConfig
from llmlib.training.loss import IGNORED
from llmlib.training.trainer import Trainer

N_CHARACTERS, WINDOW, EVERY, MOST_PARAMETERS = 1_000_000, 256, 10, 800_000
TARGETS = (2.13,)
MARGIN = 0.03  # an evaluation ends early where an eighth of the windows is that far above the target


# The rules


class Text(NamedTuple):
    """Characters as numbers; the first n_trained may be learned from."""

    ids: Tensor  # (N,)
    n_trained: int
    vocab_size: int


def number_characters(text: str, held_out: float = 0.1) -> Text:
    """Number the characters of the training part from 1; what occurs only later is 0."""
    n_trained = len(text) - round(held_out * len(text))
    numbers = {c: i for i, c in enumerate(sorted(set(text[:n_trained])), start=1)}
    ids = torch.tensor([numbers.get(character, 0) for character in text])
    return Text(ids, n_trained, len(numbers) + 1)


def held_out_windows(text: Text, length: int = WINDOW) -> list[tuple[Tensor, Tensor]]:
    """Cut the held-out part into (inputs, targets): each of its characters is a target once."""
    inputs, targets = text.ids[text.n_trained - 1 : -1], text.ids[text.n_trained :]
    return list(zip(inputs.split(length), targets.split(length)))


def random_batch(text: Text, n_rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Draw inputs and targets (n_rows, length) from the training part."""
    starts = torch.randint(text.n_trained - length, (n_rows, 1))
    rows = text.ids[starts + torch.arange(length + 1)]
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def mean_loss(logits_of: Callable, windows: Sequence[tuple[Tensor, Tensor]], context: int) -> float:
    """Return the mean loss over the targets of all windows, each read in pieces of the context."""
    inputs, targets = (torch.cat(parts).split(context) for parts in zip(*windows))
    x = pad_sequence(inputs, batch_first=True)  # only the last piece may be shorter
    y = pad_sequence(targets, batch_first=True, padding_value=IGNORED)
    n_rows = max(1, 4096 // context)
    with torch.inference_mode():
        total = sum(
            F.cross_entropy(logits_of(some).float().mT, right, reduction="sum").item()
            for some, right in zip(x.split(n_rows), y.split(n_rows))
        )
    return total / int((y != IGNORED).sum())


class Look(NamedTuple):
    """An evaluation: after how many steps and CPU-seconds of training, and its loss."""

    step: int
    seconds: float
    loss: float


def finish(looks: Sequence[Look], target: float) -> Look | None:
    """Return the first evaluation at the target that the next one confirms, if there is one."""
    for look, following in zip(looks, looks[1:]):
        if look.loss <= target and following.loss <= target:
            return look
    return None


def race(recipe: "Recipe", text: Text, targets: Sequence[float]) -> list[Look]:
    """Train until all targets are reached or the recipe ends; return all evaluations."""
    windows, looks, seconds = held_out_windows(text), [], 0.0
    for step in range(1, recipe.n_steps + 1):
        start = time.process_time()
        recipe.take_step()
        seconds += time.process_time() - start
        if step % EVERY:
            continue
        missing = [target for target in targets if finish(looks, target) is None]
        hopeless = math.inf if step == recipe.n_steps else max(missing) + MARGIN
        loss = mean_loss(recipe.logits_of, windows[::8], recipe.context)
        if loss <= hopeless:
            loss = mean_loss(recipe.logits_of, windows, recipe.context)
        looks.append(Look(step, seconds, loss))
        if all(finish(looks, target) for target in targets):
            break
    return looks


# nanoGPT's recipe


@part("norm", "without_bias")
def norm_without_bias(config: ModernConfig, layer: int = 0) -> nn.LayerNorm:
    """Build nanoGPT's norm, which is one fused pass, where an RMSNorm takes several on a CPU."""
    return nn.LayerNorm(config.emb_dim, config.norm_eps, bias=False)


@part("feed_forward", "exact_gelu")
class ExactGELU(PlainFeedForward):
    """nanoGPT's feed-forward layer, with GELU by the error function."""

    def activation(self, x: Tensor) -> Tensor:
        """Return x Φ(x)."""
        return F.gelu(x)


class NanoGPT:
    """The README's recipe for "a macbook": config/train_shakespeare_char.py with its changes."""

    name, context, n_steps = "nanogpt", 64, 2000

    def __init__(self, text: Text, seed: int):
        torch.manual_seed(seed)
        self.text, self.step = text, 0
        self.model = Modern(
            ModernConfig(
                *(text.vocab_size, self.context),
                **{"emb_dim": 128, "n_heads": 4, "n_layers": 4, "hidden_dim": 512},
                **{"norm": "without_bias", "feed_forward": "exact_gelu", "positions": "learned"},
                tie_weights=True,
            )
        )
        self.parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))

    def rate(self) -> float:
        """Return the learning rate: a rise in 100 steps, half a cosine down to a tenth."""
        if self.step < 100:
            return 1e-3 * (self.step + 1) / 101
        progress = (self.step - 100) / (self.n_steps - 100)
        return 1e-4 + 9e-4 * (1 + math.cos(math.pi * progress)) / 2

    def take_step(self) -> None:
        """Learn from 12 rows."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        inputs, targets = random_batch(self.text, 12, self.context)
        F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten()).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    def logits_of(self, ids: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        return self.model(ids)


# Ours


class SquaredReLU(torch.autograd.Function):
    """relu(x)², and its gradient in two passes over memory, where `square` takes a slow power."""

    @staticmethod
    def forward(ctx, x):
        """Return relu(x)²."""
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx, grad):
        """Return 2 relu(x) grad."""
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


@part("feed_forward", "fast_relu2")
class FastReLU2(PlainFeedForward):
    """The library's relu2, with the gradient above."""

    def activation(self, x: Tensor) -> Tensor:
        """Return relu(x)²."""
        return SquaredReLU.apply(x)


@part("attention", "nearer")
class NearerAttention(nn.Module):
    """Attention whose scores fall with the distance (ALiBi, Press et al. 2021).

    The biases lie in the mask, which is added anyway: positions for nothing, where rotations take
    as long as the products. They also tell what text is like, before anything is learned.
    """

    def __init__(self, config: ModernConfig, layer: int = 0):
        super().__init__()
        self.n_heads, self.head_dim = config.n_heads, config.head_dim
        self.c_attn = nn.Linear(config.emb_dim, 3 * config.emb_dim, bias=False)
        self.c_proj = nn.Linear(config.emb_dim, config.emb_dim, bias=False)
        slopes = torch.logspace(0, -1.3, self.n_heads)  # from 1 to 0.05 nats per character
        distance = torch.arange(config.context_length).view(-1, 1) - torch.arange(
            config.context_length
        )
        bias = -slopes.view(-1, 1, 1) * distance  # (H, T, T)
        self.bias = bias.masked_fill(distance < 0, -math.inf).bfloat16()

    def forward(self, x: Tensor, places: Places = PLAIN, cache: None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        B, T, C = x.shape
        H, D = self.n_heads, self.head_dim
        # (B, T, 3C) -> three of (B H, T, D)
        qkv = self.c_attn(x).view(B, T, 3, H, D).permute(2, 0, 3, 1, 4).reshape(3, B * H, T, D)
        q, k, v = qkv.unbind(0)
        bias = self.bias[:, :T, :T].repeat(B, 1, 1)
        with torch.autocast("cpu", enabled=False):  # it would take the softmax to float32
            scores = torch.baddbmm(bias, q, k.mT, alpha=1 / math.sqrt(D))  # (B H, T, T)
            out = (scores.softmax(-1) @ v).view(B, H, T, D)
        return self.c_proj(out.transpose(1, 2).reshape(B, T, C))


class Sprinter(Modern):
    """A modern transformer that also looks up its last characters, n at a time, in tables.

    tables: how many rows for which n. A row of TABLE_DIM numbers belongs to all groups of
    characters with its hash, and is learned like any embedding. A lookup costs next to nothing,
    whatever the size of the table.
    """

    TABLE_DIM = 32

    def __init__(self, config: ModernConfig, tables: dict[int, int]):
        super().__init__(config)
        self.lengths = list(tables)
        self.tables = nn.ModuleList(nn.Embedding(n, self.TABLE_DIM) for n in tables.values())
        for table in self.tables:
            nn.init.zeros_(table.weight)
        self.c_tables = nn.Linear(len(tables) * self.TABLE_DIM, config.emb_dim, bias=False)

    def embed(self, ids: Tensor, positions: slice | Tensor, segments: Tensor | None = None) -> tuple:
        """Return x (B, T, C) in bfloat16, so that all that is not a product reads half as much."""
        x, places = super().embed(ids, positions, segments)
        looked_up = [
            table(hashes(ids, n, table.num_embeddings))
            for n, table in zip(self.lengths, self.tables)
        ]
        return (x + self.c_tables(torch.cat(looked_up, -1))).bfloat16(), places


def hashes(ids: Tensor, n: int, n_rows: int) -> Tensor:
    """Return for ids (B, T) a row number of each one and the n - 1 before it."""
    number = torch.zeros_like(ids)
    for distance in range(n):  # before the first character stands 0, as for an unknown one
        earlier = F.pad(ids, (distance, 0))[:, : ids.shape[1]]
        number = (number * 1_000_003 + earlier) % (2**31 - 1)
    number = number * 48_271 % (2**31 - 1)
    return (number ^ (number >> 15)) % n_rows


class LinearDecay(Trainer):
    """The library's trainer, with a learning rate that falls in a line."""

    def update(self, learning_rate: float, grad_norm: Tensor) -> None:
        """Rise for a few steps, fall to a fiftieth, and stay there."""
        rise = min(1.0, (self.step + 1) / self.config.warmup_steps)
        fall = max(0.02, 1 - self.step / self.config.max_steps)
        super().update(self.config.learning_rate * rise * fall, grad_norm)


class ModernParts:
    """Notebook 11's parts from the shelf, Muon, a high rate that falls in a line, bfloat16."""

    name, context, n_rows = "modern", 128, 16
    # after how many steps the rate is at its end, by target: for others, the next lower one counts
    lengths = {2.13: 80, 1.97: 180}

    def __init__(self, text: Text, seed: int, target: float):
        torch.manual_seed(seed)
        lower = [known for known in self.lengths if known <= target] or [min(self.lengths)]
        length = self.lengths[max(lower)]
        self.text, self.n_steps = text, 2 * length
        self.model = self.build(text.vocab_size)
        settings = TrainConfig(
            *(length, 0.02),
            **{"warmup_steps": 3, "betas": (0.5, 0.9), "weight_decay": 0.0, "grad_clip": None},
            **{"dtype": "bfloat16", "optimizer": "muon"},
        )
        self.trainer = LinearDecay(self.model, settings)

    def build(self, vocab_size: int) -> Modern:
        """Return the model."""
        return Modern(
            ModernConfig(
                *(vocab_size, WINDOW),
                **{"emb_dim": 128, "n_heads": 4, "n_layers": 2, "feed_forward": "relu2"},
                **{"qk_norm": True, "zero_init": True},
            )
        )

    def take_step(self) -> None:
        """Learn from some rows."""
        self.trainer.take_step([random_batch(self.text, self.n_rows, self.context)])

    def logits_of(self, ids: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(ids)


class Ours(ModernParts):
    """The same with tables of characters, and parts that take fewer passes over memory."""

    name, lengths = "ours", {2.13: 20, 1.97: 40}

    def build(self, vocab_size: int) -> Modern:
        """Return the model: one layer is enough, since the tables know the neighbours."""
        config = ModernConfig(
            *(vocab_size, WINDOW),
            **{"emb_dim": 128, "n_heads": 2, "n_layers": 1, "hidden_dim": 256},
            **{"norm": "without_bias", "feed_forward": "fast_relu2", "attention": "nearer"},
            **{"positions": "none", "zero_init": True},
        )
        return Sprinter(config, tables={2: 2048, 3: 8192, 4: 6000})


Recipe = NanoGPT | ModernParts


# The report


def run(name: str, text: Text, seed: int, targets: Sequence[float]) -> dict[float, Look | None]:
    """Race one recipe with one seed; print and return where it reached each target."""
    found: dict[float, Look | None] = {}
    if name == "nanogpt":  # its schedule is fixed, so that one run tells about all targets
        recipe = NanoGPT(text, seed)
        looks = race(recipe, text, targets)
        found = {target: finish(looks, target) for target in targets}
        report(recipe, seed, found, looks)
        return found
    for target in targets:
        recipe = (Ours if name == "ours" else ModernParts)(text, seed, target)
        looks = race(recipe, text, [target])
        found[target] = finish(looks, target)
        report(recipe, seed, {target: found[target]}, looks)
    return found


def report(recipe: Recipe, seed: int, found: dict[float, Look | None], looks: list[Look]) -> None:
    """Print one run."""
    n = recipe.model.num_parameters()
    if recipe.name != "nanogpt" and n > MOST_PARAMETERS:
        raise ValueError(f"{recipe.name} has {n:,} parameters: the rules allow {MOST_PARAMETERS:,}")
    for target, look in found.items():
        reached = f"after {look.step:4d} steps, {look.seconds:6.2f} s" if look else "not reached"
        last = f"ended after {looks[-1].step} steps, {looks[-1].seconds:.2f} s at {looks[-1].loss:.3f}"
        print(f"seed {seed:2d}  {recipe.name:8s}{n:8,d}  {target:.2f}: {reached:28s} ({last})", flush=True)


def summarize(results: dict[str, list[dict[float, Look | None]]], targets: Sequence[float]) -> None:
    """Print median and range of the seconds, and how many times sooner than nanoGPT's recipe."""
    print(f"\n{'target':8s}{'recipe':10s}{'CPU-seconds: median, range':>32s}{'times sooner: median, range':>34s}")
    for target in targets:
        base = results.get("nanogpt")
        for name, runs in results.items():
            seconds = [run[target].seconds if run[target] else math.inf for run in runs]
            line = f"{target:<8.2f}{name:10s}{spread(seconds):>32s}"
            if base and name != "nanogpt":
                pairs = [b[target].seconds / s for b, s in zip(base, seconds) if b[target]]
                line += f"{spread(pairs):>34s}" if pairs else ""
            print(line)


def spread(values: Sequence[float]) -> str:
    """Return median and range as text."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Race the recipes, seed by seed, so that a busy machine slows all of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["nanogpt", "modern", "ours"]
    parser.add_argument("--recipe", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12, 13, 14])
    parser.add_argument("--target", nargs="+", type=float, default=TARGETS, help="nats, in order")
    parser.add_argument("--quick", action="store_true", help="one seed, to 2.6 nats")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.target = [0], [2.6]
    torch.set_num_threads(1)
    text = number_characters(load("wiki")[:N_CHARACTERS])
    results = {name: [] for name in options.recipe}
    for seed in options.seeds:
        for name in options.recipe:
            results[name].append(run(name, text, seed, options.target))
    summarize(results, options.target)


if __name__ == "__main__":
    main()
