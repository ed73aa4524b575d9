"""Looks, curves, metrics, signals and printed lines: what goes wrong there ends no run."""

import errno
import io
import os
import signal
import subprocess
import sys

import pytest
from cli_helpers import (
    OFTEN,
    TINY,
    assert_equal_weights,
    failure,
    llmlib,
    losses,
    metrics,
    resume,
    train_on,
    weights,
)

from llmlib.cli import callbacks, console, run_log
from llmlib.cli.processes import StopRequest
from llmlib.cli.run_folder import open_run
from llmlib.training import checkpoint as checkpoints

# What only decorates ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("name", ["a$\\y$b", "x^$_{$", os.fsdecode(b"\xff\xfe"), "a\nb", "名前"])
def test_curves_of_a_run_of_any_name(base, tmp_path, capfd, name):
    assert train_on(base, tmp_path / name, "--max-steps", 1, "--eval-every", 1) == 0
    assert capfd.readouterr().err == "", "no warnings of fonts either"
    assert (tmp_path / name / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert llmlib("train", "--resume", tmp_path / name, "--max-steps", 2) == 0


def test_curves_that_cannot_be_drawn_are_a_warning(run, capsys, monkeypatch):
    (run / "loss.png").mkdir()
    (run / "loss.png" / "mine").touch()
    assert resume(run) == 0
    assert "drawing the curves failed, and the training goes on" in capsys.readouterr().err
    assert (run / "loss.png" / "mine").exists() and len(metrics(run)) == 8


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), ValueError, RuntimeError]
)
def test_samples_that_fail_are_a_warning(base, run, capsys, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(callbacks, "write_samples", fail)
    assert resume(run) == 0
    assert "writing samples failed" in capsys.readouterr().err
    assert losses(run) == losses(base / "whole")


@pytest.mark.usefixtures("no_curves")
def test_an_error_of_memory_in_what_decorates_stays_one(base, run, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(callbacks, "draw", fail)
    with pytest.raises(MemoryError), callbacks.Decoration("drawing"):
        fail()
    with pytest.raises(KeyboardInterrupt), callbacks.Decoration("drawing"):
        raise KeyboardInterrupt
    assert resume(run) == 2 and checkpoints.load_checkpoint(run / "latest").step == 6
    assert train_on(base, tmp_path / "new") == 2
    assert checkpoints.load_checkpoint(tmp_path / "new" / "latest").step == 2, "no refused start"


def fail_at(number, function):
    """Return the function, but its call of that number is the end of the process."""
    calls = []

    def wrapped(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise SystemExit(9)
        return function(*arguments)

    return wrapped


@pytest.mark.slow
@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("evaluate", 1),
        ("write_samples", 1),
        ("summary", 1),
        ("append", 3),
        ("draw", 1),
        ("tell", 2),
    ],
)
def test_a_run_that_ends_within_a_look_loses_no_step_and_makes_up_for_the_look(
    base, run, monkeypatch, place, call
):
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, place, fail_at(call, getattr(callbacks, place)))
        assert resume(run) == 9
    assert checkpoints.load_checkpoint(run / "latest").step in (6, 8)
    assert resume(run) == 0 and losses(run) == losses(base / "whole")
    assert (run / "samples.txt").read_bytes() == (base / "whole" / "samples.txt").read_bytes()
    for name in ("latest", "best"):
        assert_equal_weights(weights(run, name), weights(base / "whole", name))


@pytest.mark.usefixtures("no_curves")
def test_a_last_look_that_was_cut_off_is_made_up_for_without_a_step(base, run, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "summary", fail_at(2, callbacks.summary))
        assert resume(run) == 9
    assert checkpoints.load_checkpoint(run / "latest").step == 8 and len(metrics(run)) == 7
    capsys.readouterr()
    assert resume(run) == 0 and losses(run) == losses(base / "whole")
    assert capsys.readouterr().err == ""
    assert "report" not in checkpoints.read_manifest(run / "latest")["notes"], "it is done"
    assert (run / "samples.txt").read_bytes() == (base / "whole" / "samples.txt").read_bytes()


class Full(io.StringIO):
    """A stream on a disk that is full."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_under_stdout_or_stderr_stops_the_printing_only(monkeypatch):
    muted = []
    monkeypatch.setattr(console, "mute", lambda: muted.append(True))
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    console.tell("a line")
    console.warn("a line")
    assert muted == [True]


@pytest.mark.slow
def test_a_real_run_whose_output_goes_to_a_full_disk(run):
    command = [sys.executable, "-m", "llmlib", "train", "--resume", str(run), "--max-steps", "6"]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stdout=full, stderr=full).returncode == 0
    assert len(metrics(run)) == 6


# metrics.jsonl ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    "damage",
    [
        b"\0\0",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"step": "x", "loss": 1}',
        b"[]",
        b"3",
        b'{"loss": 1}',
    ],
)
def test_a_damaged_line_of_the_metrics_is_passed_over_and_the_file_is_named(run, capsys, damage):
    path = run / "metrics.jsonl"
    first, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes((damage + b" " * len(first))[: max(len(damage), len(first))] + b"\n" + rest)
    manifest = checkpoints.read_manifest(run / "latest")
    manifest["notes"]["files"]["metrics.jsonl"] = path.stat().st_size
    checkpoints.write_manifest(run / "latest", manifest)
    assert resume(run) == 0
    assert f"{path}: 1 of 4 steps are missing or damaged" in capsys.readouterr().err
    assert [entry["step"] for entry in open_run(run).metrics()] == list(range(2, 9))


@pytest.mark.usefixtures("no_curves")
def test_half_a_line_spoils_no_other_one(run):
    path = run / "metrics.jsonl"
    path.write_bytes(b" " + path.read_bytes())  # so that the size that was noted cuts a line
    assert resume(run) == 0
    assert [entry["step"] for entry in open_run(run).metrics()] == [1, 2, 3, 5, 6, 7, 8]


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path):
    resource, path = pytest.importorskip("resource"), tmp_path / "samples.txt"
    run_log.append(path, "x" * 90)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match=r"samples\.txt could not be written"):
            run_log.append(path, "y" * 50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "x" * 90


def test_a_reader_of_a_live_run_passes_over_the_half_of_a_line(run):
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "loss"')
    assert [entry["step"] for entry in open_run(run).metrics()] == [1, 2, 3, 4]


# Signals and commands -----------------------------------------------------------------------------


def test_a_closed_terminal_saves_and_nohup_is_respected(monkeypatch):
    before = signal.getsignal(signal.SIGHUP)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)  # from the terminal, and from its shell
            assert stop.made
        with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGHUP)
            assert stop.made
            signal.raise_signal(signal.SIGINT)  # a second one ends at once
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.made
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        with StopRequest() as stop:  # torchrun hears it, nohup or not, and kills its processes
            signal.raise_signal(signal.SIGHUP)
            assert stop.made
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def split(command):
    """The arguments of a command, as a shell reads them."""
    command = f"for x in {command}; do printf '%s\\0' \"$x\"; done"
    said = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True).stdout
    return [os.fsdecode(part) for part in said.split(b"\0")[:-1]]


@pytest.mark.slow
@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("name", ["it's a $HOME", "-x", "a  b", "a\n'c'", os.fsdecode(b"\xff")])
def test_printed_commands_work_as_printed(base, tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert llmlib("train", base / "text.txt", *TINY, *OFTEN, f"--out={name}") == 0
    command = capsys.readouterr().out.splitlines()[-1].partition("done: ")[2]
    assert llmlib(*split(command)[1:], "--max-new-tokens", 1, "--device", "cpu") == 0
    line = failure(capsys, "train", base / "text.txt", *TINY, f"--out={name}")
    command = line.partition("`")[2].partition("`")[0]
    assert llmlib(*split(command)[1:]) == 0
