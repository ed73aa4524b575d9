# From notebooks/02_embeddings.ipynb: edit there, then run make export.

"""Word vectors: learned by skip-gram with negative sampling, compared by angle, read from files.

What passes between the functions is gensim's `KeyedVectors`: a list of words (`index_to_key`), its
inverse (`key_to_index`) and a matrix with a row for each word (`vectors`). So what is learned here,
by gensim, or was published by others answers the same questions.

Shapes: V words in the vocabulary, C dimensions, N pairs, K noise words for each pair.

Left out: phrases, pieces of words (fastText), the hierarchical softmax, and pickled models, since
to unpickle a file is to run what it says.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gensim.models import KeyedVectors, Word2Vec
from torch import Tensor, nn

from llmlib.data import corpora
from llmlib.data.vector_files import MEGABYTES, fetch_word_vectors, read_word_vectors


def to_words(text: str) -> list[str]:
    """Split a text into its words, the runs of letters, in lower case.

    >>> to_words("The queen's hat, 3 coins!")
    ['the', 'queen', 's', 'hat', 'coins']
    """
    return re.findall(r"[^\W\d_]+", text.lower())


def window_pairs(documents: Sequence[Sequence[int]], window: int) -> Tensor:
    """Every pair (centre, neighbour) of word ids at most `window` apart in one document: (N, 2).

    Raises ValueError for a window below 1.
    """
    if window < 1:
        raise ValueError(f"a window of {window} holds no neighbours: it must be at least 1")
    ids = torch.tensor([i for document in documents for i in document], dtype=torch.long)
    lengths = torch.tensor([len(document) for document in documents], dtype=torch.long)
    owner = torch.repeat_interleave(torch.arange(len(documents)), lengths)
    pairs = [torch.empty(0, 2, dtype=torch.long)]
    for distance in range(1, min(window, len(ids) - 1) + 1):
        together = owner[distance:] == owner[:-distance]
        left, right = ids[:-distance][together], ids[distance:][together]
        pairs += [torch.stack([left, right], dim=1), torch.stack([right, left], dim=1)]
    return torch.cat(pairs)


def unit(x: Tensor) -> Tensor:
    """Scale vectors (..., C) to length 1; a zero vector, which has no direction, stays zero.

    Raises ValueError if a component is NaN or infinite.
    """
    # gensim's arrays are read-only, which as_tensor would warn of: they are copied.
    x = x if isinstance(x, Tensor) else torch.tensor(np.asarray(x))
    x = x if x.is_floating_point() else x.float()
    if not torch.isfinite(x.sum()) and not torch.isfinite(x).all():
        raise ValueError("a vector holds NaN or infinite numbers: it has no direction")
    return F.normalize(x, dim=-1)


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of the angle between vectors (..., C) and (..., C), which broadcast: (...).

    It is 0 where a vector is zero. Raises ValueError for NaN, infinite numbers and different C.

    >>> cosine_similarity(torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0]))
    tensor(1.)
    """
    a, b = unit(a), unit(b)
    if a.shape[-1:] != b.shape[-1:]:
        raise ValueError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)}: vectors need equally many components"
        )
    return (a * b).sum(dim=-1)


def word_vectors(words: Sequence[str], matrix: Tensor) -> KeyedVectors:
    """Put words and their vectors, a matrix (V, C), into gensim's container.

    Raises ValueError where they do not fit, a word occurs twice, or a number is NaN or infinite.
    """
    matrix = torch.as_tensor(matrix).detach().cpu().float().numpy().copy()
    words = list(words)
    if matrix.ndim != 2 or len(matrix) != len(words) or not matrix.size:
        raise ValueError(
            f"{len(words)} words and a matrix of shape {matrix.shape}: give one row for each word"
        )
    if len(set(words)) < len(words):
        raise ValueError(f"the word {Counter(words).most_common(1)[0][0]!r} occurs twice")
    if not np.isfinite(matrix).all():
        raise ValueError("the matrix holds NaN or infinite numbers")
    vectors = KeyedVectors(vector_size=matrix.shape[1])
    vectors.add_vectors(words, matrix)
    return vectors


def find(vectors: KeyedVectors, word: str) -> int:
    """The row of a word. Raises KeyError, with the nearest spelling, for a word without vector."""
    if not isinstance(word, str):
        raise TypeError(f"a word is a string, not {word!r}")
    if word not in vectors.key_to_index:
        # The frequent words come first; in millions, a search by spelling would take minutes.
        near = difflib.get_close_matches(word, vectors.index_to_key[:20_000], n=1)
        hint = f": did you mean {near[0]!r}?" if near else f" among these {len(vectors):,}"
        raise KeyError(f"no vector for {word!r}{hint}")
    return vectors.key_to_index[word]


def cosines(vectors: KeyedVectors, queries: Tensor) -> Tensor:
    """The cosine of each query (Q, C) with each word: (Q, V). No copy of the matrix is made."""
    matrix = torch.from_numpy(vectors.vectors)
    lengths = matrix.norm(dim=1).clamp(min=1e-12)
    return unit(torch.as_tensor(queries, dtype=matrix.dtype)) @ matrix.T / lengths


def nearest(
    vectors: KeyedVectors, query: str | Tensor, k: int = 10, exclude: Iterable[str] = ()
) -> list[tuple[str, float]]:
    """The k words whose vectors point most nearly where the query points, with their cosines.

    query: a word, which does not count as its own neighbour, or a vector (C,).
    exclude: words that shall not be found.

    Raises KeyError for an unknown word, and ValueError for k out of range or a misshapen vector.
    """
    banned = {find(vectors, word) for word in exclude}
    if isinstance(query, str):
        banned.add(find(vectors, query))
        query = vectors.vectors[find(vectors, query)]
    query = unit(query)
    if query.shape != (vectors.vector_size,):
        raise ValueError(f"shape {tuple(query.shape)}: these vectors are ({vectors.vector_size},)")
    if not 1 <= k <= len(vectors) - len(banned):
        raise ValueError(f"k is {k}: there are {len(vectors) - len(banned)} words to choose from")
    similar = cosines(vectors, query[None])[0]
    similar[list(banned)] = -torch.inf
    best = torch.topk(similar, k)
    return [
        (vectors.index_to_key[i], c) for i, c in zip(best.indices.tolist(), best.values.tolist())
    ]


class SkipGram(nn.Module):
    """Two vectors for each word, `centers` (kept in the end) and `contexts`, and the loss on pairs.

    Mikolov et al. 2013, Distributed Representations of Words and Phrases, equation 4.
    Raises ValueError for fewer than two words, words that repeat, or an emb_dim below 1.
    """

    def __init__(
        self, words: Sequence[str], emb_dim: int, generator: torch.Generator | None = None
    ):
        super().__init__()
        if len(words) < 2 or len(set(words)) < len(words):
            raise ValueError(f"{len(words)} words: give at least two, each of them once")
        if emb_dim < 1:
            raise ValueError(f"emb_dim is {emb_dim}: it must be at least 1")
        self.words = list(words)
        self.centers = nn.Embedding(len(words), emb_dim)
        self.contexts = nn.Embedding(len(words), emb_dim)
        nn.init.uniform_(self.centers.weight, -0.5 / emb_dim, 0.5 / emb_dim, generator=generator)
        nn.init.zeros_(self.contexts.weight)  # so that training starts at chance: (1 + K) log 2

    def forward(self, center: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """The mean loss of pairs: ids center (N,), context (N,), noise (N, K) -> ()."""
        v = self.centers(center)  # (N, C)
        true = torch.einsum("nc,nc->n", v, self.contexts(context))
        made_up = torch.einsum("nc,nkc->nk", v, self.contexts(noise))
        return -(F.logsigmoid(true) + F.logsigmoid(-made_up).sum(dim=1)).mean()

    def word_vectors(self) -> KeyedVectors:
        """The centre vectors, with their words."""
        return word_vectors(self.words, self.centers.weight)


def noise_distribution(frequencies: Tensor, power: float = 0.75) -> Tensor:
    """The probabilities (V,) with which noise words are drawn: frequencies ** power, normalised.

    Raises ValueError if a frequency is not positive.
    """
    frequencies = torch.as_tensor(frequencies, dtype=torch.float32)
    if not frequencies.numel() or not (frequencies > 0).all():
        raise ValueError("noise needs frequencies above 0, one for each word")
    weights = frequencies**power
    return weights / weights.sum()


def keep_probability(frequencies: Tensor, threshold: float) -> Tensor:
    """The probability (V,) with which an occurrence of each word survives subsampling.

    Mikolov et al. 2013, equation 5. Raises ValueError for a threshold that is not positive.
    """
    if not threshold > 0:
        raise ValueError(
            f"threshold is {threshold}: it must be above 0 (infinity keeps every word)"
        )
    shares = torch.as_tensor(frequencies, dtype=torch.float32)
    shares = shares / shares.sum()
    return torch.sqrt(threshold / shares).clamp(max=1)


def thin_out(
    documents: Sequence[Sequence[int]], keep: Tensor, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Drop each occurrence of word id i with probability 1 - keep[i]."""
    keep = keep.tolist()
    thinned = []
    for document in documents:
        draws = torch.rand(len(document), generator=generator).tolist()
        thinned.append([i for i, draw in zip(document, draws) if draw < keep[i]])
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

    n_noise: noise words for each pair; subsample: the threshold of `keep_probability`. The losses
    are one a step, in nats; chance is (1 + n_noise) log 2.

    Raises TypeError for a document that is a string, and ValueError for sizes out of range or
    documents in which no two words stand together.
    """
    sizes = {"window": window, "n_noise": n_noise, "epochs": epochs, "batch_size": batch_size}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1")
    if any(isinstance(document, str) for document in documents):
        raise TypeError("a document is a list of words, not a string: split it with to_words")
    generator = torch.Generator().manual_seed(seed)
    counts = Counter(word for document in documents for word in document)
    model = SkipGram(sorted(counts, key=lambda w: (-counts[w], w)), emb_dim, generator)

    row = {word: i for i, word in enumerate(model.words)}
    encoded = [[row[word] for word in document] for document in documents]
    frequencies = torch.tensor([counts[word] for word in model.words])
    noise, keep = noise_distribution(frequencies), keep_probability(frequencies, subsample)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    losses = []
    for epoch in range(epochs):
        pairs = window_pairs(thin_out(encoded, keep, generator), window)
        if not len(pairs):
            raise ValueError("no two words stand together: give more text, or a larger subsample")
        batches = pairs[torch.randperm(len(pairs), generator=generator)].split(batch_size)
        for step, batch in enumerate(batches):
            drawn = torch.multinomial(noise, len(batch) * n_noise, True, generator=generator)
            loss = model(batch[:, 0], batch[:, 1], drawn.view(-1, n_noise))
            done = (epoch + step / len(batches)) / epochs
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - done)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return model, losses


def odd_one_out(vectors: KeyedVectors, words: Sequence[str]) -> str:
    """The word that is least similar, on average, to the others.

    Raises KeyError for an unknown word, and ValueError for fewer than three different words.
    """
    words = list(dict.fromkeys(words))
    if len(words) < 3:
        raise ValueError(f"{len(words)} different words: an odd one needs at least two others")
    chosen = vectors.vectors[[find(vectors, word) for word in words]]
    similar = cosine_similarity(chosen[:, None], chosen[None])
    return words[int(similar.sum(dim=1).argmin())]


def pca(x: Tensor, k: int = 2) -> tuple[Tensor, Tensor]:
    """Coordinates (N, k) of points (N, C) along their k main directions, and the share of the
    variance (k,) that each explains.

    The sign of a direction means nothing: it is chosen so that its largest component is positive.
    Raises ValueError for fewer than two points, equal points, NaN, or k out of range.
    """
    x = torch.as_tensor(x)
    x = x if x.is_floating_point() else x.float()
    if x.ndim != 2 or len(x) < 2 or not torch.isfinite(x).all():
        raise ValueError(f"shape {tuple(x.shape)}: give two or more finite vectors (N, C)")
    if not 1 <= k <= min(x.shape):
        raise ValueError(
            f"k is {k}: {len(x)} points in {x.shape[1]} dimensions allow 1 to {min(x.shape)}"
        )
    centered = x - x.mean(dim=0)
    _, s, directions = torch.linalg.svd(centered, full_matrices=False)
    if not s[0] > 0:
        raise ValueError("all points are the same: no direction explains anything")
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return centered @ (directions * largest.sign())[:k].T, (s**2 / (s**2).sum())[:k]


def analogy(
    vectors: KeyedVectors, a: str, b: str, c: str, k: int = 1, exclude: bool = True
) -> list[tuple[str, float]]:
    """ "a is to b as c is to ...": the k words nearest to b - a + c, and their cosines.

    exclude: whether a, b and c are ruled out as answers, as is usual. Raises as `nearest` does.
    """
    a_row, b_row, c_row = (find(vectors, word) for word in (a, b, c))
    towards = unit(torch.from_numpy(vectors.vectors[[a_row, b_row, c_row]]))
    return nearest(vectors, towards[1] - towards[0] + towards[2], k, (a, b, c) if exclude else ())


def analogy_accuracy(
    vectors: KeyedVectors, questions: Sequence[tuple[str, str, str, str]], exclude: bool = True
) -> float:
    """The share of questions (a, b, c, d) for which `analogy(a, b, c)` gives d.

    Raises KeyError for an unknown word, and ValueError for no questions.
    """
    if not len(questions) or any(len(question) != 4 for question in questions):
        raise ValueError("give at least one question, each of four words: a is to b as c is to d")
    asked = torch.tensor([[find(vectors, word) for word in question] for question in questions])
    matrix = torch.from_numpy(vectors.vectors)
    right = 0
    at_once = max(1, 30_000_000 // len(matrix))  # a cosine for each question and word: 120 MB
    for a, b, c, d in (chunk.T for chunk in asked.split(at_once)):
        query = unit(matrix[b]) - unit(matrix[a]) + unit(matrix[c])
        similar = cosines(vectors, query)
        if exclude:
            similar.scatter_(1, torch.stack([a, b, c], dim=1), -torch.inf)
        right += (similar.argmax(dim=1) == d).sum().item()
    return right / len(asked)


def train_on_wiki() -> KeyedVectors:
    """Vectors (about 7,700, 100) of the words of the `wiki` corpus, by gensim; some 15 seconds."""
    documents = [to_words(text) for text in corpora.documents("wiki")]
    model = Word2Vec(
        documents, sg=1, vector_size=100, window=5, negative=5, min_count=5, alpha=0.05,
        epochs=10, workers=1, seed=1,  # one worker, so that the result is the same every time
    )  # fmt: skip
    return model.wv


def load_word_vectors(name_or_path: str | Path = "wiki") -> KeyedVectors:
    """Word vectors by name or from a file.

    "wiki": trained on the spot, with no network. "google-news-300" (1.66 GB) or a name of gensim's
    downloader: fetched once. Otherwise the path of a file in word2vec's or GloVe's form.

    Raises ValueError for an unknown name or a file that holds no vectors, FileNotFoundError,
    IsADirectoryError, and ConnectionError if a name cannot be fetched.
    """
    name, path = str(name_or_path), Path(name_or_path)
    name = "word2vec-google-news-300" if name == "google-news-300" else name
    if name == "wiki":
        return train_on_wiki()
    if name in MEGABYTES:
        return read_word_vectors(fetch_word_vectors(name))
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file of word vectors in it")
    if path.exists():
        return read_word_vectors(path)
    if len(path.parts) > 1 or path.suffix:
        raise FileNotFoundError(f"there is no file {path}")
    known = ["wiki", "google-news-300", *MEGABYTES]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, or give a path"
    raise ValueError(f"no word vectors are called {name!r}: {hint}")
