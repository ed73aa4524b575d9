"""`llmlib generate`: a model writes, and each token is shown as soon as it is chosen.

Written by hand. The text goes to stdout, everything else to stderr. When the context is full, the
oldest quarter is dropped.
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from llmlib import checks
from llmlib.cli.devices import choose_device
from llmlib.cli.prepare import encode_documents
from llmlib.generation.generate import stream
from llmlib.generation.quantization import BYTES, quantize
from llmlib.generation.sampling import Sampling
from llmlib.generation.streaming import TextStream, pieces
from llmlib.pretrained.models import load_model


def generate_command(
    checkpoint: str,
    device: str = "auto",
    prompt: str = "",
    max_new_tokens: int = 200,
    seed: int = 0,
    n: int = 1,
    weights: str = "float32",
    until: Sequence[str] = (),
    ignore_extra: bool = False,
    **sampling: Any,
) -> int:
    """Do what the command line asks for; an empty line stands between texts."""
    checks.whole_number("n", n)
    checks.one_of("weights", weights, BYTES)
    settings = Sampling(**sampling)  # says what is wrong with them before a model is read
    model, tokenizer = load_model(checkpoint, ignore_extra=ignore_extra)
    checks.ends_documents(tokenizer.special_tokens, checkpoint)
    encoded, about = encode_documents(tokenizer, [prompt])
    *ids, end = encoded.tolist()  # <|endoftext|> stands behind the prompt
    if unknown := about["n_unknown"]:
        print(f"{unknown} of {len(ids)} tokens of the prompt are unknown", file=sys.stderr)
    context_length = model.config.context_length
    rows = torch.tensor([[end, *ids]])  # (1, T): every text begins after <|endoftext|>
    readable = rows[:, -context_length:]
    place, reason = choose_device(device, model, (readable, readable))
    print(f"device {place}: {reason}", file=sys.stderr)
    model = quantize(model.to(place), weights)
    options: dict[str, Any] = {"stop": end, "slide": max(1, context_length // 4)}
    options["generator"] = torch.Generator().manual_seed(seed)
    show = partial(print, end="", flush=True)  # each token is seen at once
    for number in range(n):
        show("\n" * (number > 0) + prompt)
        tokens = stream(model, rows.to(place), max_new_tokens, settings, **options)
        for piece in pieces(tokens, TextStream(tokenizer, ids, until), end):
            show(piece)
        show("\n")
    return 0
