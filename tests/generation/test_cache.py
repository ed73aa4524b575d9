"""A cache serves many texts, is copied, pickled and rewound, and refuses the wrong place."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import KINDS, small_model

from llmlib.generation.generate import generate
from llmlib.generation.quantization import quantize
from llmlib.generation.sampling import Sampling
from llmlib.model.attention import CausalAttention
from llmlib.model.cache import KVCache

GREEDY = Sampling(temperature=0)


def make(seed=0, context_length=24, kind="gpt", **changes):
    torch.manual_seed(seed)
    sizes = {"n_heads": 2, "n_layers": 2} | changes
    model = small_model(kind, 23, context_length, 16, **sizes)
    model.init_weights(0.3)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return make(kind=request.param)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- one reading, many texts


@pytest.mark.parametrize("weights", [None, "float32", "float16", "int8"])
def test_one_reading_of_a_prompt_serves_many_samples(model, weights):
    model = quantize(model, weights) if weights else model
    prompt, n = [1, 2, 3, 4, 5], 6
    cache = model.new_cache(1, len(prompt))
    with torch.inference_mode():
        model.features(torch.tensor([prompt[:-1]]), cache)
    sampling = Sampling(temperature=0.7)
    expected = generate(model, [prompt] * n, 12, sampling, generator=seeded(3))
    many = cache.copy(n, capacity=len(prompt) + 11)
    found = generate(model, [prompt] * n, 12, sampling, generator=seeded(3), cache=many)
    assert found == expected and len(set(map(tuple, found))) > 1
    again = cache.copy(n, capacity=20)  # the first one is as it was
    assert generate(model, [prompt] * n, 12, sampling, generator=seeded(3), cache=again) == expected


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_copied_cache_goes_on_like_the_first(data):
    model = make(1)
    prompts = data.draw(
        st.lists(st.lists(st.integers(0, 22), min_size=1, max_size=6), min_size=1, max_size=3)
    )
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    segments = torch.tensor([[-1] * (longest - len(p)) + [0] * len(p) for p in prompts])
    cache = model.new_cache(len(prompts), longest)
    model(ids, cache, segments=segments)
    n = data.draw(st.integers(1, 3))
    other = cache.copy(n, capacity=longest + data.draw(st.integers(2, 9)))
    tail = torch.tensor([[7, 8]])
    logits = model(tail.expand(n * len(prompts), -1), other)
    for row, found in enumerate(logits):
        alone = model(torch.tensor([[*prompts[row // n], 7, 8]]))[0, -2:]
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
    assert cache.length == longest and other.length == longest + 2
    assert cache.capacity == longest


def test_segments_may_stand_anywhere_and_hide_what_they_say(model):
    """A mask with holes, on the right or in the middle: as if the hidden tokens were not there."""
    ids = torch.randint(23, (3, 9), generator=seeded(1))
    mask = torch.tensor([[1, 1, 1, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1, 0, 1, 1], [1] * 9])
    cache = model.new_cache(3, 12)
    logits = model(ids, cache, segments=mask - 1)
    more = model(ids[:, :3], cache)
    for row in range(3):
        real = ids[row][mask[row].bool()]
        alone = model(torch.cat([real, ids[row, :3]])[None])[0]
        found = torch.cat([logits[row][mask[row].bool()], more[row]])
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)


# --- copies


def test_a_cache_is_deeply_copied_and_pickled(model):
    cache = model.new_cache(2, 12)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    model(ids, cache, segments=torch.tensor([[-1, 0, 0, 0], [0, 0, 0, 0]]))
    expected = model(ids[:, :2], copy.deepcopy(cache))
    data = pickle.dumps(cache)
    assert len(data) < 2 * cache.data.nbytes + 5000  # no view of it is stored beside it
    for twin in (copy.deepcopy(cache), pickle.loads(data), cache.copy(), cache.copy(capacity=6)):
        assert torch.equal(model(ids[:, :2], twin), expected)
    assert cache.length == 4
    empty = pickle.loads(pickle.dumps(model.new_cache(1, 3)))
    assert torch.equal(model(ids[:1, :3], empty), model(ids[:1, :3], model.new_cache(1, 3)))


# --- the wrong place


def read(model, ids, cache):
    return model(torch.tensor([ids]), cache)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"n_layers": 1}, "has 2 layers, and 1 were stored.*another model"),
        ({"n_layers": 3}, "layer 2 come to a cache that has 2 of 2.*another model"),
        ({"n_heads": 4}, r"keys \(1, 4, 1, 4\).*do not fit the cache.*another model"),
        ({"n_heads": 1}, r"keys \(1, 1, 1, 16\).*do not fit the cache"),
        ({"context_length": 3}, "exceeds the model's context_length of 3"),
    ],
)
def test_another_models_cache_is_refused(other, message):
    model, stranger = make(), make(5, **other)
    cache = model.new_cache(1, 12)
    read(model, [1, 2, 3], cache)
    with pytest.raises(ValueError, match=message):
        for _ in range(2):
            read(stranger, [1], cache)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cache_of_another_precision_is_refused(model, dtype):
    cache = model.new_cache(1, 12)
    read(model, [1, 2, 3], cache)
    with pytest.raises(ValueError, match=r"torch\.float32.*in another precision"):
        read(make().to(dtype), [1], cache)


def test_a_cache_says_when_it_was_not_told_of_new_tokens(model):
    layer = CausalAttention(16, 2, 24)
    for cache in (KVCache(2, 1, 8), model.new_cache(1, 8)):
        with torch.no_grad(), pytest.raises(ValueError, match=r"cache\.grow.* was not called"):
            layer(torch.randn(1, 2, 16), cache)
            layer(torch.randn(1, 2, 16), cache)
    cache = KVCache(1, 1, 8)
    cache.grow(1, 3)
    with torch.no_grad(), pytest.raises(ValueError, match="for 3 new tokens"):
        layer(torch.randn(1, 2, 16), cache)
    cache = KVCache(1, 2, 8)
    cache.grow(2, 3)
    with torch.no_grad(), pytest.raises(ValueError, match="do not fit the cache"):
        layer(torch.randn(1, 3, 16), cache)


def test_a_reading_that_was_cut_off_is_not_built_upon(model):
    cache = model.new_cache(1, 12)
    read(model, [1, 2, 3], cache)
    expected = read(model, [4, 5], cache)
    cache.rewind(3)
    handle = model.h[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read(model, [9, 9], cache)
    handle.remove()
    with pytest.raises(ValueError, match=r"was cut off; cache\.rewind\(3\) forgets it"):
        read(model, [4, 5], cache)
    cache.rewind(4)  # keeps one of those that were cut off
    with pytest.raises(ValueError, match="was cut off"):
        read(model, [4, 5], cache)
    cache.rewind(cache.begun)
    assert torch.equal(read(model, [4, 5], cache), expected)


def test_a_prepared_cache_that_does_not_fit_the_prompts_is_refused(model):
    prompt = torch.tensor([[1, 2, 3, 4]])
    cache = model.new_cache(1, 24)
    model(prompt[:, :3], cache)
    fine = generate(model, prompt, 5, GREEDY, cache=cache.copy())
    assert fine == generate(model, prompt, 5, GREEDY)
    for call, message in [
        (lambda: generate(model, prompt.expand(2, -1), 5, cache=cache), "each of 1 rows.* 2 rows"),
        (lambda: generate(model, prompt[:, :3], 5, cache=cache), "at most all but the last token"),
        (lambda: generate(model, prompt, 5, cache=cache.copy(capacity=7)), "place for 7.* 8 are"),
        (lambda: cache.copy(capacity=2), "capacity is 2"),
        (lambda: cache.copy(0), "n is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    used = cache.copy()
    generate(model, prompt, 5, GREEDY, cache=used)
    with pytest.raises(ValueError, match="One text uses it up"):
        generate(model, prompt, 5, GREEDY, cache=used)
    with pytest.raises(TypeError, match="reads no cache"):
        generate(model.forward, prompt, 5, cache=cache.copy())
    long = torch.ones(1, 24, dtype=torch.int64)
    with pytest.raises(ValueError, match="context_length"):
        generate(model, torch.cat([long, long], 1), 5, slide=2, cache=cache.copy(capacity=24))


def test_a_text_from_a_prepared_cache_slides_like_another(model):
    prompt = torch.tensor([[1, 2, 3, 4, 5]])
    for slide in (1, 5):
        cache = model.new_cache(1, 24)
        model(prompt[:, :4], cache)
        expected = generate(model, prompt, 45, GREEDY, slide=slide)
        assert generate(model, prompt, 45, GREEDY, slide=slide, cache=cache) == expected


def test_a_cache_that_took_padding_for_text_is_refused():
    """It would go on with another text, without a word."""
    model, rows = make(), [[6, 7], [1, 2, 3]]
    padded, expected = torch.tensor([[0, 6, 7], [1, 2, 3]]), generate(make(), rows, 4, GREEDY)
    told, untold = model.new_cache(2, 8), model.new_cache(2, 8)
    with torch.no_grad():
        model(padded[:, :2], told, segments=torch.tensor([[-1, 0], [0, 0]]))
        model(padded[:, :2], untold)
    assert generate(model, rows, 4, GREEDY, cache=told.copy()) == expected
    for prompts, cache in ((rows, untold), (padded, told)):
        with pytest.raises(ValueError, match=r"padding.* as padding: .*segments"):
            generate(model, prompts, 4, GREEDY, cache=cache)
    for other in ("cache", {}, object()):
        with pytest.raises(TypeError, match=r"give one of model\.new_cache"):
            generate(model, padded, 4, GREEDY, cache=other)
