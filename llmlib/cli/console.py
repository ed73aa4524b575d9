"""What is printed, and to whom: terminals that know no ü, and readers that have seen enough.

Written by hand. Needs no torch.
"""

import os
import sys

from tqdm import tqdm


def accept_any_text() -> None:
    """Let a terminal that can not show a character show its code, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def mute() -> None:
    """Print nothing to stdout any more, since nobody reads it: `llmlib … | head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Print a line above a progress bar, if there is one; work goes on where nobody listens."""
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        mute()
