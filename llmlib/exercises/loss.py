"""Checks of the exercises of notebook 05."""

import functools
import math

import torch

from llmlib.exercises import case, exercise, noise
from llmlib.exercises.loss_answers import (
    AtMost,
    Counts,
    comes_back,
    encodes,
    hidden_log_probs,
    information,
    without_autograd,
)


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


def mistakes_of_hidden(ids, chain, expected):
    """Return the mistakes of 05.6: words, and a wrong result or the test of it."""

    def as_if(*other, **mistake):
        """Return the test whether an answer makes this mistake."""
        return lambda found: torch.allclose(
            found, hidden_log_probs(ids, *(other or chain), **mistake)
        )

    start, transitions, shows = chain
    return {
        "the chain walks on from a silent state": as_if(most=0),
        "silent states may follow each other, and go in circles": lambda found: any(
            as_if(most=k)(found) for k in range(1, 6)
        ),
        "these are bits": expected / math.log(2),
        "that is of the whole text so far": expected.cumsum(0),
        "transitions are read the wrong way round": as_if(start, transitions.T, shows, most=1),
        "add up all the paths, not only the likeliest": as_if(add=max),
        "the tokens so far tell where the chain may be": as_if(forget=True),
        "after an impossible token, too, it is -inf": lambda found: (
            torch.allclose(found[:1], expected[:1]) and bool(found.isnan().any())
        ),
        "a state was lost that had become unlikely": lambda found: bool(
            (found.isneginf() & expected.isfinite()).any()
        ),
    }


@exercise("05.6")
def a_hidden_chain_is_judged():
    """05.6: the log-probability of each token where several states show it, and some show none."""

    def given(ids, start, transitions, shows, budget=math.inf):
        """Return the case of a text; budget: the operations on tensors for each token."""
        chain = [torch.tensor(part, dtype=torch.float64) for part in (start, transitions, shows)]
        expected = hidden_log_probs(ids, *chain)
        slow = "go on from what is known of the states; do not begin again for each token"

        def through(answer):
            """Return the answer, called with copies and with a budget."""

            @functools.wraps(answer)
            def called(ids, *chain):
                with AtMost(budget * len(ids), slow):
                    return answer(list(ids), *(part.clone() for part in chain))

            return called

        mistakes = mistakes_of_hidden(ids, chain, expected)
        return case(ids, *chain, expected=expected, through=through, mistakes=mistakes)

    half = [0.5, 0.5]
    yield given([0, 1, 0], [1.0, 0.0], [half, half], [[1.0, 0.0], [0.0, 1.0]])
    yield given([0, 0, 1, 0], [0.25, 0.75], [[0.875, 0.125], half], [half, [0.875, 0.125]])
    walk = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    shown = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    yield given([0, 0, 1], [1.0, 0.0, 0.0], walk, shown)
    yield given([0, 1, 0, 0, 1], [1.0, 0.0, 0.0], walk, shown)
    yield given([1, 0], [0.0, 0.5, 0.5], walk, shown)
    circle = [[0.0, 0.5, 0.25, 0.25], [0.25, 0.0, 0.75, 0.0], [0.0, 0.5, 0.25, 0.25], [0.25] * 4]
    words = [[0.75, 0.25, 0.0], [0.0] * 3, [0.0] * 3, [0.0, 0.5, 0.5]]
    yield given([0, 2, 1, 0], [0.0, 1.0, 0.0, 0.0], circle, words)
    stays, rare = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1 / 64, 63 / 64]]
    yield given([0] * 400 + [1, 0], half, stays, rare, budget=200)
    long = torch.randint(3, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    yield given(long, [0.5, 0.0, 0.5, 0.0], circle, words)


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


def there_and_back(ids, name, count, hint="another text comes back"):
    """Yield the cases of a text: its bits, and the way back whatever stands behind them."""
    most = 2 + information(count, ids) + len(ids) / 1000 + 1e-6
    yield case(
        ids,
        Counts(name, count, len(ids)),
        expected=lambda bits: type(bits) is str and not bits.strip("01") and len(bits) <= most,
        saying=f"at most {int(most)} of the characters 0 and 1",
        through=encodes,
        mistakes={
            "bits are written as a string": lambda bits: type(bits) is not str,
            "these bits are too many": lambda bits: not bits.strip("01"),
        },
    )
    for after in ("", "0000", "1" * 40, "0110"):
        yield case(
            ids,
            Counts(name, count, len(ids)),
            after,
            expected=lambda found, after=after: (list(found[0]), found[1]) == (ids, after),
            saying=f"the text and {after!r}",
            through=comes_back,
            mistakes={
                "the text is right, and the bits after it are not": (
                    lambda found: list(found[0]) == ids
                ),
                hint: lambda found: bool(found[0]),
            },
        )


@exercise("05.8")
def a_text_becomes_bits_and_a_text_again():
    """05.8: an arithmetic coder with numbers of limited size, there and back."""
    yield from there_and_back([1, 1, 0], "a_coin", lambda ids: [1, 1])
    yield from there_and_back([0], "a_die_of_three", lambda ids: [1, 1, 1])
    yield from there_and_back([2, 1, 2, 2, 0], "a_loaded_die", lambda ids: [3, 1, 7])
    yield from there_and_back([1] * 500 + [0], "the_end_is_rare", lambda ids: [1, 2**16 - 1])
    for times in (28, 58, 300):
        yield from there_and_back(
            [2] * times + [0],
            "always_the_middle",
            lambda ids: [1, 2**14 - 1, 2**15, 2**14],
            hint="around the middle no first bit is known, and the interval still has to grow",
        )
    text = torch.randint(1, 4, (2500,), generator=torch.Generator().manual_seed(0)).tolist()

    def recent(ids):
        return [1, *(1 + 40 * ids[-30:].count(token) for token in (1, 2, 3))]

    yield from there_and_back([*text, 0], "what_was_recent", recent)
