"""Printing: for terminals that cannot show an ü, and for readers that have seen enough.

Written by hand. Needs no torch.
"""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn

from llmlib.messages import quoted


class Output:
    """stdout or stderr, which goes on in silence where nobody can read it, and shows any text.

    That is: a pipe that was closed, a full disk, a terminal without an ü. Unless it is patient,
    an OSError is raised, once.
    """

    def __init__(self, stream: Any):
        self.stream, self.patient = stream, True
        if stream is None:  # it was closed
            self.stream = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self.trying():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self.trying():
            self.stream.flush()

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Let the stream write to nowhere after an OSError in the block."""
        try:
            yield
        except OSError as error:
            mute(self.stream)
            if not self.patient:
                error.filename = self.stream.name
                raise


@contextmanager
def streams() -> Iterator[Output]:
    """Yield stdout, after putting an `Output` in the place of stdout and stderr for the block."""
    for number in range(3):  # the next file would take the number of one that was closed
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err = Output(sys.stdout), Output(sys.stderr)
    try:
        yield out
    finally:
        for stream in (out, err):
            stream.patient = True
            stream.flush()
        sys.stdout, sys.stderr = before


def mute(stream: Any = None) -> None:
    """Print nothing more to a stream, or stdout, since nobody reads it: `llmlib … | head`."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), (stream or sys.stdout).fileno())


def load(command: str, alone: bool) -> Any:
    """Import the file of a command, and torch with it; alone: in a process of its own.

    Raises ValueError for variables of the environment that a library cannot read.
    """
    try:
        with leaving_at_once(alone):
            return import_module(f"llmlib.cli.{command}")
    except ValueError as error:  # tqdm reads TQDM_MININTERVAL and the like as numbers, and no names
        names = [f"{name}={quoted(value)}" for name, value in os.environ.items() if "TQDM_" in name]
        hint = f": look at {' '.join(names)} in the environment" if names else ""
        raise ValueError(f"{error}{hint}") from error


@contextmanager
def leaving_at_once(wanted: bool) -> Iterator[None]:
    """Let Ctrl-C end this process in the block, in which libraries would swallow or mistake it."""
    before = signal.getsignal(signal.SIGINT)
    if not (wanted and before is signal.default_int_handler):
        yield
        return
    signal.signal(signal.SIGINT, end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_at_once(*_: object) -> NoReturn:
    """End this process as after Ctrl-C, with no more words than it takes."""
    with suppress(OSError):
        os.write(2, b"llmlib: stopped\n")
    os._exit(130)


def is_stop(error: BaseException | None) -> bool:
    """Return whether an error is Ctrl-C, or what a library made of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def pass_on_stop(error: BaseException) -> None:
    """Raise KeyboardInterrupt if an error is what a library made of it."""
    if is_stop(error):
        raise KeyboardInterrupt from error


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
