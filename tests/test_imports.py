"""Imports in the package go down only: from room to lower room, and in a room from file to file."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "llmlib"

# From the top down, as docs/architecture.md draws it. A file imports from rooms below its own.
ROOMS = [
    "__main__",
    "cli",
    "exercises",
    "finetuning",
    "evaluation",
    "interpretability",
    "serving",
    "pretrained",
    "generation",
    "training",
    "model",
    "tokenization",
    "data",
    "stories",
    "minimal",
    "plots",
    "checks",
    "files",
]
LEVEL = {room: -depth for depth, room in enumerate(ROOMS)}

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
    """The imports of a module that go up, to a higher room."""
    here = LEVEL[room_of(module)]
    return {name for name in imported(source, module) if LEVEL[room_of(name)] > here}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_to_lower_rooms_only(module):
    assert room_of(module) in LEVEL, f"{room_of(module)} is no room: add it to ROOMS and the map"
    upward = forbidden(module, MODULES[module].read_text(encoding="utf-8"))
    assert {(module, name) for name in upward} <= UPWARD


def test_no_known_exception_is_kept_after_it_is_gone():
    gone = [
        (module, name)
        for module, name in UPWARD
        if module not in MODULES
        or name not in forbidden(module, MODULES[module].read_text(encoding="utf-8"))
    ]
    assert gone == []


def test_files_import_each_other_in_no_circle():
    graph = {
        module: imported(path.read_text(encoding="utf-8"), module) - {module}
        for module, path in MODULES.items()
    }
    graph = {module: {name for name in names if name in graph} for module, names in graph.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


def test_rooms_export_nothing_of_their_own():
    """An import names its room and file, so that a broken file breaks only who needs it."""
    for room in ("model", "tokenization", "data", "training", "generation", "pretrained"):
        init = (PACKAGE / room / "__init__.py").read_text(encoding="utf-8")
        assert [type(node) for node in ast.parse(init).body] == [ast.Expr], f"{room} has code"


@pytest.mark.parametrize(
    "module, source",
    [
        ("model.attention", "from llmlib.training.trainer import Trainer"),
        ("model.attention", "def f():\n    import llmlib.generation.sampling as g"),
        ("tokenization.base", "from llmlib.model import gpt"),
        ("data.batches", "from ..model.gpt import GPT"),
        ("stories", "from llmlib.data.corpora import load"),
        ("training.loss", "from llmlib.evaluation import perplexity"),
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
        ("__main__", "from llmlib.cli import config"),
    ],
)
def test_an_import_that_goes_down_is_allowed(module, source):
    assert forbidden(module, source) == set()
