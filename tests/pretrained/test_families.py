"""Llama and its kin: transformers' models are ours to the last gradient, in and out again."""

import json
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny_models import KINDS, change_config, gradient_of
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from llmlib.checks import FileError
from llmlib.generation.quantization import quantize
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained.families import FAMILIES, family_of
from llmlib.pretrained.huggingface import load_pretrained, save_pretrained
from llmlib.pretrained.models import load_model, stop_ids
from llmlib.tokenization.bpe import BPETokenizer

logging.set_verbosity_error()
logging.disable_progress_bar()

SHAPES = {
    "llama": ("llama", {"tie_word_embeddings": False}),
    "llama tied": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama with wide heads": ("llama", {"head_dim": 6}),
    "smollm2": (
        "llama",
        {
            "hidden_size": 36,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        },
    ),
    "mistral": ("mistral", {"tie_word_embeddings": False}),
    "mistral without a window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2 untied": ("qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", {}),
    "qwen3 with biases": ("qwen3", {"attention_bias": True}),
    "mixtral": ("mixtral", {"tie_word_embeddings": False}),
    "qwen3-moe": ("qwen3_moe", {}),
    "qwen3-moe, a dense layer": ("qwen3_moe", {"mlp_only_layers": [1], "norm_topk_prob": False}),
    "qwen3-moe, every second": ("qwen3_moe", {"decoder_sparse_step": 2, "attention_bias": True}),
}
IDS = torch.randint(20, (2, 16), generator=torch.Generator().manual_seed(0))


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=SHAPES)
def theirs(request):
    kind, changes = SHAPES[request.param]
    return KINDS[kind].make(**changes)


@pytest.fixture(params=["one file", "shards"])
def folder(request, tmp_path, theirs):
    theirs.save_pretrained(
        tmp_path / "hf", max_shard_size="3KB" if request.param == "shards" else "1GB"
    )
    return tmp_path / "hf"


# In. ----------------------------------------------------------------------------------------------


def test_logits_loss_and_gradients_are_those_of_transformers(theirs, folder):
    ours = load_pretrained(folder)
    logits, expected = ours(IDS), theirs(IDS, labels=IDS)
    close(logits, expected.logits)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    close(loss, expected.loss, 1e-5)
    loss.backward()
    expected.loss.backward()
    pieces = FAMILIES[theirs.config.model_type].tensors(ours.config)
    named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        full = (n if n.startswith("lm_head") else f"model.{n}" for n, _ in pieces[name])
        close(parameter.grad, torch.cat([gradient_of(named, n) for n in full]))


@torch.no_grad()
def test_a_cache_with_left_padding_gives_the_logits_of_transformers(theirs, folder):
    ours, mask = load_pretrained(folder), torch.ones_like(IDS)
    mask[0, :5] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = theirs(IDS, attention_mask=mask, position_ids=positions).logits
    cache, logits, read = ours.new_cache(2, 16), [], 0
    for length in (8, 1, 1, 5, 1):
        segments = mask[:, :8] - 1 if read == 0 else None
        logits.append(ours(IDS[:, read : read + length], cache, segments=segments))
        read += length
    logits = torch.cat(logits, dim=1)
    close(logits[1], expected[1])
    close(logits[0, 5:], expected[0, 5:])


def test_the_drop_rate_is_the_callers(tmp_path):
    KINDS["llama"].make().save_pretrained(tmp_path)
    assert load_pretrained(tmp_path).config.drop_rate == 0
    model = load_pretrained(tmp_path, 0.2)
    assert model.config.drop_rate == model.h[0].drop_rate == 0.2 and not model.training


@torch.no_grad()
def test_the_same_model_said_by_transformers_4_and_5(theirs, tmp_path):
    """`rope_theta` and `rope_scaling` at the top, as before, or in `rope_parameters`."""
    theirs.save_pretrained(tmp_path)
    expected = load_pretrained(tmp_path)
    base = json.loads((tmp_path / "config.json").read_text())["rope_parameters"]["rope_theta"]
    for old in (
        {"rope_theta": base, "rope_scaling": None},
        {"rope_theta": base},
        {"rope_theta": int(base), "rope_scaling": {"rope_type": "default"}},
        {"rope_scaling": {"type": "default", "rope_theta": base}},
    ):
        change_config(
            tmp_path, **{"rope_parameters": ..., "rope_scaling": ..., "rope_theta": ...} | old
        )
        again = load_pretrained(tmp_path)
        assert again.config == expected.config and torch.equal(again(IDS), expected(IDS))
        close(again(IDS), theirs(IDS).logits)


def test_the_base_of_positions_is_read(tmp_path):
    """With a base that changes logits, so that a reader that drops it would be seen."""
    bases = {"rope_type": "default", "rope_theta": 50.0}
    theirs = KINDS["llama"].make(rope_parameters=bases)
    theirs.save_pretrained(tmp_path)
    assert load_pretrained(tmp_path).config.rope_base == 50.0
    close(load_pretrained(tmp_path)(IDS), theirs(IDS).logits)
    change_config(tmp_path, rope_parameters=..., rope_theta=50)
    close(load_pretrained(tmp_path)(IDS), theirs(IDS).logits)
    assert (KINDS["llama"].make()(IDS).logits - theirs(IDS).logits).abs().max() > 0.01


@pytest.mark.parametrize("window", [0, None, ..., 16, 4096])
def test_a_window_of_0_none_absent_or_of_all_the_context_is_no_window(tmp_path, window):
    theirs = KINDS["mistral"].make()
    theirs.save_pretrained(tmp_path)
    change_config(tmp_path, sliding_window=window)
    ours = load_pretrained(tmp_path)
    assert ours.config.mask == "causal"
    close(ours(IDS), theirs(IDS).logits)


SCALED = {
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "beta_fast": 16.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}


@pytest.mark.parametrize("type_", SCALED)
def test_scaled_positions_are_told_to_the_part_that_computes_them(type_):
    family, sizes = FAMILIES["llama"], {"vocab_size": 20, "max_position_embeddings": 64}
    old = {"rope_theta": 500.0, "rope_scaling": {"type": type_, **SCALED[type_]}}
    new = {"rope_parameters": {"rope_type": type_, "rope_theta": 500.0, **SCALED[type_]}}
    found = [family.config(sizes | each) for each in (old, new)]
    assert found[0] == found[1] and found[0].rope_base == 500.0
    expected = {"name": "rope_scaling", "type": type_, **SCALED[type_]}
    if type_ in ("yarn", "llama3"):  # as transformers fills it in
        expected["original_max_position_embeddings"] = 64
    assert found[0].positions == expected
    assert family.config(family.settings(found[0])) == found[0]


@pytest.mark.parametrize(
    ("kind", "changes", "width"),
    [
        ("mistral", {"sliding_window": 5}, 5),
        ("qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 0}, 5),
        ("qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 2}, None),
        ("qwen2", {"sliding_window": 5, "use_sliding_window": False, "max_window_layers": 0}, None),
        ("qwen2", {"sliding_window": 99, "use_sliding_window": True, "max_window_layers": 1}, None),
        (
            "qwen3",
            {
                "sliding_window": 5,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention"] * 2,
            },
            5,
        ),
        (
            "qwen3",
            {
                "sliding_window": 5,
                "use_sliding_window": True,
                "max_window_layers": 0,
                "layer_types": ["full_attention"] * 2,
            },
            None,
        ),
    ],
)
def test_a_window_that_all_layers_have_becomes_a_mask(kind, changes, width):
    config = FAMILIES[kind].config(KINDS[kind].sizes | changes)
    assert config.mask == ("causal" if width is None else {"name": "window", "width": width})


# config.json. -------------------------------------------------------------------------------------

SAME = [
    {"dtype": "bfloat16"},
    {"torch_dtype": "float16"},
    {"use_cache": False, "attention_dropout": 0.1, "initializer_range": 0.04},
    {"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": None},
    {"architectures": ..., "transformers_version": "4.42.3", "_name_or_path": "x"},
    {"hidden_act": "swish"},
    {"hidden_act": ...},
    {"temperature": 0.6, "top_p": 0.9, "max_length": 20, "do_sample": True},
    {"id2label": {"0": "a"}, "task_specific_params": {"x": 1}, "problem_type": None},
    {"rope_interleaved": False, "is_llama_config": True, "transformers.js_config": {"a": {}}},
    {"partial_rotary_factor": 1.0},
    {"quantization_config": None},
    {"rope_scaling": None, "rope_theta": 10000},
    {"rope_parameters": {"rope_type": "default", "type": "linear"}},
    {"rope_parameters": {}},
]
OTHER = {
    "llama": [
        {"hidden_act": "gelu"},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1]}},
        {"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_parameters": [1]},
        {"rope_theta": 5e4},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"partial_rotary_factor": 0.5},
        {"rope_interleaved": True},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"is_causal": False},
        {"is_causal": 1},
        {"attn_logit_softcapping": 50.0},
        {"final_logit_softcapping": 30.0},
        {"logit_scale": 0.5},
        {"residual_multiplier": 0.22},
        {"num_local_experts": 8},
        {"sliding_window": 2},
        {"layer_types": ["sliding_attention", "sliding_attention"]},
        {"auto_map": {"AutoModelForCausalLM": "own.Model"}},
        {"per_layer_config": {"0": {"n_head": 4}}},
        {"transformers_weights": "other.safetensors"},
        {"dtype": "int8"},
        {"num_key_value_heads": 3},
        {"num_attention_heads": 3},
        {"num_attention_heads": 0},
        {"rms_norm_eps": 1},
        {"rms_norm_eps": 2.0},
        {"hidden_size": 8.0},
        {"num_hidden_layers": True},
        {"attention_bias": None},
        {"tie_word_embeddings": "no"},
        {"eos_token_id": "</s>"},
        {"original_max_position_embeddings": 8},
        {"model_type": "gemma2"},
        {"model_type": ["llama"]},
        {"new_key": 0},
    ],
    "mistral": [
        {"sliding_window": -1},
        {"sliding_window": "5"},
        {"sliding_window": True},
        {"attention_bias": True},
        {"layer_types": None},
    ],
    "qwen2": [
        {"attention_bias": False},
        {"mlp_bias": True},
        {"use_mrope": True},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["full_attention", "chunked_attention"]},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"max_window_layers": None},
    ],
    "qwen3": [{"mlp_bias": True}, {"use_sliding_window": 1}],
    "mixtral": [
        {"num_experts_per_tok": 5},
        {"num_experts_per_tok": 2.0},
        {"num_local_experts": 0},
        {"attention_bias": True},
        {"norm_topk_prob": False},
        {"shared_expert_intermediate_size": 8},
    ],
    "qwen3_moe": [
        {"mlp_only_layers": [2]},
        {"mlp_only_layers": 1},
        {"decoder_sparse_step": 0},
        {"moe_intermediate_size": 0},
        {"norm_topk_prob": None},
        {"mlp_bias": True},
    ],
}


@pytest.mark.parametrize("change", SAME, ids=str)
def test_what_computes_the_same_llama_loads(tmp_path, change):
    theirs = KINDS["llama"].make()
    theirs.save_pretrained(tmp_path)
    change_config(tmp_path, **change)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ours = load_pretrained(tmp_path)(IDS)
    close(ours, theirs(IDS).logits)
    close(ours, again(IDS).logits)


@pytest.mark.parametrize(
    ("kind", "change"), [(k, c) for k in OTHER for c in OTHER[k]], ids=lambda value: str(value)[:60]
)
def test_what_computes_another_model_is_refused_by_its_key(tmp_path, kind, change):
    KINDS[kind].make().save_pretrained(tmp_path)
    change_config(tmp_path, **change)
    (name,) = change
    said = {"rope_parameters": "rope|partial", "rope_scaling": "rope_"}
    with pytest.raises(FileError, match=said.get(name, name)) as caught:
        load_pretrained(tmp_path)
    assert caught.value.file == tmp_path / "config.json"


def test_layers_of_two_kinds_are_refused(tmp_path):
    KINDS["qwen2"].make(
        use_sliding_window=True, sliding_window=5, max_window_layers=1
    ).save_pretrained(tmp_path)
    with pytest.raises(FileError, match="some layers have a window and some have none"):
        load_pretrained(tmp_path)


def test_absurd_sizes_are_refused_before_anything_is_built(tmp_path):
    KINDS["qwen2"].make().save_pretrained(tmp_path)
    change_config(tmp_path, layer_types=...)
    for name in ("num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size", "head_dim"):
        saved = (tmp_path / "config.json").read_text()
        change_config(tmp_path, **{name: 10**12})
        with pytest.raises(FileError, match=r"where the model has .*000000000000"):
            load_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(saved)


# Out. ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_transformers_loads_what_we_write(theirs, folder, tmp_path):
    ours = load_pretrained(folder)
    save_pretrained(ours, tmp_path / "again", eos_token_id=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, report = AutoModelForCausalLM.from_pretrained(
            tmp_path / "again", output_loading_info=True
        )
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys"))
    expected = "llama" if theirs.config.model_type == "mistral" else theirs.config.model_type
    assert again.config.model_type == expected and again.config.eos_token_id == 3
    close(again(IDS).logits, ours(IDS))
    once_more = load_pretrained(tmp_path / "again")
    assert once_more.config == ours.config and torch.equal(once_more(IDS), ours(IDS))
    first, second = (
        (load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
        if (folder / "model.safetensors").is_file()
        else ({}, {})
    )
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def modern(**changes):
    sizes = {"vocab_size": 300, "context_length": 16, "emb_dim": 8, "n_heads": 4, "n_layers": 2}
    torch.manual_seed(0)
    return Modern(ModernConfig(**sizes | changes)).eval()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "llama"),
        ({"n_kv_heads": 2, "tie_weights": True, "zero_init": True, "drop_rate": 0.1}, "llama"),
        ({"qkv_bias": True, "o_bias": True}, "llama"),
        ({"mlp_bias": True}, "llama"),
        ({"emb_dim": 10, "head_dim": 4}, "mistral"),
        ({"qkv_bias": True}, "qwen2"),
        ({"qk_norm": True}, "qwen3"),
        ({"qk_norm": True, "qkv_bias": True, "o_bias": True}, "qwen3"),
        ({"mask": {"name": "window", "width": 5}}, "mistral"),
        ({"mask": {"name": "window", "width": 5}, "qkv_bias": True}, "qwen2"),
        ({"mask": {"name": "window", "width": 5}, "qk_norm": True}, "qwen3"),
        ({"mask": {"name": "window", "width": 16}}, "llama"),
        ({"positions": {"name": "rope_scaling", "type": "linear", "factor": 2.0}}, "llama"),
        ({"positions": {"name": "rotary"}, "norm": {"name": "rms"}}, "llama"),
    ],
    ids=str,
)
def test_the_model_type_follows_from_the_configuration(changes, expected):
    config = ModernConfig(
        **{"vocab_size": 9, "context_length": 16, "n_layers": 2}
        | {"emb_dim": 8, "n_heads": 4}
        | changes
    )
    assert family_of(config).model_type == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"logit_cap": 30.0}, r"logit_cap=30\.0"),
        ({"feed_forward": "relu2"}, "feed_forward='relu2'"),
        ({"feed_forward": "gelu", "norm": "layer"}, "norm='layer', feed_forward='gelu'"),
        ({"positions": "learned"}, "positions='learned'"),
        ({"positions": "none"}, "positions='none'"),
        ({"o_bias": True}, "bias"),
        ({"qkv_bias": True, "mlp_bias": True}, "bias"),
        ({"qk_norm": True, "mlp_bias": True}, "qk_norm|mlp_bias"),
    ],
    ids=str,
)
def test_what_no_model_type_can_say_is_not_written(tmp_path, changes, said):
    with pytest.raises(ValueError, match=rf"no model type of transformers.*{said}"):
        save_pretrained(modern(**changes), tmp_path / "new", eos_token_id=0)
    assert not (tmp_path / "new").exists()


def test_a_model_that_was_changed_is_not_written_as_what_it_was(tmp_path):
    for change, said in [
        (lambda m: m.h[0].register_parameter("lora", torch.nn.Parameter(torch.ones(2))), "lora"),
        (lambda m: m.h.pop(1), r"has no 'h\.1"),
        (lambda m: setattr(m, "wte", torch.nn.Embedding(24, 8)), "wte.weight has 192 numbers"),
    ]:
        model = modern()
        change(model)
        with pytest.raises(ValueError, match=said):
            save_pretrained(model, tmp_path / "new", eos_token_id=0)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_weights_are_written_in_bfloat16_if_asked(tmp_path, dtype):
    model = modern()
    save_pretrained(model, tmp_path, eos_token_id=0, dtype=dtype)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    rounded = modern().bfloat16().float()
    ids = IDS[:1]
    assert torch.equal(load_pretrained(tmp_path)(ids), rounded(ids))
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype is torch.bfloat16
    for wrong in ("float16", "int8", 7):
        with pytest.raises(ValueError, match="dtype is"):
            save_pretrained(model, tmp_path / "x", eos_token_id=0, dtype=wrong)


TEXT = "Once upon a time there was a wise king, naïve but kind. He had 12 red hats! " * 4
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def test_the_tokenizer_goes_along_with_its_ends_and_its_template(tmp_path):
    from transformers import AutoTokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = BPETokenizer.train(TEXT, 280, special_tokens=special)
    tokenizer.chat_template = TEMPLATE
    ends = [tokenizer.special_tokens[name] for name in ("<|im_end|>", "<|endoftext|>")]
    save_pretrained(modern(), tmp_path, tokenizer, eos_token_id=ends)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token == "<|im_end|>" and theirs.bos_token == "<|endoftext|>"
    assert theirs(TEXT).input_ids == tokenizer.encode(TEXT)
    text = theirs.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert text == "<|im_start|>x<|im_end|>"
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.generation_config.eos_token_id == ends
    assert model.generation_config.bos_token_id == ends[1]
    again, ours = load_model(tmp_path)
    assert ours.end_token == "<|im_end|>" and stop_ids(tmp_path, ours.eot_token, 300) == ends
    assert again.config.vocab_size == 300 and ours.vocab_size == 280  # some rows have no token
    with pytest.raises(ValueError, match="eos_token_id"):
        save_pretrained(modern(), tmp_path / "x", eos_token_id=[0, 300])
    with pytest.raises(ValueError, match="the tokenizer has 280 tokens, the model knows only 20"):
        save_pretrained(modern(vocab_size=20), tmp_path / "x", tokenizer)
    assert not (tmp_path / "x").exists()


def test_packed_weights_are_not_written(tmp_path):
    with pytest.raises(TypeError, match="packed weights"):
        save_pretrained(quantize(modern(emb_dim=64), "int8"), tmp_path / "new", eos_token_id=0)
    assert not (tmp_path / "new").exists()


def test_a_wrapped_model_is_written_under_clean_names(tmp_path):
    wrapped = torch.nn.DataParallel(modern())
    save_pretrained(wrapped, tmp_path, eos_token_id=0)
    assert "model.layers.0.self_attn.q_proj.weight" in load_file(tmp_path / "model.safetensors")
    assert torch.equal(load_pretrained(tmp_path)(IDS), modern()(IDS))


@pytest.mark.slow
def test_changed_configurations_are_read_as_transformers_reads_them_or_refused():
    """3,000 of them: python tests/pretrained/families_fuzz.py 3000."""
    from families_fuzz import run

    counts, faults = run(240, seed=1)
    assert not faults, faults[:3]
    assert counts["same"] > 50 and counts["both refuse"] > 50


def test_a_family_is_added_in_a_file_of_its_own(tmp_path, monkeypatch):
    """As notebooks 12 and 13 do: a subclass, registered, and nothing else."""

    class Widened(type(FAMILIES["llama"])):
        model_type = "widened_for_test"
        defaults = FAMILIES["llama"].defaults | {"cap": None}
        kinds = {"cap": (float, type(None))}  # noqa: RUF012

        def own(self, settings):
            return super().own(settings) | {"logit_cap": settings["cap"]}

        def flags(self, config):
            return super().flags(config) | {"cap": config.logit_cap}

    monkeypatch.setitem(FAMILIES, "widened_for_test", Widened())
    model = modern(logit_cap=2.0)
    save_pretrained(model, tmp_path, eos_token_id=0)
    assert json.loads((tmp_path / "config.json").read_text())["cap"] == 2.0
    assert torch.equal(load_pretrained(tmp_path)(IDS), model(IDS))
    change_config(tmp_path, cap="high")
    with pytest.raises(FileError, match="cap is 'high': it should be of type float or None"):
        load_pretrained(tmp_path)
