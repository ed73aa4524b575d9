"""The true distribution of the next token: exact for every tokenizer, and what stories do."""

import math
import os
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from llmlib import stories
from llmlib.stories import next_tokens
from llmlib.stories.tokens import NextTokens
from llmlib.stories.world import World
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.tiktoken_bpe import gpt2_tokenizer
from llmlib.tokenization.unigram import UnigramTokenizer
from llmlib.tokenization.wordpiece import WordPieceTokenizer
from llmlib.tokenization.words import CharTokenizer, WordTokenizer

# How many told stories the statistical test counts; a tool sets it to a million.
N_STORIES = int(os.environ.get("LLMLIB_TEST_STORIES", 10_000))

TEXT = "\n".join(story.text for story in stories.tell_many(1500, seed=3))
END = [END_OF_TEXT]
MAKERS = {
    "word": lambda: WordTokenizer.from_text(TEXT),
    "char": lambda: CharTokenizer.from_text(TEXT),
    "bytes": lambda: BPETokenizer([], END),
    "bpe 300": lambda: BPETokenizer.train(TEXT, 300, special_tokens=END),
    "bpe 600": lambda: BPETokenizer.train(TEXT, 600, special_tokens=END),
    "bpe 600, gpt4": lambda: BPETokenizer.train(TEXT, 600, special_tokens=END, pattern="gpt4"),
    "bpe, all merges": lambda: BPETokenizer.train(TEXT, 5000, special_tokens=END),
    "wordpiece": lambda: WordPieceTokenizer.train(TEXT, 200),
    "unigram": lambda: UnigramTokenizer.train(TEXT, 450),
    "tiktoken": gpt2_tokenizer,
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def told():
    return stories.tell_many(50, seed=11)


@pytest.mark.parametrize("n", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_the_product_over_a_story_is_the_probability_of_the_story(tokenizer, told, n):
    """Also: every distribution on the way has the size of the vocabulary and sums to 1."""
    for story in told[:n]:
        ids = [*tokenizer.encode(story.text), tokenizer.special_tokens[END_OF_TEXT]]
        log_prob = 0.0
        for i, token in enumerate(ids):
            p = next_tokens(ids[:i], tokenizer)
            assert p.shape == (tokenizer.vocab_size,) and p.dtype == np.float64
            assert abs(p.sum() - 1) < 1e-9 and p.min() >= 0
            log_prob += math.log(p[token])
        assert abs(log_prob - story.log_prob) < 1e-9


def test_a_story_may_begin_after_the_end_of_another(tokenizer, told):
    end = tokenizer.special_tokens[END_OF_TEXT]
    ids = tokenizer.encode(told[0].text)
    for before in ([end], [end, *ids, end]):
        for some in ([], ids[:1], ids[:20]):
            after = next_tokens([*before, *some], tokenizer)
            assert np.array_equal(after, next_tokens(some, tokenizer))
    np.testing.assert_array_equal(np.flatnonzero(next_tokens(ids, tokenizer)), [end])


def test_words_as_tokens_are_the_next_words(told):
    tokenizer = MAKERS["word"]()
    for story in told[:10]:
        words = stories.split_words(story.text)
        for n in range(0, len(words), 7):
            p = next_tokens(tokenizer.encode(stories.join_words(words[:n])), tokenizer)
            expected = stories.next_words(stories.join_words(words[:n]))
            found = {tokenizer.tokens[i]: p[i] for i in np.flatnonzero(p)}
            assert found == pytest.approx(
                {word or END_OF_TEXT: probability for word, probability in expected.items()}
            )


def test_a_text_may_end_in_the_middle_of_a_word():
    tokenizer = MAKERS["char"]()
    p = next_tokens(tokenizer.encode("Once upon a ti"), tokenizer)
    assert {tokenizer.tokens[i] for i in np.flatnonzero(p)} == {"m"}
    p = next_tokens(tokenizer.encode("Once upon a time there was a"), tokenizer)
    following = {tokenizer.tokens[i]: p[i] for i in np.flatnonzero(p)}
    assert following[" "] == pytest.approx(1 - following["n"])  # "a kind king", or "an old king"


def test_marks_of_two_words_may_be_one_token():
    """GPT-2 joins the full stop, or the exclamation mark, with the quotation mark after it."""
    tokenizer = gpt2_tokenizer()
    text = next(s.text for s in stories.tell_many(100, seed=2) if '!"' in s.text)
    ids = tokenizer.encode(text)
    place = ids.index(tokenizer.token_to_id('!"'))
    p = next_tokens(ids[:place], tokenizer)
    assert p[ids[place]] > 0
    assert p[tokenizer.token_to_id("!")] == 0  # never apart in a canonical encoding
    with pytest.raises(ValueError, match="no story is encoded so"):
        next_tokens([*ids[:place], tokenizer.token_to_id("!")], tokenizer)


def test_ids_that_no_story_begins_with_are_refused_where_they_go_wrong(tokenizer):
    good = tokenizer.encode("Once upon a time")
    wrong = tokenizer.encode("zebra")[0]
    with pytest.raises(ValueError, match=rf"token {len(good)} of it.*upon a time'"):
        next_tokens([*good, wrong], tokenizer)


@pytest.mark.parametrize("n", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_one_pass_finds_all_that_is_possible_at_each_place(tokenizer, told, n):
    world = NextTokens(World(), tokenizer)
    for story in told[:n]:
        ids = [*tokenizer.encode(story.text), tokenizer.special_tokens[END_OF_TEXT]]
        found = list(world.possible(ids))
        assert len(found) == len(ids)
        for i, tokens in enumerate(found):
            assert set(tokens) == set(np.flatnonzero(next_tokens(ids[:i], tokenizer)))
            assert all(tokens.values())


def test_one_pass_refuses_ids_that_no_story_begins_with(tokenizer):
    ids = [*tokenizer.encode("Once upon a time"), *tokenizer.encode("zebra")]
    with pytest.raises(ValueError, match="no story goes on with"):
        list(NextTokens(World(), tokenizer).possible(ids))


@pytest.mark.parametrize("name, other", [("Tom", "Tim"), ("Tim", "Tom")])
def test_one_pass_says_which_tokens_lead_to_what_is_wanted(name, other):
    world = World(
        "story:\n - [{name = Tom} Tom|{name = Ben} Ben|{name = Tim} Tim] [naps|runs].",
        "name\n any: Tom",
    )
    tokenizer = CharTokenizer.from_text("Tom Ben Tim naps runs.")
    found = NextTokens(world, tokenizer).possible(
        tokenizer.encode(f"{name} naps."), lambda reading: reading.memory.facts["name"] == name
    )
    first, second, *others = ({tokenizer.tokens[i]: w for i, w in one.items()} for one in found)
    assert first == {"T": True, "B": False}
    assert second == {name[1]: True, other[1]: False}
    assert others[2] == {"n": True, "r": True} and all(all(some.values()) for some in others)


def test_without_a_token_for_the_end_its_probability_is_what_is_missing(told):
    with_end, without = MAKERS["bpe 300"](), BPETokenizer.train(TEXT, 299)
    assert with_end.merges == without.merges
    for story in told[:5]:
        ids = without.encode(story.text)
        for n in (0, 10, len(ids) - 1, len(ids)):
            p, q = next_tokens(ids[:n], with_end), next_tokens(ids[:n], without)
            assert q.sum() == pytest.approx(1 - p[299])
            np.testing.assert_array_equal(p[:299], q)


def test_words_that_the_tokenizer_does_not_know_count_together():
    """The ids of several stories are equal then, and the probabilities of these stories add up."""
    known = [w for w, _ in Counter(stories.split_words(TEXT)).most_common() if w != "sunny"]
    tokenizer = WordTokenizer(sorted({*known} - {"rainy"}))
    ids = tokenizer.encode("Mia was a little girl who loved to dance. She lived on a farm. She had")
    ids += tokenizer.encode(" a red kite. One")
    unknown = tokenizer.special_tokens["<|unk|>"]
    assert next_tokens(ids, tokenizer)[unknown] == pytest.approx(2 / 6)  # of six kinds of weather
    after = next_tokens([*ids, unknown], tokenizer)
    assert after.sum() == pytest.approx(1) and after[tokenizer.ids["morning"]] > 0


def test_it_forgets_without_changing(told):
    tokenizer = MAKERS["bpe 600"]()
    forgetful = NextTokens(World(), tokenizer, max_nodes=20)
    for story in told[:3]:
        ids = tokenizer.encode(story.text)
        for n in range(len(ids)):
            assert np.array_equal(forgetful(ids[:n]), next_tokens(ids[:n], tokenizer))
        assert forgetful.branches.cache_info().currsize <= 20


def test_a_tokenizer_that_joins_across_spaces_is_refused():
    tokenizer = BPETokenizer.train(TEXT, 400, pattern=r"[^.]+|\.", special_tokens=END)
    with pytest.raises(ValueError, match="joins words across the space"):
        next_tokens([], tokenizer)


def test_another_world_can_be_asked():
    world = World("story:\n - {name} says [hi|ho ho].", "name\n any: Tom, Ben, Tim")
    tokenizer = CharTokenizer.from_text("Tom Ben Tim says hi ho.")
    ask = NextTokens(world, tokenizer)
    p = ask(tokenizer.encode("T"))
    assert p[tokenizer.ids["o"]] == pytest.approx(0.5) == p[tokenizer.ids["i"]]
    p = ask(tokenizer.encode("Ben says h"))
    assert p[tokenizer.ids["o"]] == pytest.approx(0.5) == p[tokenizer.ids["i"]]
    assert ask(tokenizer.encode("Ben says ho"))[tokenizer.ids[" "]] == pytest.approx(1)


# What told stories do


def beginning(text, length=120):
    """The beginning of a story, cut before a space, and whether it is the whole story."""
    place = text.find(" ", length)
    return (text[:place], False) if place >= 0 else (text, True)


@pytest.fixture(scope="module")
def many_beginnings():
    """Told once for all tokenizers: telling takes longer than counting."""
    thousands = (stories.tell_many(1000, seed=1000 + seed) for seed in range(N_STORIES // 1000))
    return [beginning(story.text) for some in thousands for story in some]


def encode_beginning(text, is_whole, tokenizer):
    end = [tokenizer.special_tokens[END_OF_TEXT]] if is_whole else []
    return [*tokenizer.encode(text), *end]


def count_next_tokens(tokenizer, told_beginnings, least_share=0.005):
    """After each context that is frequent, how often each token comes in told stories."""
    sample = [beginning(story.text) for story in stories.tell_many(2000, seed=5)]
    sample = [encode_beginning(*each, tokenizer) for each in sample]
    seen = Counter(tuple(ids[:n]) for ids in sample for n in range(len(ids)))
    counts = {ids: Counter() for ids, n in seen.items() if n > least_share * len(sample)}
    for each in told_beginnings:
        ids = encode_beginning(*each, tokenizer)
        for n in range(len(ids)):
            if (context := tuple(ids[:n])) not in counts:
                break
            counts[context][ids[n]] += 1
    return counts


@pytest.mark.slow
def test_told_stories_agree(tokenizer, many_beginnings):
    """Counts after frequent contexts, by z-tests with Bonferroni's bound, and by their sum."""
    tests, chi_square, freedom = [], 0.0, 0
    for context, counts in count_next_tokens(tokenizer, many_beginnings).items():
        p, n = next_tokens(context, tokenizer), counts.total()
        assert not [token for token in counts if p[token] == 0], "what is impossible has been told"
        likely = np.flatnonzero(n * p * (1 - p) > 25)  # where the normal distribution is close
        z = [(counts[t] - n * p[t]) / math.sqrt(n * p[t] * (1 - p[t])) for t in likely]
        tests += z
        expected = n * p[n * p >= 5]
        observed = np.array([counts[t] for t in np.flatnonzero(n * p >= 5)])
        rest, rare = n - observed.sum(), n - expected.sum()
        if rare >= 5:
            observed, expected = np.append(observed, rest), np.append(expected, rare)
        if len(expected) > 1 and abs(expected.sum() - n) < 1e-6 * n:
            chi_square += float(((observed - expected) ** 2 / expected).sum())
            freedom += len(expected) - 1
    assert len(tests) > 50
    bound = NormalDist().inv_cdf(1 - 1e-4 / len(tests) / 2)
    assert max(map(abs, tests)) < bound
    assert abs(chi_square - freedom) / math.sqrt(2 * freedom) < 4
