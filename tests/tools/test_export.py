"""The exporter: what it writes, and that each mistake gets a message that names file and cell."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import export

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = "#| default_exp one"


@pytest.fixture
def checkout(tmp_path):
    """An empty course: a package, a folder for notebooks, and the settings of ruff."""
    (tmp_path / "llmlib").mkdir()
    (tmp_path / "llmlib" / "__init__.py").write_text('"""The package."""\n')
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def write(checkout, name, *cells):
    notebook = new_notebook(cells=[new_markdown_cell("# A title"), *map(new_code_cell, cells)])
    nbformat.write(notebook, checkout / "notebooks" / name)


def run(checkout, *arguments):
    return export.main([*arguments, "--root", str(checkout)])


def module(checkout, *cells, name="one"):
    write(checkout, "01_a.ipynb", *cells)
    assert run(checkout) == 0
    return (checkout / "llmlib" / f"{name.replace('.', '/')}.py").read_text()


def make_room(checkout, name):
    (checkout / "llmlib" / name).mkdir()
    (checkout / "llmlib" / name / "__init__.py").write_text('"""A room."""\n')


def files(checkout):
    return {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}


def test_package_equals_what_the_notebooks_export():
    changes = export.find_changes(ROOT)
    assert "".join(export.show_diff(name, *texts) for name, texts in changes.items()) == ""


def test_a_module_has_header_docstring_sorted_imports_and_cells_in_order(checkout):
    text = module(
        checkout,
        "import time",
        DEFAULT,
        '#| export\n"""What it is for."""\nimport math\nfrom os import sep, getcwd',
        "#| export\nLIMIT = 3",
        "#| export\nfrom __future__ import annotations\nimport torch\nfrom os import curdir\n"
        "def f(x: T):\n    return math.pi, torch, sep, getcwd, curdir, LIMIT\n\n\nT = int",
        "f(time.time())",
    )
    assert text == (
        "# From notebooks/01_a.ipynb: edit there, then run make export.\n"
        '\n"""What it is for."""\n\n'
        "from __future__ import annotations\n\n"
        "import math\nfrom os import curdir, getcwd, sep\n\nimport torch\n\n"
        "LIMIT = 3\n\n\n"
        "def f(x: T):\n    return math.pi, torch, sep, getcwd, curdir, LIMIT\n\n\nT = int\n"
    )
    assert ast.get_docstring(ast.parse(text)) == "What it is for."


def test_what_is_written_passes_ruff(checkout):
    module(checkout, DEFAULT, "#| export\nimport math", "#| export\nx = {'a':math.pi,\n'b': 2}")
    for command in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, "llmlib"], cwd=checkout, check=True)


def test_comments_travel_with_their_imports(checkout):
    text = module(
        checkout,
        DEFAULT,
        "#| export\n# Only for pi.\nimport math  # and no more",
        "#| export\nX = math.pi  # kept",
    )
    assert "# Only for pi.\nimport math  # and no more\n" in text
    assert "X = math.pi  # kept" in text


def test_type_checking_and_optional_imports_stay_where_they_are(checkout):
    cell = (
        "#| export\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "try:\n    import fast as impl\nexcept ImportError:\n    impl = None\n"
        "def f(x: 'torch.Tensor'):\n    return impl\n"
    )
    text = module(checkout, DEFAULT, cell)
    assert "if TYPE_CHECKING:\n    import torch\n" in text
    assert "try:\n    import fast as impl\nexcept ImportError:\n    impl = None\n" in text


def test_directives_within_strings_are_text(checkout):
    text = module(
        checkout,
        DEFAULT,
        'print("""\n#| export\n""")',
        '#| export\nHELP = """\n#|exports\n%magic\n"""',
    )
    assert 'HELP = """\n#|exports\n%magic\n"""' in text


def test_two_notebooks_and_a_named_module_share_what_they_import(checkout):
    write(checkout, "01_a.ipynb", DEFAULT, "#| export\nimport math", "#| export\nA = math.e")
    write(checkout, "02_b.ipynb", "#| export one\nimport math\nB = math.pi", "#| export two\nC = 1")
    assert run(checkout) == 0
    text = (checkout / "llmlib" / "one.py").read_text()
    assert text.startswith("# From notebooks/01_a.ipynb, notebooks/02_b.ipynb: edit there")
    assert text.count("import math") == 1 and text.index("A = ") < text.index("B = ")
    assert "C = 1" in (checkout / "llmlib" / "two.py").read_text()


def test_only_names_that_a_cell_leaves_behind_can_be_defined_twice(checkout):
    cells = ["A = [-n for n in (1, 2)]\nfor _ in A: ...", "B = {n: -n for n in A}\n_, C = B, A"]
    module(checkout, DEFAULT, *(f"#| export\n{cell}" for cell in cells))


def test_a_header_too_long_for_a_line_is_still_known(checkout):
    for number in range(1, 6):
        name = f"{number:02}_a_notebook_with_a_long_name.ipynb"
        write(checkout, name, f"#| export one\nA{number} = 1")
    assert run(checkout) == 0
    assert run(checkout, "--check") == 0
    assert export.is_exported(checkout / "llmlib" / "one.py")


def test_only_what_changed_is_written(checkout, capsys):
    module(checkout, DEFAULT, "#| export\nA = 1", "#| export two\nB = 1")
    before = (checkout / "llmlib" / "two.py").stat().st_mtime_ns
    capsys.readouterr()
    module(checkout, DEFAULT, "#| export\nA = 2", "#| export two\nB = 1")
    assert capsys.readouterr().out == "wrote llmlib/one.py\n"
    assert (checkout / "llmlib" / "two.py").stat().st_mtime_ns == before
    assert not list((checkout / "llmlib").glob("*.part"))


def test_a_write_that_fails_leaves_the_old_module(checkout, monkeypatch):
    module(checkout, DEFAULT, "#| export\nA = 1")
    before = files(checkout)
    write(checkout, "01_a.ipynb", DEFAULT, "#| export\nA = 2")

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        run(checkout)
    package = checkout / "llmlib"
    assert sorted(package.iterdir()) == sorted(path for path in before if path.parent == package)
    assert (package / "one.py").read_bytes() == before[package / "one.py"]


def test_check_shows_a_diff_and_writes_nothing(checkout, capsys):
    module(checkout, DEFAULT, "#| export\nA = 1")
    assert run(checkout, "--check") == 0
    (checkout / "llmlib" / "one.py").write_text(
        (checkout / "llmlib" / "one.py").read_text() + "#\n"
    )
    write(checkout, "02_b.ipynb", "#| export two\nB = 2")
    before = files(checkout)
    capsys.readouterr()
    assert run(checkout, "--check") == 1
    assert files(checkout) == before
    shown = capsys.readouterr()
    assert "--- llmlib/one.py" in shown.out and "+B = 2" in shown.out
    assert "make export" in shown.err


def test_a_stale_module_is_reported_then_deleted(checkout, capsys):
    module(checkout, DEFAULT, "#| export\nA = 1")
    (checkout / "notebooks" / "01_a.ipynb").unlink()
    assert run(checkout, "--check") == 1
    assert "no notebook exports it any more" in capsys.readouterr().out
    assert (checkout / "llmlib" / "one.py").exists()
    assert run(checkout) == 0
    assert "deleted llmlib/one.py" in capsys.readouterr().out
    assert not (checkout / "llmlib" / "one.py").exists()


def test_what_was_written_by_hand_is_left_alone(checkout):
    make_room(checkout, "room")
    (checkout / "llmlib" / ".ipynb_checkpoints").mkdir()
    kept = [checkout / "llmlib" / name for name in ("hand.py", "room/hand.py")]
    for path in kept:
        path.write_text("# From notebooks/01_a.ipynb I took the idea.\n")
    kept += [checkout / "llmlib" / "room" / "__init__.py"]
    kept += [checkout / "llmlib" / ".ipynb_checkpoints" / "one-checkpoint.py"]
    kept[-1].write_text("# From notebooks/01_a.ipynb: edit there, then run make export.\n")
    before = [path.read_text() for path in kept]
    module(checkout, DEFAULT, "#| export\nA = 1")
    assert [path.read_text() for path in kept] == before


def test_modules_in_rooms(checkout, capsys):
    make_room(checkout, "model")
    make_room(checkout, "model/parts")
    cells = ["#| default_exp model.gpt", "#| export\nA = 1", "#| export model.parts.mlp\nB = 1"]
    assert "A = 1" in module(checkout, *cells, "#| export one\nC = 1", name="model.gpt")
    written = ["llmlib/model/gpt.py", "llmlib/model/parts/mlp.py", "llmlib/one.py"]
    assert capsys.readouterr().out == "".join(f"wrote {name}\n" for name in written)
    assert run(checkout, "--check") == 0
    path = checkout / "llmlib" / "model" / "parts" / "mlp.py"
    path.write_text(path.read_text().replace("B = 1", "B = 2"))
    assert run(checkout, "--check") == 1
    shown = capsys.readouterr().out
    assert "--- llmlib/model/parts/mlp.py" in shown and "-B = 2\n+B = 1" in shown


@pytest.mark.parametrize("without_init", [False, True])
def test_stale_modules_in_rooms_are_reported_then_deleted(checkout, capsys, without_init):
    make_room(checkout, "model")
    module(checkout, "#| export model.gpt\nA = 1", "#| export model.mlp\nA = 1", name="model.gpt")
    module(checkout, "#| export model.gpt\nA = 1", name="model.gpt")
    assert "deleted llmlib/model/mlp.py" in capsys.readouterr().out
    if without_init:
        (checkout / "llmlib" / "model" / "__init__.py").unlink()
    (checkout / "notebooks" / "01_a.ipynb").unlink()
    assert run(checkout, "--check") == 1
    assert "--- llmlib/model/gpt.py" in capsys.readouterr().out
    assert run(checkout) == 0
    assert capsys.readouterr().out.startswith("deleted llmlib/model/gpt.py")
    assert [path.name for path in files(checkout / "llmlib" / "model")] == (
        [] if without_init else ["__init__.py"]
    )


def test_a_module_becomes_a_room(checkout):
    module(checkout, "#| export model\nA = 1", name="model")
    make_room(checkout, "model")
    module(checkout, "#| export model.gpt\nA = 1", name="model.gpt")
    assert not (checkout / "llmlib" / "model.py").exists()


@pytest.mark.parametrize(
    ("rooms", "cells", "message"),
    [
        (
            [],
            ["#| export model.gpt\nA = 1"],
            "llmlib/model/gpt is not in a room yet: create __init__",
        ),
        (["model"], ["#| export model.a.b\nA = 1"], "llmlib/model/a/b is not in a room yet"),
        (["model"], ["#| export model\nA = 1"], "llmlib/model is both a module and a room"),
        (
            ["model"],
            ["#| export model.gpt\nA = 1", "#| export model\nA = 1"],
            "llmlib/model is both a module and a room",
        ),
        (
            ["model"],
            ["#| export model.__init__\nA = 1"],
            "llmlib/model/__init__ is written by hand",
        ),
    ],
)
def test_a_target_that_is_not_a_module_of_a_room_is_refused(
    checkout, capsys, rooms, cells, message
):
    (checkout / "llmlib" / "hand.py").write_text('"""By hand."""\n')
    for room in rooms:
        make_room(checkout, room)
    write(checkout, "01_a.ipynb", *cells)
    before = files(checkout)
    assert run(checkout) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("notebooks/01_a.ipynb, cell [") and message in shown
    assert files(checkout) == before


PARTS = [
    """#| export
'''About tokenizers.'''
class Base:
    def __init__(self, text):
        self.text = text


class Tokenizer(Base):
    '''Text to numbers.'''

    def __init__(self, text):
        super().__init__(text)
        self.__secret = 3
    # The methods follow.


LATER = 1""",
    """#| export
import math

# Only the length
# is needed.
class Tokenizer(Tokenizer):  # continued
    limit: int = 100
    ratio = limit / 10

    # One number per character.
    def encode(self):
        text = '''
#
 b'''
        return [math.floor(self.ratio), self.__secret, len(text), LATER]""",
    """#| export
class Tokenizer(Tokenizer):
    # Both sides of a property.
    @property
    def size(self):
        return len(self.text)

    @size.setter
    def size(self, value):
        self.text = self.text[:value]

    @staticmethod
    def twice(x): return 2 * x

    @classmethod
    def of(cls, n): return cls("x" * n)
    # The end.

AFTER = Tokenizer.of(3).size


class Heir(Tokenizer): ...""",
]


def test_a_class_in_several_cells_is_one_class_in_the_package(checkout):
    text = module(checkout, DEFAULT, *PARTS)
    tree = ast.parse(text)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["Base", "Tokenizer", "Heir"]
    assert [getattr(node, "name", "") for node in classes[1].body] == (
        ["", "__init__", "", "", "encode", "size", "size", "twice", "of"]
    )
    assert ast.get_docstring(classes[1]) == "Text to numbers."
    assert (
        "continued" not in text
        and "\n#\n b" in text
        and text.index("import math") < text.index("class Base")
    )
    order = [
        "# The methods follow.",
        "    # Only the length\n    # is needed.\n    limit: int",
        "    # One",
    ]
    order += [
        "    # Both sides",
        "    # The end.\n\n\nLATER = 1\n\nAFTER = Tokenizer.of(3).size\n\n\nclass Heir",
    ]
    assert (where := [text.index(part) for part in order]) == sorted(where)


def test_notebook_and_package_have_the_same_class(checkout):
    package, notebook = {}, {}
    exec(module(checkout, DEFAULT, *PARTS), package)
    for cell in [PARTS[0], *PARTS[1:], *PARTS[1:]]:  # twice is harmless
        exec(cell, notebook)
    for names in (package, notebook):
        tokenizer = names["Tokenizer"]("abcdef")
        tokenizer.size = 4
        assert tokenizer.encode() == [10, 3, 5, 1] and tokenizer.text == "abcd"
        assert type(tokenizer).__name__ == "Tokenizer" and names["AFTER"] == 3
        assert tokenizer.twice(4) == 8 and isinstance(tokenizer.of(2), names["Base"])


def test_a_decorated_class_grows_by_ordinary_methods(checkout):
    first = "#| export\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int"
    later = "#| export\nclass A(A):\n    def double(self):\n        return 2 * self.x"
    exec(module(checkout, DEFAULT, first, later), names := {})
    assert names["A"](x=2).double() == 4


def test_a_problem_in_a_continued_class_is_found_in_its_cell(checkout, capsys):
    for number, part in enumerate(
        ["def f(self):\n        return alpha", "def g(self, x=beta): ..."]
    ):
        cells = [
            "#| export\nclass A(A):\n    def h(self): ...",
            f"#| export\nclass A(A):\n    {part}",
        ]
        write(checkout, "01_a.ipynb", DEFAULT, CLASS, "#| export\nB = 1", *cells[:: 1 - 2 * number])
        assert run(checkout) == 1
        assert f"cell [{5 - number}]" in capsys.readouterr().err


def test_a_class_continues_only_in_its_module_and_notebook(checkout, capsys):
    make_room(checkout, "room")
    write(checkout, "01_a.ipynb", DEFAULT, CLASS, "#| export room.two\nclass A(A):\n    x = 1")
    assert run(checkout) == 1
    assert (
        "no earlier cell of this notebook exports its first part to room.two"
        in capsys.readouterr().err
    )
    write(checkout, "01_a.ipynb", DEFAULT, CLASS)
    write(checkout, "02_b.ipynb", "#| export one\nclass A(A):\n    x = 1")
    assert run(checkout) == 1
    message = capsys.readouterr().err
    assert message.startswith("notebooks/02_b.ipynb, cell [1]")
    assert "no earlier cell of this notebook" in message


CLASS = "#| export\nclass A:\n    y = 1\n\n    def f(self): ..."


def continued(body, first=CLASS, header="class A(A):"):
    """Two cells: a class, and a second part with one line in its body."""
    return [first, f"#| export\n{header}\n    {body}"]


MISTAKES = {
    "not_the_first_line": (["A = 1\n#| export"], "cell [2]", "first line"),
    "after_a_comment": (["# Note\n#| export\nA = 1"], "cell [2]", "first line"),
    "behind_code": (["A = 1  #| export"], "cell [2]", "first line"),
    "two_directives": (["#| export\n#| export two\nA = 1"], "cell [2]", "first line", "only"),
    "no_space": (["#|export\nA = 1"], "cell [2]", "`#|export`", "`#| export`"),
    "plural": (["#| exports\nA = 1"], "cell [2]", "`#| exports`", "`#| export`"),
    "capital": (["#| Export\nA = 1"], "cell [2]", "`#| Export`"),
    "a_space_too_many": (["# | export\nA = 1"], "cell [2]", "`# | export`"),
    "no_bar": (["#export\nA = 1"], "cell [2]", "`#export`"),
    "misspelt_under_a_magic": (["%%time\n#|export\nit's"], "cell [2]", "`#|export`"),
    "no_module_name": (["#| export a-b\nA = 1"], "cell [2]", "a-b", "ROOM.NAME"),
    "an_empty_room": (["#| export model..gpt\nA = 1"], "cell [2]", "model..gpt", "ROOM.NAME"),
    "a_keyword": (["#| export class\nA = 1"], "cell [2]", "llmlib/class", "keyword"),
    "a_path": (["#| export ../evil\nA = 1"], "cell [2]", "../evil", "ROOM.NAME"),
    "syntax_error": (["B = 1", "#| export\n\ndef f(:"], "cell [3]", "def f(:", "plain", "line 3"),
    "line_magic": (["#| export\n%matplotlib inline\nA = 1"], "cell [2]", "%matplotlib", "plain"),
    "shell": (["#| export\n!ls it's"], "cell [2]", "`!ls it's`", "not plain Python"),
    "shell_assigned": (["#| export\nfiles = !ls"], "cell [2]", "files = !ls", "not plain Python"),
    "question": (["#| export\nprint?"], "cell [2]", "`print?`", "not plain Python"),
    "twice": (["#| export\ndef f(): ...", "#| export\ndef f(): ..."], "cell [3]", "f is", "twice"),
    "twice_in_a_cell": (["#| export\nclass A: ...\nclass A: ..."], "cell [2]", "`A`", "F811"),
    "constant_twice": (["#| export\nA = 1", "#| export\nA += 1"], "cell [3]", "A is", "twice"),
    "import_and_function": (
        ["#| export\nfrom math import sqrt\nB = sqrt(2)", "#| export\ndef sqrt():\n    pass"],
        "cell [3]", "sqrt", "twice",
    ),
    "two_imports_of_a_name": (
        ["#| export\nimport math as m\nB = m.e", "#| export\nimport cmath as m\nC = m.e"],
        "cell [3]", "m is", "twice",
    ),
    "patched": (
        ["#| export\nclass A:\n    pass", "#| export\nA.f = lambda self: 1"],
        "cell [3]", "A.f", "patched", "`class A(A):`",
    ),
    "no_first_part": (continued("x = 1")[1:], "cell [2]", "no earlier cell", "one"),
    "first_part_imported": (
        continued("x = 1", "#| export\nfrom abc import ABC as A"), "cell [3]", "no earlier cell",
    ),
    "first_part_not_exported": (
        ["class A: ...", *continued("x = 1")[1:]], "cell [3]", "A continues a class", "export both",
    ),
    "first_part_later": (continued("x = 1")[::-1], "cell [2]", "the first part first"),
    "method_twice": (continued("def f(self): ..."), "cell [3]", "A.f", "twice"),
    "method_twice_later": (
        [*continued("def g(self): ..."), continued("def g(self): ...")[1]],
        "cell [4]", "A.g", "twice",
    ),
    "method_twice_in_a_part": (
        continued("def g(self): ...\n    def g(self): ..."), "cell [3]", "`g`", "F811",
    ),
    "attribute_twice": (continued("y = 2"), "cell [3]", "A.y", "twice"),
    "setter_apart": (
        continued("@property\n    def p(self): ...")
        + continued("@p.setter\n    def p(self, v): ...")[1:],
        "cell [4]", "A.p", "twice",
    ),
    "another_base": (continued("x = 1", header="class A(dict):"), "cell [3]", "A is defined twice"),
    "second_base": (continued("x = 1", header="class A(A, dict):"), "cell [3]", "second base"),
    "metaclass": (continued("x = 1", header="class A(A, metaclass=T):"), "cell [3]", "keyword"),
    "part_decorated": (continued("x = 1", header="@d\nclass A(A):"), "cell [3]", "decorator"),
    "part_on_one_line": (["#| export\nclass A(A): x = 1"], "cell [2]", "line by itself"),
    "first_part_on_one_line": (
        continued("x = 1", "#| export\nclass A: ..."), "cell [3]", "body of A",
    ),
    "part_docstring": (continued("'More.'"), "cell [3]", "docstring", "first cell of A"),
    "super": (continued("def g(self): super().g()"), "cell [3]", "super()", "Base.method(self)"),
    "super_in_full": (
        continued("x = 1", "#| export\nclass A(dict):\n    def f(self): super(A, self).f()"),
        "cell [2]", "super()", "UP008",
    ),
    "field": (
        continued("x: int = 1", "#| export\n@d\nclass A:\n    y = 1"), "cell [3]", "decorator of A",
    ),
    "used_too_early": (
        [CLASS, "#| export\nB = 1", continued("def g(self, x=B): ...")[1]],
        "cell [4]", "B is used before", "cell [3]",
    ),
    "another_directive": (["#| method A\nx = 1"], "cell [2]", "`#| method A`", "`#| export`"),
    "second_default": (["#| default_exp two"], "cell [2]", "second time", "one"),
    "late_docstring": (["#| export\nA = 1", "#| export\n'Late.'"], "cell [3]", "docstring of one"),
    "shared_line": (
        ["#| export\nimport math; A = math.e"], "cell [2]", "`import math; A", "separate lines",
    ),
    "variable_of_the_notebook": (
        ["alpha = 3", "#| export\ndef f():\n    return alpha"],
        "cell [3]", "def f", "alpha", "neither defined", 'cell [2] "alpha = 3"', "not exported",
    ),
    "import_of_the_notebook": (
        ["import torch", "#| export\nB = 1", "#| export\ndef f():\n    return torch"],
        "cell [4]", "torch", "neither", "cell [2]",
    ),
    "under_docstring_and_decorator": (
        ["#| export\n'A docstring.'", "#| export\nB = 1", "#| export\n@trace\ndef f(): ..."],
        "cell [4]", "@trace", "trace is neither",
    ),
    "unused_import": (["#| export\nB = 1", "#| export\nimport math"], "cell [3]", "math", "uses"),
    "untidy": (["#| export\nB = 1", "#| export\ndef f(l):\n    return l"], "cell [3]", "E741"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_names_the_cell_and_writes_nothing(checkout, capsys, mistake):
    cells, *words = MISTAKES[mistake]
    write(checkout, "03_x.ipynb", DEFAULT, *cells)
    before = files(checkout)
    for arguments in ([], ["--check"]):
        assert run(checkout, *arguments) == 1
        message = capsys.readouterr().err
        assert message.startswith("notebooks/03_x.ipynb, ")
        assert [word for word in words if word not in message] == []
    assert files(checkout) == before


def test_an_export_to_no_module_is_refused(checkout, capsys):
    write(checkout, "01_a.ipynb", "#| export\nA = 1")
    assert run(checkout) == 1
    assert "#| default_exp ROOM.NAME" in capsys.readouterr().err


def test_a_name_defined_by_two_notebooks_names_both(checkout, capsys):
    write(checkout, "01_a.ipynb", "#| export one\ndef f():\n    pass")
    write(checkout, "02_b.ipynb", "#| export one\ndef f():\n    pass")
    assert run(checkout) == 1
    message = capsys.readouterr().err
    assert "02_b.ipynb, cell [1]" in message and "01_a.ipynb, cell [1]" in message


@pytest.mark.parametrize("name", ["plots", "exercises.loss", "exercises.__init__", "__init__"])
def test_no_module_written_by_hand_is_overwritten(checkout, capsys, name):
    (checkout / "llmlib" / "plots.py").write_text('"""By hand."""\n')
    make_room(checkout, "exercises")
    (checkout / "llmlib" / "exercises" / "loss.py").write_text('"""By hand."""\n')
    write(checkout, "01_a.ipynb", f"#| export {name}\nA = 1")
    before = files(checkout)
    assert run(checkout) == 1
    assert f"llmlib/{name.replace('.', '/')} is written by hand" in capsys.readouterr().err
    assert files(checkout) == before


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD\n{}", "[]", '{"a": 1}', "\udcff"])
def test_a_file_that_is_not_a_notebook_is_named(checkout, capsys, text):
    (checkout / "notebooks" / "02_b.ipynb").write_bytes(text.encode(errors="surrogateescape"))
    assert run(checkout) == 1
    assert "notebooks/02_b.ipynb is not a notebook" in capsys.readouterr().err


def test_a_folder_without_the_package_is_refused(tmp_path, capsys):
    assert run(tmp_path) == 1
    assert "no package llmlib" in capsys.readouterr().err
