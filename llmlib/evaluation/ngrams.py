# From notebooks/05_loss.ipynb: edit there, then run make export.

"""An n-gram model with Kneser-Ney smoothing, the baseline of every neural one.

Built in notebook 05.
"""

from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from llmlib.data.batches import as_token_array


class Grams(NamedTuple):
    """All different sequences of one length that were seen, sorted, and what the counts make of it.

    A context is what a gram is without its last token; its number is its place among the grams
    that are one shorter.
    """

    keys: np.ndarray  # (G,) int64: number of the context times V, plus the last token
    starts: np.ndarray  # (contexts + 1,) int64: where the grams of each context begin
    shares: np.ndarray  # (G,) float32: the probability of the last token, less the discount
    backoffs: np.ndarray  # (contexts,) float32: what the discounts leave to the shorter context


def count_grams(
    tokens: np.ndarray, place: np.ndarray, n: int, vocab_size: int
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield, for the lengths 1, 2, … n: keys (G,), the number of contexts, and counts (G,).

    tokens: the ids of all documents (N,); place: that of each in its document, from 0 on.
    The longest grams are counted as often as they occur, shorter ones once for each different
    token that stood before them. What opens a document has none, and is counted as it occurs.
    """
    number = np.zeros(len(tokens), dtype=np.int64)  # of the gram that ends at each token
    keys, n_contexts, counts = np.empty(0, dtype=np.int64), 1, None
    for length in range(1, n + 1):
        ends = np.flatnonzero(place >= length - 1)
        longer, first, found = np.unique(
            number[ends - 1] * vocab_size + tokens[ends], return_index=True, return_inverse=True
        )
        if length > 1:  # the first place of each longer gram tells what shorter one it ends with
            counts += np.bincount(number[ends[first]], minlength=len(keys))
            yield keys, n_contexts, counts
            n_contexts = len(keys)
        as_it_occurs = (
            place[ends] > 0 if length == n else (place[ends] == length - 1) & (length > 1)
        )
        keys, counts = longer, np.bincount(found, weights=as_it_occurs, minlength=len(longer))
        number = np.full(len(tokens), -1)
        number[ends] = found
    yield keys, n_contexts, counts


def weigh_grams(
    keys: np.ndarray, n_contexts: int, counts: np.ndarray, vocab_size: int, discount: float | None
) -> Grams:
    """Turn the counts of one length into probabilities; discount None: the customary one."""
    if discount is None:
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        # within bounds, because a discount of 0 would rule out what was not seen
        discount = np.clip(once / max(1, once + 2 * twice), 0.1, 0.95)
    context = keys // vocab_size
    total = np.bincount(context, weights=counts, minlength=n_contexts)
    kinds = np.bincount(context, weights=counts > 0, minlength=n_contexts)
    divisor = np.maximum(total, 1)
    return Grams(
        keys,
        np.searchsorted(context, np.arange(n_contexts + 1)),
        (np.maximum(counts - discount, 0) / divisor[context]).astype(np.float32),
        np.where(total > 0, discount * kinds / divisor, 1).astype(np.float32),
    )


class NGramModel:
    """Counts what followed the last n - 1 tokens, with interpolated Kneser-Ney smoothing.

    As a language model it maps ids (B, T) to log-probabilities (B, T, V), which are logits whose
    softmax is themselves. The beginning of a row has a shorter context, and of a context that was
    never seen, the longest end that was seen counts.

    n: 1 for a unigram model, 2 for a bigram model, and so on. discount: d, between 0 and 1; if left
    out, it is estimated for each length from how many grams were counted once and twice.
    Raises ValueError for sizes that do not make sense.
    Source: Kneser and Ney 1995, interpolated as by Chen and Goodman 1998; the discount of Ney,
    Essen and Kneser 1994.

    >>> model = NGramModel(2, vocab_size=3).fit([0, 1, 0, 1, 0, 2])
    >>> model(torch.tensor([[0]])).exp().argmax().item()
    1
    """

    def __init__(self, n: int, vocab_size: int, discount: float | None = None):
        for name, value in {"n": n, "vocab_size": vocab_size}.items():
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
        if discount is not None and not 0 < discount < 1:
            raise ValueError(f"discount is {discount!r}: it must lie between 0 and 1")
        self.n, self.vocab_size, self.discount = int(n), int(vocab_size), discount
        self.levels: list[Grams] = []

    def fit(self, ids: Sequence) -> "NGramModel":
        """Count the grams of a sequence of token ids (N,), or of a list of them, one a document.

        No gram reaches from one document into another, and the first token of each is context only:
        let it be `<|endoftext|>`, and the last one too. Returns the model.
        Raises ValueError or TypeError for what are no ids below vocab_size.
        """
        one = isinstance(ids, (str, Path, np.ndarray, torch.Tensor))
        one = one or (len(ids) > 0 and np.ndim(ids[0]) == 0)
        documents = [as_token_array(document) for document in ([ids] if one else ids)]
        if sum(len(document) > 1 for document in documents) == 0:
            raise ValueError("there is nothing to count: no token follows another one")
        tokens = np.concatenate(documents).astype(np.int64)
        place = np.concatenate([np.arange(len(document)) for document in documents])
        if tokens.max() >= self.vocab_size:
            raise ValueError(
                f"token id {tokens.max()} is outside the vocabulary: "
                f"ids are 0 to {self.vocab_size - 1}"
            )
        n = min(self.n, place.max() + 1)  # the longest gram that there is
        self.levels = [
            weigh_grams(*counted, self.vocab_size, self.discount)
            for counted in count_grams(tokens, place, n, self.vocab_size)
        ]
        return self

    def find_contexts(self, ids: np.ndarray) -> list[np.ndarray]:
        """For 1, 2, … n - 1 tokens: the number of the gram that ends at each place, or -1."""
        number, found = np.zeros_like(ids), []
        for grams in self.levels[:-1]:
            before = np.full_like(ids, -1 if found else 0)
            before[:, 1:] = number[:, :-1]
            keys = before * self.vocab_size + ids
            at = np.searchsorted(grams.keys, keys).clip(max=len(grams.keys) - 1)
            number = np.where((before >= 0) & (grams.keys[at] == keys), at, -1)
            found.append(number)
        return found

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to log-probabilities (B, T, V) of the token that follows, in float32.

        Raises RuntimeError before `fit`, and TypeError or ValueError for what are no such ids.
        """
        if not self.levels:
            raise RuntimeError("the model has counted nothing yet: call fit(ids) first")
        if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
            raise TypeError(
                "ids must be a tensor (batch, tokens), for one sequence ids.unsqueeze(0)"
            )
        as_token_array(ids.flatten())
        if ids.max() >= self.vocab_size:
            raise ValueError(
                f"token id {ids.max()} is outside the vocabulary: "
                f"ids are 0 to {self.vocab_size - 1}"
            )
        first, *longer = self.levels
        weight, parts = (
            np.ones(ids.numel(), dtype=np.float32),
            [],
        )  # the weight left to shorter ones
        contexts = self.find_contexts(ids.cpu().numpy().astype(np.int64))
        for grams, number in zip(reversed(longer), reversed(contexts)):
            row = np.flatnonzero(number >= 0)
            context = number.flat[row]
            size = grams.starts[context + 1] - grams.starts[context]
            gram = np.arange(size.sum()) + np.repeat(
                grams.starts[context] - size.cumsum() + size, size
            )
            row_of_gram = np.repeat(row, size)
            parts.append((row_of_gram, gram, grams, weight[row_of_gram]))
            weight[row] *= grams.backoffs[context]
        unigram = np.full(self.vocab_size, first.backoffs[0] / self.vocab_size, dtype=np.float32)
        unigram[first.keys] += first.shares
        p = weight[:, None] * unigram  # (B * T, V)
        for row, gram, grams, left in parts:
            p[row, grams.keys[gram] % self.vocab_size] += left * grams.shares[gram]
        return torch.from_numpy(np.log(p, out=p)).view(*ids.shape, -1).to(ids.device)
