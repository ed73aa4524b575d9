"""`llmlib generate`: a trained model writes, and each token is shown as soon as it is chosen.

Written by hand. The engine is `llmlib.generation.generate`; where the context is full, its oldest
quarter is forgotten. What a token means for the text may depend on the next one, because a
character of several bytes can be spread over several tokens: `TextStream` gives only what nothing
can change.
"""

import sys
from pathlib import Path

import torch

from llmlib import checks
from llmlib.cli.config import nearest
from llmlib.cli.dataset import TokenData
from llmlib.cli.devices import choose_device
from llmlib.cli.prepare import count_unknown, encode_documents, end_of_text
from llmlib.generation.generate import stream
from llmlib.generation.quantization import BYTES, quantize
from llmlib.generation.sampling import Sampling
from llmlib.generation.streaming import TextStream
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2 import load_pretrained, load_tokenizer
from llmlib.training.checkpoint import Checkpoint, load_checkpoint


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
    """Do what the command line asks for; texts are parted by an empty line."""
    if n < 1:
        raise ValueError(f"n is {n}: it must be at least 1")
    checks.one_of("weights", weights, BYTES)
    settings = Sampling(**sampling)  # says what is wrong with them before a model is read
    model, tokenizer = open_model(checkpoint)
    ids = begin_text(prompt, tokenizer)
    rows = torch.from_numpy(ids)[None]  # (1, T)
    place, reason = choose_device(device, model, (rows[:, -model.config.context_length :],) * 2)
    print(f"device {place}: {reason}", file=sys.stderr)  # what is written alone goes to stdout
    packed, end = quantize(model.to(place), weights), end_of_text(tokenizer)
    generator = torch.Generator().manual_seed(seed)
    write = sys.stdout.write
    for number in range(n):
        tokens = stream(
            packed,
            rows.to(place),
            max_new_tokens,
            settings,
            stop=end,
            generator=generator,
            slide=max(1, model.config.context_length // 4),
        )
        write("\n" * (number > 0) + prompt)
        sys.stdout.flush()
        text = TextStream(tokenizer, ids.tolist()[1:], until)
        for token in tokens:
            if token.item() != end:
                write(text.add(token.item()))
                sys.stdout.flush()
            if text.stopped:
                break
        write(text.rest() + "\n")
    return 0


def begin_text(prompt: str, tokenizer: object):
    """The ids of a prompt behind the `<|endoftext|>` that every text begins after."""
    ids = encode_documents(tokenizer, [prompt])  # with <|endoftext|> behind it
    if unknown := count_unknown(tokenizer, ids):
        print(f"{unknown} of {len(ids) - 1} pieces of the prompt are unknown", file=sys.stderr)
    return ids.astype("int64")[[-1, *range(len(ids) - 1)]]


def open_model(path: str | Path) -> tuple[GPT, object]:
    """A model and its tokenizer: of a run, or a GPT-2 by name ("gpt2-124M") or in its folder.

    Raises ValueError and OSError, saying what is there or how to get it.
    """
    files = ("hparams.json", "model.safetensors")
    if str(path).startswith("gpt2-") or any((Path(path) / name).is_file() for name in files):
        return load_pretrained(path), load_tokenizer(path)
    _, model, data = open_run(path)
    return model, data.tokenizer


def open_run(path: str | Path) -> tuple[Checkpoint, GPT, TokenData]:
    """The checkpoint at a path, with its model and the tokens that it was trained on.

    path: a run folder, of which the best is taken (the latest, before there is a best), or one of
    its checkpoints. Raises ValueError and OSError for what is none, saying what is there.
    """
    path = Path(path)
    choices = [path, path / "best", path / "latest"]
    folder = next((f for f in choices if (f / "checkpoint.json").is_file()), None)
    if folder is None:
        siblings = [p.name for p in path.parent.glob("*") if p.is_dir()] if path.name else []
        hint = nearest(path.name, siblings) if not path.exists() else ""
        raise ValueError(f"there is no run or checkpoint at {path}{hint}")
    checkpoint = load_checkpoint(folder)
    if not (folder.parent / "data" / "data.json").is_file():
        raise ValueError(
            f"{folder} does not lie in a run of llmlib train: its tokenizer is missing"
        )
    data = TokenData(folder.parent / "data")
    if checkpoint.model_config is None:
        raise ValueError(f"{folder} does not say what model it is of")
    try:
        model = GPT(GPTConfig(**checkpoint.model_config))
    except TypeError as error:
        raise ValueError(f"{folder} holds another kind of model: {error}") from None
    checkpoint.load_into(model)
    return checkpoint, model, data
