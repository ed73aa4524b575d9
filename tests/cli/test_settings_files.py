"""Files of settings: what a person means, or one line that names the file."""

import re

import pytest
import settings_fuzz
import yaml
from cli_helpers import failure

from llmlib.cli.settings import SETTINGS, SettingsFileError, read_settings

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)
)


def read(folder, content, suffix="yaml"):
    path = folder / f"my run.{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_settings(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max_steps: 010", {"max_steps": 10}),  # YAML 1.1: 8
        ("max_steps: '010'", {"max_steps": 10}),
        ("max_steps: 1_000", {"max_steps": 1000}),
        ("max_steps: 5.0", {"max_steps": 5}),
        ("seed: +5", {"seed": 5}),
        ("learning_rate: 1e-3", {"learning_rate": 0.001}),  # YAML 1.1: a text
        ("betas: [9e-1, .95]", {"betas": (0.9, 0.95)}),
        ("compile: yes\nqkv_bias: off", {"compile": True, "qkv_bias": False}),
        ("tokenizer: no\ndata: on", {"tokenizer": "no", "data": "on"}),  # YAML 1.1: booleans
        ("data: 2020-99-99", {"data": "2020-99-99"}),  # YAML 1.1: an impossible date
        ("data: 1:30", {"data": "1:30"}),
        ("grad_clip: ~\nmax_vocab: null\nn_heads:",
         {"grad_clip": None, "max_vocab": None, "n_heads": None}),
        ("grad_clip: none", {"grad_clip": None}),
        (b"\xef\xbb\xbfmax-steps: 3\r\nseed: 4\r\n", {"max_steps": 3, "seed": 4}),
        ("", {}),
        ("# nothing yet", {}),
    ],
)  # fmt: skip
def test_yaml_says_what_a_person_means(tmp_path, content, expected):
    assert read(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("max_steps: 1:30", "max_steps is '1:30': it must be a whole number"),  # YAML 1.1: 90
        ("seed: 12:30:45", "seed is '12:30:45'"),
        ("max_steps: 0x10", "max_steps is '0x10'"),
        ("seed: 1\nseed: 2", "'seed' is given twice"),
        ("max_steps: 1\nmax-steps: 2", "max_steps is given twice"),
        ('betas: "00"', "betas is '00': it must be two numbers"),
        ("betas: {0.9: 1, 0.95: 2}", "two numbers"),
        ("betas: [true, 0.9]", "two numbers"),
        ("betas: [.nan, 0.9]", "two numbers"),
        ("compile: 1", "true or false"),
        ("tokenizer: true", "tokenizer is True: it must be a text"),
        ('data: "a\\0b"', "data is 'a\\x00b': it must be a text"),
        ("n_samples: ~", "n_samples is None: it must be a whole number of at least 1"),
        ("n_samples: none", "n_samples is 'none'"),
        ("grad_clip: .inf", "grad_clip is '.inf': it must be a number, or none"),
        ("learning_rate: 1e999", "learning_rate is '1e999'"),
        ("seed: 99999999999999999999", "at most 9223372036854775807"),
        ("seed: " + "9" * 5000, "it must be a whole number"),
        ("\tmax_steps: 5", "found character '\\t'"),
        ("max_steps: 3\n---\nmax_steps: 4", "a single document"),
        ("seed: !!int '010'", "aliases and tags are left out"),
        ("seed: !!python/object:os.system x", "aliases and tags are left out"),
        ("seed: !" + "x" * 50_000 + "!y 3", "undefined tag handle"),
        ("<<: {seed: 3}", "no setting '<<'"),
        ("? [1, 2]\n: 3", "unhashable key"),
        (BOMB, "aliases and tags are left out"),
        ("betas: " + "[" * 90_000, "nest too deeply"),
        ("[" * 90_000, "nest too deeply"),
        ("{a: " * 20_000, "nest too deeply"),
        ("- " * 40_000, "nest too deeply"),
        ("? " * 40_000, "nest too deeply"),
        ("x" * 90_000 + ": 3", "cannot be read"),
        ("x: " + "y" * 200_000, "larger than 100,000 bytes"),
        ("max_steps: 3".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"max_steps: 3\xff", "not UTF-8 (byte 12 is 0xff)"),
        (b"max_steps: 3\0", "#x0000"),
    ],
)
def test_other_yaml_is_refused_in_a_line_with_the_name_of_the_file(tmp_path, content, reason):
    with pytest.raises(SettingsFileError, match=re.escape(reason)) as raised:
        read(tmp_path, content)
    assert "my run.yaml" in str(raised.value) and len(str(raised.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a = " + "[" * 90_000, "nest too deeply"),
        ("a = " + "{a=" * 30_000, "nest too deeply"),
        ("a." * 40_000 + "b = 1", "too many parts"),
        ("seed = " + "9" * 5000, "a number or a date in it is impossible"),
        ("data = 2020-99-99", "cannot be read"),
        ("data = 2020-01-01", "data is datetime.date(2020, 1, 1)"),
        ("max-steps = 1\nmax_steps = 2", "max_steps is given twice"),
        ("seed = 1\nseed = 2", "cannot be read"),
        ("grad_clip = inf", "grad_clip is inf"),
        ("learning_rate = nan", "learning_rate is nan"),
        ("learning_rate = 1" + "0" * 400, "it must be a number"),
        ('betas = "00"', "two numbers"),
        ("seed = 3".encode("utf-16"), "UTF-16"),
        (b"\xff", "not UTF-8 (byte 0 is 0xff)"),
    ],
)
def test_other_toml_is_refused_in_a_line_with_the_name_of_the_file(tmp_path, content, reason):
    with pytest.raises(SettingsFileError, match=re.escape(reason)) as raised:
        read(tmp_path, content, "toml")
    assert "my run.toml" in str(raised.value) and len(str(raised.value)) < 500 + len(str(tmp_path))


def test_a_message_about_a_file_has_the_names_that_stand_in_it(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("max_steps: x")
    line = failure(capsys, "train", "--config", tmp_path / "run.yaml")
    assert "run.yaml: max_steps is 'x'" in line


def test_toml_with_a_byte_order_mark_and_integers_in_its_own_ways(tmp_path):
    content = b"\xef\xbb\xbfmax_steps = 0x10\r\nseed = 1_000\r\ncompile = 'yes'\r\n"
    assert read(tmp_path, content, "toml") == {"max_steps": 16, "seed": 1000, "compile": True}


@pytest.mark.parametrize(
    "text",
    ["08", "1e3", "010", "0x1F", "1:30", "yes", "no", "null", "~", "1.5", ".5", "-.5e3", "true",
     "2020-01-01", "1_000", "+12", "0b11", "=", "<<", "!x", "*x", "&x", "a: b", "[", "#", " x ",
     "1.e+5", "naïve"],
)  # fmt: skip
def test_any_name_comes_back_from_the_file_that_a_run_writes(tmp_path, text):
    """`yaml.safe_dump` quotes what older readers take for something else; so ours takes no more."""
    assert read(tmp_path, yaml.safe_dump({"tokenizer": text})) == {"tokenizer": text}


def test_every_number_has_a_range_and_every_refusal_names_the_flag(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("Once upon a time. " * 99)
    for setting in SETTINGS.values():
        if setting.kind in (int, float):
            line = failure(capsys, "train", "t.txt", f"{setting.flag}=")
            assert line.endswith(f"argument {setting.flag}: it is empty"), line
            odd = ["x", "nan", "inf", "1e999", "9" * 100_000, "0x1", "1:30"]
            odd += ["9" * 20, "-1", "1.5"] if setting.kind is int else []
            for value in odd:
                line = failure(capsys, "train", "t.txt", f"{setting.flag}={value}")
                assert line.startswith(f"llmlib: {setting.flag} is '{value[:40]}"), line
                assert "it must be a" in line and len(line) < 300
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.slow
def test_damaged_files_say_what_they_show_or_are_refused():
    """10,000 of them: python tests/cli/settings_fuzz.py 10000."""
    counts, faults = settings_fuzz.run(1500)
    assert faults == [] and counts["same"] > 300, counts
