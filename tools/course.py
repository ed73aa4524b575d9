"""Run the whole course into build/course/: executed copies to read, and a table at the end.

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
from dataclasses import dataclass
from pathlib import Path

import nbformat
from common import ROOT, NotebookError, choose_notebooks, code_cells, read_notebook
from execute import run_cells
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from tqdm import tqdm

from llmlib.files import write_text


@dataclass
class Result:
    """How one notebook went; `error` is empty if every cell succeeded."""

    name: str
    cells: int
    done: int = 0
    seconds: float = 0.0
    error: str = ""


def run(path: Path, notebook: NotebookNode, build: Path, bar: tqdm) -> Result:
    """Run a notebook, write what came of it to `build`, and move the bar by its cells."""
    result = Result(path.stem, cells=count_cells(notebook))
    bar.set_description(path.stem)
    start, bar_start = time.monotonic(), bar.n

    def done(number: int) -> None:
        result.done = number
        bar.update()

    try:
        run_cells(notebook, path, done)
    except NotebookError as error:
        result.error = str(error)
        bar.write(result.error, file=sys.stderr)
    bar.update(bar_start + result.cells - bar.n)  # what a failure left out
    result.seconds = time.monotonic() - start
    write_text(build / path.name, nbformat.writes(notebook) + "\n")
    write_text(build / f"{path.stem}.html", to_html(notebook, path.stem))
    return result


def count_cells(notebook: NotebookNode) -> int:
    """The number of code cells that hold something."""
    return sum(1 for _ in code_cells(notebook))


def to_html(notebook: NotebookNode, title: str) -> str:
    """The notebook as one HTML file, its pictures inside."""
    exporter = HTMLExporter(require_js_url="")  # no widgets: no require.js
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return html


def table(results: list[Result]) -> str:
    """Notebook, cells, seconds and result, one line each."""
    width = max(len(result.name) for result in results)
    lines = [f"{'notebook':<{width}}  {'cells':>7}  {'seconds':>7}  result"]
    for result in results:
        cells = f"{result.done}/{result.cells}" if result.error else str(result.cells)
        verdict = "FAILED" if result.error else "ok"
        lines.append(f"{result.name:<{width}}  {cells:>7}  {result.seconds:7.1f}  {verdict}")
    total = sum(result.seconds for result in results)
    return "\n".join([*lines, f"{'together':<{width}}  {'':7}  {total:7.1f}"])


def report(results: list[Result], build: Path) -> None:
    """Print the table, where to read the notebooks, and what failed."""
    print(f"\n{table(results)}\n\nRead in a browser:")
    for result in results:
        print(f"  {build / result.name}.html")
    for result in results:
        if result.error:
            print(f"\nFAILED {result.error}", file=sys.stderr)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the notebooks of the course into build/.")
    parser.add_argument("notebook", nargs="*", help="a number such as 03; all if none")
    options = parser.parse_args(arguments)
    build = root / "build" / "course"
    build.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    try:
        chosen = choose_notebooks(options.notebook, [root / "notebooks"])
        notebooks = [(path, read_notebook(path)) for path in chosen]
        total = sum(count_cells(notebook) for _, notebook in notebooks)
        with tqdm(total=total, unit="cell") as bar:
            for path, notebook in notebooks:
                results.append(run(path, notebook, build, bar))
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped by you", file=sys.stderr)
        if results:
            report(results, build)
        return 130
    report(results, build)
    return int(any(result.error for result in results))


if __name__ == "__main__":
    sys.exit(main())
