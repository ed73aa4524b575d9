"""Any text goes in, by every command: what separates documents, what is too short, what wins."""

import gzip
import json
import re
import shlex
import shutil

import pytest
from cli_helpers import TINY, failure, llmlib, write_text

from llmlib.cli.dataset import TokenData
from llmlib.cli.prepare import prepare
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import KINDS, load_tokenizer
from llmlib.tokenization.prepared import is_prepared

MARKED = "A cat sat. The end.<|endoftext|>\n" * 200


def spelled(data, part):
    return [data.tokenizer.decode(ids.tolist()) for ids in data.documents(part)]


@pytest.mark.parametrize("tokenizer", [*KINDS, "gpt2"])
def test_documents_that_a_file_separates_end_with_the_end_token(tmp_path, capsys, tokenizer):
    (tmp_path / "t.txt").write_text(MARKED)
    size = [] if tokenizer == "gpt2" else ["--max-vocab", 300]
    flags = ["--tokenizer", tokenizer, *size, "--out", tmp_path / "p"]
    assert llmlib("prepare", tmp_path / "t.txt", *flags) == 0
    assert "200 documents, cut at 200 times '<|endoftext|>'" in capsys.readouterr().out
    data = TokenData(tmp_path / "p")
    assert [len(data.documents(part)) for part in ("train", "val")] == [180, 20]
    assert set(spelled(data, "train") + spelled(data, "val")) == {"A cat sat. The end."}


def test_another_separator_is_a_flag(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("one none <|endoftext|> two\n\n\nthree\n\n\nfour none four\n")
    flags = ["--tokenizer", "char", "--val-fraction", 0.3]
    run = ["prepare", tmp_path / "t.txt", *flags]
    assert llmlib(*run, "--separator", r"\n\n\n", "--out", tmp_path / "p") == 0
    data = TokenData(tmp_path / "p")
    assert len(data.documents("train")) == 2 and len(data.documents("val")) == 1
    assert llmlib(*run, "--separator", "none", "--out", tmp_path / "q") == 0
    data = TokenData(tmp_path / "q")
    assert len(data.documents("train")) == len(data.documents("val")) == 1


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        (r"\r\n=\r\n", "3 documents, cut at 2 times"),  # as its lines end
        ("\r\n=\r\n", "3 documents, cut at 2 times"),
        ("==", "it does not hold the separator '==', so nothing is cut there"),
        ("none", None),
    ],
)
def test_a_separator_is_found_or_it_is_said_that_it_is_not(tmp_path, capsys, flag, says):
    (tmp_path / "t.txt").write_bytes(b"one <|endoftext|> one\r\n=\r\ntwo\r\n=\r\nthree three")
    run = ["prepare", tmp_path / "t.txt", "--tokenizer", "char", f"--separator={flag}"]
    assert llmlib(*run, "--out", tmp_path / "p") == 0
    out = capsys.readouterr().out
    assert says in out if says else "cut at" not in out and "nothing is cut" not in out
    assert "<|endoftext|> stands in the documents 1 times, as plain text: '--separator" in out


def test_end_tokens_that_stand_in_a_text_as_plain_text_are_said(tmp_path, capsys):
    """T2 with another tokenizer: its own end of text separates the file, and was spelled."""
    own = BPETokenizer.train(MARKED, 270, special_tokens=["<s>", "</s>"])
    own.save(tmp_path / "my.json")
    (tmp_path / "t.txt").write_text(MARKED.replace("<|endoftext|>", "</s>"))
    run = [
        "prepare",
        tmp_path / "t.txt",
        "--tokenizer",
        tmp_path / "my.json",
        "--end-token",
        "</s>",
    ]
    assert llmlib(*run, "--out", tmp_path / "p") == 0
    said = "</s> stands in the documents 200 times, as plain text: '--separator=</s>' would cut"
    assert said in capsys.readouterr().out
    assert llmlib(*run, "--separator=</s>", "--out", tmp_path / "q") == 0
    out = capsys.readouterr().out
    assert "as plain text" not in out and "200 documents, cut at 200 times '</s>'" in out


@pytest.mark.slow
def test_a_tokenizer_learns_no_separator_and_evaluation_ends_documents(tmp_path, capsys):
    (tmp_path / "t.txt").write_text(MARKED)
    out = tmp_path / "my.json"
    assert llmlib("tokenizer", tmp_path / "t.txt", "--vocab-size", 290, "--out", out) == 0
    learned = [token for token, i in load_tokenizer(out)._ids.items() if i > 255]
    assert learned and not any(b"|" in token for token in learned)
    char = ["--kind", "char", "--out", tmp_path / "char.json"]
    assert llmlib("tokenizer", tmp_path / "t.txt", *char) == 0
    assert "|" not in json.loads((tmp_path / "char.json").read_text())["tokens"]
    assert llmlib("prepare", tmp_path / "t.txt", "--tokenizer", out, "--out", tmp_path / "p") == 0
    run = ["train", tmp_path / "p", *TINY[2:], "--max-steps", 1, "--out", tmp_path / "run"]
    assert llmlib(*run) == 0
    capsys.readouterr()
    evaluate = ["evaluate", "--checkpoint", tmp_path / "run", "--device", "cpu", "--json"]
    assert llmlib(*evaluate, "--text", tmp_path / "t.txt") == 0
    found = json.loads(capsys.readouterr().out)
    tokenizer = load_tokenizer(out)
    assert found["n_tokens"] == 200 * (len(tokenizer.encode("A cat sat. The end.")) + 1)


@pytest.mark.slow
def test_a_run_is_evaluated_on_texts_that_are_read_as_its_own_was(tmp_path, capsys):
    lines = [json.dumps({"story": f"a tale ==== no {n}", "other": "x"}) for n in range(400)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    reading = ["--text-field", "story", "--separator", "===="]
    run = ["train", tmp_path / "s.jsonl", *TINY, "--max-steps", 1]
    assert llmlib(*run, *reading, "--out", tmp_path / "run") == 0
    evaluate = ["evaluate", "--checkpoint", tmp_path / "run", "--device", "cpu", "--json"]
    counts = []
    for flags in ([], reading, ["--separator", "none"], ["--text-field", "other"]):
        capsys.readouterr()
        assert llmlib(*evaluate, "--text", tmp_path / "s.jsonl", *flags) == 0
        counts.append(json.loads(capsys.readouterr().out)["n_tokens"])
    assert counts[0] == counts[1] > counts[3]
    # nothing is cut: the mark itself is there, and one end token less for each text
    assert counts[2] == counts[0] + 400 * 3


def test_all_forms_of_a_text_prepare_alike(tmp_path):
    text, texts = write_text(tmp_path).read_text(), tmp_path / "folder"
    documents = text.split("\n\n")
    texts.mkdir()
    for n, document in enumerate(documents):
        (texts / f"{n:04}.txt").write_text(document)
    rows = "\n".join(json.dumps({"body": document}) for document in documents)
    (tmp_path / "t.jsonl").write_text(rows)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(rows.encode("utf-16")))
    (tmp_path / "marked.txt").write_text("<|endoftext|>".join(documents))
    (tmp_path / "dos.txt").write_bytes("<|endoftext|>\r\n".join(documents).encode("utf-8-sig"))
    found = set()
    for name in ("folder", "t.jsonl", "t.jsonl.gz", "marked.txt", "dos.txt"):
        prepare(str(tmp_path / name), tmp_path / "p" / name, tokenizer="char", text_field="body")
        found.add((tmp_path / "p" / name / "train.npy").read_bytes())
    assert len(found) == 1
    assert (
        llmlib("prepare", tmp_path / "text.txt", "--tokenizer", "gpt2", "--out", tmp_path / "q")
        == 0
    )


@pytest.mark.slow
def test_names_win_and_say_so_and_a_path_is_a_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories").mkdir()
    (tmp_path / "stories" / "mine.txt").write_text("my own text is here " * 40)
    run = ["--stories", 60, "--context-length", 256, "--n-layers", 1, "--emb-dim", 16]
    run += ["--n-heads", 2, "--max-steps", 1, "--n-samples", 1, "--device", "cpu", "--preset"]
    assert llmlib("train", "stories", *run, "story-tiny", "--out", "a") == 0
    assert "./stories is what is here" in capsys.readouterr().err
    assert TokenData("a/data").about["rows"] == "documents"
    assert llmlib("train", "./stories", *TINY, "--max-steps", 1, "--out", "b") == 0
    assert "my own text" in spelled(TokenData("b/data"), "train")[0]
    assert llmlib("prepare", "./stories", "--tokenizer", "char", "--out", "p") == 0
    assert llmlib("train", "p", *TINY[2:], "--max-steps", 1, "--out", "c") == 0
    assert "optimizer: adamw" in (tmp_path / "c" / "config.yaml").read_text(), "no story recipe"
    shutil.move("p", "wiki")
    assert is_prepared("./wiki") and not is_prepared("wiki")


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 8, 20, 40, 70, 400])
@pytest.mark.parametrize("sizes", [(16, 8), (64, 1), (16, 64), (2, 2)])
def test_what_a_message_about_a_short_text_advises_works(tmp_path, capsys, n, sizes):
    (tmp_path / "t.txt").write_text("ab " * n)
    run = ["train", tmp_path / "t.txt", *TINY, "--val-fraction", 0.2, "--max-steps", 1]
    run += ["--context-length", sizes[0], "--batch-size", sizes[1], "--out", tmp_path / "run"]
    code = llmlib(*run)
    message = capsys.readouterr().err
    if code:
        assert "max_length" not in message and "stride" not in message
        advice = re.search(r"give ((--[a-z-]+ \d+ ?)+)", message)
        assert advice, message
        assert not (tmp_path / "run").exists()
        assert llmlib(*run, *shlex.split(advice[1])) == 0, message


@pytest.mark.slow
def test_too_few_stories_are_told_with_flags(tmp_path, capsys):
    run = [
        "train",
        "stories",
        "--stories",
        5,
        "--n-samples",
        1,
        "--device",
        "cpu",
        "--max-steps",
        1,
    ]
    run += ["--preset", "story-tiny", "--batch-size", 8, "--out", tmp_path / "run"]
    line = failure(capsys, *run)
    assert "--batch-size 4" in line and "--stories" in line
    assert llmlib(*run, "--batch-size", 4) == 0


@pytest.mark.parametrize("content", ["", " \n", "<|endoftext|>\n" * 9, "\ufeff", "a", "\n\nab\n"])
@pytest.mark.parametrize("command", ["prepare", "train", "tokenizer"])
def test_texts_with_next_to_nothing_are_refused_in_a_line(tmp_path, capsys, content, command):
    (tmp_path / "t.txt").write_text(content)
    flags = [] if command == "tokenizer" else ["--tokenizer", "char"]
    code = llmlib(command, tmp_path / "t.txt", *flags, "--out", tmp_path / "out.json")
    if command == "tokenizer" and content.strip("\ufeff\n ") in ("a", "ab"):
        assert code == 0
        return
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and ("is empty" in line or "too short" in line)
    assert not (tmp_path / "out.json").exists()


def test_train_reads_the_field_that_it_is_told(tmp_path, capsys, monkeypatch):
    """It looked at the beginning of the text with another field than --text-field's."""
    monkeypatch.chdir(tmp_path)
    lines = write_text(tmp_path).read_text("utf-8").split("\n\n")
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"body": line}) for line in lines))
    flags = ["--text-field", "body", "--max-steps", 1, "--eval-every", 1]
    assert "in the field 'text'" in failure(capsys, "train", "t.jsonl", *TINY, "--out", "r")
    assert llmlib("train", "t.jsonl", *TINY, *flags, "--out", "r") == 0
    assert llmlib("train", "t.jsonl", "--resume", "r", "--max-steps", 2) == 0
