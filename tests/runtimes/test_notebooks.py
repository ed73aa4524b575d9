"""Notebook 11 with a real chat model in place of the small one that ships: it runs to its end."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SETTING = 'MODEL = "nano-llama"'


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.read(NOTEBOOKS / "11_modern_transformer.ipynb", as_version=4)
    chosen = [cell for cell in notebook.cells if SETTING in cell.source]
    assert len(chosen) == 1, "one setting decides who speaks"
    chosen[0].source = chosen[0].source.replace(SETTING, 'MODEL = "smollm2-135m"')
    options = {"timeout": 1200, "kernel_name": "python3"}
    NotebookClient(notebook, resources={"metadata": {"path": NOTEBOOKS}}, **options).execute()
    return notebook


def printed(notebook, words):
    """What the one cell printed whose code has these words."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and words in c.source]
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_real_model_answers_through_its_template_as_transformers_does(executed):
    """The cells' own assertions: Paris, and the greedy words of transformers."""
    assert "134,515,008 parameters" in printed(executed, "chat_config = ")
    assert "the same greedy answer: True" in printed(executed, "theirs_writes(len(said))")


def test_its_speed_is_printed_beside_transformers(executed):
    lines = printed(executed, "timed_prefill, timed_decode").splitlines()
    assert [line.split()[0] for line in lines] == ["ours", "transformers"]
    assert all("prefill" in line and "tokens/s" in line for line in lines)
