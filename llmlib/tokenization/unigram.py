# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""Unigram, the subword tokenizer of SentencePiece: each piece has a probability, cuts compete.

Built in notebook 09. Trained by expectation and maximization from a large seed vocabulary that is
pruned step by step; applied by the Viterbi algorithm. Source: Kudo 2018. What is left out: Unicode
normalization, and SentencePiece's digamma in place of the plain M-step. A piece keeps its spaces as
they are, where SentencePiece writes them as U+2581.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, pairwise

import numpy as np
import regex

from llmlib import checks
from llmlib.tokenization.base import VocabularyTokenizer
from llmlib.tokenization.interface import each_text, whole_characters
from llmlib.tokenization.merging import PieceIds

# Letters, digits or marks with the space before them, or a single white-space character.
SPACED_WORD = regex.compile(
    r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{M}\p{N}]+|\p{White_Space}"
)

# A character that no piece covers is written as bytes: token -> byte
BYTES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
PENALTY = 10.0  # nats: how much worse than the worst piece an unknown character is
LONGEST_PIECE = 16  # characters
LONGEST_LEARNED = 64  # characters; longer ones are not used in training


def join_bytes(pieces: Iterable[str]) -> bytes:
    """Put pieces together as bytes; they need not be whole characters."""
    return b"".join(BYTES.get(piece) or piece.encode() for piece in pieces)


class Lattice:
    """All the ways to cut many words into pieces, as edges that NumPy can sum over.

    words: the words; pieces: in the order of their columns. An edge is (word, start, end, piece);
    `edges` is (E, 4).
    """

    def __init__(self, words: Collection[str], pieces: Iterable[str]):
        columns = {piece: column for column, piece in enumerate(pieces)}
        edges = [
            (number, start, end, columns[piece])
            for number, word in enumerate(words)
            for start, end in combinations(range(len(word) + 1), 2)
            if (piece := word[start:end]) in columns
        ]
        self.lengths = np.array([len(word) for word in words])
        self.last = np.arange(len(words)), self.lengths  # where each word ends, in (words, width)
        self.set_edges(np.array(edges, dtype=np.int32).reshape(-1, 4))  # (E, 4), if E is 0 too

    def set_edges(self, edges: np.ndarray) -> None:
        """Keep the edges, also sorted by where they start and where they end."""
        self.edges = edges
        positions = range(self.lengths.max() + 1)
        starts, ends = edges[:, 1], edges[:, 2]
        self.starting = [edges[starts == position] for position in positions]
        self.ending = [edges[ends == position] for position in positions]

    def keep(self, kept: np.ndarray) -> None:
        """Drop the edges of pieces that are not kept (a mask), and renumber the others."""
        edges = self.edges[kept[self.edges[:, 3]]]
        edges[:, 3] = (np.cumsum(kept) - 1)[edges[:, 3]]
        self.set_edges(edges)

    def forward(self, p: np.ndarray) -> np.ndarray:
        """Return the probability of all cuts up to each position of each word: (words, width)."""
        sums = np.zeros((len(self.lengths), len(self.ending)))
        sums[:, 0] = 1
        for position, edges in enumerate(self.ending[1:], 1):
            word, start, _, piece = edges.T
            sums[:, position] = np.bincount(word, sums[word, start] * p[piece], len(sums))
        return sums

    def backward(self, p: np.ndarray) -> np.ndarray:
        """Return the probability of all cuts from each position to the end: (words, width)."""
        sums = np.zeros((len(self.lengths), len(self.ending)))
        sums[self.last] = 1
        for position in reversed(range(len(self.ending) - 1)):
            word, _, end, piece = self.starting[position].T
            sums[:, position] += np.bincount(word, sums[word, end] * p[piece], len(sums))
        return sums

    def expect(self, p: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
        """Do the E-step: return the expected count of each piece, and the log-likelihood in nats.

        p: the probability of each piece; weights: how often each word occurs.
        """
        forward, backward = self.forward(p), self.backward(p)
        of_word = forward[self.last]
        word, start, end, piece = self.edges.T
        share = forward[word, start] * p[piece] * backward[word, end] / of_word[word]
        counts = np.bincount(piece, share * weights[word], len(p))
        return counts, float(weights @ np.log(of_word))

    def best(self, p: np.ndarray) -> np.ndarray:
        """Return the log-probability of the best cut of each word (Viterbi): (words,)."""
        scores = np.full((len(self.lengths), len(self.ending)), -np.inf)
        scores[:, 0] = 0
        log_p = np.log(p)
        for position, edges in enumerate(self.ending[1:], 1):
            word, start, _, piece = edges.T
            np.maximum.at(scores[:, position], word, scores[word, start] + log_p[piece])
        return scores[self.last]


def seed_pieces(words: Mapping[str, int], size: int) -> dict[str, float]:
    """Return the pieces to start from: characters, and substrings that cover most letters."""
    characters, longer = Counter(), Counter()
    for word, n in words.items():
        for start, character in enumerate(word):
            characters[character] += n
            for end in range(start + 2, min(start + LONGEST_PIECE, len(word)) + 1):
                longer[word[start:end]] += n
    candidates = (piece for piece, n in longer.items() if n > 1)
    best = heapq.nsmallest(size, candidates, key=lambda piece: (-longer[piece] * len(piece), piece))
    return dict(sorted(characters.items())) | {piece: longer[piece] for piece in best}


def loss_without(pieces: list[str], p: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the cost, in nats, of dropping each piece; it is infinite for single characters."""
    lattice = Lattice(pieces, pieces)
    word, start, end, _ = lattice.edges.T
    is_part = end - start < lattice.lengths[word]
    lattice.set_edges(lattice.edges[is_part])
    with np.errstate(invalid="ignore"):  # 0 times infinity, for single characters
        loss = counts * (np.log(p) - lattice.best(p))
    return np.where(lattice.lengths == 1, np.inf, loss)


def train_pieces(
    words: Mapping[str, int], n_pieces: int, *, seed_size: int, rounds: int = 2
) -> tuple[dict[str, float], list[tuple[int, float]]]:
    """Learn pieces and their log-probabilities by EM, from a seed vocabulary pruned step by step.

    n_pieces: how many to end with; rounds: EM rounds before each pruning, which a quarter of the
    pieces does not survive. Also returns the history: the number of pieces and nats per word before
    each M-step.
    """
    seeds = seed_pieces(words, seed_size)
    pieces, lattice = list(seeds), Lattice(words, seeds)
    counts, weights = np.array(list(seeds.values())), np.array(list(words.values()))
    p, history = counts / counts.sum(), []
    while True:
        for _ in range(rounds):
            counts, log_likelihood = lattice.expect(p, weights)
            history.append((len(pieces), -log_likelihood / weights.sum()))
            counts = np.maximum(counts, 1e-9)  # at 0 a piece, and a word, would be lost for good
            p = counts / counts.sum()
        if len(pieces) <= n_pieces:
            return dict(zip(pieces, np.log(p).tolist())), history
        target = max(n_pieces, int(0.75 * len(pieces)))
        loss = loss_without(pieces, p, counts)
        kept = np.zeros(len(pieces), dtype=bool)
        kept[np.argsort(-loss, kind="stable")[:target]] = True
        lattice.keep(kept)
        pieces = [piece for piece, stays in zip(pieces, kept) if stays]
        p = p[kept] / p[kept].sum()


class UnigramTokenizer(VocabularyTokenizer):
    """Unigram: of all the ways to cut a word, the most probable one.

    pieces: piece -> its log-probability in nats. The ids begin with 256 bytes, for characters that
    no piece covers; the pieces follow, the most probable first. Equal to Hugging Face's model (with
    byte_fallback) on the same pieces. Raises TypeError unless pieces are such a table.
    """

    word = SPACED_WORD

    def __init__(self, pieces: Mapping[str, float]):
        checks.piece_scores(pieces)
        by_score = sorted(pieces, key=lambda piece: (-pieces[piece], piece))
        super().__init__([*BYTES, *by_score])
        self.scores = dict(pieces)
        self.longest = max(map(len, pieces))
        self.unknown_score = min(pieces.values()) - PENALTY
        self.pieces = PieceIds(self.viterbi, 2**16)

    def edges(self, word: str) -> Iterator[tuple[int, int, float]]:
        """Yield the pieces that a word may be cut into, as (start, end, log-probability)."""
        for start in range(len(word)):
            if word[start] not in self.scores:
                yield start, start + 1, self.unknown_score
            for end in range(start + 1, min(start + self.longest, len(word)) + 1):
                if (score := self.scores.get(word[start:end])) is not None:
                    yield start, end, score

    def viterbi(self, word: str) -> tuple[str, ...]:
        """Return the most probable cut of one word; of equal ones, the longer last piece wins."""
        best, origin = [0.0] + [-math.inf] * len(word), [0] * (len(word) + 1)
        for start, end, score in self.edges(word):
            if best[start] + score > best[end]:
                best[end], origin[end] = best[start] + score, start
        borders = [len(word)]
        while borders[-1]:
            borders.append(origin[borders[-1]])
        return self.pieces_between(word, borders[::-1])

    def pieces_between(self, word: str, borders: Sequence[int]) -> tuple[str, ...]:
        """Return the pieces between borders; a character that is no piece becomes its bytes."""
        pieces: list[str] = []
        for start, end in pairwise(borders):
            piece = word[start:end]
            pieces += [piece] if piece in self.scores else [f"<0x{b:02X}>" for b in piece.encode()]
        return tuple(pieces)

    def split(self, text: str) -> list[str]:
        """Cut a text into pieces."""
        return list(chain.from_iterable(map(self.pieces.__getitem__, SPACED_WORD.findall(text))))

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        """Put pieces together; bytes that are not a whole character become U+FFFD."""
        return join_bytes(pieces).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids; they need not be whole characters."""
        return join_bytes(self.tokens[i] for i in checks.known_ids(ids, self.vocab_size))

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Return the text of token ids. errors: as in `bytes.decode`, for broken characters."""
        return checks.decoded(self.decode_bytes(ids), errors)

    def state(self) -> dict:
        """Return what `save` writes, and the constructor takes."""
        return {"pieces": self.scores}

    def n_best(self, word: str, n: int) -> list[tuple[float, tuple[str, ...]]]:
        """Return the n most probable cuts of one word with their log-probabilities, best first."""
        best: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, (0,))], *([] for _ in word)]
        for start, end, more in self.edges(word):  # sorted by start: best[start] is complete
            ways = [(score + more, (*borders, end)) for score, borders in best[start]]
            best[end] = heapq.nlargest(n, best[end] + ways)
        return [(score, self.pieces_between(word, borders)) for score, borders in best[-1]]

    def sample(self, word: str, rng: random.Random, alpha: float = 1.0) -> tuple[str, ...]:
        """Draw a cut of one word, in proportion to its probability to the power alpha.

        alpha 0 makes all cuts equally likely; with a large alpha it is nearly always the best one.
        """
        total, arriving = [0.0] + [-math.inf] * len(word), [[] for _ in range(len(word) + 1)]
        for start, end, score in self.edges(word):  # sorted by start: all that ends there is summed
            way = total[start] + alpha * score
            arriving[end].append((start, way))
            total[end] = np.logaddexp(total[end], way)
        borders = [len(word)]
        while borders[-1]:
            starts, ways = zip(*arriving[borders[-1]])
            chances = [math.exp(way - total[borders[-1]]) for way in ways]
            borders += rng.choices(starts, chances)
        return self.pieces_between(word, borders[::-1])

    def sample_ids(self, text: str, rng: random.Random, alpha: float = 0.1) -> list[int]:
        """Return the ids of a text with each word cut at random, for training: see `sample`."""
        words = SPACED_WORD.findall(whole_characters(text))
        return [self.ids[piece] for word in words for piece in self.sample(word, rng, alpha)]

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        seed_size: int | None = None,
        max_characters: int = 1000,
    ) -> "UnigramTokenizer":
        """Learn pieces from one text or several.

        vocab_size: the largest number of ids, 256 bytes and two special tokens included.
        seed_size: how many pieces longer than a character to start from; by default 10 x
        vocab_size. max_characters: how many single characters are pieces; the rarer ones are
        written as bytes. Words of more than 64 characters are not learned from. Raises ValueError
        for a text without others, and if the characters do not fit.
        """
        found = Counter(chain.from_iterable(map(SPACED_WORD.findall, each_text(texts))))
        words = Counter({word: n for word, n in found.items() if len(word) <= LONGEST_LEARNED})
        checks.short_words(found, words, LONGEST_LEARNED)
        counts = Counter(chain.from_iterable(words.elements()))
        common = {character for character, _ in counts.most_common(max_characters)}
        n_fixed = len(BYTES) + 2
        needed = f"256 bytes, {len(common)} characters (see max_characters) and 2 special tokens"
        checks.learnable(words, vocab_size, n_fixed + len(common), needed)
        used = {word: n for word, n in words.items() if common.issuperset(word)}
        checks.spelled_words(used, max_characters)
        pieces, _ = train_pieces(used, vocab_size - n_fixed, seed_size=seed_size or 10 * vocab_size)
        return cls(pieces)

    @classmethod
    def from_text(
        cls, text: str | Iterable[str], vocab_size: int | None = None
    ) -> "UnigramTokenizer":
        """Learn pieces from a text, as `train` does; by default 4,000 ids."""
        return cls.train(text, 4000 if vocab_size is None else vocab_size)
