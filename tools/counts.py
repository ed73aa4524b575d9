"""Count what a module or a notebook holds; `tools/measure.py` sums and prints it.

A module is counted as its text is laid out: give it to `ruff format` first.
- tokens: all but comments, docstrings and layout (line ends, indents). An f-string is one token.
- code: lines that hold such a token, so every line of a multi-line string that is not a docstring.
- docstrings: lines of a string that opens a module, class or function, blank ones included.
- comments: lines that hold a comment, alone or after code; after code, the line is code as well.
- guards: code lines of `if` and `elif` whose body ends in `raise`, from the test to the raise (an
  `else` that raises is left out); of `assert`; of statements that call `checks.NAME(...)` and no
  more; and of an `except` that does nothing but raise another error. A line counts once.
- functions: each `def`, methods and nested ones too. Their code lines include signature, decorators
  and nested functions. `> 40` counts those with more than 40; `longest` has the most.
- cells: code cells that are not empty. Their lines count as they stand, comments and blanks too.
- assertions: `assert` statements in cells, and those among them that carry a message.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from common import EXPORTED, NotebookError, code_cells, name_cell, read_notebook
from IPython.core.inputtransformer2 import TransformerManager

LIMIT = 40  # lines of a function or a cell
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
CHECK = re.compile(r"(llmlib\.)?checks\.")
Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Scope = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Row = dict[str, Any]  # the counts of a module or a notebook, or the sums of several


def span(node: ast.stmt | ast.ExceptHandler) -> range:
    """Return the lines of a statement, without its decorators."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def find_functions(node: ast.AST, scope: str) -> Iterator[tuple[str, range]]:
    """Yield the qualified name and the lines of each function below a node."""
    for child in ast.iter_child_nodes(node):
        name = f"{scope}.{child.name}" if isinstance(child, Scope) else scope
        if isinstance(child, Function):
            start = min([child.lineno, *(node.lineno for node in child.decorator_list)])
            yield name, range(start, span(child).stop)
        yield from find_functions(child, name)


def find_guards(tree: ast.Module) -> set[int]:
    """Return the lines of guards."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.If(body=[*_, ast.Raise() as last]):
                lines.update(range(node.lineno, span(last).stop))
            case ast.Assert():
                lines.update(span(node))
            case ast.Expr(value=ast.Call(func=func)) if CHECK.match(ast.unparse(func)):
                lines.update(span(node))
            case ast.ExceptHandler(name=name, body=[ast.Raise(exc=ast.expr() as error)]):
                if ast.unparse(error) != name:
                    lines.update(span(node))
    return lines


def count_module(name: str, source: str) -> Row:
    """Count what a module holds, as its text is laid out; `name` is its path."""
    tree = ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, (*Scope, ast.Module))]
    texts = [span(node.body[0]) for node in documented if ast.get_docstring(node) is not None]
    docstrings, code, comments = set(chain(*texts)), set(), set()
    tokens = depth = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        lines, kind = range(token.start[0], token.end[0] + 1), tokenize.tok_name[token.type]
        if token.type == tokenize.COMMENT:
            comments.update(lines)
        elif token.type == tokenize.STRING and lines[0] in docstrings:
            pass  # counted by its lines, blank ones included
        elif token.type not in LAYOUT:
            code.update(lines)
            tokens += not depth
        # from Python 3.12 on, an f-string comes in parts: only its start is counted
        depth += kind.endswith("STRING_START") - kind.endswith("STRING_END")
    functions = find_functions(tree, name.removesuffix(".py").replace("/", "."))
    sizes = [(len(code.intersection(lines)), function, len(lines)) for function, lines in functions]
    return {
        "modules": 1,
        "exported": int(EXPORTED.match(source) is not None),
        "code": len(code),
        "tokens": tokens,
        "docstrings": len(docstrings),
        "comments": len(comments),
        "guards": len(code & find_guards(tree)),
        f"> {LIMIT}": sum(size[0] > LIMIT for size in sizes),
        "longest": max(sizes, default=(0, "", 0)),
    }


def count_notebook(file: Path) -> Row:
    """Count what a notebook holds. Raises NotebookError for a cell that is not Python."""
    sizes, messages = [], []
    for number, cell in code_cells(read_notebook(file)):
        sizes.append(len(cell.source.splitlines()))
        try:  # a %magic becomes a call first
            tree = ast.parse(TransformerManager().transform_cell(cell.source))
        except SyntaxError as error:
            raise NotebookError(f"{name_cell(file, number, cell.source)}: {error}") from None
        messages += [bool(node.msg) for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return {
        "notebooks": 1,
        "code cells": len(sizes),
        f"> {LIMIT}": sum(size > LIMIT for size in sizes),
        "longest": max(sizes, default=0),
        "assertions": len(messages),
        "with a message": sum(messages),
    }
