"""`--from MODEL` and `--checkpoint MODEL`: published models, folders and runs alike."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmlib.__main__ import main
from llmlib.cli.prepare import encode_documents
from llmlib.files import home
from llmlib.model.architectures import new_model, preset
from llmlib.pretrained.huggingface import load_pretrained, save_pretrained
from llmlib.pretrained.models import load_model
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import load_tokenizer

NANO = home() / "gpt2" / "nano"
TINY = ["--max-steps", "2", "--eval-every", "2", "--n-samples", "1", "--device", "cpu"]
TINY += ["--batch-size", "2"]
TEXT = "Once upon a time there was a wise king named Paul. He lived in a tower.\n\n" * 60


def model_of(kind):
    """Nano, or a random Llama with as many tokens."""
    if kind == "gpt2":
        return load_pretrained(NANO), "transformer.wte.weight"
    torch.manual_seed(0)
    return new_model(preset(kind, context_length=256)), "model.embed_tokens.weight"


@pytest.fixture
def work(tmp_path, monkeypatch, request):
    """A working folder with a text, and nano in Hugging Face's layout with three more ids.

    By a parameter, another model in place of nano.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.txt").write_text(TEXT)
    model, name = model_of(getattr(request, "param", "gpt2"))
    save_pretrained(model, tmp_path / "hf", load_tokenizer(NANO))
    tensors = load_file("hf/model.safetensors")
    tensors[name] = torch.cat([tensors[name], tensors[name][:3]])
    save_file(tensors, "hf/model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "hf/config.json").read_text()) | {"vocab_size": 515}
    (tmp_path / "hf/config.json").write_text(json.dumps(config))
    return tmp_path


BOTH = pytest.mark.parametrize("work", ["gpt2", "llama-small"], indirect=True)


def train(*arguments):
    return main(["train", *map(str, arguments), *TINY])


@BOTH
def test_a_run_begins_with_the_weights_of_a_model_and_goes_on_without_it(work, capsys):
    arguments = ("note.txt", "--from", "hf", "--out", "a", "--context-length", 64)
    assert train(*arguments, "--learning-rate", "1e-9", "--drop-rate", "0.1") == 0
    model, tokenizer = load_model("a")
    theirs = load_pretrained("hf")
    assert model.config.context_length == 64 and model.config.vocab_size == 515
    assert model.config.drop_rate == 0.1 and tokenizer.vocab_size == 512
    for name, parameter in theirs.named_parameters():
        expected = parameter[:64] if name == "wpe.weight" else parameter
        torch.testing.assert_close(model.get_parameter(name), expected, atol=1e-6, rtol=1e-6)
    shutil.rmtree("hf")
    assert main(["train", "--resume", "a", "--max-steps", "3"]) == 0
    assert main(["evaluate", "--checkpoint", "a", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["loss"] < 6.3


def test_a_run_may_begin_with_another_run_and_its_settings_with_those_of_a_third(work):
    sizes = ["--n-layers", 1, "--n-heads", 2, "--emb-dim", 16, "--context-length", 16]
    assert train("note.txt", "--tokenizer", "char", *sizes, "--out", "first") == 0
    assert train("note.txt", "--from", "first/latest", "--out", "second") == 0
    assert load_model("second")[1].vocab_size == load_model("first")[1].vocab_size
    assert train("--config", "second/config.yaml", "--out", "third") == 0


def test_tokens_that_were_prepared_must_be_those_of_the_model(work):
    assert main(["prepare", "note.txt", "--tokenizer", "char", "--out", "chars"]) == 0
    assert main(["prepare", "note.txt", "--tokenizer", str(NANO), "--out", "nanos"]) == 0
    assert train("nanos", "--from", "gpt2/nano", "--out", "a") == 0
    assert train("chars", "--from", "gpt2/nano", "--out", "b") == 2
    assert not (work / "b").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--context-length 257", "positions for 256"),
        ("--n-layers 5", "is decided by gpt2/nano, which has 4"),
        ("--tokenizer char", "is decided by gpt2/nano"),
        ("--preset gpt2-124M", "new model"),
        ("--tie-weights --no-qkv-bias", "qkv-bias is decided"),
    ],
)
def test_what_the_model_decides_cannot_be_another(work, capsys, arguments, said):
    assert train("note.txt", "--from", "gpt2/nano", "--out", "a", *arguments.split()) == 2
    assert said in capsys.readouterr().err and not (work / "a").exists()


def test_a_model_that_is_not_there_leaves_no_run(work, capsys):
    assert train("note.txt", "--from", "gpt2-nano", "--out", "a") == 2
    assert "there is no model at gpt2-nano" in capsys.readouterr().err
    assert not (work / "a").exists()


@BOTH
@pytest.mark.parametrize("command", ["evaluate", "generate", "train"])
def test_tensors_that_are_left_over_are_refused_unless_a_flag_says_so(work, capsys, command):
    tensors = load_file("hf/model.safetensors") | {"h.0.attn.c_attn.lora_A": torch.ones(2)}
    save_file(tensors, "hf/model.safetensors", metadata={"format": "pt"})
    arguments = {
        "evaluate": ["--checkpoint", "hf", "--text", "note.txt"],
        "generate": ["--checkpoint", "hf", "--max-new-tokens", "2"],
        "train": ["note.txt", "--from", "hf", "--out", "a", *TINY],
    }[command]
    assert main([command, *arguments]) == 2
    assert "lora_A" in (said := capsys.readouterr().err) and "--ignore-extra" in said
    assert main([command, *arguments, "--ignore-extra"]) == 0


def test_published_models_are_evaluated_on_any_text(work, capsys):
    assert main(["evaluate", "--checkpoint", "gpt2/nano", "--text", "note.txt", "--json"]) == 0
    assert main(["evaluate", "--checkpoint", "hf", "--text", "note.txt", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["n_tokens"] == second["n_tokens"] and first["n_bytes"] == len(TEXT)
    assert 0 < first["loss"] <= second["loss"] < first["loss"] + 0.1  # three ids more


@pytest.mark.slow
def test_a_published_model_without_a_text_is_measured_on_stories(work, capsys):
    assert main(["evaluate", "--checkpoint", "gpt2/nano", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["text"] == "stories" and report["above_floor"] < 0.05


@pytest.mark.parametrize("form", ['"</s>"', '{"content": "</s>", "__type": "AddedToken"}'])
def test_a_text_may_end_with_another_token_that_the_folder_names(work, form):
    content = (work / "hf/tokenizer.json").read_text().replace("<|endoftext|>", "</s>")
    (work / "hf/tokenizer.json").write_text(content)
    config = (work / "hf/tokenizer_config.json").read_text().replace('"<|endoftext|>"', form)
    (work / "hf/tokenizer_config.json").write_text(config)
    commands = (["evaluate", "--text", "note.txt"], ["generate", "--max-new-tokens", "3"])
    for command in commands:
        assert main([*command, "--checkpoint", "hf"]) == 0
    assert train("note.txt", "--from", "hf", "--out", "a") == 0
    assert load_model("a")[1].eot_token == 511


def test_a_model_whose_texts_have_no_end_begins_no_run(work, capsys):
    BPETokenizer.train(TEXT, 300).save("hf/tokenizer.json")
    (work / "hf/tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert train("note.txt", "--from", "hf", "--out", "a") == 2
    assert "has to stand between documents" in capsys.readouterr().err and not (work / "a").exists()


def test_a_tokenizer_without_an_end_of_text_is_refused_in_words():
    tokenizer = BPETokenizer.train(TEXT, 260)
    with pytest.raises(ValueError, match=r"has no <\|endoftext\|>"):
        encode_documents(tokenizer, ["a"])
