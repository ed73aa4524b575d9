"""A BPE of Hugging Face with all that its tokenizer.json asks for around it.

Written by hand, after `tokenizers`. Text goes through added tokens, a normalizer, a pre-tokenizer
and the merges; ids come back through a decoder. A byte-level BPE that splits by one pattern needs
none of that, and is read as a `BPETokenizer`. Left out: dropout, post-processors, truncation.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from llmlib import checks
from llmlib.tokenization import huggingface, storage
from llmlib.tokenization.added_tokens import AddedTokens
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.decoders import BYTE, bytes_of, make_decoder
from llmlib.tokenization.interface import Span, whole_characters
from llmlib.tokenization.merging import LONG, PieceIds, merge_long, merge_short
from llmlib.tokenization.normalizers import make_normalizer
from llmlib.tokenization.pre_tokenizers import make_pre_tokenizer


class PipelineTokenizer(Tokenizer):
    """A tokenizer that does what a tokenizer.json says.

    content: of a tokenizer.json, as `huggingface.read_content` returns it. Raises ValueError for
    parts that are not supported.
    """

    pattern = ""  # where a text may be cut is not known: see `splitting.blocks`

    def __init__(self, content: Mapping[str, Any]):
        self.content, self.model = content, content["model"]
        self.normalize = make_normalizer(content.get("normalizer"))
        self.pre_tokenize = make_pre_tokenizer(content.get("pre_tokenizer"))
        self.decoder = make_decoder(content.get("decoder"))
        self.ids: dict[str, int] = self.model["vocab"]
        merges = huggingface.latest(self.model["merges"])
        self._new_ids = [self.ids["".join(pair)] for pair in merges]
        self._ranks = {(self.ids[a], self.ids[b]): rank for rank, (a, b) in enumerate(merges)}
        added = huggingface.added_tokens(content)
        self.added = AddedTokens(added, self.normalize)
        self.special_tokens = {token.content: token.id for token in added if token.special}
        self.tokens = {i: token for token, i in self.ids.items()}
        # an added token that is normalized is decoded in that form, so that it comes back
        self.tokens |= {
            t.id: self.normalize(t.content) if t.normalized else t.content for t in added
        }
        self.vocab_size = max(self.tokens) + 1
        self._known = PieceIds(self._encode_piece)

    def first_ids(self, piece: str) -> list[int]:
        """Return the ids of the characters of a piece; one that is unknown may have several."""
        suffix, unknown = self.model.get("end_of_word_suffix") or "", self.model.get("unk_token")
        ids, waiting = [], []  # unknown ones wait for the next that is known, to be fused with it
        for character in [*piece[:-1], piece[-1] + suffix]:
            if (known := self.ids.get(character)) is not None:
                ids += [*waiting, known]
                waiting = []
                continue
            codes = [self.ids.get(f"<0x{byte:02X}>") for byte in character.encode()]
            if self.model.get("byte_fallback") and None not in codes:
                ids += codes
            elif unknown is not None and not (waiting and self.model.get("fuse_unk")):
                checks.known_unknown(unknown, self.ids)
                ids, waiting = ids + waiting, [self.ids[unknown]]
        return ids + waiting

    def _encode_piece(self, piece: str) -> list[int]:
        if self.model.get("ignore_merges") and (whole := self.ids.get(piece)) is not None:
            return [whole]
        merge = merge_short if len(piece) <= LONG else merge_long
        return merge(self.first_ids(piece), self._ranks, self._new_ids)

    def encode_between(self, text: str, is_start: bool) -> list[int]:
        """Return the ids of normalized text without added tokens."""
        pieces = self.pre_tokenize(text, is_start)
        return list(chain.from_iterable(map(self._known.__getitem__, pieces)))

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the ids of a text in which nothing is special; other added tokens are found."""
        return self.encode(text, disallowed_special=())

    def encode(
        self,
        text: str,
        *,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[int]:
        """Return the token ids of a text: see `Tokenizer.encode`."""
        ids = []
        special = (self.special_tokens, allowed_special, disallowed_special)
        for part, number, is_start in self.added.split(whole_characters(text), *special):
            ids += self.encode_between(part, is_start) if number is None else [number]
        return ids

    def parts(
        self,
        text: str,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> list[tuple[str, int | None]]:
        """Cut a text at its added tokens; what lies between is normalized."""
        found = self.added.split(text, self.special_tokens, allowed_special, disallowed_special)
        return [(part, number) for part, number, _ in found]

    def encode_with_offsets(
        self,
        text: str,
        allowed_special: Collection[str] | str = (),
        disallowed_special: Collection[str] | str = "all",
    ) -> tuple[list[int], list[Span]]:
        """Return the ids of a text and their places: see `Interface.encode_with_offsets`.

        Raises ValueError for a text whose tokens do not spell it, so that no place in it is theirs.
        """
        special, text = (allowed_special, disallowed_special), whole_characters(text)
        checks.spelled("".join(part for part, _ in self.parts(text, *special)) == text)
        return Tokenizer.encode_with_offsets(self, text, *special)

    def words(self, text: str) -> Iterator[tuple[int, str, list[int]]]:
        """Yield a text as one stretch: see `Interface.words`."""
        ids = self.encode_between(text, True)
        checks.spelled(b"".join(map(self.spelling, ids)) == text.encode())
        yield 0, text, ids

    def spelling(self, token: int) -> bytes:
        """Return the bytes of one token within a word, if they are written with GPT-2's symbols."""
        return bytes_of(self.tokens[token])

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Return the text of token ids.

        errors: bytes that are not UTF-8 become U+FFFD ("replace"), or raise ValueError ("strict").
        Raises ValueError, too, for an id that no token has.
        """
        checks.one_of("errors", errors, ("replace", "strict"))
        numbers = checks.whole_ids(ids, self.vocab_size)
        with checks.unknown_ids(self.vocab_size):
            text = "".join(self.decoder([self.tokens[i] for i in numbers]))
        checks.without_replacement(text, errors)
        return text

    def settled(self, ids: Iterable[int]) -> str:
        """Return the beginning of `decode(ids)` that stays, whatever ids follow.

        Tokens of single bytes stay open: if a token of another kind follows, all are U+FFFD.
        """
        numbers = checks.whole_ids(ids, self.vocab_size)
        while numbers and BYTE.fullmatch(self.tokens.get(numbers[-1], "")):
            numbers.pop()
        return self.decode(numbers).rstrip("\ufffd")

    def __reduce__(self) -> tuple:
        """A copy is made again from the content, and has an empty memory."""
        return type(self), (self.content,), {"end_token": self.end_token}

    def has(self, number: int) -> bool:
        """Return whether a token has this id."""
        return number in self.tokens

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a single token, as its file writes it; None if there is none."""
        added = {found.content: found.id for found in self.added.tokens}
        return added.get(token, self.ids.get(token))

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json. Raises ValueError for a name that does not end in .json."""
        checks.json_name(Path(path))
        huggingface.write_content(Path(path), self.content)

    @classmethod
    def load(cls, path: str | Path) -> "PipelineTokenizer":
        """Read a tokenizer.json, or a folder of transformers.

        Raises FileNotFoundError, and FileError for what is damaged or not supported.
        """
        with checks.tokenizer_file(storage.find(path), "a BPE of Hugging Face"):
            return cls(storage.content_of(path))
