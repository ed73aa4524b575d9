"""Run folders under attack: lost and changed files, links, left-overs, refusals."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from cli_helpers import (
    OFTEN,
    TINY,
    assert_equal_weights,
    everything,
    failure,
    llmlib,
    losses,
    metrics,
    resume,
    train_on,
    weights,
)

from llmlib import checks
from llmlib.cli import callbacks, train
from llmlib.cli.run_folder import RunFolder, open_run
from llmlib.cli.run_notes import machine, machine_changes
from llmlib.training import checkpoint as checkpoints

NOBODY = 4194305  # no process has that number: the largest one is 4194304
pytestmark = pytest.mark.usefixtures("no_curves")


# A checkpoint that is gone ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone",
    [
        "latest/checkpoint.json",
        "latest",
        "latest metrics.jsonl samples.txt",
        "latest best",
        # as a copy has it that left out all texts, or all that is empty or large
        "latest/checkpoint.json best/checkpoint.json metrics.jsonl samples.txt loss.png",
        "latest best metrics.jsonl samples.txt",
    ],
)
def test_a_run_without_its_latest_checkpoint_is_never_begun_anew(base, run, capsys, gone):
    (run / "loss.png").write_bytes(b"the curves")
    for name in gone.split():
        files = run / name
        shutil.rmtree(files) if files.is_dir() else files.unlink()
    before = everything(run)
    line = failure(capsys, "train", "--resume", run, "--max-steps", 8)
    assert "/latest holds no checkpoint" in line and everything(run) == before
    assert "cp -r" not in line or (run / "best" / "checkpoint.json").is_file()
    again = ["train", base / "text.txt", *TINY, *OFTEN, "--out", run]
    assert "holds a run already" in failure(capsys, *again) and everything(run) == before


@pytest.mark.parametrize("lost", ["latest", "latest/checkpoint.json"])
def test_the_advice_to_go_on_from_the_best_checkpoint_works_as_printed(
    base, tmp_path, capsys, lost
):
    run = Path(shutil.copytree(base / "run", tmp_path / "it's a $HOME"))
    shutil.move(run / lost, tmp_path / "lost")
    line = failure(capsys, "train", "--resume", run)
    assert os.system(line.partition("best one: ")[2].strip("`")) == 0
    assert resume(run) == 0 and losses(run) == losses(base / "whole")
    assert_equal_weights(weights(run), weights(base / "whole"))


def test_the_best_checkpoint_is_not_replaced_by_a_worse_one(run, monkeypatch):
    """Whatever has become of the metrics: its own note counts."""
    best = everything(run / "best")
    (run / "best" / f"weights.{NOBODY}.part").touch()  # which no save would remove
    (run / "metrics.jsonl").unlink()
    monkeypatch.setattr(callbacks, "evaluate", lambda *_: type("E", (), {"loss": 9.0}))
    assert resume(run) == 0 and everything(run / "best") == best


def test_a_best_checkpoint_that_is_gone_is_found_again(run, monkeypatch):
    """Even where the metrics tell of a better one."""
    shutil.rmtree(run / "best")
    monkeypatch.setattr(callbacks, "evaluate", lambda *_: type("E", (), {"loss": 9.0}))
    assert resume(run) == 0 and checkpoints.load_checkpoint(run / "best").step == 6


def test_a_growing_file_that_cannot_be_written_is_said_before_a_step(run, capsys):
    (run / "samples.txt").unlink()
    (run / "samples.txt").mkdir()
    line = failure(capsys, "train", "--resume", run, "--max-steps", 8)
    assert "samples.txt could not be written" in line and len(metrics(run)) == 4


# Names that are not ours --------------------------------------------------------------------------


def test_resuming_removes_only_what_llmlib_left(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.part").write_text("mine")
    (other / "tokenizer.json.part").write_text("mine")
    theirs = ["notes.part", "data.part", "notes.4711.part", "best.4711.part", "latest/x.part"]
    for name in theirs:
        (run / name).write_text("mine")
    (run / "backup.part").mkdir()
    ours = ["config.yaml.part", f"config.yaml.{NOBODY}.part", "loss.png.part", "loss.png.7.part"]
    for name in [*ours, "data/tokenizer.json.part", "best/7.part"]:
        (run / name).write_text("half")
    (run / "data.4711.part").mkdir()
    (run / "data.4712.part").symlink_to(other)
    assert resume(run) == 0
    left = {str(path.relative_to(run)) for path in run.rglob("*.part")}
    assert left == {*theirs, "backup.part"}
    shutil.move(run / "data", tmp_path / "data")
    (tmp_path / "data" / "tokenizer.json.part").write_text("mine")
    (run / "data").symlink_to(tmp_path / "data")
    assert llmlib("train", "--resume", run, "--max-steps", 9) == 0
    assert (tmp_path / "data" / "tokenizer.json.part").read_text() == "mine"
    assert {path.read_text() for path in other.iterdir()} == {"mine"}


@pytest.mark.parametrize(
    "name", [".lock", "samples.txt", "metrics.jsonl", "config.yaml", "loss.png"]
)
def test_what_a_link_points_to_is_left_alone(run, tmp_path, name):
    target = tmp_path / "target"
    if (run / name).exists():
        shutil.move(run / name, target)
    else:
        target.write_text("mine")
    before = target.read_bytes()
    (run / name).symlink_to(target)
    assert resume(run) == 0 and target.read_bytes() == before
    assert not (run / ".lock").is_symlink(), "such a link could not be locked"
    assert [entry["step"] for entry in metrics(run)] == list(range(1, 9))


@pytest.mark.parametrize("name", ["latest", "best"])
def test_a_checkpoint_that_is_a_link_is_not_saved_over(base, run, capsys, name):
    shutil.rmtree(run / name)
    (run / name).symlink_to(base / "whole" / name)
    before = everything(base / "whole")
    assert f"{name} is a link" in failure(capsys, "train", "--resume", run, "--max-steps", 9)
    assert everything(base / "whole") == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(run, capsys, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    reader = os.open(run / name, os.O_RDONLY | os.O_NONBLOCK)  # else a fault would hang the tests
    assert f"{name} is a pipe" in failure(capsys, "train", "--resume", run, "--max-steps", 9)
    os.close(reader)


def test_a_copy_of_a_run_that_shares_its_files_stays_as_it_is(base, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy", copy_function=os.link)
    before = everything(run)
    assert resume(tmp_path / "copy") == 0 and everything(run) == before


# A start that failed ------------------------------------------------------------------------------


def test_a_run_is_no_folder_of_texts(run, capsys):
    assert "go on with it by --resume" in failure(capsys, "train", run)


def test_what_a_start_left_that_was_killed_does_not_block_the_name(base, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", "config.yaml.part", f"config.yaml.{NOBODY}.part"):
        (run / name).touch()
    assert train_on(base, run) == 0 and not list(run.glob("*.part"))


@pytest.mark.slow
def test_a_run_without_a_step_goes_on_by_the_same_command_or_with_other_settings(base, tmp_path):
    def killed(*_):
        raise SystemExit(9)

    for again in ("--out", "--resume"):
        run = tmp_path / again
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "new_model", killed)
            assert train_on(base, run) == 9
        assert (run / "config.yaml").is_file() and not (run / "latest").exists()
        (run / "metrics.jsonl").touch()  # as right before the first checkpoint
        (run / "notes.txt").touch()
        assert train_on(base, run) == 2, "it holds something else, too"
        (run / "notes.txt").unlink()
        assert train_on(base, run, "--emb-dim", 8) == 2, "it has other settings"
        if again == "--out":
            assert train_on(base, run) == 0
            shutil.rmtree(run / "best")
            for name in ("metrics.jsonl", "samples.txt"):
                (run / name).unlink()
            assert train_on(base, run) == 2, "there is a checkpoint still"
        else:
            refused = ["--seed", 5], ["--tokenizer", "word"], [base / "prepared"]  # of its data
            for flags in (*refused, ["--device", "cuda:7"]):
                assert llmlib("train", "--resume", run, *flags) == 2
            assert llmlib("train", "--resume", run, "--emb-dim", 8, "--batch-size", 2) == 0
            assert yaml.safe_load((run / "config.yaml").read_text())["emb_dim"] == 8
        assert llmlib("train", "--resume", run, "--emb-dim", 12) == 2, "now there are steps"


def test_a_handwritten_config_beside_a_prepared_folder_is_no_start_that_was_killed(
    base, tmp_path, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(base / "prepared", folder / "data")
    (folder / "config.yaml").write_text("max_steps: 3\nn_layers: 1\n")
    before = everything(folder)
    flags = ["--config", folder / "config.yaml", "--out", folder]
    assert "holds a run already" in failure(capsys, "train", folder / "data", *flags)
    assert not (folder / ".lock").exists()
    assert everything(folder) == before


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError, (RunFolder, "write_settings")),
        (TypeError, (RunFolder, "prepare_data")),
        (MemoryError, (RunFolder, "prepare_data")),
        (RuntimeError, (train, "make_trainer")),
        (OverflowError, (callbacks.Recorder, "__init__")),
    ],
)
def test_after_any_error_before_the_first_checkpoint_nothing_is_left(
    base, tmp_path, monkeypatch, error, place
):
    def fail(*_):
        raise error("out of memory, or whatever it is")

    monkeypatch.setattr(*place, fail)
    assert train_on(base, tmp_path / "runs" / "mine") == 2
    assert not (tmp_path / "runs").exists(), "the folders that were made for it go too"
    monkeypatch.undo()
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(*place, fail)
    train_on(base, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_refusal_removes_only_what_the_run_has_made(base, tmp_path, monkeypatch):
    def fail(*_):
        (tmp_path / "run" / "notes.txt").write_text("mine, written while the text was prepared")
        raise ValueError("no")

    monkeypatch.setattr(train, "make_trainer", fail)
    assert train_on(base, tmp_path / "run") == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_folder_in_which_another_process_trains_is_not_removed(base, run, capsys):
    first = open_run(run)
    first.lock()
    before = everything(run)
    assert "another process" in failure(capsys, "train", "--resume", run, "--max-steps", 9)
    assert everything(run) == before
    first.file_lock.release()


def test_a_resume_that_is_refused_changes_nothing(run, capsys):
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "loss": 1.0}\n')
    before = everything(run)
    for flags in (["--device", "cuda:7"], ["--emb-dim", 8], ["--learning-rate", -1]):
        failure(capsys, "train", "--resume", run, "--max-steps", 9, *flags)
        assert everything(run) == before
    assert llmlib("train", "--resume", run, "--max-steps", 3) == 0, "all steps are taken"
    config = (run / "config.yaml").read_text()
    assert config == before["config.yaml"].decode()
    config = config.replace("max_steps: 4", "max_steps: 5")
    (run / "config.yaml").write_text("# mine\n" + config)
    assert llmlib("train", "--resume", run) == 0 and len(metrics(run)) == 5
    assert (run / "config.yaml").read_text().startswith("# mine"), "comments stay"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--n-layers", 1_000_000], "--n-layers is 1,000,000: it must be at most 10,000"),
        (["--emb-dim", 2 * 10**6], "GB, and this machine has"),
        (["--emb-dim", 64, "--context-length", 2**31 - 1], "GB, and this machine has"),
        (["--final-fraction", 5], "--final-fraction"),
    ],
)
def test_a_model_that_no_memory_holds_is_refused_before_a_text_is_prepared(
    base, tmp_path, capsys, monkeypatch, flags, expected
):
    monkeypatch.setattr(RunFolder, "prepare_data", lambda *_: pytest.fail("it was prepared"))
    arguments = [base / "text.txt", *TINY, *OFTEN, *flags, "--out", tmp_path / "run"]
    assert expected in failure(capsys, "train", *arguments) and not (tmp_path / "run").exists()


def test_the_size_of_a_model_is_asked_again_with_its_vocabulary(base, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(checks, "affordable", lambda config: sizes.append(config.vocab_size))
    assert train_on(base, tmp_path / "run", "--max-steps", 1) == 0
    assert sizes == [3, len(weights(tmp_path / "run")["wte.weight"])]


@pytest.mark.parametrize(
    "change", [{"n_layers": 200_000}, {"context_length": 50_000_000}, {"vocab_size": 10**9}]
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_a_model_is_made(
    run, capsys, monkeypatch, change
):
    """Even in a manifest that has its right hash, and in a run too old to know its settings."""
    for name in ("best", "latest"):
        manifest = checkpoints.read_manifest(run / name)
        manifest["model"] |= change
        manifest["notes"] = {}
        checkpoints.write_manifest(run / name, manifest)
    monkeypatch.setattr("llmlib.model.gpt.GPT.__init__", lambda *_: pytest.fail("it was made"))
    for command in ("generate", "evaluate"):
        line = failure(capsys, command, "--checkpoint", run)
        assert "checkpoint.json: it is damaged" in line and "its sizes are not those" in line
    if "vocab_size" not in change:
        settings = yaml.safe_load((run / "config.yaml").read_text()) | change
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        line = failure(capsys, "train", "--resume", run, "--max-steps", 8)
        words = ("its sizes are not those", "GB, and this machine has", "it must be at most")
        assert any(word in line for word in words)


def test_the_memory_of_this_machine_is_known(monkeypatch):
    assert 1e8 < checks.machine_memory() < 1e15
    monkeypatch.delattr(os, "sysconf")
    assert checks.machine_memory() == float("inf")


def test_a_start_is_refused_where_another_process_was_faster(base, tmp_path, monkeypatch, capsys):
    """Between the look at the folder and its lock, another process may train a whole run there."""
    run, lock = tmp_path / "run", RunFolder.lock

    def late(self):
        shutil.copytree(base / "run", run, dirs_exist_ok=True)
        lock(self)

    monkeypatch.setattr(RunFolder, "lock", late)
    before = everything(base / "run")
    line = failure(capsys, "train", base / "text.txt", *TINY, *OFTEN, "--out", run)
    assert "holds a run already" in line and everything(run) == before


# Files that vouch for each other ------------------------------------------------------------------


@pytest.mark.slow
def test_a_text_that_changed_is_not_trained_on_where_the_tokens_are_gone(base, tmp_path, capsys):
    text = tmp_path / "text.txt"
    original = (base / "text.txt").read_text(encoding="utf-8")
    text.write_text(original, encoding="utf-8")
    run = tmp_path / "run"
    assert llmlib("train", text, *TINY, *OFTEN, "--out", run) == 0
    shutil.rmtree(run / "data")
    swapped = original.translate(str.maketrans("ao", "oa"))
    text.write_text(swapped, encoding="utf-8")
    assert "is not what it was when the run began" in failure(
        capsys, "train", "--resume", run, "--max-steps", 8
    )
    assert not (run / "data").exists()
    text.write_text(original, encoding="utf-8")
    assert resume(run) == 0 and losses(run) == losses(base / "whole")


@pytest.mark.slow
def test_tokens_of_another_text_in_the_place_of_the_runs_own_are_refused(
    base, run, capsys, tmp_path
):
    other = tmp_path / "other.txt"
    other.write_text((base / "text.txt").read_text(encoding="utf-8")[:4000], encoding="utf-8")
    shutil.rmtree(run / "data")
    assert llmlib("prepare", other, "--tokenizer", "char", "--out", run / "data") == 0
    before = everything(run)
    assert "is not what it was" in failure(capsys, "train", "--resume", run, "--max-steps", 8)
    for command in ("evaluate", "generate"):
        assert "is not what it was" in failure(capsys, command, "--checkpoint", run)
    assert everything(run) == before


@pytest.mark.slow
def test_a_prepared_folder_that_was_made_again_may_be_used_and_another_may_not(
    base, tmp_path, capsys
):
    prepared = Path(shutil.copytree(base / "prepared", tmp_path / "prepared"))
    tiny = [flag for pair in zip(TINY[2::2], TINY[3::2]) for flag in pair]
    assert llmlib("train", prepared, *tiny, *OFTEN, "--out", tmp_path / "run") == 0
    shutil.rmtree(prepared)
    assert "no prepared folder" in failure(
        capsys, "train", "--resume", tmp_path / "run", "--max-steps", 8
    )
    text = base / "text.txt"
    assert llmlib("prepare", text, "--tokenizer", "char", "--out", prepared, "--seed", 1,
                  "--val-fraction", 0.3) == 0  # fmt: skip
    assert "other tokens" in failure(
        capsys, "train", "--resume", tmp_path / "run", "--max-steps", 8
    )
    shutil.rmtree(prepared)
    assert llmlib("prepare", text, "--tokenizer", "char", "--out", prepared) == 0
    assert resume(tmp_path / "run") == 0 and losses(tmp_path / "run") == losses(base / "whole")


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 2), ("seed", 5), ("optimizer", "muon"), ("tokenizer", "word")],
)
def test_a_setting_changed_in_the_file_makes_no_other_run_in_silence(run, capsys, name, value):
    file = run / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(settings | {name: value}))
    before = everything(run)
    line = failure(capsys, "train", "--resume", run, "--max-steps", 8)
    assert f"config.yaml says '{name}: {value}', the steps" in line and everything(run) == before


@pytest.mark.slow
def test_settings_that_may_change_are_named(run, capsys):
    assert resume(run, "--learning-rate", 0.002) == 0
    line = "settings from here on: max_steps 4 → 8, learning_rate 0.001 → 0.002"
    assert line in capsys.readouterr().out
    assert llmlib("train", "--resume", run, "--max-steps", 9) == 0
    assert "settings from here on: max_steps 8 → 9\n" in capsys.readouterr().out


def test_another_number_of_threads_is_said(run, capsys):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert resume(run) == 0
    finally:
        torch.set_num_threads(before)
    assert f"threads {before} → {before + 1}\n" in capsys.readouterr().out
    assert llmlib("train", "--resume", run, "--max-steps", 9) == 0
    assert f"threads {before + 1} → {before}" in capsys.readouterr().out


def test_all_that_the_last_bits_depend_on_is_compared():
    model = torch.nn.Linear(1, 1)
    noted = machine(model)
    assert noted.keys() == {"device", "instructions", "threads", "processes", "torch"}
    assert machine_changes(model, {"machine": noted}) == []
    for name in noted:
        (line,) = machine_changes(model, {"machine": noted | {name: "other"}})
        assert line.endswith(f": {name} other → {noted[name]}")


def test_steps_and_sizes_that_cannot_be_are_refused_even_with_the_right_hash(run, capsys):
    for change in (
        {"training": {"step": 2**31}},
        {"notes": {"files": {"metrics.jsonl": -100}}},
        {"notes": {"files": {"samples.txt": "7"}}},
        {"notes": {"files": 3}},
        {"notes": {"settings": "none"}},
        {"notes": {"machine": None}},
        {"notes": {"report": [1]}},
        {"training": {"config": []}},
    ):
        manifest = checkpoints.read_manifest(run / "latest")
        kept = (run / "latest" / "checkpoint.json").read_bytes()
        for part, values in change.items():
            manifest[part] |= values
        checkpoints.write_manifest(run / "latest", manifest)
        assert "is damaged" in failure(capsys, "train", "--resume", run, "--max-steps", 8)
        (run / "latest" / "checkpoint.json").write_bytes(kept)
    assert resume(run) == 0


@pytest.mark.slow
def test_a_run_makes_another_one_by_its_own_config_whatever_its_data_is(
    base, tmp_path, monkeypatch
):
    tiny = [flag for pair in zip(TINY[2::2], TINY[3::2]) for flag in pair]
    prepared = Path(shutil.copytree(base / "prepared", tmp_path / "prepared"))
    assert llmlib("train", prepared, *tiny, *OFTEN, "--out", tmp_path / "a") == 0
    config = tmp_path / "a" / "config.yaml"
    assert llmlib("train", "--config", config, "--out", tmp_path / "b") == 0
    assert (tmp_path / "b" / "config.yaml").read_text() == config.read_text()
    assert losses(tmp_path / "b") == losses(base / "run")
    # one that an earlier version wrote, which noted defaults in the place of what was decided
    old = config.read_text().replace("tokenizer: char", "tokenizer: gpt2")
    (tmp_path / "old.yaml").write_text(old)
    assert llmlib("train", "--config", tmp_path / "old.yaml", "--out", tmp_path / "c") == 0
    (tmp_path / "old.yaml").write_text(old.replace("tokenizer: gpt2", "tokenizer: unigram"))
    assert llmlib("train", "--config", tmp_path / "old.yaml", "--out", tmp_path / "d") == 2


@pytest.mark.slow
def test_a_tokenizer_in_a_file_is_found_from_everywhere(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(base / "prepared" / "tokenizer.json", "mine.json")
    assert train_on(base, "a", "--tokenizer", "mine.json") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert llmlib("train", "--config", "../a/config.yaml", "--out", "b") == 0
    assert losses(Path("b")) == losses(base / "run")
