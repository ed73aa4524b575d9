"""What the tools share: which notebooks there are, how a cell is named, how a file is replaced."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]


class NotebookError(Exception):
    """Something in a notebook that its writer has to mend; the text names the file and the cell."""


def find_notebooks(folder: Path) -> list[Path]:
    """The notebooks of a folder in order, without hidden files."""
    return sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))


def choose_notebooks(words: list[str], folders: list[Path]) -> list[Path]:
    """The notebooks that a command line asks for, by number (`03`, `3`) or path; all if by none.

    Raises NotebookError, with the choices, for a word that matches no notebook.
    """
    notebooks = [path for folder in folders for path in find_notebooks(folder)]
    if not words:
        if not notebooks:
            raise NotebookError(f"there are no notebooks in {folders[0]}")
        return notebooks
    chosen = []
    for word in words:
        if word.isdecimal():
            matches = [path for path in notebooks if path.name.startswith(f"{word:0>2}_")]
        else:
            path = Path(word).resolve()
            matches = [path] if path.suffix == ".ipynb" and path.is_file() else []
        if not matches:
            choices = "\n".join(f"  {name}" for name in sorted({path.stem for path in notebooks}))
            raise NotebookError(f"no notebook {word}: give a number (03) or a path, of\n{choices}")
        chosen += [path for path in matches if path not in chosen]
    return chosen


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook; NotebookError for a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise NotebookError(f"{short(path)}: {error.strerror}") from None
    except Exception as error:  # nbformat raises a different type for each way to be broken
        reason = str(error).strip().partition("\n")[0][:100]
        raise NotebookError(
            f"{short(path)} is not a notebook: it does not hold what Jupyter writes ({reason}). "
            "An unfinished merge or an editor may have damaged it"
        ) from None


def code_cells(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Each code cell that holds something, with the number that Jupyter shows as [1], [2], ..."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip())
    return enumerate(cells, 1)


def name_cell(path: Path, number: int, source: str) -> str:
    """How messages name a cell: `notebooks/03_attention.ipynb, cell [7] "def attend(x):"`."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith("#|")]
    first_line = (code or lines or ["(empty)"])[0]
    return f'{short(path)}, cell [{number}] "{first_line[:60]}"'


def short(path: Path) -> str:
    """The path as seen from the folder above `notebooks/`, or just the name."""
    parts = path.parts
    where = len(parts) - 1 - parts[::-1].index("notebooks") if "notebooks" in parts else -1
    return "/".join(parts[where:])


def replace_file(path: Path, text: str) -> None:
    """Write beside the file and rename: a reader sees the old text or the new, never a half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def plain(text: str) -> str:
    """Text without the codes that colour it in a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
