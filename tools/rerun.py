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
from symtable import SymbolTable, symtable
from typing import NamedTuple

SECONDS = 1800  # for what depends on one setting
QUIET = {"TQDM_DISABLE": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}


class Change(NamedTuple):
    """A cell as it is after one of its settings was changed."""

    cell: int  # its place among the code cells
    name: str  # of the setting
    source: str


class Names:
    """What a cell takes from the cells before it, and the names that it sets or may change."""

    def __init__(self, source: str):
        self.used: set[str] = set()
        self.set: set[str] = set()
        assigned: set[str] = set()  # for certain, by the statements so far
        for statement in ast.parse(source).body:
            table = symtable(ast.unparse(statement), "cell", "exec")
            stored = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
            read = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
            read |= globals_of(table)
            if isinstance(statement, ast.For | ast.With):  # which set their names before all else
                read -= stored
            self.used |= read - assigned
            if not isinstance(statement, ast.If | ast.Try | ast.While):
                assigned |= stored
            self.set |= stored | changed_by(statement)


def globals_of(table: SymbolTable) -> set[str]:
    """Return the global names that functions, classes and comprehensions in a table refer to."""
    found = set()
    for child in table.get_children():
        found |= {symbol.get_name() for symbol in child.get_symbols() if symbol.is_global()}
        found |= globals_of(child)
    return found


def changed_by(node: ast.AST) -> set[str]:
    """Return x for `x.f(...)`, `x[i] = ...` and `x.a = ...`, where no function is around them."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
        return set()
    found = set()
    place = node.func if isinstance(node, ast.Call) else node
    is_store = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
    if isinstance(place, ast.Attribute | ast.Subscript) and (place is not node or is_store):
        while isinstance(place, ast.Attribute | ast.Subscript):
            place = place.value
        found = {place.id} if isinstance(place, ast.Name) else set()
    return found.union(*map(changed_by, ast.iter_child_nodes(node)))


def imported(sources: list[str]) -> set[str]:
    """Return the names that imports bind: a call of `np.sum` changes nothing."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}


def dependents(sources: list[str], change: Change) -> list[int]:
    """Return the code cells after a changed one that depend on the setting, in order."""
    changed, found, modules = {change.name}, [], imported(sources)
    for statement in ast.parse(sources[change.cell]).body:  # what is derived beside the setting
        names = Names(ast.unparse(statement))
        changed |= names.set if names.used & changed else set()
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
