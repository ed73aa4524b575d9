"""Checks of notebook 11."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib.exercises import Case, case, exercise, noise
from llmlib.exercises.modern_answers import (
    WithoutMeans,
    capped,
    dots,
    page,
    randomize,
    seeds,
    stacked,
    to_meta,
    two_heads,
)
from llmlib.model.modern import Modern, ModernConfig


def named(function: Any, answer: Callable) -> Callable:
    """Return a function under the name of the learner's, for messages."""
    wrapped: Any = function
    wrapped.__name__ = getattr(answer, "__name__", "answer")
    return wrapped


@exercise("11.1")
def biases_that_can_go() -> Iterator[Case]:
    """11.1: the biases of keys and values, of which a layer needs neither."""
    for C in (2, 6):
        qkv, weight, bias = noise(3 * C, seed=1), noise(C, C, seed=2), noise(C, seed=3)
        q, _, v = qkv.chunk(3)
        zero, moved = torch.zeros(C), bias + weight @ v
        only_q, only_k = torch.cat([q, zero, zero]), torch.cat([zero, qkv[C : 2 * C], zero])
        yield case(
            qkv.clone(),
            weight.clone(),
            bias.clone(),
            expected=(only_q, moved),
            mistakes={
                "the matrix is transposed: its rows are outputs": (only_q, bias + weight.T @ v),
                "the values' bias is lost: each mixture contains it once": (only_q, bias),
                "the values' bias passes through proj_weight first": (only_q, bias + v),
                "what the queries' bias adds differs from key to key; the keys' can go": (
                    only_k,
                    moved,
                ),
                "the values' bias can go as well": (torch.cat([q, zero, v]), bias),
            },
        )


@exercise("11.2")
def the_mean_can_go() -> Iterator[Case]:
    """11.2: a GPT's LayerNorms become RMSNorms, and its logits stay."""
    yield WithoutMeans(0).case()
    yield WithoutMeans(1, hidden_dim=12).case()


@exercise("11.3")
def positions_on_a_page() -> Iterator[Case]:
    """11.3: half of the numbers turn with the row, half with the column."""
    x = noise(6, 8, seed=1)
    rows, columns = torch.tensor([0, 0, 1, 1, 5, 9]), torch.tensor([0, 1, 0, 1, 3, 40])
    for base in (10_000.0, 100.0):
        for kept in (slice(None), slice(3, 6)):
            given = x[kept], rows[kept], columns[kept]
            yield case(
                *(each.clone() for each in given),
                base,
                expected=page(*given, base),
                mistakes={
                    "rows and columns are exchanged": page(given[0], *given[:0:-1], base),
                    "the rates are those of D numbers; each half has D/2": page(*given, base, 8),
                    "the pairs are neighbours": page_of_neighbours(*given, base),
                },
            )


def page_of_neighbours(x: Tensor, rows: Tensor, columns: Tensor, base: float) -> Tensor:
    """Return what 11.3 gives with neighbours as pairs."""
    T, D = x.shape
    mixed = x.view(T, 2, D // 4, 2).transpose(2, 3).reshape(T, D)
    return page(mixed, rows, columns, base).view(T, 2, 2, D // 4).transpose(2, 3).reshape(T, D)


@exercise("11.5")
def a_layer_multiplies() -> Iterator[Case]:
    """11.5: the weights of a SwiGLU layer that computes a dot product."""
    for n in (1, 2, 5):
        x = 2 * noise(7, 2 * n, seed=n)

        def run(answer: Callable, x: Tensor = x) -> Callable:
            """Return a function that makes the layer and gives what it makes of x."""

            def outputs(size: int) -> Tensor:
                gate, up, down = (torch.as_tensor(part).float() for part in answer(size))
                return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down).squeeze(-1)

            return named(outputs, answer)

        yield case(
            n,
            expected=dots(x),
            saying=f"weights of a layer that gives {n} products added up",
            tolerance=1e-4,
            through=run,
            mistakes={
                "SiLU(z) is not z; SiLU(z) − SiLU(−z) is": dots(x, one_sided=True),
                "the second half of the hidden numbers has to be subtracted": dots(
                    x, same_sign=True
                ),
                "it multiplies neighbours, and not the two halves": dots(
                    torch.cat([x[:, ::2], x[:, 1::2]], dim=1)
                )
                if n > 1
                else lambda result: False,
            },
        )


@exercise("11.4")
def two_heads_share_their_keys() -> Iterator[Case]:
    """11.4: one head of keys for two heads of queries, with the same scores."""
    for seed, (first_rank, rank, D, C) in enumerate(
        [(None, 3, 3, 8), (None, 1, 2, 4), (1, 3, 3, 7), (None, 4, 4, 4)]
    ):
        w_q, w_k = two_heads(10 * seed, first_rank, rank, D, C)
        x = noise(5, C, seed=7)
        scores = (x @ w_q.mT) @ (x @ w_k.mT).mT  # (2, 5, 5)

        def run(answer: Callable, x: Tensor = x, D: int = D, C: int = C) -> Callable:
            """Return a function that gives the scores of both heads."""

            def both(*weights: Tensor) -> Tensor:
                new_q, new_k = answer(*weights)
                if new_q.shape != (2, D, C) or new_k.shape != (D, C):
                    raise ValueError(
                        f"shapes {tuple(new_q.shape)} and {tuple(new_k.shape)}, where (2, {D}, "
                        f"{C}) and ({D}, {C}) are asked for"
                    )
                return (x @ new_q.mT) @ (x @ new_k.mT).mT

            return named(both, answer)

        def first_only(result: Tensor, scores: Tensor = scores) -> bool:
            """Tell whether only the first head gives the scores that it gave."""
            near = [torch.allclose(a, b, atol=1e-3) for a, b in zip(result, scores)]
            return near == [True, False]

        yield case(
            w_q.clone(),
            w_k.clone(),
            expected=scores,
            saying="matrices with which both heads give the same scores as before",
            tolerance=2e-3,
            through=run,
            mistakes={
                "only the first head keeps its scores: do its keys contain the second's?": (
                    first_only
                ),
                "a mean of the keys serves neither head": (x @ w_q.mT) @ (x @ w_k.mean(0).T).T,
            },
        )


@exercise("11.6")
def a_gradient_under_a_cap() -> Iterator[Case]:
    """11.6: the gradient of a loss of soft-capped logits."""

    def by_formula(answer: Callable) -> Callable:
        """Return the function, without autograd."""

        def run(*args: Any) -> Tensor:
            with torch.inference_mode():
                return answer(*args)

        return named(run, answer)

    targets = torch.tensor([0, 4, 2])
    for cap, size in ((30.0, 1.0), (2.0, 3.0), (5.0, 20.0)):
        logits = size * noise(3, 5, seed=4)
        uncapped = logits.softmax(-1) - F.one_hot(targets, 5)
        slope = 1 - torch.tanh(logits / cap).square()
        yield case(
            logits.clone(),
            targets.clone(),
            cap,
            expected=capped(logits, targets, cap),
            tolerance=1e-6,
            through=by_formula,
            mistakes={
                "that is the gradient with respect to the capped logits": capped(
                    logits, targets, cap, sloped=False
                ),
                "the loss is a mean: divide by N": capped(logits, targets, cap, total=True),
                "the probabilities are those of the capped logits": uncapped * slope / 3,
            },
        )


@exercise("11.7")
def enough_seeds() -> Iterator[Case]:
    """11.7: how many seeds an interval needs."""
    few = np.array([0.02, -0.05, 0.04])
    for differences, smallest in (
        (few, 0.05),
        (np.array([0.01, -0.02, 0.03, 0.0, 0.01]), 0.01),
        (np.array([0.01, -0.02, 0.03, 0.0, 0.01]), 0.1),
        (np.array([1.0, 1.1, 0.9, 1.2]), 0.05),
    ):
        right = seeds(differences, smallest)
        t = scipy.stats.t.ppf(0.975, len(differences) - 1)
        mistakes = {
            "the standard deviation of a sample divides by n − 1": seeds(
                differences, smallest, ddof=0
            ),
            "1.96 is for many seeds; with few, t is larger": seeds(differences, smallest, True),
            "to each side: half of the interval's width": seeds(differences, smallest / 2),
            "t is that of the seeds you look for, not of those you have": math.ceil(
                (t * differences.std(ddof=1) / smallest) ** 2
            ),
        }
        yield case(
            differences.copy(),
            smallest,
            expected=right,
            mistakes={words: value for words, value in mistakes.items() if value != right},
        )


def from_the_file(config: ModernConfig, seed: int) -> tuple[Modern, dict, Callable]:
    """Return a model, its weights as Meta's file has them, and how to score with an answer's."""
    model = randomize(Modern(config), seed)
    ids = torch.randint(config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def logits(state: dict[str, Tensor]) -> Tensor:
        """Return the logits of a model with this state."""
        loaded = Modern(config).eval()
        loaded.load_state_dict(state)
        return loaded(ids)

    return model, to_meta(model), logits


@exercise("11.8")
def a_file_from_meta() -> Iterator[Case]:
    """11.8: the names, the stacks and the rotary pairs of Meta's files."""
    grouped = ModernConfig(20, 16, 16, 4, 2, n_kv_heads=2, hidden_dim=12)
    wide = ModernConfig(20, 16, 12, 2, 1, n_kv_heads=1, head_dim=8, hidden_dim=10)
    for seed, config in enumerate((grouped, wide)):
        model, meta, logits = from_the_file(config, seed)

        def run(answer: Callable, logits: Callable = logits) -> Callable:
            """Return a function that gives the logits of a model with the answer's state."""
            return named(lambda *given: logits(answer(*given)), answer)

        wrong = {
            "rows of queries and keys are still in the order of neighbours": "unturned",
            "the rows are reordered the other way": "again",
            "the keys' rows have to be reordered too": "queries_only",
            "values are not turned, so their rows stay": "values_too",
            "w1 is the gate, w3 is up; the gate comes first": "exchanged",
        }
        yield case(
            {name: tensor.clone() for name, tensor in meta.items()},
            config,
            expected=logits(model.state_dict()),
            saying="a state with which the model computes what Meta's code would",
            tolerance=1e-4,
            through=run,
            mistakes={
                words: logits(stacked(meta, config, **{mistake: True}))
                for words, mistake in wrong.items()
            },
        )
