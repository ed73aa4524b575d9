"""Latent attention is DeepSeek's, its two forms are one, and its cache holds latents only."""

import pytest
import torch
import transformers
from parity import (
    PIECES,
    close,
    same_logits_loss_and_gradients,
    same_with_a_cache_and_left_padding,
    tokens,
)
from test_modern import modern

from llmlib.generation.generate import generate
from llmlib.generation.quantization import quantize
from llmlib.generation.sampling import Sampling
from llmlib.model.latent_attention import LatentCache

GREEDY = Sampling(temperature=0)
MLA = {"name": "latent_attention", "kv_lora_rank": 20, "qk_nope_head_dim": 10, "v_head_dim": 12}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}


def latent(attention=None, **changes):
    changes = {"n_kv_heads": 6, "head_dim": 8} | changes
    return modern(attention=MLA | (attention or {}), **changes)


KINDS = {
    "queries from a latent": ({"q_lora_rank": 14}, {}, {}),
    "queries directly": ({"q_lora_rank": None}, {}, {}),
    "halves": ({"q_lora_rank": 14, "rope_interleave": False}, {}, {}),
    "biases": ({"q_lora_rank": 14}, {"attention_bias": True}, {"qkv_bias": True, "o_bias": True}),
    "large values": ({"q_lora_rank": 14, "v_head_dim": 30}, {}, {}),
    "yarn": (
        {"q_lora_rank": 14},
        {"rope_parameters": YARN | {"rope_type": "yarn", "mscale": 1.0, "mscale_all_dim": 0.7}},
        {
            "positions": YARN
            | {"name": "rope_scaling", "type": "yarn", "mscale": 1.0, "mscale_all_dim": 0.7}
        },
    ),
    "yarn without mscale": (
        {},
        {"rope_parameters": YARN | {"rope_type": "yarn"}},
        {"positions": YARN | {"name": "rope_scaling", "type": "yarn"}},
    ),
    "linear": (
        {},
        {"rope_parameters": {"factor": 4.0, "rope_type": "linear"}},
        {"positions": {"name": "rope_scaling", "type": "linear", "factor": 4.0}},
    ),
}
TOP = {"wte": "model.embed_tokens", "ln_f": "model.norm", "lm_head": "lm_head"}
PLACES = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_proj": "mlp.down_proj",
}


def theirs(name, state):
    """What transformers has for a parameter of ours."""
    place, _, kind = name.rpartition(".")
    if place in TOP:
        return state[f"{TOP[place]}.{kind}"]
    _, layer, rest = place.split(".", 2)
    start = f"model.layers.{layer}"
    if rest == "mlp.c_fc":
        return torch.cat([state[f"{start}.mlp.{x}_proj.{kind}"] for x in ("gate", "up")])
    rest = PLACES.get(rest) or rest.replace("attn.", "self_attn.")
    return state[f"{start}.{rest}.{kind}"]


@pytest.fixture(params=KINDS)
def pair(request):
    """A random DeepSeek-V3 of transformers with dense layers only, and ours with its weights."""
    attention, settings, ours = KINDS[request.param]
    model = latent(attention, norm_eps=1e-2, **ours)
    part = model.config.attention
    config = transformers.DeepseekV3Config(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        first_k_dense_replace=3,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=64,
        rms_norm_eps=1e-2,
        attn_implementation="eager",
        kv_lora_rank=part["kv_lora_rank"],
        q_lora_rank=part.get("q_lora_rank"),
        qk_nope_head_dim=part["qk_nope_head_dim"],
        qk_rope_head_dim=8,
        v_head_dim=part["v_head_dim"],
        rope_interleave=part.get("rope_interleave", True),
        **settings,
    )
    torch.manual_seed(0)
    reference = transformers.DeepseekV3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2)
    state = reference.state_dict()
    model.load_state_dict({name: theirs(name, state) for name in model.state_dict()})
    return reference, model


def test_logits_loss_and_gradients_are_those_of_transformers(pair):
    same_logits_loss_and_gradients(*pair, theirs)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [PIECES, [1] * 40])
def test_a_cache_with_left_padding_gives_the_logits_of_transformers(pair, pieces):
    same_with_a_cache_and_left_padding(*pair, pieces)


@pytest.mark.parametrize("v_head_dim", [12, 40])
def test_absorbed_and_expanded_are_the_same_and_so_are_their_gradients(v_head_dim):
    attention = latent({"v_head_dim": v_head_dim}).double().h[0].attn
    found = []
    for form in (attention.absorbed, attention.expanded):
        q_nope, q_rope = torch.randn(2, 6, 9, 10).double(), torch.randn(2, 6, 9, 8).double()
        for seed, tensor in enumerate((q_nope, q_rope)):
            tensor.normal_(generator=torch.Generator().manual_seed(seed)).requires_grad_()
        kept = torch.randn(2, 1, 9, 28, generator=torch.Generator().manual_seed(3)).double()
        kept.requires_grad_()
        for mask in (None, torch.rand(2, 1, 9, 9).round().bool() | torch.eye(9).bool()):
            torch.manual_seed(5)
            mask = None if mask is None else (torch.rand(2, 1, 9, 9) > 0.5) | torch.eye(9).bool()
            out = form(q_nope, q_rope, kept, mask)
            attention.zero_grad()
            gradients = torch.autograd.grad(
                out.square().sum(), [q_nope, q_rope, kept, attention.kv_b_proj.weight]
            )
            found.append([out, *gradients])
    for absorbed, expanded in zip(found[:2], found[2:]):
        for a, b in zip(absorbed, expanded):
            close(a, b, 1e-9)


def test_the_cache_holds_latents_and_rotated_keys_only():
    model = latent().requires_grad_(False)
    cache = model.new_cache(2, 30)
    model(tokens(2, 5), cache)
    assert type(cache) is LatentCache and cache.data.shape == (3, 2, 1, 30, 20 + 8)


def test_in_bfloat16_training_runs_and_is_near():
    model = latent()
    expected = model(tokens(2, 20))
    logits = model.bfloat16()(tokens(2, 20)).float()
    assert (logits - expected).norm() < 0.05 * expected.norm()
    logits.sum().backward()


def test_packed_weights_generate_with_the_latents_left_as_they_are():
    model = latent(std=0.2)
    for name in ("float32", "bfloat16", "float16"):
        packed = quantize(model, name)
        ids = tokens(2, 9)
        error = (packed(ids) - model(ids)).norm() / model(ids).norm()
        assert error < {"float32": 1e-5, "bfloat16": 0.05, "float16": 0.005}[name]
        assert len(generate(packed, [[1], [2, 3]], 5, GREEDY)[1]) == 7


@pytest.mark.parametrize(
    ("attention", "changes", "words"),
    [
        ({"kv_lora_rank": 0}, {}, "kv_lora_rank is 0"),
        ({"q_lora_rank": 1.5}, {}, "q_lora_rank is 1.5"),
        ({"rope_interleave": 1}, {}, "rope_interleave is 1"),
        ({"qk_rope_head_dim": 8}, {}, "qk_rope_head_dim"),
        ({}, {"n_kv_heads": 2}, "n_kv_heads is 2"),
        ({}, {"qk_norm": True}, "qk_norm"),
        ({}, {"mask": {"name": "window", "width": 4}}, "no mask 'window'"),
        ({}, {"positions": "learned"}, "no positions 'learned'"),
        ({}, {"head_dim": 7}, "head_dim is 7"),
    ],
)
def test_what_no_model_has_is_refused(attention, changes, words):
    with pytest.raises(ValueError, match=words):
        latent(attention, **changes)


def test_sizes_have_to_be_given():
    with pytest.raises(ValueError, match="needs the setting 'kv_lora_rank'"):
        modern(attention="latent_attention")
