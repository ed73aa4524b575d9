"""Generation: settings of sampling, the loop, the cache, beams, drafts, packed weights."""

import math

import torch

from refusals import api
from refusals.refusal import Refusal

WHOLE = ("int", "whole number")
PROMPT = [[1, 2]]
FORMATS = ["float32", "bfloat16", "float16", "int8"]
SETTINGS = [
    ("temperature", -1, "0"),
    ("temperature", "1", "0"),
    ("temperature", math.nan, "0"),
    ("temperature", math.inf, "0"),
    ("temperature", True, "0"),
    ("top_k", 0, WHOLE, "1", "None"),
    ("top_k", 2.0, WHOLE, "1"),
    ("top_k", True, WHOLE, "1"),
    ("top_p", 0, "0", "1"),
    ("top_p", 1.5, "0", "1"),
    ("top_p", "1", "0", "1"),
    ("top_p", True, "0", "1"),
]
CACHED_SETTINGS = [
    ("min_p", -0.1, "0", "1"),
    ("min_p", 2, "0", "1"),
    ("min_p", True, "0", "1"),
    ("repetition_penalty", 0, "0"),
    ("repetition_penalty", math.inf, "0"),
    ("repetition_penalty", "1", "0"),
]
LOOP = [
    ("max_new_tokens", -1, WHOLE, "0"),
    ("max_new_tokens", 2.0, WHOLE, "0"),
    ("max_new_tokens", True, WHOLE, "0"),
    ("stop", -1, "token id", "None"),
    ("stop", "end", "token id", "None"),
]
DOORS = {
    "generate": lambda **settings: go_on(api.generate, **settings),
    "generate by callable": lambda **settings: go_on(api.generate_by_callable, **settings),
}


class Words:
    """A minimal tokenizer: one token per character."""

    def encode(self, text):
        return [ord(character) % 11 for character in text]

    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


def uniform(ids):
    return torch.zeros(*ids.shape, 11)


def broken():
    model = api.gpt()
    model.ln_f.weight.data.fill_(math.nan)
    return model


def go_on(generate, ids=None, max_new_tokens=2, model=None, **settings):
    model = api.gpt() if model is None else model
    return generate(model, torch.tensor(PROMPT) if ids is None else ids, max_new_tokens, **settings)


def beam(ids=None, max_new_tokens=2, n_beams=2, **more):
    return api.beam_search(
        api.gpt(), PROMPT if ids is None else ids, max_new_tokens, n_beams, **more
    )


def speculate(target=None, draft=None, ids=None, max_new_tokens=2, **more):
    target, draft = target or api.gpt(), draft or api.gpt()
    return api.speculate(target, draft, PROMPT if ids is None else ids, max_new_tokens, **more)


def cache_row(name: str, call, *says) -> Refusal:
    return Refusal(f"cache {name}", lambda tmp: call(api.cached_model()), ValueError, [*says])


def after_two(model, call):
    """Call something with a model and a cache for 4 tokens that holds 2."""
    cache = api.new_cache(model, 1, 4)
    api.read(model, api.ids([1, 2]), cache)
    call(model, cache)


REFUSALS = [
    # ---- settings
    *(
        Refusal(
            f"{door} {name}={value!r}",
            lambda tmp, call=call, name=name, value=value: call(**{name: value}),
            ValueError,
            [name, repr(value), *says],
        )
        for door, call, settings in [
            *((door, call, SETTINGS + LOOP) for door, call in DOORS.items()),
            ("generate", DOORS["generate"], CACHED_SETTINGS),
            ("sampling", api.sampling, SETTINGS + CACHED_SETTINGS),
            ("sample", lambda **settings: api.sample(torch.zeros(1, 5), **settings), SETTINGS),
        ]
        for name, value, *says in settings
    ),
    *(
        Refusal(
            f"filter top_k={k!r}",
            lambda tmp, k=k: api.top_k_filter(torch.zeros(1, 5), k),
            ValueError,
            ["top_k", repr(k), WHOLE, "1"],
        )
        for k in (0, 1.0)
    ),
    *(
        Refusal(
            f"filter top_p={p!r}",
            lambda tmp, p=p: api.top_p_filter(torch.zeros(1, 5), p),
            ValueError,
            ["top_p", repr(p), "0", "1"],
        )
        for p in (0, 2)
    ),
    Refusal(
        "generate unknown setting",
        lambda tmp: go_on(api.generate, temprature=1),
        TypeError,
        ["temprature", ("temperature", "unexpected")],
    ),
    Refusal(
        "speculate unknown setting",
        lambda tmp: speculate(temprature=1),
        TypeError,
        ["temprature", ("temperature", "unexpected")],
    ),
    *(
        Refusal(
            f"{door} of broken logits",
            lambda tmp, call=call: call(torch.full((1, 5), math.nan)),
            ValueError,
            ["logits", "nan", "infinite", "model"],
        )
        for door, call in [("sample", api.sample), ("sampling", api.sampling_probabilities)]
    ),
    *(
        Refusal(
            f"{door} by a broken model",
            lambda tmp, call=call: call(model=broken()),
            ValueError,
            ["logits", "nan", "infinite", "model"],
        )
        for door, call in DOORS.items()
    ),
    # ---- prompts
    *(
        Refusal(
            f"{door} of {name}",
            lambda tmp, call=call, ids=ids: call(ids=ids),
            error,
            says,
        )
        for door, call in DOORS.items()
        for name, ids, error, says in [
            ("floats", torch.zeros(1, 3), TypeError, [("ids", "prompts")]),
            ("a flat prompt", torch.arange(3), ValueError, ["(3,)", "batch"]),
            ("no token", torch.zeros(1, 0).long(), ValueError, ["(1, 0)", "at least one"]),
            ("a text", "Once", TypeError, ["ids"]),
            ("a number", 0, TypeError, ["ids"]),
            ("an unknown id", api.ids([1, 99]), ValueError, ["99", "vocabulary", "0", "10"]),
        ]
    ),
    *(
        Refusal(f"generate {name}", lambda tmp, ids=ids: go_on(api.generate, ids), error, says)
        for name, ids, error, says in [
            ("no prompt", [], ValueError, ["at least one"]),
            ("an empty prompt", [[1], []], ValueError, ["at least one"]),
            ("prompts of floats", [[0.5]], TypeError, ["ids", "int"]),
        ]
    ),
    *(
        Refusal(
            f"generate slide={slide!r}",
            lambda tmp, slide=slide: go_on(api.generate, slide=slide),
            ValueError,
            ["slide", repr(slide), "1", "8"],
        )
        for slide in (0, 9, 2.0)
    ),
    Refusal(
        "generate beyond the context",
        lambda tmp: go_on(api.generate, max_new_tokens=8),
        ValueError,
        ["2", "8", "context_length", "crop", "slide"],
    ),
    Refusal(
        "generate by no model",
        lambda tmp: go_on(api.generate, model="gpt2"),
        TypeError,
        ["str", "model"],
    ),
    # ---- weights
    Refusal(
        "weights in no format",
        lambda tmp: api.quantize(api.gpt(), "int9"),
        ValueError,
        ["'int9'", *FORMATS],
    ),
    Refusal(
        "weights of no model",
        lambda tmp: api.quantize(api.Linear(2, 2), "int8"),
        TypeError,
        ["Linear", "GPT"],
    ),
    Refusal(
        "pack in no format",
        lambda tmp: api.pack(torch.eye(2), "int9"),
        ValueError,
        ["'int9'", *FORMATS],
    ),
    *(
        Refusal(
            f"{door} of {bad}",
            lambda tmp, call=call, bad=bad: call(torch.full((2, 2), bad)),
            ValueError,
            ["nan", "infinity", "weight"],
        )
        for door, call in [("pack", api.pack), ("quantize rows", api.quantize_rows)]
        for bad in (math.nan, math.inf)
    ),
    *(
        Refusal(
            f"quantize rows of {tuple(weight.shape)} {weight.dtype}",
            lambda tmp, weight=weight: api.quantize_rows(weight),
            ValueError,
            [str(tuple(weight.shape)), str(weight.dtype), "(O, I)"],
        )
        for weight in (torch.ones(3), torch.ones(2, 2).long())
    ),
    # ---- the cache
    cache_row("for no row", lambda model: api.new_cache(model, 0, 4), "0", "4", "row", "8"),
    cache_row("for no token", lambda model: api.new_cache(model, 1, 0), "0", "1", "8"),
    cache_row(
        "beyond the context", lambda model: api.new_cache(model, 1, 9), "9", "8", "context_length"
    ),
    cache_row(
        "for other rows",
        lambda model: api.read(model, api.ids([1], [2]), api.new_cache(model, 1, 4)),
        "2",
        "1",
        "rows",
    ),
    cache_row(
        "too full",
        lambda model: after_two(
            model, lambda model, cache: api.read(model, api.ids([1, 2, 3]), cache)
        ),
        "3",
        "2",
        "4",
        "context_length",
    ),
    *(
        cache_row(
            f"back to {length}",
            lambda model, length=length: after_two(
                model, lambda model, cache: api.rewind(cache, length)
            ),
            str(length),
            "2",
        )
        for length in (3, -1)
    ),
    cache_row(
        "of an unknown id",
        lambda model: api.read(model, api.ids([11]), api.new_cache(model, 1, 4)),
        "11",
        "vocabulary",
        "10",
    ),
    Refusal(
        "cached model of floats",
        lambda tmp: api.cached_model()(torch.zeros(1, 3)),
        TypeError,
        ["torch.float32", "torch.int64"],
    ),
    # ---- beams
    Refusal("beams of two prompts", lambda tmp: beam([[1], [2]]), ValueError, ["2", "one prompt"]),
    *(
        Refusal(
            f"beams {name}={value!r}",
            lambda tmp, name=name, value=value: beam(**{name: value}),
            ValueError,
            [name, repr(value), WHOLE, "1"],
        )
        for name, value in [("max_new_tokens", 0), ("n_beams", 0), ("n_beams", 2.0)]
    ),
    Refusal(
        "beams beyond the context",
        lambda tmp: beam(max_new_tokens=8),
        ValueError,
        ["2", "8", "context_length"],
    ),
    # ---- drafts
    Refusal(
        "drafts of two prompts",
        lambda tmp: speculate(ids=[[1], [2]]),
        ValueError,
        ["2", "one prompt"],
    ),
    *(
        Refusal(
            f"drafts {name}={value!r}",
            lambda tmp, name=name, value=value: speculate(**{name: value}),
            ValueError,
            [name, repr(value), WHOLE, "1"],
        )
        for name, value in [("max_new_tokens", 0), ("n_draft", 0), ("n_draft", True)]
    ),
    Refusal(
        "drafts of another vocabulary",
        lambda tmp: speculate(draft=api.gpt(vocab_size=12)),
        ValueError,
        ["vocabular", "target", "draft"],
    ),
    Refusal(
        "drafts beyond the context of the draft",
        lambda tmp: speculate(draft=api.gpt(context_length=4), max_new_tokens=4),
        ValueError,
        ["2", "4", "context_length"],
    ),
    # ---- texts
    *(
        Refusal(
            f"text stops at {stops!r}",
            lambda tmp, stops=stops: api.stream_text(api.gpt(), Words(), "ab", stops=stops),
            ValueError,
            [repr(stops[0]), "string", ("one character", "empty")],
        )
        for stops in ([""], [3])
    ),
    Refusal(
        "text with a cold temperature",
        lambda tmp: api.stream_text(api.gpt(), Words(), "ab", temperature=-1),
        ValueError,
        ["temperature", "-1", "0"],
    ),
    Refusal(
        "text beyond the context",
        lambda tmp: api.stream_text(api.gpt(), Words(), "ab", 8),
        ValueError,
        ["2", "8", "context_length"],
    ),
]
