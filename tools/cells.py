"""An exported cell, taken apart: its directive, docstring, imports, and the names it defines."""

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from common import NotebookError

DIRECTIVE = re.compile(r"#\| (?:default_exp (?P<default>\S+)|export(?: (?P<module>\S+))?)$")

# What somebody writes who means a directive, such as `#|export`, `# | Export` and `#exports`.
MEANT_AS_DIRECTIVE = re.compile(
    r"#(\|.*|\s*\|\s*(export|default_?exp).*|exports?(\s+\w+)?)$", re.IGNORECASE
)
MAGIC = re.compile(r"\s*[%!?]|\s*[\w, ]+=\s*[%!]|.*\?$")
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
    body: str
    names: list[tuple[str, str]]  # each name bound at the top level, and what it is imported from


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Each comment and its line, counted from 1; a `#` within a string is no comment."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.rstrip()
    except (tokenize.TokenError, SyntaxError):  # a magic, or a mistake that `parse` will name
        for number, line in enumerate(source.split("\n"), 1):
            if line.lstrip().startswith("#"):
                yield number, line.strip()


def find_directive(source: str, label: str) -> re.Match | None:
    """The directive that a cell starts with, or None. Raises ExportError for a wrong one."""
    found = None
    for row, comment in comments(source):
        if not MEANT_AS_DIRECTIVE.match(comment):
            continue
        directive = DIRECTIVE.match(comment)
        if not directive:
            raise ExportError(
                f"{label}: there is no directive `{comment}`: write `#| export`, "
                "`#| export NAME` or `#| default_exp NAME`"
            )
        if row > 1 or not source.startswith("#"):
            raise ExportError(
                f"{label}: `{comment}` has to be the first line of its cell, "
                "and the only directive there"
            )
        name = directive["default"] or directive["module"]
        if name and (not name.isidentifier() or keyword.iskeyword(name)):
            raise ExportError(
                f"{label}: {name} is not a module name: use letters, digits and underscores"
            )
        found = directive
    return found


def parse(source: str, label: str) -> ast.Module:
    """Parse an exported cell. Raises ExportError for what plain Python does not understand."""
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
    """Split an exported cell into docstring, imports (comments attached) and everything else."""
    statements, lines = parse(source, label).body, source.split("\n")
    lines[0] = ""  # the directive
    docstring, imports, names = "", [], []
    for node in statements:
        names += bound_names(node, label).items()
        is_docstring = node is statements[0] and is_text(node)
        if not (is_docstring or isinstance(node, Import)):
            continue
        if any(n is not node and shares_a_line(n, node) for n in statements):
            raise ExportError(f"{label}: put `{ast.unparse(node)[:40]}` on a line of its own")
        start, end = node.lineno - 1, node.end_lineno
        while not is_docstring and lines[start - 1].startswith("#"):
            start -= 1  # a comment right above an import goes with it
        text = "\n".join(lines[start:end])
        lines[start:end] = [""] * (end - start)
        if is_docstring:
            docstring = text
        else:
            imports.append(text)
    return Cell(label, notebook, docstring, imports, "\n".join(lines).strip(), names)


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a string."""
    value = getattr(node, "value", None)
    return (
        isinstance(node, ast.Expr)
        and isinstance(value, ast.Constant)
        and isinstance(value.value, str)
    )


def shares_a_line(one: ast.stmt, other: ast.stmt) -> bool:
    """Whether a semicolon puts two statements on the same line."""
    return one.lineno <= other.end_lineno and other.lineno <= one.end_lineno


def bound_names(node: ast.AST, label: str) -> dict[str, str]:
    """The names that a top-level statement binds, each with what it is imported from, or "".

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
        raise ExportError(f"{label}: {ast.unparse(node)} is patched from outside: define it there")
    names = {}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        names[node.id] = ""
    for child in ast.iter_child_nodes(node):
        names |= bound_names(child, label)
    names.pop("_", None)
    return names
