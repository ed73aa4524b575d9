# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""The merges of a BPE, applied to one piece of a text: quickly for words, safely for endless ones.

Built in notebook 09, for `llmlib.tokenization.bpe`. What is left out: threads.
"""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any


def merge_short(ids: list[int], ranks: Mapping, new_ids: Sequence[int]) -> list[int]:
    """Merge the pair of lowest rank until no pair has one: quadratic, and quickest for a word."""
    no_rank, get = len(new_ids), ranks.get
    found = list(map(get, zip(ids, ids[1:]), repeat(no_rank)))
    while found and (best := min(found)) < no_rank:
        i = found.index(best)
        ids[i] = new_ids[best]
        del ids[i + 1], found[i]
        if i:
            found[i - 1] = get((ids[i - 1], ids[i]), no_rank)
        if i < len(found):
            found[i] = get((ids[i], ids[i + 1]), no_rank)
    return ids


def merge_long(
    ids: list[int],
    ranks: Mapping,
    new_ids: Sequence[int],
    dropout: float = 0.0,
    rng: Any = random,  # the module, or a random.Random
) -> list[int]:
    """Do the same with a heap of pairs and a linked list of tokens: n log n.

    dropout: with this probability a merge is passed over, until another one is made.
    """
    n = len(ids)
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    # one integer for rank and place, which is quicker to compare than a tuple
    heap = [ranks[pair] * n + i for i, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
    heapq.heapify(heap)
    passed: list[int] = []
    while heap:
        entry = heapq.heappop(heap)
        if dropout and rng.random() < dropout:
            passed.append(entry)
            continue
        while passed:
            heapq.heappush(heap, passed.pop())
        rank, i = divmod(entry, n)
        j = after[i]
        if j >= n or ranks.get((ids[i], ids[j])) != rank:
            continue  # one of the two was merged with another since
        ids[i], ids[j], after[i] = new_ids[rank], -1, after[j]
        if after[i] < n:
            before[after[i]] = i
        for left, right in ((before[i], i), (i, after[i])):
            if left >= 0 and right < n and (pair := (ids[left], ids[right])) in ranks:
                heapq.heappush(heap, ranks[pair] * n + left)
    return [i for i in ids if i >= 0]


LONG = 100  # longer pieces are merged with a heap, and are not remembered


class PieceIds(dict):
    """Remembers the ids of pieces; those of a new piece are computed when it is looked up.

    A copy, or what comes back from a pickle, is empty.
    """

    def __init__(self, encode_piece: Callable[[str], Sequence], limit: int = 2**18):
        super().__init__()
        self.encode_piece, self.limit = encode_piece, limit

    def __reduce__(self) -> tuple:
        return type(self), (self.encode_piece, self.limit)

    def __missing__(self, piece: str) -> Sequence:
        ids = self.encode_piece(piece)
        if len(piece) <= LONG:
            if len(self) >= self.limit:
                self.clear()
            self[piece] = ids
        return ids
