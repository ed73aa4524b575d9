"""A folder of token files becomes batches, for training and evaluation, for one process of many.

Written by hand. The token files are mapped into memory, not read. Stories are read one per row,
other texts in windows. In an evaluation every token is a target exactly once, the last ones too, so
that the losses sum to the loss of the whole text and bits per byte are right.

Shapes: B rows in a batch, T tokens each; padding has targets of -100.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import maxsize
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from llmlib import checks
from llmlib.data import batches
from llmlib.data.token_files import read_array
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.prepared import load_prepared_tokenizer, read_about

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Measure:
    """Batches to evaluate a model on, and the lowest possible loss on them, if it is known."""

    batches: list[Batch]
    floor: float | None  # nats per token


class Share(Sampler):
    """One process's share of each batch of indices: every `world`-th one, starting at `rank`.

    All processes draw the same order: together they read what one would read, each row once.
    """

    def __init__(self, sampler: Any, rank: int, world: int):
        self.sampler, self.rank, self.world = sampler, rank, world  # Trainer looks for .sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self.sampler:
            yield indices[self.rank :: self.world]


class TokenData:
    """A folder that `prepare` made: its tokens, its tokenizer, and what data.json says about it.

    Each file is compared once with the hash that data.json has of it. Raises ValueError or OSError
    for a folder that is damaged or is not a prepared one.
    """

    def __init__(self, folder: str | Path):
        self.folder, self.about = Path(folder), read_about(folder)
        self.end_of_text = self.about["end_of_text"]
        self.tokenizer: Tokenizer = load_prepared_tokenizer(folder)
        self._ids: dict[str, np.ndarray] = {}

    def ids(self, part: str) -> np.ndarray:
        """Return the token ids of "train" or "val" (N,), mapped into memory."""
        if part not in self._ids:
            said = self.about[part]
            dtype = np.uint16 if self.about["vocab_size"] <= 2**16 else np.uint32
            path = self.folder / f"{part}.npy"
            self._ids[part] = read_array(path, dtype, said["n_tokens"], said["sha256"])
        return self._ids[part]

    def documents(self, part: str) -> list[np.ndarray]:
        """Return the token ids of each document, without the `<|endoftext|>` behind it."""
        return cut_documents(self.ids(part), self.end_of_text)

    def train_loader(
        self, context_length: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> DataLoader:
        """Return shuffled batches to train on: of every batch, the share of this process."""
        hint = f"{world} processes cannot share its rows equally"
        checks.require(batch_size % world == 0, f"batch_size is {batch_size}: {hint}")
        options: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed)}
        options["batch_size"] = batch_size
        if self.about["rows"] == "documents":
            documents = self.documents("train")
            checks.rows_fit(max(map(len, documents)), len(documents), context_length, batch_size)
            loader = batches.create_document_loader(documents, self.end_of_text, **options)
        else:
            checks.windows_fit(len(self.ids("train")), context_length, batch_size, world)
            loader = batches.create_dataloader(self.ids("train"), context_length, **options)
        share = Share(loader.sampler, rank, world)
        return DataLoader(loader.dataset, sampler=share, batch_size=None)

    def measure(self, context_length: int, batch_size: int, max_tokens: int = maxsize) -> Measure:
        """Return the validation part, or about max_tokens of it, as batches to evaluate on."""
        sizes = (self.end_of_text, context_length, batch_size)
        if self.about["rows"] == "windows":
            return measure_windows(self.ids("val")[:max_tokens], *sizes)
        documents = self.documents("val")
        path, n = self.folder / "val_nats.npy", self.about["val"]["n_documents"]
        nats = read_array(path, np.float64, n, self.about.get("val_nats_sha256"))
        ends = np.cumsum([len(ids) + 1 for ids in documents])
        n = max(1, int((ends <= max_tokens).sum()))
        return measure_documents(documents[:n], *sizes, nats[:n].tolist())


def cut_documents(ids: np.ndarray, end_of_text: int) -> list[np.ndarray]:
    """Cut ids (N,) behind each end_of_text, and drop that."""
    ends = np.flatnonzero(ids == end_of_text)
    return [ids[start:end] for start, end in zip([0, *(ends + 1)], ends)]


def peek(loader: DataLoader, n_rows: int) -> Batch:
    """Return the first rows of a loader's data as a batch, without touching a random generator."""
    dataset: Any = loader.dataset  # one of ours, which takes a list of indices
    return dataset[list(range(n_rows))]


def measure_documents(
    documents: Sequence, end_of_text: int, context_length: int, batch_size: int, nats: Sequence
) -> Measure:
    """Put one document in each row; nats: the least that each can cost, its end included."""
    dataset = batches.DocumentDataset(documents, end_of_text, context_length)
    # no DataLoader: it would draw a seed from torch's generator, which training reads from
    order = batches.LengthSampler(dataset.lengths, batch_size, shuffle=False, drop_last=False)
    floor = float(sum(nats)) / int(dataset.lengths.sum())
    return Measure([dataset[indices] for indices in order], floor)


def measure_windows(
    ids: np.ndarray, end_of_text: int, context_length: int, batch_size: int
) -> Measure:
    """Put a text into windows side by side; end_of_text stands before its first token."""
    n_rows = -(-len(ids) // context_length)
    inputs = np.full(n_rows * context_length, end_of_text)
    targets = np.full_like(inputs, -100)
    inputs[1 : len(ids)], targets[: len(ids)] = ids[:-1], ids
    x, y = (torch.from_numpy(part.reshape(n_rows, -1)) for part in (inputs, targets))  # (rows, T)
    starts = range(0, n_rows, batch_size)
    return Measure([(x[s : s + batch_size], y[s : s + batch_size]) for s in starts], None)
