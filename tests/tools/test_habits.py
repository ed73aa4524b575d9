"""The habits of the repository: hooks and workflows call what the Makefile has."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def recipes():
    """The commands of each target of the Makefile, with `python` for its interpreter."""
    targets, name = {}, ""
    for line in MAKEFILE.splitlines():
        if rule := re.match(r"([a-z./-]+):([^=]*)$", line):
            name = rule[1]
            targets[name] = [("needs", rule[2].split())]
        elif line.startswith("\t"):
            targets[name].append(("run", line.strip().replace("$(PY)", "python")))
    return targets


def commands_of(target):
    """What `make TARGET` runs, that of its prerequisites included."""
    (_, needs), *own = recipes()[target]
    below = [c for need in needs if not need.startswith(".venv") for c in commands_of(need)]
    return below + [command for _, command in own]


def steps(workflow):
    """The lines of shell of each job of a workflow: {"check": [("", "make check"), ...]}."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return {
        name: [
            (step.get("if", ""), line)
            for step in job["steps"]
            for line in step.get("run", "").splitlines()
        ]
        for name, job in jobs.items()
    }


def test_every_target_is_explained_and_phony():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    targets = [target for target in recipes() if not target.startswith(".")]
    assert sorted(phony.split()) == sorted(targets)
    shown = re.findall(r'@echo "make ([a-z-]+)', MAKEFILE)
    assert set(shown) == {*targets} - {"help", "lint", "types", "drift"}


def test_check_and_test_differ_only_in_what_pytest_runs():
    *check, quick = commands_of("check")
    *test, everything = commands_of("test")
    assert check == test and "python -m ty check" in check
    assert quick.startswith(everything) and quick.endswith('-m "not slow" tests')


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_that_exist(workflow):
    lines = [line for found in steps(workflow).values() for _, line in found]
    targets = [shlex.split(line)[1] for line in lines if line.startswith("make ")]
    assert targets and set(targets) <= set(recipes())


def test_windows_runs_the_commands_of_make_check():
    """There is no make on Windows, so the workflow writes them out."""
    (workflow,) = [path for path in WORKFLOWS if path.name == "check.yml"]
    lines = [line for condition, line in steps(workflow)["check"] if "== 'Windows'" in condition]
    install, *commands = lines
    assert install == "python -m pip install --quiet -r requirements.txt"
    assert commands == commands_of("check")


def test_the_workflow_tests_every_python_that_the_package_supports():
    (workflow,) = [path for path in WORKFLOWS if path.name == "check.yml"]
    matrix = yaml.safe_load(workflow.read_text())["jobs"]["check"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert 'requires-python = ">=3.10,<3.14"' in (ROOT / "pyproject.toml").read_text()


def test_hooks_run_what_make_runs_and_download_nothing():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    made = [
        command.split() for target in ("lint", "types", "drift") for command in commands_of(target)
    ]
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    for hook in hooks:
        words = hook["entry"].replace(".venv/bin/python", "python").split()
        words = [word for word in words if word != "--force-exclude"]
        assert hook["language"] == "system"
        assert any(words == command[: len(words)] for command in made), hook["entry"]
    assert len(hooks) == len(made)


def test_the_ci_script_calls_targets_that_exist():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = re.findall(r"^\s*make ([a-z-]+)", script, re.MULTILINE)
    assert targets == ["test", "test-browser"]
    assert set(targets) <= set(recipes())
    for number in re.findall(r'NB="([^"]+)"', script)[0].split():
        assert list((ROOT / "notebooks").glob(f"{number}_*.ipynb")), number
