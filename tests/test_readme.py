"""The README and the repository agree: code runs, links lead somewhere, tables are complete."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_taste_runs(capsys):
    (taste,) = code_blocks("python")
    namespace = {}
    exec(taste, namespace)
    assert namespace["inputs"].shape == namespace["targets"].shape == (8, 256)
    assert "{" in capsys.readouterr().out


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
        exported = re.findall(r"#\| default_exp (\w+)", source) + re.findall(
            r"#\| export (\w+)", source
        )
        assert {f"`{name}`" for name in exported} <= set(re.findall(r"`\w+`", row)), path.name


def test_every_folder_is_in_the_tree():
    (tree,) = [block for block in code_blocks("text") if "notebooks/" in block]
    named = set(re.findall(r"^([\w/]+)/ ", tree, re.MULTILINE))
    hidden = {"build", "llmlib.egg-info"}
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._"} - hidden
    assert folders <= named
    assert all((ROOT / name).is_dir() for name in named)


def test_packages_are_pinned_or_bounded():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith(("#", "-e"))]
    assert "torch==2.13.0" in packages and "-e ." in lines
    bounded = re.compile(r"[\w-]+>=[\d.]+,<[\d.]+$")
    assert all(bounded.match(line) for line in packages if line != "torch==2.13.0")
