# From notebooks/02_embeddings.ipynb: edit there, then run make export.

"""Word vectors learned from text, by skip-gram with negative sampling.

Built in notebook 02, after Mikolov et al. 2013, Distributed Representations of Words and Phrases.
Left out: the hierarchical softmax, and threads; gensim's Word2Vec is the same method, compiled.

Shapes: V words in the vocabulary, C dimensions, N pairs, K noise words for each pair.
"""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from gensim.models import KeyedVectors
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.word_vectors import word_vectors


def encode_words(
    documents: Sequence[Sequence[str]],
) -> tuple[list[str], list[list[int]], Tensor]:
    """Return the words, most frequent first, the documents as their ids, and their counts (V,).

    Raises TypeError for a document that is a string.
    """
    documents = checks.word_lists(documents)
    counts = Counter(word for document in documents for word in document)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    row = {word: i for i, word in enumerate(words)}
    encoded = [[row[word] for word in document] for document in documents]
    return words, encoded, torch.tensor([counts[word] for word in words])


def window_pairs(documents: Sequence[Sequence[int]], window: int) -> Tensor:
    """Return all pairs (centre, neighbour) of ids at most `window` apart in a document: (N, 2).

    Raises ValueError for a window below 1.
    """
    checks.whole_number("window", window)
    ids = torch.tensor([i for document in documents for i in document], dtype=torch.long)
    lengths = torch.tensor([len(document) for document in documents], dtype=torch.long)
    owner = torch.repeat_interleave(torch.arange(len(documents)), lengths)
    pairs = [torch.empty(0, 2, dtype=torch.long)]
    for distance in range(1, min(window, len(ids) - 1) + 1):
        together = owner[distance:] == owner[:-distance]  # no pair crosses the end of a document
        left, right = ids[:-distance][together], ids[distance:][together]
        pairs += [torch.stack([left, right], dim=1), torch.stack([right, left], dim=1)]
    return torch.cat(pairs)


class SkipGram(nn.Module):
    """Two vectors for each word, `centers` (which are kept) and `contexts`, and the loss on pairs.

    Mikolov et al. 2013, equation 4.
    Raises ValueError for fewer than two words, words that repeat, or an emb_dim below 1.
    """

    def __init__(
        self, words: Sequence[str], emb_dim: int, generator: torch.Generator | None = None
    ):
        super().__init__()
        checks.skip_gram(words, emb_dim)
        self.words = list(words)
        self.centers = nn.Embedding(len(words), emb_dim)
        self.contexts = nn.Embedding(len(words), emb_dim)
        nn.init.uniform_(self.centers.weight, -0.5 / emb_dim, 0.5 / emb_dim, generator=generator)
        nn.init.zeros_(self.contexts.weight)  # so that training starts at chance: (1 + K) log 2

    def forward(self, center: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Return the mean loss of pairs: ids center (N,), context (N,), noise (N, K) -> ()."""
        v = self.centers(center)  # (N, C)
        positive = torch.einsum("nc,nc->n", v, self.contexts(context))  # (N,)
        negative = torch.einsum("nc,nkc->nk", v, self.contexts(noise))  # (N, K)
        # log(sigmoid(x)) would be log(0) for x around -100; logsigmoid is not
        return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(dim=1)).mean()

    def word_vectors(self) -> KeyedVectors:
        """Return the centre vectors, with their words."""
        return word_vectors(self.words, self.centers.weight)


def noise_distribution(frequencies: Tensor, power: float = 0.75) -> Tensor:
    """Return the probabilities (V,) of noise words: frequencies ** power, normalised.

    Raises ValueError if a frequency is not positive.
    """
    weights = checks.positive(torch.as_tensor(frequencies, dtype=torch.float32)) ** power
    return weights / weights.sum()


def keep_probability(frequencies: Tensor, threshold: float) -> Tensor:
    """Return the probability (V,) with which an occurrence of each word survives subsampling.

    Mikolov et al. 2013, equation 5. Raises ValueError for a threshold that is not positive.
    """
    checks.number("threshold", threshold, lambda t: t > 0, "above 0 (infinity keeps every word)")
    shares = torch.as_tensor(frequencies, dtype=torch.float32)
    shares = shares / shares.sum()
    return torch.sqrt(threshold / shares).clamp(max=1)


def thin_out(
    documents: Sequence[Sequence[int]], keep: Tensor, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Drop each occurrence of word id i with probability 1 - keep[i]."""
    shares, thinned = keep.tolist(), []
    for document in documents:
        draws = torch.rand(len(document), generator=generator).tolist()
        thinned.append([i for i, draw in zip(document, draws) if draw < shares[i]])
    return thinned


def train_skipgram(
    documents: Sequence[Sequence[str]],
    *,
    emb_dim: int = 48,
    window: int = 5,
    n_noise: int = 5,
    epochs: int = 1,
    batch_size: int = 1024,
    learning_rate: float = 0.02,
    subsample: float = 1e-3,
    seed: int = 1,
) -> tuple[SkipGram, list[float]]:
    """Learn vectors for the words of documents, each a list of words: the model, and its losses.

    n_noise: noise words for each pair; subsample: the threshold of `keep_probability`. There is one
    loss per step, in nats; chance is (1 + n_noise) log 2. Raises ValueError for sizes out of range
    or documents in which no two words stand together, and TypeError as `encode_words` does.
    """
    checks.whole_numbers(n_noise=n_noise, epochs=epochs, batch_size=batch_size)
    words, encoded, frequencies = encode_words(documents)
    generator = torch.Generator().manual_seed(seed)
    model = SkipGram(words, emb_dim, generator)
    noise, keep = noise_distribution(frequencies), keep_probability(frequencies, subsample)
    optimizer, losses = torch.optim.Adam(model.parameters()), []
    for epoch in range(epochs):
        pairs = window_pairs(thin_out(encoded, keep, generator), window)
        checks.require(len(pairs), "no two words stand together: give more text or raise subsample")
        batches = pairs[torch.randperm(len(pairs), generator=generator)].split(batch_size)
        for step, batch in enumerate(batches):
            drawn = torch.multinomial(noise, len(batch) * n_noise, True, generator=generator)
            loss = model(batch[:, 0], batch[:, 1], drawn.view(-1, n_noise))  # noise (N, K)
            done = (epoch + step / len(batches)) / epochs
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - done)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return model, losses
