"""`llmlib tokenizer`: one of each kind is learned, written, and read again; mistakes are named."""

import json
import shlex

import pytest
import tokenizers as hf

from llmlib.__main__ import main
from llmlib.cli.prepare import encode_documents, open_tokenizer, prepare
from llmlib.cli.tokenizer import tokenizer_command
from llmlib.tokenization import learning
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import KINDS, kind_of
from llmlib.tokenization.prepared import load_prepared_tokenizer

TEXT = "The naïve fox 🦊 said: \"It's 1969, isn't it?\"\n\n" * 20


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tmp_path / "text.txt")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_learned_written_and_read_again(tmp_path, text_file, capsys, kind):
    out = tmp_path / "my.json"
    assert tokenizer_command(text_file, str(out), kind=kind) == 0
    assert "bytes per token" in capsys.readouterr().out
    tokenizer = open_tokenizer(out)
    assert kind_of(tokenizer) == kind
    ids = tokenizer.encode(TEXT)
    assert min(ids) >= 0 and max(ids) < tokenizer.vocab_size
    assert END_OF_TEXT in tokenizer.special_tokens
    with pytest.raises(ValueError, match="special token"):
        tokenizer.encode(f"a{END_OF_TEXT}")
    if kind in ("char", "bpe", "unigram"):
        assert tokenizer.decode(ids).strip() == TEXT.strip()


@pytest.mark.parametrize("name", ["my.json", "folder"])
def test_a_bpe_is_written_in_the_format_its_name_asks_for(tmp_path, text_file, name):
    tokenizer_command(text_file, str(tmp_path / name), vocab_size=280)
    assert BPETokenizer.load(tmp_path / name).vocab_size == 280
    assert open_tokenizer(tmp_path / name).vocab_size == 280
    if name == "my.json":
        assert hf.Tokenizer.from_file(str(tmp_path / name)).get_vocab_size() == 280


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "bpo"}, "must be one of word, char, bpe"),
        ({"vocab_size": 100}, "too small"),
        ({"kind": "char", "pattern": "gpt4"}, "has no pattern"),
        ({"kind": "word", "out": "a.tiktoken"}, "written to a .json file"),
        ({"out": "a.tiktoken"}, "holds no special tokens"),
        ({"out": "a.txt"}, "change --out to a name that ends in .json, or to a folder"),
        ({"pattern": "gpt2 "}, "there is no pattern 'gpt2 ': did you mean 'gpt2'"),
        ({"pattern": r"\w+|\W"}, "would read the pattern"),
        ({"pattern": "gpt4", "out": "folder"}, "cannot say how a text is split"),
        ({"out": "none/there.json"}, "is not a folder"),
        ({"out": "text.txt"}, "exists"),
    ],
)
def test_a_mistake_is_named_and_leaves_no_file(tmp_path, text_file, change, words):
    before = sorted(tmp_path.iterdir())
    change = {"out": "my.json"} | change
    with pytest.raises(ValueError, match=words):
        tokenizer_command(text_file, **change | {"out": str(tmp_path / change["out"])})
    assert sorted(tmp_path.iterdir()) == before


def test_what_the_file_cannot_hold_is_said_before_anything_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr("llmlib.cli.tokenizer.survey", None)  # not even the text is read
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    for change in (
        {"out": "a.txt"},
        {"out": "folder", "pattern": "gpt4"},
        {"pattern": "[[:alpha:]]"},
    ):
        settings = {"out": "my.json"} | change
        with pytest.raises(ValueError, match=r"--out|split|pattern"):
            tokenizer_command(str(text), **settings | {"out": str(tmp_path / settings["out"])})


def test_the_command_that_is_printed_reads_the_text_in_the_same_way(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"story": f"tale {n} ==== tale {n}"}) for n in range(40)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    flags = {"text_field": "story", "separator": "===="}
    tokenizer_command("s.jsonl", "my.json", vocab_size=280, **flags)
    said = capsys.readouterr().out
    assert "s.jsonl: 80 documents, cut at 40 times '===='" in said
    command = said.splitlines()[-1].removeprefix("train with it: llmlib train ")
    data, *given = shlex.split(command)
    assert given == ["--tokenizer", "my.json", "--separator=====", "--text-field=story"]
    assert main(["prepare", data, *given, "--out", "prepared"]) == 0


def test_learning_from_a_part_of_the_text_is_said(text_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(learning.ENOUGH, "bpe", 500)
    tokenizer_command(text_file, str(tmp_path / "my.json"), vocab_size=280)
    assert "the tokenizer learns from one piece in 2 of the text" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tokenizer": "GPT"}', '{"tokenizer": []}'])
def test_a_file_that_is_not_a_tokenizer_is_refused_by_name(tmp_path, content):
    (tmp_path / "my.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"my\.json"):
        open_tokenizer(tmp_path / "my.json")


def test_a_tokenizer_that_cannot_end_a_document_is_refused(tmp_path):
    BPETokenizer([(b"a", b"b")]).save(tmp_path / "my.json")
    assert json.loads((tmp_path / "my.json").read_text(encoding="utf-8"))["added_tokens"] == []
    with pytest.raises(ValueError, match="stand between documents"):
        open_tokenizer(tmp_path / "my.json")
    with pytest.raises(FileNotFoundError):
        open_tokenizer(tmp_path / "none.json")


def test_an_option_names_the_token_that_ends_a_document(tmp_path, text_file):
    special = ["<|begin_of_text|>", "<|end_of_text|>"]  # as in Llama 3
    ours = BPETokenizer.train(TEXT, 270, special_tokens=special)
    ours.save(tmp_path / "llama.json")
    settings = {"tokenizer": str(tmp_path / "llama.json")}
    with pytest.raises(
        ValueError, match=r"has no '?<\|endoftext\|>.*--end-token.*<\|end_of_text\|>"
    ):
        prepare(text_file, tmp_path / "prepared", **settings)
    about = prepare(text_file, tmp_path / "prepared", end_token=special[1], **settings)
    assert about["end_of_text"] == ours.special_tokens[special[1]] == 269
    again = load_prepared_tokenizer(tmp_path / "prepared")
    assert again.eot_token == 269 and again.end_token == special[1]


@pytest.mark.slow
def test_no_document_is_cut_where_an_added_token_takes_its_spaces(tmp_path):
    ours = BPETokenizer.train(TEXT, 270, special_tokens=[END_OF_TEXT])
    ours.save(tmp_path / "my.json")
    theirs = hf.Tokenizer.from_file(str(tmp_path / "my.json"))
    theirs.add_tokens([hf.AddedToken("<m>", rstrip=True), hf.AddedToken("\n\n\n")])
    theirs.normalizer = hf.normalizers.Lowercase()
    theirs.save(str(tmp_path / "lower.json"))
    theirs.normalizer = None
    theirs.save(str(tmp_path / "plain.json"))
    text = "A <m> b\n\n\n c" * 60_000  # more than is encoded at a time
    for name in ("plain.json", "lower.json"):
        tokenizer = open_tokenizer(tmp_path / name)
        ids, _ = encode_documents(tokenizer, [text])
        assert ids[:-1].tolist() == tokenizer.encode(text)
