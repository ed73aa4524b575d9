"""Tasks that tell how far back a model sees: loss by position, and recall of pairs.

Written by hand; notebook 12 uses it. The answer to each question is known exactly, and so is
chance. Each task draws from a generator, so that the same seed asks the same questions.

Shapes: B rows of T tokens.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib import stories
from llmlib.model.modes import evaluating
from llmlib.tokenization.words import WordTokenizer
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

Batch = tuple[Tensor, Tensor]  # inputs and targets (B, T); a target of -100 does not count


@torch.no_grad()
def losses_at(model: Any, ids: Tensor, batch_size: int = 16) -> Tensor:
    """Return the loss of each position, (T,) in nats, as a mean over rows of ids (B, T + 1)."""
    total = torch.zeros(ids.shape[1] - 1)
    with evaluating(model):
        for rows in ids.split(batch_size):
            logits = model(rows[:, :-1])
            total += F.cross_entropy(logits.mT, rows[:, 1:], reduction="none").sum(dim=0)
    return total / len(ids)


def fit(model: Any, batches: Iterator[Batch], steps: int, rate: float = 1e-2) -> Any:
    """Train a model on some batches with Muon, and return it."""
    config = TrainConfig(
        steps, rate, final_fraction=0.0, warmup_steps=20, weight_decay=0.01, optimizer="muon"
    )
    for _ in Trainer(model, config).run([*islice(batches, steps)]):
        pass
    return model


# --- loss by position: a stream of stories, one after another


def stream_of_stories(n: int, seed: int) -> tuple[WordTokenizer, Tensor]:
    """Return a tokenizer and the ids of n stories, each with the end of a text behind it."""
    tokenizer = WordTokenizer.from_text(" ".join(s.text for s in stories.tell_many(2000, seed=1)))
    told = [tokenizer.encode(story.text) for story in stories.tell_many(n, seed=seed)]
    return tokenizer, torch.tensor([i for ids in told for i in [*ids, tokenizer.eot_token]])


def windows(
    ids: Tensor, length: int, batch_size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield batches of windows that begin anywhere in a stream of ids."""
    rows = ids.unfold(0, length + 1, 1)
    while True:
        chosen = rows[torch.randint(len(rows), (batch_size,), generator=generator)]
        yield chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()


# --- recall: pairs of a key and a value, and then the keys again (2312.04927)


def recall_batch(
    n_pairs: int, batch_size: int, generator: torch.Generator, n_keys: int = 64, n_values: int = 64
) -> Batch:
    """Return rows "k v k v … k v k v": pairs, and the same in another order; values are asked.

    Keys are 0 to n_keys − 1, and values the n_values numbers behind them. Only the values of the
    second half have targets.
    """
    noise = torch.rand(batch_size, n_keys, generator=generator)
    keys = noise.argsort(dim=1)[:, :n_pairs]
    values = n_keys + torch.randint(n_values, keys.shape, generator=generator)
    pairs = torch.stack([keys, values], dim=2)  # (B, n, 2)
    order = torch.rand(batch_size, n_pairs, generator=generator).argsort(dim=1)
    asked = pairs.gather(1, order[..., None].expand(-1, -1, 2))
    ids = torch.cat([pairs, asked], dim=1).flatten(1)  # (B, 4n)
    targets = torch.full_like(ids, -100)
    targets[:, 2 * n_pairs :: 2] = asked[:, :, 1]
    return ids, targets


def recall_batches(most: int, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Yield batches of 1 to `most` pairs."""
    while True:
        n_pairs = int(torch.randint(1, most + 1, (1,), generator=generator))
        yield recall_batch(n_pairs, batch_size, generator)


@torch.no_grad()
def recall_accuracy(model: Any, n_pairs: int, generator: torch.Generator) -> float:
    """Return the share of values that a model recalls among n_pairs pairs."""
    inputs, targets = recall_batch(n_pairs, 64, generator)
    with evaluating(model):
        right = model(inputs).argmax(dim=-1) == targets
    return right.sum().item() / (targets >= 0).sum().item()


@torch.no_grad()
def recall_by_distance(
    model: Any, n_pairs: int, width: int, generator: torch.Generator, n_rows: int = 256
) -> dict[int, float]:
    """Return the share of values recalled, by how far back they stood: in bins of `width` tokens.

    The keys of the answer are the smallest distance of each bin, from the token that is read when
    the value is asked for to that value.
    """
    inputs, targets = recall_batch(n_pairs, n_rows, generator)
    with evaluating(model):
        right = model(inputs).argmax(dim=-1) == targets
    row, asked = (targets >= 0).nonzero(as_tuple=True)
    # where the same key stood in the first half: its value is behind it
    key_places = (inputs[row, : 2 * n_pairs : 2] == inputs[row, asked, None]).int().argmax(dim=1)
    bins = (asked - (2 * key_places + 1)) // width
    total = bins.bincount()
    hits = bins.bincount(right[row, asked].double(), minlength=len(total))
    return {
        width * n: hit / count
        for n, (hit, count) in enumerate(zip(hits.tolist(), total.tolist()))
        if count
    }
