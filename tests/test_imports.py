"""Imports in the package go down only, along the list of docs/architecture.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "llmlib"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def read_ladder(page):
    """The modules of the list in docs/architecture.md, room by room, from the top down.

    `model/  gpt cache` stands for the modules model, model.gpt and model.cache: a folder's
    `__init__` comes first. A line without a slash is a module by itself, with words about it.
    """
    (block,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    rooms = {}
    for line in block.splitlines():
        name, *files = line.split()
        room = name.removesuffix("/")
        rooms[room] = [room, *(f"{room}.{file}" for file in files)] if name[-1] == "/" else [room]
    return rooms


LADDER = read_ladder(PAGE)
ROOMS = list(LADDER)
PLACE = {module: place for place, module in enumerate(m for room in LADDER.values() for m in room)}

# Imports that still run upward, each with the reason; none does.
UPWARD: set[tuple[str, str]] = set()


def module_name(path):
    """`model.gpt` for llmlib/model/gpt.py, `model` for its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if module_name(path)}


def imported(source, module):
    """The modules of the package that a module imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["llmlib", *module.split(".")][: -node.level] if node.level else []
            package = ".".join([*above, *filter(None, [node.module])])
            names = [f"{package}.{alias.name}" for alias in node.names] + [package]
        else:
            continue
        found |= {name.removeprefix("llmlib.") for name in names if name.startswith("llmlib.")}
    return {name for name in found if name in MODULES}


def room_of(module):
    return module.split(".")[0]


def forbidden(module, source):
    """The imports of a module that do not go down: to a higher room, or to its left in its own."""
    return {
        name
        for name in imported(source, module) - {module, room_of(module)}
        if PLACE[name] < PLACE[module]
    }


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only(module):
    assert module in PLACE, f"{module} has no place yet: add it to the list in docs/architecture.md"
    upward = forbidden(module, MODULES[module].read_text(encoding="utf-8"))
    assert {(module, name) for name in upward} <= UPWARD


def test_the_list_names_no_module_that_is_gone():
    assert [module for module in PLACE if module not in MODULES] == []


def test_no_known_exception_is_kept_after_it_is_gone():
    gone = [
        (module, name)
        for module, name in UPWARD
        if module not in MODULES
        or name not in forbidden(module, MODULES[module].read_text(encoding="utf-8"))
    ]
    assert gone == []


def edges_between_rooms():
    """The rooms that each room imports from, without the ground, which all stand on."""
    ground = {"plots", "checks", "files", "messages"}
    edges = {room: set() for room in ROOMS if room not in ground}
    for module, path in MODULES.items():
        for name in imported(path.read_text(encoding="utf-8"), module):
            pair = room_of(module), room_of(name)
            if pair[0] in edges and pair[1] in edges and (module, name) not in UPWARD:
                edges[pair[0]].add(pair[1])
    return {room: below - {room} for room, below in edges.items()}


def test_the_picture_shows_the_imports_between_rooms():
    """An arrow for each import that no longer way through other rooms implies."""
    edges = edges_between_rooms()

    def reach(rooms):
        return rooms | {far for room in rooms for far in reach(edges[room])}

    needed = {
        (room, below)
        for room, rooms in edges.items()
        for below in rooms
        if below not in reach(set().union(*(edges[other] for other in rooms)))
    }
    (picture,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    arrows = set()
    for line in picture.splitlines():
        if "-->" in line:
            start, ends = line.split("-->")
            arrows |= {(start.strip(), end.strip()) for end in ends.split("&")}
    assert arrows == needed


def test_rooms_export_nothing_of_their_own():
    """An import names its room and file, so that a broken file breaks only who needs it."""
    for room in ("model", "tokenization", "data", "training", "generation", "pretrained"):
        init = (PACKAGE / room / "__init__.py").read_text(encoding="utf-8")
        assert [type(node) for node in ast.parse(init).body] == [ast.Expr], f"{room} has code"


def test_the_engine_of_the_exercises_imports_no_other_room():
    """The checks beside it may: those of a notebook use what the notebooks before it export."""
    source = (PACKAGE / "exercises" / "__init__.py").read_text(encoding="utf-8")
    assert imported(source, "exercises") == set()


def test_checks_are_called_by_their_room():
    """`checks.name(...)` is seen at once, by readers and by tools/measure.py."""
    texts = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}
    assert [name for name, text in texts.items() if "from llmlib.checks import" in text] == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("model.attention", "from llmlib.training.trainer import Trainer"),
        ("model.attention", "def f():\n    import llmlib.generation.sampling as g"),
        ("tokenization.base", "from llmlib.model import gpt"),
        ("data.batches", "from ..model.gpt import GPT"),
        ("stories", "from llmlib.data.corpora import load"),
        ("training.loss", "from llmlib.evaluation import perplexity"),
        ("training.loss", "from llmlib.training.trainer import Trainer"),
        ("model.attention", "import llmlib.model.gpt"),
        ("model.attention", "from .gpt import GPT"),
        ("model.attention", "from . import gpt"),
    ],
)
def test_an_import_that_goes_up_is_found(module, source):
    assert forbidden(module, source)


@pytest.mark.parametrize(
    "module, source",
    [
        ("data.corpora", "from llmlib.stories import tell"),
        ("model.gpt", "from llmlib.model import attention\nimport torch"),
        ("stories", "from llmlib.stories.grammar import RULES"),
        ("__main__", "from llmlib.cli import settings"),
    ],
)
def test_an_import_that_goes_down_is_allowed(module, source):
    assert forbidden(module, source) == set()


def test_no_check_hides_another_of_the_same_name():
    """`llmlib.checks` imports the names of all its files, and the last one of a name would win."""
    files: dict[str, list[str]] = {}
    for path in sorted((PACKAGE / "checks").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                files.setdefault(node.name, []).append(path.name)
    assert not {name: found for name, found in files.items() if len(found) > 1}
