"""Settings are found and changed, cells run twice, and each notebook of the course stands it."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import play
import rerun
from common import NotebookError

SETTINGS = """#| settings
EPOCHS = 20  # try 3
WORDS = [  # what is asked
    "fox",
    "hen # 1",
]  # any words of the corpus; try ["cat"]
NAME = "a"
"""


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook of these cells and return its path."""

    def write(*sources):
        path = tmp_path / "notebooks" / "03_a.ipynb"
        path.parent.mkdir(exist_ok=True)
        cells = [new_markdown_cell("# A"), *map(new_code_cell, sources)]
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write


def settings_of(path):
    return play.find_settings(path, nbformat.read(path, as_version=4))


def test_settings_are_what_a_marked_cell_says_to_try(notebook):
    found = settings_of(notebook("x = 1  # try 2", SETTINGS))
    assert [(setting.name, setting.stored, setting.other) for setting in found] == [
        ("EPOCHS", "20", "3"),
        ("WORDS", "['fox', 'hen # 1']", '["cat"]'),
    ]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("#| settings\nN = 3", r"cell \[1\].*no setting there says what to try"),
        ("#| settings\nN = 3  # try 3", "N is 3 already"),
        ("#| settings\nN = 3  # try a few", "N: `a few` is not a Python expression"),
    ],
)
def test_a_cell_that_offers_nothing_is_refused(notebook, cell, words):
    with pytest.raises(NotebookError, match=words):
        settings_of(notebook(cell))


@pytest.mark.slow
def test_all_settings_change_at_once_and_one_by_one(notebook, capsys):
    path = notebook(SETTINGS, "assert (EPOCHS, len(WORDS)) in ((20, 2), (3, 1)), 'one'")
    before = path.read_bytes()
    assert play.main([str(path)]) == 0
    assert play.main(["--each", str(path)]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert path.read_bytes() == before
    assert "03_a.ipynb: all settings changed, every cell twice: ok" in rows[0]
    assert "as stored, twice through: ok" in rows[1]
    assert "EPOCHS = 3, not 20: FAILED" in rows[2]
    assert "cell [2]" in rows[3] and "AssertionError: one" in rows[3]
    assert "WORDS = [\"cat\"], not ['fox', 'hen # 1']: FAILED" in rows[4]


@pytest.mark.slow
def test_each_change_begins_where_the_notebook_ended_and_leaves_no_trace(notebook, capsys):
    setting = "#| settings\nN = 1  # try 2\nM = 5  # try 6"
    log = "seen = globals().get('seen', [])\nseen.append(N)"
    alone = "runs = globals().get('runs', 0) + 1\nassert runs < 3, 'it does not depend on N or M'"
    end = "assert seen[-1] == N and seen.count(N) == len(seen) - (N == 2) and M < 7, seen"
    path = notebook(setting, log, alone, end)
    assert play.main(["--each", str(path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(": ")[1:] for row in rows[1:]] == [
        ["N = 2, not 1", "ok, 0 s"],
        ["M = 6, not 5", "ok, 0 s"],
    ]
    path = notebook(setting, "assert N < 2, 'large'", "", "assert M < 6, 'late'")
    assert play.main(["--each", str(path)]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert "AssertionError: large" in rows[2] and "AssertionError: late" in rows[4]


def test_what_depends_on_a_setting_is_read_from_the_cells():
    sources = {
        "N = 3\nM = 4\ndouble = 2 * N": False,
        "print(M)": False,
        "print(double)": True,
        "import numpy as np\nfixed = np.zeros(2)": False,
        "def f(x):\n    return x + N": True,
        "y = f(1)": True,
        "table = {}": False,
        "table['y'] = y\nmean = np.mean([1])": True,
        "box.value.append(y)": True,
        "z = table": True,
        "w = box": True,
        "mean": True,
        "np.ones(3)": False,
        "[y for y in range(3)]": False,
        "for y in range(3):\n    print(y)": False,
        "def g(y):\n    y.a = 1\n    return [w for w in y]": False,
        "z = 0\nprint(z)": False,
        "if fixed:\n    z = 0\nprint(z)": True,
        "class A:\n    def b(self):\n        return lambda: w": True,
        "A": True,
        "g": False,
    }
    found = rerun.dependents(list(sources), rerun.Change(0, "N", "N = 4"))
    assert [index in found for index in range(len(sources))] == list(sources.values())


@pytest.mark.slow
def test_a_cell_that_cannot_run_twice_is_named(notebook):
    path = notebook("words = ['a']", "", "del words[0]", "")
    assert play.play(path, []) == ""
    problem = play.play(path, [], times=2)
    assert 'notebooks/03_a.ipynb, cell [2] "del words[0]": IndexError' in problem


@pytest.mark.slow
def test_a_name_that_means_two_things_is_found_by_the_second_way_through(notebook):
    path = notebook("import math", "x = math.pi", "math = 'a subject'")
    assert play.play(path, [], times=2) == ""
    path = notebook("import math as m", "x = m.pi", "m = 'a subject'", "y = 1")
    assert play.play(path, [], through=2) == ""
    path = notebook("n = globals().get('n', 2)", "x = n + 1", "n = 'a name'")
    assert 'cell [5] "x = n + 1": TypeError' in play.play(path, [], through=2)
    assert play.play(path, [], times=2) == ""
