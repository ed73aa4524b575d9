"""Run the whole course into build/course/: executed copies to read, and a table as it goes.

    python tools/course.py          every notebook in notebooks/, in order
    python tools/course.py 03       just this one

Each notebook becomes build/course/NAME.ipynb and NAME.html; the committed ones stay as they are.
A notebook that fails is kept up to the cell that failed, and the next one runs all the same. The
HTML needs no network for text, code and pictures; it fetches MathJax and Mermaid to draw formulas
and diagrams, and shows their source where it cannot.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from common import ROOT, NotebookError, choose_notebooks, code_cells, read_notebook
from execute import run_cells
from nbconvert import HTMLExporter

from llmlib.files import write_text


def run(path: Path, build: Path, width: int) -> str:
    """Run a notebook, write what came of it to `build`, print a row; return what failed, or ""."""
    notebook, error, done = read_notebook(path), "", []
    print(f"{path.stem:<{width}}", end="", flush=True)
    start = time.monotonic()
    try:
        run_cells(notebook, path, done.append)
    except NotebookError as failure:
        error = str(failure)
    cells = f"{len(done)}/{sum(1 for _ in code_cells(notebook))}"
    print(f"  {cells:>7}  {time.monotonic() - start:7.1f}  {'FAILED' if error else 'ok'}")
    write_text(build / path.name, nbformat.writes(notebook) + "\n")
    exporter = HTMLExporter(require_js_url="")  # no widgets: no require.js
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    write_text(build / f"{path.stem}.html", html)
    return error


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the notebooks of the course into build/.")
    parser.add_argument("notebook", nargs="*", help="a number such as 03 (default: all)")
    options = parser.parse_args(arguments)
    build = root / "build" / "course"
    build.mkdir(parents=True, exist_ok=True)
    try:
        chosen = choose_notebooks(options.notebook, [root / "notebooks"])
        width = max(len(path.stem) for path in chosen)
        print(f"{'notebook':<{width}}  {'cells':>7}  {'seconds':>7}  result")
        errors = [error for path in chosen if (error := run(path, build, width))]
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    print("\nRead in a browser:", *(build / f"{path.stem}.html" for path in chosen), sep="\n  ")
    for error in errors:
        print(f"\nFAILED {error}", file=sys.stderr)
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
