# From notebooks/09_tokenizers.ipynb: edit there, then run make export.

"""Byte-level BPE, the tokenizer of GPT-2 and of most models since: trained and applied.

Built in notebook 09. `BPETokenizer.train` learns the merges that Hugging Face's trainer learns, and
`encode` gives the ids that tiktoken gives, both at a speed of the same order.
`llmlib.tokenization.bpe_trainer` learns the merges, `llmlib.tokenization.formats` knows the files.
What is left out: Unicode normalisation, and dropping merges at random.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, repeat
from operator import index
from pathlib import Path

from llmlib.tokenization import formats
from llmlib.tokenization.base import END_OF_TEXT, split_special
from llmlib.tokenization.bpe_trainer import (
    BLOCK,
    BYTE_ORDER,
    PATTERNS,
    blocks,
    compile_pattern,
    count_pieces,
    learn_merges,
    splitter,
    surrogate_error,
)


def merge_short(ids: list[int], ranks: Mapping, made: Sequence[int]) -> list[int]:
    """Merge the pair of lowest rank until there is none: quadratic, and quickest for a word."""
    none, get = len(made), ranks.get
    found = list(map(get, zip(ids, ids[1:]), repeat(none)))
    while found and (best := min(found)) < none:
        i = found.index(best)
        ids[i] = made[best]
        del ids[i + 1], found[i]
        if i:
            found[i - 1] = get((ids[i - 1], ids[i]), none)
        if i < len(found):
            found[i] = get((ids[i], ids[i + 1]), none)
    return ids


def merge_long(ids: list[int], ranks: Mapping, made: Sequence[int]) -> list[int]:
    """The same with a heap of pairs and a linked list of tokens: n log n."""
    n = len(ids)
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    # one integer for rank and place, which is quicker to compare than a tuple
    heap = [ranks[pair] * n + i for i, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, i = divmod(heapq.heappop(heap), n)
        j = after[i]
        if j >= n or ranks.get((ids[i], ids[j])) != rank:
            continue  # one of the two was merged with another since
        ids[i], ids[j], after[i] = made[rank], -1, after[j]
        if after[i] < n:
            before[after[i]] = i
        for left, right in ((before[i], i), (i, after[i])):
            if left >= 0 and right < n and (pair := (ids[left], ids[right])) in ranks:
                heapq.heappush(heap, ranks[pair] * n + left)
    return [i for i in ids if i >= 0]


LONG = 100  # pieces of more bytes are merged with a heap, and are not remembered


class PieceIds(dict):
    """Remembers the ids of pieces; those of a new piece are computed when it is looked up."""

    def __init__(self, encode_piece: Callable[[str], list[int]], limit: int = 2**18):
        super().__init__()
        self.encode_piece, self.limit = encode_piece, limit

    def __missing__(self, piece: str) -> list[int]:
        ids = self.encode_piece(piece)
        if len(piece) <= LONG:
            if len(self) >= self.limit:
                self.clear()
            self[piece] = ids
        return ids


def vocabulary_of(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """The ids of all bytes in GPT-2's order, followed by those of what the merges make."""
    ids = {bytes([byte]): i for i, byte in enumerate(BYTE_ORDER)}
    for first, second in merges:
        ids.setdefault(first + second, len(ids))
    return ids


def number_special(tokens: Iterable[str] | Mapping[str, int], first_id: int) -> dict[str, int]:
    """Give special tokens ids, unless they have some; TypeError or ValueError for bad ones."""
    if isinstance(tokens, str):
        raise TypeError(f"special_tokens is {tokens!r}: give a list of strings")
    tokens = list(tokens.items() if isinstance(tokens, Mapping) else zip(tokens, count(first_id)))
    numbered = dict(tokens)
    for token, i in tokens:
        if not isinstance(token, str) or not token or isinstance(i, bool) or index(i) < 0:
            raise ValueError(f"special token {token!r} with id {i!r}: give a text and an id from 0")
    if len(numbered) < len(tokens):
        raise ValueError("a special token is named twice")
    return numbered


class BPETokenizer:
    """A tokenizer that cuts a text into pieces and joins the bytes of each by learned merges.

    merges: pairs of tokens (bytes) in the order in which they are made. special_tokens: strings,
    which get the ids after all others, or a mapping to ids. pattern: a name in PATTERNS or a
    regular expression. vocabulary: bytes -> id, if it is not the bytes in GPT-2's order followed by
    what the merges make. whole_tokens: whether a piece that is a token is taken as it is; for
    learned merges that is the same, and quicker.

    `tokens` maps each id to its bytes, those of the special tokens included.
    Raises ValueError for merges, ids or a pattern that do not fit together.
    """

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        *,
        pattern: str = "gpt2",
        vocabulary: Mapping[bytes, int] | None = None,
        whole_tokens: bool = True,
    ):
        self.merges = [tuple(merge) for merge in merges]
        names = {source: name for name, source in PATTERNS.items()}
        self.pattern = names.get(pattern, pattern)
        self._split = splitter(self.pattern)
        ids = self._ids = vocabulary_of(self.merges) if vocabulary is None else dict(vocabulary)
        if missing := [byte for byte in BYTE_ORDER if bytes([byte]) not in ids]:
            raise ValueError(f"the byte {missing[0]:#04x} has no id: all 256 must have one")
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._ranks, self._made = {}, []
        for rank, (first, second) in enumerate(self.merges):
            if not {first, second, first + second} <= ids.keys():
                raise ValueError(f"merge {rank} of {first!r} and {second!r} is of unknown tokens")
            self._ranks.setdefault((ids[first], ids[second]), rank)
            self._made.append(ids[first + second])
        self.special_tokens = number_special(special_tokens, max(ids.values()) + 1)
        self.tokens = {i: token for token, i in ids.items()}
        self.tokens |= {i: token.encode() for token, i in self.special_tokens.items()}
        if len(self.tokens) < len(ids) + len(self.special_tokens):
            raise ValueError("two tokens have the same id")
        self._whole = ids if whole_tokens else {}
        self._known = PieceIds(self._encode_piece)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        pattern: str = "gpt2",
        special_tokens: Iterable[str] = (),
        ties: str = "ids",
    ) -> "BPETokenizer":
        """Learn a tokenizer with vocab_size ids, special tokens included, from one text or many.

        It has fewer where the texts have no more pairs to merge. Nothing is merged across special
        tokens, which the texts may hold. ties: see `learn_merges`.
        Raises ValueError for an empty text, and for a vocab_size below 256 and the special tokens.
        """
        special_tokens = list(number_special(special_tokens, 0))
        n_merges = index(vocab_size) - 256 - len(special_tokens)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size {vocab_size} is too small: 256 bytes and {len(special_tokens)} "
                f"special tokens need {256 + len(special_tokens)}"
            )
        counts = count_pieces(texts, pattern, special_tokens)
        if not counts:
            raise ValueError("a vocabulary cannot be made from an empty text")
        try:
            merges = learn_merges(counts, n_merges, ties)
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        return cls(merges, special_tokens, pattern=pattern)

    @classmethod
    def from_text(cls, text: str, vocab_size: int | None = None) -> "BPETokenizer":
        """Learn a tokenizer with `<|endoftext|>` from a text, as `train`; 4,000 ids unless told."""
        size = 4000 if vocab_size is None else vocab_size
        return cls.train(text, size, special_tokens=[END_OF_TEXT])

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id, special tokens included."""
        return max(self.tokens) + 1

    def _encode_piece(self, piece: str) -> list[int]:
        data = piece.encode()
        if (whole := self._whole.get(data)) is not None:
            return [whole]
        merge = merge_short if len(data) <= LONG else merge_long
        return merge(list(map(self._byte_ids.__getitem__, data)), self._ranks, self._made)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[int]:
        """Return the token ids of a text.

        allowed_special: the special tokens that are recognised in the text, or "all".
        disallowed_special: those that raise ValueError if they stand in the text; "all" means all
        that are not allowed. With `disallowed_special=()` they are read as ordinary text.
        Raises ValueError for a lone surrogate, too, which is half of a character.
        """
        parts = split_special(text, self.special_tokens, allowed_special, disallowed_special)
        ids = []
        try:
            for part, is_special in parts:
                if is_special:
                    ids.append(self.special_tokens[part])
                else:
                    ids += chain.from_iterable(map(self._known.__getitem__, self._split(part)))
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        return ids

    def encode_stream(self, texts: Iterable[str], **special: Collection | str) -> Iterator[int]:
        """Yield the ids of `"".join(texts)`, holding no more than a block of it at a time.

        The keyword arguments are those of `encode`. With a pattern of your own, where it would be
        safe to cut is not known, and the texts are joined after all.
        """
        joined = (block for block in ["".join(texts)]) if self.pattern not in PATTERNS else None
        for block in joined or blocks(texts, self.special_tokens, BLOCK // 16):
            yield from self.encode(block, **special)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids, which need not be whole characters.

        Raises ValueError for an id that no token has.
        """
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        try:
            return b"".join(map(self.tokens.__getitem__, ids))
        except KeyError as error:
            raise ValueError(
                f"token id {error} is not in the vocabulary: ids are 0 to {self.vocab_size - 1}"
            ) from None

    def decode(self, ids: Iterable[int], *, errors: str = "replace") -> str:
        """Return the text of token ids.

        errors: bytes that are no UTF-8, such as half a character, become U+FFFD ("replace"), or
        raise ValueError ("strict"). Raises ValueError, too, for an id that no token has.
        """
        if errors not in ("replace", "strict"):
            raise ValueError(f"errors is {errors!r}: it must be 'replace' or 'strict'")
        data = self.decode_bytes(ids)
        try:
            return data.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the ids give {data[error.start : error.end]!r} at byte {error.start}, which is "
                "no UTF-8: pass errors='replace' to have U+FFFD in its place"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json (a name that ends in .json), tiktoken's file (.tiktoken), or a
        folder with GPT-2's encoder.json and vocab.bpe (no ending).

        Raises ValueError where the format cannot hold all of this tokenizer.
        """
        source = self.pattern if self.pattern == "gpt2" else compile_pattern(self.pattern).pattern
        whole = bool(self._whole)
        content = formats.Vocabulary(self._ids, self.merges, self.special_tokens, source, whole)
        formats.save(path, content)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> "BPETokenizer":
        """Read a file or folder that `save` has written, or one of OpenAI or Hugging Face.

        pattern, special_tokens: what to use in place of what the file says; tiktoken's files say
        nothing about either. Raises FileNotFoundError, and ValueError for a damaged or other file.
        """
        found = formats.load(path)
        try:
            return cls(
                found.merges,
                found.special_tokens if special_tokens is None else special_tokens,
                pattern=found.pattern if pattern is None else pattern,
                vocabulary=found.tokens,
                whole_tokens=found.whole_tokens,
            )
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
