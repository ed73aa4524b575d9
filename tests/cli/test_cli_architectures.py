"""The command line takes any architecture: trained, resumed, continued, packed, measured."""

import json
from itertools import chain
from pathlib import Path

import pytest
from cli_helpers import (
    FLAGS,
    OFTEN,
    assert_equal_weights,
    failure,
    llmlib,
    losses,
    weights,
    write_text,
)

from llmlib.model.architectures import PRESETS, preset
from llmlib.pretrained.models import load_model
from llmlib.stories import tell_many

SMALL = [name for name in PRESETS if name.endswith(("small", "tiny"))]


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_text(tmp_path)


def flags(name):
    """A quick run of a preset, with few sizes that it does not have itself."""
    return [*chain(*(FLAGS | {"--preset": name}).items()), *OFTEN]


@pytest.mark.parametrize("name", SMALL)
def test_a_preset_is_trained_resumed_packed_measured_and_continued(name, text, capsys):
    assert llmlib("train", text, *flags(name), "--out", "whole") == 0
    assert llmlib("train", text, *flags(name), "--max-steps", 2, "--out", "parts") == 0
    assert llmlib("train", "--resume", "parts", "--max-steps", 4) == 0
    assert losses(Path("parts")) == losses(Path("whole"))
    assert_equal_weights(weights(Path("parts")), weights(Path("whole")))
    model, _ = load_model("whole")
    assert type(model.config) is PRESETS[name]
    capsys.readouterr()
    for format in ("float32", "int8"):
        arguments = (
            "--weights",
            format,
            "--max-new-tokens",
            9,
            "--temperature",
            0,
            "--device",
            "cpu",
        )
        assert llmlib("generate", "--checkpoint", "whole", "--prompt", "the cat", *arguments) == 0
        assert capsys.readouterr().out.startswith("the cat")
    assert llmlib("evaluate", "--checkpoint", "whole", "--json", "--device", "cpu") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["loss"] < 6
    more = (
        "--from",
        "whole",
        "--max-steps",
        2,
        "--eval-every",
        2,
        "--n-samples",
        1,
        "--device",
        "cpu",
    )
    assert llmlib("train", text, *more, "--batch-size", 4, "--out", "more") == 0
    assert load_model("more")[0].config == model.config
    assert llmlib("train", "--resume", "more", "--max-steps", 3) == 0


def test_sizes_of_a_modern_model_are_settings_and_unknown_ones_are_refused(text, capsys):
    sizes = ("--n-heads", 4, "--n-kv-heads", 1, "--qk-norm", "--feed-forward", "relu2")
    assert llmlib("train", text, *flags("llama-small"), *sizes, "--out", "a") == 0
    config = load_model("a")[0].config
    assert (config.n_heads, config.n_kv_heads, config.qk_norm) == (4, 1, True)
    assert config.feed_forward == "relu2" and config.hidden_dim == 4 * config.emb_dim
    line = failure(capsys, "train", text, *flags("story-tiny"), "--n-kv-heads", 1, "--out", "b")
    assert "n_kv_heads" in line and "story-tiny" in line
    line = failure(capsys, "train", text, *flags("llama-small"), "--n-kv-heads", 3, "--out", "b")
    assert "n-kv-heads 3 does not divide --n-heads 2" in line
    line = failure(capsys, "train", text, *flags("llama-smal"), "--out", "b")
    assert "did you mean 'llama-small'" in line
    line = failure(
        capsys, "train", text, *flags("llama-small"), "--feed-forward", "swigul", "--out", "b"
    )
    assert "did you mean 'swiglu'" in line


def test_a_file_of_settings_may_have_a_table_for_a_part(text, capsys):
    part = "feed_forward: {name: moe, n_experts: 4, top_k: 1, hidden_dim: 8}"
    Path("settings.yaml").write_text(f"{part}\n")
    arguments = ("--config", "settings.yaml", *flags("llama-small"), "--out", "a")
    assert llmlib("train", text, *arguments) == 0
    mlp = load_model("a")[0].h[0].mlp
    assert len(mlp.experts) == 4 and mlp.top_k == 1
    for wrong, words in (("{n_experts: 4}", "feed_forward"), ("{name: moe, top_k: 9}", "top_k")):
        Path("settings.yaml").write_text(f"feed_forward: {wrong}\n")
        arguments = ("--config", "settings.yaml", *flags("llama-small"), "--out", "b")
        assert words in failure(capsys, "train", text, *arguments)


def test_positions_mask_and_attention_are_settings_too(text, capsys):
    windowed = "mask: {name: window, width: 5, sinks: 1}\npositions: none\n"
    Path("settings.yaml").write_text(windowed)
    arguments = ("--config", "settings.yaml", *flags("llama-small"), "--out", "a")
    assert llmlib("train", text, *arguments) == 0
    config = load_model("a")[0].config
    assert config.mask == {"name": "window", "width": 5, "sinks": 1}
    assert config.positions == "none" and config.attention == "grouped"
    assert llmlib("train", "--resume", "a", "--max-steps", 3) == 0
    assert llmlib("generate", "--checkpoint", "a", "--prompt", "the", "--max-new-tokens", 9) == 0
    other = ("--mask", "alibi", "--positions", "none", "--attention", "grouped", "--out", "b")
    assert llmlib("train", text, *flags("llama-small"), *other) == 0
    assert load_model("b")[0].config.mask == "alibi"
    for flag, value, words in (
        ("--mask", "windw", "did you mean 'window'"),
        ("--positions", "rotry", "did you mean 'rotary'"),
        ("--attention", "latent_attention", "kv_lora_rank"),
    ):
        wrong = (*flags("llama-small"), flag, value, "--out", "c")
        assert words in failure(capsys, "train", text, *wrong)


def test_a_chat_model_is_measured_and_trained_on_documents_and_not_on_turns(tmp_path, capsys):
    """nano-llama ends its turns with <|im_end|>, and was pretrained with <|endoftext|> between."""
    stories = tell_many(40, seed=3)
    path = tmp_path / "stories.txt"
    path.write_text("".join(f"{story.text}\n" for story in stories), encoding="utf-8")
    arguments = ("--checkpoint", "nano-llama", "--text", path, "--device", "cpu", "--json")
    assert llmlib("evaluate", *arguments) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["above_floor"] < 0.05
    run = tmp_path / "run"
    quick = ("--max-steps", 1, "--batch-size", 2, "--context-length", 256, "--device", "cpu")
    arguments = (path, "--from", "nano-llama", *OFTEN, *quick, "--out", run)
    assert llmlib("train", *arguments) == 0
    assert load_model(run)[1].end_token == "<|endoftext|>"


def test_help_lists_the_presets(capsys):
    llmlib("train", "--help")
    out = capsys.readouterr().out
    assert all(name in "".join(out.split()) for name in PRESETS)
    assert preset("llama-small").vocab_size == 512
