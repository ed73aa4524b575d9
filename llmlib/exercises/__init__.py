"""The checks of the exercises: `check("01.2", my_function)` says *solved*, or what is wrong.

Written by hand. The checks of each notebook stand in a module of their own (`data_preparation`,
`embeddings`, ...), which is imported when its first exercise is checked. A check is a generator:
it receives the learner's function and yields cases, each a call and what it should give.

    @exercise("01.1")
    def reversed_words(answer):
        yield case(answer, "a b", expected="b a")
        yield case(answer, "", expected="")

Cases are evaluated one at a time, so that the first failure is the one reported.
"""

import inspect
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
}

CHECKS: dict[str, Callable[[Callable], Iterator["Case"]]] = {}


@dataclass(frozen=True)
class Case:
    """One call of the learner's function, and what it must give.

    `expected` is compared with the result; where it is a function, it is called with the result
    and must return True, and `saying` tells in words what it asks for.
    """

    answer: Callable
    args: tuple
    kwargs: dict
    expected: Any
    saying: str | None
    tolerance: float

    @property
    def call(self) -> str:
        """The call as a learner would type it: `count_words('a b a')`."""
        named = [f"{name}={brief(value)}" for name, value in self.kwargs.items()]
        return f"{self.answer.__name__}({', '.join([*map(brief, self.args), *named])})"

    def failure(self) -> str | None:
        """Run the case; None if it passes, otherwise a sentence that says what went wrong."""
        wanted = self.saying or brief(self.expected)
        try:
            result = self.answer(*self.args, **self.kwargs)
        except NotImplementedError:
            return f"{self.call} should give {wanted}"
        except Exception as error:
            return f"{self.call} should give {wanted}, but raised {type(error).__name__}: {error}"
        if self.matches(result):
            return None
        gave = brief(result)
        if gave == wanted:  # the difference is in a later digit
            gave, wanted = brief(result, digits=17), brief(self.expected, digits=17)
        return f"{self.call} should give {wanted}, but gave {gave}"

    def matches(self, result: Any) -> bool:
        """Whether the result is what was expected; a comparison that cannot be made is a no."""
        try:
            if callable(self.expected):
                return bool(self.expected(result))
            return same(result, self.expected, self.tolerance)
        except Exception:
            return False


def case(
    answer: Callable,
    *args: Any,
    expected: Any,
    saying: str | None = None,
    tolerance: float = 1e-5,
    **kwargs: Any,
) -> Case:
    """Describe one call of `answer` and what it must give: a value, or a test of the result."""
    return Case(answer, args, kwargs, expected, saying, tolerance)


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
    if not (inspect.isroutine(answer) or inspect.isclass(answer) or callable(answer)):
        raise TypeError(f"check({name!r}, ...) takes the function itself, not {brief(answer)}")
    return next((text for case in CHECKS[name](answer) if (text := case.failure())), None)


def check(name: str, answer: Callable) -> None:
    """Print whether `answer` solves exercise `name`, and if not, what was expected.

    Raises as `failure` does.
    """
    wrong = failure(name, answer)
    print(f"Exercise {name}: not solved yet. {wrong}." if wrong else f"Exercise {name}: solved.")


def same(result: Any, expected: Any, tolerance: float) -> bool:
    """Compare values and containers of them: arrays, tensors and floats to within a tolerance."""
    if isinstance(expected, (torch.Tensor, np.ndarray)):
        kind = torch.Tensor if isinstance(expected, torch.Tensor) else np.ndarray
        if not isinstance(result, kind) or result.shape != expected.shape:
            return False
        result, expected = torch.as_tensor(result), torch.as_tensor(expected)
        return result.is_floating_point() <= expected.is_floating_point() and torch.allclose(
            result.double(), expected.double(), rtol=tolerance, atol=tolerance
        )
    if isinstance(expected, int) and not isinstance(expected, bool):  # NumPy's integers count too
        integral = isinstance(result, Integral) and not isinstance(result, bool)
        return integral and int(result) == expected
    if isinstance(expected, float):
        return abs(float(result) - expected) <= tolerance * max(1.0, abs(expected))
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


class Written(str):
    """A text that is its own `repr`."""

    __repr__ = str.__str__


def brief(value: Any, width: int = 100, digits: int = 4) -> str:
    """`repr` on one line, floats in a few digits, with the middle left out where it is long."""

    def short(value: Any) -> Any:
        if type(value) is float:  # below 1, digits that count, so that 1e-7 is not shown as 0
            return round(value, digits) if abs(value) >= 1 else float(f"{value:.{digits}g}")
        if type(value) in (list, tuple):
            return type(value)(map(short, value))
        if type(value) is dict:
            return {key: short(item) for key, item in value.items()}
        if type(value) is set and value:  # whose order changes from run to run
            return Written("{" + ", ".join(sorted(map(repr, value))) + "}")
        return value

    if isinstance(value, torch.Tensor):
        head = f"tensor of shape {tuple(value.shape)}"
        text = f"{head}: {short(value.tolist())}" if value.numel() <= 16 else head
    elif isinstance(value, np.ndarray):
        text = f"array of shape {value.shape}: {short(value.tolist())}"
    else:
        text = getattr(value, "__name__", None) or " ".join(repr(short(value)).split())
    return text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 3 :]}"
