"""A row of the tables: a bad call, the error it raises, and what the message has to tell."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Fragment = str | tuple[str, ...]


class Refusal(NamedTuple):
    """A call that must be refused.

    call: makes the bad call through a public door; it gets an empty folder. error: the type, or for
    one of llmlib's own the name that api.py knows. says: what a good message holds, such as the
    value that was given, what is allowed, what to do; a tuple holds alternatives.
    """

    id: str
    call: Callable[[Path], object]
    error: type[BaseException] | str
    says: list[Fragment]


def says(message: str, fragment: Fragment) -> bool:
    """Return whether a message holds a fragment, or one of several.

    Numbers, single letters and names such as n_heads count as whole words, so that 1 is not found
    in 10. Words are found in any case, and numbers with or without commas in them.
    """
    if isinstance(fragment, tuple):
        return any(says(message, alternative) for alternative in fragment)
    message, fragment = (re.sub(r"(?<=\d),(?=\d{3})", "", text) for text in (message, fragment))
    if re.search(r"[\d_]|^\w$", fragment):
        start = r"(?<![\w.-])" if re.match(r"[\d.-]", fragment) else ""
        start = r"(?<!\w)" if re.match(r"[A-Za-z_]", fragment) else start
        end = r"(?!\w|\.\d)" if re.search(r"\w$", fragment) else ""
        return re.search(f"{start}{re.escape(fragment)}{end}", message) is not None
    return fragment.lower() in message.lower()


def missing(message: str, fragments: list[Fragment]) -> list[Fragment]:
    """Return the fragments that a message does not hold."""
    return [fragment for fragment in fragments if not says(message, fragment)]
