"""Requests for stories as a user makes them, each with an answer that meets them exactly.

Written by hand; notebook 15 trains on these texts, and `tools/make_nano_llama.py` does before it. A
request asks for up to five things: the hero's name, who the hero is, what happens, what it happens
with, and how it ends. They are the five facts that the world writes down when it tells a story and
`check` reads off a text, so whether an answer meets a request is never a matter of opinion.

First a story is told, then some of its facts are chosen, without looking at the rest, and put into
words. So an answer is drawn from exactly the stories that meet its request, each with its own
probability, and nothing has to be tried twice. What is left out: requests that no story can meet,
and questions about a story.

    >>> example = examples(5, seed=3)[4]
    >>> print(example.request)
    Can you tell me a story about Lucy? Someone should need help. I want a sad ending.
    >>> constraints_met(example.answer, example.constraints)
    {'name': True, 'plot': True, 'ending': True}
"""

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from llmlib.stories import DEFAULT, check
from llmlib.stories.items import Branch, Memory, Note, Word
from llmlib.stories.world import Reading, Story

# {about} is replaced by one of ABOUT, and that by a name and a role
OPENINGS = (
    "Tell me a story{about}.",
    "Please tell me a story{about}.",
    "Can you tell me a story{about}?",
    "Write a short story{about}.",
    "Please write a story{about}.",
    "I would like to hear a story{about}.",
)
AGAIN = (
    "Now tell me another story{about}.",
    "Thank you! Please tell me one more story{about}.",
    "Now write a story{about}.",
)
ABOUT = {  # by what is asked: (name, role)
    (False, False): ("",),
    (True, False): (" about {name}", " whose hero is called {name}"),
    (False, True): (" about a {role}", " whose hero is a {role}"),
    (True, True): (" about a {role} named {name}", " about {name}, a {role}"),
}
SENTENCES = {  # the other three facts, a sentence for each
    "plot": {
        "lost": ("Something should get lost.", "In the story something is lost."),
        "share": ("Someone should ask for a share.", "In the story someone wants a share."),
        "swap": ("Two things should be swapped.", "In the story two things are swapped."),
        "need": ("Someone should need help.", "In the story someone needs help."),
        "gift": ("Someone should buy a gift.", "In the story someone buys a gift."),
    },
    "object": (
        "There should be {thing} in it.",
        "It should be about {thing}.",
        "Put {thing} into it.",
    ),
    "ending": {
        "happy": ("It should end well.", "Give it a happy ending.", "I want a happy ending."),
        "sad": ("It should end badly.", "Give it a sad ending.", "I want a sad ending."),
    },
}
SYSTEM = ("You are a storyteller.", "You tell short stories.", "You are a helpful assistant.")

Message = dict[str, str]  # "role": system, user or assistant; "content": what it says


def words_of(word_class: str, trait: str = "") -> tuple[str, ...]:
    """Return the words of a class of the default world, or those with a trait."""
    words = DEFAULT.grammar.classes[word_class].words
    return tuple(str(word) for word in words if not trait or trait in word.traits.values())


# What can be asked for: kind of fact -> its values
CHOICES = {
    "name": words_of("name"),
    "role": words_of("role", "person"),
    "plot": tuple(SENTENCES["plot"]),
    "object": words_of("object") + words_of("treat") + words_of("help"),
    "ending": tuple(SENTENCES["ending"]),
}
PLURALS = {str(word): " ".join(word.forms[1]) for word in DEFAULT.grammar.classes["treat"].words}


@dataclass(frozen=True)
class Constraints:
    """What a request asks of a story; None leaves a fact open. CHOICES lists the values.

    Raises ValueError for a value that no story has.
    """

    name: str | None = None  # of the hero: "Lily"
    role: str | None = None  # who the hero is: "princess"
    plot: str | None = None  # what happens: "lost", "share", "swap", "need", "gift"
    object: str | None = None  # what it happens with: "kite", "apple", "some bread"
    ending: str | None = None  # "happy" or "sad"

    def __post_init__(self):
        for kind, value in self.asked().items():
            if value not in CHOICES[kind]:
                choices = ", ".join(CHOICES[kind])
                raise ValueError(f"no story has the {kind} {value!r}: there are {choices}")

    def asked(self) -> dict[str, str]:
        """Return the facts that are asked for, by kind."""
        return {kind: value for kind, value in asdict(self).items() if value is not None}


KINDS = tuple(field.name for field in fields(Constraints))


@dataclass(frozen=True)
class Example:
    """A request in words, what it asks for, and a story that meets it."""

    request: str
    answer: str
    constraints: Constraints


def constraints_met(text: str, constraints: Constraints) -> dict[str, bool]:
    """Return whether a story meets each constraint that is asked for, by kind.

    A text that the grammar cannot read meets none: what it is about is not known.

    >>> story = DEFAULT.tell(random.Random(1))
    >>> constraints_met(story.text, Constraints(name=story.facts["name"]))
    {'name': True}
    """
    facts = check(text).facts
    return {kind: facts.get(kind) == value for kind, value in constraints.asked().items()}


def choose_constraints(story: Story, rng: random.Random) -> Constraints:
    """Choose some facts of a story to ask for: any number from none to all is equally likely."""
    kinds = rng.sample(KINDS, rng.randint(0, len(KINDS)))
    return Constraints(**{kind: story.facts[kind] for kind in kinds})


def thing(noun: str) -> str:
    """Return the words that ask for an object: "a kite", "apples", "some bread".

    >>> thing("kite"), thing("apple"), thing("dry clothes")
    ('a kite', 'apples', 'dry clothes')
    """
    return PLURALS.get(noun) or (f"a {noun}" if noun in words_of("object") else noun)


def request(constraints: Constraints, rng: random.Random, again: bool = False) -> str:
    """Put constraints into words. again: as a user asks who has heard a story already."""
    asked = constraints.asked()
    about = rng.choice(ABOUT["name" in asked, "role" in asked]).format(**asked)
    opening = rng.choice(AGAIN if again else OPENINGS).format(about=about)
    sentences = []
    for kind in ("plot", "object", "ending"):
        if kind in asked:
            wordings = SENTENCES[kind]
            if isinstance(wordings, dict):
                wordings = wordings[asked[kind]]
            sentences.append(rng.choice(wordings))
    rng.shuffle(sentences)
    # the object is named last, in whatever sentence asks for it
    return " ".join([opening, *sentences]).format(thing=thing(asked.get("object", "")))


def tell_example(rng: random.Random, again: bool = False) -> Example:
    """Tell a story, and ask for it."""
    story = DEFAULT.tell(rng)
    constraints = choose_constraints(story, rng)
    return Example(request(constraints, rng, again), story.text, constraints)


def examples(n: int, seed: int) -> list[Example]:
    """Return n requests with their answers, the same ones for the same seed."""
    rng = random.Random(seed)
    return [tell_example(rng) for _ in range(n)]


def messages_of(*turns: Example, system: str = "") -> list[Message]:
    """Return the messages of a conversation: the user asks and the assistant answers, in turns."""
    messages = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.request})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages


def tell_turns(rng: random.Random) -> tuple[list[Example], str]:
    """Return what makes a conversation: one turn or two, and a system message, which may be empty.

    One in four has a system message, and in one of six the user asks a second time.
    """
    system = rng.choice(SYSTEM) if rng.random() < 1 / 4 else ""
    turns = [tell_example(rng)]
    if rng.random() < 1 / 6:
        turns.append(tell_example(rng, again=True))
    return turns, system


def conversation(rng: random.Random) -> list[Message]:
    """Return the messages of a conversation, as `tell_turns` draws it."""
    turns, system = tell_turns(rng)
    return messages_of(*turns, system=system)


@cache
def facts_ahead(item: Any) -> dict[str, frozenset[str]]:
    """Return what an item of a plan may write down: kind of fact -> values, variables as such."""
    if isinstance(item, Note) and item.who is None:
        return {kind: frozenset([value]) for kind, value in item.content.items()}
    found: dict[str, frozenset[str]] = {}
    if isinstance(item, Branch):
        for part in (part for option in item.alternatives for part in option):
            for kind, values in facts_ahead(part).items():
                found[kind] = found.get(kind, frozenset()) | values
    return found


@cache
def words_for(variable: str) -> tuple[Word, ...]:
    """Return the words that a variable such as "hero.object" may stand for; none for other text."""
    word_class = DEFAULT.grammar.classes.get(variable.rpartition(".")[2])
    return tuple(word_class.words) if word_class else ()


def may_be(value: str, wanted: str, memory: Memory) -> bool:
    """Return whether a fact, written down as a word or as a variable, is or may become `wanted`."""
    if value in memory.chosen:
        return str(memory.chosen[value]) == wanted
    traits = memory.traits.get(value.rpartition(".")[0], {})  # bread is no help to the thirsty
    return value == wanted or any(
        str(word) == wanted and word.fits(traits) for word in words_for(value)
    )


def may_meet(reading: Reading, asked: dict[str, str]) -> bool:
    """Return whether a story that was read so far can still meet what is asked for.

    False is certain. True may turn out to be false: each fact is looked at by itself, and of what
    has been said only the traits of characters are followed into what is planned.
    """
    facts = reading.memory.facts
    for kind, wanted in asked.items():
        values: Iterable[str] = [facts[kind]] if kind in facts else ()
        # what is not written down yet may be, by what is planned
        values = values or [v for item in reading.plan for v in facts_ahead(item).get(kind, ())]
        if not any(may_be(value, wanted, reading.memory) for value in values):
            return False
    return True
