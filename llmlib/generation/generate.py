# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""Text from a model, one token at a time: greedy, or drawn with temperature, top-k and top-p.

Built in notebook 06. Works with any callable that maps ids (B, T) to logits (B, T, V). What is left
out: a cache of keys and values, without which each token costs as much as the whole text before it
(notebook 10).

Shapes: B rows in a batch, T tokens each, V = vocab_size.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F


def top_k_filter(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Set all but the k highest logits (..., V) to -inf; those equal to the k-th stay too.

    Source: Fan, Lewis and Dauphin 2018, section 5.1. Raises ValueError for a k below 1.
    """
    if type(k) is not int or k < 1:
        raise ValueError(f"top_k is {k!r}: it must be an int of at least 1, or None for all tokens")
    if k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def top_p_filter(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Set logits (..., V) to -inf but for the fewest tokens that have probability p together.

    The likeliest token stays always. Source: Holtzman et al. 2019, section 3.1 ("nucleus").
    Raises ValueError for a p that is not above 0 and at most 1.
    """
    if not (isinstance(p, (int, float)) and not isinstance(p, bool) and 0 < p <= 1):
        raise ValueError(f"top_p is {p!r}: it must be a number above 0 and at most 1")
    if p == 1:
        return logits
    # from the least likely upwards: a token goes if it and all below it make up no more than 1 - p
    ordered, order = logits.sort(dim=-1)
    outside = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    outside[..., -1] = False
    return logits.masked_fill(outside.scatter(-1, order, outside), -math.inf)


def check_settings(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError, saying what is allowed, for settings with which nothing can be drawn."""
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not number or not 0 <= temperature < math.inf:
        raise ValueError(
            f"temperature is {temperature!r}: it must be a number of at least 0, where 0 takes the "
            "likeliest token"
        )
    nothing = torch.zeros(1)
    if top_k is not None:
        top_k_filter(nothing, top_k)
    if top_p is not None:
        top_p_filter(nothing, top_p)


def next_token(
    logits: torch.Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Choose one token for each row of logits (B, V), and return their ids (B,).

    temperature divides the logits: below 1 the likely tokens become likelier, and 0 takes the
    likeliest. Then top_k and top_p leave tokens out, in this order, and one of the rest is drawn.
    Raises ValueError for settings that are not possible and for logits that leave no choice.
    """
    check_settings(temperature, top_k, top_p)
    highest = logits.amax(dim=-1, keepdim=True)
    if not highest.isfinite().all():
        raise ValueError("the model gives logits that are nan or infinite: its weights are broken")
    if temperature == 0:
        return logits.argmax(dim=-1)
    # at most 0, so that no temperature makes it overflow; one below 1e-38 would be 0 in float32
    logits = (logits - highest).float() / max(temperature, 1e-30)
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    probs = logits.softmax(dim=-1)
    return torch.multinomial(probs, num_samples=1, generator=generator).squeeze(-1)


@torch.no_grad()
def last_logits(model: Callable, ids: torch.Tensor, context_length: int | None) -> torch.Tensor:
    """The logits (B, V) for the token after ids (B, T), of which the model sees the last ones.

    No gradients are kept, and a model that was training is training again afterwards.
    """
    ids = ids if context_length is None else ids[:, -context_length:]
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    try:
        if hasattr(model, "features"):  # the head is needed at the last position only
            return F.linear(model.features(ids)[:, -1], model.head_weight)
        return model(ids)[:, -1]
    finally:
        if was_training:
            model.train()


def tokens_after(
    model: Callable, ids: torch.Tensor, max_new_tokens: int, choose: Callable, stop: int | None
) -> Iterator[torch.Tensor]:
    """The loop of `stream` below; choose maps logits (B, V) to tokens (B,)."""
    context_length = getattr(getattr(model, "config", None), "context_length", None)
    going_on = torch.arange(len(ids), device=ids.device)  # the rows that are not finished
    for _ in range(max_new_tokens):
        chosen = choose(last_logits(model, ids[going_on], context_length)).to(ids.dtype)
        tokens = ids.new_full((len(ids),), -1 if stop is None else stop)
        tokens[going_on] = chosen
        yield tokens
        ids = torch.cat([ids, tokens[:, None]], dim=1)  # (B, T) -> (B, T + 1)
        going_on = going_on if stop is None else going_on[chosen != stop]
        if len(going_on) == 0:
            return


def stream(
    model: Callable,
    ids: torch.Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[torch.Tensor]:
    """Continue ids (B, T) and yield the new tokens (B,) one step at a time, as they are chosen.

    model: maps ids (B, T) to logits (B, T, V). Of a text longer than its `config.context_length`
    it sees the end. stop: the id after which a row is finished; a finished row repeats it, and the
    last row to finish ends the stream. For the other settings see `next_token`.
    Raises TypeError and ValueError at once, not only when the first token is asked for.
    """
    check_settings(temperature, top_k, top_p)
    if not isinstance(ids, torch.Tensor) or ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            "ids must be a tensor of token ids (B, T): torch.tensor([tokenizer.encode(text)])"
        )
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}, expected (batch, tokens) with at least one token, "
            "such as the one for the end of a text, after which a new one begins"
        )
    if type(max_new_tokens) is not int or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens!r}: it must be an int of at least 0")
    if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(f"stop is {stop!r}: it must be a token id, or None")
    choose = partial(
        next_token, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
    )
    return tokens_after(model, ids, max_new_tokens, choose, stop)


def generate(
    model: Callable,
    ids: torch.Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Continue ids (B, T), and return them with up to max_new_tokens more, (B, T + new).

    See `stream`, whose settings and errors these are.
    """
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "stop": stop}
    tokens = stream(model, ids, max_new_tokens, generator=generator, **settings)
    return torch.cat([ids, *(step[:, None] for step in tokens)], dim=1)
