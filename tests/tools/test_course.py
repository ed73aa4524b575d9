"""`make course`: copies to read, a table, a failure that is named, and nothing else touched."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import course


@pytest.fixture
def checkout(tmp_path):
    """A course of two notebooks, the first of which fails at its second cell."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "beside.txt").write_text("a text beside it")
    cells = {
        "01_a": ["print('before')", "x = 1\nx / 0", "print('after')"],
        "02_b": ["import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", READ],
    }
    for name, sources in cells.items():
        code = [new_markdown_cell(f"# {name}"), *map(new_code_cell, sources)]
        nbformat.write(new_notebook(cells=code), tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


READ = "from pathlib import Path\nprint(Path('beside.txt').read_text())"


@pytest.mark.slow
def test_the_next_notebook_runs_after_a_failure_which_is_named(checkout, capsys):
    before = {path: path.read_bytes() for path in (checkout / "notebooks").iterdir()}
    assert course.main([], checkout) == 1
    assert {path: path.read_bytes() for path in (checkout / "notebooks").iterdir()} == before
    shown = capsys.readouterr()
    assert re.search(r"^01_a +1/3 +[\d.]+  FAILED$", shown.out, re.MULTILINE)
    assert re.search(r"^02_b +2/2 +[\d.]+  ok$", shown.out, re.MULTILINE)
    assert 'notebooks/01_a.ipynb, cell [2] "x = 1": ZeroDivisionError' in shown.err
    build = checkout / "build" / "course"
    assert str(build / "02_b.html") in shown.out
    failed, read = ((build / f"{name}.html").read_text() for name in ("01_a", "02_b"))
    assert "before" in failed and "division by zero" in failed and ">after" not in failed
    assert "a text beside it" in read and "data:image/png;base64," in read
    assert nbformat.read(build / "02_b.ipynb", as_version=4).cells[1].outputs
    # What it links to can be missing: only scripts that draw formulas and diagrams.
    assert not re.findall(r'<(?:link|img)[^>]+(?:href|src)="https?:', read)


def test_a_number_that_matches_nothing_lists_the_choices(checkout, capsys):
    assert course.main(["9"], checkout) == 1
    assert "no notebook 9" in (message := capsys.readouterr().err)
    assert "01_a" in message and "02_b" in message


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C")
def test_ctrl_c_ends_cleanly(checkout):
    mark = checkout / "notebooks" / "started"
    source = f"import time\nopen({str(mark)!r}, 'w').close()\ntime.sleep(600)"
    notebook = new_notebook(cells=[new_code_cell(source)])
    nbformat.write(notebook, checkout / "notebooks" / "03_c.ipynb")
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += (  # a shell that starts the tests in the background has SIGINT ignored
        f"import sys; sys.path.insert(0, {str(Path(course.__file__).parent)!r}); import course; "
    )
    start += f"from pathlib import Path; sys.exit(course.main(['3'], Path({str(checkout)!r})))"
    process = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.PIPE, text=True)
    for _ in range(6000):  # ten minutes, which only a hang takes
        if mark.exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "stopped" in errors and "Traceback" not in errors
