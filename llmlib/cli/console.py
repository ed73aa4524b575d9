"""Printing: for terminals that cannot show an ü, and for readers that have seen enough.

Written by hand. Needs no torch.
"""

import io
import os
import sys


def accept_any_text() -> None:
    """Let a terminal that cannot show a character print its code, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def mute() -> None:
    """Print nothing more to stdout, since nobody reads it: `llmlib … | head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Print a line, above the progress bar if there is one, and go on if nobody reads it."""
    from tqdm import tqdm  # takes as long to import as all that `--help` needs

    try:
        tqdm.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        mute()
