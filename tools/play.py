"""Play with the notebooks as a reader does: change a setting, run cells twice, go on.

    python tools/play.py             each notebook: all settings changed at once, every cell twice
    python tools/play.py 03          just this one
    python tools/play.py --each 03   as stored, twice from top to bottom; then one setting at a time
                                     is changed at the end, and what depends on it runs again

A cell that starts with `#| settings` holds the settings of an experiment. The comment behind one
says what a reader may try, a value that also makes the run short where it can:

    #| settings
    EPOCHS = 20  # try 3
    WINDOW = 4  # words on each side; try 2

Notebooks run as copies in their own folder, and no output is kept: a cell has to end without an
error. An assertion that holds only for the stored settings asks for them, and says so in words.
"""

import argparse
import ast
import io
import re
import sys
import time
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cells import SETTINGS
from common import (
    ROOT,
    NotebookError,
    choose_notebooks,
    code_cells,
    command_line,
    name_cell,
    read_notebook,
    short,
)
from execute import run_cells
from nbformat import NotebookNode
from rerun import Change, rerun

TRY = re.compile(r"#(?:.*[;,:])?\s*try (?P<value>.+)$")


@dataclass(frozen=True)
class Setting:
    """A marked setting, as it is stored and as a reader may change it."""

    name: str
    cell: int  # its place in `notebook.cells`
    rows: tuple[int, int]  # the first line of its value, and the one behind the last
    stored: str
    other: str

    def change(self, lines: list[str]) -> None:
        """Put the other value into the lines of the cell; the number of lines stays."""
        first, end = self.rows
        lines[first:end] = [f"{self.name} = {self.other}", *[""] * (end - first - 1)]


def find_settings(path: Path, notebook: NotebookNode) -> list[Setting]:
    """Return the marked settings of a notebook, in order.

    Raises NotebookError where a settings cell offers nothing to try, or something that is no Python
    expression or equals what is stored.
    """
    numbers = {cell.id: number for number, cell in code_cells(notebook)}
    found: list[Setting] = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.startswith(SETTINGS):
            continue
        label = name_cell(path, numbers[cell.id], cell.source)
        settings = read_cell(cell.source, index, label)
        if not settings:
            raise NotebookError(f"{label}: no setting there says what to try: `N = 3  # try 2`")
        found += settings
    return found


def read_cell(source: str, index: int, label: str) -> list[Setting]:
    """Return the settings of one cell that say what to try. Raises as `find_settings`."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    settings = []
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        end = node.end_lineno or node.lineno
        if not (found := TRY.search(comments.get(end, ""))):
            continue
        other = found["value"].strip()
        try:
            same = ast.dump(ast.parse(other, mode="eval").body) == ast.dump(value)
        except SyntaxError:
            raise NotebookError(f"{label}: {name}: `{other}` is not a Python expression") from None
        if same:
            raise NotebookError(f"{label}: {name} is {other} already: let it try something else")
        settings.append(Setting(name, index, (node.lineno - 1, end), ast.unparse(value), other))
    return settings


def play(path: Path, changed: list[Setting], times: int = 1, through: int = 1) -> str:
    """Run a copy of a notebook with some settings changed; return what failed, or "".

    times: how often each cell runs before the next one does. through: how often the notebook runs
    from top to bottom in one kernel.
    """
    notebook = read_notebook(path)
    for setting in changed:
        cell = notebook.cells[setting.cell]
        lines = cell.source.split("\n")
        setting.change(lines)
        cell.source = "\n".join(lines)
    notebook.cells = [cell for _ in range(through) for cell in notebook.cells]
    return run_cells(notebook, path, times)[1]


def changed_source(notebook: NotebookNode, setting: Setting) -> str:
    """Return the cell of a setting with the other value in it."""
    lines = notebook.cells[setting.cell].source.split("\n")
    setting.change(lines)
    return "\n".join(lines)


def play_each(path: Path) -> Iterator[tuple[str, str, float]]:
    """Play with the settings of a notebook one by one; yield the way, what failed, the seconds."""
    start, notebook = time.monotonic(), read_notebook(path)
    yield "as stored, twice through", play(path, [], through=2), time.monotonic() - start
    settings = find_settings(path, notebook)
    places = {cell.id: place for place, (_, cell) in enumerate(code_cells(notebook))}
    changes = [
        Change(places[notebook.cells[s.cell].id], s.name, changed_source(notebook, s))
        for s in settings
    ]
    sources = [cell.source for _, cell in code_cells(notebook)]
    ways = [f"{setting.name} = {setting.other}, not {setting.stored}" for setting in settings]
    for way, (problem, seconds) in zip(ways, rerun(path, sources, changes)):
        yield way, problem, seconds


def play_at_once(path: Path) -> Iterator[tuple[str, str, float]]:
    """Change all settings of a notebook at once, and run every cell twice; yields once."""
    start, settings = time.monotonic(), find_settings(path, read_notebook(path))
    problem = play(path, settings, times=2)
    yield "all settings changed, every cell twice", problem, time.monotonic() - start


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Play with the notebooks, as a reader does.")
    parser.add_argument("notebook", nargs="*", help="a number such as 03, or a path (default: all)")
    parser.add_argument("--each", action="store_true", help="one setting at a time")
    options = parser.parse_args(arguments)
    failed = False
    for path in choose_notebooks(options.notebook, [ROOT / "notebooks"]):
        for way, problem, seconds in (play_each if options.each else play_at_once)(path):
            verdict = "FAILED" if problem else "ok"
            print(f"{short(path)}: {way}: {verdict}, {seconds:.0f} s", flush=True)
            if problem:
                print(f"  {problem}", flush=True)
            failed = failed or bool(problem)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
