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
import keyword
import re
import sys
import tempfile
import textwrap
from contextlib import suppress
from pathlib import Path

from cells import Cell, bound_names, find_directive, last_line, take_apart
from common import (
    EXPORTED,
    ROOT,
    NotebookError,
    code_cells,
    find_notebooks,
    name_cell,
    read_notebook,
    ruff,
)

from llmlib.files import write_text

PACKAGE = "llmlib"
# Where a cell begins; taken out before anything is written
MARK = re.compile(r"^ *# \[from cell (\d+)\]\n", re.MULTILINE)


class Module:
    """A module of the package: the cells that are exported to it, in order."""

    def __init__(self, name: str):
        self.name = name
        self.file = f"{PACKAGE}/{name.replace('.', '/')}.py"
        self.cells: list[Cell] = []
        self.body = ""  # of all cells, with a mark where each begins

    def add(self, cell: Cell) -> None:
        """Append a cell. Raises NotebookError if it defines a name for the second time."""
        if cell.docstring and self.cells:
            raise NotebookError(
                f"{cell.label}: the docstring of {self.name} has to open the first cell "
                f"exported to it, which is {self.cells[0].label}"
            )
        for first in self.cells:
            for name in first.names.keys() & cell.names.keys():
                if not cell.names[name] or cell.names[name] != first.names[name]:
                    raise NotebookError(
                        f"{cell.label}: {name} is defined twice in {self.name}, first in "
                        f"{first.label}: show every version, but export only the last"
                    )
        self.cells.append(cell)
        for part, text in cell.parts:
            self.extend(cell, part, text)
        if cell.body:
            self.body += f"\n\n{self.mark(cell)}\n{cell.body}"

    def extend(self, cell: Cell, part: ast.ClassDef, text: str) -> None:
        """Append the body of `class X(X):` to the class X of an earlier cell."""
        classes = [node for node in ast.parse(self.body).body if isinstance(node, ast.ClassDef)]
        first = next((node for node in classes if node.name == part.name), None)
        home = self.cell_at(self.body, first.lineno) if first else cell
        members = bound_names(ast.Module(first.body if first else [], []))
        if first is None or home.notebook != cell.notebook:
            problem = (
                f"{part.name} continues a class, but no earlier cell of this notebook exports its "
                f"first part to {self.name}: export both to the same module, the first part first"
            )
        elif twice := members.keys() & bound_names(ast.Module(part.body, [])).keys():
            problem = (
                f"{part.name}.{min(twice)} is defined twice, first above: export only the last"
            )
        elif first.body[0].lineno == first.lineno:
            problem = f"put the body of {part.name} below its first line"
        elif first.decorator_list and not all(map(is_ordinary_method, part.body)):
            problem = (
                f"the decorator of {part.name} sees only its first cell in the notebook: add "
                "ordinary methods here, and move attributes and __methods__ to the first cell"
            )
        else:
            lines = self.body.split("\n")
            end = last_line(first, lines)
            lines[end:end] = ["", f"    {self.mark(cell)}", text, self.mark(home)]
            self.body = "\n".join(lines)
            return
        raise NotebookError(f"{cell.label}: {problem}")

    def mark(self, cell: Cell) -> str:
        """Return the comment that stands above what comes from a cell, until ruff is through."""
        return f"# [from cell {self.cells.index(cell)}]"

    def cell_at(self, text: str, row: int, name: str = "") -> Cell:
        """Return the cell that a line of the module comes from; for an import, the first with it.

        text: the module with its marks, as ruff has laid it out.
        """
        importing = [cell for cell in self.cells if cell.names.get(name)]
        marks = MARK.findall("\n".join(text.split("\n")[:row]) + "\n")
        return [*self.cells[:1], *(self.cells[int(mark)] for mark in marks), *importing[:1]][-1]

    def render(self) -> str:
        """Return the text of the module, with its marks and not yet laid out."""
        notebooks = dict.fromkeys(f"notebooks/{cell.notebook}" for cell in self.cells)
        header = f"# From {', '.join(notebooks)}: edit there, then run make export."
        imports = "\n".join(statement for cell in self.cells for statement in cell.imports)
        header = "\n".join(textwrap.wrap(header, width=88, subsequent_indent="# "))
        return "\n\n".join([header, self.cells[0].docstring, imports, self.body]) + "\n"

    def explain(self, problem: dict, text: str, hints: dict[str, str]) -> str:
        """Say which cell causes a problem that ruff found in the module, and what to do."""
        code, message, row = problem["code"], problem["message"], problem["location"]["row"]
        quoted = re.search(r"`([^`]+)`", message)
        name = re.split(r" as |\.", quoted[1])[-1] if quoted else ""
        later = next((cell.label for cell in self.cells if name in cell.names), "")
        if code == "F821" and later:
            message = f"{name} is used before {later} defines it: move one of them"
        elif code == "F821":
            message = f"{name} is neither defined in {self.name} nor imported in an exported cell"
            if name in hints:
                message += f"; it comes from {hints[name]}, which is not exported"
        elif code == "F401":
            message = f"{name} is imported, but nothing exported to {self.name} uses it"
        else:
            message = f"{message} (ruff {code}, on `{text.splitlines()[row - 1].strip()}`)"
        return f"{self.cell_at(text, row, name if code == 'F401' else '').label}: {message}"


def is_ordinary_method(node: ast.stmt) -> bool:
    """Tell whether a statement defines a method whose name does not start with two underscores."""
    is_method = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    return is_method and not node.name.startswith("__")


def collect(root: Path) -> tuple[list[Module], dict[str, str]]:
    """Read the notebooks: the exported modules, and the names bound in cells that are not exported.

    Raises NotebookError for a broken notebook, and if a cell cannot be exported.
    """
    modules: dict[str, Module] = {}
    hints: dict[str, str] = {}
    for path in find_notebooks(root / "notebooks"):
        default, exported = "", []
        for number, code in code_cells(read_notebook(path)):
            label = name_cell(path, number, code.source)
            directive = find_directive(code.source, label)
            if not directive:
                with suppress(SyntaxError):  # a cell with a %magic
                    hints |= dict.fromkeys(bound_names(ast.parse(code.source)), label)
            elif not directive["default"]:
                exported.append((directive["module"], take_apart(code.source, label, path.name)))
            elif default:
                raise NotebookError(f"{label}: `#| default_exp` a second time, after {default}")
            else:
                default = directive["default"]
        for name, cell in exported:
            module = modules.setdefault(name or default, Module(name or default))
            check_target(root / module.file, cell.label)
            module.add(cell)
    return list(modules.values()), hints


def check_target(path: Path, label: str) -> None:
    """Raise NotebookError if export cannot write this module, or would overwrite one."""
    room, name = path.parent, f"{PACKAGE}{str(path.with_suffix('')).rpartition(PACKAGE)[2]}"
    if path.name == ".py":
        problem = (
            "export to which module? Name it with `#| default_exp ROOM.NAME` in a separate cell"
        )
    elif any(map(keyword.iskeyword, name.split("/"))):
        problem = f"{name} cannot be imported, as Python has a keyword of that name: choose another"
    elif not (room / "__init__.py").is_file():
        problem = f"{name} is not in a room yet: create __init__.py beside it, with a docstring"
    elif path.with_suffix("").is_dir():
        problem = f"{name} is both a module and a room (a folder): choose another name"
    elif path.exists() and not is_exported(path):
        problem = f"{name} is written by hand: choose another name, or delete it"
    else:
        return
    raise NotebookError(f"{label}: {problem}")


def is_exported(path: Path) -> bool:
    """Tell whether a module opens with the comment that export writes."""
    return EXPORTED.match(path.read_text(encoding="utf-8")) is not None


def lay_out(modules: list[Module], hints: dict[str, str], root: Path) -> dict[str, str]:
    """Return the text of each module, laid out and checked: {"llmlib/model/gpt.py": text, ...}."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {Path(folder, module.file).resolve(): module for module in modules}
        for path, module in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(module.render(), encoding="utf-8", newline="\n")
        format_folder(folder, root)
        for problem in json.loads(ruff(folder, root, "check", "--output-format=json")):
            path = Path(problem["filename"]).resolve()
            text = path.read_text(encoding="utf-8")
            raise NotebookError(paths[path].explain(problem, text, hints))
        for path in paths:
            text = MARK.sub("", path.read_text(encoding="utf-8"))
            path.write_text(text, encoding="utf-8", newline="\n")
        format_folder(folder, root)
        return {module.file: path.read_bytes().decode() for path, module in paths.items()}


def format_folder(folder: str, root: Path) -> None:
    """Sort the imports of each module, and lay it out."""
    ruff(folder, root, "check", "--fix-only", "--select=I")
    ruff(folder, root, "format")


def find_changes(root: Path) -> dict[str, tuple[str, str]]:
    """Compare the package with the notebooks: {file: (what it holds, what it should hold)}.

    A text is "" for a file that is not there, or should not be. Raises as `collect` does.
    """
    if not (root / PACKAGE / "__init__.py").is_file():
        raise NotebookError(f"there is no package {PACKAGE} in {root}")
    new = lay_out(*collect(root), root)
    files = {path.relative_to(root).as_posix(): path for path in (root / PACKAGE).rglob("*.py")}
    old = {
        name: path.read_bytes().decode()
        for name, path in files.items()
        if name in new or ("/." not in name and is_exported(path))
    }
    both = {name: (old.get(name, ""), new.get(name, "")) for name in sorted({*old, *new})}
    return {name: (before, after) for name, (before, after) in both.items() if before != after}


def show_diff(name: str, old: str, new: str) -> str:
    """Return what export would change in a module, as a unified diff."""
    note = "notebooks" if new else "notebooks  (no notebook exports it any more)"
    return "\n".join(
        difflib.unified_diff(old.splitlines(), new.splitlines(), name, note, lineterm="")
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Write llmlib from the notebooks' exported cells.")
    parser.add_argument("--check", action="store_true", help="write nothing, show what differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout, if not this one")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    try:
        changes = find_changes(root)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    for name, (old, new) in changes.items():
        if options.check:
            print(show_diff(name, old, new))
        elif new:
            write_text(root / name, new)
            print(f"wrote {name}")
        else:
            (root / name).unlink()
            print(f"deleted {name}: no notebook exports it any more")
    if options.check and changes:
        print(f"{PACKAGE} differs from the notebooks: run make export", file=sys.stderr)
    return int(options.check and bool(changes))


if __name__ == "__main__":
    sys.exit(main())
