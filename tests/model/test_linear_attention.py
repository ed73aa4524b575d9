"""Three ways to compute linear attention and the delta rule give one result."""

import pytest
import torch
import torch.nn.functional as F
from parity import close, tokens
from test_modern import modern

from llmlib.model.linear_attention import delta_chunks

PART = {"name": "linear_attention"}


def token_by_token(q, k, v, rate):
    """The state, token after token."""
    state, out = q.new_zeros(*q.shape[:2], k.shape[-1], v.shape[-1]), []
    for t in range(q.shape[2]):
        key, value = k[:, :, t], v[:, :, t]
        if rate is not None:
            held = torch.einsum("bhd,bhde->bhe", key, state)
            value = rate[:, :, t] * (value - held)
        state = state + key[..., :, None] * value[..., None, :]
        out.append(torch.einsum("bhd,bhde->bhe", q[:, :, t], state))
    return torch.stack(out, 2)


@pytest.mark.parametrize("size", [1, 3, 8, 20, 99])
@pytest.mark.parametrize("corrects", [False, True])
def test_chunks_of_any_size_equal_one_token_at_a_time(corrects, size):
    q, k, v = (torch.randn(2, 3, 20, 6).double() for _ in range(3))
    k = F.normalize(k, dim=-1)
    rate = torch.rand(2, 3, 20, 1).double() if corrects else None
    close(delta_chunks(q, k, v, rate, size), token_by_token(q, k, v, rate), 1e-9)
    if not corrects:  # the quadratic form: attention without a softmax
        close(delta_chunks(q, k, v, rate, size), (q @ k.mT).tril() @ v, 1e-9)


def test_a_key_that_returns_is_overwritten_by_the_delta_rule():
    k = F.normalize(torch.randn(1, 1, 1, 4), dim=-1).expand(1, 1, 2, 4)
    v = torch.tensor([[[[1.0, 0, 0, 0], [0, 1, 0, 0]]]])
    close(delta_chunks(k, k, v, torch.ones(1, 1, 2, 1))[0, 0, 1], v[0, 0, 1])
    close(delta_chunks(k, k, v, None)[0, 0, 1], v[0, 0].sum(0))


@pytest.mark.parametrize("rule", ["linear", "delta", "softmax"])
def test_a_model_with_it_is_causal_and_has_gradients(rule):
    model = modern(attention=PART | {"rule": rule}, n_kv_heads=6)
    ids = tokens(2, 60)
    logits = model(ids)
    close(model(ids[:, :40]), logits[:, :40], 1e-4)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_what_it_has_not_is_refused():
    model = modern(attention=PART, n_kv_heads=6)
    with pytest.raises(ValueError, match="has no cache"):
        model.new_cache(1, 9)
    with pytest.raises(ValueError, match="no segments"):
        model(tokens(1, 3), segments=torch.zeros(1, 3).long())
    for changes, words in [
        ({"n_kv_heads": 2}, "grouped queries"),
        ({"attention": PART | {"rule": "beta"}}, "rule is 'beta'.*delta"),
        ({"mask": {"name": "window", "width": 3}}, "no mask 'window'"),
    ]:
        with pytest.raises(ValueError, match=words):
            modern(**({"attention": "linear_attention", "n_kv_heads": 6} | changes))


def test_a_softmax_takes_masks_and_refuses_documents():
    part = PART | {"rule": "softmax"}
    window = {"name": "window", "width": 3}
    model = modern(attention=part, n_kv_heads=6, mask=window, n_layers=1)
    ids = tokens(1, 9)
    changed = ids.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 97
    same = (model(ids) - model(changed)).abs().amax(-1)[0] == 0
    assert same.tolist() == [False] * 4 + [True] * 5, (
        "two back, and one more that keys are mixed with"
    )
    with pytest.raises(ValueError, match="no segments"):
        model(ids, segments=torch.zeros(1, 9).long())
