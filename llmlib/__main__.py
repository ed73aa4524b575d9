"""The command line: `python -m llmlib`, also installed as `llmlib`.

Written by hand, and a door only: it reads the arguments, calls the command's file in `llmlib.cli`,
and turns what went wrong into one line and an exit code: 0 for done, 2 for a mistake that the user
can correct, 130 after Ctrl-C. LLMLIB_TRACEBACK=1 shows the whole traceback instead.
"""

import os
import sys
from importlib import import_module

from llmlib.cli import arguments, console


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    console.accept_any_text()
    given = vars(arguments.make_parser().parse_args(argv))
    command = given.pop("command")
    try:
        # imported now, and torch with it: help and a misspelt flag need neither
        return getattr(import_module(f"llmlib.cli.{command}"), f"{command}_command")(**given)
    except KeyboardInterrupt:
        print("llmlib: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `llmlib generate … | head` has seen enough
        console.mute()
        return 0
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        # a RuntimeError that is not about memory is a bug of ours: we need its traceback
        bug = isinstance(error, RuntimeError) and "memory" not in str(error)
        if bug or os.environ.get("LLMLIB_TRACEBACK"):
            raise
        print(f"llmlib: {one_line(error)}", file=sys.stderr)
        return 2


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, with the file of a system's OSError."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = error.args[1] if isinstance(error, OSError) and len(error.args) > 1 else str(error)
    return " ".join(str(text).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
