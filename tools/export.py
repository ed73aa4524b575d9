"""Write the cells that start with `#| export` to the package: the notebook is the source.

    python tools/export.py            write llmlib/*.py
    python tools/export.py --check    write nothing; print a diff, exit with 1 if they differ

`#| default_exp attention`, in a cell of its own near the top, names the module of a notebook;
`#| export data` sends one cell elsewhere. A directive is the first line of its cell. In a module
the docstring comes first (the string that opens its first exported cell), then the imports of all
its cells, sorted and merged, then the cells in order. Modules written by hand are left alone: an
exported one is known by the comment that it opens with.
"""

import argparse
import ast
import difflib
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from cells import Cell, ExportError, Import, bound_names, find_directive, take_apart
from common import (
    ROOT,
    NotebookError,
    code_cells,
    find_notebooks,
    name_cell,
    read_notebook,
    replace_file,
)

PACKAGE = "llmlib"
HEADER = "# From {}: edit there, then run make export."


class Module:
    """A module of the package: the cells that are exported to it, in order."""

    def __init__(self, name: str):
        self.name = name
        self.cells: list[Cell] = []
        self.names: dict[str, tuple[str, str]] = {}  # name -> the cell that binds it, import or ""

    def add(self, cell: Cell) -> None:
        """Append a cell. Nothing is defined twice: the version one reads is the one that runs."""
        if cell.docstring and self.cells:
            raise ExportError(
                f"{cell.label}: the docstring of {self.name} has to open the first cell "
                f"exported to it, which is {self.cells[0].label}"
            )
        for name, origin in cell.names:
            if name not in self.names:
                self.names[name] = cell.label, origin
            elif not origin or origin != self.names[name][1]:
                raise ExportError(
                    f"{cell.label}: {name} is defined twice in {self.name}, first in "
                    f"{self.names[name][0]}: show every version, but export only the last"
                )
        self.cells.append(cell)

    def render(self, root: Path, notebook_names: dict[str, str]) -> str:
        """The text of the module, laid out and checked by ruff.

        notebook_names: names bound in cells that are not exported, and those cells, for a hint.
        """
        sources = dict.fromkeys(cell.notebook for cell in self.cells)
        parts = [
            header(sources),
            self.cells[0].docstring,
            "\n".join(statement for cell in self.cells for statement in cell.imports),
            *(cell.body for cell in self.cells),
        ]
        text = "\n\n".join(part for part in parts if part) + "\n"
        text = self.ruff(root, text, "check", "--fix-only", "--select=I")
        text = self.ruff(root, text, "format")
        for problem in json.loads(self.ruff(root, text, "check", "--output-format=json")):
            raise ExportError(self.explain(problem, text, notebook_names))
        return text

    def ruff(self, root: Path, text: str, *arguments: str) -> str:
        """Pass the module through ruff, with the settings of the checkout."""
        command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--quiet"]
        run = subprocess.run(
            [*command, f"--stdin-filename={PACKAGE}/{self.name}.py", "-"],
            input=text.encode(),  # bytes: no newline is translated on the way
            capture_output=True,
            cwd=root,
        )
        if run.returncode > 1 or not run.stdout:
            raise ExportError(f"ruff failed on {PACKAGE}/{self.name}.py: {run.stderr.decode()}")
        return run.stdout.decode()

    def explain(self, problem: dict, text: str, notebook_names: dict[str, str]) -> str:
        """Say of what ruff found in the module where it stands in the notebooks, and the cure."""
        code, message, row = problem["code"], problem["message"], problem["location"]["row"]
        quoted = re.search(r"`([^`]+)`", message)
        name = quoted[1].split(" as ")[-1] if quoted else ""
        label = self.cell_at(row, text, name).label
        if code == "F821":
            message = f"{name} is neither defined in {self.name} nor imported in an exported cell"
            if name in notebook_names:
                message += f"; it comes from {notebook_names[name]}, which is not exported"
        elif code == "F401":
            message = f"{name} is imported, but nothing exported to {self.name} uses it"
        else:
            message = f"{message} (ruff {code}, on `{text.splitlines()[row - 1].strip()}`)"
        return f"{label}: {message}"

    def cell_at(self, row: int, text: str, name: str) -> Cell:
        """The cell that a line of the module comes from; for an import, the first that has it.

        Layout moves lines, but changes neither the number nor the order of the statements.
        """
        for cell in self.cells:
            for bound, origin in cell.names:
                if origin and name in (bound, origin):
                    return cell
        origins = [cell for cell in self.cells for _ in ast.parse(cell.body).body]
        statements = ast.parse(text).body[bool(self.cells[0].docstring) :]
        starts = [
            min(part.lineno for part in [node, *getattr(node, "decorator_list", [])])
            for node in statements
            if not isinstance(node, Import)
        ]
        before = [cell for start, cell in zip(starts, origins) if start <= row]
        return [*self.cells[:1], *before][-1]


def collect(root: Path) -> dict[str, str]:
    """Return the text of every module that the notebooks export: {"attention": text, ...}.

    Raises ExportError where a cell cannot be exported, NotebookError for a broken notebook.
    """
    modules: dict[str, Module] = {}
    notebook_names: dict[str, str] = {}
    for path in find_notebooks(root / "notebooks"):
        default, exported = "", []
        for number, code in code_cells(read_notebook(path)):
            label = name_cell(path, number, code.source)
            directive = find_directive(code.source, label)
            if not directive:
                notebook_names |= dict.fromkeys(names_of_notebook(code.source, label), label)
            elif not directive["default"]:
                exported.append((directive["module"], take_apart(code.source, label, path.name)))
            elif default:
                raise ExportError(f"{label}: `#| default_exp` a second time, after {default}")
            else:
                default = directive["default"]
        for name, cell in exported:
            if not (name or default):
                raise ExportError(
                    f"{cell.label}: export to which module? Name it with `#| default_exp NAME` "
                    "in a cell of its own, or with `#| export NAME`"
                )
            name = name or default
            refuse_handwritten(root / PACKAGE, name, cell.label)
            modules.setdefault(name, Module(name)).add(cell)
    return {name: module.render(root, notebook_names) for name, module in modules.items()}


def names_of_notebook(source: str, label: str) -> set[str]:
    """The names that a cell binds which is not exported; none where it is not plain Python."""
    try:
        return {name for node in ast.parse(source).body for name in bound_names(node, label)}
    except (SyntaxError, ExportError):
        return set()


def header(notebooks: Iterable[str]) -> str:
    """The comment that opens an exported module, on two lines or more where one is too short."""
    text = HEADER.format(", ".join(f"notebooks/{name}" for name in notebooks))
    return "\n".join(textwrap.wrap(text, width=88, subsequent_indent="# "))


def is_exported(path: Path) -> bool:
    """Whether a module opens with the comment that export writes."""
    start, end = HEADER.split("{}")
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("# ") for line in takewhile(lambda line: line[:1] == "#", lines)]
    text = "# " + " ".join(comment)
    return text.startswith(f"{start}notebooks/") and text.endswith(end)


def refuse_handwritten(package: Path, name: str, label: str) -> None:
    """Raise ExportError if a module of that name was written by hand."""
    path = package / f"{name}.py"
    if (package / name).is_dir() or (path.exists() and not is_exported(path)):
        raise ExportError(
            f"{label}: {PACKAGE}/{name} is written by hand, and export would overwrite it: "
            "choose another name, or delete it if this cell replaces it"
        )


@dataclass(frozen=True)
class Change:
    """A module that differs from the notebooks; `new` is None where they export it no more."""

    path: Path
    old: str
    new: str | None

    def diff(self) -> str:
        """What export would change, as a unified diff."""
        name = f"{PACKAGE}/{self.path.name}"
        old, new = self.old.splitlines(), (self.new or "").splitlines()
        note = "  (no notebook exports it any more)" if self.new is None else ""
        return "\n".join(difflib.unified_diff(old, new, name, f"notebooks{note}", lineterm=""))

    def apply(self) -> str:
        """Write or delete the module, and say so."""
        if self.new is None:
            self.path.unlink()
            return f"deleted {PACKAGE}/{self.path.name}: no notebook exports it any more"
        replace_file(self.path, self.new)
        return f"wrote {PACKAGE}/{self.path.name}"


def find_changes(root: Path) -> list[Change]:
    """Compare the package with the notebooks. Raises as `collect` does."""
    package = root / PACKAGE
    if not (package / "__init__.py").is_file():
        raise ExportError(f"there is no package {PACKAGE} in {root}")
    exported = collect(root)
    changes = []
    for path in sorted({*package.glob("*.py"), *(package / f"{name}.py" for name in exported)}):
        old = path.read_bytes().decode() if path.exists() else ""
        if path.stem in exported or is_exported(path):
            changes.append(Change(path, old, exported.get(path.stem)))
    return [change for change in changes if change.old != change.new]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Write llmlib from the notebooks' exported cells.")
    parser.add_argument("--check", action="store_true", help="write nothing, show what differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout, if not this one")
    options = parser.parse_args(arguments)
    try:
        changes = find_changes(options.root.resolve())
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    for change in changes:
        print(change.diff() if options.check else change.apply())
    if options.check and changes:
        print(f"{PACKAGE} differs from the notebooks: run make export", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
