"""The measuring tool: sources with known counts, and two checkouts side by side."""

import ast
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import measure
from counts import count_module, count_notebook, find_functions

EXPORTED = "# From notebooks/01_a.ipynb: edit there, then run make export.\n\n"


def count(source, *keys):
    row = count_module("llmlib/a.py", source)
    return tuple(row[key] for key in keys)


def guards(source):
    return count_module("llmlib/a.py", source)["guards"]


DOCUMENTED = '''\
"""A module.

With a second paragraph.
"""

# A comment by itself.
LIMIT = 3  # a comment after code


class Table:
    """A class."""

    size = 1

    def area(self):
        """A method,
        on two lines."""
        return self.size


async def nothing():
    """All it has."""
'''


def test_docstrings_and_comments_are_counted_apart_from_code():
    # code: LIMIT, class, size, def, return, async def
    assert count(DOCUMENTED, "code", "docstrings", "comments") == (6, 4 + 1 + 2 + 1, 2)


def test_tokens_leave_out_comments_docstrings_and_layout():
    # LIMIT = 3 | class Table : | size = 1 | def area ( self ) : | return self . size
    # | async def nothing ( ) :
    assert count(DOCUMENTED, "tokens") == (3 + 3 + 3 + 6 + 4 + 6,)


def test_the_lines_of_a_call_over_several_lines_are_code():
    assert count("f(\n    1,\n\n    # why\n    2,\n)\n", "code", "comments") == (4, 1)


def test_a_multi_line_string_that_is_not_a_docstring_is_code():
    source = 'x = """\none\n\n# two\n"""\n\n\ndef f():\n    return 1\n    """Too late."""\n'
    assert count(source, "code", "docstrings", "comments") == (5 + 3, 0, 0)
    assert count('f("""Not a docstring""")\n', "code", "docstrings") == (1, 0)


def test_a_docstring_in_two_pieces_is_one():
    assert count('def f():\n    "one" "two"\n', "code", "docstrings", "tokens") == (1, 1, 5)


def test_an_f_string_is_one_token_in_every_python():
    assert count("x = f'{a!r:>{n}} and {b + 1}'\n", "tokens", "code") == (3, 1)
    assert count("x = f'''\n{a}\n# {b}\n''' + y\n", "tokens", "code", "comments") == (5, 4, 0)


def test_a_module_without_code():
    assert count("", "code", "tokens", "docstrings", "longest") == (0, 0, 0, (0, "", 0))
    assert count('"""Only this."""\n', "code", "docstrings") == (0, 1)


@pytest.mark.parametrize(
    "source, lines",
    [
        ("if x:\n    raise E\n", 2),
        ("if x:\n    y = 1\n    raise E(y)\n", 3),
        ("if (\n    x\n    and y\n):\n    # why\n\n    raise E(\n        x\n    )\n", 7),
        ("if x:\n    f()\nelif y:\n    raise E\nelse:\n    g()\n", 2),
        ("if x:\n    raise E\nelif y:\n    raise E\nelse:\n    g()\n", 4),
        ("for x in y:\n    if x:\n        raise E\n    f(x)\n", 2),
        ("if x:\n    f()\n    if y:\n        raise E\n", 2),
        ("assert x\nassert (\n    y\n), 'why'\n", 4),
        ("if x:\n    assert y\n    raise E\n", 3),
        ("try:\n    f()\nexcept A as error:\n    raise B('b') from error\n", 2),
        ("try:\n    f()\nexcept A:\n    if x:\n        raise B\n    g()\n", 2),
    ],
)
def test_a_guard_is_counted_from_its_test_to_its_raise(source, lines):
    assert guards(source) == lines


@pytest.mark.parametrize(
    "source",
    [
        "if x:\n    raise E\n    f()\n",
        "if x:\n    f()\nelse:\n    raise E\n",
        "if x:\n    for y in x:\n        raise E\n",
        "while x:\n    raise E\n",
        "raise E\n",
        "try:\n    f()\nexcept A:\n    raise\n",
        "try:\n    f()\nexcept A as error:\n    raise error from None\n",
        "try:\n    f()\nexcept A:\n    g()\n    raise B\n",
        "try:\n    f()\nexcept A:\n    pass\n",
    ],
)
def test_other_raises_and_handlers_are_not_guards(source):
    assert guards(source) == 0


@pytest.mark.parametrize(
    "source, lines",
    [
        ("checks.positive(x)\n", 1),
        ("def f(x):\n    llmlib.checks.positive(x)\n    return x\n", 1),
        ("checks.positive(\n    x,\n    # why\n    y,\n)\n", 4),
        ("x = checks.positive(x)\n", 0),
        ("f(checks.positive(x))\n", 0),
        ("checksums.positive(x)\n", 0),
        ("self.checks.positive(x)\n", 0),
    ],
)
def test_a_statement_that_calls_into_checks_is_a_guard(source, lines):
    assert guards(source) == lines


NESTED = '''\
class A:
    @first
    @second(
        1,
    )
    def outer(self):
        """A docstring."""

        # A comment.
        def inner():
            """Another."""
            return 1

        return inner  # here


def short():
    return lambda: 1
'''


def test_functions_are_measured_with_decorators_and_what_is_nested():
    row = count_module("llmlib/model/a.py", NESTED)
    # four lines of decorators, def, def, return, return; and three docstring or comment, two blank
    assert row["longest"] == (8, "llmlib.model.a.A.outer", 13)


def test_the_names_of_nested_functions_and_classes_are_qualified():
    source = "def f():\n    class B:\n        async def g():\n            pass\n"
    assert [name for name, _ in find_functions(ast.parse(source), "a")] == ["a.f", "a.f.B.g"]
    source = "if x:\n    def f(): ...\nelse:\n    def g(): ...\n"
    assert [name for name, _ in find_functions(ast.parse(source), "a")] == ["a.f", "a.g"]


def test_a_function_of_40_lines_of_code_is_not_too_long_and_one_of_41_is():
    head = 'def f():\n    """Three\n    more\n    lines."""\n    # and a comment\n\n'
    assert count(head + "    x = 1\n" * 39, "> 40", "longest") == (0, (40, "llmlib.a.f", 45))
    assert count(head + "    x = 1\n" * 40, "> 40", "longest") == (1, (41, "llmlib.a.f", 46))


def test_exported_modules_are_known_by_their_first_line():
    assert count(EXPORTED + "x = 1\n", "exported", "comments") == (1, 1)
    assert count('"""# From notebooks/01_a.ipynb"""\n', "exported") == (0,)


@pytest.fixture
def checkout(tmp_path):
    """A package with two rooms, tools, and a notebook."""
    files = {
        "llmlib/a.py": EXPORTED + "def f(x):\n    if x:\n        raise E\n    return x\n",
        "llmlib/b.py": "x = 1\ny = 2\n",
        "llmlib/cli/c.py": "# why\nx = 1\n",
        "llmlib/.hidden/d.py": "x = 1\n",
        "tools/e.py": "assert x\n",
    }
    for name, text in files.items():
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    cells = [
        "x = 1\n\n# why\nassert x\nassert x, 'why'",
        "%matplotlib inline\n!ls\nfiles = !ls\nassert files, f'{x}'\nx?",
        "\n".join(["x = 1"] * 40),
        "\n".join(["x = 1"] * 41),
        " \n",
    ]
    notebook = new_notebook(cells=[new_markdown_cell("assert"), *map(new_code_cell, cells)])
    (tmp_path / "new" / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "new" / "notebooks" / "01_a.ipynb")
    return tmp_path / "new"


def test_a_notebook_is_counted_by_cells_lines_and_assertions(checkout):
    assert count_notebook(checkout / "notebooks" / "01_a.ipynb") == {
        "notebooks": 1,
        "code cells": 4,
        "> 40": 1,
        "longest": 41,
        "assertions": 3,
        "with a message": 2,
    }


def run(capsys, *arguments):
    assert measure.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def table(text):
    """The rows of the tables by their first cell."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:3] != "|  "]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_one_row_per_folder_and_totals(checkout, capsys):
    rows = table(run(capsys, "--root", checkout))
    # modules, code, tokens, docstrings, comments and share, guards and share, > 40, longest
    assert rows["llmlib/"][:5] == ["2", "6", "19", "0", "1"]
    assert rows["llmlib/"][5:] == ["16.7%", "2", "33.3%", "0", "4 `llmlib.a.f` (4)"]
    assert rows["llmlib/cli/"][:6] == ["1", "1", "3", "0", "1", "100.0%"]
    assert rows["**llmlib, total**"][:3] == ["3", "7", "22"]
    assert rows["**exported, total**"][:7] == ["1", "4", "13", "0", "1", "25.0%", "2"]
    assert rows["**exported, total**"][7] == "50.0%"
    assert rows["tools/"] == rows["**tools, total**"] == [*"11200", "0.0%", "1", "100.0%", "0", "–"]
    assert rows["notebooks/"] == rows["**notebooks, total**"] == ["1", "4", "1", "41", "3", "2"]


def test_one_row_per_module(checkout, capsys):
    rows = table(run(capsys, "--root", checkout, "--modules", "llmlib"))
    assert list(rows)[1:4] == ["llmlib/a.py", "llmlib/b.py", "llmlib/cli/c.py"]
    assert rows["llmlib/b.py"][:3] == ["1", "2", "6"]
    assert rows["llmlib/b.py"][-1] == "–"


def test_a_single_file(checkout, capsys):
    rows = table(run(capsys, "--root", checkout, "llmlib/b.py"))
    assert rows["**total**"][:3] == ["1", "2", "6"]


def test_the_layout_of_a_source_changes_no_count(checkout, capsys):
    laid_out = run(capsys, "--root", checkout)
    (checkout / "llmlib/b.py").write_text("x = 1; y = (\n  2\n)\n\n")
    (checkout / "llmlib/a.py").write_text(EXPORTED + "def f( x ):\n  if x: raise E\n  return x\n")
    assert run(capsys, "--root", checkout) == laid_out


def test_the_files_that_are_measured_stay_as_they_are(checkout, capsys):
    (checkout / "llmlib/b.py").write_text("x = 1; y = (\n  2\n)\n\n")
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    run(capsys, "--root", checkout)
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_old_beside_new_with_their_ratio(checkout, capsys):
    old = checkout.with_name("old")
    (old / "llmlib" / "gone").mkdir(parents=True)
    (old / "llmlib" / "a.py").write_text("x = 1\ny = 1\n\n\ndef f():\n    return 1\n")
    (old / "llmlib" / "gone" / "b.py").write_text("x = 1\n")
    rows = table(run(capsys, "--root", checkout, "--against", old))
    assert rows["llmlib/"][1] == "4 → 6 (×1.50)"
    assert rows["llmlib/"][-1] == "2 `llmlib.a.f` (2) → 4 `llmlib.a.f` (4) (×2.00)"
    assert rows["llmlib/"][6] == "0 → 2"
    assert rows["llmlib/gone/"][:2] == ["1 → –", "1 → –"]
    assert rows["tools/"][:2] == ["– → 1", "– → 1"]
    assert rows["notebooks/"][1] == "– → 4"
    names = list(rows)
    assert names.index("llmlib/gone/") < names.index("**llmlib, total**")


def test_what_cannot_be_read_is_named(checkout, capfd):
    with pytest.raises(SystemExit):
        measure.main(["--root", str(checkout), "nowhere"])
    assert "there is no nowhere in" in capfd.readouterr().err
    (checkout / "llmlib" / "b.py").write_text("x = (\n")
    assert measure.main(["--root", str(checkout)]) == 1
    assert "llmlib/b.py" in capfd.readouterr().err
    notebook = new_notebook(cells=[new_code_cell("x = 1"), new_code_cell("x = (")])
    nbformat.write(notebook, checkout / "notebooks" / "01_a.ipynb")
    assert measure.main(["--root", str(checkout)]) == 1
    assert 'notebooks/01_a.ipynb, cell [2] "x = ("' in capfd.readouterr().err
