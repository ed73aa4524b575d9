"""Scaled rotary positions are those of transformers, for every set of keys, near and far."""

import pytest
import torch
import transformers

from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.parts import build_part
from llmlib.model.rope_scaling import ScaledRotaryPositions
from llmlib.pretrained.huggingface import load_pretrained

SIZES = {"vocab_size": 97, "emb_dim": 64, "n_heads": 4, "n_layers": 2, "head_dim": 16}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
LLAMA3 = {
    "type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 128,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
SETS = [
    {"type": "linear", "factor": 4.0},
    {"type": "linear", "factor": 1.0},
    {"type": "dynamic", "factor": 2.0},
    {"type": "dynamic", "factor": 4.0},
    YARN,
    YARN | {"factor": 1.0},
    YARN | {"attention_factor": 1.3},
    YARN | {"attention_factor": 1.3, "mscale": 1.0, "mscale_all_dim": 0.5},
    YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
    YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
    YARN | {"mscale": 0.8},
    YARN | {"mscale_all_dim": 0.8},
    YARN | {"beta_fast": 16, "beta_slow": 2},
    YARN | {"beta_fast": 7.5, "beta_slow": 0.5, "truncate": False},
    YARN | {"truncate": False},
    YARN | {"beta_slow": 1e-6},  # a pair that no head has
    YARN | {"truncate": True, "beta_fast": None},
    YARN | {"original_max_position_embeddings": 100},
    {"type": "yarn", "factor": 4.0},
    LLAMA3,
    LLAMA3 | {"low_freq_factor": 0.5, "high_freq_factor": 2.0},
    LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 60},
]


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def reference_config(keys, base, context_length=1024):
    rope = {"rope_type" if key == "type" else key: value for key, value in keys.items()}
    return transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context_length,
        rope_parameters=rope | {"rope_theta": base},
        attn_implementation="eager",
        rms_norm_eps=1e-5,
    )


def scaled(keys, base=10_000.0, context_length=1024):
    config = ModernConfig(**SIZES, rope_base=base, context_length=context_length)
    return build_part("positions", {"name": "rope_scaling"} | keys, config)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("keys", SETS, ids=str)
def test_cos_and_sin_are_those_of_transformers(keys, base):
    """Short texts first, then long ones: those of `dynamic` change what it computes."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    theirs, ours = LlamaRotaryEmbedding(reference_config(keys, base)), scaled(keys, base)
    x = torch.zeros(2, 1, 64)
    for start, stop in [(0, 5), (0, 600), (0, 1024), (1000, 1500), (2999, 3000)]:
        cos, sin = theirs(x, torch.arange(start, stop)[None])
        sin[..., :8] *= -1  # the sign that our table carries
        _, (our_cos, our_sin) = ours(x, slice(start, stop))
        close(our_cos, cos[0], 2e-4 if stop > 1024 else 1e-4)
        close(our_sin, sin[0], 2e-4 if stop > 1024 else 1e-4)
        rows = torch.stack([torch.arange(start, stop), torch.arange(stop - start)])
        cos, sin = theirs(x, rows)
        sin[..., :8] *= -1
        _, (our_cos, our_sin) = ours(x, rows)
        close(our_cos[:, 0], cos, 2e-4 if stop > 1024 else 1e-4)
        close(our_sin[:, 0], sin, 2e-4 if stop > 1024 else 1e-4)


@pytest.mark.parametrize("keys", SETS, ids=str)
def test_rates_are_those_of_transformers_to_the_last_digits(keys):
    function = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[keys["type"]]
    ours = scaled(keys, 10_000.0)
    for length in (None, 7, 1024, 1025, 5000):
        rates, scale = function(reference_config(keys, 10_000.0), "cpu", seq_len=length)
        ours.length = length or 0
        torch.testing.assert_close(ours.rates(), rates, rtol=2e-6, atol=0)
        assert ours.scale == pytest.approx(scale, rel=1e-9)


def test_yarn_computes_a_factor_from_the_lengths_where_none_is_given():
    assert scaled({"type": "yarn", "original_max_position_embeddings": 256}).keys["factor"] == 4


def test_ntk_slows_the_slowest_pair_by_the_factor_and_leaves_the_fastest():
    plain = ScaledRotaryPositions(ModernConfig(**SIZES, context_length=64), type="linear", factor=1)
    ratio = plain.rates() / scaled({"type": "ntk", "factor": 4.0}).rates()
    close(ratio[[0, -1]], torch.tensor([1.0, 4.0]), 1e-5)
    assert (ratio[1:] > ratio[:-1]).all()


def test_the_type_of_the_rotation_stays_float32_when_the_model_is_cast():
    for keys in (YARN, {"type": "dynamic", "factor": 2.0}):
        ours = scaled(keys).bfloat16()
        _, (cos, _) = ours(torch.zeros(1, 2, 64, dtype=torch.bfloat16), slice(3000, 3002))
        assert cos.dtype == torch.float32 and (cos[0] - cos[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"type": "longrope", "factor": 2.0}, "longrope.*There are linear"),
        ({"type": "lineer", "factor": 2.0}, "did you mean 'linear'"),
        ({"type": "linear"}, "'linear' needs the key 'factor'"),
        ({"type": "linear", "factor": 2.0, "beta_fast": 3}, "key of rope_scaling 'linear'.*beta_f"),
        ({"type": "llama3", "factor": 2.0}, "needs the key '(low|high)_freq_factor'"),
        (LLAMA3 | {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (LLAMA3 | {"low_freq_factor": 4.0}, "low_freq_factor 4.0 must be below"),
        (YARN | {"factor": 0.5}, "factor is 0.5.*at least 1"),
        (YARN | {"factor": "4"}, "factor is '4'"),
        (YARN | {"beta_fast": 1, "beta_slow": 2}, "beta_slow 2 must be below beta_fast"),
        (YARN | {"truncate": 1}, "truncate is 1"),
        (YARN | {"attention_factor": -1.0}, "attention_factor"),
        (YARN | {"original_max_position_embeddings": 2.5}, "original_max_position_embeddings"),
    ],
    ids=str,
)
def test_what_is_not_computed_is_refused_by_name(keys, words):
    with pytest.raises(ValueError, match=words):
        scaled(keys)


def test_a_type_has_to_be_named():
    with pytest.raises(ValueError, match="needs the setting 'type'"):
        scaled({"factor": 2.0})


@torch.no_grad()
@pytest.mark.parametrize("keys", [YARN, LLAMA3, {"type": "dynamic", "factor": 2.0}], ids=str)
def test_whole_models_agree_far_beyond_their_first_length_and_with_a_cache(keys, tmp_path):
    """Token by token too, where the rates of `dynamic` change from token to token."""
    small = keys | ({"original_max_position_embeddings": 16} if "factor" in keys else {})
    if keys["type"] == "dynamic":
        small.pop("original_max_position_embeddings")
    length = 24 if keys["type"] == "dynamic" else 64
    reference = transformers.LlamaForCausalLM(reference_config(small, 10_000.0, length)).eval()
    torch.manual_seed(0)
    for parameter in reference.parameters():
        parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    ours = Modern(
        ModernConfig(
            **SIZES,
            context_length=length,
            n_kv_heads=2,
            hidden_dim=96,
            positions={"name": "rope_scaling"} | small,
        )
    ).eval()
    from test_modern import theirs as named

    state = reference.state_dict()
    ours.load_state_dict({name: named(name, state) for name in ours.state_dict()})
    ids = torch.randint(97, (1, length), generator=torch.Generator().manual_seed(0))
    reference.save_pretrained(tmp_path)
    close(load_pretrained(tmp_path)(ids), reference(ids).logits, 2e-4)
    close(ours(ids), reference(ids).logits, 2e-4)
    cache, past, logits = ours.new_cache(1, length), None, []
    for token in ids[0]:
        output = reference(token.view(1, 1), past_key_values=past, use_cache=True)
        past = output.past_key_values
        logits.append((ours(token.view(1, 1), cache), output.logits))
    close(*(torch.cat(each, 1) for each in zip(*logits)), 2e-4)
