"""Whole texts for several prompts at once, each cut before its first stop string.

Written by hand, on `llmlib.generation.streaming`, whose `stream_text` writes a single one piece by
piece. A row whose text has stopped is no longer computed.
"""

from collections.abc import Sequence
from typing import Any

from llmlib import checks
from llmlib.generation.constraints import only_tokens
from llmlib.generation.generate import Stop, stream
from llmlib.generation.sampling import AS_LEARNED, Sampling
from llmlib.generation.streaming import TextStream


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling = AS_LEARNED,
    *,
    end_of_text: int | None = None,
    stops: Sequence[str] = (),
    stop: Stop = None,
    **options: Any,
) -> list[str]:
    """Return the new text after each prompt, without the stop string that ended it.

    tokenizer: has encode(text) -> ids and decode(ids) -> text. end_of_text: the id that stands
    before each text, and ends it unless `stop` names others. stops: strings that end it too, also
    where one begins in a token and ends in another. options: as for `stream`. Raises as `stream`
    does, and for empty prompts without an end_of_text.
    """
    checks.strings("prompts", prompts)
    streams = [TextStream(tokenizer, tokenizer.encode(prompt), stops) for prompt in prompts]
    before = [] if end_of_text is None else [end_of_text]
    ids = [[*before, *text.ids] for text in streams]
    pieces: list[list[str]] = [[] for _ in streams]
    ends = checks.stop_ids(model, end_of_text if stop is None else stop)

    def finished(row: int, token: int) -> bool:
        if token not in ends:
            pieces[row].append(streams[row].add(token))
        return streams[row].stopped

    settings = only_tokens(sampling, tokenizer, model)
    options |= {"stop": ends, "finished": finished}
    for _ in stream(model, ids, max_new_tokens, settings, **options):
        pass  # `finished` sees every token
    return ["".join([*new, text.rest()]) for new, text in zip(pieces, streams)]
