"""The command line: `python -m llmlib`, also installed as `llmlib`.

Written by hand, and a door only: it reads the arguments, calls the command's file in `llmlib.cli`,
and turns what went wrong into one line and an exit code: 0 for done, 2 for a mistake that the user
can correct, 130 after Ctrl-C. LLMLIB_TRACEBACK=1 shows the whole traceback instead.
"""

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

FORESEEN = (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return run(argv)
    except KeyboardInterrupt:  # while it imports what it takes to say so well
        with suppress(OSError):
            os.write(2, b"llmlib: stopped\n")
        return 130


def run(argv: list[str] | None) -> int:
    """Read the arguments, and do what they ask for."""
    from llmlib.cli import arguments, console

    with console.streams() as out:
        given = vars(arguments.make_parser().parse_args(argv))
        command = given.pop("command")
        out.patient = command not in ("generate", "evaluate")  # of which it is the result
        try:
            # imported now, and torch with it: help and a misspelt flag need neither
            module = console.load(command, alone=argv is None)
            code = getattr(module, f"{command}_command")(**given)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # `llmlib generate … | head` has seen enough
            return 0
        except BaseException as error:
            if console.is_stop(error):
                print("llmlib: stopped", file=sys.stderr)
                return 130
            # a RuntimeError that is not about memory is a bug of ours: we need its traceback
            foreseen = not isinstance(error, RuntimeError) or "memory" in str(error)
            foreseen &= isinstance(error, FORESEEN)
            if not foreseen or os.environ.get("LLMLIB_TRACEBACK"):
                raise
            print(f"llmlib: {arguments.one_line(error, command)}", file=sys.stderr)
            return 2


def door() -> NoReturn:
    """Run the command line, and end this process with its exit code."""
    code = 1  # of an error that is a bug
    try:
        code = main()
    except Exception:
        traceback.print_exc()
    from llmlib.cli import console

    console.leave(code)


if __name__ == "__main__":
    door()
