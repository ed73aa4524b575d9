"""The tests may run behind `nohup`, or in the background of a shell."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

NUMBERS = [getattr(signal, name, None) for name in ("SIGINT", "SIGHUP", "SIGQUIT")]


def ignore():
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither")
def test_signals_that_a_shell_ignored_are_taken_again():
    program = "import signal\n{}print([signal.getsignal(n) == signal.SIG_IGN for n in {}])"
    numbers = [int(number) for number in NUMBERS]
    for line, expected in (("", [True] * 3), ("import conftest\n", [False] * 3)):
        done = subprocess.run(
            [sys.executable, "-c", program.format(line, numbers)],
            cwd=Path(__file__).parent,
            preexec_fn=ignore,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(expected)
