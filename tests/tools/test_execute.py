"""Running notebooks in place: what is stored, what is refused, and which kernel runs."""

import base64
import io
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, PngImagePlugin

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import execute
from common import NotebookError, choose_notebooks


def write(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), *cells]), path)
    return path


def run(path, capsys):
    """The command line on one notebook: exit status and what was printed."""
    status = execute.main([str(path)])
    return status, capsys.readouterr()


@pytest.mark.slow
def test_outputs_are_stored_clean_and_a_second_run_changes_nothing(tmp_path, monkeypatch):
    # The user's own kernel, named like ours, that cannot even start.
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    code = (
        "import os, sys\n"
        "assert os.path.samefile(sys.prefix, os.environ['EXPECTED_PREFIX'])\n"
        "from pathlib import Path\n"
        "print(Path('beside.txt').read_text())\n"
        "from tqdm import tqdm\n"
        "sum(tqdm([1, 2]))"
    )
    monkeypatch.setenv("EXPECTED_PREFIX", sys.prefix)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # the tests set it, a shell does not
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "beside.txt").write_text("in its own folder")
    figure = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    tags = {"tags": ["nbval-ignore-output"], "collapsed": True}
    path = write(
        tmp_path / "notebooks" / "01_a.ipynb",
        new_code_cell(code, metadata=tags, execution_count=7),
        new_code_cell(""),
        new_code_cell(figure),
    )
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert execute.execute(path)
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ids
    first, _, drawn = notebook.cells[1:]
    assert first.metadata == {"tags": ["nbval-ignore-output"]}
    assert [output.get("text") for output in first.outputs] == ["in its own folder\n", None]
    assert first.outputs[1].data["text/plain"] == "3" and first.outputs[1].execution_count == 1
    assert drawn.execution_count == 2 and drawn.outputs[0].metadata == {}
    image = Image.open(io.BytesIO(base64.b64decode(drawn.outputs[0].data["image/png"])))
    image.load()
    assert "Software" not in image.info
    assert notebook.metadata == execute.METADATA
    before = path.stat().st_mtime_ns
    assert not execute.execute(path)
    assert path.stat().st_mtime_ns == before


def test_a_failing_cell_is_named_and_the_file_kept(tmp_path, capsys):
    cells = [new_code_cell("x = 1"), new_code_cell(""), new_code_cell("y = 2\nx / 0")]
    path = write(tmp_path / "notebooks" / "03_x.ipynb", *cells)
    before = path.read_bytes()
    status, shown = run(path, capsys)
    assert status == 1 and path.read_bytes() == before
    expected = 'notebooks/03_x.ipynb, cell [2] "y = 2": ZeroDivisionError: division by zero'
    assert expected in shown.err


def test_a_kernel_that_dies_is_named(tmp_path, capsys):
    cell = new_code_cell("import os\nos._exit(1)")
    status, shown = run(write(tmp_path / "notebooks" / "03_x.ipynb", cell), capsys)
    assert status == 1 and 'cell [1] "import os": the kernel died' in shown.err


def normalise(*outputs):
    notebook = new_notebook(cells=[new_code_cell("f()", outputs=list(outputs))])
    execute.normalise(notebook, Path("/x/notebooks/01_a.ipynb"))
    return notebook


def test_counts_and_metadata_are_the_same_on_every_run():
    data, metadata = {"text/plain": "3"}, {"took": 1.5}
    result = new_output("execute_result", data, metadata=metadata, execution_count=9)
    cell = normalise(result).cells[0]
    assert cell.execution_count == cell.outputs[0].execution_count == 1
    assert cell.outputs[0].metadata == {}


def test_a_warning_is_refused():
    with pytest.raises(NotebookError, match=r"01_a.ipynb, cell \[1\] \"f\(\)\".*stderr: Careful"):
        normalise(new_output("stream", name="stderr", text="\x1b[31mCareful\x1b[0m\n"))


@pytest.mark.parametrize("folder", execute.local_folders())
def test_a_path_of_this_machine_is_refused(folder):
    for output in (
        new_output("stream", text=f"saved to {folder}/x.txt"),
        new_output("execute_result", {"text/plain": f"PosixPath('{folder}')"}),
        new_output("error", ename="E", evalue="", traceback=[f'File "{folder}/x.py"']),
    ):
        with pytest.raises(NotebookError, match=r"cell \[1\].*path of this machine"):
            normalise(output)


def test_words_and_pictures_that_only_look_like_a_path_are_kept():
    home = str(Path.home())
    picture = base64.b64encode(png()).decode()
    normalise(new_output("stream", text=f"{home}stead"))
    normalise(new_output("display_data", {"image/png": picture, "text/plain": "<Figure>"}))


def png():
    comments = PngImagePlugin.PngInfo()
    comments.add_text("Software", "a version that changes")
    comments.add_itxt("Title", "é")
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, "PNG", pnginfo=comments, dpi=(80, 80))
    return file.getvalue()


def test_a_stripped_picture_keeps_its_pixels_and_size():
    stripped = execute.strip_png(png())
    assert b"Software" not in stripped and b"Title" not in stripped
    image = Image.open(io.BytesIO(stripped))
    assert image.getpixel((2, 1)) == (255, 0, 0) and "dpi" in image.info
    assert execute.strip_png(stripped) == stripped


def test_notebooks_are_chosen_by_number_or_path(tmp_path):
    folders = [tmp_path / "notebooks", tmp_path / "notebooks" / "solutions"]
    one, two, ten = (write(folders[0] / f"{name}.ipynb") for name in ("01_a", "02_b", "10_c"))
    solution = write(folders[1] / "01_a.ipynb")
    write(folders[0] / ".hidden.ipynb")
    assert choose_notebooks([], folders) == [one, two, ten, solution]
    assert choose_notebooks(["01"], folders) == choose_notebooks(["1"], folders) == [one, solution]
    assert choose_notebooks(["2", str(two), "10"], folders) == [two, ten]
    for word in ("0", "11", "01_a", "no.ipynb", ""):
        with pytest.raises(NotebookError, match=r"(?s)no notebook.*01_a\n  02_b\n  10_c"):
            choose_notebooks([word], folders)
    with pytest.raises(NotebookError, match="no notebooks"):
        choose_notebooks([], [tmp_path / "nowhere"])
