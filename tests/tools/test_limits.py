"""Limits that keep the code readable, as `tools/counts.py` counts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from common import ROOT
from counts import LIMIT, count_module, count_notebook

EXPORTED = "exported modules carry ideas: write checks in llmlib/checks, and call them at the door"
MODULES = sorted(path for folder in ("llmlib", "tools") for path in (ROOT / folder).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS += sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_functions_are_short_and_checks_stand_at_the_doors(path):
    source = path.read_text(encoding="utf-8")
    row = count_module(name(path), source)
    assert row[f"> {LIMIT}"] == 0, f"the longest function: {row['longest']}"
    assert len(source.splitlines()) <= 320
    # In a module of 60 lines, three calls at its doors are 5 %.
    assert not row["exported"] or row["guards"] <= 0.07 * row["code"], EXPORTED


def test_exported_modules_together_have_at_most_5_percent_of_guards():
    rows = [count_module(name(path), path.read_text(encoding="utf-8")) for path in MODULES]
    exported = [row for row in rows if row["exported"]]
    guards, code = (sum(row[key] for row in exported) for key in ("guards", "code"))
    assert len(exported) > 20 and guards <= 0.05 * code, EXPORTED


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_cells_are_short_and_every_assertion_says_what_it_stands_for(path):
    row = count_notebook(path)
    assert row["longest"] <= LIMIT
    assert row["with a message"] == row["assertions"]
