"""`llmlib generate`: a model writes, and each token is shown as soon as it is chosen.

Written by hand. The text goes to stdout, everything else to stderr. When the context is full, the
oldest quarter is dropped.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import torch

from llmlib import checks
from llmlib.cli.devices import choose_device
from llmlib.cli.prepare import encode_documents
from llmlib.generation.beam import beam_search
from llmlib.generation.constraints import only_tokens
from llmlib.generation.generate import stream
from llmlib.generation.quantization import quantize
from llmlib.generation.rounding import BYTES
from llmlib.generation.sampling import Sampling
from llmlib.generation.speculative import PromptLookup, speculate
from llmlib.generation.streaming import TextStream, pieces
from llmlib.pretrained.models import load_model, stop_ids


def generate_command(
    checkpoint: str,
    device: str = "auto",
    prompt: str = "",
    max_new_tokens: int = 200,
    seed: int = 0,
    n: int = 1,
    weights: str = "float32",
    until: Sequence[str] = (),
    num_beams: int | None = None,
    prompt_lookup: int | None = None,
    ignore_extra: bool = False,
    **sampling: Any,
) -> int:
    """Do what the command line asks for; an empty line stands between texts."""
    settings = Sampling(**sampling)  # says what is wrong with them before a model is read
    checks.ways_to_write(n, num_beams, prompt_lookup, settings)
    checks.one_of("weights", weights, BYTES)
    checks.stop_strings(tuple(until))
    model, tokenizer = load_model(checkpoint, ignore_extra=ignore_extra)
    encoded, about = encode_documents(tokenizer, [prompt])
    *ids, end = encoded.tolist()  # <|endoftext|> stands behind the prompt
    stops = stop_ids(checkpoint, end, model.config.vocab_size)
    options = {"stop": stops, "generator": torch.Generator().manual_seed(seed)}
    if unknown := about["n_unknown"]:
        print(f"{unknown} of {len(ids)} tokens of the prompt are unknown", file=sys.stderr)
    rows = torch.tensor([[end, *ids]])  # (1, T): every text begins after <|endoftext|>
    readable = rows[:, -model.config.context_length :]
    place, reason = choose_device(device, model, (readable, readable))
    print(f"device {place}: {reason}", file=sys.stderr)
    model = pack(model.to(place), weights)
    arguments = model, rows.to(place), max_new_tokens, only_tokens(settings, tokenizer, model)
    texts = find_texts(*arguments, num_beams, prompt_lookup, **options)
    show = partial(print, end="", flush=True)  # each token is seen at once
    for number, tokens in enumerate(islice(texts, n)):
        show("\n" * (number > 0) + prompt)
        for piece in pieces(tokens, TextStream(tokenizer, ids, until), stops):
            show(piece)
        show("\n")
    return 0


def pack(model: Any, weights: str) -> Any:
    """Return a model with packed weights; what there is to say about them goes to stderr."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        packed = quantize(model, weights)
    for warning in said:
        print(warning.message, file=sys.stderr)
    return packed


def find_texts(
    model: Any,
    rows: torch.Tensor,
    n_new: int,
    settings: Sampling,
    num_beams: int | None,
    prompt_lookup: int | None,
    **options: Any,
) -> Iterator[Iterator[torch.Tensor | int]]:
    """Yield texts, each as its tokens: the best of a search, or one after another without end."""
    context_length = model.config.context_length
    room = max(1, context_length + 1 - rows.shape[1])
    if room < n_new and (num_beams or prompt_lookup):  # whose window does not slide
        print(f"{room} new tokens: then the context is full", file=sys.stderr)
        n_new = room
    if num_beams:
        beams = beam_search(model, rows, n_new, num_beams, options["stop"], sampling=settings)
        yield from (iter(beam.ids) for beam in beams)
        return
    while True:
        if prompt_lookup:
            options["n_draft"] = prompt_lookup
            parts = speculate(model, PromptLookup(), rows, n_new, settings, **options)
            yield chain.from_iterable(parts)
        else:
            slide = max(1, context_length // 4)
            yield stream(model, rows, n_new, settings, slide=slide, **options)
