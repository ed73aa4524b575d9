"""What the tests of run folders share: a short run, a longer one of the same steps, no curves."""

import shutil
from pathlib import Path

import pytest
from cli_helpers import OFTEN, TINY, llmlib, write_text

from llmlib.cli import callbacks


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A text, a run of 4 steps on it, one of 8 without a break, and a prepared folder."""
    folder = tmp_path_factory.mktemp("base")
    text = write_text(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "draw", lambda run: None)
        for name, steps in (("run", 4), ("whole", 8)):
            arguments = [text, *TINY, *OFTEN, "--max-steps", steps, "--out", folder / name]
            assert llmlib("train", *arguments) == 0
    assert llmlib("prepare", text, "--tokenizer", "char", "--out", folder / "prepared") == 0
    return folder


@pytest.fixture
def run(base, tmp_path):
    return Path(shutil.copytree(base / "run", tmp_path / "run"))


@pytest.fixture
def no_curves(monkeypatch):
    """Nearly all of the time of such a run would be spent on its picture."""
    monkeypatch.setattr(callbacks, "draw", lambda run: None)
