"""Checks of the exercises of notebook 05."""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from types import CodeType

import torch

from llmlib.exercises import case, exercise, noise

DERIVES = {"autograd", "backward", "grad", "inference_mode", "jacfwd", "jacrev", "jvp", "vjp"}


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


@exercise("05.1")
def the_gradient_is_what_autograd_finds():
    """05.1: the gradient of the cross-entropy by its formula, without the targets of -100."""

    def given(logits, targets):
        """Return a case: logits and targets, and the gradient that the formula gives."""
        logits, targets = torch.tensor(logits), torch.tensor(targets)
        counts = (targets != -100)[:, None]
        one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), logits.shape[1])
        of_sum = (logits.softmax(dim=-1) - one_hot).where(counts, 0)
        n, N = int(counts.sum()), len(targets)
        mistakes = {
            "it is p − [i = y], not the other way round": -of_sum / n,
            "nothing is taken from the targets": logits.softmax(dim=-1) * counts / n,
            "exp overflows: subtract the largest logit": lambda result: bool(result.isnan().any()),
        }
        if n > 1:
            mistakes["that is of the sum, not of the mean"] = of_sum
        if n < N:
            mistakes["divide by the targets that count, not by all rows"] = of_sum / N
            mistakes["rows of −100 have no gradient"] = lambda g: bool(g[targets == -100].any())
        return case(
            logits, targets, expected=of_sum / n, through=without_autograd, mistakes=mistakes
        )

    yield given([[0.0, 0.0]], [0])
    yield given([[0.0, 0.0], [2.0, 1.0]], [0, 1])
    yield given([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [3.0, -1.0, 1.0]], [2, -100, 0])
    yield given([[200.0, 0.0], [0.0, 200.0]], [0, 0])


@exercise("05.2")
def perplexity_is_a_number_of_choices():
    """05.2: perplexity, also of a long text and of one called impossible."""
    bases = "the bases of logarithm and exponential differ"
    loss = "that is the loss"
    yield case([0.5, 0.5, 0.5], expected=2.0, mistakes={loss: math.log(2), bases: math.e})
    yield case(
        [0.5, 0.125],
        expected=4.0,
        mistakes={
            "average the surprises, not the numbers of choices": 5.0,
            "average the surprises, not the probabilities": 3.2,
        },
    )
    yield case([1.0], expected=1.0)
    yield case(
        [0.1] * 2000,
        expected=lambda result: abs(result - 10) < 1e-6,
        saying="10.0, for a long text too",
        mistakes={"the product of the probabilities underflows": math.inf},
    )
    yield case(
        [0.5, 0.0],
        expected=lambda result: result == math.inf,
        saying="inf, because the model called impossible what came",
    )


@exercise("05.3")
def the_best_volume_is_found():
    """05.3: the factor of the logits for which the mean loss is lowest."""

    def slope(logits, targets, scale):
        """Return the derivative of the mean loss with respect to the scale."""
        p = (scale * logits).softmax(-1)
        chosen = logits.gather(1, targets[:, None]).squeeze(1)
        return ((p * logits).sum(-1) - chosen).mean()

    def given(logits, targets):
        """Return a case with the scale that bisection finds."""
        low, high, double = -12.0, 12.0, logits.double()  # its logarithm
        for _ in range(80):
            middle = (low + high) / 2
            if slope(double, targets, math.exp(middle)) < 0:
                low = middle
            else:
                high = middle
        best = math.exp(low)

        def near(value):
            return lambda result: abs(float(result) / value - 1) < 0.02

        return case(
            logits,
            targets,
            expected=lambda result: abs(float(result) / best - 1) < 0.011,
            saying=f"{best:.4g}, to within one percent",
            mistakes={
                "that is what to divide by, not to multiply with": near(1 / best),
                "a search in steps of 0.1 is too coarse": near(round(best, 1))
                if best > 0.05
                else 0,
                "the best factor may be far below 0.1": lambda result: best < 0.1 <= result < 0.2,
                "the best factor may be far above 10": lambda result: best > 12 > result > 9,
            },
        )

    yield given(torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0, 1]))
    logits = noise(60, 5)
    drawn = torch.multinomial(
        (0.3 * logits).softmax(-1), 1, generator=torch.Generator().manual_seed(1)
    ).squeeze(1)
    yield given(logits, drawn)
    yield given(100 * logits, drawn)
    yield given(logits / 100, drawn)


@exercise("05.4")
def every_token_counts_the_same():
    """05.4: the mean of losses, weighted by their tokens."""
    plain = "that is the mean of the means"
    idle = "a machine without tokens has no loss: nan times 0 is nan"
    yield case([(2.0, 10), (4.0, 10)], expected=3.0)
    yield case([(2.0, 30), (4.0, 10)], expected=2.5, mistakes={plain: 3.0})
    yield case([(1.5, 7)], expected=1.5)
    yield case([(2.0, 30), (math.nan, 0), (4.0, 10)], expected=2.5, mistakes={idle: math.nan})


@exercise("05.5")
def the_divergence_is_measured():
    """05.5: the Kullback-Leibler divergence of two distributions."""
    p, q = {"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 0.75}
    other_way = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    crossed = -0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    yield case(p, dict(p), expected=0.0, mistakes={"that is the entropy of p": math.log(2)})
    yield case(
        dict(p),
        q,
        expected=0.5 * math.log(4 / 3),
        mistakes={
            "that is KL(q‖p)": other_way,
            "that is the cross-entropy: take the entropy off": crossed,
            "these are bits": 0.5 * math.log2(4 / 3),
        },
    )
    yield case({"a": 1.0}, dict(p), expected=math.log(2), mistakes={"that is KL(q‖p)": math.inf})
    yield case({"a": 1.0, "b": 0.0}, dict(p), expected=math.log(2))
    yield case(
        dict(p),
        {"a": 1.0},
        expected=lambda result: result == math.inf,
        saying="inf, because q rules out what p allows",
        mistakes={"a divergence is never negative": lambda result: result < 0},
    )


@exercise("05.6")
def the_floor_of_a_chain_is_found():
    """05.6: the entropy rate of a Markov chain, also of one that goes in circles."""

    def row_entropies(transitions):
        return torch.special.entr(transitions.double()).sum(-1)

    def given(rows, **mistakes):
        """Return the case of a table of transitions."""
        transitions = torch.tensor(rows)
        V = len(rows)
        # π P = π and Σ π = 1: V + 1 equations for V unknowns
        equations = torch.cat([transitions.double().T - torch.eye(V), torch.ones(1, V)])
        right = torch.zeros(V + 1, dtype=torch.float64)
        right[-1] = 1
        shares = torch.linalg.lstsq(equations, right[:, None]).solution[:, 0]
        entropies = row_entropies(transitions)
        named = {
            "the chain does not stand at all tokens equally often": entropies.mean().item(),
            "that is a model that does not look at the token before": (
                torch.special.entr(shares).sum().item()
            ),
            "these are bits": (shares @ entropies).item() / math.log(2),
        }
        floor = (shares @ entropies).item()
        named = {words: wrong for words, wrong in named.items() if abs(wrong - floor) > 1e-3}
        return case(transitions, expected=floor, tolerance=1e-3, mistakes=named | mistakes)

    half = [0.5, 0.5]
    yield given([half, half])
    yield given([[0.875, 0.125], half])
    zero = "0 · ln 0 counts as 0, as its limit is"
    yield given([[0.0, 1.0], half], **{zero: math.nan})
    circles = "this chain goes in circles, so its powers do not settle: take their mean"
    yield given(
        [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
        **{
            circles: lambda result: any(abs(result - x * math.log(2)) < 1e-4 for x in (2 / 3, 1, 0))
        },
    )
    yield given([[0.125, 0.25, 0.625], [0.5, 0.375, 0.125], [0.0, 0.0625, 0.9375]])


@exercise("05.7")
def bytes_are_counted_and_not_characters():
    """05.7: bits per byte of a text in UTF-8."""
    bit = -math.log(2)
    nats = "these are nats"
    yield case(
        "abcd",
        [4 * bit, 4 * bit],
        expected=2.0,
        mistakes={"that is per token": 4.0, nats: 2 * math.log(2), "a cost is positive": -2.0},
    )
    yield case("ab", [bit, bit, bit], expected=1.5, mistakes={"that is per token": 1.0})
    yield case("é", [6 * bit], expected=3.0, mistakes={"that is per character": 6.0})
    yield case("🦊!", [math.log(0.5), math.log(0.25)], expected=0.6)


class Interval:
    """Where a text lies between 0 and 1, and what a string of bits says about that."""

    def __init__(self, ids: list[int], next_probs: Callable):
        self.low, width = Fraction(0), Fraction(1)
        for place, token in enumerate(ids):
            p = next_probs(ids[:place])
            self.low += width * sum(p[:token], Fraction(0))
            width *= p[token]
        self.high, self.bits = self.low + width, 1
        while Fraction(1, 2 ** (self.bits - 1)) > width:
            self.bits += 1  # in the end ⌈−log2 width⌉ + 1

    def ends(self, code: str) -> tuple[Fraction, Fraction]:
        """Return the interval of the numbers that begin with these bits."""
        start = Fraction(int(code or "0", 2), 2 ** len(code))
        return start, start + Fraction(1, 2 ** len(code))

    def holds(self, code: str) -> bool:
        """Tell whether all numbers that begin with these bits are in the interval."""
        start, stop = self.ends(code)
        return self.low <= start and stop <= self.high

    def touches(self, code: str) -> bool:
        """Tell whether some number that begins with these bits is in the interval."""
        start, stop = self.ends(code)
        return start < self.high and stop > self.low


@exercise("05.8")
def a_text_becomes_bits():
    """05.8: an arithmetic coder with exact fractions."""

    def given(ids, next_probs, name):
        """Return a case: ids, and a function of that name for the model."""
        place = Interval(ids, next_probs)
        next_probs.__name__ = name
        written = (
            f"at most {place.bits} bits, all of whose numbers lie in [{place.low}, {place.high})"
        )
        if len(written) > 110:
            written = f"at most {place.bits} bits, all of whose numbers lie in the text's interval"
        return case(
            ids,
            next_probs,
            expected=lambda code: (
                type(code) is str and len(code) <= place.bits and place.holds(code)
            ),
            saying=written,
            through=lambda answer: functools.wraps(answer)(lambda a, b: answer(list(a), b)),
            mistakes={
                "these bits are right, and too many": place.holds,
                "bits are written as a string": lambda code: type(code) is not str,
                "some of the numbers that begin with these bits lie outside": place.touches,
                "these bits lead to another text": lambda code: not place.touches(code),
            },
        )

    third, quarter = Fraction(1, 3), Fraction(1, 4)
    yield given([0, 1, 1], lambda ids: [Fraction(1, 2)] * 2, "a_coin")
    yield given([1], lambda ids: [third] * 3, "a_die_of_three")
    yield given([2, 0, 1, 2], lambda ids: [third] * 3, "a_die_of_three")
    yield given([1, 0], lambda ids: [quarter, 2 * quarter, quarter], "a_loaded_die")

    def remembers(ids):
        return [Fraction(1 + ids.count(token), 3 + len(ids)) for token in range(3)]

    yield given([0, 0, 2, 0, 0, 1], remembers, "a_model_that_counts")
    yield given([0, 1, 2] * 40, remembers, "a_model_that_counts")
    yield given([0, 0], lambda ids: [Fraction(1), Fraction(0)], "a_model_that_is_certain")
