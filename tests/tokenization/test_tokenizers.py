"""Tokenizers: what comes back, what is refused, and that GPT-2's is the real one."""

import json
import os
import re
import subprocess
import sys

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib import files, stories
from llmlib.files import home
from llmlib.tokenization import gpt2
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN, split_special
from llmlib.tokenization.gpt2 import derive_encoder_json, gpt2_encoding
from llmlib.tokenization.words import CharTokenizer, WordTokenizer, join_words, split_words

KINDS = [CharTokenizer, WordTokenizer]
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXT = 'Once upon a time, there was a king. "Hello!" said the king.'


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(UNICODE)
def test_characters_round_trip_any_text_made_of_known_ones(text):
    tokenizer = CharTokenizer(sorted(set(text)))
    assert tokenizer.decode(tokenizer.encode(text, disallowed_special=())) == text


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(UNICODE)
def test_words_lose_white_space_and_nothing_else(text):
    tokenizer = WordTokenizer(sorted(set(split_words(text))))
    ids = tokenizer.encode(text, disallowed_special=())
    assert re.sub(r"\s", "", tokenizer.decode(ids)) == re.sub(r"\s", "", text)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(UNICODE)
def test_gpt2_round_trips_any_text(text):
    encoding = gpt2_encoding()
    assert encoding.decode(encoding.encode(text, disallowed_special=())) == text


def test_stories_come_back_exactly_and_are_cut_as_their_world_cuts_them():
    for story in stories.tell_many(2000, seed=5):
        assert join_words(split_words(story.text)) == story.text
        assert split_words(story.text) == stories.split_words(story.text)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_stable_and_special_tokens_come_last(kind):
    tokenizer = kind.from_text(TEXT)
    assert tokenizer.tokens[:-2] == sorted(set(kind.split(TEXT)))
    assert tokenizer.special_tokens == {
        UNKNOWN: tokenizer.vocab_size - 2,
        END_OF_TEXT: tokenizer.vocab_size - 1,
    }


def test_a_limited_vocabulary_keeps_the_most_frequent_words():
    tokenizer = WordTokenizer.from_text("a a a b b c d", vocab_size=4)
    assert tokenizer.tokens == ["a", "b", UNKNOWN, END_OF_TEXT]
    assert tokenizer.encode("a c b") == [0, 2, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_pieces_become_the_unknown_token(kind):
    tokenizer = kind.from_text("a b")
    assert tokenizer.encode("z") == [tokenizer.special_tokens[UNKNOWN]]
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("special", [UNKNOWN, END_OF_TEXT])
def test_special_tokens_in_a_text_are_refused_allowed_or_escaped(kind, special):
    tokenizer = kind.from_text(TEXT + special)
    number = tokenizer.special_tokens[special]
    with pytest.raises(ValueError, match="allowed_special"):
        tokenizer.encode(f"king{special}king")
    king = tokenizer.encode("king")
    for allowed in ("all", {special}):
        assert tokenizer.encode(f"king{special}king", allowed_special=allowed) == [
            *king,
            number,
            *king,
        ]
    escaped = tokenizer.encode(f"king{special}king", disallowed_special=())
    assert number not in escaped and len(escaped) > 3


def test_one_special_token_can_be_allowed_while_another_is_still_refused():
    tokenizer = CharTokenizer.from_text(TEXT)
    with pytest.raises(ValueError, match=re.escape(repr(UNKNOWN))):
        tokenizer.encode(END_OF_TEXT + UNKNOWN, allowed_special={END_OF_TEXT})


def test_of_two_special_tokens_at_one_place_the_longer_is_taken():
    special = ["<a>", "<a><b>", "<b>"]
    parts = split_special("x<a><b><a>y<b>", special, allowed_special="all")
    assert parts == [("x", False), ("<a><b>", True), ("<a>", True), ("y", False), ("<b>", True)]
    parts = split_special("<a><b>", special, {"<a>"}, disallowed_special=())
    assert parts == [("<a>", True), ("<b>", False)]


def test_a_text_that_merely_looks_special_is_not():
    assert split_special("a.b", ["."], (), disallowed_special=()) == [("a.b", False)]
    assert split_special("axb", ["."], "all") == [("axb", False)]
    assert split_special("", ["."], "all") == []
    # a word that was allowed but is not a special token stays text
    assert split_special("a word", ["."], {"word"}) == [("a word", False)]


def test_special_tokens_work_as_in_tiktoken():
    ours, theirs = CharTokenizer.from_text(TEXT), gpt2_encoding()
    for tokenizer, end in ((ours, ours.special_tokens[END_OF_TEXT]), (theirs, theirs.eot_token)):
        with pytest.raises(ValueError):
            tokenizer.encode(END_OF_TEXT)
        assert tokenizer.encode(END_OF_TEXT, allowed_special="all") == [end]
        assert tokenizer.encode(END_OF_TEXT, allowed_special={END_OF_TEXT}) == [end]
        assert end not in tokenizer.encode(END_OF_TEXT, disallowed_special=())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [-1, "first beyond", 10**6])
def test_ids_out_of_range_are_named(kind, wrong):
    tokenizer = kind.from_text(TEXT)
    wrong = tokenizer.vocab_size if wrong == "first beyond" else wrong
    allowed = f"ids are 0 to {tokenizer.vocab_size - 1}"
    with pytest.raises(ValueError, match=f"{wrong} is not in the vocabulary: {allowed}"):
        tokenizer.decode([0, wrong])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [b"bytes", None, 3, ["a"]])
def test_only_text_can_be_encoded(kind, wrong):
    with pytest.raises(TypeError, match="takes a string, not"):
        kind.from_text(TEXT).encode(wrong)


def test_a_vocabulary_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="empty text"):
        WordTokenizer.from_text("  \n ")
    with pytest.raises(ValueError, match="give at least 3"):
        WordTokenizer.from_text("a b", vocab_size=2)
    with pytest.raises(ValueError, match="'a' occurs more often"):
        WordTokenizer(["a", "b", "a"])
    with pytest.raises(ValueError, match="leave it out"):
        WordTokenizer(["a", END_OF_TEXT])
    for tokens in ("abc", ["a", ""], ["a", 1]):
        with pytest.raises(TypeError, match="list of strings"):
            CharTokenizer(tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind, tmp_path):
    tokenizer = kind.from_text(TEXT + " π 🦊 \u2028 \\ \x00")
    tokenizer.save(tmp_path / "vocabulary.json")
    assert kind.load(tmp_path / "vocabulary.json").tokens == tokenizer.tokens
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"tokenizer": "WordTokenizer"}', '{"tokens": ["a"]}', "null"]
)
def test_a_file_that_is_not_a_vocabulary_is_refused(content, tmp_path):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"not a vocabulary that WordTokenizer\.save"):
        WordTokenizer.load(path)


def test_a_file_of_another_tokenizer_or_of_no_text_is_refused(tmp_path):
    CharTokenizer.from_text(TEXT).save(tmp_path / "characters.json")
    with pytest.raises(
        ValueError, match=r"holds a CharTokenizer: load it with CharTokenizer\.load"
    ):
        WordTokenizer.load(tmp_path / "characters.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a vocabulary"):
        WordTokenizer.load(tmp_path / "binary.json")
    with pytest.raises(FileNotFoundError):
        WordTokenizer.load(tmp_path / "absent.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.json"
    WordTokenizer.from_text("old").save(path)

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        WordTokenizer.from_text("new").save(path)
    assert WordTokenizer.load(path).tokens[0] == "old"


def test_encoder_json_follows_from_vocab_bpe():
    vocab_bpe = (home() / "gpt2" / "vocab.bpe").read_text(encoding="utf-8")
    encoder = json.loads(derive_encoder_json(vocab_bpe))
    assert len(encoder) == 50257 and list(encoder.values()) == list(range(50257))
    assert encoder["!"] == 0 and encoder["Ġ"] == 220 and encoder["Ġthe"] == 262
    assert encoder["<|endoftext|>"] == 50256


@pytest.mark.slow
def test_gpt2_works_with_no_network_and_leaves_the_users_cache_alone(tmp_path):
    """In a separate process, in which any connection fails."""
    program = """
import os, socket
def refuse(*_, **__): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
before = dict(os.environ)
from llmlib.tokenization.gpt2 import gpt2_encoding
import tiktoken
assert gpt2_encoding() is tiktoken.get_encoding("gpt2")
assert dict(os.environ) == before
print(tiktoken.get_encoding("gpt2").encode("Every effort moves you"))
"""
    for cache in (None, tmp_path):
        environment = {k: v for k, v in os.environ.items() if k != "TIKTOKEN_CACHE_DIR"}
        if cache:
            environment["TIKTOKEN_CACHE_DIR"] = str(cache)
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert run.stdout.strip() == "[6109, 3626, 6100, 345]", run.stderr
    assert not list(tmp_path.iterdir())


def test_a_changed_vocabulary_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "gpt2").mkdir()
    real = (home() / "gpt2" / "vocab.bpe").read_bytes()
    (tmp_path / "gpt2" / "vocab.bpe").write_bytes(real.replace(b"\nh e\n", b"\ne h\n"))
    monkeypatch.setattr(gpt2, "shipped", lambda name: tmp_path / name)
    with pytest.raises(ValueError, match="not GPT-2's vocabulary"):
        gpt2_encoding.__wrapped__()  # past the cache


def test_gpt2_is_the_published_one():
    encoding = gpt2_encoding()
    assert isinstance(encoding, tiktoken.Encoding) and encoding.n_vocab == 50257
    assert encoding.encode("Every effort moves you") == [6109, 3626, 6100, 345]
    assert encoding.encode("The dog") == [464, 3290]
