"""Change one setting of a notebook that has run to its end, and run again what depends on it.

`tools/play.py --each` uses it. A reader does just this: the notebook has run, a setting near its
top is changed, and the cells below that need it run once more, among names that later cells have
left behind. The notebook runs once, in IPython within this process's child; every change is then
tried in a fork of that, so none sees another's changes and nothing runs that need not.

What depends on a setting is read from the cells: those that use its name, or a name that such a
cell sets or changes. Linux and macOS only, since Windows cannot fork.
"""

import ast
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

SECONDS = 1800  # for what depends on one setting
QUIET = {"TQDM_DISABLE": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}


class Change(NamedTuple):
    """A cell as it is after one of its settings was changed."""

    cell: int  # its place among the code cells
    name: str  # of the setting
    source: str


class Names(ast.NodeVisitor):
    """The names that a cell uses, and those that it sets or may change."""

    def __init__(self, source: str):
        self.used: set[str] = set()
        self.set: set[str] = set()
        self.visit(ast.parse(source))

    def visit_Name(self, node: ast.Name) -> None:
        """Note a name; what is assigned to, also in a function, counts as set."""
        (self.used if isinstance(node.ctx, ast.Load) else self.set).add(node.id)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        """Note a function or class by its name, and what stands in it."""
        self.set.add(node.name)
        self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        """Note that `x.f(...)` may change x."""
        if isinstance(node.func, ast.Attribute):
            self.note_change(node.func.value)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Note that `x[i] = ...` changes x."""
        if not isinstance(node.ctx, ast.Load):
            self.note_change(node)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Note that `x.a = ...` changes x."""
        if not isinstance(node.ctx, ast.Load):
            self.note_change(node)
        self.generic_visit(node)

    def note_change(self, node: ast.expr) -> None:
        """Note the name at the beginning of `x.a[i].b`."""
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name):
            self.set.add(node.id)


def imported(sources: list[str]) -> set[str]:
    """Return the names that imports bind: a call of `np.sum` changes nothing."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}


def dependents(sources: list[str], change: Change) -> list[int]:
    """Return the code cells after a changed one that depend on the setting, in order."""
    changed, found, modules = {change.name}, [], imported(sources)
    for index in range(change.cell + 1, len(sources)):
        names = Names(sources[index])
        if names.used & changed:
            found.append(index)
            changed |= names.set - modules
    return found


def rerun(path: Path, sources: list[str], changes: list[Change]) -> Iterator[tuple[str, float]]:
    """Run code cells to the end, then try each change; yield what failed, or "", and the seconds.

    If the cells fail as they are, that is the only thing yielded.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_all, args=(path, sources, changes, sender))
    process.start()
    sender.close()
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        pass
    finally:
        process.join()


def run_all(path: Path, sources: list[str], changes: list[Change], sender: Connection) -> None:
    """Run the cells of a notebook, and then each change in a fork; send what `rerun` yields."""
    os.environ.update(QUIET)
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    os.chdir(path.parent)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for number, source in enumerate(sources, start=1):
            if problem := run_cell(shell, number, source):
                sender.send((f"as stored: {problem}", 0.0))
                return
        forks = get_context("fork")
        for change in changes:
            start, (answer, end) = time.monotonic(), forks.Pipe(duplex=False)
            child = forks.Process(target=try_change, args=(shell, sources, change, end))
            child.start()
            end.close()
            try:
                problem = answer.recv() if answer.poll(SECONDS) else f"more than {SECONDS} seconds"
            except EOFError:
                problem = "the process died; perhaps the memory was used up"
            child.kill()
            child.join()
            sender.send((problem, time.monotonic() - start))


def try_change(shell, sources: list[str], change: Change, answer: Connection) -> None:
    """In a fork: run a changed cell and what depends on it; send what failed, or ""."""
    cells = [(change.cell, change.source)]
    cells += [(index, sources[index]) for index in dependents(sources, change)]
    problems = (run_cell(shell, index + 1, source) for index, source in cells)
    answer.send(next(filter(None, problems), ""))
    answer.close()


def run_cell(shell, number: int, source: str) -> str:
    """Run one cell; return the cell and its error if it fails, or ""."""
    result = shell.run_cell(source, store_history=False)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    error = result.error_before_exec or result.error_in_exec
    first_line = next((line for line in source.splitlines() if line and line[0] != "#"), "")
    return f'cell [{number}] "{first_line[:60]}": {type(error).__name__}: {error}' if error else ""
