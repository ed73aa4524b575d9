"""Documents that become rows of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say what a TypeError or ValueError from inside this context is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


def documents(n_documents: int, end_of_text: int) -> None:
    """Raise ValueError if there are no documents or end_of_text is no id."""
    if n_documents == 0:
        raise ValueError("there are no documents: give at least one")
    if end_of_text < 0:
        raise ValueError(f"end_of_text must be a token id, so at least 0, not {end_of_text}")


def document(number: int, ids: np.ndarray, end_of_text: int, context_length: int | None) -> None:
    """Raise ValueError for a document that is too long or already holds end_of_text."""
    if context_length is not None and len(ids) + 1 > context_length:
        raise ValueError(
            f"document {number} of {len(ids)} tokens, and end_of_text before it, exceeds "
            f"the context_length of {context_length}: divide it, or use create_dataloader"
        )
    if (ids == end_of_text).any():
        raise ValueError(
            f"document {number} holds end_of_text ({end_of_text}): it is added here, so "
            "give each document without it"
        )


def document_batches(n_documents: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if a loader of documents would have no batch."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if drop_last and n_documents < batch_size:
        raise ValueError(
            f"{n_documents} documents do not fill one batch of {batch_size}: "
            "give more of them, a smaller batch_size, or drop_last=False"
        )
