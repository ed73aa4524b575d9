"""CausalAttention against torch's own layer, against the past and the future, and bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llmlib.model.attention import (
    CausalAttention,
    attention_weights,
    scaled_dot_product_attention,
)

SHAPES = [  # B, T, C, n_heads
    (1, 1, 4, 1),
    (2, 1, 8, 4),
    (1, 7, 6, 1),
    (3, 5, 12, 3),
    (2, 33, 16, 16),
    (2, 130, 32, 4),
]


def make(emb_dim=16, n_heads=4, context_length=64, **options):
    torch.manual_seed(0)
    return CausalAttention(emb_dim, n_heads, context_length, **options)


def noise(*shape, dtype=torch.float32, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference_of(layer):
    """torch.nn.MultiheadAttention with the same weights: its in_proj is our c_attn."""
    reference = nn.MultiheadAttention(
        layer.emb_dim, layer.n_heads, batch_first=True, dtype=layer.c_attn.weight.dtype
    )
    with torch.no_grad():
        reference.in_proj_weight.copy_(layer.c_attn.weight)
        reference.in_proj_bias.zero_()
        if layer.c_attn.bias is not None:
            reference.in_proj_bias.copy_(layer.c_attn.bias)
    reference.out_proj.load_state_dict(layer.c_proj.state_dict())
    return reference


def run_reference(reference, x):
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    return reference(x, x, x, attn_mask=future, average_attn_weights=False)


@pytest.mark.parametrize(("B", "T", "C", "n_heads"), SHAPES)
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_outputs_weights_and_gradients_equal_torchs_layer(B, T, C, n_heads, qkv_bias):
    layer = make(C, n_heads, T, qkv_bias=qkv_bias).double()
    reference = reference_of(layer)
    x = noise(B, T, C, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    out = layer(ours)
    _, weights = layer(ours, return_weights=True)
    expected, expected_weights = run_reference(reference, theirs)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights, expected_weights)

    direction = noise(B, T, C, dtype=torch.float64, seed=2)
    (out * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(layer.c_attn.weight.grad, reference.in_proj_weight.grad)
    torch.testing.assert_close(layer.c_proj.weight.grad, reference.out_proj.weight.grad)
    torch.testing.assert_close(layer.c_proj.bias.grad, reference.out_proj.bias.grad)
    if qkv_bias:
        torch.testing.assert_close(layer.c_attn.bias.grad, reference.in_proj_bias.grad)


@pytest.mark.parametrize(("B", "T", "C", "n_heads"), SHAPES)
def test_looking_at_the_weights_changes_neither_output_nor_gradients(B, T, C, n_heads):
    layer = make(C, n_heads, T)
    x = noise(B, T, C)
    results = []
    for look in (False, True):
        layer.zero_grad()
        inputs = x.clone().requires_grad_()
        out = layer(inputs, return_weights=True)[0] if look else layer(inputs)
        out.square().sum().backward()
        results.append([out, inputs.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("B", "T", "C", "n_heads"), SHAPES)
def test_weights_sum_to_one_and_are_zero_for_the_future(B, T, C, n_heads):
    _, weights = make(C, n_heads, T)(noise(B, T, C), return_weights=True)
    assert weights.shape == (B, n_heads, T, T)
    assert torch.equal(weights, weights.tril())
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, n_heads, T))


@pytest.mark.parametrize("return_weights", [False, True])
def test_no_token_sees_the_future(return_weights):
    layer = make()
    x = noise(2, 64, 16)

    def run(x):
        return layer(x, return_weights=True)[0] if return_weights else layer(x)

    before = run(x)
    for t in range(64):
        changed = x.clone()
        changed[:, t] = 100 * noise(2, 16, seed=t)
        after = run(changed)
        assert torch.equal(after[:, :t], before[:, :t]), f"token {t} is seen before its time"
        assert not torch.equal(after[:, t], before[:, t])
        assert not torch.equal(after[:, -1], before[:, -1])


def test_no_gradient_comes_from_the_future():
    layer = make(context_length=9)
    jacobian = torch.autograd.functional.jacobian(layer, noise(1, 9, 16))
    influence = jacobian[0, :, :, 0].norm(dim=(1, 3))  # (T, T)
    assert torch.equal(influence, influence.tril())
    assert (influence[torch.ones(9, 9).tril().bool()] > 0).all()


def test_a_beginning_gives_the_same_as_within_the_whole():
    layer, x = make(), noise(2, 64, 16)
    whole = layer(x)
    for t in (1, 2, 31, 63):
        torch.testing.assert_close(layer(x[:, :t]), whole[:, :t])


def test_sequences_of_a_batch_do_not_see_each_other():
    layer, x = make(), noise(3, 10, 16)
    changed = x.clone()
    changed[1] = noise(10, 16, seed=5)
    same = torch.equal(layer(changed)[[0, 2]], layer(x)[[0, 2]])
    assert same and not torch.equal(layer(changed)[1], layer(x)[1])


def test_scores_are_divided_by_the_root_of_the_heads_width():
    layer, x = make(emb_dim=12, n_heads=3), noise(1, 2, 12)
    _, weights = layer(x, return_weights=True)
    q, k, _ = layer.c_attn(x).view(2, 3, 3, 4).unbind(dim=1)  # (T, n_heads, head_dim)
    for head in range(3):
        scores = q[1, head] @ k[:, head].T / math.sqrt(4)
        torch.testing.assert_close(weights[0, head, 1], scores.softmax(dim=-1))


def test_parameters_carry_gpt2s_names_and_nothing_else_is_stored():
    shapes = {name: tuple(value.shape) for name, value in make().state_dict().items()}
    assert shapes == {
        "c_attn.weight": (48, 16),
        "c_attn.bias": (48,),
        "c_proj.weight": (16, 16),
        "c_proj.bias": (16,),
    }
    assert "c_attn.bias" not in make(qkv_bias=False).state_dict()
    assert "c_proj.bias" in make(qkv_bias=False).state_dict()


@pytest.mark.parametrize("return_weights", [False, True])
def test_dropout_acts_only_in_training_and_keeps_the_mean(return_weights):
    layer, x = make(drop_rate=0.2), noise(1, 8, 16)

    def run(x):
        return layer(x, return_weights=True)[0] if return_weights else layer(x)

    torch.manual_seed(3)
    assert not torch.equal(run(x), run(x))
    mean = run(x.expand(20_000, -1, -1)).mean(dim=0)
    layer.eval()
    assert torch.equal(run(x), run(x))
    torch.testing.assert_close(mean, run(x)[0], atol=0.03, rtol=0)
    plain = make(drop_rate=0.0)
    torch.testing.assert_close(run(x), plain(x))
    assert torch.equal(plain(x), plain(x))


@pytest.mark.parametrize("return_weights", [False, True])
def test_the_output_is_dropped_at_the_rate_asked_for(return_weights):
    layer = make(drop_rate=0.3)
    torch.manual_seed(3)
    out = layer(noise(64, 32, 16), return_weights=return_weights)
    out = out[0] if return_weights else out
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("return_weights", [False, True])
def test_the_weights_are_dropped_as_well(return_weights):
    """With values of one and an output projection that changes nothing, out = sum of weights."""
    layer = make(emb_dim=4, n_heads=1, drop_rate=0.5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.c_attn.bias[8:] = 1
        layer.c_proj.weight.copy_(torch.eye(4))
    torch.manual_seed(3)
    out = layer(torch.zeros(500, 2, 4), return_weights=return_weights)
    out = out[0] if return_weights else out
    kept = out[:, 0][out[:, 0] != 0]  # one weight of 1: doubled by its dropout, and by the output's
    assert torch.equal(kept.unique(), torch.tensor([4.0]))
    assert (out[:, 0] != 0).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_the_weights_shown_are_those_before_dropout():
    layer, x = make(drop_rate=0.5), noise(2, 8, 16)
    shown = layer(x, return_weights=True)[1]
    torch.testing.assert_close(shown, layer.eval()(x, return_weights=True)[1])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 3e-2), (torch.float16, 3e-3)]
)
def test_other_precisions_give_the_same_within_theirs(dtype, tolerance):
    layer, x = make(), noise(2, 20, 16)
    expected = layer(x)
    layer.to(dtype)
    for out in (layer(x.to(dtype)), layer(x.to(dtype), return_weights=True)[0]):
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=tolerance)


def test_it_works_under_autocast():
    layer, x = make(), noise(2, 20, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, looked_at = layer(x), layer(x, return_weights=True)[0]
    torch.testing.assert_close(out.float(), layer(x), atol=3e-2, rtol=3e-2)
    torch.testing.assert_close(looked_at.float(), layer(x), atol=3e-2, rtol=3e-2)


def test_very_large_scores_stay_finite():
    layer, x = make(), 1e4 * noise(1, 12, 16)
    assert layer(x).isfinite().all()
    assert layer(x, return_weights=True)[1].isfinite().all()


def test_an_input_that_is_not_contiguous_is_welcome():
    layer, x = make(), noise(10, 16, 3)
    torch.testing.assert_close(layer(x.permute(2, 0, 1)), layer(x.permute(2, 0, 1).contiguous()))


def test_an_empty_batch_gives_an_empty_batch():
    assert make()(torch.zeros(0, 5, 16)).shape == (0, 5, 16)


def test_the_fused_kernel_is_used(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention

    def spy(*args, **kwargs):
        calls.append(kwargs["is_causal"])
        return fused(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    make()(noise(1, 4, 16))
    assert calls == [True]


def test_a_layer_moved_to_another_device_needs_nothing_else():
    layer = make().to("meta")
    assert layer(torch.zeros(2, 7, 16, device="meta"), return_weights=True)[1].shape == (2, 4, 7, 7)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"emb_dim": 100, "n_heads": 12}, "emb_dim 100 is not divisible by n_heads 12"),
        ({"emb_dim": 0}, "emb_dim is 0: it must be an int of at least 1"),
        ({"emb_dim": -16}, "emb_dim is -16"),
        ({"emb_dim": 16.0}, r"emb_dim is 16\.0: it must be an int"),
        ({"emb_dim": "16"}, "emb_dim is '16'"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"n_heads": -4}, "n_heads is -4"),
        ({"n_heads": None}, "n_heads is None"),
        ({"context_length": 0}, "context_length is 0"),
        ({"context_length": -1}, "context_length is -1"),
        ({"drop_rate": -0.1}, r"drop_rate is -0\.1: it must be a number from 0 to below 1"),
        ({"drop_rate": 1.0}, r"drop_rate is 1\.0"),
        ({"drop_rate": 50}, "drop_rate is 50"),
        ({"drop_rate": math.nan}, "drop_rate is nan"),
        ({"drop_rate": "0.1"}, r"drop_rate is '0\.1'"),
        ({"drop_rate": None}, "drop_rate is None"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        make(**sizes)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(5, 16), ValueError, r"shape \(5, 16\), expected \(batch, tokens, 16\)"),
        (torch.zeros(16), ValueError, r"shape \(16,\)"),
        (torch.zeros(1, 2, 5, 16), ValueError, r"shape \(1, 2, 5, 16\)"),
        (torch.zeros(2, 5, 8), ValueError, r"shape \(2, 5, 8\), expected \(batch, tokens, 16\)"),
        (torch.zeros(2, 0, 16), ValueError, "no tokens: give at least one"),
        (torch.zeros(1, 65, 16), ValueError, "65 tokens exceeds .* context_length of 64: crop it"),
        (torch.zeros(2, 5, dtype=torch.long), TypeError, r"torch\.int64.* embed token ids first"),
        (torch.zeros(2, 5, 16, dtype=torch.bool), TypeError, r"torch\.bool"),
        (torch.zeros(2, 5, 16, dtype=torch.double), RuntimeError, "same dtype"),
        (torch.zeros(2, 5, 16, device="meta"), RuntimeError, "device"),
        ([[1.0, 2.0]], TypeError, "must be Tensor, not list"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        make()(x)


def test_the_longest_sequence_allowed_is_taken():
    assert make()(torch.zeros(1, 64, 16)).shape == (1, 64, 16)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_on_paper_equals_torchs_for_any_mask_and_shape(leading, masked):
    torch.manual_seed(0)
    q = torch.randn(*leading, 5, 4, requires_grad=True)
    k, v = torch.randn(*leading, 7, 4), torch.randn(*leading, 7, 6)
    mask = torch.rand(*leading[:1], *[1] * (len(leading) > 1), *leading[2:], 5, 7) < 0.4
    mask[..., 2, :] = False  # a query that may look nowhere
    mask = mask if masked else None
    found = scaled_dot_product_attention(q, k, v, mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(found, expected)
    (grad,) = torch.autograd.grad(found.square().sum(), q)
    assert grad.isfinite().all()
    weights = attention_weights(q, k, mask)
    assert weights.shape == (*leading, 5, 7)
    if masked:
        assert weights[~mask.expand_as(weights)].eq(0).all()


@pytest.mark.parametrize("mask", [torch.zeros(5, 5), torch.ones(5, 5, dtype=torch.int64), [[True]]])
def test_a_mask_that_is_not_bool_is_refused(mask):
    q = torch.randn(5, 4)
    with pytest.raises(TypeError, match="give a bool tensor, True where a query may look"):
        scaled_dot_product_attention(q, q, q, mask)
