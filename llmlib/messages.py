"""Values in messages: never longer than a line, and commands that can be pasted.

Written by hand. Needs nothing, so that a misspelt flag is answered at once.
"""

import os
import reprlib
import shlex
from collections.abc import Collection

BRIEF = reprlib.Repr()
BRIEF.maxstring = BRIEF.maxother = BRIEF.maxlong = 100
BRIEF.maxlevel = 3  # a list may hold lists of lists, and print as gigabytes


def shown(value: object) -> str:
    """Return a value as Python writes it, cut to about 100 characters.

    >>> shown("a" * 100_000)[-9:], shown([[[[[]]]]])
    ("...aaaaaa'", '[[[[...]]]]')
    """
    text = BRIEF.repr(value)
    return text if len(text) <= 103 else f"{text[:97]} ..."


def quoted(path: object, names: Collection[str] = ()) -> str:
    """Return a path as a shell takes it; ./PATH for what would be a flag, or one of the names."""
    text = f"./{path}" if str(path).startswith("-") or str(path) in names else str(path)
    return quoted_word(text)


def quoted_word(text: str) -> str:
    """Return any text as one word of a shell, and without white space to be lost."""
    if text.isprintable() and "  " not in text:
        return shlex.quote(text)
    codes = "".join(f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f"$'{codes}'"  # of bash and zsh
