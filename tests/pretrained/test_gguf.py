"""A GGUF file is read as transformers reads it, and what is not read is refused by name."""

from importlib import metadata
from pathlib import PurePosixPath

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize

from llmlib.checks import FileError
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained import places
from llmlib.pretrained.gguf import halves_from_neighbours, transformers_name
from llmlib.pretrained.models import find_model, load_model, template_of
from llmlib.tokenization.formats import BYTE_OF
from llmlib.tokenization.gguf import read_template, read_tokenizer

SIZES = {"context_length": 128, "emb_dim": 64, "n_heads": 4, "n_layers": 2, "n_kv_heads": 2}
KINDS = {
    "llama": {},
    "llama untied": {"tie_weights": False},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 32},
}
Q = gguf.GGMLQuantizationType


def neighbours_from_halves(weight, n_heads):
    """What llama.cpp's converter does with queries and keys of a llama."""
    rows = weight.reshape(n_heads, 2, -1, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def write(path, model, kind, fmt=Q.F32, changes=(), split="smollm"):
    """Write a model as llama.cpp's converter would."""
    config, arch = model.config, kind.split()[0]
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.emb_dim)
    writer.add_feed_forward_length(config.hidden_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_base)
    if arch == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    tokens = ["<|endoftext|>", "<|im_start|>", *BYTE_OF, "Ġa", "Ġan"]
    tokens += [f"<{i}>" for i in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * 258, *[5] * (config.vocab_size - 260)])
    writer.add_token_merges(["Ġ a", "Ġa n"])
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for key, value in changes:
        getattr(writer, f"add_{key}")(*value)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    heads = config.n_heads, config.n_kv_heads
    for name, array in tensors(state, config, heads, arch == "llama"):
        if array.ndim == 2 and fmt != Q.F32:
            writer.add_tensor(name, quantize(array, fmt), raw_dtype=fmt)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(state, config, heads, permuted):
    """The tensors of a file by their names there."""
    H, G, D = *heads, config.head_dim
    yield "token_embd.weight", state["wte.weight"]
    yield "output_norm.weight", state["ln_f.weight"]
    if "lm_head.weight" in state:
        yield "output.weight", state["lm_head.weight"]
    for n in range(config.n_layers):
        ours, theirs = f"h.{n}.", f"blk.{n}."
        for kind in ("weight", "bias"):
            if f"{ours}attn.c_attn.{kind}" in state:
                parts = np.split(state[f"{ours}attn.c_attn.{kind}"], [H * D, (H + G) * D])
                if permuted:
                    parts[0] = neighbours_from_halves(parts[0], H)
                    parts[1] = neighbours_from_halves(parts[1], G)
                for letter, part in zip("qkv", parts):
                    yield f"{theirs}attn_{letter}.{kind}", part
        gate, up = np.split(state[f"{ours}mlp.c_fc.weight"], 2)
        plain = {
            "attn_norm": state[f"{ours}ln_1.weight"],
            "ffn_norm": state[f"{ours}ln_2.weight"],
            "attn_output": state[f"{ours}attn.c_proj.weight"],
            "ffn_gate": gate,
            "ffn_up": up,
            "ffn_down": state[f"{ours}mlp.c_proj.weight"],
        }
        for letter in "qk":
            if f"{ours}attn.{letter}_norm.weight" in state:
                plain[f"attn_{letter}_norm"] = state[f"{ours}attn.{letter}_norm.weight"]
        for name, array in plain.items():
            yield f"{theirs}{name}.weight", array


def make(kind, vocab_size=288):
    config = ModernConfig(
        vocab_size, **SIZES, hidden_dim=96, **({"tie_weights": True} | KINDS[kind])
    )
    model = Modern(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2, generator=generator)
    return model.eval()


def tokens(*shape):
    return torch.randint(288, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_comes_back_queries_and_keys_included(kind, tmp_path):
    model = make(kind)
    again, _ = load_model(write(tmp_path / "m.gguf", model, kind))
    assert again.config.n_kv_heads == 2 and again.config.tie_weights == model.config.tie_weights
    for (name, ours), theirs in zip(model.state_dict().items(), again.state_dict().values()):
        assert torch.equal(ours, theirs), name
    ids = tokens(2, 60)
    torch.testing.assert_close(again(ids), model(ids))


@pytest.mark.parametrize("fmt", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"])
def test_a_file_in_any_format_is_the_model_with_its_rounded_weights(fmt, tmp_path):
    """Each matrix is rounded as it lies in the file, and put back by the inverse permutation."""
    model, kind = make("llama"), Q[fmt]
    found, _ = load_model(write(tmp_path / "m.gguf", model, "llama", kind))

    def rounded(weight, n_heads=None):
        array = weight.numpy()
        array = array if n_heads is None else neighbours_from_halves(array, n_heads)
        array = dequantize(quantize(array, kind), kind).reshape(weight.shape)
        if n_heads is not None:  # rows 0, D/2, 1, D/2 + 1, ... of each head, sorted back
            order = neighbours_from_halves(np.arange(len(array)), n_heads)
            array = array[np.argsort(order)]
        return torch.from_numpy(array.astype(np.float32))

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("c_attn.weight"):
                q, k, v = parameter.split([64, 32, 32])
                parameter.copy_(torch.cat([rounded(q, 4), rounded(k, 2), rounded(v)]))
            elif parameter.ndim == 2:
                parameter.copy_(rounded(parameter))
    ids = tokens(2, 60)  # the commonest fault shows after some twenty tokens
    torch.testing.assert_close(found(ids), model(ids), rtol=1e-5, atol=1e-5)


def test_its_tokenizer_cuts_digits_one_by_one_and_knows_its_special_tokens(tmp_path):
    tokenizer = read_tokenizer(write(tmp_path / "m.gguf", make("llama"), "llama"))
    text = "an an 123 <|im_start|> näh"
    ids = tokenizer.encode(text, allowed_special="all")
    assert tokenizer.decode(ids) == text and 1 in ids
    assert tokenizer.end_token == "<|endoftext|>"
    assert 259 in ids, "the merge of ' an'"


def test_the_order_of_a_head_is_a_permutation_that_goes_back():
    weight = torch.randn(3 * 8, 5)
    there = torch.from_numpy(neighbours_from_halves(weight.numpy(), 3))
    assert not torch.equal(there, weight)
    assert torch.equal(halves_from_neighbours(there, 8), weight)
    assert halves_from_neighbours(torch.arange(8), 8).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_names_of_something_else_are_kept():
    assert transformers_name("blk.7.attn_q.bias") == "layers.7.self_attn.q_proj.bias"
    for name in ("rope_freqs.weight", "blk.0.ffn_gate_exps.weight", "blk.weight", "blk.0.attn_q"):
        assert transformers_name(name) == name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("expert_count", (8,))], "expert_count"),
        ([("sliding_window", (16,))], "sliding_window"),
        ([("rope_scaling_type", (gguf.RopeScalingType.YARN,))], "rope.scaling.type"),
        ([("tensor", ("blk.0.extra.weight", np.ones((2, 2), np.float32)))], "blk.0.extra.weight"),
    ],
)
def test_what_would_change_the_logits_and_is_not_read_is_refused(changes, words, tmp_path):
    path = write(tmp_path / "m.gguf", make("llama"), "llama", changes=changes)
    with pytest.raises(FileError, match=words):
        load_model(path)


def test_an_unknown_split_and_damaged_files_are_refused(tmp_path):
    path = write(tmp_path / "m.gguf", make("llama"), "llama", split="tekken")
    with pytest.raises(FileError, match=r"tekken.*smollm"):
        load_model(path)
    content = path.read_bytes()
    (tmp_path / "other.gguf").write_bytes(b"GGML" + content[4:])
    with pytest.raises(FileError, match="begins with"):
        load_model(tmp_path / "other.gguf")
    for length in (4, 30, 5000, len(content) - 100):
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(FileError):
            load_model(tmp_path / "cut.gguf")


def test_the_template_stands_in_the_file(tmp_path):
    path = write(tmp_path / "m.gguf", make("llama"), "llama")
    assert read_template(path) == template_of(path) == "{{ messages[0]['content'] }}"


def test_a_gguf_that_a_package_brings_has_the_name_of_its_model(tmp_path, monkeypatch):
    """Only where nothing was downloaded: the package is found by its list of files."""
    path = write(tmp_path / "m.gguf", make("llama"), "llama")

    class Listed(PurePosixPath):
        def locate(self):
            return path

    for files, found in (([Listed("a/m.gguf"), Listed("a/b.py")], path), ([], None), (None, None)):
        monkeypatch.setattr(metadata, "files", lambda name, files=files: files)
        assert places.packaged_gguf("some-package") == found
    assert places.packaged_gguf("") is None
    monkeypatch.setattr(metadata, "files", lambda name: [Listed("a/m.gguf")])
    for name in ("data", "gpt2"):
        (tmp_path / "home" / name).mkdir(parents=True)
    monkeypatch.setenv("LLMLIB_HOME", str(tmp_path / "home"))
    assert find_model("smollm2-135m") == path
    assert load_model("smollm2-135m")[0].config.n_kv_heads == 2
