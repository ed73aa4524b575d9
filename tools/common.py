"""What the tools share: which notebooks there are, how a cell is named, how a tool ends."""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
EXPORTED = re.compile(r"# From notebooks/[^:]+:\s(# )?edit")  # the start of an exported module


class NotebookError(Exception):
    """Something in a notebook that its writer has to change; the text names the file and cell."""


def command_line(main: Callable[..., int]) -> Callable[..., int]:
    """Let a tool end with a message and a status: 1 for a NotebookError, 130 for Ctrl-C."""

    @wraps(main)
    def run(*arguments, **options) -> int:
        try:
            return main(*arguments, **options)
        except NotebookError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nstopped; the notebook that was running is unchanged", file=sys.stderr)
            return 130

    return run


def ask_for_notebooks(purpose: str, arguments: list[str] | None, folders: list[Path]) -> list[Path]:
    """Read a command line that names notebooks and nothing else. Raises as `choose_notebooks`."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("notebook", nargs="*", help="a number such as 03, or a path (default: all)")
    return choose_notebooks(parser.parse_args(arguments).notebook, folders)


def find_notebooks(folder: Path) -> list[Path]:
    """Return the notebooks of a folder in order, without hidden files."""
    return sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))


def choose_notebooks(words: list[str], folders: list[Path]) -> list[Path]:
    """Return the notebooks that a command line asks for, by number (`03`, `3`) or path; or all.

    Raises NotebookError, with the choices, for a word that matches no notebook.
    """
    notebooks = [path for folder in folders for path in find_notebooks(folder)]
    if not words and not notebooks:
        raise NotebookError(f"there are no notebooks in {folders[0]}")
    chosen = [] if words else notebooks
    for word in words:
        path = Path(word).resolve()
        if word.isdecimal():
            matches = [path for path in notebooks if path.name.startswith(f"{word:0>2}_")]
        else:
            matches = [path] if path.suffix == ".ipynb" and path.is_file() else []
        if not matches:
            choices = "\n".join(f"  {name}" for name in sorted({path.stem for path in notebooks}))
            raise NotebookError(f"no notebook {word}: give a number (03) or a path, of\n{choices}")
        chosen += [path for path in matches if path not in chosen]
    return chosen


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook. Raises NotebookError for a file that does not hold one."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises a different type for each way to be broken
        reason = str(error).strip().partition("\n")[0][:100]
        raise NotebookError(
            f"{short(path)} is not a notebook: it does not hold what Jupyter writes ({reason}). "
            "An unfinished merge or an editor may have damaged it"
        ) from None


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return the code cells that are not empty, each with the number that Jupyter shows: 1, ..."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    return list(enumerate(cells, 1))


def clear_outputs(notebook: NotebookNode) -> None:
    """Take the outputs and counts away: what is there afterwards was made by a run."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def name_cell(path: Path, number: int, source: str) -> str:
    """Return how messages name a cell: `notebooks/03_attention.ipynb, cell [7] "def f(x):"`."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith("#|")]
    return f'{short(path)}, cell [{number}] "{(code or lines)[0][:60]}"'


def short(path: Path) -> str:
    """Return the path as seen from the folder above `notebooks/`, or just the name."""
    parts = path.parts
    where = len(parts) - 1 - parts[::-1].index("notebooks") if "notebooks" in parts else -1
    return "/".join(parts[where:])


def strip_colors(text: str) -> str:
    """Return a text without the codes that color it in a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def ruff(folder: str, settings: Path, *arguments: str) -> str:
    """Run ruff on a folder with the settings of a checkout; return what it prints.

    Raises NotebookError if it cannot: problems that `ruff check` finds are not a failure.
    """
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."]
    command += ["--config", str(settings / "pyproject.toml")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    if done.returncode > 1:
        raise NotebookError(f"ruff cannot read this: {done.stderr.strip()}")
    return done.stdout
