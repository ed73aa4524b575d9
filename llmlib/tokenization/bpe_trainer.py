# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""How a byte-level BPE is learned: texts are cut into pieces, and frequent pairs are merged.

Built in notebook 09; `llmlib.tokenization.bpe` applies the merges. Left out: merges across pieces.
"""

import heapq
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from operator import add
from typing import Any, TypeVar

import regex

from llmlib import checks
from llmlib.tokenization.base import split_special
from llmlib.tokenization.gpt2 import gpt2_byte_symbols
from llmlib.tokenization.interface import each_text

# How a text is split before anything is merged: no token crosses such a border.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """Return the function that cuts a text into pieces; joined again, they are the text.

    pattern: a name in PATTERNS, or a regular expression without groups. Raises ValueError for
    anything else.
    """
    compiled = checks.split_pattern(pattern, PATTERNS)
    return compiled.findall if pattern in PATTERNS else partial(split_whole, compiled)


def split_whole(compiled: Any, text: str) -> list[str]:  # regex does not name its types
    """Cut a text by a custom pattern; what it passes over is a piece, too.

    Raises ValueError if that takes more time than any sensible pattern does.
    """
    with checks.in_time():
        seconds = checks.time_for(compiled.pattern, text)
        pieces = compiled.findall(text, timeout=seconds)
        if sum(map(len, pieces)) < len(text):  # with the pattern in a group, split keeps it
            pieces = regex.split(f"({compiled.pattern})", text, timeout=seconds)
        return [piece for piece in pieces if piece]


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
                # next to another new token, the neighbour was the end of that one
                total[(second if before == sign else before) + first] -= weight
                fresh[before + sign].append(number)
            if place < last and (after := word[place + 1]) != sign:
                total[second + after] -= weight
                fresh[sign + after].append(number)
            place = word.find(sign, place + 1)
    return fresh


def tie_key(token: bytes) -> str:
    """Return a string that sorts the greater of two tokens first, whatever their lengths.

    The sign after the last byte is above all others, since the end of a token is below all bytes.
    """
    return token.translate(bytes(range(255, -1, -1))).decode("latin-1") + chr(256)


Token = TypeVar("Token", bytes, str)


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
    max_token_length, merged tokens have fewer bytes, but for two bytes (as in Hugging Face).
    """
    checks.one_of("ties", ties, ("ids", "bytes"))
    # one character for each token, chr(id): a pair is a string of two, and str.replace merges it
    words = [piece.encode().translate(BYTE_IDS).decode("latin-1") for piece in counts]
    tokens = {chr(i): bytes([byte]) for i, byte in enumerate(BYTE_ORDER)}
    sort_keys = {"ids": lambda sign, _: sign, "bytes": lambda _, token: tie_key(token)}
    weights = list(counts.values())
    return merge_most_frequent(words, weights, tokens, n_merges, sort_keys[ties], **rules)


# Where both patterns split, whatever comes before and after; searched from the end of a text. The
# last is for scripts without spaces.
SAFE_CUT = regex.compile(r"(?r)(?<=\S)(?= )|(?<=\S\n)(?=[^\s/])|(?<=\p{L})(?=[，。、：；！？])")


def safe_cut(text: str, start: int, stop: int, special_tokens: Collection[str]) -> int:
    """Return the last place from start to stop that cuts no piece and no special token, or 0."""
    # a negative stop would be counted from the end of the text
    while stop > start and (found := SAFE_CUT.search(text, start + 1, stop)):
        stop = found.start()
        spans = ((max(0, stop - len(token) + 1), stop + len(token) - 1) for token in special_tokens)
        if all(text.find(token, *span) < 0 for token, span in zip(special_tokens, spans)):
            return stop
    return 0


BLOCK = 2**20  # characters that are split at a time


def blocks(
    texts: Iterable[str], special_tokens: Collection[str], pattern: str = "gpt2", size: int = BLOCK
) -> Iterator[str]:
    """Join texts and cut them again, where it is safe, into blocks of about `size` characters.

    Where there is no such place, as in one endless word, a block grows until there is one. With a
    pattern of your own, where it would be safe is not known, and all is one block.
    """
    size = size if pattern in PATTERNS else sys.maxsize
    longest = max(map(len, special_tokens), default=0)
    rest, wanted = "", size
    for text in texts:
        rest += text  # Python appends in place, as nothing else refers to it
        if len(rest) < wanted:
            continue
        start, width = 0, size
        while start + width <= len(rest):
            # the last characters may be the beginning of a special token that goes on
            stop = min(start + width, len(rest) - longest)
            if cut := safe_cut(rest, start, stop, special_tokens):
                yield rest[start:cut]
                start, width = cut, size
            else:
                width *= 2
        rest = rest[start:]
        wanted = max(size, 2 * len(rest))
    if rest:
        yield rest


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
