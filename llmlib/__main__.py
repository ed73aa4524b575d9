"""The command line: `python -m llmlib`, also installed as `llmlib`.

Written by hand, and a door only: it reads the arguments, calls the command's file in `llmlib.cli`,
and turns what went wrong into one line and an exit code: 0 for done, 2 for a mistake that the user
can correct, 130 after Ctrl-C. LLMLIB_TRACEBACK=1 shows the whole traceback instead.
"""

import os
import sys
import traceback
from importlib import import_module
from typing import NoReturn

from llmlib.cli import arguments, console


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    console.accept_any_text()
    given = vars(arguments.make_parser().parse_args(argv))
    command = given.pop("command")
    stops = console.Stops()
    try:
        with stops:
            # imported now, and torch with it: help and a misspelt flag need neither
            return getattr(import_module(f"llmlib.cli.{command}"), f"{command}_command")(**given)
    except BaseException as error:
        if stops.behind(error):
            print("llmlib: stopped", file=sys.stderr)
            return 130
        return failed(error)


def failed(error: BaseException) -> int:
    """Say in a line what went wrong, and return the exit code; a bug of ours is raised again."""
    if isinstance(error, BrokenPipeError):  # `llmlib generate … | head` has seen enough
        console.mute()
        return 0
    # a RuntimeError that is not about memory is a bug of ours: we need its traceback
    known = isinstance(error, (ValueError, TypeError, OSError, ArithmeticError, MemoryError))
    known |= isinstance(error, RuntimeError) and "memory" in str(error)
    if not known or os.environ.get("LLMLIB_TRACEBACK"):
        raise error
    print(f"llmlib: {one_line(error)}", file=sys.stderr)
    return 2


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, with the file of a system's OSError."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = error.args[1] if isinstance(error, OSError) and len(error.args) > 1 else str(error)
    return " ".join(str(text).split()) or type(error).__name__


def door() -> NoReturn:
    """Run the command line, and end this process with its exit code."""
    code = 1  # of an error that is a bug
    try:
        code = main()
    except Exception:
        traceback.print_exc()
    console.leave(code)


if __name__ == "__main__":
    door()
