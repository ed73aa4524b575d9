"""Documents that become rows of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from llmlib.checks.values import require


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say what a TypeError or ValueError from inside this context is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


def documents(n_documents: int, end_of_text: int) -> None:
    """Raise ValueError if there are no documents or end_of_text is no id."""
    require(n_documents, "there are no documents: give at least one")
    require(end_of_text >= 0, f"end_of_text must be a token id, so at least 0, not {end_of_text}")


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
