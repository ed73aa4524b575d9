"""Checks of notebook 12."""

import math
from typing import Any

import torch

from llmlib.exercises import case, exercise, noise
from llmlib.exercises.long_context_answers import (
    Recent,
    bytes_of_layers,
    decayed_states,
    falling,
    layers_needed,
    merged,
)


@exercise("12.1")
def scores_fall_with_the_distance():
    """12.1: attention weights with a linear bias."""
    for seed, (n, slope) in enumerate([(2, 1.0), (5, 0.25), (6, 0.0), (4, 3.0)]):
        scores = noise(n, n, seed=seed)
        mistakes = {
            "the nearest tokens get the least: the distance is subtracted": falling(scores, -slope),
            "a token sees those after it": falling(scores, slope, causal=False),
            "these are scores, the softmax is missing": lambda r: bool(
                (r.sum(-1) - 1).abs().max() > 0.1
            ),
        }
        if slope == 0:
            del mistakes["the nearest tokens get the least: the distance is subtracted"]
        yield case(scores.clone(), slope, expected=falling(scores, slope), mistakes=mistakes)


@exercise("12.2")
def the_slowest_pair_is_slowed_by_the_factor():
    """12.2: the base of NTK-aware scaling."""
    for base, dim, factor in [
        (10_000.0, 64, 4.0),
        (10_000.0, 8, 2.0),
        (500_000.0, 128, 8.0),
        (100.0, 4, 1.0),
    ]:
        expected = base * factor ** (dim / (dim - 2))
        mistakes = {
            "the slowest pair has the exponent (dim − 2) / dim, not 1": base * factor,
            "the exponent is upside down": base * factor ** ((dim - 2) / dim),
            "that slows down the second pair": base * factor ** (dim / 2),
        }
        if factor == 1:
            mistakes = {}
        yield case(base, dim, factor, expected=expected, mistakes=mistakes)


@exercise("12.3")
def layers_with_windows_keep_less():
    """12.3: the cache of a model in which some layers have windows."""
    for windows, n_tokens, n_numbers in [
        ([None, None], 10, 4),
        ([4, None, 4], 10, 8),
        ([100, 3], 10, 1),
        ([1024] * 5 + [None], 131_072, 256),
    ]:
        given = windows, n_tokens, n_numbers
        expected = bytes_of_layers(*given)
        mistakes = {
            "a token leaves a key and a value": bytes_of_layers(*given, tensors=1),
            "a window cuts what its layer keeps": bytes_of_layers(
                [None] * len(windows), *given[1:]
            ),
            "a window longer than the text keeps the text": 4
            * n_numbers
            * sum(w or n_tokens for w in windows),
            "16 bits are 2 bytes": expected * 8,
        }
        yield case(
            *given, expected=expected, mistakes={k: v for k, v in mistakes.items() if v != expected}
        )


@exercise("12.4")
def parts_of_the_keys_are_merged():
    """12.4: attention over parts of the keys, put together."""
    for seed, cuts in enumerate([[3, 5], [1, 1, 6], [8], [2, 0, 6]]):
        scores, values = 5 * noise(4, 8, seed=seed) + 800 * (seed == 1), noise(8, 3, seed=seed + 9)
        parts = []
        for s, v in zip(scores.split(cuts, dim=1), values.split(cuts)):
            # over no keys at all: 0 / 0
            out = s.softmax(dim=1) @ v if s.shape[1] else torch.full((4, 3), math.nan)
            parts.append((out, s.logsumexp(dim=1)))
        outs, sums = (torch.stack(each) for each in zip(*parts))
        by_sum = (sums / sums.sum(0))[..., None]
        mistakes: dict[str, Any] = {
            "0 times nan is nan: a part without keys has no output": lambda r: bool(
                r[0].isnan().any()
            ),
            "a part with larger scores counts more": lambda r, o=outs: torch.allclose(
                r[0], o.mean(0)
            ),
            "the log-sums are logarithms": lambda r, o=outs, w=by_sum: torch.allclose(
                r[0], (w * o).sum(0)
            ),
            "exp of a large score is infinite: subtract the largest first": lambda r: bool(
                r[1].isinf().any()
            ),
            "that log-sum is the largest, not that of all": lambda r, s=sums: torch.allclose(
                r[1], s.amax(0)
            ),
        }
        yield case(
            [(out.clone(), lse.clone()) for out, lse in parts],
            expected=merged(parts),
            saying="the output and the log-sum of attention over all keys",
            mistakes=mistakes,
        )


@exercise("12.5")
def news_travels_one_step_a_layer():
    """12.5: how many layers a pattern takes to reach everything."""
    place = torch.arange(9)
    distance = place[:, None] - place
    causal = distance >= 0
    patterns = {
        "all": causal,
        "a window of 3": causal & (distance < 3),
        "a window of 2": causal & (distance < 2),
        "itself only": distance == 0,
        "strided": causal & ((distance < 3) | (distance % 3 == 0)),
        "the first token": causal & ((distance == 0) | (place == 0)),
        "every third": causal & (distance % 3 == 0),
    }
    for sees in patterns.values():
        expected = layers_needed(sees)
        off = None if expected is None else expected - 1
        mistakes = {
            "some tokens never hear of others: None": lambda r, e=expected: (
                e is None and r is not None
            ),
            "one layer too few: after one layer a token knows what it sees": off,
            "one layer too many": None if expected is None else expected + 1,
        }
        if expected is None:
            mistakes = dict(list(mistakes.items())[:1])
        yield case(sees.clone(), expected=expected, mistakes=mistakes)
    yield case(torch.ones(1, 1).bool(), expected=0, mistakes={"a single token needs no layer": 1})


@exercise("12.6")
def memory_fades():
    """12.6: linear attention whose state shrinks, in chunks."""
    for seed, (n, decay, size) in enumerate(
        [(1, 0.5, 4), (6, 1.0, 4), (8, 0.9, 4), (11, 0.5, 4), (7, 0.8, 1), (5, 0.7, 9)]
    ):
        q, k, v = (noise(n, 3, seed=10 * seed + i).double() for i in range(3))
        mistakes = {
            "the newest token has shrunk already": decayed_states(q, k, v, decay, late=True),
            "nothing fades": decayed_states(q, k, v, 1.0),
        }
        first = torch.cat(
            [
                decayed_states(q[i : i + size], k[i : i + size], v[i : i + size], decay)
                for i in range(0, n, size)
            ]
        )
        mistakes["a chunk knows nothing of those before it"] = first
        expected = decayed_states(q, k, v, decay)
        mistakes = {why: bad for why, bad in mistakes.items() if not torch.allclose(bad, expected)}
        yield case(
            q.clone(), k.clone(), v.clone(), decay, size, expected=expected, mistakes=mistakes
        )


def played(kind: Any) -> Any:
    """Turn a class into a function that plays a list of moves on it, and returns what it saw."""

    def play(width: int, spare: int, moves: list[int]) -> list:
        """Push as many numbers as a move says, or forget as many if it is negative."""
        ring, n, seen = kind(width, spare), 0, []
        for move in moves:
            if move < 0:
                try:
                    ring.rewind(-move)
                    n += move
                except ValueError:
                    seen.append("refused")
                    continue
            for _ in range(move):
                ring.push(n)
                n += 1
            seen.append([*ring.last()])
        return seen

    play.__name__ = getattr(kind, "__name__", "ring")
    return play


@exercise("12.7")
def a_ring_forgets_again():
    """12.7: the last items, in a fixed number of slots, some of which can be taken back."""
    for width, spare, moves in [
        (3, 0, [1, 1, 1, 1, 5]),
        (3, 2, [2, -1, 4, -2, 1]),
        (3, 2, [9, -2, 1, -1, -1]),
        (2, 3, [4, -4, 3, -2, 1]),
        (2, 1, [7, -2, -1, -1, 2]),
        (4, 2, [3, -3, 2, -5]),
        (1, 1, [5, -1, 1, -1, -1]),
    ]:
        expected = played(Recent)(width, spare, moves)
        yield case(
            width,
            spare,
            moves,
            expected=expected,
            through=played,
            mistakes={
                "what was overwritten is shown after a rewind": lambda r, e=expected: (
                    "refused" in e and r.count("refused") < e.count("refused")
                ),
                "a rewind that could be done is refused": lambda r, e=expected: (
                    r.count("refused") > e.count("refused")
                ),
                "the items are in the order of the slots, not of their age": lambda r, e=expected: (
                    all(a == b or sorted(a) == sorted(b) for a, b in zip(r, e))
                ),
            },
        )
