"""The GPT of notebook 04: equal to Hugging Face's, and clear about what it cannot take."""

import copy
import math
import os
import pickle
from dataclasses import FrozenInstanceError, replace

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test touches the network

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.model.config import PRESETS, GPTConfig
from llmlib.model.gpt import GPT, Block, FeedForward, silu

TINY = GPTConfig(vocab_size=50, context_length=12, emb_dim=16, n_heads=4, n_layers=2)


def tokens(*shape, vocab_size=50, seed=0):
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def model_of(config=TINY, seed=0, spread=0.0):
    """A model in evaluation mode; `spread` moves every parameter, biases and norms too."""
    model = GPT(config)
    generator = torch.Generator().manual_seed(seed)
    model.init_weights(generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return model.eval()


# ------------------------------------------------------------------ equal to Hugging Face's GPT-2

SHAPES = [  # (config, batch, tokens)
    (TINY, 2, 12),
    (GPTConfig(101, 32, emb_dim=48, n_heads=3, n_layers=4), 3, 17),
    (GPTConfig(257, 64, emb_dim=64, n_heads=1, n_layers=1), 1, 64),
    (GPTConfig(512, 16, emb_dim=96, n_heads=12, n_layers=6), 4, 1),
    (GPTConfig(999, 128, emb_dim=80, n_heads=5, n_layers=3, tie_weights=False), 2, 100),
    (GPTConfig(50257, 24, emb_dim=32, n_heads=2, n_layers=12), 1, 24),
]


def reference_for(model):
    """Hugging Face's GPT2LMHeadModel with the weights of `model`, and a map of its parameters."""
    transformers = pytest.importorskip("transformers")
    c = model.config
    config = transformers.GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.context_length,
        n_embd=c.emb_dim,
        n_head=c.n_heads,
        n_layer=c.n_layers,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=c.tie_weights,
        bos_token_id=0,
        eos_token_id=0,
    )
    reference = transformers.GPT2LMHeadModel(config).eval()
    theirs = {name.removeprefix("transformer."): p for name, p in reference.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs[name].copy_(to_theirs(name, parameter))
    return reference, theirs


def to_theirs(name, tensor):
    """GPT-2's Conv1D keeps its matrices as (input, output), a Linear as (output, input)."""
    parts = ("c_attn", "c_proj", "c_fc")
    transposed = name.endswith("weight") and any(part in name for part in parts)
    return tensor.T if transposed else tensor


@pytest.mark.parametrize(("config", "batch", "length"), SHAPES)
def test_logits_loss_and_gradients_equal_hugging_face(config, batch, length):
    model = model_of(config, spread=0.1)
    reference, theirs = reference_for(model)
    assert {name for name, _ in model.named_parameters()} == set(theirs)
    ids = tokens(batch, length, vocab_size=config.vocab_size)
    targets = tokens(batch, length, vocab_size=config.vocab_size, seed=1)

    logits, expected = model(ids), reference(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    losses = [F.cross_entropy(out.flatten(0, 1), targets.flatten()) for out in (logits, expected)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=0)
    for loss in losses:
        loss.backward()
    for name, parameter in model.named_parameters():
        close = {"atol": 1e-4, "rtol": 1e-4, "msg": lambda text, name=name: f"{name}: {text}"}
        torch.testing.assert_close(to_theirs(name, parameter.grad), theirs[name].grad, **close)


def test_its_own_loss_in_hugging_face_is_ours_shifted_by_one():
    model = model_of(spread=0.1)
    reference, _ = reference_for(model)
    ids = tokens(2, 12)
    ours = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(ours, reference(input_ids=ids, labels=ids).loss)


def test_state_dict_has_exactly_the_names_of_gpt2():
    names = ["wte.weight", "wpe.weight"]
    for layer in range(TINY.n_layers):
        for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            names += [f"h.{layer}.{part}.weight", f"h.{layer}.{part}.bias"]
    names += ["ln_f.weight", "ln_f.bias"]
    assert list(GPT(TINY).state_dict()) == names
    assert list(GPT(replace(TINY, tie_weights=False)).state_dict()) == [*names, "lm_head.weight"]
    without = set(names) - set(GPT(replace(TINY, qkv_bias=False)).state_dict())
    assert without == {"h.0.attn.c_attn.bias", "h.1.attn.c_attn.bias"}


# ------------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("gpt2-124M", 124_439_808),
        ("gpt2-355M", 354_823_168),
        ("gpt2-774M", 774_030_080),
        ("gpt2-1558M", 1_557_611_200),
    ],
)
def test_presets_have_the_published_number_of_parameters(name, published):
    with torch.device("meta"):
        assert GPT(GPTConfig.preset(name)).num_parameters() == published


def test_an_untied_head_makes_163_million():
    with torch.device("meta"):
        model = GPT(GPTConfig.preset("gpt2-124M", tie_weights=False))
    assert model.num_parameters() == 124_439_808 + 50257 * 768


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 11), st.integers(1, 12), st.integers(0, 49))
def test_no_token_sees_the_future(position, length, other):
    position = min(position, length - 1)
    model, ids = model_of(spread=0.3), tokens(2, length)
    changed = ids.clone()
    changed[:, position] = other
    with torch.no_grad():
        before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :position], after[:, :position], rtol=0, atol=0)
    if (changed != ids).any():
        assert not torch.allclose(before[:, position:], after[:, position:])


def test_every_earlier_token_counts():
    model, ids = model_of(spread=0.3), tokens(1, 12)
    x = model.wte(ids).detach().requires_grad_()
    hidden = x + model.wpe.weight
    for block in model.h:
        hidden = block(hidden)
    model.ln_f(hidden)[0, -1].square().mul(torch.arange(16)).sum().backward()
    assert (x.grad.abs().sum(dim=-1) > 0).all()


def test_a_shorter_sequence_gives_the_same_logits():
    model, ids = model_of(spread=0.3), tokens(2, 12)
    torch.testing.assert_close(model(ids)[:, :5], model(ids[:, :5]))


def test_positions_matter():
    model = model_of(spread=0.3)
    logits = model(torch.full((1, 12), 7))
    assert not torch.allclose(logits[0, 0], logits[0, 5])


def test_a_new_model_scores_ln_v():
    for config in (TINY, PRESETS["story-small"], replace(TINY, tie_weights=False)):
        ids = tokens(8, config.context_length, vocab_size=config.vocab_size)
        targets = tokens(8, config.context_length, vocab_size=config.vocab_size, seed=1)
        loss = F.cross_entropy(model_of(config)(ids).flatten(0, 1), targets.flatten())
        assert abs(loss.item() - math.log(config.vocab_size)) < 0.05


def test_features_times_head_weight_are_the_logits():
    for config in (TINY, replace(TINY, tie_weights=False)):
        model, ids = model_of(config), tokens(2, 6)
        features = model.features(ids)
        assert features.shape == (2, 6, 16) and model.head_weight.shape == (50, 16)
        torch.testing.assert_close(model(ids), features @ model.head_weight.T)


def test_int32_ids_give_the_same():
    model, ids = model_of(), tokens(2, 6)
    assert torch.equal(model(ids), model(ids.int()))


def test_head_and_embedding_share_their_storage_and_their_gradient_is_the_sum():
    tied, untied = GPT(TINY), GPT(replace(TINY, tie_weights=False))
    assert tied.head_weight.data_ptr() == tied.wte.weight.data_ptr()
    assert untied.head_weight.data_ptr() != untied.wte.weight.data_ptr()
    untied.load_state_dict(tied.state_dict() | {"lm_head.weight": tied.wte.weight.detach()})
    ids = tokens(2, 12)
    for model in (tied, untied):
        F.cross_entropy(model(ids).flatten(0, 1), tokens(24, seed=1)).backward()
    both = untied.wte.weight.grad + untied.lm_head.weight.grad
    torch.testing.assert_close(tied.wte.weight.grad, both)


def test_dropout_acts_in_training_only_and_at_all_three_places():
    config = replace(TINY, drop_rate=0.5)
    model, ids = model_of(config), tokens(2, 12)
    assert torch.equal(model(ids), model(ids))
    assert torch.equal(model(ids), model_of(TINY)(ids))
    assert not torch.equal(model.train()(ids), model(ids))
    x = torch.ones(4, 8, 16)
    for part in (model.drop, model.h[0].attn, model.h[0].mlp):
        with torch.no_grad():
            zeros = (part(x + torch.arange(16)) == 0).float().mean()
        assert 0.35 < zeros < 0.65
    model.h, model.ln_f = torch.nn.ModuleList(), torch.nn.Identity()  # the embeddings alone
    assert 0.35 < (model.features(ids) == 0).float().mean() < 0.65
    assert (model.eval().features(ids) == 0).float().mean() < 0.01


def test_without_dropout_training_and_evaluation_agree():
    model, ids = model_of(), tokens(2, 12)
    assert torch.equal(model.train()(ids), model.eval()(ids))


def test_it_runs_in_bfloat16_and_under_autocast_and_float64():
    model, ids = model_of(), tokens(2, 12)
    expected = model(ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(ids).float(), expected, atol=0.02, rtol=0.02)
    torch.testing.assert_close(model.double()(ids).float(), expected)
    assert model.to(torch.bfloat16)(ids).dtype == torch.bfloat16


def test_a_batch_is_its_rows():
    model, ids = model_of(spread=0.2), tokens(3, 8)
    rows = torch.cat([model(row.unsqueeze(0)) for row in ids])
    torch.testing.assert_close(model(ids), rows)


def test_it_learns_a_sequence_by_heart():
    torch.manual_seed(0)
    model, ids = GPT(TINY), tokens(2, 13)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


# --------------------------------------------------------------------------------- initialisation


def test_initial_weights_have_gpt2s_statistics():
    config = GPTConfig(2000, 256, emb_dim=128, n_heads=4, n_layers=8)
    for std, model in ((0.02, model_of(config)), (0.05, GPT(config))):
        if std != 0.02:
            model.init_weights(std)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif ".ln_" in name or name.startswith("ln_f"):
                assert (parameter == 1).all(), name
            else:
                scale = 1 / math.sqrt(2 * 8) if "c_proj" in name else 1.0
                assert parameter.std().item() == pytest.approx(std * scale, rel=0.03), name
                assert abs(parameter.mean().item()) < 0.05 * std, name


def test_a_new_model_is_initialised_and_a_generator_makes_it_repeatable():
    assert GPT(TINY).wte.weight.std() < 0.03  # not PyTorch's 1
    weights = []
    for _ in range(2):
        model = GPT(TINY)
        model.init_weights(generator=torch.Generator().manual_seed(5))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("std", [0, -0.02, math.nan, math.inf])
def test_an_impossible_std_is_refused(std):
    with pytest.raises(ValueError, match=r"it must be a number above 0; GPT-2's is 0\.02"):
        GPT(TINY).init_weights(std)


def test_depth_does_not_change_the_variance_of_the_stream():
    def variance(n_layers):
        model = model_of(GPTConfig(50, 12, emb_dim=64, n_heads=4, n_layers=n_layers))
        model.init_weights(0.1, generator=torch.Generator().manual_seed(0))
        x = model.wte(tokens(4, 12)) + model.wpe.weight
        for block in model.h:
            x = block(x)
        return x.var().item()

    assert 0.75 < variance(24) / variance(3) < 1.33


# ------------------------------------------------------------------------------ what it cannot take


@pytest.mark.parametrize(
    ("ids", "kind", "says"),
    [
        ([[1, 2]], TypeError, r"ids are a list: give a tensor, torch\.tensor"),
        (torch.tensor([1, 2]), ValueError, r"shape \(2,\), expected \(batch, tokens\).*unsqueeze"),
        (torch.zeros(1, 2, 3).long(), ValueError, r"shape \(1, 2, 3\), expected \(batch, tokens\)"),
        (torch.tensor(3), ValueError, r"shape \(\), expected"),
        (torch.zeros(2, 0).long(), ValueError, r"shape \(2, 0\) hold no token"),
        (torch.zeros(0, 2).long(), ValueError, r"shape \(0, 2\) hold no token"),
        (
            torch.zeros(1, 13).long(),
            ValueError,
            "13 tokens exceeds the model's context_length of 12",
        ),
        (torch.tensor([[1, -1]]), ValueError, "token id -1 is outside .* 0 to 49"),
        (torch.tensor([[1, 50]]), ValueError, "token id 50 is outside .* 0 to 49"),
        (torch.ones(1, 2), TypeError, r"torch\.float32: token ids are torch\.int64"),
        (torch.ones(1, 2, dtype=torch.bool), TypeError, r"torch\.bool"),
        (torch.ones(1, 2, dtype=torch.uint8), TypeError, r"torch\.uint8"),
        (torch.ones(1, 2, dtype=torch.long, device="meta"), ValueError, r"on meta.*to\('cpu'\)"),
    ],
)
def test_ids_that_it_cannot_read_are_explained(ids, kind, says):
    model = GPT(TINY)
    for call in (model, model.features):
        with pytest.raises(kind, match=says):
            call(ids)


def test_the_longest_sequence_and_the_last_id_are_allowed():
    assert GPT(TINY)(torch.full((1, 12), 49)).shape == (1, 12, 50)


@pytest.mark.parametrize("name", ["vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"])
@pytest.mark.parametrize("wrong", [0, -4, 2.0, "8", None, True])
def test_sizes_are_checked_and_named(name, wrong):
    with pytest.raises(ValueError, match=f"{name} is .*{wrong}.*: it must be an int of at least 1"):
        replace(TINY, **{name: wrong})


@pytest.mark.parametrize("wrong", [-0.1, 1.0, 2, math.nan, "0.1", None])
def test_the_drop_rate_is_checked(wrong):
    with pytest.raises(ValueError, match=r"drop_rate is .* from 0 to below 1"):
        replace(TINY, drop_rate=wrong)


@pytest.mark.parametrize("name", ["qkv_bias", "tie_weights"])
@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_switches_are_true_or_false(name, wrong):
    with pytest.raises(ValueError, match=f"{name} is .* must be True or False"):
        replace(TINY, **{name: wrong})


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="emb_dim 16 is not divisible by n_heads 3"):
        replace(TINY, n_heads=3)


def test_misspelt_fields_and_presets_are_answered_with_the_right_ones():
    with pytest.raises(TypeError, match="no field 'n_head': did you mean 'n_heads'"):
        GPTConfig(50, 12, 16, n_head=4, n_layers=2)
    with pytest.raises(TypeError, match=r"no field 'dropout': .*There are vocab_size.*drop_rate"):
        GPTConfig.preset("gpt2-124M", dropout=0.1)
    with pytest.raises(ValueError, match="no preset 'gpt2-124m': did you mean 'gpt2-124M'"):
        GPTConfig.preset("gpt2-124m")
    with pytest.raises(ValueError, match=r"no preset 7: There are gpt2-124M, .*story-tiny"):
        GPTConfig.preset(7)
    with pytest.raises(TypeError, match=r"missing .* 'n_heads' and 'n_layers'"):
        GPTConfig(50, 12, 16)


def test_a_configuration_is_frozen_and_can_be_copied():
    with pytest.raises(FrozenInstanceError):
        TINY.n_layers = 3
    assert copy.deepcopy(TINY) == pickle.loads(pickle.dumps(TINY)) == TINY
    assert GPTConfig.preset("story-small", n_layers=5) == replace(
        PRESETS["story-small"], n_layers=5
    )
    assert PRESETS["story-small"].n_layers == 3


def test_a_model_needs_a_configuration():
    with pytest.raises(TypeError, match="must be a GPTConfig, not dict"):
        GPT({"vocab_size": 50})


def test_parts_keep_the_shape():
    x = torch.randn(2, 5, 16)
    for part in (FeedForward(TINY), Block(TINY)):
        assert part(x).shape == x.shape


@pytest.mark.parametrize("packed", [False, True])
def test_gradient_checkpointing_gives_equal_gradients_with_dropout_too(packed):
    torch.manual_seed(0)
    model = GPT(GPTConfig(20, 12, emb_dim=8, n_heads=2, n_layers=3, drop_rate=0.2))
    ids = torch.randint(20, (2, 12))
    segments = torch.arange(12).expand(2, 12) // 5 if packed else None
    found, calls = {}, []
    model.h[1].register_forward_pre_hook(lambda *_: calls.append(model.gradient_checkpointing))
    for switch in (False, True):
        model.gradient_checkpointing = switch
        torch.manual_seed(1)
        model.zero_grad()
        model(ids, segments=segments).square().sum().backward()
        found[switch] = [parameter.grad for parameter in model.parameters()]
    for ours, theirs in zip(found[True], found[False]):
        assert torch.equal(ours, theirs)
    assert calls == [False, True, True], "computed again on the way back"
    with torch.no_grad():  # and reading with a cache is as before
        model.eval()
        logits = model(ids)
        torch.testing.assert_close(model(ids, model.new_cache(2, 12)), logits)


def test_silu_is_torchs():
    x = torch.linspace(-100, 100, 2001)
    torch.testing.assert_close(silu(x), torch.nn.functional.silu(x))
