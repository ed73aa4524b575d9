"""Write the cells that start with `#| export` to the package: the notebook is the source.

    python tools/export.py            write the exported modules of llmlib/
    python tools/export.py --check    write nothing; print a diff, exit with 1 if they differ

`#| default_exp model.attention`, in a separate cell near the top, names the module of a notebook,
here llmlib/model/attention.py; `#| export data.batches` sends one cell elsewhere. A directive is
the first line of its cell. A room (`model`) is a folder whose `__init__.py` is written by hand.

A module starts with its docstring (the string that opens its first exported cell), then come the
imports of all its cells, sorted and merged, then the cells in order. Modules written by hand are
left alone: an exported one is recognized by its opening comment.

A long class may take several cells of one notebook. The first one defines it; a later one starts
with `class X(X):` and adds methods and attributes. In the notebook that is a subclass which takes
over the name (running it twice is harmless); the package gets one class, since export appends the
body to X. What would make the two differ is refused: super() in a later part, a name defined in two
parts, a second base class, a decorated class that grows by more than ordinary methods.
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

from cells import (
    Cell,
    ExportError,
    Import,
    base_names,
    bound_names,
    check_parts,
    find_directive,
    last_line,
    take_apart,
)
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
        self.file = f"{PACKAGE}/{name.replace('.', '/')}.py"
        self.cells: list[Cell] = []
        self.body = ""
        self.origins: list[list[Cell]] = []  # where the statements come from, as `groups` has them
        self.names: dict[str, tuple[str, str]] = {}  # name -> the cell that binds it, import or ""

    def add(self, cell: Cell) -> None:
        """Append a cell. Raises ExportError if it defines a name for the second time."""
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
        for part, text in cell.continuations:
            self.extend(cell, part, text)
        self.cells.append(cell)
        self.body = "\n\n".join(filter(None, [self.body, cell.body]))
        self.origins += [[cell] * len(group) for group in groups(cell.body)]

    def extend(self, cell: Cell, part: ast.ClassDef, text: str) -> None:
        """Append the body of `class X(X):` to the class X of an earlier cell."""
        name, lines = part.name, self.body.split("\n")
        classes = {
            group[0].name: (group, origins)
            for group, origins in zip(groups(self.body), self.origins)
            if isinstance(group[0], ast.ClassDef)
        }
        if name not in classes:
            raise ExportError(
                f"{cell.label}: {name} continues a class, but no earlier cell exports its first "
                f"part to {self.name}: export both to the same module, the first part first"
            )
        (first, *body), origins = classes[name]
        check_parts(first, origins[0], part, cell)
        members = {
            member: origin.label
            for statement, origin in zip(body, origins[1:])
            for member in bound_names(statement, origin.label)
        }
        new = [member for node in part.body for member in bound_names(node, cell.label)]
        if twice := [member for member in new if member in members]:
            raise ExportError(
                f"{cell.label}: {name}.{twice[0]} is defined twice, first in {members[twice[0]]}: "
                "show every version, but export only the last"
            )
        if heirs := [heir for heir, (group, _) in classes.items() if name in base_names(group[0])]:
            raise ExportError(
                f"{cell.label}: {heirs[0]} inherits from {name}: finish {name} above it"
            )
        end = last_line(first, lines)
        self.body = "\n".join([*lines[:end], "", text, *lines[end:]])
        origins += [cell] * len(part.body)

    def render(self, root: Path, notebook_names: dict[str, str]) -> str:
        """Return the text of the module, laid out and checked by ruff.

        notebook_names: names bound in cells that are not exported, and those cells, for a hint.
        """
        sources = dict.fromkeys(cell.notebook for cell in self.cells)
        parts = [
            header(sources),
            self.cells[0].docstring,
            "\n".join(statement for cell in self.cells for statement in cell.imports),
            self.body,
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
            [*command, f"--stdin-filename={self.file}", "-"],
            input=text.encode(),  # bytes: no newline is translated on the way
            capture_output=True,
            cwd=root,
        )
        if run.returncode > 1 or not run.stdout:
            raise ExportError(f"ruff failed on {self.file}: {run.stderr.decode()}")
        return run.stdout.decode()

    def explain(self, problem: dict, text: str, notebook_names: dict[str, str]) -> str:
        """Say which cell causes a problem that ruff found in the module, and what to do."""
        code, message, row = problem["code"], problem["message"], problem["location"]["row"]
        quoted = re.search(r"`([^`]+)`", message)
        name = quoted[1].split(" as ")[-1] if quoted else ""
        label = self.cell_at(row, text, name).label
        if code == "F821" and name in self.names:
            message = f"{name} is used before {self.names[name][0]} defines it: move one of them"
        elif code == "F821":
            message = f"{name} is neither defined in {self.name} nor imported in an exported cell"
            if name in notebook_names:
                message += f"; it comes from {notebook_names[name]}, which is not exported"
        elif code == "F401":
            message = f"{name} is imported, but nothing exported to {self.name} uses it"
        else:
            message = f"{message} (ruff {code}, on `{text.splitlines()[row - 1].strip()}`)"
        return f"{label}: {message}"

    def cell_at(self, row: int, text: str, name: str) -> Cell:
        """Return the cell that a line of the module comes from; for an import, the first with it.

        Layout moves lines, but changes neither the number nor the order of the statements.
        """
        for cell in self.cells:
            for bound, origin in cell.names:
                if origin and name in (bound, origin):
                    return cell
        origins = [cell for group in self.origins for cell in group]
        statements = groups(text)[bool(self.cells[0].docstring) :]
        starts = [
            min(part.lineno for part in [node, *getattr(node, "decorator_list", [])])
            for group in statements
            for node in group
        ]
        before = [cell for start, cell in zip(starts, origins) if start <= row]
        return [*self.cells[:1], *before][-1]


def groups(text: str) -> list[list[ast.stmt]]:
    """Return the statements of a module without the imports, a class followed by its body."""
    return [
        [node, *(node.body if isinstance(node, ast.ClassDef) else [])]
        for node in ast.parse(text).body
        if not isinstance(node, Import)
    ]


def collect(root: Path) -> dict[str, str]:
    """Return the text of each exported module: {"llmlib/model/attention.py": text, ...}.

    Raises ExportError if a cell cannot be exported, NotebookError for a broken notebook.
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
                    "in a separate cell, or with `#| export NAME`"
                )
            name = name or default
            check_target(root / PACKAGE, name, cell.label)
            modules.setdefault(name, Module(name)).add(cell)
    return {module.file: module.render(root, notebook_names) for module in modules.values()}


def names_of_notebook(source: str, label: str) -> set[str]:
    """Return the names bound in a cell that is not exported; nothing if it is not plain Python."""
    try:
        return {name for node in ast.parse(source).body for name in bound_names(node, label)}
    except (SyntaxError, ExportError):
        return set()


def header(notebooks: Iterable[str]) -> str:
    """Return the comment that opens an exported module, wrapped to fit the line length."""
    text = HEADER.format(", ".join(f"notebooks/{name}" for name in notebooks))
    return "\n".join(textwrap.wrap(text, width=88, subsequent_indent="# "))


def is_exported(path: Path) -> bool:
    """Tell whether a module opens with the comment that export writes."""
    start, end = HEADER.split("{}")
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("# ") for line in takewhile(lambda line: line[:1] == "#", lines)]
    text = "# " + " ".join(comment)
    return text.startswith(f"{start}notebooks/") and text.endswith(end)


def is_handwritten(path: Path) -> bool:
    """Tell whether a module exists that export has not written."""
    return path.exists() and not is_exported(path)


def check_target(package: Path, name: str, label: str) -> None:
    """Raise ExportError if export cannot write a module of that name, or would overwrite one."""
    path = package.joinpath(*name.split("."))
    file = path.with_suffix(".py")
    rooms = path.parents[: name.count(".")]
    shadowed = [room for room in rooms if is_handwritten(room.with_suffix(".py"))]
    missing = [room for room in rooms if not (room / "__init__.py").is_file()]
    if shadowed or any(path.glob("*.py")):
        both = shadowed[0] if shadowed else path
        problem = "both a module and a room (a folder): choose another name for one of them"
    elif missing:
        both = missing[-1]
        problem = "not a room yet: create its __init__.py, with a docstring that says what it holds"
    elif is_handwritten(file):
        both = path
        problem = (
            "written by hand, and export would overwrite it: choose another name, or delete it "
            "if this cell replaces it"
        )
    else:
        return
    raise ExportError(f"{label}: {both.relative_to(package.parent).as_posix()} is {problem}")


@dataclass(frozen=True)
class Change:
    """A module that differs from the notebooks; `new` is None if they no longer export it."""

    root: Path
    name: str
    old: str
    new: str | None

    def diff(self) -> str:
        """Return what export would change, as a unified diff."""
        old, new = self.old.splitlines(), (self.new or "").splitlines()
        note = "  (no notebook exports it any more)" if self.new is None else ""
        return "\n".join(difflib.unified_diff(old, new, self.name, f"notebooks{note}", lineterm=""))

    def apply(self) -> str:
        """Write or delete the module; return a line that says so."""
        path = self.root / self.name
        if self.new is None:
            path.unlink()
            return f"deleted {self.name}: no notebook exports it any more"
        replace_file(path, self.new)
        return f"wrote {self.name}"


def find_changes(root: Path) -> list[Change]:
    """Compare the package with the notebooks. Raises as `collect` does."""
    package = root / PACKAGE
    if not (package / "__init__.py").is_file():
        raise ExportError(f"there is no package {PACKAGE} in {root}")
    exported = collect(root)
    files = {path.relative_to(root).as_posix(): path for path in package.rglob("*.py")}
    stale = {name for name, path in files.items() if "/." not in name and is_exported(path)}
    changes = []
    for name in sorted({*stale, *exported}):
        old = files[name].read_bytes().decode() if name in files else ""
        changes.append(Change(root, name, old, exported.get(name)))
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
