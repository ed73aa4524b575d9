"""`llmlib prepare`: no text is lost, none leaks, and a folder is whole or not there."""

import json

import numpy as np
import pytest
import torch
from cli_helpers import failure, llmlib, write_text

from llmlib import stories
from llmlib.cli.dataset import TokenData
from llmlib.cli.prepare import prepare
from llmlib.data import corpora
from llmlib.data.token_files import ArrayWriter


def about(folder):
    return json.loads((folder / "data.json").read_text())


def spelled(data, part):
    """The documents that stand in a token file, as text."""
    return [data.tokenizer.decode(ids.tolist()) for ids in data.documents(part)]


@pytest.mark.parametrize("tokenizer", ["char", "gpt2"])
def test_the_two_parts_spell_the_text_to_the_last_byte(tmp_path, tokenizer):
    path = write_text(tmp_path)
    text = corpora.load(path)
    assert llmlib("prepare", path, "--tokenizer", tokenizer, "--out", tmp_path / "p") == 0
    data = TokenData(tmp_path / "p")
    parts = spelled(data, "train") + spelled(data, "val")
    assert "".join(parts) == text and len(parts) == 2
    assert parts[0].endswith("\n\n"), "cut where a paragraph ends"
    assert 0.05 < len(parts[1]) / len(text) < 0.15
    counts = about(tmp_path / "p")
    for part, spelling in zip(("train", "val"), parts):
        ids = np.load(tmp_path / "p" / f"{part}.npy", mmap_mode="r")
        assert isinstance(ids, np.memmap) and ids.dtype == np.uint16
        assert ids[-1] == counts["end_of_text"]
        assert counts[part]["n_tokens"] == len(ids)
        assert counts[part]["n_bytes"] == len(spelling.encode())


def test_a_corpus_of_documents_is_divided_by_documents(tmp_path, monkeypatch):
    documents = [f"document {n % 40} of many" for n in range(50)]  # ten of them twice
    monkeypatch.setattr(corpora, "texts", lambda *_: list(enumerate(documents)))
    prepare("wiki", tmp_path / "p", tokenizer="gpt2", val_fraction=0.2)
    data = TokenData(tmp_path / "p")
    train, val = spelled(data, "train"), spelled(data, "val")
    assert sorted(train + val) == sorted(documents) and not set(train) & set(val)


def test_stories_are_told_afresh_divided_and_have_their_floor(tmp_path):
    assert llmlib("prepare", "stories", "--stories", 60, "--out", tmp_path / "p") == 0
    data = TokenData(tmp_path / "p")
    train, val = spelled(data, "train"), spelled(data, "val")
    assert len(train) + len(val) == 60 and len(val) == 6 and not set(train) & set(val)
    nats = np.load(tmp_path / "p" / "val_nats.npy")
    # a word of val that train lacks is unknown: only stories without one are spelled as told
    known = [(text, n) for text, n in zip(val, nats) if "<|unk|>" not in text]
    assert known
    for text, n in known:
        assert stories.log_prob(text) == pytest.approx(-n)
    measure = data.measure(192, 4)
    n_tokens = sum(int((targets != -100).sum()) for _, targets in measure.batches)
    assert n_tokens == about(tmp_path / "p")["val"]["n_tokens"]
    assert measure.floor == pytest.approx(nats.sum() / n_tokens)


def test_the_same_seed_prepares_the_same_and_another_one_something_else(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare("stories", tmp_path / name, tokenizer="word", stories=30, seed=seed)
    files = [(tmp_path / n / "train.npy").read_bytes() for n in "abc"]
    assert files[0] == files[1] != files[2]
    assert about(tmp_path / "a") == about(tmp_path / "b")


def test_every_token_is_measured_exactly_once(tmp_path):
    prepare(str(write_text(tmp_path)), tmp_path / "p", tokenizer="char")
    data = TokenData(tmp_path / "p")
    measure = data.measure(context_length=16, batch_size=3)
    targets = torch.cat([t[t != -100] for _, t in measure.batches])
    inputs = torch.cat([x[y != -100] for x, y in measure.batches])
    assert targets.tolist() == data.ids("val").tolist()
    assert inputs.tolist() == [data.end_of_text, *data.ids("val").tolist()][:-1]


def test_a_special_token_in_a_text_is_text(tmp_path):
    text = "before <|endoftext|> after <|unk|>. " * 40
    (tmp_path / "t.txt").write_text(text)
    for tokenizer in ("char", "word", "gpt2"):
        settings = {"tokenizer": tokenizer, "separator": "none"}
        prepare(str(tmp_path / "t.txt"), tmp_path / tokenizer, **settings)
        data = TokenData(tmp_path / tokenizer)
        assert len(data.documents("train")) == len(data.documents("val")) == 1
        assert data.about["train"]["n_unknown"] == 0


def test_unknown_pieces_are_counted(tmp_path):
    (tmp_path / "t.txt").write_text("a b\n\n" * 50 + "new words here\n")
    prepare(str(tmp_path / "t.txt"), tmp_path / "p", tokenizer="word", val_fraction=0.05)
    assert about(tmp_path / "p")["val"]["n_unknown"] == 3
    assert about(tmp_path / "p")["train"]["n_unknown"] == 0


def test_ids_that_need_it_are_stored_in_32_bits(tmp_path):
    text = " ".join(f"w{n}" for n in range(66_000))
    (tmp_path / "t.txt").write_text(text)
    prepare(str(tmp_path / "t.txt"), tmp_path / "p", tokenizer="word", val_fraction=0.001)
    assert TokenData(tmp_path / "p").ids("train").dtype == np.uint32
    prepare(str(tmp_path / "t.txt"), tmp_path / "q", tokenizer="word", max_vocab=9)
    assert about(tmp_path / "q")["vocab_size"] == 9


def test_a_failure_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrayWriter, "append", full)
    text = write_text(tmp_path)
    with pytest.raises(OSError):
        prepare(str(text), tmp_path / "p", tokenizer="char")
    assert list(tmp_path.iterdir()) == [text]


def test_what_cannot_be_prepared_is_said_in_one_line(tmp_path, capsys):
    text, out = write_text(tmp_path), tmp_path / "p"
    (tmp_path / "there").mkdir()
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    for arguments, expected in [
        ([text, "--out", tmp_path / "there"], "there exists: remove it"),
        ([text, "--out", text / "below"], "text.txt: File exists"),
        ([text, "--out", "/proc/nothing/here"], "/proc/nothing"),
        (["storys", "--out", out], "did you mean 'stories'"),
        ([tmp_path / "empty.txt", "--out", out], "is empty"),
        ([tmp_path / "latin.txt", "--out", out], "is not UTF-8"),
        ([text, "--out", out, "--tokenizer", "bpee"], "did you mean 'bpe'"),
        ([text, "--out", out, "--val-fraction", "1"], "between 0 and 1"),
        ([text, "--out", out, "--max-vocab", "9"], "max-vocab is for"),
        (["stories", "--out", out, "--stories", "1"], "at least 2"),
    ]:
        assert expected in failure(capsys, "prepare", *arguments)
        assert not out.exists()


def test_a_damaged_folder_is_noticed(tmp_path, capsys):
    prepare(str(write_text(tmp_path)), tmp_path / "p", tokenizer="char")
    whole = (tmp_path / "p" / "train.npy").read_bytes()
    about_text = (tmp_path / "p" / "data.json").read_text()
    for name, content, expected in [
        ("train.npy", whole[:-100], "train.npy: it is damaged"),
        ("train.npy", b"", "train.npy: it is damaged"),
        ("train.npy", b"PK" + whole, "train.npy: it is damaged"),
        ("data.json", b"{", "data.json: it is not JSON"),
        ("data.json", b"{}", "was not written by llmlib prepare"),
        ("tokenizer.json", b"[]", "is not a JSON object"),
    ]:
        (tmp_path / "p" / name).write_bytes(content)
        run = ["--out", tmp_path / f"run-{len(content)}-{name}", "--max-steps", 2, "--n-samples", 1]
        assert expected in failure(capsys, "train", tmp_path / "p", *run, "--eval-every", 1), name
        (tmp_path / "p" / "train.npy").write_bytes(whole)
        (tmp_path / "p" / "data.json").write_text(about_text)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_a_tokenizer_is_learned_on_the_way_or_read_from_a_file(tmp_path, kind):
    text, file = write_text(tmp_path), tmp_path / "tokenizer.json"
    prepare(str(text), tmp_path / "learned", tokenizer=kind, max_vocab=300)
    flags = ["--kind", kind, "--vocab-size", 300, "--out", file]
    assert llmlib("tokenizer", text, *flags) == 0
    assert llmlib("prepare", text, "--tokenizer", file, "--out", tmp_path / "read") == 0
    for name in ("learned", "read"):
        data = TokenData(tmp_path / name)
        assert data.about["tokenizer"] == kind and data.about["vocab_size"] <= 300
        assert data.about["train"]["n_unknown"] == 0
        if kind != "wordpiece":  # which does not remember how words were separated
            parts = spelled(data, "train") + spelled(data, "val")
            assert "".join(parts) == corpora.load(text)
    with pytest.raises(ValueError, match="has learned already"):
        prepare(str(text), tmp_path / "more", tokenizer=str(file), max_vocab=50)
