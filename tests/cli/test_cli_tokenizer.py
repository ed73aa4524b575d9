"""`llmlib tokenizer`: one of each kind is learned, written, and read again; mistakes are named."""

import json

import pytest
import tokenizers as hf

from llmlib.cli.prepare import open_tokenizer
from llmlib.cli.tokenizer import tokenizer_command
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import KINDS, kind_of

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
