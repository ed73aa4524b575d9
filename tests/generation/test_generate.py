"""Generation: equal to Hugging Face's filters, to a plain loop, and clear when it is misused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import KINDS, small_model

from llmlib.evaluation.ngrams import NGramModel
from llmlib.generation.generate import TextReader, generate, pad_left, stream
from llmlib.generation.sampling import Sampling, draw, top_k_filter, top_p_filter

VOCABULARY = 20


def make_model(kind="gpt", **changes):
    torch.manual_seed(0)
    shape = {"emb_dim": 16, "n_heads": 2, "n_layers": 2, **changes}
    model = small_model(kind, VOCABULARY, 12, **shape)
    model.init_weights(0.5)
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


GREEDY = Sampling(temperature=0)


def next_token(logits, generator=None, **settings):
    """One token from each row, all with one generator."""
    return draw(Sampling(**settings).probabilities(logits), [generator] * len(logits))


class Cropped:
    """A model that is a plain callable with a configuration: its text is read again each time."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def __call__(self, ids):
        return self.model(ids)


def cycle(ids):
    """A model that is a plain function: after n comes n + 1, for certain."""
    return 50.0 * torch.nn.functional.one_hot((ids.long() + 1) % VOCABULARY, VOCABULARY).float()


# The filters --------------------------------------------------------------------------------------

logits_of_rows = st.integers(0, 10**6).flatmap(
    lambda seed: st.builds(
        lambda rows, size, scale: scale * torch.randn(rows, size, generator=seeded(seed)),
        st.integers(1, 4),
        st.integers(1, 50),
        st.sampled_from([0.1, 1.0, 10.0]),
    )
)


@settings(max_examples=100, deadline=None)
@given(logits_of_rows, st.integers(1, 60))
def test_top_k_equals_hugging_face(logits, k):
    from transformers.generation.logits_process import TopKLogitsWarper

    assert torch.equal(top_k_filter(logits, k), TopKLogitsWarper(k)(None, logits))


@settings(max_examples=100, deadline=None)
@given(logits_of_rows, st.floats(0.01, 0.99))
def test_top_p_equals_hugging_face(logits, p):
    from transformers.generation.logits_process import TopPLogitsWarper

    assert torch.equal(top_p_filter(logits, p), TopPLogitsWarper(p)(None, logits))


def test_top_k_keeps_the_highest_and_those_equal_to_the_last():
    low = -math.inf
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    assert top_k_filter(logits, 1).tolist() == [[low, 3.0, low], [5.0, 5.0, 5.0]]
    assert torch.equal(top_k_filter(logits, 3), logits)


def test_top_p_keeps_the_fewest_tokens_that_suffice():
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    for p, kept in [(0.1, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.91, 4), (1.0, 4)]:
        finite = top_p_filter(logits, p).isfinite()
        assert finite.sum() == kept, p
        assert logits[finite].min() >= (logits[~finite].max() if kept < 4 else -math.inf)


def test_the_likeliest_token_stays_however_small_top_p_is():
    logits = torch.randn(5, 40, generator=seeded())
    for p in (1e-300, 1e-9, 1e-4):  # 1 - 1e-9 is 1 in float32
        kept = top_p_filter(logits, p).isfinite()
        assert torch.equal(kept.nonzero()[:, 1], logits.argmax(-1)), p


def test_filters_leave_their_input_alone():
    logits = torch.randn(2, 9, generator=seeded())
    before = logits.clone()
    top_k_filter(logits, 2), top_p_filter(logits, 0.3)
    next_token(logits, temperature=0.5, top_k=2, top_p=0.3)
    assert torch.equal(logits, before)


def test_draws_follow_the_distribution_that_the_settings_give():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    for temperature, top_k, top_p in [(1.0, None, None), (2.0, 2, None), (2.0, None, 0.8)]:
        kept = logits / temperature
        kept = top_k_filter(kept, top_k) if top_k else kept
        kept = top_p_filter(kept, top_p) if top_p else kept
        drawn = next_token(
            logits.expand(20_000, -1),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=seeded(),
        )
        shares = drawn.bincount(minlength=4) / 20_000
        torch.testing.assert_close(shares, kept.softmax(-1)[0], atol=0.015, rtol=0)


def test_temperatures_near_zero_and_huge_logits_do_not_overflow():
    logits = torch.tensor([[1e30, -1e30, 1e29]])
    for temperature in (0, 1e-300, 1e-30, 1.0, 1e30):
        token = next_token(logits, temperature=temperature, generator=seeded())
        assert token.shape == (1,) and 0 <= token < 3
        assert token == 0 or temperature > 1
    forbidden = torch.tensor([[-math.inf, 0.0, -math.inf]])
    assert next_token(forbidden, temperature=5.0) == 1


# The loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_the_plain_loop_and_crops_to_the_context(kind):
    model = make_model(kind).eval()
    ids = torch.tensor([[3, 1, 4]])
    expected = ids
    with torch.no_grad():
        for _ in range(20):
            token = model(expected[:, -12:])[:, -1].argmax(-1, keepdim=True)
            expected = torch.cat([expected, token], dim=1)
    assert generate(Cropped(model), ids, 20, GREEDY) == expected.tolist()
    assert generate(model, ids, 20, GREEDY, slide=1) == expected.tolist()
    assert torch.equal(ids, torch.tensor([[3, 1, 4]]))


def test_greedy_equals_hugging_face():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[3, 1, 4], [2, 7, 1]])
    mask = torch.ones_like(ids)
    expected = theirs.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=15,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours = generate(lambda ids: theirs(ids).logits, ids, 15, GREEDY)
    assert ours == expected.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_gets_what_it_gets_alone(kind):
    model = make_model(kind)
    ids = torch.tensor([[3, 1, 4], [2, 7, 1], [0, 0, 0]])
    together = generate(model, ids, 10, GREEDY)
    assert together == [generate(model, row[None], 10, GREEDY)[0] for row in ids]
    assert together == generate(model.forward, ids, 10, GREEDY)
    beyond = generate(model, ids, 15, GREEDY, slide=1)  # longer than the context
    assert beyond == [generate(model, row[None], 15, GREEDY, slide=1)[0] for row in ids]


def test_the_same_generator_gives_the_same_text_and_another_gives_another():
    model, ids = make_model(), torch.zeros(4, 1, dtype=torch.int64)
    first, second, third = (generate(model, ids, 12, generator=seeded(s)) for s in (1, 1, 2))
    assert first == second != third
    torch.manual_seed(5)
    state = torch.get_rng_state()
    generate(model, ids, 3, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)  # the global one is not touched


@pytest.mark.parametrize(("n_new", "slide"), [(11, None), (12, 1)])
def test_a_stream_yields_what_generate_returns(n_new, slide):
    model, ids = make_model(), torch.tensor([[1, 2], [3, 4]])
    sampling = Sampling(temperature=0.8, top_k=9, top_p=0.9)
    options = {"stop": 7, "slide": slide}
    whole = generate(model, ids, n_new, sampling, generator=seeded(), **options)
    steps = list(stream(model, ids, n_new, sampling, generator=seeded(), **options))
    assert all(step.shape == (2,) for step in steps)
    for text, row in zip(whole, torch.stack(steps, dim=1).tolist()):
        n = len(text) - 2
        assert text[2:] == row[:n] and set(row[n:]) <= {7}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefill", [1, 2, 3, 7, 8, 99])
def test_a_prompt_read_in_pieces_has_the_logits_of_the_whole(kind, prefill):
    model = make_model(kind).eval()
    sizes, prompts = [], [[1, 2, 3, 4, 5, 6, 7, 8], [9], [5, 6, 7]]
    ids, padding = pad_left(prompts)
    for count in (1, 3):
        whole = TextReader(model, ids, padding, 3).logits(ids, count)
        sizes.clear()
        hook = model.wte.register_forward_hook(lambda _, args, __: sizes.append(args[0].shape[1]))
        pieces = TextReader(model, ids, padding, 3, prefill=prefill).logits(ids, count)
        hook.remove()
        for row, prompt in enumerate(prompts):
            n = min(count, len(prompt))
            torch.testing.assert_close(pieces[row, -n:], whole[row, -n:])
        assert max(sizes) <= max(prefill, count) and sum(sizes) == 8
    expected = generate(model, prompts, 4, GREEDY)
    assert generate(model, prompts, 4, GREEDY, prefill=prefill) == expected
    long = generate(model, prompts, 9, GREEDY, slide=4)
    assert generate(model, prompts, 9, GREEDY, slide=4, prefill=prefill) == long


@pytest.mark.parametrize("kind", KINDS)
def test_rows_stop_one_by_one_and_then_all(kind):
    ids = torch.tensor([[5], [8], [1]])
    steps = torch.stack(list(stream(cycle, ids, 30, GREEDY, stop=9)), dim=1)
    assert steps[1].tolist() == [9, 9, 9, 9, 9, 9, 9, 9]  # a row that is finished repeats it
    assert generate(cycle, ids, 30, GREEDY, stop=9) == [
        [5, 6, 7, 8, 9],
        [8, 9],
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]
    assert generate(cycle, torch.tensor([[9]]), 3, GREEDY, stop=9) == [[9, 10, 11, 12]]


@pytest.mark.parametrize("kind", KINDS)
def test_finished_rows_are_no_longer_computed(kind):
    sizes = []

    def counting(ids):
        sizes.append(len(ids))
        return cycle(ids)

    generate(counting, torch.tensor([[5], [8], [1]]), 30, GREEDY, stop=9)
    assert sizes == [3, 2, 2, 2, 1, 1, 1, 1]


def test_any_callable_will_do():
    counts = NGramModel(2, VOCABULARY).fit([[1, 2, 3, 4, 5] * 20])
    assert generate(counts, torch.tensor([[1]]), 4, GREEDY) == [[1, 2, 3, 4, 5]]
    assert next(stream(cycle, torch.tensor([[1]], dtype=torch.int32), 2)).dtype == torch.int32
    prompts = [[1, 2, 3], [4]]  # a plain callable is given no padding
    assert generate(cycle, prompts, 2, GREEDY) == [[1, 2, 3, 4, 5], [4, 5, 6]]


def test_no_gradients_are_kept_and_the_mode_is_restored_between_tokens():
    model = make_model(drop_rate=0.5)
    tokens = []
    for token in stream(model, torch.tensor([[1]]), 4, GREEDY):
        assert model.training and torch.is_grad_enabled() and not token.requires_grad
        tokens.append(token.item())
    model.eval()
    again = generate(model, torch.tensor([[1]]), 4, GREEDY)
    assert again[0][1:] == tokens and not model.training  # no dropout while it spoke


def test_the_model_is_called_without_gradients():
    enabled = []

    def watching(ids):
        enabled.append(torch.is_grad_enabled())
        return cycle(ids)

    generate(watching, torch.tensor([[1]]), 3)
    assert enabled == [False, False, False] and torch.is_grad_enabled()


def test_the_mode_is_restored_when_the_model_fails():
    model = make_model()
    with pytest.raises(ValueError, match="outside the vocabulary"):
        generate(model, torch.tensor([[VOCABULARY]]), 1)
    assert model.training


# Misuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1}, "temperature is -1: it must be a number of at least 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": None}, "temperature is None"),
        ({"top_k": 0}, "top_k is 0: it must be an int of at least 1"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_p": 0}, "top_p is 0: it must be a number above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"top_p": True}, "top_p is True"),
        ({"min_p": 2}, "min_p is 2: it must be a number from 0 to 1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0: it must be a number above 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stop": -1}, "stop is -1"),
        ({"stop": "."}, r"stop is '\.'"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"max_new_tokens": 1.0}, "max_new_tokens is 1.0"),
        ({"prefill": 0}, "prefill is 0"),
        ({"ids": torch.tensor([1, 2])}, r"shape \(2,\), expected \(batch, tokens\)"),
        ({"ids": torch.zeros(1, 0, dtype=torch.int64)}, "hold no token: give at least one"),
    ],
)
def test_impossible_arguments_are_refused_at_once(wrong, message):
    arguments = {"ids": torch.tensor([[1]]), "max_new_tokens": 2, **wrong}
    for function in (stream, generate):
        with pytest.raises(ValueError, match=message):
            function(make_model(), **arguments)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2], "ids must be a tensor of token ids"),
        ("once", "ids must be a tensor of token ids"),
        (None, "ids must be a tensor of token ids"),
        (torch.tensor([[1.0]]), r"ids hold torch\.float32"),
        ([[0.5]], "other things than token ids"),
    ],
)
def test_prompts_that_are_not_ids_are_refused(ids, message):
    with pytest.raises(TypeError, match=message):
        stream(make_model(), ids, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_model_is_named(value):
    with pytest.raises(ValueError, match="nan or infinite"):
        generate(lambda ids: torch.full((*ids.shape, 5), value), torch.tensor([[1]]), 2)


def test_no_new_tokens_are_not_an_error():
    assert generate(make_model(), torch.tensor([[1, 2]]), 0) == [[1, 2]]
