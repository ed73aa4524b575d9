"""Values in messages: never longer than a line, and commands that can be pasted.

Written by hand. Needs nothing, so that a misspelt flag is answered at once.
"""

import reprlib
import shlex

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


def quoted(path: object) -> str:
    """Return a path as a shell takes it, also one with spaces or with a dash before it."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
