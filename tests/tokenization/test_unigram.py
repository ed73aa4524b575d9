"""Unigram: sums equal lists of all cuts, EM never loses, and Hugging Face cuts the same way."""

import json
import math
import random
import time
from collections import Counter

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import corpora
from llmlib.tokenization import unigram
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.unigram import BYTES, Lattice, UnigramTokenizer, loss_without, train_pieces
from llmlib.tokenization.words import CharTokenizer

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def text():
    return corpora.load("wiki")[:150_000]


@pytest.fixture(scope="module")
def tokenizer(text):
    return UnigramTokenizer.train(text, 1200, seed_size=5000)


def random_pieces(rng, letters="abc", n=12):
    """Every letter, some longer pieces, and probabilities that sum to 1."""
    pieces = dict.fromkeys(letters)
    while len(pieces) < n:
        pieces["".join(rng.choices(letters, k=rng.randint(2, 4)))] = None
    weights = [rng.random() + 0.01 for _ in pieces]
    return {piece: weight / sum(weights) for piece, weight in zip(pieces, weights)}


def all_cuts(word, pieces):
    """Every way to cut a word into pieces, with its probability."""
    if not word:
        return {(): 1.0}
    return {
        (word[:end], *rest): pieces[word[:end]] * p
        for end in range(1, len(word) + 1)
        if word[:end] in pieces
        for rest, p in all_cuts(word[end:], pieces).items()
    }


def make_lattice(words, pieces):
    return Lattice(words, {piece: n for n, piece in enumerate(pieces)})


def hugging_face(tokenizer):
    vocabulary = [(token, tokenizer.scores.get(token, 0.0)) for token in tokenizer.tokens]
    model = hf.models.Unigram(vocabulary, unk_id=tokenizer.ids["<|unk|>"], byte_fallback=True)
    reference = hf.Tokenizer(model)
    reference.pre_tokenizer = hf.pre_tokenizers.Split(
        hf.Regex(unigram.SPACED_WORD.pattern), "isolated"
    )
    return reference


@pytest.mark.parametrize("seed", range(20))
def test_expected_counts_and_likelihood_equal_sums_over_all_cuts(seed):
    rng = random.Random(seed)
    pieces = random_pieces(rng)
    words = list({"".join(rng.choices("abc", k=rng.randint(1, 8))) for _ in range(6)})
    weights = np.array([float(rng.randint(1, 5)) for _ in words])
    counts, log_likelihood = make_lattice(words, pieces).expect(
        np.array(list(pieces.values())), weights
    )
    expected, total = Counter(), 0.0
    for word, weight in zip(words, weights):
        cuts = all_cuts(word, pieces)
        total += weight * math.log(sum(cuts.values()))
        for cut, p in cuts.items():
            for piece in cut:
                expected[piece] += weight * p / sum(cuts.values())
    assert log_likelihood == pytest.approx(total)
    assert dict(zip(pieces, counts)) == pytest.approx({piece: expected[piece] for piece in pieces})


@pytest.mark.parametrize("seed", range(20))
def test_the_best_cut_is_the_best_of_all(seed):
    rng = random.Random(seed)
    pieces = random_pieces(rng)
    tokenizer = UnigramTokenizer({piece: math.log(p) for piece, p in pieces.items()})
    word = "".join(rng.choices("abc", k=9))
    cuts = all_cuts(word, pieces)
    best = max(cuts, key=cuts.get)
    assert tokenizer.viterbi(word) == best
    lattice = make_lattice([word], pieces)
    assert lattice.best(np.array(list(pieces.values())))[0] == pytest.approx(math.log(cuts[best]))


@pytest.mark.parametrize("seed", range(10))
def test_the_n_best_cuts_are_the_n_best_of_all(seed):
    rng = random.Random(seed)
    pieces = random_pieces(rng)
    tokenizer = UnigramTokenizer({piece: math.log(p) for piece, p in pieces.items()})
    word = "".join(rng.choices("abc", k=7))
    cuts = all_cuts(word, pieces)
    found = tokenizer.n_best(word, 5)
    expected = sorted(cuts.values(), reverse=True)[:5]
    assert [math.exp(score) for score, _ in found] == pytest.approx(expected)
    assert all(cuts[cut] == pytest.approx(math.exp(score)) for score, cut in found)
    assert len({cut for _, cut in tokenizer.n_best(word, 10**6)}) == len(cuts)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_sampled_cuts_come_as_often_as_they_should(alpha):
    pieces = random_pieces(random.Random(1))
    tokenizer = UnigramTokenizer({piece: math.log(p) for piece, p in pieces.items()})
    cuts = {cut: p**alpha for cut, p in all_cuts("abcab", pieces).items()}
    rng, n = random.Random(0), 4000
    drawn = Counter(tokenizer.sample("abcab", rng, alpha) for _ in range(n))
    assert set(drawn) <= set(cuts)
    for cut, weight in cuts.items():
        p = weight / sum(cuts.values())
        assert abs(drawn[cut] / n - p) < 5 * math.sqrt(p * (1 - p) / n) + 1e-3


def test_the_likelihood_rises_at_every_round_of_em(text):
    words = Counter(unigram.SPACED_WORD.findall(text))
    _, history = train_pieces(words, 600, seed_size=4000, rounds=4)
    assert len({n for n, _ in history}) > 5
    steps = [(a, b) for (n, a), (m, b) in zip(history, history[1:]) if n == m]
    assert all(after <= before + 1e-9 for before, after in steps)
    assert history[-1][0] == 600


def test_a_round_of_em_turns_expected_counts_into_probabilities():
    words = {"aab": 3, "ab": 2, "bb": 1}
    seeds = unigram.seed_pieces(words, 10)
    start = {piece: n / sum(seeds.values()) for piece, n in seeds.items()}
    expected = Counter()
    for word, n in words.items():
        cuts = all_cuts(word, start)
        for cut, p in cuts.items():
            expected.update(
                {piece: n * p * cut.count(piece) / sum(cuts.values()) for piece in set(cut)}
            )
    pieces, history = train_pieces(words, 100, seed_size=10, rounds=1)
    found = {piece: math.exp(score) for piece, score in pieces.items()}
    assert found == pytest.approx({x: expected[x] / expected.total() for x in seeds})
    assert len(history) == 1


def test_an_unknown_character_costs_what_it_costs_in_hugging_face():
    # p <q> rs costs 2 and, for the q, 10 more than the worst piece: 42. p qr s costs 31 and the s.
    for last, expected in ((-10.5, ["p", "qr", "s"]), (-11.5, ["p", "<0x71>", "rs"])):
        tokenizer = UnigramTokenizer({"p": -1.0, "qr": -30.0, "s": last, "rs": -1.0})
        assert tokenizer.split("pqrs") == expected
        assert tokenizer.encode("pqrs") == hugging_face(tokenizer).encode("pqrs").ids


def test_losing_a_piece_costs_what_its_best_other_cut_costs():
    pieces = {"a": 0.2, "b": 0.2, "c": 0.1, "ab": 0.3, "abc": 0.2}
    counts = np.array([5.0, 4.0, 0.0, 10.0, 7.0])
    loss = loss_without(list(pieces), np.array(list(pieces.values())), counts)
    assert np.isinf(loss[:3]).all()
    assert loss[3] == pytest.approx(10 * (math.log(0.3) - math.log(0.2 * 0.2)))
    assert loss[4] == pytest.approx(7 * (math.log(0.2) - math.log(0.3 * 0.1)))


def test_pruned_edges_are_those_of_a_lattice_rebuilt(text):
    words = list(Counter(unigram.SPACED_WORD.findall(text[:5000])))
    pieces = list(unigram.seed_pieces(Counter(words), 300))
    kept = np.array([len(piece) == 1 or n % 3 > 0 for n, piece in enumerate(pieces)])
    pruned = make_lattice(words, pieces)
    pruned.keep(kept)
    remaining = [piece for piece, stays in zip(pieces, kept) if stays]
    np.testing.assert_array_equal(pruned.edges, make_lattice(words, remaining).edges)


def test_hugging_face_cuts_the_same_way(tokenizer):
    wiki = corpora.load("wiki")[:600_000]
    ids = tokenizer.encode(wiki)
    assert ids == hugging_face(tokenizer).encode(wiki, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == wiki


@settings(max_examples=300, deadline=None)
@given(UNICODE)
def test_any_text_comes_back_and_hugging_face_agrees(tokenizer, text):
    ids = tokenizer.encode(text, disallowed_special=())
    assert tokenizer.decode(ids) == text
    if "<" not in text:  # there, a piece spelt like a byte is read as that byte
        assert ids == hugging_face(tokenizer).encode(text, add_special_tokens=False).ids


def test_a_text_that_spells_a_byte_is_not_taken_for_it(tokenizer):
    text = "<0x41> is not A"
    ids = tokenizer.encode(text)
    assert 0x41 not in ids and tokenizer.decode(ids) == text
    learnt = UnigramTokenizer.train("<0x41> " * 50, 300)
    assert not set(learnt.scores) & set(BYTES)  # signs, digits and letters are different words


def test_the_vocabulary_has_the_size_that_was_asked_for(tokenizer):
    assert tokenizer.vocab_size == 1200
    assert tokenizer.tokens[:256] == list(BYTES)
    assert tokenizer.special_tokens[END_OF_TEXT] == 1199
    assert sum(map(math.exp, tokenizer.scores.values())) == pytest.approx(1)


def test_random_cuts_of_a_text_decode_to_the_text(tokenizer, text):
    rng = random.Random(3)
    part = text[2000:3000] + " 🦊"
    cuts = {tuple(tokenizer.sample_ids(part, rng, alpha=0.2)) for _ in range(3)}
    assert len(cuts) == 3
    assert {tokenizer.decode(ids) for ids in cuts} == {part}


def test_saved_and_loaded_it_is_the_same(tokenizer, text, tmp_path):
    tokenizer.save(tmp_path / "unigram.json")
    loaded = UnigramTokenizer.load(tmp_path / "unigram.json")
    assert loaded.tokens == tokenizer.tokens and loaded.scores == tokenizer.scores
    with pytest.raises(ValueError, match="holds a UnigramTokenizer"):
        CharTokenizer.load(tmp_path / "unigram.json")


@pytest.mark.parametrize("pieces", [{}, {"a": 1}, {"a": "b"}, ["a"], 5, None, {"a": math.nan}])
def test_a_damaged_file_is_refused(pieces, tmp_path):
    path = tmp_path / "unigram.json"
    path.write_text(json.dumps({"tokenizer": "UnigramTokenizer", "pieces": pieces}))
    with pytest.raises(ValueError, match="not a vocabulary"):
        UnigramTokenizer.load(path)


def test_half_characters_are_joined_or_replaced_as_in_tiktoken(tokenizer):
    assert tokenizer.encode("a \ud800 b") == tokenizer.encode("a \ufffd b")
    assert tokenizer.encode("\ud83e\udd8a") == tokenizer.encode("🦊")
    rng = random.Random(0)
    assert tokenizer.decode(tokenizer.sample_ids("\ud83e\udd8a", rng)) == "🦊"


def test_special_tokens_in_a_text_are_refused_allowed_or_escaped(tokenizer):
    with pytest.raises(ValueError, match="allowed_special"):
        tokenizer.encode(f"a{END_OF_TEXT}")
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert tokenizer.encode(END_OF_TEXT, allowed_special="all") == [end]
    assert end not in tokenizer.encode(END_OF_TEXT, disallowed_special=())


def test_bytes_that_are_not_a_character_are_shown_as_such(tokenizer):
    assert tokenizer.decode([0xE2, 0x82]) == "\ufffd"
    assert tokenizer.decode(list("€".encode())) == "€"


@pytest.mark.parametrize(
    ("text", "size", "message"), [("", 500, "empty text"), ("abc", 260, "give at least 261")]
)
def test_training_says_what_is_missing(text, size, message):
    with pytest.raises(ValueError, match=message):
        UnigramTokenizer.train(text, size)


def test_rare_characters_are_written_as_bytes(text):
    tokenizer = UnigramTokenizer.train(text, 800, max_characters=40)
    assert sum(len(piece) == 1 for piece in tokenizer.scores) <= 40
    assert tokenizer.decode(tokenizer.encode(text[:5000])) == text[:5000]


def test_a_text_with_nothing_to_learn_from_gets_a_plain_message():
    endless = "ab" * 500_000
    start = time.process_time()
    for nothing in (endless, "z" * 5_400, ["狐" * 65]):
        with pytest.raises(ValueError, match="every word is longer than 64 characters"):
            UnigramTokenizer.from_text(nothing)
    for characters in (0, 1):
        with pytest.raises(ValueError, match="give a larger max_characters"):
            UnigramTokenizer.train("ab cd ba dc", 300, max_characters=characters)
    with pytest.raises(ValueError, match="empty text"):
        UnigramTokenizer.train([], 300)
    learned = UnigramTokenizer.train(f"the fox {endless}", 300)
    assert time.process_time() - start < 5
    assert learned.decode(learned.encode("the fox abab")) == "the fox abab"
