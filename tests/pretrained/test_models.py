"""One resolver: a name or a path gives the model that lies there, and the tokenizer it reads."""

import shutil
from pathlib import Path

import pytest
import torch

from llmlib.checks import FileError
from llmlib.files import home
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2 import load_pretrained, save_pretrained
from llmlib.pretrained.models import KNOWN_NAMES, find_model, load_model
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.gpt2 import gpt2_encoding
from llmlib.tokenization.prepared import write_about
from llmlib.tokenization.unigram import UnigramTokenizer
from llmlib.tokenization.wordpiece import WordPieceTokenizer
from llmlib.tokenization.words import CharTokenizer, WordTokenizer
from llmlib.training.checkpoint import (
    read_manifest,
    save_checkpoint,
    write_manifest,
    write_tensors,
)

NANO = home() / "gpt2" / "nano"
TEXT = "Once upon a time there was a wise king. He had a red hat. " * 5


def random_gpt(vocab_size, seed, drop_rate=0.0):
    torch.manual_seed(seed)
    return GPT(GPTConfig(vocab_size, 16, emb_dim=8, n_heads=2, n_layers=1, drop_rate=drop_rate))


def same_weights(model, other):
    mine, others = model.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[n], others[n]) for n in mine)


def describe(folder, kind, tokenizer):
    """Write the data.json of a prepared folder with a tokenizer."""
    part = {"n_documents": 1, "n_tokens": 1, "n_bytes": 1, "n_unknown": 0, "sha256": ""}
    about = {"corpus": "x", "rows": "windows", "tokenizer": kind, "train": part, "val": part}
    about |= {"vocab_size": tokenizer.vocab_size}
    write_about(folder, about | {"end_of_text": tokenizer.special_tokens["<|endoftext|>"]})


@pytest.fixture
def run(tmp_path):
    """The folder of a run, as far as it matters here; its models by the name of the checkpoint."""
    folder = tmp_path / "run"
    (folder / "data").mkdir(parents=True)
    tokenizer = CharTokenizer.from_text(TEXT)
    tokenizer.save(folder / "data" / "tokenizer.json")
    describe(folder / "data", "char", tokenizer)
    models = {
        name: random_gpt(tokenizer.vocab_size, seed, drop_rate=0.1)
        for seed, name in enumerate(("latest", "best"))
    }
    for name, model in models.items():
        save_checkpoint(folder / name, model)
    return folder, models


def test_a_run_gives_its_best_checkpoint_and_its_tokenizer(run):
    folder, models = run
    model, tokenizer = load_model(folder)
    assert find_model(folder) == folder / "best"
    assert same_weights(model, models["best"]) and not model.training
    assert model.config.drop_rate == 0.1  # as it was trained; it does not matter until training
    assert tokenizer.decode(tokenizer.encode("a red hat")) == "a red hat"


def test_a_checkpoint_of_a_run_is_named_by_its_folder(run):
    folder, models = run
    assert same_weights(load_model(folder / "latest")[0], models["latest"])
    assert same_weights(load_model(str(folder / "latest"))[0], models["latest"])


def test_a_run_without_a_best_gives_its_latest(run):
    folder, models = run
    shutil.rmtree(folder / "best")
    assert same_weights(load_model(folder)[0], models["latest"])


def test_the_drop_rate_can_be_another(run):
    assert load_model(run[0], drop_rate=0.3)[0].config.drop_rate == 0.3
    assert load_model(NANO, drop_rate=0.2)[0].config.drop_rate == 0.2
    assert load_model(NANO)[0].config.drop_rate == 0


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "wordpiece", "unigram", "gpt2"])
def test_every_kind_of_tokenizer_comes_with_its_run(run, kind):
    folder, _ = run
    if kind == "gpt2":
        expected = gpt2_encoding()
    elif kind == "bpe":
        expected = BPETokenizer.train(TEXT, 270, special_tokens=["<|endoftext|>"])
    else:
        classes = {"word": WordTokenizer, "char": CharTokenizer}
        classes |= {"wordpiece": WordPieceTokenizer, "unigram": UnigramTokenizer}
        expected = classes[kind].from_text(TEXT)
    if kind != "gpt2":
        expected.save(folder / "data" / "tokenizer.json")
    describe(folder / "data", kind, expected if kind != "gpt2" else load_tokenizer("gpt2"))
    _, tokenizer = load_model(folder)
    assert tokenizer.encode("a wise king had") == expected.encode("a wise king had")


def test_folders_of_gpt2_in_both_layouts(tmp_path):
    nano, encoding = load_pretrained(NANO), load_tokenizer(NANO)
    save_pretrained(nano, tmp_path / "transformers", encoding)
    for folder in (NANO, str(NANO), tmp_path / "transformers"):
        model, tokenizer = load_model(folder)
        assert same_weights(model, nano)
        assert tokenizer.encode("Once upon a time") == encoding.encode("Once upon a time")


def test_weights_of_a_run_may_have_been_wrapped_and_have_to_be_floats(run):
    folder, models = run
    weights = models["best"].state_dict()
    content = read_manifest(folder / "best")
    for name, change in (("_orig_mod.", torch.clone), ("", torch.Tensor.int)):
        changed = {name + key: change(tensor) for key, tensor in weights.items()}
        content["files"]["weights"] = write_tensors(folder / "best", "weights", changed)
        write_manifest(folder / "best", content)
        if name:
            assert same_weights(load_model(folder)[0], models["best"])
    with pytest.raises(FileError, match=r"numbers are torch\.int32, and should be floats"):
        load_model(folder)


# By name. -----------------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course folder in which gpt2-124M is nano, and a working folder beside it."""
    place = tmp_path / "home"
    (place / "data").mkdir(parents=True)
    shutil.copytree(NANO, place / "gpt2" / "nano")
    shutil.copytree(NANO, place / "gpt2" / "124M")
    shutil.copy(home() / "gpt2" / "vocab.bpe", place / "gpt2")
    monkeypatch.setenv("LLMLIB_HOME", str(place))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return place


def test_every_known_name_is_resolved(course, capsys):
    sizes = ["gpt2-124M", "gpt2-355M", "gpt2-774M", "gpt2-1558M"]
    assert {*KNOWN_NAMES} == {*sizes, "gpt2/nano", "nano-llama", "smollm2-135m"}
    nano = load_pretrained(NANO)
    model, tokenizer = load_model("gpt2-124M")
    assert same_weights(model, nano) and tokenizer.vocab_size == 50257
    model, tokenizer = load_model("gpt2/nano")
    assert same_weights(model, nano) and tokenizer.vocab_size == 512
    assert capsys.readouterr().err == ""


def test_a_model_that_is_not_here_says_how_to_get_it(course):
    for load in (load_model, find_model):
        with pytest.raises(FileNotFoundError, match="llmlib download gpt2-355M"):
            load("gpt2-355M")


def test_a_name_wins_over_a_folder_and_says_so(course, run, capsys):
    shutil.copytree(run[0], "gpt2-124M")
    assert load_model("gpt2-124M")[1].vocab_size == 50257
    assert find_model("gpt2-124M")  # a second time, as the commands do
    (line,) = capsys.readouterr().err.splitlines()
    assert "124M" in line and "./gpt2-124M" in line
    for path in ("./gpt2-124M", Path("gpt2-124M")):
        assert same_weights(load_model(path)[0], run[1]["best"])
    assert capsys.readouterr().err == ""


def test_in_the_course_folder_nano_is_itself(course, monkeypatch, capsys):
    monkeypatch.chdir(course)
    load_model("gpt2/nano")
    assert capsys.readouterr().err == ""


# Refusals. ----------------------------------------------------------------------------------------


def test_what_is_not_a_model_is_refused_with_a_hint(run, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    for path, said in [
        (tmp_path / "runn", "did you mean 'run'?"),
        ("gpt2-124", "did you mean 'gpt2-124M'?"),
        (tmp_path / "text.txt", "there is no model at"),
        (tmp_path, "give a run folder"),
        (run[0] / "data", "there is no model at"),
    ]:
        with pytest.raises(FileNotFoundError) as caught:
            load_model(path)
        assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("adapter_config.json", "it is a peft adapter for 'gpt2'.*merge_and_unload"),
        ("model.gguf", r"it holds a \.gguf: give that file, .*model\.gguf"),
        ("config.yaml", "the run has no checkpoint yet: train it with .*--resume"),
        ("pytorch_model.bin", "is pickled or of another library"),
    ],
)
def test_what_lies_there_in_place_of_a_model_is_named(tmp_path, file, said):
    (tmp_path / file).write_text('{"base_model_name_or_path": "gpt2"}')
    for load in (load_model, load_pretrained):
        with pytest.raises(FileNotFoundError, match=said):
            load(tmp_path)
    if file == "model.gguf":
        with pytest.raises(FileError, match=r"begins with b'\{\"ba'"):
            load_model(tmp_path / file)
    elif file != "config.yaml":  # any text may be called so
        with pytest.raises(FileNotFoundError, match=said):
            load_model(tmp_path / file)


def test_a_file_of_a_model_names_its_folder(run):
    for file in (NANO / "hparams.json", run[0] / "best" / "checkpoint.json"):
        with pytest.raises(
            FileNotFoundError, match=f"file of a model: give its folder, {file.parent}"
        ):
            load_model(file)


def test_weights_beside_an_adapter_are_not_those_that_peft_would_load(tmp_path):
    save_pretrained(random_gpt(20, 0), tmp_path, eos_token_id=0)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    for load in (load_model, load_pretrained):
        with pytest.raises(FileNotFoundError, match="it is a peft adapter for 'some/base'"):
            load(tmp_path)


def test_a_checkpoint_outside_a_run_has_no_tokenizer(run, tmp_path):
    alone = shutil.copytree(run[0] / "best", tmp_path / "elsewhere" / "best")
    with pytest.raises(ValueError, match=r"names the tokenizer.*is missing"):
        load_model(alone)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"tokenizer": "klingon"}', '{"tokenizer": ["char"]}']
)
def test_a_run_whose_data_is_damaged_is_refused(run, content):
    (run[0] / "data" / "data.json").write_text(content)
    with pytest.raises(ValueError, match=r"data\.json"):
        load_model(run[0])


def test_a_checkpoint_of_another_model_is_refused(run):
    save_checkpoint(run[0] / "best", torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="which model its weights belong to"):
        load_model(run[0])
    manifest = read_manifest(run[0] / "latest")
    manifest["model"]["n_experts"] = 8
    write_manifest(run[0] / "latest", manifest)
    with pytest.raises(ValueError, match="another kind of model"):
        load_model(run[0] / "latest")


def test_damaged_weights_are_refused(run):
    (weights,) = (run[0] / "best").glob("weights-*")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FileError, match="is damaged"):
        load_model(run[0])
