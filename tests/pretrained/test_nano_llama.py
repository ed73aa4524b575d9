"""The small chat model that ships is what its page says: files, sizes, stories, answers."""

import json
import sys
from math import comb
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmlib import stories
from llmlib.files import shipped
from llmlib.pretrained.models import load_model, template_of
from llmlib.stories.instructions import constraints_met, examples, messages_of
from llmlib.tokenization.chat_template import render

ROOT = Path(__file__).parents[2]
FOLDER = shipped("models/nano-llama")
LOOSE = 1e-6  # how rarely a model that is as good as its page says may fail a test of its texts

sys.path.append(str(ROOT / "tools"))
from make_nano_llama import make_tokenizer  # noqa: E402
from nano_llama_marks import leaks, tell  # noqa: E402


@pytest.fixture(scope="module")
def ours():
    return load_model("nano-llama")


@pytest.fixture(scope="module")
def theirs():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)


def least(n, share):
    """The fewest hits of n that a share explains, but for one chance in 1/LOOSE."""
    total, hits = 0.0, -1
    while total < LOOSE:
        hits += 1
        total += comb(n, hits) * share**hits * (1 - share) ** (n - hits)
    return hits


def test_the_folder_holds_what_transformers_reads_in_four_megabytes():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) <= 4_000_000


def test_the_weights_are_a_llama_in_bfloat16_whose_sizes_suit_blocks_of_32():
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["tie_word_embeddings"]
    assert config["max_position_embeddings"] == 512
    n_heads, n_kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    assert 1 < n_kv_heads < n_heads and n_heads % n_kv_heads == 0
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert "lm_head.weight" not in parts
    assert {part.dtype for part in parts.values()} == {torch.bfloat16}
    assert all(size % 32 == 0 for part in parts.values() for size in part.shape)


def test_logits_are_those_of_transformers(ours, theirs):
    model, tokenizer = ours
    ids = [tokenizer.encode(e.request + e.answer)[:100] for e in examples(40, seed=1)]
    ids = torch.tensor([row for row in ids if len(row) == 100])
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_the_tokenizer_is_the_same_in_transformers(ours):
    tokenizer, reference = ours[1], AutoTokenizer.from_pretrained(FOLDER)
    texts = ["", " é 日本 \n\n 🙂  x", "<|im_start|>user\n<|im_end|><|endoftext|> <|im_end|>"]
    for text in [*texts, *(render(messages_of(e)) for e in examples(50, seed=2))]:
        ids = tokenizer.encode(text, allowed_special="all")
        assert ids == reference.encode(text) and reference.decode(ids) == text


def test_nearly_each_word_is_one_token(ours):
    tokenizer = ours[1]
    texts = [text for e in examples(600, seed=5) for text in (e.request, e.answer)]
    words = {word.rstrip('.,!?"') for text in texts for word in text.split()[1:]}
    words = {word for word in words if word.isalpha()}  # one in quotation marks follows no space
    assert len(words) > 350
    assert sum(len(tokenizer.encode(f" {word}")) > 1 for word in words) <= 12  # rare forms


def test_it_is_asked_through_its_own_template(ours):
    template, reference = template_of("nano-llama"), AutoTokenizer.from_pretrained(FOLDER)
    messages = messages_of(*examples(2, seed=1), system="You tell short stories.")[:-1]
    text = render(messages, template, add_generation_prompt=True)
    assert text == reference.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    ids = ours[1].encode(text, allowed_special="all")
    assert ids == reference.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]


def test_a_model_without_a_template_is_named():
    with pytest.raises(ValueError, match="gpt2/nano has no chat template"):
        template_of("gpt2/nano")


def test_at_temperature_1_its_stories_are_grammatical(ours):
    texts = tell(*ours, ["<|endoftext|>"] * 60)
    assert sum(stories.check(text).grammatical for text in texts) >= least(60, 0.985)
    assert len(set(texts)) == 60


def test_hardly_anything_is_given_to_tokens_that_cannot_come(ours):
    """What it would say of 40 new stories is known from its probabilities, without drawing."""
    plain, sharp = leaks(*ours, (1.0, 1.1), n=40)
    assert plain.grammatical > 0.98 and plain.consistent > 0.7
    assert plain.consistent < plain.grammatical < sharp.grammatical < 1
    assert 0 < plain.excess < 0.04


def test_its_answers_meet_what_is_asked(ours):
    asked = examples(60, seed=7)
    texts = tell(*ours, [render(messages_of(e)[:1], add_generation_prompt=True) for e in asked])
    met = [constraints_met(text, e.constraints) for text, e in zip(texts, asked)]
    assert sum(all(one.values()) for one in met) >= least(60, 0.9)


def test_the_vocabulary_is_the_one_that_the_tool_learns(ours):
    again = make_tokenizer()
    assert again.tokens == ours[1].tokens and again.merges == ours[1].merges
