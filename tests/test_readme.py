"""The README and the repository agree: code runs, links lead somewhere, tables are complete."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llmlib.cli.arguments import make_parser
from llmlib.cli.prepare import prepare
from llmlib.cli.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_taste_runs(capsys):
    taste = code_blocks("python")[0]
    namespace = {}
    exec(taste, namespace)
    assert namespace["inputs"].shape == namespace["targets"].shape == (8, 256)
    assert "{" in capsys.readouterr().out


def test_every_command_has_flags_that_exist():
    lines = " ".join(code_blocks("bash")).replace("\\\n", "").splitlines()
    commands = [
        line.partition("llmlib ")[2] for line in lines if "llmlib " in line and "#" not in line
    ]
    assert len(commands) == 6
    for command in commands:
        rest = make_parser().parse_known_args(shlex.split(command))[1]
        assert not rest, command


def test_the_settings_it_shows_are_settings(tmp_path):
    (settings,) = code_blocks("yaml")
    (tmp_path / "run.yaml").write_text(settings)
    assert read_settings(tmp_path / "run.yaml")["learning_rate"] == 0.003


@pytest.mark.slow
def test_the_program_for_sharded_weights_runs(tmp_path):
    prepare(str(ROOT / "README.md"), tmp_path / "p", tokenizer="char")
    program = code_blocks("python")[1]
    for given, small in (("data/prepared/wiki", str(tmp_path / "p")), ("gpt2-1558M", "story-tiny")):
        assert given in program
        program = program.replace(given, small)
    (tmp_path / "sharded.py").write_text(program)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*launcher, "sharded.py"], cwd=tmp_path, env=environment, check=True, timeout=200
    )
    weights = load_file(tmp_path / "sharded.safetensors")
    assert weights["wte.weight"].shape[1] == 48
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links and not [link for link in links if "://" in link]
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(r"\bmake (?:\w+=\S+ )?([a-z-]+)", " ".join(re.findall(r"`[^`\n]+`", README)))
    )
    for block in code_blocks("bash"):
        named |= set(re.findall(r"^make ([a-z-]+)", block, re.MULTILINE))
    assert {"course", "test", "lab", "export", "execute", "test-browser"} <= named <= targets


def test_every_notebook_is_in_the_table():
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert notebooks
    for path in notebooks:
        row = next(line for line in README.splitlines() if f"(notebooks/{path.name})" in line)
        source = path.read_text(encoding="utf-8")
        exported = re.findall(r"#\| default_exp ([\w.]+)", source) + re.findall(
            r"#\| export ([\w.]+)", source
        )
        rooms = {f"`{name.partition('.')[0]}`" for name in exported}
        assert rooms <= set(re.findall(r"`\w+`", row)), path.name


def test_every_folder_is_in_the_tree():
    (tree,) = [block for block in code_blocks("text") if "notebooks/" in block]
    named = set(re.findall(r"^([\w/]+)/ ", tree, re.MULTILINE))
    hidden = {"build", "llmlib.egg-info", "runs"}
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._"} - hidden
    assert folders <= named
    assert all((ROOT / name).is_dir() for name in named)


def test_packages_are_pinned_or_bounded():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith(("#", "-e"))]
    assert "torch==2.13.0" in packages and "-e ." in lines
    bounded = re.compile(r"[\w-]+>=[\d.]+,<[\d.]+(; python_version < \"3\.\d+\")?$")
    assert all(bounded.match(line) for line in packages if line != "torch==2.13.0")
