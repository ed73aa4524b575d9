"""Open the notebooks in a real JupyterLab and Run All, as a learner would; keep screenshots.

    python tools/browser.py          every notebook in notebooks/, in order
    python tools/browser.py 03       just this one
    python tools/browser.py --dark   in JupyterLab's dark theme

For each: its outputs are cleared, every cell runs, and there must be no error, no warning, no
dialog, no diagram or formula that could not be drawn. Then one control of each picture that moves
is moved, and the picture has to change. Screenshots go to build/browser/, from the
top down. It needs `pip install -r requirements-browser.txt` and Chromium: Debian's package, one
found on PATH, or the one that $CHROMIUM names. Notebooks run as copies; llmlib is the checkout's.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from common import (
    ROOT,
    NotebookError,
    choose_notebooks,
    code_cells,
    read_notebook,
    strip_colors,
)
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
LAB = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--expose-app-in-browser"]
LAB += ["--IdentityProvider.token=", "--PasswordIdentityProvider.hashed_password="]
LAB += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
VIEW = {"width": 1280, "height": 1400}
SCROLL = 1300  # pixels between two screenshots, a little less than the view
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"  # the notebook in view
RUN_TIMEOUT = 600_000  # milliseconds for all cells of a notebook

SETTINGS = {
    # No pop-up that asks whether to fetch news, and every cell in the page: not only those in view.
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}
THEMES = {True: "JupyterLab Dark", False: "JupyterLab Light"}
# A notebook's first control, of each cell that has some, and what stands below the controls.
CONTROLLED = f"{PANEL} .jp-CodeCell:has(.jupyter-widgets)"
CONTROL = ".widget-slider .noUi-handle, .widget-dropdown select, .widget-text input"
PICTURE = ".jp-OutputArea-child:not(:has(.jupyter-widgets)) .jp-OutputArea-output"

# The application object (--expose-app-in-browser) knows more than the page shows: the toolbar says
# "idle" also while no kernel is attached.
KERNEL_IS_READY = """() => {
    const context = window.jupyterapp.shell.currentWidget?.sessionContext;
    const kernel = context?.session?.kernel;
    return document.querySelector('.jp-Dialog')
        || context?.isReady && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
STATE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const cells = panel.content.model.sharedModel.cells
        .filter(cell => cell.cell_type === 'code' && cell.getSource().trim());
    const outputs = cells.flatMap(cell => cell.getOutputs());
    return {
        kernel: panel.sessionContext.session?.kernel?.status,
        total: cells.length,
        run: cells.filter(c => c.execution_count !== null && c.executionState === 'idle').length,
        errors: outputs.filter(output => output.output_type === 'error')
            .map(output => `${output.ename}: ${output.evalue}`),
        stderr: outputs.filter(output => output.name === 'stderr').map(o => String(o.text)),
    };
}"""
RUN_IS_OVER = f"""() => {{
    const state = ({STATE})();
    return document.querySelector('.jp-Dialog')
        || state.kernel === 'idle' && (state.errors.length || state.run === state.total);
}}"""
UNDRAWN = """() => {
    const panel = window.jupyterapp.shell.currentWidget.node;
    const texts = selector => [...panel.querySelectorAll(selector)].map(node => node.textContent);
    const prose = [...panel.querySelectorAll('.jp-RenderedMarkdown')].map(node => {
        const copy = node.cloneNode(true);
        copy.querySelectorAll('pre, code, mjx-container, .MathJax').forEach(part => part.remove());
        return copy.textContent;
    });
    return [
        ...texts('.jp-RenderedMermaid.jp-mod-warning, .jp-RenderedMarkdown code.language-mermaid')
            .map(text => `diagram not drawn: ${text}`),
        ...texts('mjx-merror, .MathJax_Error').map(text => `formula not drawn: ${text}`),
        ...prose.flatMap(text => text.match(/\\$\\$.*|\\\\(frac|sum|mathbb|text|sqrt)\\b.*/g) ?? [])
            .map(text => `formula left as LaTeX: ${text}`),
    ];
}"""


def find_chromium() -> str:
    """Return the browser to run. Raises NotebookError if there is none."""
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, BROWSERS)]
    if not any(found):
        raise NotebookError("no browser found: install chromium, or set CHROMIUM to its path")
    return next(filter(None, found))


@contextmanager
def jupyterlab(folder: Path, scratch: Path, dark: bool) -> Iterator[str]:
    """Serve `folder` with a JupyterLab without the user's own settings; yield its URL."""
    theme = {"apputils-extension/themes": json.dumps({"theme": THEMES[dark]})}
    for name, text in (SETTINGS | theme).items():
        path = scratch / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = {**os.environ, **dict.fromkeys(places, str(scratch))}
    environment |= {"JUPYTER_PREFER_ENV_PATH": "1", "TQDM_DISABLE": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the Makefile has it
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", *LAB, f"--port={port}"]
    log = scratch / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={folder}"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()  # nothing is kept: it served copies


def wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    """Return when the server answers. Raises RuntimeError with its log if it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/api/status", timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def run_all(page: Page, url: str, name: str) -> list[str]:
    """Open a notebook and run all its cells; return what went wrong."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"the page: {error}"))
    page.goto(f"{url}/lab/tree/{name}?reset", wait_until="domcontentloaded")
    page.locator(f"{PANEL} .jp-Cell").first.wait_for(timeout=90_000)
    page.wait_for_function(KERNEL_IS_READY, timeout=120_000)
    if found := find_dialogs(page):
        return problems + found
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator('li[data-command="runmenu:run-all"]').click()
    page.wait_for_function(RUN_IS_OVER, timeout=RUN_TIMEOUT)
    if found := find_dialogs(page):
        return problems + found
    indicator = page.locator(f"{PANEL} .jp-Notebook-ExecutionIndicator")
    expect(indicator).to_have_attribute("data-status", "idle", timeout=60_000)
    state = page.evaluate(STATE)
    problems += [f"error: {strip_colors(text)}" for text in state["errors"]]
    problems += [f"stderr: {strip_colors(text)}" for text in state["stderr"]]
    return problems + find_undrawn(page) + move_controls(page)


def move_controls(page: Page) -> list[str]:
    """Move the first control of each cell that has some; return the pictures that stay as they are.

    A slider goes one step to the right, or to the left where it is at its end; a menu takes its
    other entry; a field gets one more word.
    """
    problems = []
    for number, cell in enumerate(page.locator(CONTROLLED).all(), 1):
        control, picture = cell.locator(CONTROL).first, cell.locator(PICTURE).last
        control.scroll_into_view_if_needed()
        before = picture.inner_html()
        kind = control.evaluate("node => node.tagName")
        if kind == "SELECT":
            control.select_option(index=int(control.evaluate("node => node.selectedIndex == 0")))
        elif kind == "INPUT":
            control.press("End")
            control.type(" once")
            control.press("Enter")
        else:
            for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):
                control.press(key)
        try:
            expect(picture).not_to_have_js_property("innerHTML", before, timeout=60_000)
        except AssertionError:
            problems.append(f"picture {number} does not change when its first control moves")
    return problems


def find_dialogs(page: Page) -> list[str]:
    """Return the texts of the dialogs that wait for an answer."""
    texts = page.locator(".jp-Dialog").all_inner_texts()
    return [f"dialog: {' / '.join(text.split(chr(10)))}" for text in texts]


def find_undrawn(page: Page, patience: float = 15) -> list[str]:
    """Return diagrams and formulas that are not drawn after some seconds of patience."""
    deadline = time.monotonic() + patience
    while (undrawn := page.evaluate(UNDRAWN)) and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    return undrawn


def take_screenshots(page: Page, folder: Path, name: str) -> int:
    """Save the notebook from top to bottom as NAME-01.png, NAME-02.png, ...; return how many."""
    for old in folder.glob(f"{name}-*.png"):
        old.unlink()
    scroller = page.locator(f"{PANEL} .jp-WindowedPanel-outer")
    height = scroller.evaluate("node => node.scrollHeight")
    step = min(SCROLL, scroller.evaluate("node => node.clientHeight"))
    tops = range(0, max(height - 1, 1), step)
    for number, top in enumerate(tops, 1):
        scroller.evaluate("(node, top) => { node.scrollTop = top }", top)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}-{number:02}.png")
    return len(tops)


def clear_outputs(path: Path) -> None:
    """Clear a copy of a notebook: an execution count in the page then means "run here, now"."""
    notebook = read_notebook(path)
    for _, cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def try_notebook(page: Page, url: str, path: Path, pictures: Path) -> list[str]:
    """Run a notebook in the page, take its screenshots; return what went wrong."""
    try:
        problems = run_all(page, url, path.name)
        take_screenshots(page, pictures, path.stem)
        # The next notebook has the memory to itself.
        page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    except (AssertionError, BrowserError) as error:  # a timeout: keep what the page looks like
        problems = [str(error)]
        page.screenshot(path=pictures / f"{path.stem}-01.png")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the notebooks in JupyterLab in a browser.")
    parser.add_argument("notebook", nargs="*", help="a number such as 03 (default: all)")
    parser.add_argument("--dark", action="store_true", help="in JupyterLab's dark theme")
    options = parser.parse_args(arguments)
    pictures = ROOT / "build" / ("browser-dark" if options.dark else "browser")
    pictures.mkdir(parents=True, exist_ok=True)
    try:
        chosen = choose_notebooks(options.notebook, [ROOT / "notebooks"])
        chromium = find_chromium()
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    failed = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        scratch = Path(temporary)
        folder = shutil.copytree(ROOT / "notebooks", scratch / "notebooks")
        for path in folder.glob("*.ipynb"):
            clear_outputs(path)
        with jupyterlab(folder, scratch, options.dark) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            for path in chosen:
                start = time.monotonic()
                page = browser.new_page(viewport=VIEW)
                problems = try_notebook(page, url, path, pictures)
                page.close()
                verdict = "FAILED" if problems else "ok"
                print(f"{path.name}: {verdict}, {time.monotonic() - start:.0f} s", flush=True)
                for problem in problems:
                    print(f"  {problem}", flush=True)
                failed = failed or bool(problems)
            browser.close()
    print(f"screenshots: {pictures}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
