"""For the checks of notebook 05: what 05.6 asks for in exact numbers, and what answers must not do.

Written by hand. A gradient is asked for without autograd. A hidden chain is followed with whole
numbers of any size. The counts of the compressor look at the variables of the coder that calls.
"""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import CodeType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Matrix = list[list[Fraction]]
DERIVES = {"autograd", "backward", "grad", "inference_mode", "jacfwd", "jacrev", "jvp", "vjp"}


def product(a: Matrix, b: Matrix) -> Matrix:
    """Return the product of two matrices."""
    return [
        [sum((x * y for x, y in zip(row, column)), Fraction()) for column in zip(*b)] for row in a
    ]


def silent_walks(transitions: Matrix, silent: list[bool], most: int | None) -> Matrix:
    """Return how often each state is reached from each in silent steps, from itself in none.

    most: the most silent steps that are counted, a mistake; None for any number of them.
    """
    S = len(silent)
    unity = [[Fraction(i == j) for j in range(S)] for i in range(S)]
    steps = [[x * silent[i] for x in transitions[i]] for i in range(S)]
    if most is not None:
        found = unity
        for _ in range(most):
            found = [[u + x for u, x in zip(*rows)] for rows in zip(unity, product(steps, found))]
        return found
    # Gauss and Jordan find the inverse of unity - steps, which needs no exchange of rows
    rows = [[u - x for u, x in zip(unity[i], steps[i])] + unity[i] for i in range(S)]
    for i in range(S):
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in set(range(S)) - {i}:
            rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i])]
    return [row[S:] for row in rows]


def hidden_log_probs(
    ids: list[int],
    start: torch.Tensor,
    transitions: torch.Tensor,
    shows: torch.Tensor,
    *,
    most: int | None = None,
    add: Callable = sum,
    forget: bool = False,
) -> torch.Tensor:
    """Return what 05.6 asks for. most, add, forget: mistakes to make on purpose."""
    table, words, [begin] = (
        [[Fraction(x) for x in row] for row in part.tolist()]
        for part in (transitions, shows, start[None])
    )
    silent = [not any(row) for row in words]
    walks = silent_walks(table, silent, most)
    first, steps = product([begin], walks)[0], product(table, walks)
    factor = math.lcm(*(x.denominator for row in [first, *steps, *words] for x in row))
    reached, *hops = ([int(x * factor) for x in row] for row in [first, *steps])  # whole numbers
    seen = [[int(x * factor) for x in column] for column in zip(*words)]
    before, found = 1, []
    for token in ids:
        shown = [a * b for a, b in zip(reached, seen[token])]
        now = add(shown)
        in_all = before * factor**2  # a word brings the factor twice: a step, and what is shown
        found.append(math.log(now) - math.log(in_all) if now else -math.inf)
        if forget:
            shown = [0 if quiet else a * factor for a, quiet in zip(reached, silent)]
        before = add(shown) or 1
        reached = [add(a * b for a, b in zip(shown, column)) for column in zip(*hops)]
    return torch.tensor(found, dtype=torch.float64)


def names_in(code: CodeType) -> set[str]:
    """Return the names that a function looks up, those of functions within it included."""
    inner = (names_in(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def without_autograd(answer: Callable) -> Callable:
    """Return the answer, called with copies where nothing is recorded for a gradient."""

    def refuse(used: set[str]) -> None:
        if used:
            raise RuntimeError(f"use the formula, without autograd ({', '.join(sorted(used))})")

    @functools.wraps(answer)
    def called(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the answer for copies, with autograd out of reach."""
        code = getattr(answer, "__code__", None)
        try:
            with torch.inference_mode():
                result = answer(logits.clone(), targets.clone())
        except RuntimeError as error:
            refuse({"autograd"} if "does not require grad" in str(error) else set())
            raise
        refuse(names_in(code) & DERIVES if code else set())
        return result

    return called


class AtMost(TorchDispatchMode):
    """Counts the operations on tensors, and stops at a limit."""

    def __init__(self, limit: float, words: str):
        super().__init__()
        self.limit, self.words = limit, words

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Count one operation."""
        self.limit -= 1
        if self.limit < 0:
            raise RuntimeError(self.words)
        return func(*args, **(kwargs or {}))


def numbers_in(value: Any) -> Iterator[int]:
    """Yield the whole numbers of a variable: itself, of a fraction, or of a few in a container."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, Fraction):
        yield from (value.numerator, value.denominator)
    elif isinstance(value, (list, tuple)) and len(value) <= 8:
        for item in value:
            yield from numbers_in(item)


class Counts:
    """The counts of the next token, for a coder whose variables are looked at in each call.

    Raises OverflowError for a variable of more than 64 bits, and RuntimeError for many more calls
    than a text has tokens.
    """

    def __init__(self, name: str, count: Callable[[list[int]], list[int]], n_tokens: int):
        self.__name__, self.count = name, count
        self.calls, self.limit = 0, 10 * n_tokens + 100

    def __call__(self, ids: list[int]) -> list[int]:
        """Return the counts after these tokens."""
        self.calls += 1
        if self.calls > self.limit:
            raise RuntimeError("the end-of-text token, 0, is not found: it goes on and on")
        frame = sys._getframe(1)
        while frame and not frame.f_globals.get("__name__", "").startswith("llmlib.exercises"):
            for name, value in frame.f_locals.items():
                self.look(name, value)
                if name == "self":
                    for part, inner in vars(value).items():
                        self.look(f"self.{part}", inner)
            frame = frame.f_back
        return list(self.count(list(ids)))

    def look(self, name: str, value: Any) -> None:
        """Raise OverflowError if a number in a variable needs more than 64 bits."""
        bits = max((number.bit_length() for number in numbers_in(value)), default=0)
        if bits > 64:
            raise OverflowError(f"{name} needs {bits} bits, and 64 are the most")


def information(count: Callable[[list[int]], list[int]], ids: list[int]) -> float:
    """Return -log2 of the probability that counts give to a text."""
    tables = [count(ids[:t]) for t in range(len(ids))]
    return -sum(math.log2(n[token] / sum(n)) for n, token in zip(tables, ids))


def encodes(answer: Any) -> Callable:
    """Return the method `encode` of the answer's class."""

    def called(ids, counts):
        return answer().encode(list(ids), counts)

    called.__name__ = f"{answer.__name__}().encode"
    return called


def comes_back(answer: Any) -> Callable:
    """Return a function that encodes a text, and decodes it with other bits behind."""

    def called(ids, counts, after):
        bits = answer().encode(list(ids), counts)
        counts.calls = 0
        return answer().decode(bits + after, counts)

    called.__name__ = f"{answer.__name__}().encode, then decode"
    return called
