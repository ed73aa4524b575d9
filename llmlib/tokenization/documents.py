"""Documents become token ids, in bounded memory and in as many processes as there are cores.

Written by hand. Long documents are cut where no token crosses, so that the ids are those of the
whole text, as one process would give them.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, groupby, islice

import numpy as np

from llmlib.data.parallel import parallel_map
from llmlib.tokenization.base import UNKNOWN, Tokenizer
from llmlib.tokenization.engines import split_alike
from llmlib.tokenization.safe_cuts import safe_pieces
from llmlib.tokenization.tiktoken_bpe import fastest

BATCH = 2**18  # characters that a process gets at a time
FEW = 4  # fewer batches than that are encoded here: starting processes would take longer

Batch = tuple[int, list[tuple[str, bool]]]  # the part that pieces belong to, and which end one


class DocumentEncoder:
    """Encodes a batch of pieces of documents: a function that can be sent to another process.

    quick: a tokenizer that gives the same ids sooner, if both engines split a text alike.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.quick = tokenizer, tokenizer
        self.end = tokenizer.eot_token
        self.unknown = tokenizer.special_tokens.get(UNKNOWN, -1)
        self.dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32

    def __call__(self, batch: Batch) -> tuple[int, np.ndarray, dict[str, int]]:
        """Return the part, the ids (N,) with an end behind each document, and what was counted."""
        part, pieces = batch
        arrays = []
        for text, is_last in pieces:
            # a special token that stands in the text of a document is text, not a command
            same = self.quick is self.tokenizer or split_alike(text)
            ids = (self.quick if same else self.tokenizer).encode(text, disallowed_special=())
            arrays += [np.array(ids, self.dtype)] + [np.array([self.end], self.dtype)] * is_last
        ids = np.concatenate(arrays)
        return part, ids, {
            "n_documents": sum(is_last for _, is_last in pieces),
            "n_tokens": len(ids),
            "n_bytes": sum(len(text.encode("utf-8", "surrogatepass")) for text, _ in pieces),
            "n_unknown": int((ids == self.unknown).sum()),
        }  # fmt: skip


def batches_of(parts: Iterable[tuple[int, int, str]], tokenizer: Tokenizer) -> Iterator[Batch]:
    """Put documents, as (part, number, piece), into batches of about BATCH, each of one part."""
    waiting: dict[int, list[tuple[str, bool]]] = {}
    sizes: dict[int, int] = {}
    for (part, _), pieces in groupby(parts, key=lambda piece: piece[:2]):
        for text, is_last in mark_last(
            safe_pieces((text for *_, text in pieces), tokenizer, BATCH)
        ):
            waiting.setdefault(part, []).append((text, is_last))
            sizes[part] = sizes.get(part, 0) + len(text)
            if sizes[part] >= BATCH:
                yield part, waiting.pop(part)
                sizes[part] = 0
    yield from waiting.items()


def mark_last(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each text, and whether it is the last."""
    before = None
    for text in texts:
        if before is not None:
            yield before, False
        before = text
    yield before or "", True


def encode_parts(
    tokenizer: Tokenizer, parts: Iterable[tuple[int, int, str]], n_processes: int | None = None
) -> Iterator[tuple[int, np.ndarray, dict[str, int]]]:
    """Yield (part, ids, counts) for documents given as (part, number, piece), in their order.

    n_processes: by default as many as there are cores, and only this one for a short text.
    """
    encode, batches = DocumentEncoder(tokenizer), batches_of(parts, tokenizer)
    first = list(islice(batches, FEW))
    if len(first) == FEW:
        encode.quick = fastest(tokenizer)
    else:
        n_processes = 1
    with closing(parallel_map(encode, chain(first, batches), n_processes)) as results:
        yield from results
