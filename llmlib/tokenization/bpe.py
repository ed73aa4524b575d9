"""Byte-level BPE, the tokenizer of GPT-2 and of most models since: trained and applied.

Written by hand; notebook 09 builds it in a few lines and shows the two equal. `BPETokenizer.train`
learns the merges that Hugging Face's trainer learns, and `encode` gives the ids that tiktoken
gives. `llmlib.tokenization.bpe_trainer` learns the merges, `llmlib.tokenization.formats` knows the
files.
What is left out: Unicode normalization.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from llmlib import checks
from llmlib.tokenization import formats, storage
from llmlib.tokenization.added_tokens import AddedToken, AddedTokens
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.bpe_trainer import count_pieces, learn_merges
from llmlib.tokenization.interface import (
    each_text,
    prefixed,
    text_and_rest,
    whole_characters,
)
from llmlib.tokenization.merging import LONG, PieceIds, merge_long, merge_short
from llmlib.tokenization.splitting import PATTERNS, blocks, splitter


def number_special(tokens: Iterable[str] | Mapping[str, int], first_id: int) -> dict[str, int]:
    """Give special tokens ids from `first_id`, unless they are a mapping to ids.

    Raises TypeError or ValueError for tokens or ids that cannot be used.
    """
    numbered = list(tokens.items() if isinstance(tokens, Mapping) else zip(tokens, count(first_id)))
    checks.special_tokens(tokens, numbered)
    return dict(numbered)


class ByteTokenizer(Tokenizer):
    """A tokenizer whose tokens are bytes: decoding, looking up and saving.

    `tokens` maps each id to its bytes, those of the special tokens included. A subclass adds
    `encode_ordinary` and `vocabulary`. Raises ValueError if two tokens have the same id.
    """

    def __init__(
        self,
        ids: Mapping[bytes, int],
        special_tokens: Mapping[str, int],
        added_tokens: Iterable[AddedToken] = (),
    ):
        self._ids, self.special_tokens = dict(ids), dict(special_tokens)
        self.added = AddedTokens(added_tokens)
        added = self.special_tokens | {token.content: token.id for token in self.added.tokens}
        checks.different_ids(self._ids, added)
        self._added_ids = added
        self.tokens = {i: token.encode() for token, i in added.items()}
        self.tokens |= {i: token for token, i in self._ids.items()}
        self.vocab_size = max(self.tokens) + 1

    def vocabulary(self) -> formats.Vocabulary:
        """Return all that a file says about this tokenizer."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json (a name that ends in .json), tiktoken's file (.tiktoken), or a
        folder with GPT-2's encoder.json and vocab.bpe (no ending).

        Raises ValueError if the format cannot hold all of this tokenizer.
        """
        storage.save(path, self.vocabulary())

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, special or not; None if there is no such token."""
        ordinary = self._ids.get(token.encode("utf-8", "surrogatepass"))
        return self._added_ids.get(token, ordinary)

    def encode_single_token(self, token: str | bytes) -> int:
        """Return the id of a token, special or not. Raises KeyError if there is none."""
        data = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else token
        number = self._ids.get(data)
        special = data.decode("utf-8", "surrogateescape")
        return self._added_ids[special] if number is None else number

    def has(self, number: int) -> bool:
        """Return whether a token has this id: there may be gaps."""
        return number in self.tokens

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids, also in a tensor; they need not be whole characters.

        Raises ValueError for an id that no token has.
        """
        numbers = checks.whole_ids(ids, self.vocab_size)
        with checks.unknown_ids(self.vocab_size):
            return b"".join(map(self.tokens.__getitem__, numbers))

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Return the text of token ids.

        errors: bytes that are not UTF-8, such as half a character, become U+FFFD ("replace"), raise
        ValueError ("strict"), or what else `bytes.decode` knows. Raises ValueError, too, for an id
        that no token has.
        """
        return checks.decoded(self.decode_bytes(ids), errors)


class BPETokenizer(ByteTokenizer):
    """A tokenizer that cuts a text into pieces and joins the bytes of each by learned merges.

    merges: pairs of tokens (bytes) in the order in which they were learned. special_tokens:
    strings, which get the ids after all others, or a mapping to ids. pattern: a name in PATTERNS
    or a regular expression. vocabulary: bytes -> id; by default, the bytes in GPT-2's order are
    followed by the merged pairs. whole_tokens: whether a piece that is a token is taken as it is;
    for learned merges that is the same, and quicker. added_tokens: all tokens that are looked for
    in a text first, the special ones among them, if they are more than that: see `AddedToken`.
    add_prefix_space: a text, and each part behind such a token, begins with a space.
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
        added_tokens: Iterable[AddedToken] = (),
        add_prefix_space: bool = False,
    ):
        self.merges = [(first, second) for first, second in merges]
        names = {source: name for name, source in PATTERNS.items()}
        self.pattern, self.add_prefix_space = names.get(pattern, pattern), add_prefix_space
        self._split = splitter(self.pattern)
        ids = formats.vocabulary_of(self.merges) if vocabulary is None else vocabulary
        checks.bpe_vocabulary(ids, self.merges)
        special = number_special(special_tokens, max(ids.values()) + 1)
        super().__init__(ids, special, added_tokens)
        # no text holds the bytes without an id
        self._byte_ids = [ids.get(bytes([byte]), -1) for byte in range(256)]
        self._new_ids = [ids[first + second] for first, second in self.merges]
        # of equal merges the last one counts, as in Hugging Face's `tokenizers`
        self._ranks = {(ids[a], ids[b]): rank for rank, (a, b) in enumerate(self.merges)}
        self._whole = self._ids if whole_tokens else {}
        self._known = PieceIds(self._encode_piece)

    @property
    def is_plain(self) -> bool:
        """Whether this is byte-level BPE and nothing else, with a pattern that others know."""
        more = self.added or self.add_prefix_space
        return self.pattern in PATTERNS and not more

    def _encode_piece(self, piece: str, **chance: Any) -> list[int]:
        return self._encode_data(piece.encode(), **chance)

    def _encode_data(self, data: bytes, **chance: Any) -> list[int]:
        if not chance and (whole := self._whole.get(data)) is not None:
            return [whole]
        ids = list(map(self._byte_ids.__getitem__, data))
        short = len(data) <= LONG and not chance
        return (merge_short if short else merge_long)(ids, self._ranks, self._new_ids, **chance)

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the token ids of a text in which nothing is special.

        Surrogates become whole characters, see `whole_characters`.
        """
        if self.added:  # those that are not special are found in any text
            return self.encode(text, disallowed_special=())
        return self._encode_between(text)

    def _encode_between(self, text: str, _: bool = True) -> list[int]:
        return list(chain.from_iterable(map(self._known.__getitem__, self.pieces(text))))

    def pieces(self, text: str) -> list[str]:
        """Cut a text into the pieces that are encoded one by one."""
        text = whole_characters(text)
        return self._split(prefixed(text) if self.add_prefix_space else text)

    def words(self, text: str) -> Iterator[tuple[int, str, list[int]]]:
        """Yield the text as it is encoded, and its place: see `Interface.words`."""
        whole = "".join(self.pieces(text))
        yield len(text) - len(whole), whole, self._encode_between(text)

    def parts(
        self,
        text: str,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[tuple[str, int | None]]:
        """Cut a text at its special and added tokens: see `Tokenizer.parts`."""
        special = (allowed_special, disallowed_special)
        if self.added:
            found = self.added.split(text, self.special_tokens, *special)
            return [(part, number) for part, number, _ in found]
        return Tokenizer.parts(self, text, *special)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[int]:
        """Return the token ids of a text: see `Tokenizer.encode`."""
        ids = []
        for part, number in self.parts(text, allowed_special, disallowed_special):
            ids += self._encode_between(part) if number is None else [number]
        return ids

    def sample_ids(self, text: str, rng: random.Random, dropout: float = 0.1) -> list[int]:
        """Return the ids of a text with merges passed over at random, for training.

        dropout: the probability of passing over (BPE-dropout, Provilkov et al. 2020): with 0 this
        is `encode_ordinary`, with 1 each byte is a token.
        """
        checks.number("dropout", dropout, lambda p: 0 <= p <= 1, "from 0 to 1")
        if not dropout:
            return self.encode_ordinary(text)
        encode = partial(self._encode_piece, dropout=dropout, rng=rng)
        return list(chain.from_iterable(map(encode, self.pieces(text))))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of bytes, which may end within a character or be no text.

        Where UTF-8 ends, the last piece (and white space before it) joins the rest, as in tiktoken.
        """
        text, rest = text_and_rest(data)
        pieces, ids = self.pieces(text), self._encode_between(text)
        if not rest:
            return ids
        n = len(self._known[pieces[-1]]) if pieces else 0
        blank = [not self.tokens[i].strip(b" \n\t") for i in ids]
        while 0 < n < len(ids) and blank[-n] and blank[-n - 1]:
            n += 1
        last = self.decode_bytes(ids[len(ids) - n :])
        return ids[: len(ids) - n] + self._encode_data(last + rest)

    def encode_stream(self, texts: Iterable[str], **special: Any) -> Iterator[int]:
        """Yield the ids of `"".join(texts)`, holding no more than a block of it at a time.

        special: the keyword arguments of `encode`. With a custom pattern, where it would be safe
        to cut is not known, and the texts are joined after all; so they are with added tokens, and
        with add_prefix_space.
        """
        pattern = "" if self.added or self.add_prefix_space else self.pattern
        for block in blocks(texts, self.special_tokens, pattern, size=2**16):
            yield from self.encode(block, **special)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        pattern: str = "gpt2",
        special_tokens: Iterable[str] = (),
        add_prefix_space: bool = False,
        **rules: Any,
    ) -> "BPETokenizer":
        """Learn a tokenizer with vocab_size ids, special tokens included, from one text or many.

        It has fewer if the texts have no more pairs to merge. Nothing is merged across special
        tokens, which the texts may contain. rules: ties, min_frequency and max_token_length of
        `learn_merges`.
        Raises ValueError for an empty text, and if vocab_size is below 256 and the special tokens.
        """
        special_tokens = list(number_special(special_tokens, 0))
        n_fixed = 256 + len(special_tokens)
        needed = f"256 bytes and {len(special_tokens)} special tokens"
        texts = map(prefixed, each_text(texts)) if add_prefix_space else texts
        counts = count_pieces(texts, pattern, special_tokens)
        checks.learnable(counts, vocab_size, n_fixed, needed)
        merges = learn_merges(counts, vocab_size - n_fixed, **rules)
        return cls(merges, special_tokens, pattern=pattern, add_prefix_space=add_prefix_space)

    @classmethod
    def from_text(
        cls, text: str | Iterable[str], vocab_size: int | None = None, **settings: Any
    ) -> "BPETokenizer":
        """Learn a tokenizer with `<|endoftext|>` from a text: `train` with 4,000 ids by default."""
        size = 4000 if vocab_size is None else vocab_size
        return cls.train(text, size, special_tokens=[END_OF_TEXT], **settings)

    def vocabulary(self) -> formats.Vocabulary:
        """Return all that a file says about this tokenizer."""
        about = (self.special_tokens, self.pattern, bool(self._whole), self.added.tokens)
        about += (self.add_prefix_space,)
        return formats.Vocabulary(self._ids, self.merges, *about)

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
        nothing about either. Raises FileNotFoundError, and FileError for a damaged or other file.
        """
        found = storage.load(path, (special_tokens or {}).values())
        with checks.tokenizer_file(path, "an undamaged byte-level BPE"):
            return cls(
                found.merges,
                found.special_tokens if special_tokens is None else special_tokens,
                pattern=found.pattern if pattern is None else pattern,
                vocabulary=found.tokens,
                whole_tokens=found.whole_tokens,
                added_tokens=found.added_tokens if special_tokens is None else (),
                add_prefix_space=found.add_prefix_space,
            )
