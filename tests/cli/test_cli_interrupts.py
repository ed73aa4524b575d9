"""Ctrl-C, or no memory left, at any line of `llmlib train`: the run goes on to the same weights.

LLMLIB_TEST_INTERRUPTS=1 tries each line, with both errors: 16 tests, which take long.
"""

import inspect
import shutil

import pytest
import torch
from cli_helpers import TINY, assert_equal_weights, llmlib, losses, weights, write_text
from interrupter import ALL, Interrupter, choose

from llmlib import files
from llmlib.model import modes

STEPS = ["--max-steps", 3, "--eval-every", 2, "--save-every", 1]
PARTS = 16 if ALL else 1
CODES = {KeyboardInterrupt: 130, MemoryError: 2}


def find_cleaning():
    """The lines that remove what a block left: an error there leaves a NAME.PID.part behind.

    It stays until the process of that number, here this one, has ended.
    """
    remove, first = inspect.getsourcelines(files.remove)
    yield from (("files.py", first + n) for n in range(len(remove)))
    block, first = inspect.getsourcelines(files.temporary)
    yield from (("files.py", first + n) for n in range(block.index("    finally:\n"), len(block)))


CLEANING = set(find_cleaning())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted, and the lines that it ran; its text lies beside it."""
    folder = tmp_path_factory.mktemp("interrupts")
    write_text(folder)
    assert llmlib("train", folder / "text.txt", *TINY, *STEPS, "--out", folder / "warm") == 0
    with Interrupter() as interrupter:
        assert llmlib("train", folder / "text.txt", *TINY, *STEPS, "--out", folder / "run") == 0
    return folder / "run", interrupter.lines


def try_at(where, error, run, whole):
    """Interrupt a run at a place, go on until it is done, and compare it with the whole one."""
    start = ["train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run]
    with Interrupter(where, error) as interrupter:
        code = llmlib(*start)
    # An error on the last step out of a `with` comes before the block's own end, and leaves
    # gradients off. The process of a command ends with it; this one goes on with the next.
    torch.set_grad_enabled(True)
    modes.INSIDE.clear()
    is_dropped = interrupter.is_dropped and code == 0
    assert where in interrupter.lines and (is_dropped or code == CODES[error]), where
    begun = (run / "config.yaml").exists()
    again = ["train", "--resume", run] if begun else start
    assert is_dropped or llmlib(*again) == 0, where
    assert losses(run) == losses(whole), where
    assert (run / "samples.txt").read_bytes() == (whole / "samples.txt").read_bytes(), where
    for name in ("latest", "best"):
        assert_equal_weights(weights(run, name), weights(whole, name))
    assert where[:2] in CLEANING or not list(run.rglob("*.part")), where
    shutil.rmtree(run)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", range(PARTS))
def test_a_command_may_be_interrupted_at_any_line(part, whole, tmp_path):
    run, lines = whole
    # what reads the arguments and ends the process comes before and after the work
    begin = next(n for n, place in enumerate(lines) if place[0] == "cli/train.py")
    lines = [place for place in lines[begin:] if place[0] not in ("__main__.py", "cli/console.py")]
    assert len({place[:2] for place in lines}) > 600
    for number, where in enumerate(choose(lines, 12, per_line=1)[part::PARTS]):
        for error in CODES if ALL else [list(CODES)[number % 2]]:
            try_at(where, error, tmp_path / "run", run)
