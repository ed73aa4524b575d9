"""Measure the size and shape of the package and the notebooks, and compare two states of them.

    python tools/measure.py                      one row per folder, then totals
    python tools/measure.py llmlib --modules     one row per module
    python tools/measure.py --against ../before  old → new, and their ratio

What is counted stands in `tools/counts.py`. Both states are laid out by `ruff format` with the
settings of this repository, in a copy: no file of theirs is written. `longest` gives the code lines
of the longest function, its name, and all its lines; for a notebook, the lines of its longest cell.
A total of a folder includes its subfolders; "exported" are modules that a notebook writes.
"""

import argparse
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path, PurePath
from typing import Any

from common import ROOT, command_line, ruff
from counts import Row, count_module, count_notebook

PATHS = ["llmlib", "tools", "notebooks"]


def measure(root: Path, paths: list[str]) -> dict[str, Row]:
    """Count each module and notebook at or below `paths`; hidden files are left out.

    Raises NotebookError for a module or notebook that cannot be read.
    """
    files = {f for path in paths for f in [root / path, *(root / path).rglob("*")]}
    names = {f.relative_to(root).as_posix() for f in files}
    names = {name for name in names if "/." not in f"/{name}"}
    rows = {name: count_notebook(root / name) for name in names if name.endswith(".ipynb")}
    modules = [name for name in names if name.endswith(".py")]
    with tempfile.TemporaryDirectory() as folder:
        for name in modules:
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy)
        ruff(folder, ROOT, "format")
        for name in modules:
            rows[name] = count_module(name, Path(folder, name).read_text(encoding="utf-8"))
    return rows


def add(rows: list[Row]) -> Row:
    """Sum the counts of several modules or notebooks; of `longest`, take the maximum."""
    total: Row = {}
    for key in rows[0]:
        total[key] = (max if key == "longest" else sum)(row[key] for row in rows)
        if key in ("comments", "guards"):
            total[f"{key} / code"] = total[key] / max(total["code"], 1)
    return total


def group(rows: dict[str, Row], kind: str, by_file: bool) -> dict[str, Row]:
    """Sum the modules, or the notebooks, by folder (or show each file), then into totals."""
    groups = defaultdict(list)
    for name, row in rows.items():
        if kind in row:
            path = PurePath(name)
            groups[name if by_file else f"{path.parent}/"].append(row)
            groups[f"**{path.parts[0]}, total**"].append(row)
            groups["**total**"].append(row)
            if row.get("exported"):
                groups["**exported, total**"].append(row)
    return {label: add(members) for label, members in groups.items()}


def show(value: Any) -> str:
    """Return a count, a share or a longest function as the text of a table cell."""
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.1%}"
        case (code, name, lines):
            return f"{code} `{name}` ({lines})" if name else "–"
    return f"{value:,}"


def compare(old: Any, new: Any) -> str:
    """Return both values, and their ratio where there is one."""
    before, after = (value[0] if isinstance(value, tuple) else value for value in (old, new))
    ratio = f" (×{after / before:.2f})" if before and after is not None else ""
    return f"{show(old)} → {show(new)}{ratio}"


def format_table(new: dict[str, Row], old: dict[str, Row] | None) -> str:
    """Lay out the rows as a table in Markdown, beside those of an older state if there is one."""
    every = {**new, **(old or {})}
    keys = [key for key in next(iter(every.values())) if key != "exported"]
    lines = [["", *keys], ["---", *("---:" for _ in keys)]]
    for label in sorted(every, key=lambda label: (label.startswith("**"), label)):  # totals last
        row, before = new.get(label, {}), (old or {}).get(label, {})
        pairs = [(before.get(key), row.get(key)) for key in keys]
        lines.append(
            [label, *(show(now) if old is None else compare(was, now) for was, now in pairs)]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the package and the notebooks.")
    parser.add_argument("paths", nargs="*", default=PATHS, help="in the checkout")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout, if not this one")
    parser.add_argument(
        "--against", type=Path, metavar="ROOT", help="an older one, shown beside it"
    )
    parser.add_argument("--modules", action="store_true", help="one row per file, not per folder")
    options = parser.parse_args(arguments)
    roots = [root.resolve() for root in (options.root, options.against) if root]
    for path in options.paths:
        if not any((root / path).exists() for root in roots):
            parser.error(f"there is no {path} in {' or '.join(map(str, roots))}")
    new, *old = [measure(root, options.paths) for root in roots]
    for kind in ("modules", "notebooks"):
        groups = group(new, kind, options.modules)
        older = group(old[0], kind, options.modules) if old else None
        if groups or older:
            print(format_table(groups, older), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
