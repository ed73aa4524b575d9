"""Run the whole course into build/course/: executed copies to read, and a table as it goes.

    python tools/course.py          every notebook in notebooks/, in order
    python tools/course.py 03       just this one

Each notebook becomes build/course/NAME.ipynb and NAME.html; the committed ones stay as they are.
A notebook that fails is kept up to the cell that failed, and the next one runs all the same. The
HTML needs no network for text, code and pictures; it fetches MathJax and Mermaid to draw formulas
and diagrams, and shows their source where it cannot.
"""

import sys
import time
from pathlib import Path

import nbformat
from common import ROOT, ask_for_notebooks, code_cells, command_line, read_notebook
from execute import drop_widgets, run_cells
from nbconvert import HTMLExporter

from llmlib.files import write_text


def run(path: Path, build: Path, width: int) -> str:
    """Run a notebook, write what came of it to `build`, print a row; return what failed, or ""."""
    notebook = read_notebook(path)
    print(f"{path.stem:<{width}}", end="", flush=True)
    start = time.monotonic()
    done, error = run_cells(notebook, path)
    cells = f"{done}/{len(code_cells(notebook))}"
    print(f"  {cells:>7}  {time.monotonic() - start:7.1f}  {'FAILED' if error else 'ok'}")
    drop_widgets(notebook)  # no kernel answers them in a copy to read
    write_text(build / path.name, nbformat.writes(notebook) + "\n")
    exporter = HTMLExporter(require_js_url="")  # no widgets: no require.js
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    write_text(build / f"{path.stem}.html", html)
    return error


@command_line
def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return the exit status."""
    purpose = "Run the notebooks of the course into build/."
    chosen = ask_for_notebooks(purpose, arguments, [root / "notebooks"])
    build = root / "build" / "course"
    build.mkdir(parents=True, exist_ok=True)
    width = max(len(path.stem) for path in chosen)
    print(f"{'notebook':<{width}}  {'cells':>7}  {'seconds':>7}  result")
    errors = [error for path in chosen if (error := run(path, build, width))]
    print("\nRead in a browser:", *(build / f"{path.stem}.html" for path in chosen), sep="\n  ")
    for error in errors:
        print(f"\nFAILED {error}", file=sys.stderr)
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
