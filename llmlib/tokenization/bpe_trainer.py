# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""How a byte-level BPE is learned: pieces of text are counted, and frequent pairs are merged.

Built in notebook 09; `llmlib.tokenization.bpe` applies the merges. Left out: merges across pieces.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import add
from typing import Any, TypeVar

from llmlib import checks
from llmlib.tokenization.base import split_special
from llmlib.tokenization.gpt2 import gpt2_byte_symbols
from llmlib.tokenization.interface import each_text
from llmlib.tokenization.splitting import blocks, splitter

BYTE_ORDER = bytes(gpt2_byte_symbols())  # the byte of each id below 256
BYTE_IDS = bytes(BYTE_ORDER.index(byte) for byte in range(256))  # and the id of each byte


def merge_words(
    words: list[str],
    weights: list[int],
    numbers: Iterable[int],
    pair: str,
    sign: str,
    total: dict[str, int],
) -> dict[str, list[int]]:
    """Merge a pair in the words with these numbers; take from `total` the pairs that vanish.

    Returns the pairs that come up, all of which hold the new sign, with the words that hold them.
    """
    first, second = pair
    fresh = defaultdict(list)
    for number in set(numbers):
        word = words[number].replace(pair, sign)
        if word is words[number]:  # an earlier merge took the pair out of it
            continue
        words[number], weight, last = word, weights[number], len(word) - 1
        place = word.find(sign)
        while place >= 0:
            if place:
                before = word[place - 1]
                # if the neighbour is a new token too, what stood here before was its second part
                total[(second if before == sign else before) + first] -= weight
                fresh[before + sign].append(number)
            if place < last and (after := word[place + 1]) != sign:
                total[second + after] -= weight
                fresh[sign + after].append(number)
            place = word.find(sign, place + 1)
    return fresh


Token = TypeVar("Token", bytes, str)


def tie_key(token: bytes) -> str:
    """Return a string that sorts the greater of two tokens first, whatever their lengths.

    The sign after the last byte is above all others, since the end of a token is below all bytes.
    """
    return token.translate(bytes(range(255, -1, -1))).decode("latin-1") + chr(256)


def pairs_in(words: list[str]) -> dict[str, list[int]]:
    """Return the words that hold each pair, a word as often as it does."""
    where = defaultdict(list)
    for number, word in enumerate(words):
        for pair in map(add, word, word[1:]):
            where[pair].append(number)
    return where


def merge_most_frequent(
    words: list[str],
    weights: list[int],
    tokens: dict[str, Token],
    n_merges: int,
    sort_key: Callable[[str, Token], str],
    min_frequency: int = 1,
    max_token_length: int | None = None,
) -> list[tuple[Token, Token]]:
    """Return up to n_merges merges of pairs in words, which are strings of signs.

    weights: how often each word occurs; tokens: what each sign stands for; sort_key: of equally
    frequent pairs, the one that sorts first is merged. For the rest see `learn_merges`.
    """
    where = pairs_in(words)
    total = Counter({pair: sum(map(weights.__getitem__, n)) for pair, n in where.items()})
    keys = {sign: sort_key(sign, token) for sign, token in tokens.items()}
    heap = [(-count, keys[pair[0]] + keys[pair[1]], pair) for pair, count in total.items()]
    heapq.heapify(heap)
    merges = []
    while heap and len(merges) < n_merges and -heap[0][0] >= min_frequency:
        count, key, pair = heapq.heappop(heap)
        if -count != total[pair]:  # it has become rarer since it was put there
            if total[pair]:
                heapq.heappush(heap, (-total[pair], key, pair))
            continue
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        sign, token = chr(len(tokens)), tokens[pair[0]] + tokens[pair[1]]
        tokens[sign], keys[sign] = token, sort_key(sign, token)
        fresh = merge_words(words, weights, where.pop(pair), pair, sign, total)
        for new, found in fresh.items():
            if len(tokens[new[0]] + tokens[new[1]]) < (max_token_length or math.inf):
                where[new], total[new] = found, sum(map(weights.__getitem__, found))
                heapq.heappush(heap, (-total[new], keys[new[0]] + keys[new[1]], new))
    return merges


def learn_merges(
    counts: Mapping[str, int], n_merges: int, ties: str = "ids", **rules: Any
) -> list[tuple[bytes, bytes]]:
    """Learn up to n_merges merges from pieces and their counts: fewer if no pair is left.

    ties: of equally frequent pairs, that with the lowest "ids" is merged (as Hugging Face does) or
    that whose "bytes" come last in the alphabet. rules: min_frequency, rarer pairs are not merged;
    max_token_length, merged tokens have fewer bytes than that, except that a pair of single
    bytes is always allowed (as in Hugging Face).
    """
    checks.one_of("ties", ties, ("ids", "bytes"))
    # one character for each token, chr(id): a pair is a string of two, and str.replace merges it
    words = [piece.encode().translate(BYTE_IDS).decode("latin-1") for piece in counts]
    tokens = {chr(i): bytes([byte]) for i, byte in enumerate(BYTE_ORDER)}
    sort_keys = {"ids": lambda sign, _: sign, "bytes": lambda _, token: tie_key(token)}
    weights = list(counts.values())
    return merge_most_frequent(words, weights, tokens, n_merges, sort_keys[ties], **rules)


def count_pieces(
    texts: str | Iterable[str], pattern: str = "gpt2", special_tokens: Collection[str] = ()
) -> Counter[str]:
    """Count the pieces of texts, special tokens left out. Raises TypeError for another type."""
    split, counts = splitter(pattern), Counter()
    for text in each_text(texts):
        for block in blocks([text], special_tokens, pattern):
            for part, is_special in split_special(block, special_tokens, "all"):
                counts.update([] if is_special else split(part))
    return counts
