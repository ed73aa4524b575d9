"""`llmlib generate` and `llmlib evaluate`: what comes out of a trained model, and of a mistake."""

import io
import itertools
import json
import math
import os
import sys

import pytest
import torch
from cli_helpers import TINY, failure, llmlib, write_text

from llmlib import stories
from llmlib.cli import generate as module
from llmlib.cli.dataset import TokenData
from llmlib.cli.run_folder import open_run
from llmlib.data import corpora
from llmlib.files import home
from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.generation.streaming import TextStream
from llmlib.pretrained.models import find_model, load_model
from llmlib.tokenization.gpt2 import gpt2_encoding


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    assert llmlib("train", write_text(folder), *TINY, "--max-steps", 4, "--out", folder / "r") == 0
    return folder / "r"


@pytest.fixture(scope="module")
def story_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stories")
    arguments = "--stories 120 --preset story-tiny --max-steps 2 --n-samples 1 --device cpu"
    assert llmlib("train", "stories", *arguments.split(), "--out", folder / "r") == 0
    return folder / "r"


def written(capsys, *arguments):
    capsys.readouterr()
    assert llmlib("generate", "--device", "cpu", *arguments) == 0
    return capsys.readouterr().out


def test_it_writes_what_generate_gives(run, capsys):
    model, data = load_model(run)[0], open_run(run).data()
    assert find_model(run) == run / "best"
    ids = [data.end_of_text, *data.tokenizer.encode("the cat")]
    row = generate(
        model,
        torch.tensor([ids]),
        30,
        Sampling(temperature=0.8, top_k=9),
        stop=data.end_of_text,
        generator=torch.Generator().manual_seed(7),
        slide=model.config.context_length // 4,
    )[0][1:]
    row = row[: row.index(data.end_of_text)] if data.end_of_text in row else row
    sampling = ["--max-new-tokens", "30", "--temperature", "0.8", "--top-k", "9", "--seed", "7"]
    text = written(capsys, "--checkpoint", run, "--prompt", "the cat", *sampling)
    assert text == data.tokenizer.decode(row) + "\n"


def test_each_token_is_shown_as_soon_as_it_is_chosen(run, monkeypatch):
    raw, real, seen = io.BytesIO(), module.stream, []

    def watched(*arguments, **settings):
        for token in real(*arguments, **settings):
            seen.append(len(raw.getvalue()))
            yield token

    monkeypatch.setattr(module, "stream", watched)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    sampling = ["--max-new-tokens", 20, "--prompt", "the", "--seed", 3]
    assert llmlib("generate", "--checkpoint", run, "--device", "cpu", *sampling) == 0
    assert seen[0] == 3 and len(seen) > 5 and all(a < b for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("text", ["naïve 🐈🐈 säw", "🏳️‍🌈", "plain", "日本語のテキスト"])
def test_no_half_characters_are_shown(text):
    encoding = gpt2_encoding()
    ids = encoding.encode(text)
    for split in range(len(ids) + 1):
        stream = TextStream(encoding, ids[:split])
        pieces = [stream.add(i) for i in ids[split:]]
        assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)
        if split == 0:
            assert "".join(pieces) + stream.rest() == text


def test_a_gpt2_writes_from_its_folder_in_every_format(capsys):
    flags = ["--checkpoint", home() / "gpt2" / "nano", "--prompt", "Once", "--temperature", 0]
    texts = [
        written(capsys, *flags, "--max-new-tokens", 12, "--weights", weights)
        for weights in ("float32", "bfloat16", "int8")
    ]
    assert all(text.startswith("Once upon a time there was") for text in texts)


def test_a_text_ends_before_a_string_that_ends_it(capsys):
    flags = ["--checkpoint", home() / "gpt2" / "nano", "--prompt", "Once", "--until", " time"]
    assert written(capsys, *flags, "--temperature", 0) == "Once upon a\n"


def test_a_gpt2_that_is_not_here_says_how_to_get_it(capsys):
    if (home() / "gpt2" / "1558M").exists():
        pytest.skip("it is here")
    assert "llmlib download gpt2-1558M" in failure(capsys, "generate", "--checkpoint", "gpt2-1558M")
    assert "gpt2-124M" in failure(capsys, "generate", "--checkpoint", "gpt2-124")


def test_settings_that_are_impossible_are_refused(run, capsys):
    flags = ["generate", "--checkpoint", run, "--device", "cpu"]
    assert "int8" in failure(capsys, *flags, "--weights", "int9")
    assert "from 0 to 1" in failure(capsys, *flags, "--min-p", "2")
    assert "above 0" in failure(capsys, *flags, "--repetition-penalty", "0")


def test_texts_are_separated_and_the_seed_decides(run, capsys):
    flags = ["--checkpoint", run, "--max-new-tokens", 12, "--n", 3]
    first = written(capsys, *flags, "--seed", 1)
    assert written(capsys, *flags, "--seed", 1) == first != written(capsys, *flags, "--seed", 2)
    greedy = ["--temperature", 0, "--prompt", "a"]
    texts = written(capsys, *flags, *greedy).split("\n\n")
    assert texts[0] == texts[1] == texts[2].rstrip("\n")


def test_a_prompt_longer_than_the_context_is_continued(run, capsys):
    prompt = "the cat säw many mats " * 20
    flags = ["--checkpoint", run, "--prompt", prompt, "--max-new-tokens", 20, "--n", 4]
    texts = written(capsys, *flags)
    assert texts.count(prompt) == 4 and len(texts) > 4 * len(prompt) + 20


def test_a_terminal_that_knows_only_ascii_does_not_matter(run, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    flags = ["--prompt", "säw 🐈", "--max-new-tokens", 3, "--device", "cpu"]
    assert llmlib("generate", "--checkpoint", run, *flags) == 0
    sys.stdout.flush()
    assert raw.getvalue().startswith(b"s\\xe4w \\U0001f408")


def closed_pipe():
    """A stdout that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    return open(write, "w")


def test_head_may_have_seen_enough(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", closed_pipe())
    assert llmlib("generate", "--checkpoint", run, "--device", "cpu", "--n", 2) == 0
    monkeypatch.setattr(sys, "stdout", closed_pipe())
    out = ["--max-steps", 3, "--out", tmp_path / "run"]
    assert llmlib("train", run.parent / "text.txt", *TINY, *out) == 0  # to its end
    assert open_run(tmp_path / "run").load().step == 3


def test_mistakes_are_answered_in_one_line(run, tmp_path, capsys):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "checkpoint.json").write_bytes(
        (run / "latest" / "checkpoint.json").read_bytes()
    )
    here = ["--checkpoint", run]
    for arguments, expected in [
        (["--checkpoint", run.parent / "s"], "there is no model at"),
        (["--checkpoint", run.parent / "rr"], "did you mean 'r'?"),
        (["--checkpoint", run.parent / "text.txt"], "there is no model at"),
        (["--checkpoint", tmp_path], "is missing, which checkpoint.json beside it names"),
        ([*here, "--temperature", "-1"], "--temperature is -1.0"),
        ([*here, "--top-k", "0"], "--top-k is 0"),
        ([*here, "--top-p", "2"], "--top-p is 2.0"),
        ([*here, "--n", "0"], "--n is 0"),
        ([*here, "--max-new-tokens", "-1"], "--max-new-tokens: '-1' is not a whole number"),
        ([*here, "--temprature", "1"], "did you mean '--temperature'?"),
        ([*here, "--n", "x"], "--n: 'x' is not a whole number"),
    ]:
        capsys.readouterr()
        code = llmlib("generate", *arguments)
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert code == 2 and expected in line


# llmlib evaluate ----------------------------------------------------------------------------------


def measured(capsys, *arguments):
    capsys.readouterr()
    assert llmlib("evaluate", "--device", "cpu", "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_the_numbers_are_those_of_every_token_of_the_text(run, capsys):
    report = measured(capsys, "--checkpoint", run)
    model, _ = load_model(run)
    data = TokenData(run / "data")
    ids = [data.end_of_text, *data.ids("val").tolist()]
    context, nats = model.config.context_length, []
    for start in range(0, len(ids) - 1, context):
        piece = torch.tensor([ids[start : start + context + 1]])
        logits = model.eval()(piece[:, :-1])[0].detach().log_softmax(-1)
        nats += [-logits[row, target].item() for row, target in enumerate(piece[0, 1:])]
    assert report["n_tokens"] == len(nats) == len(ids) - 1
    assert report["loss"] == pytest.approx(sum(nats) / len(nats), abs=1e-5)
    assert report["perplexity"] == pytest.approx(math.exp(report["loss"]))
    n_bytes = len(data.tokenizer.decode(ids[1:-1]).encode())
    assert report["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / n_bytes, rel=1e-5)
    assert report["floor"] is None


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_the_batch_size_changes_nothing(run, capsys, batch_size):
    expected = measured(capsys, "--checkpoint", run)["loss"]
    found = measured(capsys, "--checkpoint", run, "--batch-size", batch_size)["loss"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_windows_line_ends_are_line_ends(run, tmp_path, capsys):
    text = corpora.load(run.parent / "text.txt")
    (tmp_path / "crlf.txt").write_bytes(text.replace("\n", "\r\n").encode())
    reports = [
        measured(capsys, "--checkpoint", run, "--text", path)
        for path in (run.parent / "text.txt", tmp_path / "crlf.txt")
    ]
    assert reports[0]["loss"] == reports[1]["loss"] and reports[1]["n_unknown"] == 0
    assert reports[0]["n_bytes"] == reports[1]["n_bytes"] == len(text.encode())


def test_stories_have_a_floor_and_other_texts_have_none(story_run, tmp_path, capsys):
    report = measured(capsys, "--checkpoint", story_run)
    assert 0.3 < report["floor"] < 0.4 < report["loss"]
    assert report["above_floor"] == pytest.approx(report["loss"] / report["floor"] - 1)
    told = [story.text for story in stories.tell_many(20, seed=9)]
    (tmp_path / "told.txt").write_text("\n".join(told))
    report = measured(capsys, "--checkpoint", story_run, "--text", tmp_path / "told.txt")
    nats = -sum(map(stories.log_prob, told))
    assert report["floor"] == pytest.approx(nats / report["n_tokens"])
    (tmp_path / "other.txt").write_text("\n".join(told) + "\nNo story.\n")
    report = measured(capsys, "--checkpoint", story_run, "--text", tmp_path / "other.txt")
    assert report["floor"] is None and report["above_floor"] is None


def test_people_get_lines(story_run, capsys):
    assert llmlib("evaluate", "--checkpoint", story_run, "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split("  ")[0] for line in lines] == [
        "device cpu: as requested",
        "loss",
        "perplexity",
        "bits per byte",
        "floor",
    ]


def test_mistakes_of_measuring_are_answered_in_one_line(run, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\r\n")
    for arguments, expected in [
        (["--text", tmp_path / "empty.txt"], "is empty"),
        (["--text", tmp_path / "nothing.txt"], "no file"),
        (["--text", tmp_path], "is empty"),  # a folder of texts, none of which says anything
        (["--batch-size", 0], "--batch-size is 0"),
    ]:
        assert expected in failure(capsys, "evaluate", "--checkpoint", run, *arguments)
