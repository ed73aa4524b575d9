# From notebooks/02_embeddings.ipynb: edit there, then run make export.

"""Word vectors: kept with their words, compared by angle, asked for neighbours and analogies.

What passes between the functions is gensim's `KeyedVectors`: a list of words (`index_to_key`), its
inverse (`key_to_index`) and a matrix with a row for each word (`vectors`). So vectors learned here,
by gensim or by others answer the same questions.

Built in notebook 02; `model/skipgram.py` learns such vectors, `pretrained/embeddings.py` loads
them. Left out: phrases, and pieces of words (fastText).

Shapes: V words in the vocabulary, C dimensions, Q queries.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from gensim.models import KeyedVectors
from torch import Tensor

from llmlib import checks


def to_words(text: str) -> list[str]:
    """Split a text into its words, the runs of letters, in lower case.

    >>> to_words("The queen's hat, 3 coins!")
    ['the', 'queen', 's', 'hat', 'coins']
    """
    return re.findall(r"[^\W\d_]+", text.lower())


def unit(x: Tensor) -> Tensor:
    """Scale vectors (..., C) to length 1; a zero vector, which has no direction, stays zero.

    Raises ValueError if a component is NaN or infinite.
    """
    # gensim's arrays are read-only, which as_tensor would warn of: they are copied
    x = x if isinstance(x, Tensor) else torch.tensor(np.asarray(x))
    x = x if x.is_floating_point() else x.float()
    return F.normalize(checks.finite(x), dim=-1)


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of the angle between vectors (..., C) and (..., C), which broadcast: (...).

    It is 0 where a vector is zero. Raises ValueError for NaN, infinite numbers and different C.

    >>> cosine_similarity(torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0]))
    tensor(1.)
    """
    a, b = unit(a), unit(b)
    checks.same_components(a, b)
    return (a * b).sum(dim=-1)


def word_vectors(words: Sequence[str], matrix: Tensor) -> KeyedVectors:
    """Put words and their vectors, a matrix (V, C), into gensim's container.

    Raises ValueError if they do not fit, a word occurs twice, or a number is NaN or infinite.
    """
    words, rows = list(words), torch.as_tensor(matrix).detach().cpu().float().numpy().copy()
    checks.row_for_each_word(words, rows)
    vectors = KeyedVectors(vector_size=rows.shape[1])
    vectors.add_vectors(words, rows)
    return vectors


def find(vectors: KeyedVectors, word: str) -> int:
    """Return the row of a word. Raises KeyError, with the nearest spelling, for an unknown word."""
    return checks.known_word(word, vectors.key_to_index)


def cosines(vectors: KeyedVectors, queries: Tensor) -> Tensor:
    """Return the cosine of each query (Q, C) with each word: (Q, V). The matrix is not copied."""
    matrix = torch.from_numpy(vectors.vectors)
    lengths = matrix.norm(dim=1).clamp(min=1e-12)
    return unit(torch.as_tensor(queries, dtype=matrix.dtype)) @ matrix.T / lengths


def nearest(
    vectors: KeyedVectors, query: str | Tensor, k: int = 10, exclude: Iterable[str] = ()
) -> list[tuple[str, float]]:
    """Return the k words that point most nearly where the query points, with their cosines.

    query: a word, which does not count as its own neighbour, or a vector (C,).
    exclude: words that cannot be an answer.

    Raises KeyError for an unknown word, and ValueError for k out of range or a misshapen vector.
    """
    banned = {find(vectors, word) for word in exclude}
    if isinstance(query, str):
        banned.add(find(vectors, query))
        query = vectors.vectors[find(vectors, query)]
    query = unit(query)
    checks.neighbours(query, vectors.vector_size, k, len(vectors) - len(banned))
    similar = cosines(vectors, query[None])[0]  # (V,)
    similar[list(banned)] = -torch.inf
    best = torch.topk(similar, k)
    words = [vectors.index_to_key[i] for i in best.indices.tolist()]
    return list(zip(words, best.values.tolist()))


def odd_one_out(vectors: KeyedVectors, words: Sequence[str]) -> str:
    """Return the word that is least similar, on average, to the others.

    Raises KeyError for an unknown word, and ValueError for fewer than three different words.
    """
    words = list(dict.fromkeys(words))
    given = f"{len(words)} different words"
    checks.require(len(words) > 2, f"{given}: an odd one needs at least two others")
    rows = [find(vectors, word) for word in words]
    chosen = torch.from_numpy(vectors.vectors[rows])  # (n, C)
    similar = cosine_similarity(chosen[:, None], chosen[None])  # (n, 1, C), (1, n, C) -> (n, n)
    return words[int(similar.sum(dim=1).argmin())]


def pca(x: Tensor, k: int = 2) -> tuple[Tensor, Tensor]:
    """Return points (N, C) along their k main directions, (N, k), and the variance of each, (k,).

    The variance of a direction is a share of the whole. The sign of a direction means nothing: it
    is chosen so that its largest component is positive. Raises ValueError for fewer than two
    points, equal points, NaN, or k out of range.
    """
    x = torch.as_tensor(x)
    x = x if x.is_floating_point() else x.float()
    checks.points(x, k)
    centered = x - x.mean(dim=0)
    _, s, directions = torch.linalg.svd(centered, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))  # (·, 1)
    return centered @ (directions * largest.sign())[:k].T, (s**2 / (s**2).sum())[:k]


def analogy(
    vectors: KeyedVectors, a: str, b: str, c: str, k: int = 1, exclude: bool = True
) -> list[tuple[str, float]]:
    """Return the k words nearest to b - a + c, with cosines: "a is to b as c is to ...".

    exclude: whether a, b and c are ruled out as answers, as is usual. Raises as `nearest` does.
    """
    rows = [find(vectors, word) for word in (a, b, c)]
    from_a, to_b, to_c = unit(torch.from_numpy(vectors.vectors[rows]))
    return nearest(vectors, to_b - from_a + to_c, k, (a, b, c) if exclude else ())


def analogy_accuracy(
    vectors: KeyedVectors, questions: Sequence[tuple[str, str, str, str]], exclude: bool = True
) -> float:
    """Return the share of questions (a, b, c, d) for which `analogy(a, b, c)` gives d.

    Raises KeyError for an unknown word, and ValueError for no questions.
    """
    words = checks.questions(questions)
    asked = torch.tensor([[find(vectors, word) for word in question] for question in words])
    matrix = torch.from_numpy(vectors.vectors)
    right = 0
    at_once = max(1, 30_000_000 // len(matrix))  # a cosine for each question and word: 120 MB
    for a, b, c, d in (chunk.T for chunk in asked.split(at_once)):
        query = unit(matrix[b]) - unit(matrix[a]) + unit(matrix[c])  # (Q, C)
        similar = cosines(vectors, query)  # (Q, V)
        if exclude:
            similar.scatter_(1, torch.stack([a, b, c], dim=1), -torch.inf)
        right += (similar.argmax(dim=1) == d).sum().item()
    return right / len(asked)
