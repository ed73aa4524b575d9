"""Evaluation: the loss of a model over batches, and n-gram models."""

import math

import torch

from refusals import api
from refusals.refusal import Refusal


def uniform(ids):
    return torch.zeros(*ids.shape, 11)


def row(name: str, error: type, *says, model=uniform, batches=None, **more) -> Refusal:
    return Refusal(
        f"evaluate {name}",
        lambda tmp: api.evaluate(model, [api.batch()] * 2 if batches is None else batches, **more),
        error,
        [*says],
    )


def ngram(n=2, vocab_size=5, **more):
    return api.NGramModel(n, vocab_size, **more)


X, Y = api.batch()
REFUSALS = [
    row("a name", TypeError, "str", "function", model="gpt"),
    row("no batch", ValueError, "no batch", "empty", batches=[]),
    row("max_batches=0", ValueError, "max_batches", "0", "1", max_batches=0),
    row("max_batches=-1", ValueError, "max_batches", "-1", "1", max_batches=-1),
    row("a tensor", TypeError, "batch 1", "Tensor", "inputs, targets", batches=[X]),
    row("four parts", TypeError, "batch 2", "inputs, targets", batches=[(X, Y), (X, Y, Y, Y)]),
    row(
        "a model of pairs", TypeError, "the model", "tuple", "logits", model=lambda ids: (ids, ids)
    ),
    row(
        "whole logits",
        TypeError,
        "logits",
        "torch.int64",
        "float",
        model=lambda ids: uniform(ids).long(),
    ),
    row("flat logits", ValueError, "logits", "(5,)", model=lambda ids: torch.zeros(5)),
    row("other shapes", ValueError, "(2, 2)", "(2, 3)", batches=[(X, Y[:, :2])]),
    row("an unknown target", ValueError, "11", "vocabulary", "10", batches=[(X, Y * 0 + 11)]),
    row("ignored targets", ValueError, "2", "-100", "target", batches=[(X, Y * 0 - 100)] * 2),
    row(
        "a model that says nan",
        ValueError,
        "batch 1",
        "66",
        "NaN",
        model=lambda ids: uniform(ids) * math.nan,
    ),
    *(
        Refusal(
            f"bits of {n} bytes",
            lambda tmp, n=n: api.Evaluation(1.0, 5).bits_per_byte(n),
            ValueError,
            [str(n), "1", "bytes"],
        )
        for n in (0, -2)
    ),
    *(
        Refusal(
            f"n-gram {name}={value!r}",
            lambda tmp, name=name, value=value: ngram(**{name: value}),
            ValueError,
            [name, repr(value), *says],
        )
        for name, value, *says in [
            ("n", 0, "1"),
            ("n", 1.5, "1", ("int", "whole number")),
            ("vocab_size", 0, "1"),
            ("vocab_size", "5", "1", ("int", "whole number")),
            ("discount", 0, "0", "1"),
            ("discount", 1, "0", "1"),
            ("discount", math.nan, "0", "1"),
        ]
    ),
    *(
        Refusal(
            f"n-gram of {ids!r}",
            lambda tmp, ids=ids: ngram().fit(ids),
            error,
            says,
        )
        for ids, error, says in [
            ([], ValueError, ["nothing to count"]),
            ([3], ValueError, ["nothing to count"]),
            ([[1], [2]], ValueError, ["nothing to count"]),
            ([1, 5], ValueError, ["5", "vocabulary", "0", "4"]),
            ([0.5, 1.0], TypeError, ["float64", ("integer", "int")]),
            ([1, -1], ValueError, ["-1", "0"]),
            ("text", ValueError, ["'text'", "encode"]),
        ]
    ),
    Refusal(
        "n-gram that counted nothing",
        lambda tmp: ngram()(torch.tensor([[1]])),
        RuntimeError,
        ["fit"],
    ),
    *(
        Refusal(
            f"n-gram reads {name}",
            lambda tmp, ids=ids: ngram().fit([1, 2])(ids),
            error,
            says,
        )
        for name, ids, error, says in [
            ("one row", torch.tensor([1]), TypeError, ["batch", "unsqueeze"]),
            ("a list", [[1]], TypeError, ["tensor", "batch"]),
            ("an unknown id", torch.tensor([[7]]), ValueError, ["7", "vocabulary", "0", "4"]),
            ("a negative id", torch.tensor([[-1]]), ValueError, ["-1", "0"]),
            ("floats", torch.tensor([[0.5]]), TypeError, ["float32", ("integer", "int")]),
        ]
    ),
]
