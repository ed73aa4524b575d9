"""Packed weights: of a model in any precision, with outlying channels, copied, pickled."""

import copy
import math
import pickle
import warnings

import pytest
import torch
from models import FIELDS, KINDS, small_model

from llmlib import checks
from llmlib.evaluation.perplexity import evaluate
from llmlib.files import home
from llmlib.generation import packing
from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate
from llmlib.generation.packing import PackedLinear, PackedNorm
from llmlib.generation.quantization import divergence, quantize
from llmlib.generation.rounding import BYTES, quantize_rows, reference_product
from llmlib.generation.sampling import Sampling
from llmlib.generation.speculative import PromptLookup, speculate
from llmlib.model.layers import RMSNorm
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained.gpt2 import load_pretrained
from llmlib.stories import tell_many
from llmlib.tokenization.folders import load_tokenizer

GREEDY = Sampling(temperature=0)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def make(kind="gpt", **changes):
    torch.manual_seed(0)
    if kind == "experts":  # a token uses all, or rounding would send some to another one
        changes = {"feed_forward": FIELDS[kind]["feed_forward"] | {"top_k": 6}} | changes
    model = small_model(kind, 23, 24, 32, **{"n_heads": 2, "n_layers": 2} | changes)
    model.init_weights(0.15)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("format", BYTES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernels", "tie_weights"), [("fast", True), ("plain", False)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_any_precision_is_packed(kind, dtype, format, tie_weights, kernels, monkeypatch):
    if kernels == "plain":
        monkeypatch.setattr(packing, "KERNELS", {})
        monkeypatch.setattr(packing, "pack_columns", reference_product)
    model = make(kind, tie_weights=tie_weights).to(dtype)
    packed = quantize(model, format)
    ids = torch.randint(23, (2, 20), generator=torch.Generator().manual_seed(0))
    expected = model.double()(ids)
    cache = packed.new_cache(2, 20)
    logits = torch.cat([packed(part, cache) for part in ids.split([7, 1, 1, 11], dim=1)], dim=1)
    assert logits.dtype == torch.float32
    error = (logits - expected).norm() / expected.norm()
    assert error < {"float32": 1e-5, "bfloat16": 0.03, "float16": 2e-3, "int8": 0.05}[format]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_any_precision_writes_with_its_cache_what_it_writes_without(dtype, kind):
    model = make(kind).to(dtype)
    prompts = [[1, 2, 3], [4], [5, 6]]
    for sampling in (GREEDY, Sampling(0, repetition_penalty=1.3), Sampling(top_k=1)):
        cached = generate(model, prompts, 12, sampling)
        plain = generate(model.forward, prompts, 12, sampling)
        for text, other, prompt in zip(cached, plain, prompts):
            for n in range(len(prompt), len(text)):  # up to rounding: where they part, it is a tie
                if text[n] != other[n]:
                    two = model(torch.tensor([text[:n]]))[0, -1].double()[[text[n], other[n]]]
                    assert (two[0] - two[1]).abs() < 0.05 and dtype.itemsize == 2
                    break
    assert len(beam_search(model, [[1]], 4, 3)[0].ids) == 4
    assert sum(map(len, speculate(model, PromptLookup(), [[1, 2]], 9))) == 9


def test_a_weight_that_no_float16_holds_is_refused():
    model = make()
    model.h[0].mlp.c_fc.weight[3, 4] = 1e5
    with pytest.raises(ValueError, match=r"a weight of 1e\+05 does not fit in torch\.float16"):
        quantize(model, "float16")
    assert quantize(model, "bfloat16")(torch.tensor([[1]])).isfinite().all()
    model = make()
    model.wte.weight[3, 4] = 1e5  # the table is in float16 where the weights are in int8
    with pytest.raises(ValueError, match="does not fit"):
        quantize(model, "int8")
    with pytest.raises(ValueError, match=r"does not fit in torch\.float32"):
        PackedLinear(torch.full((2, 2), 1e300, dtype=torch.float64))


# --- norms


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(1, 1, 48), (1, 3, 48), (48,)])
def test_a_packed_norm_is_the_norm(shape, size):
    norm = RMSNorm(48, 1e-5)
    torch.nn.init.normal_(norm.weight, 1.0, 0.5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * size
    for dtype in DTYPES:
        expected = norm.to(dtype)(x.to(dtype)).detach()
        packed = PackedNorm(norm)(x)
        assert packed.shape == x.shape and not packed.requires_grad
        same = PackedNorm(norm)(x.to(dtype))  # as behind a product in 16 bits
        assert same.dtype == dtype
        error = {torch.float32: 1e-6, torch.float64: 1e-6}.get(dtype, 0.02)
        torch.testing.assert_close(packed, expected.float(), rtol=error, atol=error)
        moved = PackedNorm(norm).to(dtype)(x.to(dtype))  # as it is where a model is moved
        assert moved.dtype == dtype
        for result in (moved, same):
            torch.testing.assert_close(result, expected, rtol=error, atol=error)


def test_all_norms_of_a_modern_model_are_packed_those_of_heads_too():
    config = ModernConfig(23, 24, 32, 4, 2, n_kv_heads=2, qk_norm=True)
    packed = quantize(Modern(config).eval(), "float32")
    norms = [part for part in packed.modules() if isinstance(part, RMSNorm)]
    assert len(norms) == 2 * 4 + 1 and all(type(norm) is PackedNorm for norm in norms)


# --- outlying channels


def scaled(model, kind, channel, factor):
    """The same function, with one channel larger by a factor and its weights smaller by it."""
    model = copy.deepcopy(model)
    for block in model.h:
        if kind == "norm":
            for norm, linear in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                norm.weight[channel] *= factor
                norm.bias[channel] *= factor
                linear.weight[:, channel] /= factor
        else:  # a channel of the values
            C = block.attn.c_attn.in_features
            block.attn.c_attn.weight[2 * C + channel] *= factor
            block.attn.c_attn.bias[2 * C + channel] *= factor
            block.attn.c_proj.weight[:, channel] /= factor
    return model


@pytest.mark.parametrize("kind", ["norm", "values"])
@pytest.mark.parametrize("factor", [1e-3, 10.0, 1000.0, 1e5])
def test_outlying_channels_cost_int8_nothing(kind, factor):
    nano = load_pretrained(home() / "gpt2" / "nano").requires_grad_(False)
    tokenizer = load_tokenizer(home() / "gpt2" / "nano")
    ids = torch.tensor([tokenizer.encode(tell_many(1, seed=7)[0].text)])
    batch = [(ids[:, :-1], ids[:, 1:])]
    exact = evaluate(nano, batch).loss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packed = quantize(scaled(nano, kind, 5, factor), "int8")
    assert evaluate(packed, batch).loss == pytest.approx(exact, abs=0.02)
    assert divergence(nano, packed) < 0.01


@pytest.mark.parametrize("shift", [0, 1])
def test_what_int8_cannot_hold_is_said_with_what_was_measured(shift):
    model = make()
    for block in model.h:  # the two halves of a weight go different ways: no column stands out
        block.ln_1.bias[3] += 1e4
        block.attn.c_attn.bias -= 1e4 * block.attn.c_attn.weight[:, 3]
    with pytest.warns(UserWarning, match=r"int8.*by \d+\.\d\d nats per token.*bfloat16"):
        packed = quantize(model, "int8")
    assert divergence(model, packed) > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize(model, "float32")


def test_a_column_of_zeros_is_no_trouble():
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    weight[:, 3] = 0
    weight[2] = 0
    assert (quantize_rows(weight)[1] > 0).all()
    x = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    x[:, 3] = 1e6
    for rows in (x, x[:1]):
        off = PackedLinear(weight, None, "int8")(rows) - rows @ weight.T
        assert off.norm() < 0.05 * (rows @ weight.T).norm()


def test_the_scale_of_a_column_is_not_ruled_by_another():
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 64, generator=generator) for n in (64, 8))
    weight[:, 3] *= 1e5
    x[:, 3] /= 1e5
    off = PackedLinear(weight, None, "int8")(x) - x @ weight.T
    assert off.norm() < 0.013 * (x @ weight.T).norm()


def test_columns_are_scaled_only_where_one_stands_out():
    weight = torch.ones(4, 8)
    assert packing.column_scales(weight) is None
    weight[:, 2] = 5
    assert packing.column_scales(weight) is not None


def test_a_change_that_is_no_number_is_said():
    with pytest.warns(UserWarning, match="nan nats per token"):
        checks.small_change(math.nan)


# --- copies


@pytest.mark.parametrize("format", BYTES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_is_copied_and_not_pickled(format, kind):
    packed = quantize(make(kind), format)
    twin = copy.deepcopy(packed)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(twin(ids), packed(ids))
    twin.ln_f.weight.data.zero_()
    assert not torch.equal(twin(ids), packed(ids))
    for save in (pickle.dumps, lambda model: torch.save(model, "/dev/null")):
        with pytest.raises(TypeError, match="packed weights has no pickle: pickle the model"):
            save(packed)


@pytest.mark.parametrize("format", BYTES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_can_still_be_moved_to_another_precision(format, dtype, kind):
    packed = quantize(make(kind), format)
    ids = torch.tensor([[1, 2, 3, 4]])
    expected = packed(ids)
    moved = packed.to(dtype)
    cache = moved.new_cache(1, 4)
    logits = torch.cat([moved(ids[:, :3], cache), moved(ids[:, 3:], cache)], dim=1)
    assert logits.dtype == torch.float32
    assert (logits - expected).norm() < 0.05 * expected.norm()
    assert cache.data.dtype in (dtype, torch.bfloat16)
