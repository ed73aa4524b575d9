"""Take an exported cell apart: directive, docstring, imports, continued classes, names."""

import ast
import io
import re
import tokenize
from contextlib import suppress
from dataclasses import dataclass, field

from common import NotebookError

NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
DIRECTIVE = re.compile(rf"#\| (?:default_exp (?P<default>{NAME})|export(?: (?P<module>{NAME}))?)$")

# Also near misses, such as `#|export`, `# | Export` and `#exports`: a cell that looks exported and
# is not would be missed only when another notebook needs it.
MEANT_AS_DIRECTIVE = re.compile(
    r"(?:^|\s)(#\|.*|#\s*\|\s*(?:export|default_?exp).*|#exports?(?:\s+\w+)?)$", re.IGNORECASE
)
SETTINGS = "#| settings"  # belongs to tools/play.py, and exports nothing
CONTINUATION = re.compile(r"class (\w+)\(\1\):\s*(#.*)?$")
Import = (ast.Import, ast.ImportFrom)


@dataclass
class Cell:
    """One exported cell. `label` is how messages name it."""

    label: str
    notebook: str
    names: dict[str, str]  # each name bound at the top level, and what it is imported from, or ""
    docstring: str = ""
    imports: list[str] = field(default_factory=list)
    parts: list[tuple[ast.ClassDef, str]] = field(
        default_factory=list
    )  # `class X(X):` and its body
    body: str = ""  # everything else


def find_directive(source: str, label: str) -> re.Match | None:
    """Return the directive that a cell starts with, or None.

    Raises NotebookError for a misspelt one, and for one that is not the first line.
    """
    lines = [line.rstrip() for line in source.split("\n")]
    if lines[0] == SETTINGS:
        lines[0] = ""
    for row, line in enumerate(lines):
        comment = MEANT_AS_DIRECTIVE.search(line)
        if comment and not has_comment(source, row + 1):
            continue  # text within a string
        if comment and not DIRECTIVE.match(comment[1]):
            raise NotebookError(
                f"{label}: `{comment[1]}` is not a directive: write `#| export`, "
                "`#| export ROOM.NAME`, `#| default_exp ROOM.NAME` or `#| settings`"
            )
        if comment and (row > 0 or line != comment[1]):
            raise NotebookError(
                f"{label}: `{comment[1]}` has to be the first line of its cell, "
                "and the only directive there"
            )
    return DIRECTIVE.match(lines[0])


def has_comment(source: str, number: int) -> bool:
    """Tell whether a line, counted from 1, has a comment; or if Python cannot read that far."""
    with suppress(tokenize.TokenError, SyntaxError):  # a %magic
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        return any(token.type == tokenize.COMMENT and token.start[0] == number for token in tokens)
    return True


def parse(source: str, label: str) -> list[ast.stmt]:
    """Return the statements of an exported cell. Raises NotebookError if it is not plain Python."""
    try:
        return ast.parse(source).body
    except SyntaxError as error:
        line = source.split("\n")[(error.lineno or 1) - 1].strip()
        raise NotebookError(
            f"{label}: line {error.lineno}, `{line}`, is not plain Python, which a module has to "
            f"be: {error.msg}"
        ) from None


def take_apart(source: str, label: str, notebook: str) -> Cell:
    """Split an exported cell into docstring, imports, parts of classes and everything else.

    A comment right above an import or a part of a class goes with it. Raises NotebookError if the
    cell would mean something else in the package.
    """
    statements, lines = parse(source, label), source.split("\n")
    lines[0] = ""  # the directive
    cell = Cell(label, notebook, {})
    for node in statements:
        is_docstring = node is statements[0] and is_text(node)
        is_part = isinstance(node, ast.ClassDef) and node.name in map(ast.unparse, node.bases)
        if is_part:
            check_part(node, lines[node.lineno - 1], label)
        else:
            cell.names |= bound_names(node)
        if not (is_docstring or is_part or isinstance(node, Import)):
            continue
        start, end = node.lineno - 1, last_line(node, lines)
        while not is_docstring and lines[start - 1].startswith("#"):
            start -= 1
        if any(other is not node and shares_a_line(other, node) for other in statements):
            # the whole line would move to the imports, ahead of what stands above it
            raise NotebookError(f"{label}: put `{lines[node.lineno - 1]}` on separate lines")
        text = lines[start:end]
        lines[start:end] = [""] * (end - start)
        if is_docstring:
            cell.docstring = "\n".join(text)
        elif is_part:
            header = node.lineno - 1 - start  # where `class X(X):` stands, below its comments
            text = [f"    {line}" for line in text[:header]] + text[header + 1 :]
            cell.parts.append((node, "\n".join(text)))
        else:
            cell.imports.append("\n".join(text))
    if patched := [name for name in cell.names if "." in name]:
        owner = patched[0].rpartition(".")[0]
        raise NotebookError(
            f"{label}: {patched[0]} is patched from outside: define it in {owner}; "
            f"a later cell continues a class with `class {owner}({owner}):`"
        )
    cell.body = "\n".join(lines).strip()
    return cell


def shares_a_line(first: ast.stmt, second: ast.stmt) -> bool:
    """Tell whether two statements have a line in common."""
    return first.lineno <= second.end_lineno and second.lineno <= first.end_lineno


def last_line(node: ast.stmt, lines: list[str]) -> int:
    """Return the last line of a statement, with the indented comments that follow at once."""
    end = node.end_lineno or node.lineno
    while lines[end : end + 1] and lines[end].startswith(" "):
        end += 1
    return end


def check_part(node: ast.ClassDef, first_line: str, label: str) -> None:
    """Raise NotebookError if `class X(X):` could differ from X written in one piece."""
    name = node.name
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    if not CONTINUATION.match(first_line) or node.decorator_list:
        problem = (
            f"write `class {name}({name}):` on a line by itself, without a decorator, keyword or "
            "second base class, and its body below"
        )
    elif is_text(node.body[0]):
        problem = f"move the docstring to the first cell of {name}, or make it a comment"
    elif used & {"super", "__class__"}:
        problem = (
            f"in the notebook, super() finds the earlier part of {name}; in the package, it does "
            "not: name the base class (`Base.method(self)`), or move the method to the first cell"
        )
    else:
        return
    raise NotebookError(f"{label}: {problem}")


def is_text(node: ast.stmt) -> bool:
    """Tell whether a statement is only a string."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def bound_names(node: ast.AST) -> dict[str, str]:
    """Return the names that a statement binds, each with what it is imported from, or "".

    An assignment to an attribute counts as the name `owner.attribute`.
    """
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name: ""}
        case ast.Import():
            whole = {a.asname or a.name.split(".")[0]: a for a in node.names}
            return {name: a.name if a.asname else name for name, a in whole.items()}
        case ast.ImportFrom():
            package = "." * node.level + (node.module or "")
            return {a.asname or a.name: f"{package}.{a.name}" for a in node.names}
        case ast.Name(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
            return {ast.unparse(node): ""}
        case ast.Lambda() | ast.comprehension():
            return {}  # their variables stay inside
    names: dict[str, str] = {}
    for child in ast.iter_child_nodes(node):
        names |= bound_names(child)
    names.pop("_", None)
    return names
