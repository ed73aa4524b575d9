"""What is not finite ends every way of writing and measuring; no id comes from nowhere."""

import math
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupter import Interrupter

from llmlib.evaluation.perplexity import evaluate
from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate, stream
from llmlib.generation.quantization import quantize
from llmlib.generation.rounding import BYTES
from llmlib.generation.sampling import Sampling, draw, row_generators
from llmlib.generation.speculative import accept, speculate
from llmlib.model import modes
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.model.modes import INSIDE, evaluating

GREEDY = Sampling(temperature=0)
IDS = torch.tensor([[1, 2, 3]])


def make(seed=0, **changes):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(23, 24, 16, **{"n_heads": 2, "n_layers": 2} | changes))
    model.init_weights(0.3)
    return model.eval().requires_grad_(False)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def break_one(model, name, value):
    weight = model.get_parameter(name)
    weight.view(-1)[weight.numel() // 2] = value
    return model


WAYS = {
    "greedy": lambda m: generate(m, IDS, 8, GREEDY),
    "sampled": lambda m: generate(m, IDS, 8),
    "top k": lambda m: generate(m, IDS, 8, Sampling(top_k=3)),
    "penalised": lambda m: generate(m, IDS, 8, Sampling(temperature=0, repetition_penalty=1.2)),
    "no n-gram twice": lambda m: generate(m, IDS, 8, Sampling(0, no_repeat_ngram_size=2)),
    "batch": lambda m: generate(m, [[1], [2, 3, 4]], 8, GREEDY),
    "without a cache": lambda m: generate(m.forward, IDS, 8, GREEDY),
    "sliding": lambda m: generate(m, IDS, 30, GREEDY, slide=3),
    "beams": lambda m: beam_search(m, IDS, 8, 3),
    "target": lambda m: list(speculate(m, make(), IDS, 8, GREEDY)),
    "draft": lambda m: list(speculate(make(), m, IDS, 8, GREEDY)),
    "sampled draft": lambda m: list(speculate(make(), m, IDS, 8)),
    "evaluation": lambda m: evaluate(m, [(IDS, IDS)]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["h.1.mlp.c_proj.weight", "h.0.ln_1.bias", "h.1.attn.c_attn.bias", "wpe.weight"]
)
def test_one_weight_that_is_not_finite_is_an_error(way, value, name):
    with pytest.raises(ValueError, match=r"(?i)nan or infinite"):
        WAYS[way](break_one(make(), name, value))


def test_a_buffer_that_is_not_finite_is_an_error_and_large_weights_are_none():
    model = make()
    model.register_buffer("shift", torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="shift holds numbers that are nan or infinite"):
        generate(model, IDS, 3)
    model.shift = torch.full((2,), 3e38)  # whose sum is infinite
    assert len(generate(model, IDS, 3)[0]) == 6


def test_what_is_forbidden_hides_no_broken_logit():
    def model(ids):
        logits = torch.zeros(*ids.shape, 5)
        logits[..., 4] = math.nan
        return logits

    for sampling in (Sampling(bad_words=((4,),)), Sampling(0, bad_words=((4,),))):
        with pytest.raises(ValueError, match="nan or infinite"):
            generate(model, IDS, 3, sampling)


@pytest.mark.parametrize("format", BYTES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    ["h.1.mlp.c_proj.weight", "h.0.mlp.c_fc.bias", "h.0.ln_1.weight", "wpe.weight", "wte.weight"],
)
def test_broken_weights_are_not_packed(format, value, name):
    with pytest.raises(ValueError, match=rf"{name} .*nan or infinite"):
        quantize(break_one(make(), name, value), format)


@pytest.mark.parametrize("format", BYTES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_activations_that_are_not_finite_pass_through_packed_weights(format, value):
    packed = quantize(make(), format)
    x = torch.ones(1, 16)
    for n in (1, 3):  # a single vector has a way of its own
        rows = x.repeat(n, 1)
        rows[0, 5] = value
        assert not packed.h[0].attn.c_attn(rows)[0].isfinite().all(), (n, value)
    packed.wpe.weight[2, 3] = value  # broken after packing
    for way in ("greedy", "sampled", "beams", "target", "evaluation"):
        with pytest.raises(ValueError, match=r"(?i)nan or infinite"):
            WAYS[way](packed)


def test_an_infinite_logit_that_no_target_asks_for_is_an_error():
    def model(ids):
        logits = torch.zeros(*ids.shape, 5)
        logits[..., 4] = math.inf
        return logits

    with pytest.raises(ValueError, match=r"3 of 15 logits are NaN or infinite"):
        evaluate(model, [(IDS, IDS)])


def test_minus_infinity_forbids_and_is_no_error():
    def model(ids):
        logits = torch.zeros(*ids.shape, 5)
        logits[..., 3:] = -math.inf
        return logits

    for row in generate(model, torch.ones(20, 1, dtype=torch.int64), 4):
        assert max(row) < 3
    assert evaluate(model, [(IDS, torch.tensor([[0, 1, 4]]))]).loss == math.inf
    assert evaluate(model, [(IDS, torch.tensor([[0, 1, 2]]))]).loss == pytest.approx(math.log(3))
    assert beam_search(model, IDS, 2, 3)[0].log_prob == pytest.approx(-2 * math.log(3))


# --- what is drawn


def test_probabilities_that_are_not_finite_are_refused():
    generators = row_generators(1)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="nothing can be drawn"):
            draw(torch.tensor([[0.5, wrong, 0.5]]), generators)
    with pytest.raises(ValueError, match="nothing can be drawn"):
        draw(torch.zeros(1, 5), generators)


def test_probabilities_may_have_any_precision_and_a_gradient():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        probs = torch.tensor([[0.0, 0.25, 0.0, 0.75]], dtype=dtype, requires_grad=True)
        drawn = [int(draw(probs, row_generators(1, seeded(n)))) for n in range(40)]
        assert set(drawn) == {1, 3}, dtype
    with pytest.raises(ValueError, match="shorter"):
        draw(probs.expand(3, -1), row_generators(2))


def test_a_refused_token_where_target_and_draft_agree_has_a_successor():
    p = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    q = p[:1] * (1 + 1e-6)  # rounding: nothing is missing, and yet a token may be refused
    always = torch.Generator()
    for seed in range(3):
        always.manual_seed(seed)
        assert set(accept(p, q * 3, [1], always)) <= {0, 1}


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-6, 1e6),
    st.sampled_from([0, 10**30, 1e-320, 1e308, 0.7]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    st.integers(0, 999),
)
def test_whatever_the_settings_ids_are_in_the_vocabulary(penalty, temperature, dtype, seed):
    torch.manual_seed(seed)
    logits = 10 ** (4 * torch.rand(())) * torch.randn(1, 9)
    sampling = Sampling(temperature=temperature, repetition_penalty=penalty)

    def model(ids):
        return logits.to(dtype).expand(*ids.shape, 9)

    tokens = torch.stack(list(stream(model, torch.tensor([[1, 2]] * 3), 5, sampling)))
    assert tokens.min() >= 0 and tokens.max() < 9


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Sampling(repetition_penalty=1e-40), ValueError, "from 1e-6 to 1e6"),
        (lambda: Sampling(temperature=10**400), ValueError, "temperature is 1000"),
        (lambda: generate(make(), IDS, 3, stop=10**30), ValueError, "a token id, 0 to 22"),
        (lambda: generate(make().forward, IDS, 3, stop=10**30), ValueError, "a token id"),
        (lambda: beam_search(make(), IDS, 3, 2, stop=10**30), ValueError, "a token id, 0 to 22"),
        (lambda: list(speculate(make(), make(), IDS, 3, stop=-1)), ValueError, "a token id"),
        (lambda: generate(make(), IDS, 3, generator=5), TypeError, "generator is 5"),
        (lambda: list(speculate(make(), make(), IDS, 3, generator=5)), TypeError, "is 5"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- float64 is nowhere needed


class Accelerator(torch.Tensor):
    """A tensor that refuses float64, as one on Apple's GPU does, until it is moved to the CPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.tolist):
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **kwargs)
        result = super().__torch_function__(function, types, args, kwargs)
        results = result if isinstance(result, tuple) else (result,)
        if any(isinstance(r, torch.Tensor) and r.dtype is torch.float64 for r in results):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


def test_nothing_on_the_device_is_float64():
    model = make()

    def on_device(ids):
        return model(ids.as_subclass(torch.Tensor)).as_subclass(Accelerator)

    with pytest.raises(TypeError, match="float64"):
        on_device(IDS).double()
    for sampling in (GREEDY, Sampling(), Sampling(top_k=5, top_p=0.9, repetition_penalty=1.1)):
        generator = torch.Generator().manual_seed(1)
        expected = generate(model, IDS, 5, sampling, generator=torch.Generator().manual_seed(1))
        assert generate(on_device, IDS, 5, sampling, generator=generator) == expected
        parts = speculate(on_device, on_device, IDS, 5, sampling, generator=generator)
        assert sum(map(len, parts)) == 5
    beams = beam_search(on_device, IDS, 5, 3)
    assert [beam.ids for beam in beams] == [beam.ids for beam in beam_search(model, IDS, 5, 3)]


# --- modes


def test_each_part_is_in_its_mode_again():
    model = make(drop_rate=0.5)
    model.train()
    model.h[0].eval()
    modes = [part.training for part in model.modules()]
    generate(model, IDS, 2)
    evaluate(model, [(IDS, IDS)])
    assert [part.training for part in model.modules()] == modes and not INSIDE
    model.training = False  # parts that train in a model that does not
    modes = [part.training for part in model.modules()]
    texts = [generate(model, IDS, 9, GREEDY) for _ in range(3)]
    assert texts[0] == texts[1] == texts[2]
    assert [part.training for part in model.modules()] == modes


def test_threads_that_share_a_model_in_training_drop_nothing_out():
    model = make(drop_rate=0.5)
    expected = generate(model, IDS, 8, GREEDY)
    model.train()
    texts = []

    def write():
        texts.extend(generate(model, IDS, 8, GREEDY) for _ in range(15))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(text == expected for text in texts) and len(texts) == 60
    assert all(part.training for part in model.modules()) and not INSIDE


def test_the_last_one_inside_restores_the_modes():
    model = make().train()
    with evaluating(model):
        with evaluating(model):
            assert not model.training
        assert not model.training and not model.h[0].training
    assert model.training and model.h[0].training


def test_an_interrupt_while_entering_leaves_everything_as_it_was():
    """At each line before the recovery, also where the lock is held."""
    source = Path(modes.__file__).read_text(encoding="utf-8").splitlines()
    recovery = source.index("    finally:") + 1
    model = make(drop_rate=0.5).train()
    with Interrupter() as interrupter, evaluating(model):
        pass
    lines = [
        line for line in interrupter.lines if line[0] == "model/modes.py" and line[1] < recovery
    ]
    assert len(lines) > 8
    for where in lines:
        with pytest.raises(KeyboardInterrupt), Interrupter(where), evaluating(model):
            pass
        assert not INSIDE and torch.is_grad_enabled(), where
        assert all(part.training for part in model.modules()), where
    with evaluating(model):
        assert not any(part.training for part in model.modules())


def test_a_mask_of_minus_infinity_in_a_buffer_is_no_broken_weight():
    """As many a model of one's own keeps it; nan and +inf would reach the logits."""
    model = make()
    model.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
    model.register_buffer("seen", torch.zeros(3, dtype=torch.bool))
    expected = generate(make(), IDS, 3)
    torch.manual_seed(0)
    assert len(generate(model, IDS, 3)[0]) == len(expected[0])
    assert evaluate(model, [(IDS, IDS)]) == evaluate(make(), [(IDS, IDS)])
    for value in (math.nan, math.inf):
        model.mask[0, 0] = value
        with pytest.raises(ValueError, match="mask holds numbers that are nan or infinite"):
            generate(model, IDS, 3)
