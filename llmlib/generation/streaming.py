# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Text that appears while it is written: whole characters only, and nothing behind a stop string.

Built in notebook 10, on `llmlib.generation.generate`. Works with any tokenizer that has `encode`
and `decode`. What is left out: chats, whose turns need a model that has learnt them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from llmlib import checks
from llmlib.generation.constraints import only_tokens
from llmlib.generation.generate import Stop, stream
from llmlib.generation.sampling import AS_LEARNED, Sampling
from llmlib.tokenization.interface import common_length, settled


class TextStream:
    """Text from token ids that come one at a time: no half characters, and nothing behind a stop.

    tokenizer: has decode(ids) -> str. stops: strings that end the text, and are not shown. What
    `add` and `rest` returned, joined, is the text of all ids without that of the prompt, up to the
    first stop; then `stopped` is True. What a prompt leaves unfinished, half a character, is new.
    Raises ValueError for a stop without a character.
    """

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int] = (), stops: Sequence[str] = ()):
        self.stops = (stops,) if isinstance(stops, str) else tuple(stops)
        checks.stop_strings(self.stops)
        self.tokenizer, self.ids = tokenizer, list(prompt_ids)
        self.prompt = self.text()
        if self.prompt.endswith("\N{REPLACEMENT CHARACTER}"):  # it may end within a character
            self.prompt = settled(tokenizer, self.ids)
        self.shown, self.stopped = 0, False

    def text(self) -> str:
        """Return the text of all ids."""
        return self.tokenizer.decode(self.ids) if self.ids else ""

    def add(self, token: int) -> str:
        """Return what one more token makes certain: perhaps nothing yet."""
        if self.stopped:
            return ""
        self.ids.append(token)
        certain = self.cut(settled(self.tokenizer, self.ids))
        if not self.stopped:  # the end may be the beginning of a stop
            new = certain[self.begins(certain) :]
            certain = certain[: len(certain) - held_back(new, self.stops)]
        return self.show(certain)

    def rest(self) -> str:
        """Return what is left when no token comes any more."""
        return "" if self.stopped else self.show(self.cut(self.text()))

    def begins(self, text: str) -> int:
        """Return where the new text begins: after the prompt's, or where the two differ."""
        return common_length(self.prompt, text)

    def cut(self, text: str) -> str:
        """Return the text before the first stop."""
        start = self.begins(text)
        places = [at for stop in self.stops if (at := text.find(stop, start)) >= 0]
        self.stopped = self.stopped or bool(places)
        return text[: min(places)] if places else text

    def show(self, text: str) -> str:
        """Return the part that was not shown yet."""
        start = max(self.shown, self.begins(text))
        self.shown = max(self.shown, len(text))
        return text[start:]


def held_back(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop.

    >>> held_back("the end.\\n", ["\\n\\n"])
    1
    """
    lengths = (n for stop in stops for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
    return max(lengths, default=0)


def stream_text(
    model: Any,
    tokenizer: Any,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    end_of_text: int | None = None,
    stops: Sequence[str] = (),
    stop: Stop = None,
    **options: Any,
) -> Iterator[str]:
    """Continue a text and yield pieces of the new one as soon as they are certain.

    tokenizer: has encode(text) -> ids and decode(ids) -> text. end_of_text: the id that stands
    before each text, and ends it unless `stop` names others. stops: strings that end it too.
    options: as for `stream`.
    """
    text = TextStream(tokenizer, tokenizer.encode(prompt), stops)
    ids = [*text.ids] if end_of_text is None else [end_of_text, *text.ids]
    settings = only_tokens(sampling, tokenizer, model)
    ends = checks.stop_ids(model, end_of_text if stop is None else stop)
    tokens = stream(model, [ids], max_new_tokens, settings, stop=ends, **options)
    return pieces(tokens, text, ends)


def pieces(tokens: Iterator[Tensor | int], text: TextStream, ends: Sequence[int]) -> Iterator[str]:
    """Yield what a TextStream makes of tokens, until it or they stop."""
    for token in map(int, tokens):
        if token not in ends and (piece := text.add(token)):
            yield piece
        if text.stopped:
            return
    if piece := text.rest():
        yield piece
