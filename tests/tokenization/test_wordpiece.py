"""WordPiece: each merge is the best by definition, and Hugging Face cuts the same way."""

import math
import random
import time
import unicodedata
from collections import Counter

import pytest
import tokenizers as hf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlib.data import corpora
from llmlib.tokenization import wordpiece
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN
from llmlib.tokenization.wordpiece import MergeTable, WordPieceTokenizer, letters

# Characters that old and new Unicode call the same: on the others, the reference may be behind.
OLD = [
    chr(n)
    for n in range(0x3000)
    if unicodedata.ucd_3_2_0.category(chr(n)) == unicodedata.category(chr(n)) not in ("Cn", "Cs")
]
UNICODE = st.text(st.sampled_from(OLD), max_size=60)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer.train(corpora.load("wiki")[:200_000], 1500)


def log_likelihood(words):
    """Of words (lists of symbols) with weights, under the frequencies of their own symbols."""
    counts = Counter()
    for word, weight in words:
        for symbol in word:
            counts[symbol] += weight
    total = sum(counts.values())
    return sum(n * math.log(n / total) for n in counts.values())


def joined(words, a, b):
    result = []
    for word, weight in words:
        parts = []
        for symbol in word:
            if parts and parts[-1] == a and symbol == b:
                parts[-1] = a + b.removeprefix("##")
            else:
                parts.append(symbol)
        result.append((parts, weight))
    return result


@pytest.mark.parametrize("seed", range(15))
def test_each_merge_is_the_one_that_raises_the_likelihood_most(seed):
    rng = random.Random(seed)
    counts = {
        "".join(rng.choices("abcd", k=rng.randint(1, 7))): rng.randint(1, 9) for _ in range(9)
    }
    words = [(letters(word), n) for word, n in counts.items()]
    table = MergeTable(counts)
    for _ in range(40):
        row = table.best()
        if row is None:
            assert all(len(word) == 1 for word, _ in words)
            break
        # a pair of twins may overlap itself (`aaa`), and its gain is then an estimate: left out
        pairs = {pair for word, _ in words for pair in zip(word, word[1:])}
        exact = {
            pair: log_likelihood(joined(words, *pair)) - log_likelihood(words)
            for pair in pairs
            if pair[0] != pair[1] and not collides(words, *pair)
        }
        assert table.count[row] > 0
        pair = (list(table.ids)[table.left[row]], list(table.ids)[table.right[row]])
        gain = wordpiece.gains(
            table.symbol_counts, table.left[[row]], table.right[[row]], table.count[[row]]
        )[0]
        if pair in exact:
            assert gain == pytest.approx(exact[pair])
        assert all(gain >= other - 1e-9 for other in exact.values())
        table.merge(row)
        words = joined(words, *pair)
        symbols = list(table.ids)
        assert [[symbols[ord(s)] for s in word] for word in table.words] == [w for w, _ in words]


def collides(words, a, b):
    """Whether the new symbol exists already, so that its counts add up."""
    return any(a + b.removeprefix("##") in word for word, _ in words)


def test_counts_stay_those_of_the_words():
    words = wordpiece.count_words(corpora.load("wiki")[:20_000])
    table = MergeTable(words)
    for _ in range(100):
        table.merge(table.best())
    symbols, pairs = Counter(), Counter()
    for word, weight in zip(table.words, table.weights):
        for symbol in word:
            symbols[ord(symbol)] += weight
        for pair in zip(word, word[1:]):
            pairs[pair] += weight
    assert {n: c for n, c in enumerate(table.symbol_counts) if c} == symbols
    assert {pair: table.count[row] for pair, row in table.rows.items() if table.count[row]} == pairs


def test_the_vocabulary_has_the_size_that_was_asked_for(tokenizer):
    assert tokenizer.vocab_size == 1500
    assert tokenizer.special_tokens == {UNKNOWN: 1498, END_OF_TEXT: 1499}
    assert len(set(tokenizer.tokens)) == 1500


def test_training_ends_when_nothing_is_left_to_join():
    tokenizer = WordPieceTokenizer.train("ab ab abc", 100)
    assert set(tokenizer.tokens[:-2]) == {"a", "##b", "##c", "ab", "abc"}


def test_greed_takes_the_longest_piece_and_gives_up_on_a_gap():
    tokenizer = WordPieceTokenizer(["un", "##a", "##able", "##b", "##l", "##e", "u", "able"])
    assert tokenizer.split("unable able") == ["un", "##able", "able"]
    assert tokenizer.split("unab unx") == ["un", "##a", "##b", UNKNOWN]
    assert tokenizer.split("##able") == [UNKNOWN, UNKNOWN, "able"]
    assert tokenizer.split("un" + "a" * 98) == ["un", *["##a"] * 98]
    assert tokenizer.split("un" + "a" * 99) == [UNKNOWN]


def hugging_face(tokenizer):
    """BERT's cased tokenizer, with a vocabulary of ours."""
    special = {"sep_token": END_OF_TEXT, "cls_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
    return hf.BertWordPieceTokenizer(
        tokenizer.ids, unk_token=UNKNOWN, lowercase=False, **special, mask_token=UNKNOWN
    )


@pytest.mark.slow
def test_hugging_face_cuts_all_of_wiki_the_same_way(tokenizer):
    wiki = corpora.load("wiki")
    ids = tokenizer.encode(wiki)
    assert ids == hugging_face(tokenizer).encode(wiki, add_special_tokens=False).ids


@settings(max_examples=500, deadline=None)
@given(UNICODE)
def test_hugging_face_agrees_on_any_text(tokenizer, text):
    ids = tokenizer.encode(text, disallowed_special=())
    assert ids == hugging_face(tokenizer).encode(text, add_special_tokens=False).ids


def test_pieces_join_to_words():
    tokenizer = WordPieceTokenizer(["the", "cat", "##s", "."])
    assert tokenizer.decode(tokenizer.encode("the  cats.")) == "the cats."
    assert tokenizer.decode([tokenizer.ids["##s"]]) == "##s"


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "wordpiece.json")
    assert WordPieceTokenizer.load(tmp_path / "wordpiece.json").tokens == tokenizer.tokens


def test_words_with_rare_letters_are_not_learnt_from():
    tokenizer = WordPieceTokenizer.train("aaa bbb aaa bbb aaaz", 20, max_letters=4)
    assert not any("z" in token for token in tokenizer.tokens)
    assert tokenizer.split("aaaz") == [UNKNOWN]


@pytest.mark.parametrize(
    ("text", "size", "message"), [(" \n", 50, "empty text"), ("abc", 4, "give at least 5")]
)
def test_training_says_what_is_missing(text, size, message):
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer.train(text, size)


def test_chinese_characters_stand_alone_as_in_bert():
    tokenizer = WordPieceTokenizer.from_text("北京的天气很好。\n上海的天气不好。\n")
    assert tokenizer.split("天气很好") == ["天", "气", "很", "好"]
    assert UNKNOWN not in tokenizer.split("北京天气不好。的的上海")
    # and so do words of other scripts as Hugging Face has them: kana, hangul and Thai go together
    mixed = WordPieceTokenizer.train("iPhoneを使う 한국어 ภาษาไทย 狐fox狐 " * 3, 200)
    reference = hugging_face(mixed)
    for text in (
        "iPhoneを使う",
        "한국어狐",
        "ภาษาไทย狐",
        "狐fox狐fox",
        "使用iPhone使用",
        "〇〆々狐",
    ):
        assert mixed.encode(text) == reference.encode(text, add_special_tokens=False).ids
    assert mixed.split("使う") == ["使", "う"]


SCRIPTS = [
    *"aZ9 .,!?-_'\"#$+<=>^`|~\t\n\r\v\f\x00\x07\x1c\x7f\x85\xa0\xad\u200b\u200d\u2028\ufeff\ufffd",
    *"é\u0301ßπ狐狸京〇々を使うカ한ไทย。、「」١٢🦊\ue000\U00020000\U0002b820\U0002f800ﷺ",
    "##", "the", "ing",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SCRIPTS), max_size=25).map("".join))
@example("\ufffd a\ufffd \xad Z\u200b9 \ue000")
def test_hugging_face_cuts_scripts_and_control_characters_the_same_way(text):
    tokenizer = ONE.setdefault("it", WordPieceTokenizer.train(["".join(SCRIPTS), "thing"], 300))
    ids = tokenizer.encode(text, disallowed_special=())
    assert ids == hugging_face(tokenizer).encode(text, add_special_tokens=False).ids


ONE: dict = {}


def test_words_that_are_never_encoded_are_not_learned_from():
    start = time.process_time()
    endless = "".join(random.Random(0).choices("abcdefgh", k=1_000_000))
    tokenizer = WordPieceTokenizer.train(f"the fox {endless} {'z' * 101} {'y' * 100}", 150)
    assert time.process_time() - start < 5
    assert not any("z" in token for token in tokenizer.tokens[:-2])
    assert "y" in tokenizer.tokens and "the" in tokenizer.tokens
    for nothing in (endless, "z" * 5_400, ["z" * 101] * 9):
        with pytest.raises(ValueError, match="every word is longer than 100 characters"):
            WordPieceTokenizer.from_text(nothing)
    for nothing in ("", " \n", "\u200b", [], ["", " "]):
        with pytest.raises(ValueError, match="empty text, or one without words"):
            WordPieceTokenizer.from_text(nothing)
