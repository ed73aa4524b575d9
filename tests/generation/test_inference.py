"""Cached generation says what the model says; sampling, beams and drafts do what they promise."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import KINDS, small_model

from llmlib.generation import packing
from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate, pad_left, stream
from llmlib.generation.packing import PackedLinear
from llmlib.generation.quantization import bytes_read, quantize
from llmlib.generation.rounding import BYTES, quantize_rows, reference_product
from llmlib.generation.sampling import Sampling, draw, row_generators
from llmlib.generation.speculative import accept, speculate
from llmlib.generation.streaming import TextStream, held_back, stream_text
from llmlib.model.cache import KVCache, cache_bytes
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.tokenization.gpt2 import gpt2_encoding
from llmlib.tokenization.words import CharTokenizer


def make(seed=0, vocab_size=23, context_length=24, emb_dim=16, std=0.3, kind="gpt", **changes):
    """A small model whose weights are large enough that its answers differ."""
    sizes = {"n_heads": 2, "n_layers": 2} | changes
    model = small_model(kind, vocab_size, context_length, emb_dim, **sizes)
    model.init_weights(std, generator=torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return make(kind=request.param)


GREEDY = Sampling(temperature=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the cache


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_reading_in_any_pieces_gives_the_logits_of_the_whole(data):
    heads, head_dim = data.draw(st.sampled_from([(1, 4), (2, 8), (3, 4)]))
    context_length = data.draw(st.integers(1, 12))
    model = make(
        data.draw(st.integers(0, 99)),
        vocab_size=data.draw(st.integers(1, 40)),
        context_length=context_length,
        emb_dim=heads * head_dim,
        n_heads=heads,
        n_layers=data.draw(st.integers(1, 3)),
        qkv_bias=data.draw(st.booleans()),
        tie_weights=data.draw(st.booleans()),
        kind=data.draw(st.sampled_from(KINDS)),
    )
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, context_length)))
    ids = torch.randint(model.config.vocab_size, shape, generator=seeded())
    cache, parts, place = model.new_cache(len(ids), context_length), [], 0
    while place < ids.shape[1]:
        n = data.draw(st.integers(1, ids.shape[1] - place))
        parts.append(model(ids[:, place : place + n], cache))
        place += n
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 22), min_size=1, max_size=9), min_size=1, max_size=5))
def test_padded_prompts_write_what_each_writes_alone(prompts):
    model = make(1)
    together = generate(model, prompts, 8, GREEDY)
    assert together == [generate(model, [prompt], 8, GREEDY)[0] for prompt in prompts]
    ids, padding = pad_left(prompts)
    segments = -(torch.arange(ids.shape[1]) < padding[:, None]).long()
    logits = model(ids, model.new_cache(*ids.shape), segments=segments)[:, -1]
    alone = torch.stack([model(torch.tensor([prompt]))[0, -1] for prompt in prompts])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


def test_padding_never_makes_nan(model):
    cache = model.new_cache(2, 6)
    segments = torch.tensor([[-1] * 5 + [0], [0] * 6])
    assert model(torch.ones(2, 6, dtype=torch.int64), cache, segments=segments).isfinite().all()
    assert cache.mask.any(dim=-1).all()  # with all masked, some kernels give 0, others nan


def test_a_cache_takes_the_bytes_of_the_formula():
    config = GPTConfig.preset("story-small")
    for dtype, number in ((torch.float32, 4), (torch.bfloat16, 2)):
        cache = GPT(config).eval().to(dtype).requires_grad_(False).new_cache(3, 50)
        assert isinstance(cache, KVCache)
        GPT(config).to(dtype).requires_grad_(False).features(torch.ones(3, 1).long(), cache)
        assert cache.data.dtype == dtype
        assert cache.data.nbytes == cache_bytes(config, 50, 3, number)


def test_a_cache_can_be_rewound_and_its_rows_selected(model):
    cache = model.new_cache(2, 8)
    ids = torch.tensor([[1, 2, 3], [0, 4, 5]])
    model(ids, cache, segments=torch.tensor([[0, 0, 0], [-1, 0, 0]]))
    model(torch.tensor([[9, 9], [9, 9]]), cache)
    cache.rewind(3)
    cache.select(torch.tensor([1, 0, 1]))
    logits = model(torch.tensor([[7], [7], [8]]), cache)[:, -1]
    for row, text in enumerate(([4, 5, 7], [1, 2, 3, 7], [4, 5, 8])):
        torch.testing.assert_close(logits[row], model(torch.tensor([text]))[0, -1])


def test_quantizing_leaves_the_model_as_it_was():
    training = make().train()
    before = {name: p.clone() for name, p in training.named_parameters()}
    generate(quantize(training, "int8"), [[1]], 3)
    assert training.training
    assert all(torch.equal(before[name], p) for name, p in training.named_parameters())


# --- against others


def test_greedy_text_is_hugging_faces_token_for_token(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    sizes = {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    ends = {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends)).eval()
    ours = GPT(GPTConfig(61, 64, 32, 4, 3))
    state = theirs.state_dict()
    for name, parameter in ours.named_parameters():
        tensor = state[f"transformer.{name}"]
        transposed = parameter.ndim == 2 and name.startswith("h.")
        parameter.data.copy_(tensor.T if transposed else tensor)
    ids = torch.randint(61, (3, 7), generator=seeded())
    # a mask, or it takes each token with the id of the padding for no token
    alone = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    expected = theirs.generate(ids, max_new_tokens=50, **alone)
    assert generate(ours, ids, 50, GREEDY) == expected.tolist()
    penalised = theirs.generate(ids, max_new_tokens=30, repetition_penalty=1.7, **alone)
    penalty = Sampling(temperature=0, repetition_penalty=1.7)
    assert generate(ours, ids, 30, penalty) == penalised.tolist()
    assert penalised.tolist() != expected[:, :37].tolist()


@pytest.mark.parametrize("stop", [None, 3])
def test_it_writes_what_is_written_without_a_cache(model, stop):
    ids = torch.randint(23, (4, 5), generator=seeded(4))
    for sampling in (GREEDY, Sampling(temperature=0.8, repetition_penalty=1.3, top_p=0.9)):
        arguments = {"stop": stop}
        with_cache = list(stream(model, ids, 19, sampling, generator=seeded(1), **arguments))
        without = list(stream(model.forward, ids, 19, sampling, generator=seeded(1), **arguments))
        assert torch.equal(torch.stack(with_cache), torch.stack(without))


def test_a_window_that_slides_by_one_is_the_cropped_text(model):
    ids = torch.randint(23, (2, 30), generator=seeded(5))
    expected = ids
    for _ in range(20):
        token = model(expected[:, -24:])[:, -1].argmax(-1, keepdim=True)
        expected = torch.cat([expected, token], dim=1)
    assert generate(model, ids, 20, GREEDY, slide=1) == expected.tolist()
    assert [len(text) for text in generate(model, ids, 40, GREEDY, slide=10)] == [70, 70]


def test_a_sliding_window_forgets_the_padding_first():
    model = make(2, context_length=8)
    prompts = [[1], [2, 3, 4, 5, 6]]  # sliding by one, each row sees its own last tokens
    alone = [generate(model, [prompt], 12, GREEDY, slide=1)[0] for prompt in prompts]
    assert generate(model, prompts, 12, GREEDY, slide=1) == alone
    both = generate(model, prompts, 12, GREEDY, slide=3)
    assert both[1] == generate(model, [[2, 3, 4, 5, 6]], 12, GREEDY, slide=3)[0]
    assert len(both[0]) == 13


# --- sampling


def test_each_filter_leaves_what_it_says():
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    assert Sampling().probabilities(logits).allclose(logits.exp())
    assert Sampling(min_p=0.4).probabilities(logits).allclose(torch.tensor([2 / 3, 1 / 3, 0, 0]))
    assert Sampling(top_k=2).probabilities(logits).allclose(torch.tensor([2 / 3, 1 / 3, 0, 0]))
    assert Sampling(top_p=0.6).probabilities(logits).allclose(torch.tensor([2 / 3, 1 / 3, 0, 0]))
    squares = torch.tensor([0.25, 0.0625, 0.0225, 0.01])
    half = Sampling(temperature=0.5).probabilities(logits)
    assert half.allclose(squares / squares.sum())
    assert Sampling(temperature=0).probabilities(logits).tolist() == [[1, 0, 0, 0]]


def test_a_repetition_penalty_lowers_what_was_seen_of_either_sign():
    logits, seen = (
        torch.tensor([[2.0, -2.0, 2.0, -2.0]]),
        torch.tensor([[True, True, False, False]]),
    )
    probs = Sampling(repetition_penalty=2.0).probabilities(logits, seen)
    assert probs.allclose(torch.tensor([[1.0, -4.0, 2.0, -2.0]]).softmax(-1))


def test_padding_is_not_penalised():
    model = make(7)
    penalty = Sampling(temperature=0, repetition_penalty=5.0)
    alone = generate(model, [[3, 4]], 6, penalty)
    both = generate(model, [[3, 4], [1, 2, 5, 6, 7]], 6, penalty)
    assert both[0] == alone[0]


def test_draws_have_the_probabilities_asked_for():
    probs = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    n = 20_000
    counts = torch.zeros(6)
    generator = seeded(1)
    for _ in range(10):
        tokens = draw(probs.expand(n // 10, 6), [generator] * (n // 10))
        counts += torch.bincount(tokens, minlength=6)
    assert counts[[0, 2, 5]].sum() == 0
    expected = n * probs[[1, 3, 4]]
    assert ((counts[[1, 3, 4]] - expected) ** 2 / expected).sum() < 13.8  # chi², 2 degrees, 0.1 %


def test_the_smallest_draw_does_not_take_what_is_impossible(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(0))
    assert draw(torch.tensor([[0.0, 0.0, 0.4, 0.6]]), [None]).tolist() == [2]


def test_a_row_draws_the_same_among_any_number_of_rows(model):
    prompts = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]
    together = generate(model, prompts, 12, generator=seeded(6))
    for n in range(1, 5):
        assert generate(model, prompts[:n], 12, generator=seeded(6)) == together[:n]
    assert generate(model, prompts, 12, generator=seeded(7)) != together


def test_a_row_draws_the_same_when_another_one_stops(model):
    prompts = [[1, 2, 3]] * 6
    free = generate(model, prompts, 15, generator=seeded(8))
    stopped = generate(model, prompts, 15, generator=seeded(8), stop=free[0][5])
    assert stopped[0] == free[0][: free[0].index(free[0][5], 3) + 1]
    assert all(long[: len(short)] == short for long, short in zip(free, stopped))
    assert len({len(text) for text in stopped}) > 1


def test_generators_do_not_depend_on_how_many_there_are():
    few, many = row_generators(2, seeded()), row_generators(9, seeded())
    assert [g.initial_seed() for g in few] == [g.initial_seed() for g in many[:2]]
    assert len({g.initial_seed() for g in many}) == 9


# --- beams


@pytest.mark.parametrize("stop", [None, 2])
def test_a_beam_that_is_wide_enough_finds_what_trying_all_finds(stop):
    model = make(9, vocab_size=5, context_length=8)
    best = {}
    for text in itertools.product(range(5), repeat=4):
        log_probs = model(torch.tensor([[1, *text]])).double().log_softmax(-1)[0]
        steps = [log_probs[place, token].item() for place, token in enumerate(text)]
        n = text.index(stop) + 1 if stop in text else 4
        best[text[:n]] = sum(steps[:n])
    expected = sorted(best.items(), key=lambda item: -item[1])[:7]
    found = beam_search(model, [[1]], 4, n_beams=125, stop=stop)
    assert [tuple(beam.ids) for beam in found[:7]] == [text for text, _ in expected]
    for beam, (_, log_prob) in zip(found, expected):
        assert beam.log_prob == pytest.approx(log_prob, abs=1e-4)
    narrow = beam_search(model, [[1]], 4, n_beams=3, stop=stop)
    assert len(narrow) == 3
    assert narrow[0].log_prob <= found[0].log_prob + 1e-9


def test_narrow_beams_are_those_of_a_plain_search():
    model, n, stop = make(12, vocab_size=5, context_length=9), 2, 3
    beams, finished = [((), 0.0)], []
    for _ in range(6):
        longer = []
        for ids, total in beams:
            log_probs = model(torch.tensor([[1, *ids]]))[0, -1].double().log_softmax(-1).tolist()
            longer += [((*ids, token), total + log_probs[token]) for token in range(5)]
        longer = sorted(longer, key=lambda beam: -beam[1])[: 2 * n]
        finished += [beam for beam in longer[:n] if beam[0][-1] == stop]
        beams = [beam for beam in longer if beam[0][-1] != stop][:n]
    expected = sorted(finished + beams, key=lambda beam: -beam[1])[:n]
    found = beam_search(model, [[1]], 6, n, stop=stop)
    assert [tuple(beam.ids) for beam in found] == [ids for ids, _ in expected]


def test_one_beam_is_greedy(model):
    assert [1, *beam_search(model, [[1]], 9, 1)[0].ids] == generate(model, [[1]], 9, GREEDY)[0]


# --- speculation


def test_accepted_tokens_have_the_targets_distribution():
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    q = torch.tensor([[0.1, 0.6, 0.3, 0.0]])
    generator, n, counts = seeded(3), 12_000, torch.zeros(4)
    second, accepted = torch.zeros(4), 0
    for _ in range(n):
        drafted = draw(q, [generator]).tolist()
        new = accept(p, q, drafted, generator)
        counts[new[0]] += 1
        if len(new) == 2:
            accepted += 1
            second[new[1]] += 1
    assert ((counts - n * p[0]) ** 2 / (n * p[0])).sum() < 16.3  # chi², 3 degrees, 0.1 %
    assert ((second - accepted * p[1]) ** 2 / (accepted * p[1])).sum() < 16.3
    assert accepted / n == pytest.approx(torch.minimum(p[0], q[0]).sum().item(), abs=0.02)


@pytest.mark.slow
def test_speculation_has_the_targets_distribution_over_whole_texts():
    target, draft = make(3, vocab_size=4, std=0.4), make(8, vocab_size=4, n_layers=1, std=0.4)
    exact = {}
    for text in itertools.product(range(4), repeat=3):
        log_probs = target(torch.tensor([[1, *text]])).log_softmax(-1)[0]
        exact[text] = math.exp(sum(log_probs[i, token].item() for i, token in enumerate(text)))
    generator, n = seeded(5), 1500
    counts = dict.fromkeys(exact, 0)
    for _ in range(n):
        parts = speculate(target, draft, torch.tensor([[1]]), 3, n_draft=2, generator=generator)
        counts[tuple(itertools.chain(*parts))] += 1
    rare = [text for text in exact if n * exact[text] < 5]
    cells = [(counts[text], n * exact[text]) for text in exact if text not in rare]
    cells.append((sum(counts[t] for t in rare), sum(n * exact[t] for t in rare) + 1e-9))
    chi = sum((seen - due) ** 2 / due for seen, due in cells if due > 1)
    assert chi < len(cells) + 4 * math.sqrt(2 * len(cells))


@pytest.mark.parametrize("n_draft", [1, 3, 7])
@pytest.mark.parametrize("same", [True, False])
def test_a_greedy_draft_changes_no_token(model, n_draft, same):
    draft = model if same else make(44, n_layers=1)
    ids = torch.tensor([[5, 6]])
    parts = list(speculate(model, draft, ids, 20, GREEDY, n_draft=n_draft))
    assert [5, 6, *itertools.chain(*parts)] == generate(model, ids, 20, GREEDY)[0]
    if same:  # all are accepted
        assert [len(part) for part in parts[:-1]] == [n_draft + 1] * (len(parts) - 1)


def test_any_callable_drafts(model):
    ids = torch.tensor([[5, 6]])
    greedy = generate(model, ids, 12, GREEDY)[0]
    for target in (model, lambda ids: model(ids)):
        parts = speculate(target, lambda ids: torch.zeros(*ids.shape, 23), ids, 12, GREEDY)
        assert [5, 6, *itertools.chain(*parts)] == greedy
    stop = greedy[6]
    parts = speculate(model, model, ids, 12, GREEDY, stop=stop)
    assert [5, 6, *itertools.chain(*parts)] == greedy[: greedy.index(stop, 2) + 1]


# --- text


def test_no_half_character_is_ever_shown():
    encoding = gpt2_encoding()
    rng = random.Random(0)
    for _ in range(60):
        text = "".join(rng.choice("ab é€😀🦊日本語\n \N{REPLACEMENT CHARACTER}") for _ in range(25))
        shown = TextStream(encoding, encoding.encode("Hi "))
        pieces = [shown.add(token) for token in encoding.encode(text)]
        so_far = ""
        for piece in pieces:
            so_far += piece
            assert text.startswith(so_far)
        assert so_far + shown.rest() == text


def test_a_stop_string_is_never_shown_nor_what_may_become_one():
    tokenizer = CharTokenizer.from_text("abcxyz.")
    for text, stops, expected in [
        ("abxyzab", ["xyz"], "ab"),
        ("abxyab", ["xyz"], "abxyab"),
        ("aaxxyzb", ["xyz", "b"], "aax"),
        ("abxy", ["xyz"], "abxy"),
        ("xyz", "xyz", ""),
        ("ab.c", ["b.", ".c"], "a"),
    ]:
        shown = TextStream(tokenizer, tokenizer.encode("xy"), stops)
        so_far = ""
        for token in tokenizer.encode(text):
            so_far += shown.add(token)
            assert expected.startswith(so_far)
        assert so_far + shown.rest() == expected
        assert shown.stopped == (expected != text)
    assert held_back("axy", ["xyz", "y"]) == 2
    encoding = gpt2_encoding()  # two stops in a single token: the first one counts
    (token,) = encoding.encode(" the")
    assert TextStream(encoding, stops=["e", "h"]).add(token) == " t"


def test_streamed_text_is_the_generated_one():
    tokenizer = CharTokenizer.from_text("abcdefghijklmnopqrst ")
    model = make(6, vocab_size=tokenizer.vocab_size, context_length=64)
    end = tokenizer.vocab_size - 1
    ids = [end, *tokenizer.encode("abc")]
    (expected,) = generate(model, [ids], 40, stop=end, generator=seeded(3))
    new = [token for token in expected[4:] if token != end]
    pieces = stream_text(model, tokenizer, "abc", 40, end_of_text=end, generator=seeded(3))
    assert "".join(pieces) == tokenizer.decode(new)


# --- weights


def test_a_rounded_row_is_off_by_at_most_half_a_step():
    weight = torch.randn(40, 30, generator=seeded()) * torch.logspace(-3, 3, 40)[:, None]
    weight[7] = 0
    rounded, scale = quantize_rows(weight)
    assert rounded.dtype == torch.int8 and rounded.abs().max() == 127
    assert ((rounded * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize(
    ("format", "error"), [("float32", 1e-6), ("bfloat16", 8e-3), ("float16", 1e-3), ("int8", 4e-2)]
)
@pytest.mark.parametrize("n", [1, 8, 65])
def test_fast_products_are_near_the_exact_one(format, error, n):
    weight, offset = torch.randn(50, 96, generator=seeded()), torch.randn(50, generator=seeded(1))
    x = torch.randn(n, 96, generator=seeded(2)) * torch.logspace(0, n // 8, n)[:, None]
    dtype = torch.bfloat16 if format == "bfloat16" else torch.float32
    for bias in (None, offset):
        exact = torch.nn.functional.linear(x, weight, bias)
        for product in (
            PackedLinear(weight, bias, format),
            reference_product(weight, bias, format),
        ):
            assert product(x).dtype == dtype
            off = (product(x).float() - exact).norm(dim=1) / exact.norm(dim=1)
            assert (off < error).all()


def test_int8_of_a_row_does_not_depend_on_its_neighbours():
    product = PackedLinear(torch.randn(33, 64, generator=seeded()), None, "int8")
    x = torch.randn(9, 64, generator=seeded(1)) * torch.logspace(-3, 3, 9)[:, None]
    together = product(x)
    for row in range(9):
        torch.testing.assert_close(product(x[row : row + 1]), together[row : row + 1])
    assert product(torch.zeros(2, 64)).abs().max() == 0


def test_large_equal_activations_do_not_overflow():
    product = PackedLinear(torch.ones(4, 256), None, "int8")
    assert product(torch.full((1, 256), 3.0)).allclose(torch.tensor(768.0), rtol=0.02)


@pytest.mark.parametrize("format", BYTES)
def test_each_format_gives_nearly_the_models_logits(format):
    model = make(3, emb_dim=64, std=0.05)
    ids = torch.randint(23, (2, 20), generator=seeded())
    expected = model(ids)
    packed = quantize(model, format)
    logits = packed(ids)
    assert logits.dtype == torch.float32
    error = (logits - expected).norm() / expected.norm()
    bound = {"float32": 1e-5, "bfloat16": 0.02, "float16": 0.002, "int8": 0.05}[format]
    assert error < bound
    assert bytes_read(packed) == bytes_read(model) * BYTES[format] / 4


def test_without_the_fast_kernels_the_plain_ones_take_over(monkeypatch, model):
    def missing(weight, bias):
        raise RuntimeError("no such kernel here")

    ids = torch.tensor([[1, 2, 3]])
    fast = {format: quantize(model, format)(ids) for format in BYTES}
    for format in BYTES:
        monkeypatch.setitem(packing.KERNELS, format, missing)
        torch.testing.assert_close(quantize(model, format)(ids), fast[format], rtol=0.2, atol=0.2)


# --- hostile input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: quantize(m, "int4"), ValueError, "'int4'.*float32, bfloat16, float16, int8"),
        (lambda m: quantize("gpt2"), TypeError, "the model is a str.*as a GPT has"),
        (lambda m: quantize(quantize(m)), TypeError, "cannot be packed again: quantize the model"),
        (lambda m: quantize(m).state_dict(), TypeError, "has no state_dict: save the model"),
        (lambda m: m.new_cache(0, 5), ValueError, "at least one row"),
        (lambda m: m.new_cache(1, 25), ValueError, "1 to 24 tokens"),
        (lambda m: generate(m, [], 3), ValueError, "at least one prompt"),
        (lambda m: generate(m, [[1], []], 3), ValueError, "at least one token in each"),
        (lambda m: generate(m, "text", 3), TypeError, "list of lists"),
        (lambda m: generate(m, [[0.5]], 3), TypeError, "token ids"),
        (lambda m: generate(m, torch.ones(1, 2), 3), TypeError, "torch.float32"),
        (lambda m: generate(m, torch.ones(2).long(), 3), ValueError, "batch, tokens"),
        (lambda m: generate(m, [[23]], 3), ValueError, "ids are 0 to 22"),
        (lambda m: generate(m, [[1]], -1), ValueError, "max_new_tokens is -1"),
        (lambda m: generate(m, [[1]], 25), ValueError, "context_length of 24: ask for fewer"),
        (lambda m: generate(m, [[1]], 5, slide=0), ValueError, "slide is 0.*1 to 24"),
        (lambda m: generate(m, [[1]], 5, stop="."), ValueError, "stop is '.'"),
        (lambda m: generate(m, [[1]], 5, {"top_k": 3}), TypeError, "must be a Sampling, not dict"),
        (lambda m: Sampling(heat=1), TypeError, "heat.*There are temperature"),
        (lambda m: beam_search(m, [[1], [2]], 5, 2), ValueError, "one prompt, not 2"),
        (lambda m: beam_search(m, [[1]], 5, 0), ValueError, "n_beams is 0"),
        (lambda m: speculate(m, m, [[1]], 5, n_draft=0), ValueError, "n_draft is 0"),
        (lambda m: speculate(m, m, [[1]], 50), ValueError, "context_length of 24"),
        (lambda m: speculate(m, make(vocab_size=9), [[1]], 5), ValueError, "vocabularies"),
        (lambda m: TextStream(None, stops=[""]), ValueError, "one character or more"),
        (lambda m: quantize_rows(torch.full((2, 2), math.nan)), ValueError, "nan"),
        (lambda m: quantize_rows(torch.ones(2)), ValueError, r"give floats \(O, I\)"),
        (lambda m: PackedLinear(torch.ones(2, 2), None, "int3"), ValueError, "int3"),
    ],
)
def test_what_cannot_work_is_refused_and_says_why(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


def test_a_full_cache_says_what_to_do(model):
    cache = model.new_cache(1, 4)
    model(torch.tensor([[1, 2, 3]]), cache)
    with pytest.raises(ValueError, match="its capacity is 4; make a larger one"):
        model(torch.tensor([[1, 2]]), cache)
    with pytest.raises(ValueError, match="2 rows of ids, but the cache is for 1"):
        model(torch.tensor([[1], [2]]), cache)
    with pytest.raises(ValueError, match="length is 4: it must be an int from 0 to 3"):
        cache.rewind(4)
    assert cache.length == 3


def test_broken_weights_are_reported(model):
    broken = make()
    broken.wte.weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match="nan or infinite"):
        generate(broken, [[1]], 2)
    assert generate(model, [[1]], 0) == [[1]]
    assert len(generate(model, [[1]], 24)[0]) == 25
