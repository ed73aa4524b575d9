"""A BPE over characters with byte fallback: learned and applied as Hugging Face does it."""

import copy
import json
import pickle
import random

import pytest
import tokenizers as hf

from llmlib.data import corpora
from llmlib.generation.streaming import TextStream
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN
from llmlib.tokenization.char_bpe import train_characters
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.interface import common_length

SIGNS = ["the", " ", "  ", "\n", "é", "🦊", "狐", ".", "fox", "▁", "ß", "<0x41>", "\x00"]


@pytest.fixture(scope="module")
def text():
    return corpora.load("wiki")[:60_000] + " 狐狸 naïve"


@pytest.fixture(scope="module")
def tokenizer(text):
    return train_characters(text, 700, max_characters=60)


def random_text(rng, signs=SIGNS):
    return "".join(rng.choices(signs, k=rng.randint(0, 12)))


@pytest.mark.parametrize("scheme", ["never", "first"])
@pytest.mark.parametrize("rules", [{}, {"min_frequency": 5}, {"max_token_length": 4}], ids=str)
def test_the_merges_are_those_of_hugging_faces_trainer(text, scheme, rules):
    theirs = hf.Tokenizer(hf.models.BPE(byte_fallback=True))
    theirs.pre_tokenizer = hf.pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=500, special_tokens=[END_OF_TEXT], show_progress=False, **rules
    )
    theirs.train_from_iterator([text], trainer)
    expected = json.loads(theirs.to_str())["model"]["merges"]
    ours = train_characters(text, 500 + 256, add_prefix_space=scheme == "first", **rules)
    assert ours.content["model"]["merges"] == expected and len(expected) > 50


def test_hugging_face_reads_it_and_gives_the_same_ids_and_texts(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path)
    rng = random.Random(0)
    for _ in range(300):
        text = random_text(rng)
        ids = tokenizer.encode(text)
        assert ids == theirs.encode(text).ids == again.encode(text)
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_any_text_comes_back(tokenizer):
    rng = random.Random(1)
    signs = [sign for sign in SIGNS if sign not in ("▁", "<0x41>")]
    for _ in range(300):
        text = random_text(rng, signs)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    codes = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "🦊".encode()]
    assert tokenizer.encode("🦊") == codes
    with_space = train_characters("the fox the fox", 300, add_prefix_space=True)
    assert with_space.encode("the") == with_space.encode(" the")
    assert with_space.decode(with_space.encode("the fox")) == "the fox"


def test_without_byte_fallback_rare_characters_are_unknown():
    tokenizer = train_characters("the fox the fox", 30, byte_fallback=False)
    unknown = tokenizer.token_to_id(UNKNOWN)
    assert tokenizer.encode("狐t") == [unknown, tokenizer.token_to_id("t")]
    for nothing in ("", []):
        with pytest.raises(ValueError, match="empty text"):
            train_characters(nothing, 300)
    with pytest.raises(ValueError, match="give at least 260"):
        train_characters("abc", 256)


def test_streams_of_bytes_and_tokens_are_the_decoded_text(tokenizer):
    """A byte that does not fit turns those before it into U+FFFD, too."""
    rng = random.Random(2)
    halves = [tokenizer.token_to_id(f"<0x{b:02X}>") for b in "é🦊狐".encode()]
    for _ in range(500):
        ids = [rng.choice([rng.choice(halves), rng.randrange(700)]) for _ in range(10)]
        cut = rng.randint(0, 10)
        stream = TextStream(tokenizer, ids[:cut])
        shown = "".join([*map(stream.add, ids[cut:]), stream.rest()])
        whole, prompt = tokenizer.decode(ids), tokenizer.decode(ids[:cut])
        prompt = tokenizer.settled(ids[:cut]) if prompt.endswith("\ufffd") else prompt
        assert shown == whole[common_length(prompt, whole) :]


def test_copies_and_pickles_are_the_same_tokenizer(tokenizer, text):
    ids = tokenizer.encode(text[:2000])
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert other.encode(text[:2000]) == ids and other.decode(ids) == text[:2000]


def test_special_tokens_are_not_learned_from(text):
    tokenizer = train_characters(f"ab{END_OF_TEXT}ab{END_OF_TEXT}", 300)
    assert tokenizer.content["model"]["merges"] == [["a", "b"]]
    assert tokenizer.encode(END_OF_TEXT, allowed_special="all") == [tokenizer.eot_token]


def test_nothing_is_merged_across_a_character_that_is_no_token():
    tokenizer = train_characters(["a狐b"] * 9 + ["ba"] * 4, 300, max_characters=2)
    assert tokenizer.content["model"]["merges"][0] == ["b", "a"]
