"""Printing: for terminals that cannot show an ü, and for readers that have seen enough.

Written by hand. Needs no torch.
"""

import io
import os
import shlex
import sys
from contextlib import suppress


def accept_any_text() -> None:
    """Let a terminal that cannot show a character print its code, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def mute() -> None:
    """Print nothing more to stdout, since nobody reads it: `llmlib … | head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Print a line, above the progress bar if there is one, and go on if nobody can read it."""
    from tqdm import tqdm  # takes as long to import as all that `--help` needs

    try:
        tqdm.write(text)
        sys.stdout.flush()
    except OSError:  # a closed pipe, a terminal that is gone, a full disk
        mute()


def warn(text: str) -> None:
    """Print a line to stderr as `tell` does: something went wrong, and the work goes on."""
    from tqdm import tqdm

    with suppress(OSError, ValueError):
        tqdm.write(text, file=sys.stderr)


def quoted(path: object) -> str:
    """Return a path as a shell takes it, whatever is in it, and without white space to be lost."""
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if text.isprintable() and "  " not in text:
        return shlex.quote(text)
    codes = "".join(f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f"$'{codes}'"  # of bash and zsh
