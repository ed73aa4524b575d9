"""Printing: for terminals that cannot show an ü, and for readers that have seen enough.

Written by hand. Needs no torch.
"""

import io
import os
import shlex
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn


def accept_any_text() -> None:
    """Let a terminal that cannot show a character print its code, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Stops:
    """Inside this block, Ctrl-C is noted: what a library makes of it is then known as a stop.

    Some end in another error (numpy's import in an ImportError), and some go on until one follows.
    """

    def __init__(self) -> None:
        self.noted, self.before = False, None

    def __enter__(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.before = signal.signal(signal.SIGINT, self.note)

    def note(self, *_: object) -> None:
        self.noted = True
        raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def behind(self, error: BaseException | None) -> bool:
        """Return whether an error is a stop, or comes from one."""
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__cause__ or error.__context__
        return self.noted or error is not None


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


def leave(code: int) -> NoReturn:
    """End this process with an exit code; one of several ends at once, without Python's farewell.

    There the threads of gloo and nccl still run. One that drops the last reference to a tensor asks
    for the interpreter, which a Python that is ending answers by ending the thread; that unwinds
    through C++ which allows no exception: "terminate called without an active exception", SIGABRT.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def quoted(path: object) -> str:
    """Return a path as a shell takes it, also one with spaces or with a dash before it."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
