"""The recipes of `speedrun.py`: nanoGPT's, the parts of notebook 11, and ours.

A recipe has a model, takes one step when asked, and gives logits for held-out text. Written by
hand; notebook 11 tells what each idea is worth.

Shapes: B rows, T characters, C = emb_dim, H heads of D numbers, V = vocab_size.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib.model.layers import PLAIN, Places, PlainFeedForward
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.parts import part
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer


class Text(NamedTuple):
    """Characters as numbers; the first n_trained may be learned from."""

    ids: Tensor  # (N,)
    n_trained: int
    vocab_size: int


def random_batch(text: Text, n_rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Draw inputs and targets (n_rows, length) from the training part."""
    starts = torch.randint(text.n_trained - length, (n_rows, 1))
    rows = text.ids[starts + torch.arange(length + 1)]
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


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

    def embed(
        self, ids: Tensor, positions: slice | Tensor, segments: Tensor | None = None
    ) -> tuple:
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
    n_decay, n_steps = 150, 300  # the rate is at its end after n_decay steps, and stays there
    rate, warmup_steps, betas = 0.01, 10, (0.9, 0.95)

    def __init__(self, text: Text, seed: int):
        torch.manual_seed(seed)
        self.text = text
        self.model = self.build(text.vocab_size)
        settings = TrainConfig(
            *(self.n_decay, self.rate),
            **{"warmup_steps": self.warmup_steps, "betas": self.betas, "weight_decay": 0.0},
            **{"dtype": "bfloat16", "optimizer": "muon", "grad_clip": None},
        )
        self.trainer = LinearDecay(self.model, settings)

    def build(self, vocab_size: int) -> Modern:
        """Return the model."""
        return Modern(
            ModernConfig(
                *(vocab_size, self.context),
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

    name, n_decay, n_steps = "ours", 40, 80
    rate, warmup_steps, betas = 0.02, 3, (0.5, 0.9)

    def build(self, vocab_size: int) -> Modern:
        """Return the model: one layer is enough, since the tables know the neighbours."""
        config = ModernConfig(
            *(vocab_size, self.context),
            **{"emb_dim": 128, "n_heads": 2, "n_layers": 1, "hidden_dim": 256},
            **{"norm": "without_bias", "feed_forward": "fast_relu2", "attention": "nearer"},
            **{"positions": "none", "zero_init": True},
        )
        return Sprinter(config, tables={2: 2048, 3: 8192, 4: 6000})


Recipe = NanoGPT | ModernParts
