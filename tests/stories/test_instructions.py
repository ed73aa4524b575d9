"""Requests for stories say what they ask for, and their answers meet it exactly."""

import doctest
import math
import random
from collections import Counter

import pytest

from llmlib import stories
from llmlib.stories import instructions, split_words
from llmlib.stories.instructions import (
    ABOUT,
    AGAIN,
    CHOICES,
    KINDS,
    OPENINGS,
    SENTENCES,
    Constraints,
    constraints_met,
    conversation,
    examples,
    may_meet,
    messages_of,
    request,
)

MANY = examples(400, seed=1)
CROWN = (
    "Mia was a little princess who loved to dance. She lived in a palace. She had a red crown. "
    "One sunny day, she took it to the lake and lost it. Mia cried. Then she met a bear named Tom. "
    '"Have you seen my red crown?" asked Mia. "Of course, I will help you!" said Tom. They looked '
    "in a hole, but the red crown was not there. Then they looked under a bench, and there it was! "
    'Tom gave the red crown back to Mia. "Thank you, Tom!" said the princess. '
    "Mia was happy, and Tom was happy too."
)
RIGHT = {
    "name": "Mia", "role": "princess", "plot": "lost", "object": "crown", "ending": "happy"
}  # fmt: skip


def test_the_facts_of_the_world_are_what_can_be_asked_for():
    story = stories.tell(random.Random(1))
    assert tuple(story.facts) and set(story.facts) == set(KINDS) == set(CHOICES)


def test_each_answer_meets_all_that_is_asked():
    for example in MANY:
        met = constraints_met(example.answer, example.constraints)
        assert met.keys() == example.constraints.asked().keys() and all(met.values()), example


@pytest.mark.parametrize("kind", KINDS)
def test_each_constraint_is_checked_by_itself(kind):
    other = next(value for value in CHOICES[kind] if value != RIGHT[kind])
    assert constraints_met(CROWN, Constraints(**{kind: RIGHT[kind]})) == {kind: True}
    met = constraints_met(CROWN, Constraints(**{**RIGHT, kind: other}))
    assert met == {k: k != kind for k in KINDS}


def test_what_is_no_story_meets_nothing():
    met = constraints_met(CROWN + " The end", Constraints(**RIGHT))
    assert met == dict.fromkeys(KINDS, False)
    assert constraints_met("", Constraints()) == {}


def test_a_slip_of_memory_does_not_hide_what_a_story_is_about():
    slip = CROWN.replace("the red crown was not", "the blue crown was not")
    assert not stories.check(slip).consistent
    assert all(constraints_met(slip, Constraints(**RIGHT)).values())


def test_a_request_says_what_it_asks_for_and_no_more():
    for example in MANY:
        asked, text = example.constraints.asked(), example.request
        words = set(split_words(text))
        for kind in ("name", "role"):
            assert words & set(CHOICES[kind]) == ({asked[kind]} if kind in asked else set())
        nouns = [noun for noun in CHOICES["object"] if f" {instructions.thing(noun)}" in text]
        longest = sorted(nouns, key=len)[-1:]  # a cup of milk is not a cup
        assert longest == ([asked["object"]] if "object" in asked else [])
        for kind in ("plot", "ending"):
            said = {v for v, wordings in SENTENCES[kind].items() for w in wordings if w in text}
            assert said == ({asked[kind]} if kind in asked else set())


def test_any_number_of_facts_is_equally_likely_and_so_is_each_kind():
    counts = Counter(len(example.constraints.asked()) for example in MANY)
    kinds = Counter(kind for example in MANY for kind in example.constraints.asked())
    spread = 5 * math.sqrt(len(MANY) / 6 * 5 / 6)
    assert all(abs(counts[n] - len(MANY) / 6) < spread for n in range(6))
    spread = 5 * math.sqrt(len(MANY) / 4)
    assert all(abs(kinds[kind] - len(MANY) / 2) < spread for kind in KINDS)


def test_what_is_asked_leaves_the_rest_of_the_story_as_the_world_tells_it():
    asked = [e for e in examples(1500, seed=2) if e.constraints.ending == "happy"]
    plots = Counter(stories.check(e.answer).facts["plot"] for e in asked if not e.constraints.plot)
    n = sum(plots.values())
    assert n > 90 and all(
        abs(plots[p] - n / 5) < 5 * math.sqrt(n * 4 / 25) for p in CHOICES["plot"]
    )


def test_every_wording_is_used():
    rng, full = random.Random(5), Constraints(**RIGHT)
    texts = [request(full, rng, again) for again in (False, True) for _ in range(300)]
    wordings = [w.split("{")[0] for w in (*OPENINGS, *AGAIN, *SENTENCES["object"])]
    wordings += [*SENTENCES["plot"]["lost"], *SENTENCES["ending"]["happy"]]
    wordings += [w.format(**RIGHT) for w in ABOUT[True, True]]
    assert all(any(w in text for text in texts) for w in wordings)


def test_the_order_of_sentences_is_free():
    rng = random.Random(1)
    texts = [request(Constraints(plot="gift", ending="sad"), rng) for _ in range(50)]
    first = {next(k for k in ("gift", "sad", "badly") if k in t.split(". ", 1)[-1]) for t in texts}
    assert "gift" in first and len(first) > 1


def test_the_same_seed_gives_the_same_examples():
    assert examples(3, seed=1) == MANY[:3]
    assert examples(3, seed=2) != MANY[:3]


def test_a_conversation_takes_turns():
    first, second = MANY[:2]
    assert messages_of(first, second, system="Be kind.") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": first.request},
        {"role": "assistant", "content": first.answer},
        {"role": "user", "content": second.request},
        {"role": "assistant", "content": second.answer},
    ]


def test_conversations_are_of_all_kinds():
    rng = random.Random(1)
    many = [conversation(rng) for _ in range(600)]
    roles = Counter(tuple(message["role"] for message in messages) for messages in many)
    turn = ("user", "assistant")
    assert set(roles) == {turn, turn * 2, ("system", *turn), ("system", *turn * 2)}
    n_systems = sum(n for kind, n in roles.items() if kind[0] == "system")
    n_twice = sum(n for kind, n in roles.items() if kind.count("user") == 2)
    assert abs(n_systems - 150) < 55 and abs(n_twice - 100) < 46
    again = [m[-2]["content"] for m in many if len(m) > 3]
    assert all(text.startswith(("Now", "Thank you!")) for text in again)


def test_the_examples_of_the_module_run():
    assert doctest.testmod(instructions).failed == 0


def readings(text):
    """The readings of a story after each of its words."""
    words = split_words(text)
    return [stories.DEFAULT.read(words[:n]) for n in range(len(words) + 1)]


def test_an_answer_may_meet_its_request_from_the_first_word_to_the_last():
    for example in MANY[:60]:
        asked = example.constraints.asked()
        for some in readings(example.answer):
            assert any(may_meet(reading, asked) for reading in some)


@pytest.mark.parametrize(
    "asked, word",
    [  # the word of CROWN with which it is too late
        ({"name": "Lily"}, "Mia"),
        ({"role": "queen"}, "little"),  # she is young
        ({"plot": "gift"}, "a"),  # "She had a", where she would have had coins
        ({"object": "apple"}, "She"),  # "One", where apples would have been found
        ({"ending": "sad"}, "Of"),
        ({"name": "Mia", "ending": "sad"}, "Of"),
    ],
)
def test_a_story_may_not_meet_what_its_words_rule_out(asked, word):
    words, states = split_words(CROWN), readings(CROWN)
    late = [not any(may_meet(reading, asked) for reading in some) for some in states]
    first = late.index(True)
    assert words[first - 1] == word and all(late[first:])


def test_another_object_can_still_come_while_the_story_may_be_another():
    """Someone who has a crown may want to swap it for a kite, until she is said to love it."""
    for text, may in [("She had a red crown", True), ("She had a red crown that she", False)]:
        text = CROWN[: CROWN.index("She had")] + text
        found = [may_meet(reading, {"object": "kite"}) for reading in readings(text)[-1]]
        assert any(found) == may


def test_what_a_character_is_rules_out_what_can_come_of_it():
    met = "Tom was a kind man who loved to swim. He lived on a farm. One rainy day, he went for a "
    met += "walk and met a bear named Mia. She was very "
    for need, may in [("hungry", True), ("thirsty", False)]:
        found = [may_meet(r, {"object": "some bread"}) for r in readings(met + need)[-1]]
        assert found and any(found) == may
