"""`llmlib generate`: a trained model writes, and each token is shown as soon as it is chosen.

Written by hand. What a token means for the text may depend on the next one: a character of several
bytes can be spread over several tokens. `TextStream` gives only what nothing can change any more.
"""

import sys
from pathlib import Path

import torch

from llmlib.checkpoint import Checkpoint, load_checkpoint
from llmlib.cli.config import nearest
from llmlib.cli.dataset import TokenData
from llmlib.cli.devices import choose_device
from llmlib.cli.prepare import count_unknown, encode_documents
from llmlib.generate import stream
from llmlib.gpt import GPT, GPTConfig


def generate_command(
    checkpoint: str,
    device: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    n: int,
) -> int:
    """Do what the command line asks for; texts are parted by an empty line."""
    if n < 1:
        raise ValueError(f"n is {n}: it must be at least 1")
    _, model, data = open_run(checkpoint)
    ids = begin_text(prompt, data)
    rows = torch.from_numpy(ids)[None]  # (1, T)
    place, reason = choose_device(device, model, (rows[:, -model.config.context_length :],) * 2)
    print(f"device {place}: {reason}", file=sys.stderr)  # what is written alone goes to stdout
    model.to(place).eval()
    generator = torch.Generator(place).manual_seed(seed)
    for number in range(n):
        tokens = stream(
            model,
            rows.to(place),
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=data.end_of_text,
            generator=generator,
        )
        write = sys.stdout.write
        write("\n" * (number > 0) + prompt)
        sys.stdout.flush()
        text = TextStream(data.tokenizer, ids.tolist()[1:])
        for token in tokens:
            if token.item() != data.end_of_text:
                write(text.add(token.item()))
                sys.stdout.flush()
        write(text.rest() + "\n")
    return 0


class TextStream:
    """Text from token ids that come one at a time, with no half characters.

    Whatever `add` and `rest` returned, joined, is the text of all ids without that of the prompt.
    """

    def __init__(self, tokenizer, prompt_ids: list[int]):
        self.tokenizer, self.ids = tokenizer, list(prompt_ids)
        self.shown = len(self.text())

    def text(self) -> str:
        return self.tokenizer.decode(self.ids)

    def add(self, token: int) -> str:
        """What one more token makes certain: perhaps nothing yet."""
        self.ids.append(token)
        # bytes that are no whole character yet are decoded as U+FFFD: the next token may tell
        certain = self.text().rstrip("\N{REPLACEMENT CHARACTER}")
        new = certain[self.shown :]
        self.shown += len(new)
        return new

    def rest(self) -> str:
        """What is left when no token comes any more."""
        return self.text()[self.shown :]


def begin_text(prompt: str, data: TokenData):
    """The ids of a prompt behind the `<|endoftext|>` that every text begins after."""
    ids = encode_documents(data.tokenizer, [prompt])  # with <|endoftext|> behind it
    if unknown := count_unknown(data.tokenizer, ids):
        print(f"{unknown} of {len(ids) - 1} pieces of the prompt are unknown", file=sys.stderr)
    return ids.astype("int64")[[-1, *range(len(ids) - 1)]]


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
