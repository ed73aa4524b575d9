"""Each notebook once more, as a reader plays with it: all marked settings changed, each cell twice.

`make test-play` changes them one at a time.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import play
from common import ROOT, read_notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_changed_settings_and_cells_that_run_twice_break_nothing(path):
    settings = play.find_settings(path, read_notebook(path))
    assert settings, "no cell of the notebook is marked with #| settings"
    assert play.play(path, settings, times=2) == ""


def test_all_notebooks_are_played_with():
    assert len(NOTEBOOKS) >= 10
