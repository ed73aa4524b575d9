"""The modern transformer equals transformers' Llama, Qwen2 and Qwen3, and GPT where it is a GPT."""

import warnings
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
import transformers
from parity import close, same_logits_loss_and_gradients, same_with_a_cache_and_left_padding, tokens

from llmlib.model import config as gpt
from llmlib.model.architectures import ARCHITECTURES, PRESETS, config_of, new_model, preset
from llmlib.model.config import GPTConfig
from llmlib.model.gates import halves
from llmlib.model.gpt import GPT
from llmlib.model.layers import attend_groups
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.norms import rms_norm
from llmlib.model.parts import PARTS, build_part, find_part, part
from llmlib.model.positions import RotaryPositions, rotate
from llmlib.model.presets import MODERN, NAMES
from llmlib.model.rotations import rotated_heads

SIZES = {"vocab_size": 97, "context_length": 64, "emb_dim": 48, "n_heads": 6, "n_layers": 3}
SMALL = SIZES | {"n_kv_heads": 2, "hidden_dim": 80}


def modern(seed=0, std=0.3, **changes):
    """A modern model whose weights, norms and biases too, are all random."""
    model = Modern(ModernConfig(**(SMALL | changes))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if parameter.ndim == 1 and "bias" not in name else 0.0
            parameter.normal_(around, std, generator=generator)
    return model


# --- rotary positions


def test_the_score_depends_on_the_distance_only():
    rotary = RotaryPositions(ModernConfig(**SIZES, head_dim=16))
    q, k = torch.randn(2, 16, dtype=torch.float64)
    scores = {}
    for i, j in [(5, 2), (60, 57), (1003, 1000), (2, 5)]:
        turned = [
            rotate(
                each.view(1, 1, 1, -1), tuple(t[:, None] for t in rotary.turn(torch.tensor([[at]])))
            )
            for each, at in ((q, i), (k, j))
        ]
        scores[i, j] = (turned[0] * turned[1]).sum().item()
    assert (
        abs(scores[5, 2] - scores[60, 57]) < 1e-4 and abs(scores[5, 2] - scores[1003, 1000]) < 1e-3
    )
    assert abs(scores[5, 2] - scores[2, 5]) > 1e-2, "the sign of the distance counts"


def test_a_slice_and_a_tensor_of_positions_give_the_same_rotation():
    rotary = RotaryPositions(ModernConfig(**SIZES))
    x = torch.zeros(1, 7, 48)
    _, (cos, sin) = rotary(x, slice(20, 27))
    _, (cos_rows, sin_rows) = rotary(x, torch.arange(20, 27)[None])
    assert torch.equal(cos, cos_rows[0, 0]) and torch.equal(sin, sin_rows[0, 0])


def test_far_positions_keep_apart_when_the_model_is_cast():
    """A table in bfloat16 would give positions 4000 and 4001 one angle."""
    model = modern(context_length=8192)
    ids = tokens(1, 5)
    with torch.no_grad():
        expected = model.double()(ids)
        model.float().bfloat16()
        assert model.positions.turn(torch.tensor([4000, 4001])).dtype is torch.float32
        cos = model.positions.table_for(4100, ids.device)[0]
        assert cos.dtype is torch.float32 and (cos[4000] - cos[4001]).abs().max() > 0.1
        close(model(ids).double(), expected, 0.5)


# --- parts


def test_a_new_part_is_chosen_by_name_and_patches_nothing():
    @part("feed_forward", "twice_for_test")
    class Twice(torch.nn.Module):
        def __init__(self, config, layer=0, factor=2.0):
            super().__init__()
            self.factor = factor

        def forward(self, x, places=None, aux=None):
            return self.factor * x

    try:
        model = modern(feed_forward={"name": "twice_for_test", "factor": 3.0}, hidden_dim=8)
        assert [block.mlp.factor for block in model.h] == [3.0] * 3
        assert model(tokens(2, 5)).isfinite().all()
        for choice, words in [
            ({"name": "twice_for_test", "facto": 1}, "factor"),
            ("twice_for_tes", "twice_for_test"),
            ({"factor": 1}, "name"),
            (7, "name"),
        ]:
            with pytest.raises(ValueError, match=words):
                build_part("feed_forward", choice, model.config)
    finally:
        del PARTS["feed_forward", "twice_for_test"]


@pytest.mark.parametrize("name", ["os", "modern.gpt", "../x", "", "gpt"])
def test_a_name_that_registers_nothing_is_refused(name):
    with pytest.raises(ValueError, match="there is no attention"):
        find_part("attention", name)


# --- the whole model


def test_with_the_parts_of_a_gpt_it_is_a_gpt():
    old = GPT(GPTConfig(97, 64, 48, 6, 3))
    old.init_weights(0.3)
    parts = {"norm": "layer", "positions": "learned", "feed_forward": "gelu", "hidden_dim": 192}
    biases = dict.fromkeys(("qkv_bias", "o_bias", "mlp_bias", "tie_weights"), True)
    new = modern(**parts, **biases, n_kv_heads=6)
    names = {name.replace("wpe", "positions.wpe"): t for name, t in old.state_dict().items()}
    new.load_state_dict(names)
    ids = tokens(2, 30)
    close(new(ids), old.eval()(ids), 1e-4)


def test_grouped_attention_is_attention_with_repeated_keys():
    q, k, v = torch.randn(2, 6, 9, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    k6, v6 = (part.repeat_interleave(3, 1) for part in (k, v))
    close(attend_groups(q, k, v), F.scaled_dot_product_attention(q, k6, v6, is_causal=True))
    last = attend_groups(q[:, :, -1:], k, v)
    close(last, F.scaled_dot_product_attention(q[:, :, -1:], k6, v6))
    for shape in ((2, 1, 1, 9), (2, 6, 1, 9)):
        mask = torch.rand(shape) > 0.4
        mask[..., -1] = True
        expected = F.scaled_dot_product_attention(q[:, :, -1:], k6, v6, attn_mask=mask)
        close(attend_groups(q[:, :, -1:], k, v, mask), expected)


def test_zero_init_makes_blocks_that_add_nothing():
    model = Modern(ModernConfig(**SMALL, zero_init=True))
    ids = tokens(2, 7)
    close(model(ids), model.head(model.ln_f(model.wte(ids))))


def test_logits_stay_below_the_cap_and_the_head_is_no_plain_product():
    model = modern(logit_cap=2.0)
    assert model.head_weight is None and model(tokens(1, 9)).abs().max() <= 2
    plain = modern()
    close(model(tokens(1, 9)), 2 * torch.tanh(plain(tokens(1, 9)) / 2))


def test_published_sizes_have_the_published_number_of_parameters():
    published = {  # as their authors state them, or as their files add up
        "llama2-7b": 6_738_415_616,
        "llama3-8b": 8_030_261_248,
        "llama3.2-1b": 1_235_814_400,
        "mistral-7b": 7_241_732_096,
        "qwen2-0.5b": 494_032_768,
        "qwen3-0.6b": 596_049_920,
        "smollm2-135m": 134_515_008,
    }
    assert published.keys() == {name for name in MODERN if not name.endswith("-small")}
    for name, count in published.items():
        with torch.device("meta"):
            assert new_model(preset(name)).num_parameters() == count, name


def test_published_windows_and_scaled_positions_are_in_the_presets():
    """As the config.json of Mistral-7B-v0.1 and of Llama-3.2-1B say them."""
    mistral, llama = preset("mistral-7b"), preset("llama3.2-1b")
    assert mistral.build("mask").width == 4096
    assert llama.build("positions").keys == {
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_every_configuration_survives_json():
    assert {*NAMES} == {*PRESETS} == {*gpt.PRESETS, *MODERN}
    for name in PRESETS:
        config = preset(name)
        assert config_of(asdict(config), type(config).__name__) == config
    assert {type(preset(name)) for name in PRESETS} == {*ARCHITECTURES}
    with pytest.raises(ValueError, match="ModernConfig"):
        config_of({}, "ModernConfi")
    with pytest.raises(TypeError, match="ModernConfig"):
        new_model(7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_kv_heads": 4}, "does not divide n_heads 6"),
        ({"emb_dim": 50}, "head_dim"),
        ({"head_dim": 7}, "even"),
        ({"rope_base": 0.5}, "rope_base"),
        ({"logit_cap": -1.0}, "logit_cap"),
        ({"norm_eps": 0.0}, "norm_eps"),
        ({"qk_norm": 1}, "qk_norm"),
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"mask": {"width": 3}}, "name"),
        ({"positions": "rotari"}, "rotary"),
    ],
)
def test_impossible_values_are_refused_with_what_is_allowed(changes, words):
    with pytest.raises(ValueError, match=words):
        Modern(ModernConfig(**(SMALL | changes)))


# --- the same as transformers'

KINDS = {
    "llama": ("Llama", {}, {}),
    "llama tied": ("Llama", {"tie_word_embeddings": True}, {"tie_weights": True}),
    "llama biases": (
        "Llama",
        {"attention_bias": True, "mlp_bias": True},
        {"qkv_bias": True, "o_bias": True, "mlp_bias": True},
    ),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}, {"tie_weights": True, "qkv_bias": True}),
    "qwen3": (
        "Qwen3",
        {"tie_word_embeddings": True, "head_dim": 16},
        {"tie_weights": True, "qk_norm": True, "head_dim": 16},
    ),
}
PLACES = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "mlp.c_proj": "mlp.down_proj",
}
STACKED = {
    "attn.c_attn": [f"self_attn.{x}_proj" for x in "qkv"],
    "mlp.c_fc": ["mlp.gate_proj", "mlp.up_proj"],
}


def theirs(name, state):
    """What transformers has for a parameter of ours."""
    place, _, kind = name.rpartition(".")
    top = {"wte": "model.embed_tokens", "ln_f": "model.norm", "lm_head": "lm_head"}
    if place in top:
        return state[f"{top[place]}.{kind}"]
    _, layer, part = place.split(".", 2)
    parts = STACKED.get(part) or [PLACES[part]]
    return torch.cat([state[f"model.layers.{layer}.{one}.{kind}"] for one in parts])


@pytest.fixture(params=KINDS)
def pair(request):
    """A random model of transformers, norms and biases too, and ours with its weights."""
    family, settings, ours = KINDS[request.param]
    config = getattr(transformers, f"{family}Config")(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
        **settings,
    )
    torch.manual_seed(0)
    reference = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    model = modern(**ours)
    state = reference.state_dict()
    model.load_state_dict({name: theirs(name, state) for name in model.state_dict()})
    return reference, model


def test_logits_loss_and_gradients_are_those_of_transformers(pair):
    same_logits_loss_and_gradients(*pair, theirs)


@torch.no_grad()
def test_a_cache_with_left_padding_gives_the_logits_of_transformers(pair):
    same_with_a_cache_and_left_padding(*pair)


def test_a_configuration_may_be_changed_field_by_field():
    config = ModernConfig.preset("llama-small", context_length=32)
    assert replace(config, n_layers=2).n_layers == 2 and config.hidden_dim % 32 == 0


@pytest.mark.slow
def test_it_is_exported_for_any_number_of_rows_and_tokens():
    """What ONNX files are made of: a program in which no size is fixed."""
    model = modern(qk_norm=True)
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=64)}
    example = torch.zeros(2, 30, dtype=torch.long)
    program = torch.export.export(model, (example,), dynamic_shapes={"ids": sizes}, strict=False)
    for shape in ((1, 5), (3, 64)):
        ids = tokens(*shape)
        close(program.module()(ids), model(ids))


# --- the norm on a CPU


@pytest.mark.parametrize("shape", [(2, 5, 8), (3, 1, 8), (8,)])
def test_norm_and_gradients_are_those_of_torch(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(8, dtype=torch.float64, generator=generator).requires_grad_()
    ours, theirs = rms_norm(x, weight, 0.1), F.rms_norm(x, (8,), weight, 0.1)
    assert "CPUNorm" in type(ours.grad_fn).__name__
    close(ours, theirs, 1e-12)
    factor = torch.randn(shape, dtype=torch.float64, generator=generator)
    for a, b in zip(
        *(torch.autograd.grad((y * factor).sum(), (x, weight)) for y in (ours, theirs))
    ):
        close(a, b, 1e-12)


def test_norm_of_heads_that_do_not_lie_side_by_side_and_of_16_bits():
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    weight = torch.linspace(0.5, 2, 8).requires_grad_()
    close(rms_norm(x, weight, 1e-5), F.rms_norm(x, (8,), weight, 1e-5))
    half = rms_norm(x.bfloat16(), weight.bfloat16(), 1e-5)
    assert torch.equal(half, F.rms_norm(x.bfloat16(), (8,), weight.bfloat16(), 1e-5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed = rms_norm(x.bfloat16(), weight, 1e-5)
    assert torch.equal(mixed, F.rms_norm(x.bfloat16().float(), (8,), weight, 1e-5).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):  # the gradient, too, is formed in float32
        x = x.clone().requires_grad_()
        (rms_norm(x, weight, 1e-5).cos()).sum().backward()
    inside, x.grad = x.grad, None
    F.rms_norm(x, (8,), weight, 1e-5).cos().sum().backward()
    close(inside, x.grad, 1e-4)


# --- queries, keys and values on a CPU


@pytest.mark.parametrize("own_positions", [False, True], ids=["equal", "own positions"])
@pytest.mark.parametrize("groups", [3, 1])
def test_heads_cut_apart_and_rotated_and_gradients_are_those_step_by_step(groups, own_positions):
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 5, 3 + 2 * groups, 8, dtype=torch.float64, generator=generator)
    angles = torch.randn(2, 1, 5, 4, dtype=torch.float64, generator=generator)
    angles = angles if own_positions else angles[0, 0]
    cos, sin = angles.cos(), angles.sin()
    rotation = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    x = qkv.requires_grad_()
    ours = rotated_heads(x, rotation, 3, groups)
    assert "RotatedHeads" in type(ours[0].grad_fn).__name__
    q, k, v = x.transpose(1, 2).split([3, groups, groups], dim=1)
    theirs = rotate(q, rotation), rotate(k, rotation), v
    factors = [torch.randn(part.shape, dtype=torch.float64, generator=generator) for part in theirs]
    grads = []
    for parts in (ours, theirs):
        total = sum((part * factor).sum() for part, factor in zip(parts, factors))
        grads.append(torch.autograd.grad(total, x, retain_graph=True)[0])
    for a, b in zip([*ours, grads[0]], [*theirs, grads[1]]):
        close(a, b, 1e-12)
    with torch.no_grad():  # as a cache wants them: step by step
        for a, b in zip(rotated_heads(x, rotation, 3, groups), theirs):
            close(a, b, 1e-12)


def test_heads_of_16_bits_are_rotated_in_32():
    x = torch.randn(1, 5, 6, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    _, rotation = RotaryPositions(ModernConfig(9, 8, 16, 2, 1))(x, slice(5))
    trained = rotated_heads(x.clone().requires_grad_(), rotation, 2, 2)
    for a, b in zip(trained, rotated_heads(x, rotation, 2, 2)):
        assert a.dtype is torch.bfloat16 and torch.equal(a, b)


# --- gates on a CPU


@pytest.mark.parametrize("bias", [False, True])
def test_two_halves_of_a_product_and_gradients_are_those_of_the_whole(bias):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(6, 10, bias=bias).double(), torch.randn(2, 3, 6).double()
    inputs = [x.requires_grad_(), *layer.parameters()]
    ours, theirs = halves(layer, x), layer(x).chunk(2, dim=-1)
    assert all(half.is_contiguous() for half in ours)
    grads = [torch.autograd.grad((a.sin() * b).sum(), inputs) for a, b in (ours, theirs)]
    for a, b in zip([*ours, *grads[0]], [*theirs, *grads[1]]):
        close(a, b, 1e-12)


def test_halves_of_a_layer_with_a_hook_or_of_another_kind_go_through_the_layer():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    x, seen = torch.randn(3, 6), []
    layer, doubled = torch.nn.Linear(6, 10), Doubled(6, 10)
    layer.register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    halves(layer, x)
    assert seen == [(3, 10)]
    close(torch.cat(halves(doubled, x), -1), doubled(x))
