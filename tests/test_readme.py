"""README, docs and the repository agree: code runs, links lead somewhere, tables are complete."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from llmlib.cli.arguments import make_parser
from llmlib.cli.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "PROGRESS.md", "data/README.md"]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
}


def code_blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) <= 110


def test_the_taste_runs(capsys):
    (taste,) = code_blocks("python")
    assert len([line for line in taste.splitlines() if line and "import" not in line]) <= 5
    exec(taste, {})
    story, probabilities = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert len(story.split()) > 20 and "{" in probabilities


def test_the_picture_shows_what_notebook_06_found():
    found = json.loads((ROOT / "docs" / "picture.json").read_text(encoding="utf-8"))
    notebook = (ROOT / "notebooks" / "06_pretraining.ipynb").read_text(encoding="utf-8")
    assert f"floor {found['floor']:.3f} nats" in notebook
    for n, loss in found["baselines"].items():
        assert f"{n}-gram: {loss:.3f} nats" in notebook
    assert 1 < found["held out"]["2750"] / found["floor"] < 1.05


def test_every_command_has_flags_that_exist():
    shell = "".join(block for text in PAGES.values() for block in code_blocks("bash", text))
    lines = shell.replace("\\\n", "").splitlines()
    commands = [line.partition("llmlib ")[2] for line in lines if re.search(r"\bllmlib \w", line)]
    assert len(commands) >= 8
    for command in commands:
        rest = make_parser().parse_known_args(shlex.split(command, comments=True))[1]
        assert not rest, command


def test_the_settings_that_are_shown_are_settings(tmp_path):
    (settings,) = code_blocks("yaml", PAGES["docs/command-line.md"])
    (tmp_path / "run.yaml").write_text(settings)
    assert read_settings(tmp_path / "run.yaml")["learning_rate"] == 0.003


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    links = re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_every_page_of_the_docs_is_linked_from_the_readme():
    pages = [name for name in PAGES if name.startswith("docs/")]
    assert pages and [name for name in pages if f"({name})" not in README] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_make_target_that_is_named_exists(name):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = " ".join(re.findall(r"`[^`\n]+`", PAGES[name]) + code_blocks("bash", PAGES[name]))
    named = set(re.findall(r"\bmake (?:\w+=\S+ )?([a-z]+(?:-[a-z]+)*)", code))
    assert named <= targets
    if name == "README.md":
        assert {"course", "test", "lab", "export", "check", "execute"} <= named


def test_every_notebook_is_in_the_table():
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert notebooks
    for path in notebooks:
        row = next(line for line in README.splitlines() if f"(notebooks/{path.name})" in line)
        source = path.read_text(encoding="utf-8")
        exported = re.findall(r"#\| (?:default_exp|export) ([\w.]+)", source)
        rooms = {f"`{name.partition('.')[0]}`" for name in exported}
        assert rooms <= set(re.findall(r"`\w+`", row)), path.name


def test_every_folder_is_in_the_tree():
    (tree,) = [block for block in code_blocks("text") if "notebooks/" in block]
    named = set(re.findall(r"^([\w/]+)/ ", tree, re.MULTILINE))
    hidden = {"build", "dist", "llmlib.egg-info", "runs"}
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._"} - hidden
    assert folders <= named
    assert all((ROOT / name).is_dir() for name in named)


def test_the_changelog_names_modules_that_exist():
    rows = re.findall(
        r"^  \| (`llmlib\..*) \| (`llmlib\..*) \|$", PAGES["CHANGELOG.md"], re.MULTILINE
    )
    assert len(rows) >= 29
    now = [name for _, cell in rows for name in re.findall(r"`(llmlib[\w.]+)`", cell)]
    assert [name for name in now if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert citation["license"] == "MIT" and citation["title"] in README.splitlines()[0]


def test_packages_are_pinned_or_bounded():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith(("#", "-e"))]
    assert "torch==2.13.0" in packages and "-e ." in lines
    bounded = re.compile(r"[\w-]+>=[\d.]+,<[\d.]+(; python_version < \"3\.\d+\")?$")
    assert all(bounded.match(line) for line in packages if line != "torch==2.13.0")
