"""`llmlib generate`: a model writes, and each token is shown as soon as it is chosen.

Written by hand. The text goes to stdout, everything else to stderr. When the context is full, the
oldest quarter is dropped.
"""

import sys

import torch

from llmlib.cli.devices import choose_device
from llmlib.cli.prepare import count_unknown, encode_documents, end_of_text
from llmlib.generation.inference import Decoder
from llmlib.generation.quantization import check_format
from llmlib.generation.sampling import Sampling
from llmlib.generation.streaming import stream_text
from llmlib.pretrained.models import load_model


def generate_command(
    checkpoint: str,
    device: str,
    prompt: str,
    max_new_tokens: int,
    seed: int,
    n: int,
    weights: str,
    until: list[str],
    **sampling: float | None,
) -> int:
    """Do what the command line asks for; an empty line stands between texts."""
    if n < 1:
        raise ValueError(f"n is {n}: it must be at least 1")
    check_format(weights)
    Sampling(**sampling)  # says what is wrong with the settings before a model is read
    model, tokenizer = load_model(checkpoint)
    context_length = model.config.context_length
    ids = encode_documents(tokenizer, [prompt])  # with <|endoftext|> behind it
    if unknown := count_unknown(tokenizer, ids):
        print(f"{unknown} of {len(ids) - 1} tokens of the prompt are unknown", file=sys.stderr)
    rows = torch.from_numpy(ids.astype("int64"))[None, -context_length:]  # (1, T)
    place, reason = choose_device(device, model, (rows, rows))
    print(f"device {place}: {reason}", file=sys.stderr)
    model = Decoder(model.to(place), weights)
    generator = torch.Generator().manual_seed(seed)
    for number in range(n):
        show("\n" * (number > 0) + prompt)
        pieces = stream_text(
            model,
            tokenizer,
            prompt,
            max_new_tokens,
            end_of_text=end_of_text(tokenizer),
            stops=until,
            generator=generator,
            slide=max(1, context_length // 4),
            **sampling,
        )
        for piece in pieces:
            show(piece)
        show("\n")
    return 0


def show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
