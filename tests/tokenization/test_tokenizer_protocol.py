"""Six tokenizers, one interface: the same tests for all, and one reader for all their files."""

import json
import shutil

import numpy as np
import pytest
import tiktoken
import torch

from llmlib import stories
from llmlib.checks import FileError
from llmlib.files import home
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import KINDS, kind_of, load_tokenizer
from llmlib.tokenization.splitting import PATTERNS
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer, gpt2_tokenizer
from llmlib.tokenization.unigram import UnigramTokenizer
from llmlib.tokenization.wordpiece import WordPieceTokenizer
from llmlib.tokenization.words import CharTokenizer, WordTokenizer

TEXT = "\n".join(story.text for story in stories.tell_many(200, seed=1)) + " naïve 🦊"
SENTENCE = 'Mia was a little princess. "Thank you, Tom!" said Mia.'
NANO = home() / "gpt2" / "nano"

MAKERS = {
    "word": lambda: WordTokenizer.from_text(TEXT),
    "char": lambda: CharTokenizer.from_text(TEXT),
    "bpe": lambda: BPETokenizer.train(TEXT, 500, special_tokens=[END_OF_TEXT]),
    "wordpiece": lambda: WordPieceTokenizer.train(TEXT, 300),
    "unigram": lambda: UnigramTokenizer.train(TEXT, 500),
    "tiktoken": lambda: TiktokenTokenizer.load(NANO),
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


def keeps_white_space(tokenizer):
    return not isinstance(tokenizer, (WordTokenizer, WordPieceTokenizer))


def test_a_text_comes_back(tokenizer):
    assert tokenizer.decode(tokenizer.encode(SENTENCE)) == SENTENCE
    if keeps_white_space(tokenizer):
        text = SENTENCE + "\n\n two  spaces "
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""


def test_ids_are_whole_numbers_below_the_size_of_the_vocabulary(tokenizer):
    ids = tokenizer.encode(TEXT[:2000])
    assert type(ids) is list and {type(i) for i in ids} == {int}
    assert min(ids) >= 0 and max(ids) < tokenizer.vocab_size
    highest = max(tokenizer.special_tokens.values())
    assert highest == tokenizer.vocab_size - 1  # here the special tokens come last


def test_ids_come_in_any_form(tokenizer):
    ids = tokenizer.encode(SENTENCE)
    for form in (tuple(ids), iter(ids), np.array(ids), torch.tensor(ids)):
        assert tokenizer.decode(form) == SENTENCE


def test_a_special_token_in_a_text_is_refused_unless_it_is_allowed(tokenizer):
    end = tokenizer.special_tokens[END_OF_TEXT]
    text = f"Mia{END_OF_TEXT}Tom"
    with pytest.raises(ValueError, match="allowed_special"):
        tokenizer.encode(text)
    parts = [*tokenizer.encode("Mia"), end, *tokenizer.encode("Tom")]
    assert tokenizer.encode(text, allowed_special="all") == parts
    assert tokenizer.encode(text, allowed_special={END_OF_TEXT}) == parts
    assert tokenizer.encode(END_OF_TEXT, allowed_special="all") == [end] == [tokenizer.eot_token]
    assert END_OF_TEXT in tokenizer.decode(parts)


def test_a_special_token_that_is_only_text_is_read_as_text(tokenizer):
    text = f"Mia{END_OF_TEXT}Tom"
    plain = tokenizer.encode(text, disallowed_special=())
    assert tokenizer.special_tokens[END_OF_TEXT] not in plain and len(plain) > 3
    if isinstance(tokenizer, (BPETokenizer, TiktokenTokenizer, UnigramTokenizer)):
        assert tokenizer.decode(plain) == text  # the others do not know every sign in it


@pytest.mark.parametrize("wrong", [-1, 0, 1, 10**9])
def test_an_id_that_no_token_has_is_refused(tokenizer, wrong):
    wrong = wrong if wrong < 0 else tokenizer.vocab_size + wrong
    allowed = f"ids are 0 to {tokenizer.vocab_size - 1}"
    with pytest.raises(ValueError, match=f"{wrong} is not in the vocabulary: {allowed}"):
        tokenizer.decode([0, wrong])


@pytest.mark.parametrize("wrong", [b"Mia", None, 3, ["Mia"]])
def test_only_a_string_can_be_encoded(tokenizer, wrong):
    with pytest.raises(TypeError, match="takes a string, not"):
        tokenizer.encode(wrong)


def test_a_single_token_is_looked_up(tokenizer):
    assert tokenizer.token_to_id(END_OF_TEXT) == tokenizer.special_tokens[END_OF_TEXT]
    assert tokenizer.token_to_id("a") == tokenizer.encode("a")[0]
    for missing in ("xyzzy", "", "\ud83e"):
        assert tokenizer.token_to_id(missing) is None
    if UNKNOWN in tokenizer.special_tokens:
        assert tokenizer.token_to_id(UNKNOWN) == tokenizer.special_tokens[UNKNOWN]


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    for again in (
        type(tokenizer).load(tmp_path / "tokenizer.json"),
        load_tokenizer(tmp_path / "tokenizer.json"),
        load_tokenizer(str(tmp_path)),
    ):
        assert again.vocab_size == tokenizer.vocab_size
        assert again.special_tokens == tokenizer.special_tokens
        assert again.encode(TEXT) == tokenizer.encode(TEXT)
        assert kind_of(again) == kind_of(tokenizer)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_every_kind_is_known_by_its_name(tokenizer):
    kind = KINDS[kind_of(tokenizer)]
    assert isinstance(tokenizer, kind) or kind is BPETokenizer
    assert "<|endoftext|>" in kind.from_text(TEXT[:20_000], 400).special_tokens


# The one reader


def test_gpt2_is_a_name():
    assert load_tokenizer("gpt2") is gpt2_tokenizer()
    assert load_tokenizer("gpt2").encode("Every effort moves you") == [6109, 3626, 6100, 345]
    assert load_tokenizer("gpt2").token_to_id(" the") == 262


@pytest.mark.parametrize(
    "names", [("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json"), ("vocab.bpe",)]
)
@pytest.mark.parametrize("by_file", [True, False])
def test_gpt2s_two_files_come_with_tiktoken_at_work(tmp_path, names, by_file):
    for name, original in zip(names, ("vocab.bpe", "encoder.json")):
        shutil.copy(NANO / original, tmp_path / name)
    tokenizer = load_tokenizer(tmp_path / names[0] if by_file else tmp_path)
    ours = BPETokenizer.load(NANO)
    assert isinstance(tokenizer, TiktokenTokenizer)
    assert tokenizer.special_tokens == ours.special_tokens == {END_OF_TEXT: 511}
    assert tokenizer.encode(TEXT) == ours.encode(TEXT)


def test_files_whose_ids_are_not_the_order_of_the_merges_come_as_our_bpe(tmp_path):
    shutil.copy(NANO / "vocab.bpe", tmp_path)
    ids = json.loads((NANO / "encoder.json").read_text(encoding="utf-8"))
    ids = {token: (number + 1) % len(ids) for token, number in ids.items()}  # the special one first
    (tmp_path / "encoder.json").write_text(json.dumps(ids), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, BPETokenizer) and tokenizer.special_tokens == {END_OF_TEXT: 0}
    shifted = [i + 1 for i in BPETokenizer.load(NANO).encode(TEXT)]
    assert tokenizer.encode(TEXT) == shifted
    with pytest.raises(
        FileError, match=r"encoder\.json: .*the id of '!' is 1, by vocab\.bpe it is 0"
    ):
        TiktokenTokenizer.load(tmp_path)


def test_a_file_of_tiktoken_has_no_special_tokens(tmp_path):
    MAKERS["bpe"]().save(tmp_path / "mine.tiktoken")
    tokenizer = load_tokenizer(tmp_path / "mine.tiktoken")
    assert tokenizer.encode(SENTENCE) == MAKERS["bpe"]().encode(SENTENCE)
    assert tokenizer.special_tokens == {}
    with pytest.raises(KeyError):
        tokenizer.eot_token  # noqa: B018


@pytest.mark.parametrize("form", ["tokenizer.json", "mine.tiktoken", "folder"])
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_tiktoken_writes_what_our_bpe_writes(tmp_path, form, pattern):
    ours = BPETokenizer.train(TEXT, 400, pattern=pattern, special_tokens=[END_OF_TEXT])
    encoding = tiktoken.Encoding(
        "ours",
        pat_str=PATTERNS[pattern],
        mergeable_ranks=ours.vocabulary().tokens,
        special_tokens=ours.special_tokens,
    )
    theirs = TiktokenTokenizer(encoding)
    assert theirs.encode(TEXT) == ours.encode(TEXT)
    if (pattern, form) == ("gpt4", "folder"):
        with pytest.raises(ValueError, match="cannot say how a text is split"):
            theirs.save(tmp_path / form)
        return
    for name, tokenizer in (("ours", ours), ("theirs", theirs)):
        (tmp_path / name).mkdir()
        tokenizer.save(tmp_path / name / form)
    for path in (tmp_path / "ours").rglob("*"):
        other = tmp_path / "theirs" / path.relative_to(tmp_path / "ours")
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "", "a.json: it is not JSON"),
        ("a.json", "[1, 2]", "a.json: it is not a JSON object"),
        ("a.json", "<html>", "It is a page that a server sent in its place"),
        (
            "a.json",
            '{"tokenizer": "GPT"}',
            "it holds a GPT: there are WordTokenizer, CharTokenizer",
        ),
        ("a.json", '{"tokenizer": "WordTokenizer", "tokens": "ab"}', "not a vocabulary that Word"),
        (
            "a.json",
            '{"model": {"type": "Unigram"}}',
            "holds a Unigram tokenizer",
        ),
        ("a.txt", "hello", "a.txt: it is not JSON"),
        ("a.tiktoken", "YQ== 0\nYWJj 1\n", "no merges of earlier tokens lead to the token b'abc'"),
        ("a.bpe", "#version: 0.2\na b\nab cd\n", "merge 1 is 'ab cd': merges join two tokens"),
        ("a.bpe", "version https://git-lfs.github.com/spec/v1\n", "It is a Git LFS pointer"),
    ],
)
def test_a_file_that_is_not_a_tokenizer_is_refused_with_the_reason(tmp_path, name, content, words):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(FileError) as caught:
        load_tokenizer(tmp_path / name)
    assert words in str(caught.value) and name in str(caught.value)


def test_a_place_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder absent"):
        load_tokenizer("absent")
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json, vocab\.bpe with encoder\.json"):
        load_tokenizer(tmp_path)
