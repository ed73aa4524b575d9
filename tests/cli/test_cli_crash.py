"""A run that is stopped or killed goes on as if nothing had happened, and nothing is lost."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_helpers import (
    TINY,
    assert_equal_weights,
    failure,
    llmlib,
    losses,
    metrics,
    weights,
    write_text,
)

from llmlib.cli.callbacks import Recorder
from llmlib.training.checkpoint import load_checkpoint

STEPS = ["--max-steps", 60, "--eval-every", 12, "--save-every", 2]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Compute as the processes that are killed do: with more threads, the last bits are others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted; its text lies beside it."""
    folder = tmp_path_factory.mktemp("crash")
    assert llmlib("train", write_text(folder), *TINY, *STEPS, "--out", folder / "run") == 0
    return folder / "run"


@pytest.mark.slow
def test_killed_22_times_at_random_moments_nothing_is_lost(whole, tmp_path):
    run = tmp_path / "run"
    often = ["--save-every", "1"]
    begin = ["train", whole.parent / "text.txt", *TINY, *STEPS, *often, "--out", run]
    command = [sys.executable, Path(__file__).with_name("cli_killer.py"), run, "22", *begin]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    outcomes = json.loads(done.stdout)
    assert outcomes.count("killed") >= 22
    assert len({step for step in outcomes if step not in ("killed", "done")}) > 5, outcomes
    assert llmlib("train", "--resume", run) == 0
    assert losses(run) == losses(whole)
    assert (run / "samples.txt").read_bytes() == (whole / "samples.txt").read_bytes()
    for name in ("latest", "best"):
        assert_equal_weights(weights(run, name), weights(whole, name))
    assert not list(run.rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_step_and_says_how_to_go_on(
    whole, tmp_path, monkeypatch, capsys, number
):
    log = Recorder.log

    def log_and_signal(self, report, found):
        log(self, report, found)
        if report.step == 9:  # on which no checkpoint falls
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Recorder, "log", log_and_signal)
    before = signal.getsignal(number)
    run = tmp_path / "run"
    assert llmlib("train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run) == 130
    assert signal.getsignal(number) == before
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message == f"stopped and saved at step 9; go on with: llmlib train --resume {run}"
    assert [m["step"] for m in metrics(run)] == list(range(1, 10))
    assert load_checkpoint(run / "latest").step == 9
    monkeypatch.undo()
    assert llmlib("train", "--resume", run) == 0
    assert losses(run) == losses(whole)
    assert_equal_weights(weights(run), weights(whole))


@pytest.mark.slow
def test_ctrl_c_in_a_real_process(whole, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", whole.parent / "text.txt", *TINY, *STEPS, "--max-steps", 100_000]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmlib", *map(str, arguments), "--out", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130 and "Traceback" not in errors
    step = metrics(run)[-1]["step"]
    assert f"stopped and saved at step {step:,}; go on with: llmlib train --resume {run}" in errors
    assert load_checkpoint(run / "latest").step == step


def test_a_metrics_file_with_half_and_double_lines_is_repaired(whole, tmp_path):
    run = tmp_path / "run"
    llmlib("train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run, "--max-steps", 6)
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 7, "loss": 0.0}) + '\n{"step": 8, "lo')
    with open(run / "samples.txt", "a") as file:
        file.write("=== step 7 ===\n\nhalf a samp")
    assert llmlib("train", "--resume", run, "--max-steps", 8) == 0
    assert [m["step"] for m in metrics(run)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(m["loss"] > 0 for m in metrics(run))
    assert "half a samp" not in (run / "samples.txt").read_text()


@pytest.mark.slow
def test_a_look_at_stories_draws_nothing_that_training_would_have_drawn(tmp_path):
    """Dropout after a resume is that of a run that never stopped, no matter what was looked at."""
    arguments = ["train", "stories", "--stories", 60, "--preset", "story-tiny", "--n-samples", 1]
    arguments += ["--drop-rate", 0.1, "--max-steps", 12, "--eval-every", 4, "--save-every", 2]
    assert llmlib(*arguments, "--out", tmp_path / "whole") == 0
    log = Recorder.log

    def log_and_stop(self, report, found):
        log(self, report, found)
        if report.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "log", log_and_stop)
        assert llmlib(*arguments, "--out", tmp_path / "run") == 130
    assert llmlib("train", "--resume", tmp_path / "run") == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert_equal_weights(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_run_without_its_metrics_goes_on(whole, tmp_path):
    run = tmp_path / "run"
    llmlib("train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run, "--max-steps", 4)
    (run / "metrics.jsonl").unlink()
    assert llmlib("train", "--resume", run, "--max-steps", 6) == 0
    assert [m["step"] for m in metrics(run)] == [5, 6]


def limit_files():
    """Let no file grow beyond 8 KB, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_loses_nothing(whole, tmp_path):
    run = tmp_path / "run"
    llmlib("train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run, "--max-steps", 4)
    before = weights(run)
    command = [sys.executable, "-m", "llmlib", "train", "--resume", str(run), "--max-steps", "60"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_files)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("llmlib: ") and "could not be" in line and "untouched" in line
    assert_equal_weights(weights(run), before)
    assert llmlib("train", "--resume", run) == 0
    assert [m["step"] for m in metrics(run)] == list(range(1, 61))


def test_a_full_disk_while_metrics_are_written(whole, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    llmlib("train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run, "--max-steps", 4)
    (run / "metrics.jsonl").rename(run / "kept")
    os.symlink("/dev/full", run / "metrics.jsonl")
    monkeypatch.setattr("llmlib.cli.run_folder.RunFolder.cut_back", lambda *_: None)
    line = failure(capsys, "train", "--resume", run, "--max-steps", 6)
    assert "metrics.jsonl could not be written: No space left on device" in line
    assert load_checkpoint(run / "latest").step == 4


def test_a_folder_that_cannot_be_written(whole, tmp_path, capsys):
    text = whole.parent / "text.txt"
    for out, expected in [
        (text / "run", "Not a directory"),
        ("/proc/nothing/run", "/proc/nothing"),
        (text, "is a file, not a folder: name a new one with --out"),
    ]:
        assert expected in failure(capsys, "train", text, *TINY, *STEPS, "--out", out)


def test_a_damaged_or_foreign_checkpoint_is_named_and_kept(whole, tmp_path, capsys):
    run = tmp_path / "run"
    llmlib("train", whole.parent / "text.txt", *TINY, *STEPS, "--out", run, "--max-steps", 2)
    manifest = run / "latest" / "checkpoint.json"
    (file,) = (run / "latest").glob("weights-*")
    for path, content, expected in [
        (file, file.read_bytes()[:-1], "is damaged"),
        (file, bytes(len(file.read_bytes())), "is damaged"),
        (manifest, b'{"format": "pt"}', "was not written by llmlib"),
        (manifest, b"\x80\x02}q\x00.", "is damaged"),
        (run / "config.yaml", b"max_steps: [", "config.yaml cannot be read"),
        (run / "config.yaml", b"max_steps: 3", "is missing in it"),
        (run / "config.yaml", b"max_stepz: 3", "did you mean 'max_steps'?"),
    ]:
        kept = path.read_bytes()
        path.write_bytes(content)
        for command in (["train", "--resume", run, "--max-steps", 4],):
            assert expected in failure(capsys, *command)
        assert path.read_bytes() == content
        path.write_bytes(kept)
    assert llmlib("train", "--resume", run, "--max-steps", 4) == 0
