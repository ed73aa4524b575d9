"""Hugging Face's folders: what computes one of our models loads, all else is refused.

Most tests run for a GPT-2 and for Llama and its kin. What their configurations say is compared in
the second half for a GPT-2, and in `test_families.py` for the others.
"""

import copy
import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import KINDS, change_config, change_tensors
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from llmlib.checks import FileError
from llmlib.files import home
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2 import save_openai
from llmlib.pretrained.huggingface import load_pretrained, save_pretrained
from llmlib.pretrained.models import load_model
from llmlib.pretrained.onnx import save_onnx
from llmlib.pretrained.tensor_bundle import TensorBundle, write_bundle
from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import load_tokenizer

logging.set_verbosity_error()
logging.disable_progress_bar()

NANO = home() / "gpt2" / "nano"
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


def their_model(**changes):
    """A random GPT-2 of transformers, with no parameter as it is initialised."""
    return KINDS["gpt2"].make(n_positions=8, **changes)


@torch.no_grad()
def logits_of(model):
    found = model(IDS)
    return found if isinstance(found, torch.Tensor) else found.logits


def assert_same(folder, theirs=None, **options):
    theirs = theirs or AutoModelForCausalLM.from_pretrained(folder).eval()
    ours = load_pretrained(folder, **options)
    torch.testing.assert_close(logits_of(ours), logits_of(theirs), rtol=1e-4, atol=1e-4)
    return ours


@pytest.fixture
def folder(tmp_path):
    """A GPT-2, for tests of what its config.json says."""
    their_model().save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def place(tmp_path, kind):
    """The folder of a model of each kind, tied and with random norms and biases."""
    kind.make().save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


# The head, and tensors that are left over. --------------------------------------------------------


def test_a_head_that_differs_is_kept_through_everything(tmp_path, kind):
    """In the file and in config.json it may still be called tied (transformers#42612)."""
    theirs = kind.make()
    table = theirs.get_input_embeddings().weight
    theirs.lm_head.weight = torch.nn.Parameter(table.roll(1, 0))
    theirs.save_pretrained(tmp_path / "hf")
    assert json.loads((tmp_path / "hf/config.json").read_text())["tie_word_embeddings"]
    ours = assert_same(tmp_path / "hf", theirs)
    assert not ours.config.tie_weights
    save_pretrained(ours, tmp_path / "again", eos_token_id=0)
    assert_same(tmp_path / "again", theirs)


def test_a_head_that_is_stored_and_equal_stays_tied(place, kind):
    change_tensors(place, lambda t: {**t, "lm_head.weight": t[kind.table].clone()})
    assert assert_same(place).config.tie_weights


def test_a_tied_table_may_be_stored_as_the_head_alone(place, kind):
    """As safetensors' own `save_model` does: of two names it keeps the first."""
    change_tensors(place, lambda t: t.update({"lm_head.weight": t.pop(kind.table)}))
    assert assert_same(place).config.tie_weights


EXTRA = {
    "lora": "base_model.model.PREFIX0.attn.c_attn.lora_A.weight",
    "scale": "PREFIX0.mlp.c_fc.weight_scale",
    "head": "lm_head.bias",
    "classifier": "score.weight",
    "block": "PREFIX1.crossattention.c_attn.weight",
}


@pytest.mark.parametrize("extra", EXTRA)
def test_tensors_that_are_left_over_are_named_unless_ignored(place, kind, extra):
    name = EXTRA[extra].replace("PREFIX", kind.block)
    change_tensors(place, lambda t: {**t, name: torch.ones(2)})
    with pytest.raises(FileError, match=r"ignore_extra=True.*--ignore-extra") as caught:
        load_pretrained(place)
    assert name in str(caught.value)
    words = {"lora": "an adapter", "scale": "quantized weights"}
    assert words.get(extra, "") in str(caught.value)
    assert_same(place, ignore_extra=True)


def test_blocks_that_no_layer_needs_are_left_over(place, kind):
    first = f"{kind.block}1."
    change_tensors(
        place,
        lambda t: t | {n.replace(first, f"{kind.block}2."): t[n].clone() for n in t if first in n},
    )
    with pytest.raises(FileError, match="it has 3 blocks, where the model has 2"):
        load_pretrained(place)
    assert_same(place, ignore_extra=True)
    # refused before such a model is built
    change_config(place, **{kind.n_layers: 90_000, "layer_types": ...})
    for ignore_extra in (False, True):
        with pytest.raises(FileError, match="it has 3 blocks, where the model has 90000"):
            load_pretrained(place, ignore_extra=ignore_extra)


@pytest.mark.parametrize("rows", [19, 24])
@pytest.mark.parametrize("ignore", [False, True])
def test_a_head_of_another_size_is_no_leftover(place, kind, rows, ignore):
    """The model predicts with it: `ignore_extra` must not put the table in its place."""
    n = kind.width
    change_tensors(place, lambda t: {**t, "lm_head.weight": torch.ones(rows, n)})
    says = rf"'lm_head\.weight': it has the shape \({rows}, {n}\), where the model has \(20, {n}\)"
    with pytest.raises(FileError, match=says):
        load_pretrained(place, ignore_extra=ignore)


def test_masks_and_rates_that_older_libraries_wrote_pass(place, kind):
    if kind.family == "GPT2":
        masks = {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 8, 8).bool() for n in range(2)}
        masks["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    else:
        masks = {"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(1)}
    change_tensors(place, lambda t: t | masks)
    assert_same(place)


def test_openais_files_may_hold_what_training_left_and_nothing_else(tmp_path):
    nano = shutil.copytree(NANO, tmp_path / "nano")
    tensors = dict(TensorBundle(nano / "model.ckpt"))
    for name, passes in (("model/wte/Adam_1", True), ("beta1_power", True), ("model/lora", False)):
        write_bundle(nano / "model.ckpt", {**tensors, name: tensors["model/ln_f/g"]})
        if passes:
            load_pretrained(nano)
        else:
            with pytest.raises(FileError, match=name):
                load_pretrained(nano)
            load_pretrained(nano, ignore_extra=True)


AROUND = ["_orig_mod.", "module.", "module._orig_mod.", "_fsdp_wrapped_module.", "inside"]


@pytest.mark.parametrize("around", AROUND)
def test_what_was_around_the_model_is_not_part_of_the_names(place, kind, around):
    theirs = AutoModelForCausalLM.from_pretrained(place).eval()

    def wrap(name):
        first = kind.block.split(".")[-2]
        inside = name.replace(f".{first}.0.", f".{first}.0._checkpoint_wrapped_module.")
        return inside if around == "inside" else around + name

    change_tensors(place, lambda t: {wrap(name): tensor for name, tensor in t.items()})
    assert_same(place, theirs)


def test_a_model_that_was_saved_without_its_head_loads(place, kind):
    change_tensors(place, lambda t: {n.removeprefix(kind.prefix): t[n] for n in t})
    assert_same(place)


def test_a_parameter_that_is_there_twice_is_refused(place, kind):
    short = kind.norm.removeprefix(kind.prefix)
    change_tensors(place, lambda t: {**t, short: torch.zeros(kind.width)})
    with pytest.raises(FileError, match="twice"):
        load_pretrained(place)


@pytest.mark.parametrize("where", ["projection", "norm", "table"])
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(place, kind, where):
    name = getattr(kind, where)
    words = name.removeprefix(kind.prefix).replace(".", r"\.")
    change_tensors(place, lambda t: t.update({name: t[name][:-1].clone()}))
    with pytest.raises(FileError, match=rf"{words}'.*the shape"):
        load_pretrained(place)
    change_tensors(place, lambda t: {n: t[n] for n in t if n != name})
    with pytest.raises(FileError, match=rf"{words}'.*is not there"):
        load_pretrained(place)


def test_a_wrapped_model_is_saved_under_clean_names(tmp_path):
    model = GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=2)).eval()
    compiled = torch.nn.Module()  # as torch.compile's; that itself takes seconds to import
    compiled._orig_mod = model
    save_pretrained(torch.nn.DataParallel(compiled), tmp_path, eos_token_id=0)
    assert "transformer.h.0.ln_1.weight" in load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(logits_of(load_pretrained(tmp_path)), logits_of(model))
    model.h[0] = copy.copy(compiled)  # a block by itself
    model.h[0]._orig_mod = GPT(model.config).h[0]
    save_pretrained(model, tmp_path, eos_token_id=0)
    assert "transformer.h.0.ln_1.weight" in load_file(tmp_path / "model.safetensors")
    nano = torch.nn.DataParallel(load_pretrained(NANO))
    save_openai(nano, tmp_path / "openai", load_tokenizer(NANO))
    torch.testing.assert_close(
        logits_of(load_pretrained(tmp_path / "openai")), logits_of(nano.module)
    )


# Numbers that are none. ---------------------------------------------------------------------------

NAME = "transformer.h.1.mlp.c_proj.weight"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, "float64"])
@pytest.mark.parametrize("layout", ["openai", "hugging face"])
def test_weights_that_are_not_finite_are_refused(tmp_path, layout, bad):
    model = load_pretrained(NANO)
    with torch.no_grad():
        model.h[2].mlp.c_proj.weight[5, 7] = 3e38 if bad == "float64" else bad
    (save_openai if layout == "openai" else save_pretrained)(model, tmp_path, load_tokenizer(NANO))
    if bad == "float64":  # finite in the file, and not in float32
        scaled = {"openai": "model/h2/mlp/c_proj/w", "hugging face": "h.2.mlp.c_proj.weight"}
        if layout == "openai":
            tensors = dict(TensorBundle(tmp_path / "model.ckpt"))
            name = scaled[layout]
            tensors[name] = tensors[name].astype("float64") * 10
            write_bundle(tmp_path / "model.ckpt", tensors)
        else:
            name = f"transformer.{scaled[layout]}"
            change_tensors(tmp_path, lambda t: {**t, name: t[name].double() * 10})
    with warnings.catch_warnings(), pytest.raises(FileError, match=r"h\.?2.*mlp.*not finite"):
        warnings.simplefilter("error")
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.bool, torch.complex64, torch.uint8, torch.float8_e4m3fn]
)
def test_only_floats_are_weights(place, kind, dtype):
    change_tensors(place, lambda t: {**t, kind.projection: t[kind.projection].to(dtype)})
    name = re.escape(kind.projection)
    with pytest.raises(FileError, match=rf"{name}.*numbers are \w+: weights are"):
        load_pretrained(place)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_kind_of_float_loads_as_float32(place, kind, dtype):
    change_tensors(place, lambda t: {n: tensor.to(dtype) for n, tensor in t.items()})
    expected = load_file(place / "model.safetensors")[kind.projection].float()
    ours = load_pretrained(place)
    found = ours.get_submodule(kind.ours).weight
    assert torch.equal(found, expected.T if kind.family == "GPT2" else expected)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert all(p.is_contiguous() and p.requires_grad for p in ours.parameters())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(place, kind, bad):
    for name in (kind.projection, kind.norm):
        saved = load_file(place / "model.safetensors")
        change_tensors(place, lambda t, name=name: t[name].view(-1)[1].fill_(bad) and None)
        with pytest.raises(FileError, match=rf"{name.split('.', 1)[1]}.*not finite"):
            load_pretrained(place)
        change_tensors(place, lambda t, saved=saved: saved)


def test_integers_in_openais_files_are_refused(tmp_path):
    nano = shutil.copytree(NANO, tmp_path / "nano")
    tensors = dict(TensorBundle(nano / "model.ckpt"))
    tensors["model/ln_f/g"] = tensors["model/ln_f/g"].astype("int32")
    write_bundle(nano / "model.ckpt", tensors)
    with pytest.raises(FileError, match=r"model/ln_f/g.*int32"):
        load_pretrained(nano)


def changed_gpt(change):
    model = GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=2, tie_weights=False)).eval()
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: setattr(m, "lm_head", torch.nn.Linear(8, 20)), "has 'lm_head.bias', which no"),
        (lambda m: m.h[0].register_parameter("lora", torch.nn.Parameter(torch.ones(2))), "lora"),
        (lambda m: m.register_buffer("scale", torch.ones(2)), "has 'scale'"),
        (lambda m: m.h.pop(1), r"are \(1, 20, 8\) in the model, and \(2, 20, 8\) in its config"),
        (lambda m: setattr(m, "wte", torch.nn.Embedding(24, 8)), r"\(2, 24, 8\) in the model"),
    ],
)
def test_what_is_no_gpt2_any_more_is_not_saved_as_one(tmp_path, change, says):
    with pytest.raises(ValueError, match=says):
        save_pretrained(changed_gpt(change), tmp_path / "new", eos_token_id=0)
    assert not (tmp_path / "new").exists()


def test_a_head_that_is_the_embedding_by_hand_is_saved(tmp_path):
    model = changed_gpt(lambda m: setattr(m.lm_head, "weight", m.wte.weight))
    save_pretrained(model, tmp_path, eos_token_id=0)
    torch.testing.assert_close(logits_of(load_pretrained(tmp_path)), logits_of(model))
    assert_same(tmp_path)


# config.json. -------------------------------------------------------------------------------------

SAME = [
    *(
        {"activation_function": name}
        for name in ("gelu_pytorch_tanh", "gelu_fast", "gelu_accurate")
    ),
    {"n_inner": 32},
    {"n_ctx": 3},
    {"architectures": None},
    {"architectures": ...},
    {"model_type": ...},
    {"n_inner": ..., "attn_pdrop": 0, "scale_attn_weights": ..., "layer_norm_epsilon": ...},
    {"n_embd": ..., "hidden_size": 8, "n_head": ..., "num_attention_heads": 2},
    {"n_layer": 7, "num_hidden_layers": 2, "n_positions": ..., "max_position_embeddings": 8},
    {"reorder_and_upcast_attn": True},
    {"add_cross_attention": True},
    {"torch_dtype": "float16"},
    {"quantization_config": None},
    {"task_specific_params": {"x": 1}, "id2label": {"0": "a"}, "unknown": [1]},
    {"eos_token_id": [1, 2], "bos_token_id": None},
    {"tie_word_embeddings": ...},
    {"use_cache": False},
]
OTHER = [
    {"activation_function": "gelu"},
    {"layer_norm_epsilon": 1e-6},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"n_inner": 16},
    {"is_causal": False},
    {"is_causal": 1},
    {"model_type": "llama"},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"tie_word_embeddings": False},
    {"vocab_size": 21},
    {"vocab_size": ...},
    {"n_positions": 9},
    {"n_embd": "8"},
    {"n_layer": True},
    {"attn_pdrop": None},
    {"attn_pdrop": 1.5},
    {"initializer_range": "x"},
    {"eos_token_id": "</s>"},
    {"dtype": "int8"},
    {"per_layer_config": {"0": {"n_head": 4}}},
    {"layer_types": ["sliding_attention", "sliding_attention"]},
    {"sliding_window": 2},
    {"transformers_weights": "other.safetensors"},
    {"summary_type": 5},
]


@pytest.mark.parametrize("change", SAME, ids=str)
def test_what_computes_the_same_gpt2_loads(folder, change):
    theirs = GPT2LMHeadModel.from_pretrained(folder).eval()
    change_config(folder, **change)
    if "torch_dtype" not in change:
        assert_same(folder, GPT2LMHeadModel.from_pretrained(folder).eval())
    assert_same(folder, theirs)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_configuration_is_in_utf_8(folder, encoding):
    path = folder / "config.json"
    path.write_text(path.read_text(), encoding=encoding)
    with pytest.raises(OSError, match="not a valid JSON"):
        GPT2LMHeadModel.from_pretrained(folder)
    with pytest.raises(FileError, match=r"config\.json: it is not JSON in UTF-8"):
        load_pretrained(folder)


@pytest.mark.parametrize("change", OTHER, ids=str)
def test_what_computes_another_model_is_refused_by_its_setting(folder, change):
    change_config(folder, **change)
    (name,) = change
    said = {"tie_word_embeddings": "lm_head", "vocab_size": "wte", "n_positions": "wpe"}
    said["model_type"] = "is not read for a llama"
    with pytest.raises(FileError, match=said.get(name, name)):
        load_pretrained(folder)


def test_settings_that_change_nothing_in_so_small_a_model_pass(tmp_path):
    """1 / number of the layer in a single layer, 1 / √width of a head of width 1."""
    their_model(n_layer=1, scale_attn_by_inverse_layer_idx=True).save_pretrained(tmp_path / "a")
    assert_same(tmp_path / "a")
    their_model(n_head=8, scale_attn_weights=False).save_pretrained(tmp_path / "b")
    assert_same(tmp_path / "b")


def test_hparams_say_no_more_than_openais(tmp_path):
    nano = shutil.copytree(NANO, tmp_path / "nano")
    path = nano / "hparams.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_experts": 8}))
    with pytest.raises(FileError, match="n_experts"):
        load_pretrained(nano)


# Several files, and other files. ------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path, kind):
    kind.make().save_pretrained(tmp_path / "shards", max_shard_size="2KB")
    assert len([*(tmp_path / "shards").glob("*.safetensors")]) > 2
    return tmp_path / "shards"


def test_weights_in_several_files_load(shards, tmp_path):
    assert_same(shards)
    BPETokenizer.train("ab", 257, special_tokens=["<|endoftext|>"]).save(shards / "tokenizer.json")
    with pytest.raises(ValueError, match="two models"):  # 20 tokens and 257
        load_model(shards)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, f: f"../{f.name}/{m}", "beside it"),
        (lambda m, f: str(f / m), "beside it"),
        (lambda m, f: "none.safetensors", "not there"),
        (lambda m, f: 7, "beside it"),
        (None, "names no files"),
    ],
)
def test_an_index_names_files_beside_it(shards, change, said):
    path = shards / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = change and {n: change(m, shards) for n, m in index["weight_map"].items()}
    path.write_text(json.dumps(index))
    with pytest.raises(FileError, match=said):
        load_pretrained(shards)


def test_a_part_that_is_missing_or_of_another_model_is_named(shards):
    parts = sorted(shards.glob("*.safetensors"))
    content = load_file(parts[0])
    save_file(content | load_file(parts[1]), parts[0])
    with pytest.raises(FileError, match="twice"):
        load_pretrained(shards)
    save_file(content, parts[0])
    save_file({"other": torch.ones(1)}, parts[-1])
    with pytest.raises(FileError, match="'other'"):
        load_pretrained(shards)
    parts[-1].unlink()
    with pytest.raises(FileError, match=f"{parts[-1].name}.*not there"):
        load_pretrained(shards)


def test_pickled_weights_are_not_read_and_say_what_to_do(tmp_path):
    save_pretrained(load_pretrained(NANO), tmp_path, load_tokenizer(NANO))
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    for load in (load_pretrained, load_model):
        with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is pickled.*convert"):
            load(tmp_path)


@pytest.mark.parametrize("size", [2**25, 10**8])
def test_a_header_that_would_fill_memory_is_refused(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{")
    with path.open("r+b") as file:
        file.truncate(size + 10)  # takes no space
    with pytest.raises(FileError, match=r"its header has [\d,]+ bytes, and may have 16,777,216"):
        load_pretrained(folder)


def test_a_run_whose_sizes_are_absurd_is_refused_before_it_is_built(tmp_path):
    from llmlib.tokenization.words import CharTokenizer
    from llmlib.training import checkpoint

    model = GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=2))
    checkpoint.save_checkpoint(tmp_path / "best", model)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/data.json").write_text('{"tokenizer": "char"}')
    CharTokenizer.from_text("ab").save(tmp_path / "data/tokenizer.json")
    content = checkpoint.read_manifest(tmp_path / "best")
    for name, value in (("n_layers", 200_000), ("context_length", 50_000_000)):
        changed = content | {"model": content["model"] | {name: value}}
        checkpoint.write_manifest(tmp_path / "best", changed)
        with pytest.raises(ValueError, match="its sizes are not those of the saved weights"):
            load_model(tmp_path)
    with torch.no_grad():
        model.ln_f.bias[3] = torch.nan  # which an older llmlib has saved
    entry = checkpoint.write_tensors(tmp_path / "best", "weights", model.state_dict())
    content["files"]["weights"] = entry
    checkpoint.write_manifest(tmp_path / "best", content)
    with pytest.raises(ValueError, match=r"ln_f\.bias.*not finite"):
        load_model(tmp_path)


# Out. ---------------------------------------------------------------------------------------------

TEXT = "Once upon a time there was a wise king, naïve but kind. He had 12 red hats! " * 4


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_a_bpe_of_our_own_goes_out_and_comes_back(tmp_path, pattern):
    from transformers import AutoTokenizer

    tokenizer = BPETokenizer.train(TEXT, 300, pattern=pattern, special_tokens=["<|endoftext|>"])
    model = GPT(GPTConfig(300, 16, emb_dim=8, n_heads=2, n_layers=1)).eval()
    save_pretrained(model, tmp_path, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    again, ours = load_model(tmp_path)
    assert torch.equal(again.wte.weight, model.wte.weight)
    for text in (TEXT, "  a\n\n 漢字 🙂 it's 12345 .", "a<|endoftext|>b"):
        ids = tokenizer.encode(text, allowed_special="all")
        assert theirs(text).input_ids == ids == ours.encode(text, allowed_special="all")
        assert theirs.decode(ids) == text
    assert theirs.eos_token_id == theirs.bos_token_id == tokenizer.special_tokens["<|endoftext|>"]
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["clean_up_tokenization_spaces"] is False  # which transformers 4 takes for true


def test_files_that_cannot_say_all_of_a_tokenizer_are_not_written(tmp_path):
    end = AddedToken("<|endoftext|>", 258), AddedToken("  ", 257, special=False)
    own = BPETokenizer([(b"a", b"b")], {"<|endoftext|>": 258}, added_tokens=end)
    save_pretrained(GPT(GPTConfig(259, 8, emb_dim=8, n_heads=2, n_layers=1)), tmp_path, own)
    assert not (tmp_path / "merges.txt").exists()
    assert load_model(tmp_path)[1].encode("ab  ") == [256, 257]


def test_what_is_no_language_model_is_not_written_as_onnx(tmp_path):
    with pytest.raises(TypeError, match="the model is a Linear: give one that has"):
        save_onnx(torch.nn.Linear(2, 2), tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_other_programs_are_told_where_a_text_ends(tmp_path):
    nano = load_pretrained(NANO)
    with pytest.warns(UserWarning, match="eos_token_id"):
        save_pretrained(nano, tmp_path / "a")
    save_pretrained(nano, tmp_path / "b", eos_token_id=7)
    save_pretrained(nano, tmp_path / "c", load_tokenizer(NANO))
    for name, end in (("a", None), ("b", 7), ("c", 511)):
        for file in ("config.json", "generation_config.json"):
            content = json.loads((tmp_path / name / file).read_text())
            assert content["eos_token_id"] == content["bos_token_id"] == end
    assert json.loads((tmp_path / "a/config.json").read_text())["n_ctx"] == 256
    with pytest.raises(ValueError, match="eos_token_id"):
        save_pretrained(nano, tmp_path / "d", eos_token_id=512)
    no_end = BPETokenizer.train(TEXT, 270)
    with pytest.raises(ValueError, match="endoftext"):
        save_pretrained(nano, tmp_path / "d", no_end)
    assert not (tmp_path / "d").exists()


def test_a_tokenizer_of_other_pieces_gets_a_clear_reason(tmp_path):
    from llmlib.tokenization.words import CharTokenizer, WordTokenizer

    for kind in (CharTokenizer, WordTokenizer):
        with pytest.raises(TypeError, match=f"a {kind.__name__} does not fit.*BPETokenizer"):
            save_pretrained(load_pretrained(NANO), tmp_path / "new", kind.from_text(TEXT))
    assert not Path(tmp_path / "new").exists()


def test_an_embedding_that_was_enlarged_loads(tmp_path):
    """transformers' `resize_token_embeddings`: some ids have no token (build-nanogpt#81)."""
    save_pretrained(load_pretrained(NANO), tmp_path, load_tokenizer(NANO))
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path)
    theirs.resize_token_embeddings(515)
    theirs.save_pretrained(tmp_path)
    model, tokenizer = load_model(tmp_path)
    assert model.config.vocab_size == 515 and tokenizer.vocab_size == 512
    torch.testing.assert_close(logits_of(model), logits_of(theirs.eval()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_in_another_encoding_is_refused_as_by_transformers(tmp_path, encoding):
    GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)).save_pretrained(
        tmp_path
    )
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    (tmp_path / "config.json").write_bytes(text.encode(encoding))
    with pytest.raises(OSError, match="not a valid JSON"):
        GPT2LMHeadModel.from_pretrained(tmp_path)
    with pytest.raises(FileError, match="not JSON in UTF-8"):
        load_pretrained(tmp_path)


@pytest.mark.slow
def test_changed_folders_are_read_as_transformers_reads_them_or_refused():
    """10,000 of them: python tests/pretrained/huggingface_fuzz.py 10000."""
    from huggingface_fuzz import run

    counts, faults = run(300, seed=1)
    assert not faults, faults[:3]
    assert counts["same"] > 40 and counts["both refuse"] > 50
