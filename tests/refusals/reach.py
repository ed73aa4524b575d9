"""Which refusals of llmlib the tables reach: `python tests/refusals/reach.py [ROOM ...]`.

Runs all rows while each line of llmlib that raises is noted, and prints those that never did, file
by file: `raise`, `assert`, and calls of the primitives in `checks/values.py`, such as `require`.
With names of rooms, only those folders are printed.
"""

import ast
import contextlib
import io
import os
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


VALUES = ast.parse((ROOT / "llmlib/checks/values.py").read_text(encoding="utf-8"))
PRIMITIVES = {node.name for node in VALUES.body if isinstance(node, ast.FunctionDef)} - {"suggest"}


def refuses(node: ast.AST) -> bool:
    """Tell whether a statement or call is there to refuse something."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        return name in PRIMITIVES
    return isinstance(node, (ast.Raise, ast.Assert))


def refusals_of(path: Path) -> list[ast.AST]:
    """Return the statements and calls of a file that refuse something."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if refuses(node)]


def run_all() -> set[tuple[str, int]]:
    """Run every row; return the lines of llmlib that raised, as (file, line)."""
    ran: set[tuple[str, int]] = set()
    package = str(ROOT / "llmlib")

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "exception":
            ran.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    from refusals.test_refusals import TABLES

    home = Path.cwd()
    for rows in TABLES.values():
        for row in rows:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                sys.settrace(trace)
                try:
                    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        row.call(Path(folder))
                except (Exception, SystemExit):
                    pass  # whether it was the right one, the test tells
                finally:
                    sys.settrace(None)
                    os.chdir(home)
    return ran


def main(rooms: list[str]) -> None:
    """Print what was not reached, and how much was."""
    ran, reached, n_all = run_all(), 0, 0
    for path in sorted((ROOT / "llmlib").rglob("*.py")):
        name = path.relative_to(ROOT)
        statements = refusals_of(path)
        lost = [
            s
            for s in statements
            if not any((str(path), n) in ran for n in range(s.lineno, s.end_lineno + 1))
        ]
        n_all, reached = n_all + len(statements), reached + len(statements) - len(lost)
        if statements and (not rooms or name.parts[1] in rooms):
            print(f"{len(statements) - len(lost):>4} of {len(statements):>3}  {name.as_posix()}")
            for statement in lost:
                print(f"             line {statement.lineno}: {ast.unparse(statement)[:110]}")
    print(f"{reached} of {n_all} refusals are reached")


if __name__ == "__main__":
    main(sys.argv[1:])
