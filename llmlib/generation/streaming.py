# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Text that appears while it is written: whole characters only, and nothing behind a stop string.

Built in notebook 10, on `llmlib.generation.inference`. Works with any tokenizer that has `encode`
and `decode`. What is left out: chats, whose turns need a model that has learnt them.
"""

from collections.abc import Iterator, Sequence

import torch

from llmlib.generation.inference import Decoder, stream
from llmlib.model.gpt import GPT


class TextStream:
    """Text from token ids that come one at a time: no half characters, and nothing behind a stop.

    tokenizer: has decode(ids) -> str. stops: strings that end the text, and are not shown. What
    `add` and `rest` returned, joined, is the text of all ids without that of the prompt, up to the
    first stop; then `stopped` is True. Raises ValueError for a stop without a character.
    """

    def __init__(
        self, tokenizer: object, prompt_ids: Sequence[int] = (), stops: Sequence[str] = ()
    ):
        stops = (stops,) if isinstance(stops, str) else tuple(stops)
        if not all(isinstance(stop, str) and stop for stop in stops):
            raise ValueError(f"stops are {stops!r}: each must be a string of one character or more")
        self.tokenizer, self.ids, self.stops = tokenizer, list(prompt_ids), stops
        self.shown = self.begins = len(self.text())
        self.stopped = False

    def text(self) -> str:
        """The text of all ids, that of the prompt included."""
        return self.tokenizer.decode(self.ids) if self.ids else ""

    def add(self, token: int) -> str:
        """What one more token makes certain: perhaps nothing yet."""
        if self.stopped:
            return ""
        self.ids.append(token)
        # bytes that are no whole character yet are decoded as U+FFFD: the next token may tell
        certain = self.cut(self.text().rstrip("\N{REPLACEMENT CHARACTER}"))
        if not self.stopped:  # the end may be the beginning of a stop
            certain = certain[: len(certain) - held_back(certain[self.begins :], self.stops)]
        return self.show(certain)

    def cut(self, text: str) -> str:
        """The text before the first stop."""
        places = [at for stop in self.stops if (at := text.find(stop, self.begins)) >= 0]
        self.stopped = self.stopped or bool(places)
        return text[: min(places)] if places else text

    def show(self, text: str) -> str:
        """The part that was not shown yet."""
        new, self.shown = text[self.shown :], max(self.shown, len(text))
        return new

    def rest(self) -> str:
        """What is left when no token comes any more."""
        return "" if self.stopped else self.show(self.cut(self.text()))


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop.

    >>> held_back("the end.\\n", ["\\n\\n"])
    1
    """
    lengths = (n for stop in stops for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
    return max(lengths, default=0)


def stream_text(
    model: GPT | Decoder,
    tokenizer: object,
    prompt: str,
    max_new_tokens: int,
    *,
    end_of_text: int | None = None,
    stops: Sequence[str] = (),
    **settings: object,
) -> Iterator[str]:
    """Continue a text and yield pieces of the new one as soon as they are certain.

    tokenizer: has encode(text) -> ids and decode(ids) -> text. end_of_text: the id that stands
    before each text and ends it. stops: strings that end it too. For the rest see `stream`.
    """
    begin = [] if end_of_text is None else [end_of_text]
    ids = tokenizer.encode(prompt)
    text = TextStream(tokenizer, ids, stops)
    tokens = stream(model, [[*begin, *ids]], max_new_tokens, stop=end_of_text, **settings)
    return (piece for piece in pieces(tokens, text, end_of_text) if piece)


def pieces(tokens: Iterator[torch.Tensor], text: TextStream, end: int | None) -> Iterator[str]:
    """What a TextStream makes of tokens, until it or they stop."""
    for token in tokens:
        if token.item() != end:
            yield text.add(token.item())
        if text.stopped:
            return
    yield text.rest()
