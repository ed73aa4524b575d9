"""Take an exported cell apart: directive, docstring, imports, continued classes, names."""

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from common import NotebookError

DIRECTIVE = re.compile(r"#\| (?:default_exp (?P<default>\S+)|export(?: (?P<module>\S+))?)$")

# Near misses that were meant as a directive, such as `#|export`, `# | Export` and `#exports`.
MEANT_AS_DIRECTIVE = re.compile(
    r"#(\|.*|\s*\|\s*(export|default_?exp).*|exports?(\s+\w+)?)$", re.IGNORECASE
)
MAGIC = re.compile(r"\s*[%!?]|\s*[\w, ]+=\s*[%!]|.*\?$")
CONTINUATION = re.compile(r"class (\w+)\(\1\):\s*(#.*)?$")
Import = (ast.Import, ast.ImportFrom)


class ExportError(NotebookError):
    """A cell cannot be exported; the text names the cell and says what to write."""


@dataclass(frozen=True)
class Cell:
    """One exported cell. `label` is how messages name it."""

    label: str
    notebook: str
    docstring: str
    imports: list[str]
    continuations: list[tuple[ast.ClassDef, str]]  # each `class X(X):`, and the text of its body
    body: str
    names: list[tuple[str, str]]  # each name bound at the top level, and what it is imported from


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment with its line, counted from 1; a `#` in a string does not count."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.rstrip()
    except (tokenize.TokenError, SyntaxError):  # a magic, or a mistake that `parse` will name
        for number, line in enumerate(source.split("\n"), 1):
            if line.lstrip().startswith("#"):
                yield number, line.strip()


def find_directive(source: str, label: str) -> re.Match | None:
    """Return the directive a cell starts with, or None. Raises ExportError for a wrong one."""
    found = None
    for row, comment in comments(source):
        if not MEANT_AS_DIRECTIVE.match(comment):
            continue
        directive = DIRECTIVE.match(comment)
        if not directive:
            raise ExportError(
                f"{label}: `{comment}` is not a directive: write `#| export`, "
                "`#| export NAME` or `#| default_exp NAME`"
            )
        if row > 1 or not source.startswith("#"):
            raise ExportError(
                f"{label}: `{comment}` has to be the first line of its cell, "
                "and the only directive there"
            )
        name = directive["default"] or directive["module"]
        parts = name.split(".") if name else []
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
            raise ExportError(
                f"{label}: {name} is not a module name: write NAME or ROOM.NAME, in letters, "
                "digits and underscores"
            )
        found = directive
    return found


def parse(source: str, label: str) -> ast.Module:
    """Parse an exported cell. Raises ExportError if it is not plain Python."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        line = source.split("\n")[(error.lineno or 1) - 1].strip()
        if MAGIC.match(line):
            message = f"`{line}` is IPython, and a module is plain Python: leave it to another cell"
        else:
            message = f"syntax error in line {error.lineno}: {error.msg}"
        raise ExportError(f"{label}: {message}") from None


def take_apart(source: str, label: str, notebook: str) -> Cell:
    """Split an exported cell into docstring, imports, continued classes and everything else.

    A comment right above an import or a continued class goes with it.
    """
    statements, lines = parse(source, label).body, source.split("\n")
    lines[0] = ""  # the directive
    docstring, imports, continuations, names = "", [], [], []
    for node in statements:
        is_docstring = node is statements[0] and is_text(node)
        is_continuation = isinstance(node, ast.ClassDef) and node.name in base_names(node)
        if is_continuation:
            check_continuation(node, lines[node.lineno - 1], label)
        else:
            names += bound_names(node, label).items()
        if not (is_docstring or is_continuation or isinstance(node, Import)):
            continue
        if any(n is not node and shares_a_line(n, node) for n in statements):
            raise ExportError(f"{label}: put `{ast.unparse(node)[:40]}` on a line of its own")
        start, end = node.lineno - 1, last_line(node, lines)
        while not is_docstring and lines[start - 1].startswith("#"):
            start -= 1
        text = lines[start:end]
        lines[start:end] = [""] * (end - start)
        if is_docstring:
            docstring = "\n".join(text)
        elif is_continuation:
            header = node.lineno - 1 - start  # where `class X(X):` stands, below its comments
            text = [f"    {line}" for line in text[:header]] + text[header + 1 :]
            continuations.append((node, "\n".join(text)))
        else:
            imports.append("\n".join(text))
    body = "\n".join(lines).strip()
    return Cell(label, notebook, docstring, imports, continuations, body, names)


def base_names(node: ast.ClassDef) -> list[str]:
    """Return the base classes of a class as they are written."""
    return [ast.unparse(base) for base in node.bases]


def last_line(node: ast.stmt, lines: list[str]) -> int:
    """Return the last line of a statement, with the indented comments that follow at once."""
    end = node.end_lineno
    while lines[end : end + 1] and lines[end].startswith(" "):
        end += 1
    return end


def check_continuation(node: ast.ClassDef, first_line: str, label: str) -> None:
    """Raise ExportError if `class X(X):` could differ from X written in one piece."""
    name, used = node.name, {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    members = {member for part in node.body for member in bound_names(part, label)}
    if not CONTINUATION.match(first_line) or node.decorator_list or node.body[0].col_offset != 4:
        problem = (
            f"write `class {name}({name}):` on a line by itself, without a decorator, keyword or "
            "second base class, and its body below, indented by four spaces"
        )
    elif is_text(node.body[0]):
        problem = f"move the docstring to the first cell of {name}, or make it a comment"
    elif used & {"super", "__class__"}:
        problem = (
            f"in the notebook, super() finds the earlier part of {name}; in the package, it does "
            "not: name the base class (`Base.method(self)`), or move the method to the first cell"
        )
    elif special := members & {"__eq__", "__slots__"}:
        problem = (
            f"move {min(special)} to the first cell of {name}: in the notebook, it would change "
            "more than in the package"
        )
    else:
        return
    raise ExportError(f"{label}: {problem}")


def check_parts(first: ast.ClassDef, home: Cell, part: ast.ClassDef, cell: Cell) -> None:
    """Raise ExportError if `part` cannot continue the class `first` of the cell `home`."""
    name, functions = first.name, (ast.FunctionDef, ast.AsyncFunctionDef)
    bases = {base.split("[")[0].split(".")[-1] for base in base_names(first)}
    if home.notebook != cell.notebook:
        problem = f"{name} is built in {home.label}: continue it there, or write a subclass here"
    elif first.body[0].col_offset != 4:
        problem = f"put the body of {name} below its first line, indented by four spaces"
    elif bases & {"Protocol", "NamedTuple"}:
        problem = f"write {name} in one cell: a Protocol or NamedTuple cannot be continued"
    elif first.decorator_list and not all(
        isinstance(node, functions) and not node.name.startswith("__") for node in part.body
    ):
        problem = (
            f"the decorator of {name} sees only its first cell in the notebook: add ordinary "
            "methods here, and move attributes and __methods__ to the first cell"
        )
    else:
        return
    raise ExportError(f"{cell.label}: {problem}")


def is_text(node: ast.stmt) -> bool:
    """Tell whether a statement is only a string."""
    value = getattr(node, "value", None)
    return (
        isinstance(node, ast.Expr)
        and isinstance(value, ast.Constant)
        and isinstance(value.value, str)
    )


def shares_a_line(one: ast.stmt, other: ast.stmt) -> bool:
    """Tell whether a semicolon puts two statements on the same line."""
    return one.lineno <= other.end_lineno and other.lineno <= one.end_lineno


def bound_names(node: ast.AST, label: str) -> dict[str, str]:
    """Return the names that a statement binds, each with what it is imported from, or "".

    A name bound in two branches of one `if` or `try` counts once. Raises ExportError for an
    assignment to an attribute: it changes an object that another cell shows differently.
    """
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name: ""}
    if isinstance(node, ast.Import):
        whole = {a.asname or a.name.split(".")[0]: a for a in node.names}
        return {name: a.name if a.asname else name for name, a in whole.items()}
    if isinstance(node, ast.ImportFrom):
        package = "." * node.level + (node.module or "")
        return {a.asname or a.name: f"{package}.{a.name}" for a in node.names}
    if isinstance(node, (ast.Lambda, ast.comprehension)):
        return {}  # their variables stay inside
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        owner = ast.unparse(node.value)
        raise ExportError(
            f"{label}: {owner}.{node.attr} is patched from outside: define it in {owner}; "
            f"a later cell continues a class with `class {owner}({owner}):`"
        )
    names = {}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        names[node.id] = ""
    for child in ast.iter_child_nodes(node):
        names |= bound_names(child, label)
    names.pop("_", None)
    return names
