"""Values in messages: as Python writes them, but never longer than a line.

Written by hand. Needs nothing, so that a misspelt flag is answered at once.
"""

import reprlib

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
