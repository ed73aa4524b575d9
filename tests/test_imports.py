"""Imports in the package go down only, and never back."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "llmlib"

# From the top down. A module imports from rooms below its own; the ground imports only the ground.
ROOMS = {
    "cli": "__main__",
    "its commands": "cli",
    "ways to write": "decoding streaming",
    "weights and speed": "gpt2 inference minimal",
    "their parts": "quantized sampling",
    "GPT-2's folders": "gpt2_files gpt2_vocabulary",
    "training": "train checkpoint generate",
    "measure": "loss",
    "model": "gpt",
    "subwords": "bpe",
    "subwords' parts": "bpe_files bpe_training wordpiece unigram",
    "parts": "attention embeddings data tokenizers tensor_bundle",
    "texts": "corpora",
    "ground": "download stories wiki vector_files sstable crc plots exercises",
}
LEVEL = {name: -depth for depth, names in enumerate(ROOMS.values()) for name in names.split()}
GROUND = min(LEVEL.values())


def imported(source):
    """The modules of the package that a module imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = "llmlib." * bool(node.level) + (node.module or "")
            names = [f"{package}.{alias.name}".replace("..", ".") for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {part[1] for part in parts if part[0] == "llmlib" and len(part) > 1}
    return found


def forbidden(module, source):
    """The imports of a module that do not go down."""
    here = LEVEL[module]
    return {
        name
        for name in imported(source) - {module}
        if name in LEVEL and not (LEVEL[name] < here or LEVEL[name] == here == GROUND)
    }


# Each file and the room it belongs to: a package such as `stories` stands where its name stands.
FILES = {
    path.relative_to(PACKAGE).as_posix(): path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name != "exercises" and path != PACKAGE / "__init__.py"
}


@pytest.mark.parametrize("file", FILES)
def test_imports_go_down_only(file):
    module = FILES[file]
    assert module in LEVEL, f"{module} has no room: give it one in ROOMS and in the design"
    assert forbidden(module, (PACKAGE / file).read_text(encoding="utf-8")) == set()


def test_the_engine_of_the_exercises_imports_no_other_room():
    """The checks beside it may: those of a notebook use what the notebooks before it export."""
    engine = PACKAGE / "exercises" / "__init__.py"
    assert forbidden("exercises", engine.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "module, source",
    [
        ("attention", "from llmlib.gpt import GPT"),
        ("attention", "def f():\n    import llmlib.gpt as g"),
        ("attention", "from llmlib import data"),
        ("attention", "from .train import fit"),
        ("attention", "from . import gpt"),
        ("stories", "from llmlib.corpora import load"),
        ("loss", "from llmlib.generate import sample"),
    ],
)
def test_an_import_up_or_sideways_is_found(module, source):
    assert len(forbidden(module, source)) == 1


@pytest.mark.parametrize(
    "module, source",
    [
        ("corpora", "from llmlib.stories import tell"),
        ("gpt", "from llmlib import attention\nimport torch"),
        ("stories", "from llmlib.stories.grammar import RULES"),
        ("__main__", "from llmlib.cli import config"),
    ],
)
def test_an_import_down_is_allowed(module, source):
    assert forbidden(module, source) == set()
