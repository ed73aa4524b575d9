# From notebooks/01_data_preparation.ipynb, notebooks/05_loss.ipynb: edit there, then
# run make export.

"""From token ids to batches: windows over a long array, and a split that does not leak.

Built in notebook 01. Takes token ids, not text. What is left out: worker processes. A batch is one
gathered copy out of an array (or of a memory-mapped file), which takes less time than sending it
from another process would.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from llmlib import checks

TokenIds = Sequence[int] | np.ndarray | torch.Tensor | str | Path


def as_token_array(ids: TokenIds) -> np.ndarray:
    """Return token ids as a NumPy array (N,), without a copy if they are in one already.

    ids: a list, an array (also memory-mapped), a CPU tensor, or the path of a `.npy` file, which is
    memory-mapped. Raises ValueError or TypeError unless they are integers from 0.
    """
    if isinstance(ids, (str, Path)):
        checks.npy_file(ids)
        ids = np.load(ids, mmap_mode="r", allow_pickle=False)
    elif isinstance(ids, torch.Tensor):
        ids = ids.detach().cpu().numpy()
    return checks.token_array(np.asarray(ids))


class WindowDataset(Dataset):
    """All windows of a long sequence of token ids, held once.

    ids: the token ids (N,); see `as_token_array`.
    max_length: T, the number of inputs of a window. stride: tokens from one window's start to the
    next one's; by default `max_length`, so that each token is an input once.

    `dataset[i]` is `(inputs, targets)`, each (T,) int64, the targets one token ahead;
    `dataset[[i, j, ...]]` is a batch of them, each (B, T), gathered in one step.
    Raises ValueError if no window fits, and for sizes below 1.
    """

    def __init__(self, ids: TokenIds, max_length: int, stride: int | None = None):
        ids = as_token_array(ids)
        stride = max_length if stride is None else stride
        checks.window_fits(len(ids), max_length, stride)
        # (windows, T + 1), a view: nothing is copied
        self.windows = np.lib.stride_tricks.sliding_window_view(ids, max_length + 1)[::stride]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        window = torch.from_numpy(self.windows[index].astype(np.int64))  # (..., T + 1)
        return window[..., :-1].contiguous(), window[..., 1:].contiguous()


def create_dataloader(
    ids: TokenIds,
    max_length: int,
    stride: int | None = None,
    batch_size: int = 8,
    *,
    shuffle: bool = True,
    drop_last: bool = True,
    generator: torch.Generator | None = None,
) -> DataLoader:
    """Return a loader of batches `(inputs, targets)`, each (batch_size, max_length) int64.

    shuffle: a new order in each epoch, drawn from `generator` (by default, the global one).
    drop_last: leave out the last batch if it is not full. Other parameters: see `WindowDataset`.
    Raises ValueError if there is not a single batch.
    """
    dataset = WindowDataset(ids, max_length, stride)
    checks.fills_batch("windows", len(dataset), batch_size, drop_last)
    order = RandomSampler(dataset, generator=generator) if shuffle else range(len(dataset))
    # batch_size=None: the sampler already yields whole batches of indices
    return DataLoader(dataset, sampler=BatchSampler(order, batch_size, drop_last), batch_size=None)


def split(
    documents: Sequence[str], val_fraction: float = 0.1, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Divide documents into those to train on and those to validate on, each in the given order.

    Whole documents are drawn, and equal ones go to the same side, so that no text is in both.
    At least one document goes to each side. Raises ValueError if that is impossible.
    """
    checks.divisible(documents, val_fraction)
    distinct = list(dict.fromkeys(documents))
    random.Random(seed).shuffle(distinct)
    n_val = min(max(1, round(val_fraction * len(distinct))), len(distinct) - 1)
    held_out = set(distinct[:n_val])
    train = [document for document in documents if document not in held_out]
    val = [document for document in documents if document in held_out]
    return train, val


class DocumentDataset(Dataset):
    """Documents of different lengths, one per row, padded with targets of -100.

    documents: token ids of each, without special tokens. end_of_text: the id that opens and closes
    a document. context_length: the most inputs that the model takes, if there is a limit.

    `dataset[[i, j, ...]]` is a batch `(inputs, targets)`, each (B, T) int64, T one more than the
    longest document has: `end_of_text w1 … wn` and `w1 … wn end_of_text`. Inputs are padded with
    `end_of_text`, targets with -100, which a loss ignores. `dataset[i]` is one row, (T,) each.
    Raises ValueError for no documents, an empty one, one that is too long, and one that already
    holds `end_of_text`.
    """

    def __init__(
        self,
        documents: Sequence[TokenIds],
        end_of_text: int,
        context_length: int | None = None,
    ):
        checks.documents(len(documents), end_of_text)
        pieces = [np.array([end_of_text])]
        for number, document in enumerate(documents):
            with checks.about(f"document {number}"):
                ids = as_token_array(document)
            checks.document(number, ids, end_of_text, context_length)
            pieces += [ids, pieces[0]]
        # held once: end_of_text d0 end_of_text d1 … end_of_text, so that neighbours share it
        self.ids = np.concatenate(pieces)
        self.lengths = np.array([len(ids) + 1 for ids in pieces[1::2]])
        self.starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int | Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        starts, lengths = self.starts[index][..., None], self.lengths[index][..., None]  # (B, 1)
        steps = np.arange(lengths.max())  # (T,)
        inside = steps < lengths  # (B, T)
        places = starts + np.where(inside, steps, 0)  # padding reads the first id, end_of_text
        inputs = self.ids[places]
        targets = np.where(inside, self.ids[places + 1], -100)
        return torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets)


class LengthSampler(Sampler):
    """Batches of indices of similar length, so that little padding is needed.

    Shuffled: all indices in random order, sorted by length within pools of POOL batches, and then
    the batches in random order. Not shuffled: all sorted by length. With drop_last, indices that
    do not fill a batch are left out, chosen at random if shuffled.
    """

    POOL = 50

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = True,
        generator: torch.Generator | None = None,
    ):
        self.lengths, self.batch_size = np.asarray(lengths), batch_size
        self.shuffle, self.drop_last, self.generator = shuffle, drop_last, generator

    def __len__(self) -> int:
        n_full, rest = divmod(len(self.lengths), self.batch_size)
        return n_full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        n, size = len(self.lengths), self.batch_size
        order = self.permutation(n)
        # left out before anything is sorted: afterwards it would always be the longest
        order = order[: n - n % size] if self.drop_last else order
        pool = self.POOL * size if self.shuffle else n
        pools = [order[start : start + pool] for start in range(0, n, pool)]
        order = np.concatenate([p[np.argsort(self.lengths[p], kind="stable")] for p in pools])
        batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
        yield from (batches[i] for i in self.permutation(len(batches)))

    def permutation(self, n: int) -> np.ndarray:
        """Return the numbers below n: in random order if this sampler shuffles."""
        return torch.randperm(n, generator=self.generator).numpy() if self.shuffle else np.arange(n)


def create_document_loader(
    documents: Sequence[TokenIds],
    end_of_text: int,
    batch_size: int = 8,
    *,
    context_length: int | None = None,
    shuffle: bool = True,
    drop_last: bool = True,
    generator: torch.Generator | None = None,
) -> DataLoader:
    """Return a loader of batches `(inputs, targets)`, each (B, T) int64: a document in each row.

    See `DocumentDataset` for the rows and `LengthSampler` for their order, which is drawn from
    `generator` (by default the global one) in each epoch, or always the same without `shuffle`.
    Raises ValueError where there is not a single batch to give.
    """
    dataset = DocumentDataset(documents, end_of_text, context_length)
    checks.fills_batch("documents", len(dataset), batch_size, drop_last)
    sampler = LengthSampler(dataset.lengths, batch_size, shuffle, drop_last, generator)
    # batch_size=None: the sampler already yields whole batches of indices
    return DataLoader(dataset, sampler=sampler, batch_size=None)
