"""Slow references for the checks of notebook 09: cuts by merges, and by the longest match."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product

Merges = Sequence[tuple[bytes, bytes]]


def join(tokens: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Return the tokens with a pair joined wherever it stands, from left to right."""
    joined: list[bytes] = []
    for token in tokens:
        if joined and (joined[-1], token) == pair:
            joined[-1] += token
        else:
            joined.append(token)
    return joined


def in_single_bytes(data: bytes) -> list[bytes]:
    """Return the bytes as tokens of one byte each."""
    return [data[i : i + 1] for i in range(len(data))]


def cut_by_merges(data: bytes, merges: Merges) -> list[bytes]:
    """Return the tokens of a BPE: each merge in its turn, over the whole text."""
    tokens = in_single_bytes(data)
    for pair in merges:
        tokens = join(tokens, pair)
    return tokens


def learned(text: bytes, n_merges: int) -> Merges:
    """Learn merges from a text."""
    tokens, merges = in_single_bytes(text), []
    for _ in range(n_merges):
        pairs = Counter(zip(tokens, tokens[1:]))
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        tokens = join(tokens, merges[-1])
    return merges


def tokens_of(merges: Merges, data: bytes) -> list[bytes]:
    """Return the tokens of a BPE in the order of their ids, first all bytes of merges and data."""
    single = sorted({*data, *(byte for a, b in merges for byte in a + b)})
    return list(dict.fromkeys([*(bytes([byte]) for byte in single), *(a + b for a, b in merges)]))


def continuations(data: bytes, merges: Merges) -> dict[bytes, list[bytes]]:
    """Return the cuts of a text that ends, or goes on to the end of a token begun before."""
    tokens = tokens_of(merges, data)
    begun = [data[start:] for start in range(max(0, len(data) - max(map(len, tokens))), len(data))]
    rests = {token[len(start) :] for start in begun for token in tokens if token.startswith(start)}
    return {rest: cut_by_merges(data + rest, merges) for rest in sorted({b"", *rests})}


def common_beginning(cuts: Iterable[list[bytes]]) -> list[bytes]:
    """Return the longest list that all these lists begin with."""
    common = []
    for tokens in zip(*cuts):
        if len(set(tokens)) > 1:
            break
        common.append(tokens[0])
    return common


def limited_encode(merges: Merges, text: bytes) -> Callable[[bytes], list[bytes]]:
    """Return `encode` of a BPE, which refuses long pieces, and more calls than a text needs."""
    tokens = tokens_of(merges, text)
    longest = max(map(len, tokens))
    calls = iter(range(4 * longest * (len(text) + len(tokens))))

    def encode(data: bytes) -> list[bytes]:
        if len(data) > 2 * longest:
            raise ValueError(f"encode takes at most {2 * longest} bytes here, not {len(data)}")
        if next(calls, None) is None:
            raise ValueError("encode was called more than 4 L (n + V) times")
        return cut_by_merges(data, merges)

    return encode


def longest_match_cuts(word: str, pieces: set[str]) -> bool:
    """Tell whether the longest match finds its way through a word."""
    while word:
        end = max((n for n in range(1, len(word) + 1) if word[:n] in pieces), default=0)
        if not end:
            return False
        word = word[end:]
    return True


def can_be_cut(word: str, pieces: set[str]) -> bool:
    """Tell whether some cut of a word exists."""
    reached = [True]
    for end in range(1, len(word) + 1):
        reached.append(any(reached[i] and word[i:end] in pieces for i in range(end)))
    return reached[-1]


def first_lost(pieces: set[str], longest: int) -> str | None:
    """Try all words of up to `longest` letters; return the first that only greed cannot cut."""
    letters = sorted(set("".join(pieces)))
    words = ("".join(word) for n in range(1, longest + 1) for word in product(letters, repeat=n))
    return next(
        (w for w in words if can_be_cut(w, pieces) and not longest_match_cuts(w, pieces)), None
    )
