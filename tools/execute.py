"""Run notebooks in place and store their outputs, so that diffs show what changed and no more.

    python tools/execute.py               notebooks/ and notebooks/solutions/
    python tools/execute.py 03 04         the notebooks and solutions of these numbers
    python tools/execute.py PATH.ipynb    just this one

Each runs in a new kernel of this interpreter, in its own folder, and is rewritten only if every
cell succeeds. Stored outputs carry no timestamps, no local paths and no warnings; nbval compares
them when the tests run.
"""

import base64
import json
import os
import re
import struct
import sys
import tempfile
from pathlib import Path

import nbformat
from common import (
    ROOT,
    NotebookError,
    ask_for_notebooks,
    clear_outputs,
    code_cells,
    command_line,
    name_cell,
    read_notebook,
    short,
    strip_colors,
)
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from llmlib.files import write_text

TIMEOUT = 1800  # seconds for one cell
WIDGET = "application/vnd.jupyter.widget-view+json"  # controls, which need a kernel
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KERNEL_ENVIRONMENT = {
    "TQDM_DISABLE": "1",  # progress bars are for people
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin slow their neighbours down
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels of the Python that runs this file, whatever kernel the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=make_ipkernel_cmd(), display_name="Python 3", language="python")


def run_cells(notebook: NotebookNode, path: Path, times: int = 1) -> tuple[int, str]:
    """Run a notebook's cells in a new kernel, and store their outputs in `notebook`.

    path: where the notebook lies; the kernel works in that folder. times: how often each cell runs
    before the next one does. Returns how many cells succeeded, and which one failed and why, or ""
    if none did.
    """
    clear_outputs(notebook)
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisInterpreter,
        extra_arguments=["--log-level=CRITICAL"],  # only the cells speak
        timeout=TIMEOUT,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel(env={**os.environ, **KERNEL_ENVIRONMENT}):
        for index, cell in enumerate(notebook.cells):
            try:
                for _ in range(times):
                    client.execute_cell(cell, index)  # which passes over text
                continue
            except CellExecutionError as error:
                reason = strip_colors(f"{error.ename}: {error.evalue}")
            except CellTimeoutError:
                reason = f"it ran for more than {TIMEOUT} seconds"
            except DeadKernelError:
                reason = "the kernel died; perhaps the memory was used up"
            done = len(code_cells(NotebookNode(cells=notebook.cells[:index])))
            return done, f"{name_cell(path, done + 1, cell.source)}: {reason}"
    return len(code_cells(notebook)), ""


def normalise(notebook: NotebookNode, path: Path) -> None:
    """Leave in an executed notebook only what is the same on every machine.

    Raises NotebookError for what should not be stored: a warning or a local path in an output.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    drop_widgets(notebook)
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("tags",) if cell.metadata.get(key)}
    for number, cell in code_cells(notebook):
        cell.execution_count = number
        for output in cell.outputs:
            refuse_unfit(output, name_cell(path, number, cell.source))
            if "execution_count" in output:
                output.execution_count = number
            if "metadata" in output:
                output.metadata = {}
            if image := output.get("data", {}).get("image/png"):
                stripped = strip_png(base64.b64decode(image))
                output.data["image/png"] = base64.b64encode(stripped).decode()


def drop_widgets(notebook: NotebookNode) -> None:
    """Take away sliders and other controls; the picture that they would change stays."""
    notebook.metadata.pop("widgets", None)
    for _, cell in code_cells(notebook):
        cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]


def refuse_unfit(output: NotebookNode, label: str) -> None:
    """Raise NotebookError for an output that writes to stderr or shows a path of this machine."""
    if output.get("name") == "stderr":
        said = strip_colors(output.text).strip()[:300]
        raise NotebookError(f"{label}: it writes to stderr: {said}")
    data = {kind: item for kind, item in output.get("data", {}).items() if "image/" not in kind}
    text = json.dumps({**output, "data": data}, ensure_ascii=False)
    folders = "|".join(map(re.escape, local_folders()))
    if found := re.search(rf"({folders})(?![\w.-])[^\s\"'<>\\]*", text):
        raise NotebookError(f"{label}: its output holds a path of this machine: {found[0]}")


def local_folders() -> list[str]:
    """Return the folders whose names differ from one machine to the next."""
    folders = (ROOT, Path.home(), Path(sys.prefix), Path(tempfile.gettempdir()))
    return [str(folder) for folder in folders if len(folder.parts) > 1]  # a home may be just /


def strip_png(image: bytes) -> bytes:
    """Return a PNG without its comments: matplotlib writes its version there.

    Source: the PNG specification, section 5: 8 bytes, then chunks of length, type, data, checksum.
    """
    kept, start = [image[:8]], 8
    while start < len(image):
        length, kind = struct.unpack_from(">I4s", image, start)
        end = start + 12 + length
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"tIME"):
            kept.append(image[start:end])
        start = end
    return b"".join(kept)


def execute(path: Path) -> bool:
    """Run a notebook and store its outputs; return whether the file changed.

    Raises NotebookError, and leaves the file as it was, if a cell fails or an output is unfit.
    """
    notebook = read_notebook(path)
    _, problem = run_cells(notebook, path)
    if problem:
        raise NotebookError(problem)
    normalise(notebook, path)
    text = nbformat.writes(notebook) + "\n"
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        write_text(path, text)
    return changed


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    purpose, folder = "Run notebooks in place and store their outputs.", ROOT / "notebooks"
    for path in ask_for_notebooks(purpose, arguments, [folder, folder / "solutions"]):
        print(f"{short(path)} ...", flush=True)
        print("  updated" if execute(path) else "  unchanged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
