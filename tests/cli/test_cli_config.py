"""Settings: flags and files say the same, and a mistake is answered with what was meant."""

import subprocess
import sys
from dataclasses import fields

import pytest
from cli_helpers import TINY, failure, llmlib, write_text

from llmlib.cli import settings
from llmlib.model.config import GPTConfig
from llmlib.training.config import TrainConfig


def test_the_table_has_all_fields_of_the_training_with_their_defaults():
    own = {o.name: o.default for o in settings.TRAINING}
    for field in fields(TrainConfig):
        if field.name == "aux_weights":  # no model of the command line adds losses
            continue
        assert field.name in own
        if field.name != "max_steps":  # which has none there
            assert own[field.name] == field.default, field.name


def test_the_table_has_all_sizes_of_the_model():
    sizes = {field.name for field in fields(GPTConfig)} - {"vocab_size"}  # the tokenizer's
    assert sizes <= {setting.name for setting in settings.MODEL}


def test_help_comes_without_torch_and_with_examples():
    code = (
        "import sys\nfrom llmlib.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('torch' in sys.modules)"
    )
    for command in ([], ["prepare"], ["train"], ["generate"], ["evaluate"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0 and "examples:\n  llmlib" in done.stdout
        assert done.stdout.endswith("False\n"), "torch was imported"


@pytest.mark.parametrize("suffix", ["yaml", "toml"])
def test_files_and_flags_say_the_same(tmp_path, suffix):
    lines = {
        "max-steps": "50",
        "learning_rate": "1e-3",  # in YAML, this is a text
        "betas": "[0.9, 0.99]",
        "compile": "true",
        "optimizer": '"muon"',
    }
    equals = ": " if suffix == "yaml" else " = "
    path = tmp_path / f"run.{suffix}"
    path.write_text("\n".join(name + equals + value for name, value in lines.items()))
    flags = {"max_steps": "50", "learning_rate": "1e-3", "betas": ["0.9", "0.99"]}
    expected = settings.check_flags({**flags, "compile": True, "optimizer": "muon"})
    assert settings.read_settings(path) == expected
    assert expected["learning_rate"] == 0.001 and expected["betas"] == (0.9, 0.99)


def test_flags_win_over_the_file_and_the_file_over_the_recipe(tmp_path):
    (tmp_path / "run.yaml").write_text("data: stories\nmax_steps: 7\nlearning_rate: 0.5\n")
    given = settings.read_settings(tmp_path / "run.yaml") | settings.check_flags({"max_steps": "9"})
    settled = settings.settle(given)
    assert (settled.max_steps, settled.learning_rate) == (9, 0.5)
    assert settled.optimizer == settings.STORY_RECIPE["optimizer"]


def test_a_prepared_folder_of_stories_has_their_recipe():
    assert settings.settle({"data": "/some/folder"}, "stories").optimizer == "muon"
    assert settings.settle({"data": "/some/folder"}, "wiki").optimizer == "adamw"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("lerning_rate: 1", "did you mean 'learning_rate'?"),
        ("max-step: 1", "did you mean 'max_steps'?"),
        ("max_steps: many", "max_steps is 'many': it must be a whole number"),
        ("max_steps: 1.5", "max_steps is 1.5"),
        ("max_steps: true", "max_steps is True"),
        ("batch_size: 0", "at least 1"),
        ("betas: [1]", "two numbers"),
        ("betas: 3", "two numbers"),
        ("compile: perhaps", "true or false"),
        ("optimizer: sgd", "one of adamw, muon"),
        ("max_steps:", "max_steps is None"),
        ("train:\n  max_steps: 3", "no setting 'train'"),
        ("- 1\n- 2", "holds no settings"),
        ("a: [", "cannot be read"),
        ("data: 3", "data is 3"),
        ("max_steps: 0", "max_steps is 0"),
        ("n_heads: 5", "not divisible"),
        ("preset: story-smal", "did you mean 'story-small'?"),
    ],
)
def test_a_mistake_in_a_file_is_answered_in_one_line(tmp_path, capsys, text, expected):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert expected in failure(capsys, "train", "stories", "--config", path)
    assert not (tmp_path / "runs").exists()


def test_mistakes_in_flags_are_answered_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = write_text(tmp_path)
    (tmp_path / "empty").mkdir()
    for arguments, expected in [
        (["train", text, "--lerning-rate", "1"], "did you mean '--learning-rate'?"),
        (["train", text, "--max", "1"], "no argument '--max'"),  # no shortened flags
        (["train", text, "--max-steps", "x"], "--max-steps is 'x': it must be a whole number"),
        (["train"], "no data to train on"),
        (["train", "wikki"], "did you mean 'wiki'"),
        (["train", "no/such/file.txt"], "no file no/such/file.txt"),
        (["train", tmp_path / "empty"], "empty"),
        (["train", text, "--device", "cuda:7"], "no device 'cuda:7' here: there are cpu"),
        (["train", text, "--config", "nothing.yaml"], "nothing.yaml: No such file"),
        (["train", text, "--config", text], "must be a .yaml or a .toml file"),
        (["train", text, "--grad-clip", "-1"], "--grad-clip is -1.0"),
        (["train", text, "--resume", "x", "--out", "y"], "not both"),
        (["train", "--resume", "nothing"], "there is no run in nothing"),
        (["trian", text], "invalid choice: 'trian'"),
    ]:
        assert expected in failure(capsys, *arguments)


def test_a_run_folder_makes_another_run_by_its_own_config(tmp_path):
    text = write_text(tmp_path)
    assert llmlib("train", text, *TINY, "--max-steps", 3, "--out", tmp_path / "a") == 0
    file = tmp_path / "a" / "config.yaml"
    assert llmlib("train", "--config", file, "--out", tmp_path / "b") == 0
    assert (tmp_path / "b" / "config.yaml").read_text() == file.read_text()
