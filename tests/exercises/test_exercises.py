"""Each check refuses the stub and plausible wrong answers, and accepts the solution."""

import ast
import importlib.util
import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from llmlib import exercises
from llmlib.exercises import CHECKS, case, check, exercise, failure

ROOT = Path(__file__).resolve().parents[2]
WRONG = {}
for path in sorted((ROOT / "tests" / "exercises" / "wrong_answers").glob("[0-9][0-9].py")):
    spec = importlib.util.spec_from_file_location(f"wrong_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    WRONG |= module.WRONG


def exercise_stubs():
    """Yield (exercise, source of the stub) for every `check("NN.k", name)` in the notebooks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for found in re.finditer(r'^check\("([\d.]+)", (\w+)\)', cell.source, re.MULTILINE):
                yield pytest.param(*found.groups(), cell.source, id=found[1])


STUBS = list(exercise_stubs())
NAMES = [stub.values[0] for stub in STUBS]


@pytest.mark.parametrize(("name", "function", "source"), STUBS)
def test_the_stub_is_not_solved_yet(name, function, source):
    stub = next(node for node in ast.parse(source).body if getattr(node, "name", None) == function)
    stub.decorator_list = []
    namespace = {}
    exec("from __future__ import annotations\n" + ast.unparse(stub), namespace)
    answer = namespace[function]
    text = failure(name, answer)
    assert text and function in text and "should give" in text


@pytest.mark.parametrize("name", NAMES)
def test_plausible_wrong_answers_are_refused(name):
    assert WRONG.get(name), f"tests/exercises/wrong_answers has none for exercise {name}"
    for wrong in WRONG[name]:
        assert failure(name, wrong), f"the check of {name} accepts {wrong.__name__}"


@pytest.mark.parametrize("name", NAMES)
def test_the_solutions_notebook_solves_it(name):
    """nbval tests that its cells run without an error; this tests that no exercise is left out."""
    path = next((ROOT / "notebooks" / "solutions").glob(f"{name[:2]}_*.ipynb"))
    cells = nbformat.read(path, as_version=4).cells
    outputs = [out.get("text", "") for cell in cells for out in cell.get("outputs", [])]
    assert f"Exercise {name}: solved.\n" in "".join(outputs)


def test_every_notebook_has_three_to_eight_exercises_and_every_check_is_used():
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        used = [name for name in NAMES if name.startswith(path.name[:2])]
        assert 3 <= len(used) <= 8, f"{path.name} has {len(used)} exercises"
        with pytest.raises(ValueError, match="no exercise"):
            failure(f"{path.name[:2]}.99", len)
    assert sorted(name for name in CHECKS if not name.startswith("00")) == sorted(NAMES)


@pytest.fixture
def registered():
    @exercise("00.1")
    def doubled():
        yield case(2, expected=4)
        yield case([1.0], expected=lambda result: len(result) == 2, saying="two numbers")

    yield
    del CHECKS["00.1"]


def test_a_check_tells_what_was_expected(registered, capsys):
    def stub(value):
        raise NotImplementedError

    def adds_one(value):
        return value + 1

    check("00.1", stub)
    check("00.1", adds_one)
    check("00.1", lambda value: 2 * value)
    assert capsys.readouterr().out.splitlines() == [
        "Exercise 00.1: not solved yet. stub(2) should give 4.",
        "Exercise 00.1: not solved yet. adds_one(2) should give 4, but gave 3.",
        "Exercise 00.1: solved.",
    ]


def test_an_error_in_an_answer_is_reported_and_not_raised(registered):
    def breaks(value):
        return value / 0

    assert "but raised ZeroDivisionError" in failure("00.1", breaks)

    def half_right(value):
        return 4 if value == 2 else 5

    assert failure("00.1", half_right) == "half_right([1.0]) should give two numbers, but gave 5"


def test_what_is_not_a_function_or_not_an_exercise_is_refused(registered):
    with pytest.raises(TypeError, match="takes the function itself, not 4"):
        failure("00.1", 4)
    with pytest.raises(ValueError, match=r"no exercise '77\.1'"):
        failure("77.1", len)
    with pytest.raises(ValueError, match="defined twice"):
        exercise("00.1")(len)


@pytest.mark.parametrize(
    ("result", "expected", "equal"),
    [
        (1.0000001, 1.0, True),
        (1.001, 1.0, False),
        (float("nan"), 1.0, False),
        (1, 1.0, True),
        (1.0, 1, False),
        (True, 1, False),
        ("1", 1, False),
        ([1, 2], [1, 2], True),
        ((1, 2), [1, 2], False),
        ([1], [1, 2], False),
        ({"a": 0.5}, {"a": 0.5}, True),
        ({"b": 0.5}, {"a": 0.5}, False),
        (torch.ones(2), torch.ones(2), True),
        (torch.ones(2), torch.ones(1, 2), False),
        (torch.ones(2) * 1.01, torch.ones(2), False),
        (torch.full((2,), torch.nan), torch.ones(2), False),
        (np.ones(2), np.ones(2), True),
        (np.ones(2), torch.ones(2), False),
        ([1.0, 1.0], torch.ones(2), False),
        (torch.ones(2), torch.ones(2, dtype=torch.long), False),
        (torch.ones(2, dtype=torch.long), torch.ones(2), True),
        (None, torch.ones(2), False),
        (None, 1.0, False),
        (None, {"a": 1}, False),
    ],
)
def test_results_are_compared_with_care(result, expected, equal):
    assert case(expected=expected).matches(result, expected) is equal


def test_a_mistake_that_the_check_knows_is_named():
    wrong = {"that is the square": 9, "that is no number": lambda result: isinstance(result, str)}
    tried = case(3, expected=6, mistakes=wrong)

    def f(value):
        return answer

    for answer, words in [(9, ": that is the square"), ("six", ": that is no number"), (7, "")]:
        assert tried.failure(f) == f"f(3) should give 6, but gave {answer!r}{words}"
    answer = 6
    assert tried.failure(f) is None


def test_long_values_are_shortened():
    assert len(exercises.shorten(list(range(1000)))) < 110
    assert exercises.shorten(torch.zeros(3, 4, 5)) == "tensor of shape (3, 4, 5)"
    assert "[1, 2]" in exercises.shorten(torch.tensor([1, 2]))


def test_values_are_written_alike_on_every_machine():
    assert exercises.shorten([0.123456789, 12.345678, 1.2346e-7]) == "[0.1235, 12.3457, 1.235e-07]"
    assert exercises.shorten(({"b", "a"}, {"x": 2 / 3})) == "({'a', 'b'}, {'x': 0.6667})"
    assert exercises.shorten(torch.tensor([1 / 3])) == "tensor of shape (1,): [0.3333]"


def test_a_small_difference_is_shown_in_full():
    def nearly(value):
        return 0.3333

    said = case(1, expected=1 / 3).failure(nearly)
    assert said == "nearly(1) should give 0.3333333333333333, but gave 0.3333"


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: [x], lambda x: torch.tensor([x]), np.array]
)
def test_values_that_are_not_finite_equal_themselves_alone(wrap):
    values = [math.inf, -math.inf, math.nan, 0.0, 1e30]
    for expected in values:
        for found in values:
            is_same = exercises.same(wrap(found), wrap(expected), 1e-6)
            assert is_same == (repr(found) == repr(expected)), (found, expected)
