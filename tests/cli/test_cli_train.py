"""`llmlib train`: what a run leaves behind, and that it can be continued."""

import errno
import io
import itertools
import re
import sys

import pytest
import yaml
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

from llmlib import stories
from llmlib.cli import callbacks
from llmlib.cli.run_folder import RunFolder, open_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a text, and a run of 12 steps on it that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    steps = ["--max-steps", 12, "--eval-every", 4, "--save-every", 6]
    assert llmlib("train", write_text(folder), *TINY, *steps, "--out", folder / "whole") == 0
    return folder


def test_a_run_leaves_all_that_it_should(runs):
    run = runs / "whole"
    names = {path.name for path in run.iterdir()} - {".lock"}
    files = {"config.yaml", "metrics.jsonl", "samples.txt", "loss.png"}
    assert names == {*files, "data", "latest", "best"}
    entries = metrics(run)
    assert [entry["step"] for entry in entries] == list(range(1, 13))
    assert all(entry["tokens_per_second"] > 0 for entry in entries)
    assert [entry["step"] for entry in entries if "val_loss" in entry] == [4, 8, 12]
    assert re.findall(r"=== step (\d+) ===", (run / "samples.txt").read_text()) == ["4", "8", "12"]
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["max_steps"] == 12 and settings["emb_dim"] == 16


def test_the_best_checkpoint_has_the_least_validation_loss(runs, tmp_path, monkeypatch):
    fallen = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(callbacks, "evaluate", lambda *_: type("E", (), {"loss": next(fallen)}))
    out = tmp_path / "run"
    llmlib(
        "train", runs / "text.txt", *TINY, "--max-steps", 12, "--eval-every", 4, "--out", out
    )  # fmt: skip
    run = open_run(out)
    assert run.load("best").step == 8 and run.load("best").notes["val_loss"] == 1.0
    assert run.load("latest").step == 12


def test_the_same_settings_take_the_same_steps(runs, tmp_path):
    steps = ["--max-steps", 12, "--eval-every", 4, "--save-every", 6]
    llmlib("train", runs / "text.txt", *TINY, *steps, "--out", tmp_path / "again")
    assert losses(tmp_path / "again") == losses(runs / "whole")
    assert_equal_weights(weights(tmp_path / "again"), weights(runs / "whole"))
    llmlib("train", runs / "text.txt", *TINY, *steps, "--seed", 1, "--out", tmp_path / "other")
    assert losses(tmp_path / "other") != losses(runs / "whole")


@pytest.mark.slow
def test_looking_and_saving_more_often_changes_no_step(runs, tmp_path):
    often = ["--max-steps", 12, "--eval-every", 1, "--save-every", 1, "--n-samples", 3]
    llmlib("train", runs / "text.txt", *TINY, *often, "--out", tmp_path / "often")
    pairs = zip(losses(tmp_path / "often"), losses(runs / "whole"))
    assert all(a[:2] == b[:2] for a, b in pairs)
    assert_equal_weights(weights(tmp_path / "often"), weights(runs / "whole"))


def test_a_finished_run_says_so_and_goes_on_if_more_steps_are_wanted(runs, tmp_path, capsys):
    out = tmp_path / "run"
    llmlib("train", runs / "text.txt", *TINY, "--max-steps", 3, "--out", out)
    assert llmlib("train", "--resume", out) == 0
    assert "all 3 steps are taken: give --max-steps" in capsys.readouterr().out
    assert llmlib("train", "--resume", out, "--max-steps", 5) == 0
    assert [entry["step"] for entry in metrics(out)] == [1, 2, 3, 4, 5]
    assert yaml.safe_load((out / "config.yaml").read_text())["max_steps"] == 5


def test_what_would_make_it_another_run_is_refused(runs, tmp_path, capsys):
    for flag, value in [("--emb-dim", 32), ("--batch-size", 2), ("--seed", 3), ("--stories", 9)]:
        line = failure(capsys, "train", "--resume", runs / "whole", flag, value)
        assert "start a new run for that" in line
    other = tmp_path / "other.txt"
    other.write_text("something else")
    line = failure(capsys, "train", other, "--resume", runs / "whole")
    assert "this run has data" in line and "other.txt" in line
    assert llmlib("train", runs / "text.txt", "--resume", runs / "whole") == 0


def test_a_run_is_never_overwritten(runs, tmp_path, capsys):
    line = failure(capsys, "train", runs / "text.txt", *TINY, "--out", runs / "whole")
    assert "holds a run already: go on with `llmlib train --resume" in line
    (tmp_path / "notes.txt").write_text("mine")
    line = failure(capsys, "train", runs / "text.txt", *TINY, "--out", tmp_path)
    assert "is not empty" in line


def test_a_run_without_a_name_gets_a_descriptive_one(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        llmlib("train", runs / "text.txt", *TINY, "--max-steps", 1)
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {
        "text-story-tiny",
        "text-story-tiny-2",
    }


def test_two_processes_cannot_train_in_one_folder(runs, capsys):
    first = open_run(runs / "whole")
    first.lock()
    line = failure(capsys, "train", "--resume", runs / "whole", "--max-steps", 20)
    assert "another process is training in" in line
    first.file_lock.release()


def test_a_prepared_folder_is_trained_on_and_watched(runs, tmp_path, capsys):
    prepared = tmp_path / "prepared"
    llmlib("prepare", runs / "text.txt", "--tokenizer", "char", "--out", prepared)
    own = itertools.chain(*zip(TINY[2::2], TINY[3::2]))  # all but the tokenizer
    arguments = [prepared, *own, "--max-steps", 12, "--eval-every", 4, "--save-every", 6]
    assert llmlib("train", *arguments, "--out", tmp_path / "run") == 0
    assert losses(tmp_path / "run") == losses(runs / "whole")
    assert not (tmp_path / "run" / "data" / "train.npy").exists()
    line = failure(capsys, "train", *arguments, "--tokenizer", "word", "--out", tmp_path / "x")
    assert "tokenizer was decided when" in line
    (prepared / "data.json").write_text((prepared / "data.json").read_text().replace("e", "e", 1))
    assert llmlib("train", "--resume", tmp_path / "run") == 0
    about = (prepared / "data.json").read_text()
    (prepared / "data.json").write_text(about.replace('"sha256": "', '"sha256": "0', 1))
    line = failure(capsys, "train", "--resume", tmp_path / "run", "--max-steps", 20)
    assert "data.json: it is damaged, so prepare the text again" in line


def test_stories_are_marked_and_measured_against_their_floor(tmp_path):
    arguments = "--stories 200 --preset story-tiny --max-steps 4 --eval-every 4 --n-samples 4"
    assert llmlib("train", "stories", *arguments.split(), "--out", tmp_path / "run") == 0
    last = metrics(tmp_path / "run")[-1]
    assert 0.3 < last["floor"] < 0.4 < last["val_loss"]
    assert last["above_floor"] == pytest.approx(last["val_loss"] / last["floor"] - 1)
    assert 0 <= last["consistent"] <= last["grammatical"] <= 1


def test_shares_of_good_stories_are_counted(tmp_path, monkeypatch):
    good = [story.text for story in stories.tell_many(3, seed=1)]
    monkeypatch.setattr(callbacks, "write_samples", lambda *_: [*good, "No story."])
    arguments = "--stories 200 --preset story-tiny --max-steps 1 --n-samples 4"
    llmlib("train", "stories", *arguments.split(), "--out", tmp_path / "run")
    assert metrics(tmp_path / "run")[-1]["grammatical"] == 0.75
    assert good[0] in (tmp_path / "run" / "samples.txt").read_text()


def test_stories_longer_than_the_context_are_refused(tmp_path, capsys):
    arguments = ["--stories", 50, "--context-length", 60, "--out", tmp_path / "run"]
    assert "give --context-length" in failure(capsys, "train", "stories", *arguments)


def test_training_that_diverges_says_what_to_do(runs, tmp_path, capsys):
    wild = ["--learning-rate", "1e30", "--grad-clip", "none", "--warmup-steps", 0]
    arguments = [runs / "text.txt", *TINY, *wild, "--max-steps", 9, "--out", tmp_path / "run"]
    assert "lower the learning rate" in failure(capsys, "train", *arguments)


class Terminal(io.StringIO):
    """A stream that somebody is watching, as in a terminal."""

    def isatty(self):
        return True


def test_a_progress_bar_for_people_and_few_lines_for_logs(runs, tmp_path, monkeypatch):
    for name, stream in (("terminal", Terminal()), ("log", io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        steps = ["--max-steps", 30, "--eval-every", 10, "--out", tmp_path / name]
        assert llmlib("train", runs / "text.txt", *TINY, *steps) == 0
        bar, lines = stream.getvalue(), sys.stdout.getvalue().splitlines()
        assert len(lines) == 6  # two on the run, three looks, and how to use it
        if name == "terminal":
            last = bar.split("\r")[-1]
            assert re.search(
                r"30/30 \[\d\d:\d\d<00:00, .*step/s, loss \d\.\d+, [\d,]+ tokens/s", last
            )
        else:
            assert bar == ""


def test_settings_that_do_not_fit_the_text_leave_no_folder(runs, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("a few words " * 9)
    out = ["--max-steps", 2, "--out", tmp_path / "run"]
    line = failure(capsys, "train", tmp_path / "short.txt", *TINY, *out, "--batch-size", 50)
    assert "do not fill one batch (--batch-size 50)" in line and not (tmp_path / "run").exists()
    assert llmlib("train", tmp_path / "short.txt", *TINY, *out, "--batch-size", 2) == 0
    wild = ["--learning-rate", "1e30", "--grad-clip", "none", "--max-steps", 9]
    failure(capsys, "train", "--resume", tmp_path / "run", *wild)
    assert open_run(tmp_path / "run").load("latest").step == 2


def test_ctrl_c_before_the_first_step_says_how_to_go_on(runs, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "prepare_data", interrupted)
    out = tmp_path / "run"
    assert llmlib("train", runs / "text.txt", *TINY, "--max-steps", 2, "--out", out) == 130
    assert f"stopped; go on with: llmlib train --resume {out}" in capsys.readouterr().err
    monkeypatch.undo()
    assert llmlib("train", "--resume", out) == 0


def test_a_full_disk_while_the_curves_are_drawn_names_the_file(runs, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match=r"loss\.png could not be written: No space left"):
        callbacks.draw(open_run(runs / "whole"))


def test_what_a_killed_run_left_half_written_is_cleared_away(runs, tmp_path):
    out = tmp_path / "run"
    assert llmlib("train", runs / "text.txt", *TINY, "--max-steps", 2, "--out", out) == 0
    for name in ("latest/4711.part", "best/4711.part", "loss.png.part", "data/tokenizer.json.part"):
        (out / name).write_bytes(b"half")
    (out / "data.4711.part").mkdir()
    # weights that were written, killed before checkpoint.json named them
    (out / "latest" / f"weights-{'0' * 16}.safetensors").write_bytes(b"half")
    assert llmlib("train", "--resume", out, "--max-steps", 300) == 0
    assert not list(out.rglob("*.part"))
    assert len(list((out / "latest").iterdir())) == 3
