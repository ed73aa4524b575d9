"""The checks of the exercises: `check("01.2", my_function)` says *solved*, or what is wrong.

Written by hand. The checks of each notebook are in a module with the name of its subject
(`data_preparation`, `embeddings`, ...), which is imported when its first exercise is checked. A
check is a generator of cases, each a call of the learner's function and what it should give.

    @exercise("01.1")
    def reversed_words():
        yield case("a b", expected="b a")
        yield case("", expected="")

Cases run one at a time, so that the first failure is the one reported.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from typing import Any

import numpy as np
import torch

MODULES = {
    "01": "data_preparation",
    "02": "embeddings",
    "03": "attention",
    "04": "gpt",
    "05": "loss",
    "06": "pretraining",
    "07": "gpt2_weights",
    "08": "minimal",
    "09": "tokenizers",
    "10": "inference",
    "11": "modern",
    "12": "long_context",
    "13": "experts",
}

CHECKS: dict[str, Callable[[], Iterator["Case"]]] = {}


@dataclass(frozen=True)
class Case:
    """One call of the learner's function, and what it has to give.

    `expected` is compared with the result; if it is a function, it is called with the result and
    has to return True, and `saying` tells in words what it asks for. `through` turns the learner's
    function into the one that is called. `mistakes` names wrong results: words on what went wrong,
    and the result (or a test of it) that they are about.
    """

    args: tuple
    kwargs: dict
    expected: Any
    saying: str | None
    tolerance: float
    through: Callable[[Any], Any] | None
    mistakes: dict[str, Any]

    def failure(self, answer: Any) -> str | None:
        """Run the case; return None if it passes, otherwise a sentence on what went wrong."""
        function = self.through(answer) if self.through else answer
        named = [f"{name}={shorten(value)}" for name, value in self.kwargs.items()]
        call = f"{function.__name__}({', '.join([*map(shorten, self.args), *named])})"
        wanted = self.saying or shorten(self.expected)
        try:
            result = function(*self.args, **self.kwargs)
        except NotImplementedError:
            return f"{call} should give {wanted}"
        except Exception as error:
            return f"{call} should give {wanted}, but raised {type(error).__name__}: {error}"
        if self.matches(result, self.expected):
            return None
        named_mistake = (
            f": {it}" for it, bad in self.mistakes.items() if self.matches(result, bad)
        )
        gave = shorten(result)
        if gave == wanted:  # the difference is in a later digit
            gave, wanted = shorten(result, digits=17), shorten(self.expected, digits=17)
        return f"{call} should give {wanted}, but gave {gave}{next(named_mistake, '')}"

    def matches(self, result: Any, expected: Any) -> bool:
        """Tell whether a result is as expected; a comparison that fails means that it is not."""
        try:
            if callable(expected):
                return bool(expected(result))
            return same(result, expected, self.tolerance)
        except Exception:
            return False


def case(
    *args: Any,
    expected: Any,
    saying: str | None = None,
    tolerance: float = 1e-5,
    through: Callable[[Any], Any] | None = None,
    mistakes: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Case:
    """Describe one call and what it has to give: a value, or a test of the result; see `Case`."""
    return Case(args, kwargs, expected, saying, tolerance, through, mistakes or {})


def exercise(name: str) -> Callable:
    """Register the decorated generator of cases as the check of exercise `name`, such as "03.2"."""

    def register(check_function: Callable) -> Callable:
        if name in CHECKS:
            raise ValueError(f"exercise {name} is defined twice")
        CHECKS[name] = check_function
        return check_function

    return register


def failure(name: str, answer: Callable) -> str | None:
    """Return None if `answer` solves exercise `name`, else a sentence on the first failed case.

    Raises ValueError for an exercise that does not exist, and TypeError for an answer that cannot
    be called.
    """
    if module := MODULES.get(name[:2]):
        import_module(f"{__name__}.{module}")
    if name not in CHECKS:
        raise ValueError(
            f"no exercise {name!r}: there are {', '.join(sorted(CHECKS)) or 'none yet'}"
        )
    if not callable(answer):
        raise TypeError(f"check({name!r}, ...) takes the function itself, not {shorten(answer)}")
    return next((text for case in CHECKS[name]() if (text := case.failure(answer))), None)


def check(name: str, answer: Callable) -> None:
    """Print whether `answer` solves exercise `name`, and if not, what was expected.

    Raises as `failure` does.
    """
    wrong = failure(name, answer)
    print(f"Exercise {name}: not solved yet. {wrong}." if wrong else f"Exercise {name}: solved.")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers that are the same in every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(result: Any, expected: Any, tolerance: float) -> bool:
    """Compare values and containers of them: arrays, tensors and floats to within a tolerance.

    Infinity equals infinity of the same sign, and NaN equals NaN.
    """
    if isinstance(expected, (torch.Tensor, np.ndarray)):
        kind = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
        if not isinstance(result, kind) or result.shape != expected.shape:
            return False
        result, expected = torch.as_tensor(result), torch.as_tensor(expected)
        return result.is_floating_point() <= expected.is_floating_point() and torch.allclose(
            result.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    if isinstance(expected, int) and not isinstance(expected, bool):  # NumPy's integers count too
        integral = isinstance(result, Integral) and not isinstance(result, bool)
        return integral and int(result) == expected
    if isinstance(expected, float):
        found, bounds = float(result), {"rel_tol": tolerance, "abs_tol": tolerance}
        return math.isclose(found, expected, **bounds) or (found != found and expected != expected)
    if isinstance(expected, dict):
        return result.keys() == expected.keys() and all(
            same(result[key], value, tolerance) for key, value in expected.items()
        )
    if isinstance(expected, (list, tuple)):
        return (
            type(result) is type(expected)
            and len(result) == len(expected)
            and all(same(a, b, tolerance) for a, b in zip(result, expected))
        )
    return type(result) is type(expected) and bool(result == expected)


class Verbatim(str):
    """A text that is its own `repr`."""

    __repr__ = str.__str__


def shorten(value: Any, width: int = 100, digits: int = 4) -> str:
    """Return `repr` on one line, floats in a few digits, without the middle if it is long."""

    def rounded(value: Any) -> Any:
        """Return a value with its floats in a few digits, also within lists and tuples."""
        if type(value) is float:  # below 1, digits that count, so that 1e-7 is not shown as 0
            return round(value, digits) if abs(value) >= 1 else float(f"{value:.{digits}g}")
        if type(value) in (list, tuple):
            return type(value)(map(rounded, value))
        if type(value) is dict:
            return {key: rounded(item) for key, item in value.items()}
        if type(value) is set and value:  # whose order changes from run to run
            return Verbatim("{" + ", ".join(sorted(map(repr, value))) + "}")
        return value

    if isinstance(value, torch.Tensor):
        head = f"tensor of shape {tuple(value.shape)}"
        text = f"{head}: {rounded(value.tolist())}" if value.numel() <= 16 else head
    elif isinstance(value, np.ndarray):
        text = f"array of shape {value.shape}: {rounded(value.tolist())}"
    else:
        text = getattr(value, "__name__", None) or " ".join(repr(rounded(value)).split())
    return text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 3 :]}"
