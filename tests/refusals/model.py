"""The model: its configuration, the GPT, and attention."""

import math

import torch

from refusals import api
from refusals.refusal import Refusal

WHOLE = ("int", "whole number")


def config_row(name: str, value: object, *says: object) -> Refusal:
    return Refusal(
        f"config {name}={value!r}",
        lambda tmp: api.gpt_config(**{name: value}),
        ValueError,
        [name, repr(value), *says],
    )


def ids_rows(door: str, call) -> list[Refusal]:
    """What no model reads, through one of the doors that take ids."""
    wrong = {
        "a list": ([[1, 2]], TypeError, ["list", "tensor"]),
        "floats": (torch.zeros(1, 3), TypeError, ["torch.float32", "torch.int64"]),
        "one row": (torch.arange(3), ValueError, ["(3,)", "batch", "unsqueeze"]),
        "no token": (
            torch.zeros(1, 0, dtype=torch.long),
            ValueError,
            ["(1, 0)", ("at least one", "no token")],
        ),
        "too long": (
            torch.zeros(1, 9, dtype=torch.long),
            ValueError,
            ["9", "8", "context_length", ("crop", "shorten")],
        ),
        "another device": (
            torch.zeros(1, 3, dtype=torch.long, device="meta"),
            ValueError,
            ["meta", "cpu", ".to("],
        ),
        "bools": (torch.ones(1, 3, dtype=torch.bool), TypeError, ["torch.bool", "torch.int64"]),
        "bytes": (torch.ones(1, 3, dtype=torch.uint8), TypeError, ["torch.uint8", "torch.int64"]),
        "an id above": (api.ids([1, 11]), ValueError, ["11", "vocabulary", "0", "10"]),
        "an id below": (api.ids([1, -1]), ValueError, ["-1", "vocabulary", "0", "10"]),
    }
    return [
        Refusal(f"{door} {name}", lambda tmp, ids=ids: call(api.gpt(), ids), error, says)
        for name, (ids, error, says) in wrong.items()
    ]


def attention_row(name: str, x: torch.Tensor, error: type, says: list) -> Refusal:
    return Refusal(f"attention {name}", lambda tmp: api.attention()(x), error, says)


REFUSALS = [
    *(
        config_row(name, value, WHOLE, "1")
        for name, value in [
            ("vocab_size", 0),
            ("vocab_size", 1e3),
            ("context_length", True),
            ("context_length", -1),
            ("emb_dim", "8"),
            ("n_heads", 2.0),
            ("n_heads", 0),
            ("n_layers", None),
            ("n_layers", 0),
        ]
    ),
    *(
        config_row(name, value, ("True or False", "bool"))
        for name, value in [("qkv_bias", 1), ("qkv_bias", None), ("tie_weights", "yes")]
    ),
    *(
        config_row("drop_rate", value, "0", "1", "number")
        for value in [1, 1.0, -0.1, "0.1", math.nan, None]
    ),
    Refusal(
        "config indivisible",
        lambda tmp: api.gpt_config(emb_dim=10, n_heads=3),
        ValueError,
        ["emb_dim", "10", "n_heads", "3", "divisible"],
    ),
    Refusal(
        "config unknown field",
        lambda tmp: api.gpt_config(n_head=2),
        TypeError,
        ["n_head", "n_heads", "emb_dim", "context_length"],
    ),
    Refusal(
        "preset unknown",
        lambda tmp: api.preset("gpt2-124m"),
        ValueError,
        ["gpt2-124m", "gpt2-124M", "story-tiny", "preset"],
    ),
    Refusal(
        "preset unknown field",
        lambda tmp: api.preset("story-tiny", embdim=2),
        TypeError,
        ["embdim", "emb_dim"],
    ),
    Refusal(
        "preset of no name",
        lambda tmp: api.preset(7),
        ValueError,
        ["7", "gpt2-124M", "story-tiny"],
    ),
    Refusal(
        "config without sizes",
        lambda tmp: api.GPTConfig(50, 12, 16),
        TypeError,
        ["n_heads", "n_layers"],
    ),
    Refusal(
        "config changed later",
        lambda tmp: setattr(api.gpt_config(), "n_layers", 3),
        AttributeError,
        ["n_layers"],
    ),
    Refusal(
        "preset impossible size",
        lambda tmp: api.preset("story-tiny", n_heads=5),
        ValueError,
        ["48", "n_heads", "5"],
    ),
    Refusal("model of no config", lambda tmp: api.GPT({}), TypeError, ["GPTConfig", "dict"]),
    *(
        Refusal(
            f"init_weights std={std}",
            lambda tmp, std=std: api.gpt().init_weights(std),
            ValueError,
            ["std", repr(std), "0", "0.02"],
        )
        for std in (0, -1, math.inf, math.nan)
    ),
    *ids_rows("logits of", lambda model, ids: model(ids)),
    *ids_rows("features of", lambda model, ids: model.features(ids)),
    *(
        Refusal(
            f"attention {name}={value!r}",
            lambda tmp, name=name, value=value: api.attention(**{name: value}),
            ValueError,
            [name, repr(value), *says],
        )
        for name, value, *says in [
            ("emb_dim", 0, WHOLE, "1"),
            ("n_heads", 2.5, WHOLE, "1"),
            ("context_length", None, WHOLE, "1"),
            ("n_heads", 3, "emb_dim", "8", "divisible"),
            ("drop_rate", 1, "0"),
            ("drop_rate", "none", "0", "1"),
        ]
    ),
    attention_row("of ids", torch.arange(8).view(1, 1, 8), TypeError, ["torch.int64", "embed"]),
    attention_row("of one row", torch.zeros(3, 8), ValueError, ["(3, 8)", "batch", "unsqueeze"]),
    attention_row("of another width", torch.zeros(1, 3, 7), ValueError, ["(1, 3, 7)", "8"]),
    attention_row("of a list", [[1.0]], TypeError, ["list", "Tensor"]),
    attention_row("of four dimensions", torch.zeros(1, 2, 3, 8), ValueError, ["(1, 2, 3, 8)", "8"]),
    attention_row("of no token", torch.zeros(1, 0, 8), ValueError, [("at least one", "no token")]),
    attention_row(
        "of too many tokens",
        torch.zeros(1, 5, 8),
        ValueError,
        ["5", "4", "context_length", ("crop", "shorten")],
    ),
]
