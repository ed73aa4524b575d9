"""An n-gram model with Kneser-Ney smoothing, written by hand: the baseline of every neural one.

Notebook 05 builds the same model from dictionaries, in twenty lines, and shows that the two are
equal. Here all counts lie in sorted arrays, so that a batch of contexts is looked up in a few calls
of NumPy. What is left out: models that are larger than memory.

The grams of each length are numbered. A gram of five tokens is the number of its first four, times
the size of the vocabulary, plus the last token; `np.unique` sorts and counts all of them at once.
What may follow one context then stands side by side, and finding a context is a binary search.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmlib import checks
from llmlib.data.batches import as_token_array


class Grams(NamedTuple):
    """All different sequences of one length that were seen, sorted, and what their counts say.

    A context is a gram without its last token; its number is its place among the grams that are
    one shorter.
    """

    keys: np.ndarray  # (G,) int64: number of the context times V, plus the last token
    starts: np.ndarray  # (contexts + 1,) int64: where the grams of each context begin
    shares: np.ndarray  # (G,) float32: the probability of the last token, less the discount
    backoffs: np.ndarray  # (contexts,) float32: what the discounts leave to the shorter context


def count_grams(
    tokens: np.ndarray, positions: np.ndarray, n: int, vocab_size: int
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield, for the lengths 1, 2, … n: keys (G,), the number of contexts, and counts (G,).

    tokens: the ids of all documents (N,); positions: that of each in its document, from 0 on.
    The longest grams are counted as often as they occur, shorter ones once for each different
    token that stood before them. A gram that opens a document has no token before it, and is
    counted as often as it occurs.
    """
    number = np.zeros(len(tokens), dtype=np.int64)  # of the gram that ends at each token
    keys, n_contexts, counts = np.empty(0, dtype=np.int64), 1, np.empty(0)
    for length in range(1, n + 1):
        ends = np.flatnonzero(positions >= length - 1)
        longer, first, found = np.unique(
            number[ends - 1] * vocab_size + tokens[ends], return_index=True, return_inverse=True
        )
        if length > 1:  # the first place of each longer gram tells what shorter one it ends with
            counts += np.bincount(number[ends[first]], minlength=len(keys))
            yield keys, n_contexts, counts
            n_contexts = len(keys)
        at = positions[ends]
        occurs = at > 0 if length == n else (at == length - 1) & (length > 1)
        keys, counts = longer, np.bincount(found, weights=occurs, minlength=len(longer))
        number = np.full(len(tokens), -1)
        number[ends] = found
    yield keys, n_contexts, counts


def discount_counts(
    keys: np.ndarray, n_contexts: int, counts: np.ndarray, vocab_size: int, discount: float | None
) -> Grams:
    """Turn the counts of one length into probabilities; discount None means the usual estimate."""
    if discount is None:  # n1 / (n1 + 2 n2), Ney, Essen and Kneser 1994
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        # within bounds, because a discount of 0 would rule out what was not seen
        discount = np.clip(once / max(1, once + 2 * twice), 0.1, 0.95)
    context = keys // vocab_size
    total = np.bincount(context, weights=counts, minlength=n_contexts)  # n(c)
    kinds = np.bincount(context, weights=counts > 0, minlength=n_contexts)  # k(c)
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
    softmax is themselves. The beginning of a row has a shorter context, and an unseen context backs
    off to its longest seen suffix.

    n: 1 for a unigram model, 2 for a bigram model, and so on. discount: d, between 0 and 1; by
    default it is estimated for each length from how many grams were counted once and twice.
    Raises ValueError for other sizes and discounts.
    Source: Kneser and Ney 1995, interpolated as by Chen and Goodman 1998.

    >>> model = NGramModel(2, vocab_size=3).fit([0, 1, 0, 1, 0, 2])
    >>> model(torch.tensor([[0]])).exp().argmax().item()
    1
    """

    def __init__(self, n: int, vocab_size: int, discount: float | None = None):
        checks.ngram_model(n, vocab_size, discount)
        self.n, self.vocab_size, self.discount = int(n), int(vocab_size), discount
        self.levels: list[Grams] = []

    def fit(self, ids: Sequence) -> "NGramModel":
        """Count the grams of token ids (N,), or of a list of them, one for each document.

        No gram reaches from one document into another, and the first token of each is context only:
        let it be `<|endoftext|>`, and the last one too. Returns the model.
        Raises ValueError or TypeError unless they are ids below vocab_size.
        """
        is_single = isinstance(ids, (str, Path, np.ndarray, Tensor))
        is_single = is_single or (len(ids) > 0 and np.ndim(ids[0]) == 0)
        documents = [as_token_array(document) for document in ([ids] if is_single else ids)]
        checks.ngram_documents(documents, self.vocab_size)
        tokens = np.concatenate(documents).astype(np.int64)
        positions = np.concatenate([np.arange(len(document)) for document in documents])
        n = min(self.n, positions.max() + 1)  # the longest gram that there is
        self.levels = [
            discount_counts(*counted, self.vocab_size, self.discount)
            for counted in count_grams(tokens, positions, n, self.vocab_size)
        ]
        return self

    def find_contexts(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return for 1, 2, … n - 1 tokens the number (B, T) of the gram that ends there, or -1."""
        number, found = np.zeros_like(ids), []
        for grams in self.levels[:-1]:
            before = np.full_like(ids, -1 if found else 0)
            before[:, 1:] = number[:, :-1]
            keys = before * self.vocab_size + ids
            at = np.searchsorted(grams.keys, keys).clip(max=len(grams.keys) - 1)
            number = np.where((before >= 0) & (grams.keys[at] == keys), at, -1)
            found.append(number)
        return found

    def __call__(self, ids: Tensor) -> Tensor:
        """Map ids (B, T) to log-probabilities (B, T, V) of the token that follows, in float32.

        Raises RuntimeError before `fit`, and TypeError or ValueError unless ids are such a tensor.
        """
        checks.ngram_ids(ids, is_fitted=bool(self.levels))
        tokens = as_token_array(ids.flatten()).astype(np.int64)  # (B, T) -> (B * T,)
        checks.known_ids([int(tokens.max())], self.vocab_size)
        first, *longer = self.levels
        p = np.full(self.vocab_size, first.backoffs[0] / self.vocab_size, dtype=np.float32)
        p[first.keys] += first.shares
        p = np.tile(p, (len(tokens), 1))  # (V,) -> (B * T, V)
        for grams, number in zip(longer, self.find_contexts(tokens.reshape(ids.shape))):
            row = np.flatnonzero(number >= 0)  # the positions whose context was seen
            context = number.flat[row]
            backoff = np.ones((len(tokens), 1), dtype=np.float32)
            backoff[row, 0] = grams.backoffs[context]
            p *= backoff
            # the grams of a context stand side by side: starts, starts + 1, … for each of the rows
            size = grams.starts[context + 1] - grams.starts[context]
            gram = np.arange(size.sum()) + np.repeat(
                grams.starts[context] - size.cumsum() + size, size
            )
            p[np.repeat(row, size), grams.keys[gram] % self.vocab_size] += grams.shares[gram]
        log_p = torch.from_numpy(np.log(p, out=p))
        return log_p.view(*ids.shape, self.vocab_size).to(ids.device)  # (B * T, V) -> (B, T, V)
