"""The four languages share no token, and say the same."""

from llmlib.stories import split_words, tell_many
from llmlib.stories.grammar import RULES, WORDS
from llmlib.stories.languages import MARKS, N_LANGUAGES, SHIFTS, translate
from llmlib.tokenization.words import WordTokenizer


def test_no_token_belongs_to_two_languages():
    text = " ".join(story.text for story in tell_many(2000, seed=0))
    # all words of the world, also those that these stories happen to lack
    words = {w for w in split_words(text + RULES + WORDS) if w.isalpha()} | {*MARKS[0]}
    words |= {word.capitalize() for word in words}
    sets = [{translate(word, language) for word in words} for language in range(N_LANGUAGES)]
    assert all(len(each) == len(words) for each in sets)
    used = [set(split_words(translate(text, each))) for each in range(N_LANGUAGES)]
    for one in range(N_LANGUAGES):
        for other in range(one):
            assert not used[one] & used[other], (SHIFTS[one], SHIFTS[other])


def test_a_translation_has_the_same_tokens_in_the_same_places():
    text = tell_many(1, seed=5)[0].text
    assert translate(text, 0) == text
    tokenizer = WordTokenizer.from_text(" ".join(translate(text, i) for i in range(N_LANGUAGES)))
    originals = tokenizer.encode(text)
    for language in range(1, N_LANGUAGES):
        other = tokenizer.encode(translate(text, language))
        assert len(other) == len(originals)
        assert len(set(zip(originals, other))) == len(set(originals)), "word by word"
        assert not set(other) & set(originals)
