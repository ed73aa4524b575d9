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
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from llmlib import checks

TokenIds = Sequence[int] | np.ndarray | torch.Tensor | str | Path


def as_token_array(ids: TokenIds) -> np.ndarray:
    """Return token ids as a NumPy array (N,), without copying them where they already lie in one.

    ids: a list, an array (also memory-mapped), a CPU tensor, or the path of a `.npy` file, which is
    memory-mapped. Raises ValueError or TypeError for what is not a sequence of integers from 0 on.
    """
    if isinstance(ids, (str, Path)):
        if Path(ids).suffix != ".npy":
            raise ValueError(
                f"{str(ids)!r} is neither token ids nor a .npy file: encode a text first"
            )
        ids = np.load(ids, mmap_mode="r", allow_pickle=False)
    elif isinstance(ids, torch.Tensor):
        ids = ids.detach().cpu().numpy()
    array = np.asarray(ids)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"token ids must be one sequence of at least one id, not of shape {array.shape}"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, not {array.dtype}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise ValueError(f"token ids start at 0, but {array.min()} is among them")
    return array


class WindowDataset(Dataset):
    """All windows of a long sequence of token ids, held once.

    ids: the token ids (N,); see `as_token_array`.
    max_length: T, the number of inputs of a window. stride: tokens from one window's start to the
    next one's; `max_length` (each token is an input once) where it is left out.

    `dataset[i]` is `(inputs, targets)`, each (T,) int64, the targets one token ahead;
    `dataset[[i, j, ...]]` is a batch of them, each (B, T), gathered in one step.
    Raises ValueError where no window fits, and for sizes below 1.
    """

    def __init__(self, ids: TokenIds, max_length: int, stride: int | None = None):
        ids = as_token_array(ids)
        stride = max_length if stride is None else stride
        for name, value in {"max_length": max_length, "stride": stride}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if len(ids) < max_length + 1:
            raise ValueError(
                f"a window of {max_length} inputs and one more target needs {max_length + 1} "
                f"tokens, but there are {len(ids)}: take a longer text or a smaller max_length"
            )
        self.windows = np.lib.stride_tricks.sliding_window_view(ids, max_length + 1)[::stride]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        window = torch.from_numpy(self.windows[index].astype(np.int64))
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

    shuffle: a new order in each epoch, drawn from `generator` (the global one if left out).
    drop_last: leave the last batch out if it is not full. Other parameters: see `WindowDataset`.
    Raises ValueError where there is not a single batch to give.
    """
    dataset = WindowDataset(ids, max_length, stride)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if drop_last and len(dataset) < batch_size:
        raise ValueError(
            f"{len(dataset)} windows do not fill one batch of {batch_size}: "
            "take a longer text, a smaller batch_size or stride, or drop_last=False"
        )
    order = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
    # batch_size=None: the sampler already yields whole batches of indices
    return DataLoader(dataset, sampler=BatchSampler(order, batch_size, drop_last), batch_size=None)


def split(
    documents: Sequence[str], val_fraction: float = 0.1, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Divide documents into those to train on and those to validate on, each in the given order.

    Whole documents are drawn, and equal ones land on the same side, so that no text is in both.
    At least one document goes to each side. Raises ValueError where that is impossible.
    """
    if isinstance(documents, str):
        raise TypeError(
            "split takes a list of documents; divide one long text with text.split('\\n\\n')"
        )
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must lie between 0 and 1, not at {val_fraction}")
    distinct = list(dict.fromkeys(documents))
    if len(distinct) < 2:
        raise ValueError(
            f"{len(distinct)} different documents cannot be divided: give at least two, "
            "for example the paragraphs of a text, text.split('\\n\\n')"
        )
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
        lengths: Sequence[int],
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
    checks.document_batches(len(dataset), batch_size, drop_last)
    sampler = LengthSampler(dataset.lengths, batch_size, shuffle, drop_last, generator)
    # batch_size=None: the sampler already yields whole batches of indices
    return DataLoader(dataset, sampler=sampler, batch_size=None)
