# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""WordPiece, BERT's subword tokenizer: trained by likelihood gain, applied by longest match.

Built in notebook 09. A text is cut as BERT's cased tokenizer cuts it: at white space, and around
punctuation and Chinese characters. Pieces after the first of a word are written with two hashes in
front. Sources: Schuster and Nakajima 2012 (training), Devlin et al. 2018 (notation). What is left
out: the normalization of the uncased BERT (lower case, accents taken off).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np
import regex

from llmlib import checks
from llmlib.tokenization.base import UNKNOWN, VocabularyTokenizer
from llmlib.tokenization.interface import each_text
from llmlib.tokenization.merging import PieceIds
from llmlib.tokenization.words import join_words

INSIDE = "##"  # begins a piece that does not begin its word
LONGEST_WORD = 100  # characters; a longer word becomes `<|unk|>`, as in BERT

# What stands alone: punctuation (Unicode's, and ASCII's other signs), and Chinese characters, which
# have no spaces between words. The blocks of the latter are those of Hugging Face's BERT.
ALONE = (
    r"\p{P}$+<=>^`|~\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\U00020000-\U0002A6DF"
    r"\U0002A700-\U0002B81F\U0002B920-\U0002CEAF\U0002F800-\U0002FA1F"
)
WORD = regex.compile(rf"[{ALONE}]|[^\t\n\r\p{{Z}}{ALONE}]+")
# Control, format and private characters are dropped, so that a soft hyphen splits no word.
DROPPED = regex.compile(r"[\p{Cc}\p{Cf}\p{Co}\uFFFD]")


def count_words(texts: str | Iterable[str]) -> Counter[str]:
    """Count the words, punctuation marks and Chinese characters of one text or several."""
    counts: Counter[str] = Counter()
    for word, n in Counter(chain.from_iterable(map(WORD.findall, each_text(texts)))).items():
        counts[DROPPED.sub("", word)] += n
    del counts[""]
    return counts


def x_log_x(x: np.ndarray) -> np.ndarray:
    """Return x log x of counts, and 0 for a count of 0."""
    return x * np.log(np.maximum(x, 1))


def gains(
    symbol_counts: np.ndarray, left: np.ndarray, right: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """Return how much the log-likelihood of a text rises with each possible merge, in nats.

    The model draws symbols independently, each with its frequency. left, right: the symbols of each
    pair (pairs,); n: how often the pair occurs (pairs,).
    """
    a, b, total = symbol_counts[left], symbol_counts[right], symbol_counts.sum()
    apart = x_log_x(a - n) + x_log_x(b - n) - x_log_x(a) - x_log_x(b)
    # a pair of the same symbol uses up two of it; at most a / 2 of them can be merged
    twins = x_log_x(np.maximum(a - 2 * n, 0)) - x_log_x(a)
    return x_log_x(n) + np.where(left == right, twins, apart) - x_log_x(total - n) + x_log_x(total)


def letters(word: str) -> list[str]:
    """Return the smallest pieces of a word: `["c", "##a", "##t"]`."""
    return [word[0], *(INSIDE + letter for letter in word[1:])]


class MergeTable:
    """The words of a text as symbols, and the counts that tell which merge is best.

    words: how often each word occurs. Pairs have a row each in `left`, `right` and `count`, so that
    all gains are computed at once.
    """

    def __init__(self, words: Mapping[str, int]):
        self.ids: dict[str, int] = {}  # symbol -> number
        # one character for each symbol, chr(number), so that str.replace merges a pair
        self.words = ["".join(map(self.sign, letters(word))) for word in words]
        self.weights = list(words.values())
        # A merge takes one symbol out of a word and makes at most two new pairs there. So these
        # rows, and these symbols, are always enough.
        size = sum(map(len, self.words))
        self.symbol_counts = np.zeros(len(self.ids) + size)
        self.left, self.right = np.zeros((2, 3 * size), dtype=np.int64)
        self.count = np.zeros(3 * size)
        self.rows: dict[tuple[str, str], int] = {}
        self.found_in: dict[int, set[int]] = defaultdict(set)  # row -> words
        for number in range(len(self.words)):
            self.add(number, 1)

    def sign(self, symbol: str) -> str:
        """Return the character that stands for a symbol; a new symbol gets the next number."""
        return chr(self.ids.setdefault(symbol, len(self.ids)))

    def add(self, number: int, times: int) -> None:
        """Add the symbols and pairs of a word to the counts, or subtract them (times -1)."""
        word, weight = self.words[number], times * self.weights[number]
        for symbol in word:
            self.symbol_counts[ord(symbol)] += weight
        for pair in zip(word, word[1:]):
            if (row := self.rows.get(pair)) is None:
                row = self.rows[pair] = len(self.rows)
                self.left[row], self.right[row] = map(ord, pair)
            self.count[row] += weight
            self.found_in[row].add(number)

    def best(self) -> int | None:
        """Return the row of the merge that gains most, or None if no pair is left."""
        n = len(self.rows)
        count = self.count[:n]
        if not count.any():
            return None
        gain = gains(self.symbol_counts, self.left[:n], self.right[:n], count)
        return int(np.where(count > 0, gain, -np.inf).argmax())

    def merge(self, row: int) -> str:
        """Join the pair of a row everywhere, and return the new piece."""
        a, b = int(self.left[row]), int(self.right[row])
        symbols = list(self.ids)
        piece = symbols[a] + symbols[b].removeprefix(INSIDE)
        sign = self.sign(piece)
        for number in sorted(self.found_in.pop(row)):
            self.add(number, -1)
            self.words[number] = self.words[number].replace(chr(a) + chr(b), sign)
            self.add(number, 1)
        return piece


class WordPieceTokenizer(VocabularyTokenizer):
    """WordPiece: of each word the longest piece that is known, then the longest after it, ...

    tokens: the pieces, with `##` in front of those inside a word. A word that cannot be cut into
    known pieces is one `<|unk|>`. Equal to Hugging Face's BertWordPieceTokenizer(lowercase=False)
    on the same vocabulary.
    """

    word = WORD

    def __init__(self, tokens: Iterable[str]):
        super().__init__(list(tokens))
        self.longest = max(map(len, self.tokens))
        self.pieces = PieceIds(self.longest_match, 2**16)

    def longest_match(self, word: str) -> tuple[str, ...]:
        """Cut one word into pieces."""
        pieces, start, word = [], 0, DROPPED.sub("", word)
        while start < len(word) <= LONGEST_WORD:
            mark = INSIDE if start else ""
            for end in range(min(len(word), start + self.longest), start, -1):
                if (piece := mark + word[start:end]) in self.ids:
                    pieces.append(piece)
                    start = end
                    break
            else:
                return (UNKNOWN,)
        return tuple(pieces) or (UNKNOWN,) * bool(word)

    def split(self, text: str) -> list[str]:
        """Cut a text into pieces."""
        return list(chain.from_iterable(map(self.pieces.__getitem__, WORD.findall(text))))

    @staticmethod
    def join(pieces: Iterable[str]) -> str:
        """Put pieces together into words, and words into a text."""
        return join_words(" ".join(pieces).replace(f" {INSIDE}", "").split())

    def settled(self, ids: Iterable[int]) -> str:
        """Return the beginning of `decode(ids)` that stays, whatever ids follow.

        While a text is being written, its last word may still grow. That matters if it is a mark so
        far: a full stop has no space before it, and a word that begins with one has.
        """
        pieces = [self.tokens[i] for i in checks.known_ids(ids, self.vocab_size)]
        words = " ".join(pieces).replace(f" {INSIDE}", "").split()
        is_mark = words and len(words[-1]) == 1
        return join_words(words[:-1] if is_mark else words)

    def spelling(self, token: int) -> bytes:
        """Return the bytes of one token within a word: without the hashes."""
        return self.tokens[token].removeprefix(INSIDE).encode()

    @classmethod
    def train(
        cls, texts: str | Iterable[str], vocab_size: int, *, max_letters: int = 1000
    ) -> "WordPieceTokenizer":
        """Learn a vocabulary from one text or several.

        vocab_size: the largest number of ids, the two special tokens included. max_letters: how
        many single letters (with and without `##`) are known; a word with a rarer letter is not
        used. Raises ValueError for an empty text, and if the letters alone do not fit.
        """
        found, counts = count_words(texts), Counter()
        words = {word: n for word, n in found.items() if len(word) <= LONGEST_WORD}
        checks.short_words(found, words, LONGEST_WORD)  # the others are never encoded
        for word, n in words.items():
            counts.update(dict.fromkeys(letters(word), n))
        alphabet = sorted(counts, key=lambda letter: (-counts[letter], letter))[:max_letters]
        needed = f"{len(alphabet)} letters (see max_letters) and 2 special tokens"
        checks.learnable(words, vocab_size, len(alphabet) + 2, needed)
        known = set(alphabet)
        table = MergeTable({w: n for w, n in words.items() if known.issuperset(letters(w))})
        tokens = dict.fromkeys(sorted(alphabet))
        while len(tokens) < vocab_size - 2 and (row := table.best()) is not None:
            tokens[table.merge(row)] = None
        return cls(tokens)

    @classmethod
    def from_text(
        cls, text: str | Iterable[str], vocab_size: int | None = None
    ) -> "WordPieceTokenizer":
        """Learn a vocabulary from a text, as `train` does; by default of 4,000 tokens."""
        return cls.train(text, 4000 if vocab_size is None else vocab_size)
