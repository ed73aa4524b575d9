"""What stories are made of: words, the slots for them, choices, and what is remembered.

Written by hand. `llmlib.stories.grammar` explains the language of grammars; `llmlib.stories.parser`
turns a grammar into tuples of items, of five kinds:

    "lake"    a token, said as it is            Note    something to remember; says nothing
    Branch    a choice between such tuples      WordSlot, NumberSlot    a choice between words

A `Memory` holds what has been said, and a plan, the tuple of the items that are left, what is still
to be said. Neither is ever changed, only replaced: a reader that follows several possibilities at
once keeps a pair for each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

Tokens = tuple[str, ...]
Items = tuple[Any, ...]


class Memory(NamedTuple):
    """What a story has said so far."""

    chosen: dict[str, Any]  # variable -> its Word, or its number
    traits: dict[str, dict[str, str]]  # character -> kind of trait -> trait
    facts: dict[str, str]

    def choose(self, variable: str, value: Any) -> "Memory":
        return Memory({**self.chosen, variable: value}, self.traits, self.facts)

    def note_traits(self, who: str, traits: dict[str, str]) -> "Memory":
        """Add traits to a character, without changing those that are known."""
        known = self.traits.get(who, {})
        return Memory(self.chosen, {**self.traits, who: {**traits, **known}}, self.facts)


@dataclass(frozen=True, eq=False)
class Branch:
    """A rule, or a choice in square brackets: its alternatives are equally likely.

    It is compared by identity, like all that is parsed once.
    """

    alternatives: list[Items] = field(default_factory=list)

    def options(self, memory: Memory) -> list[Items]:
        return self.alternatives

    def say(self, option: Items, memory: Memory) -> Items:
        return option

    def remember(self, option: Items, memory: Memory) -> Memory:
        return memory


@dataclass(frozen=True, eq=False)
class Note:
    """A trait of `who`, or a fact about the story if `who` is None."""

    who: str | None
    content: dict[str, str]

    def write(self, memory: Memory) -> Memory:
        if self.who:
            return memory.note_traits(self.who, self.content)
        return memory._replace(facts={**memory.facts, **self.content})


@dataclass(frozen=True, eq=False)
class Word:
    """A word of the world: its forms, such as singular and plural, and its traits."""

    forms: tuple[Tokens, ...]
    traits: dict[str, str]

    def __str__(self) -> str:
        return " ".join(self.forms[0])

    @cached_property
    def kind(self) -> tuple[tuple[str, str], ...]:
        """The traits in a form that can be compared: words of the same kind are interchangeable."""
        return tuple(sorted(self.traits.items()))

    def fits(self, traits: dict[str, str]) -> bool:
        return all(traits.get(kind, trait) == trait for kind, trait in self.traits.items())


@dataclass(frozen=True, eq=False)
class WordClass:
    """Words that may stand in the same place, each with a form for each of the form names."""

    name: str
    form_names: list[str]
    no_two_alike: bool
    words: list[Word]


@dataclass(frozen=True, eq=False)
class WordSlot:
    """A place for a word of a class; a `number` decides which of its forms is said."""

    source: str
    who: str
    variable: str
    word_class: WordClass
    form: int
    capital: bool
    number: str | None
    bounds = ()  # a number has them

    @property
    def label(self) -> str:
        return self.word_class.name

    def options(self, memory: Memory) -> list[Word]:
        """Return the words that can be said here, all equally likely."""
        if self.variable in memory.chosen:
            return [memory.chosen[self.variable]]
        traits = memory.traits.get(self.who, {})
        return [w for w in self.word_class.words if w.fits(traits) and not self.taken(w, memory)]

    def taken(self, word: Word, memory: Memory) -> bool:
        return self.word_class.no_two_alike and word in memory.chosen.values()

    def say(self, word: Word, memory: Memory) -> Tokens:
        form = self.form if self.number is None else int(amount(self.number, memory) != 1)
        return self.spelling[word][form]

    def remember(self, word: Word, memory: Memory) -> Memory:
        if self.variable in memory.chosen:
            return memory
        return memory.choose(self.variable, word).note_traits(self.who, word.traits)

    def anything(self) -> Iterator[tuple[Tokens, Any]]:
        """Yield what could be said here if nothing had been said before."""
        for word, forms in self.spelling.items():
            for tokens in forms if self.number else forms[self.form : self.form + 1]:
                yield tokens, word

    @cached_property
    def spelling(self) -> dict[Word, list[Tokens]]:
        def spell(form: Tokens) -> Tokens:
            return (form[0][0].upper() + form[0][1:], *form[1:]) if self.capital else form

        return {word: [spell(form) for form in word.forms] for word in self.word_class.words}

    def blame(self, word: Word, memory: Memory) -> str:
        """Return why a word is not one of the options, to complete the sentence "'king' …"."""
        known = memory.traits.get(self.who, {})
        options = self.options(memory)
        if word in options:  # the right word in the wrong form
            options = [word]
        right = {" ".join(self.say(option, memory)) for option in options}
        if 1 <= len(right) <= 3:
            return f"should be {either(sorted(right))}"
        if self.taken(word, memory):
            return "is taken already"
        clash = next(kind for kind, trait in word.traits.items() if known.get(kind, trait) != trait)
        return f"goes with {word.traits[clash]}, but the {self.who or 'story'} is {known[clash]}"


@dataclass(frozen=True, eq=False)
class NumberSlot:
    """A number in words: chosen within bounds, or a known one if `bounds` is None."""

    source: str
    variable: str
    bounds: tuple[str, str] | None
    words: list[Word]
    label = "count"

    def options(self, memory: Memory) -> list[int]:
        if self.bounds is None or self.variable in memory.chosen:
            numbers = [amount(self.variable, memory)]
        else:
            low, high = (amount(bound, memory) for bound in self.bounds)
            numbers = range(low, high + 1)
        return [number for number in numbers if 1 <= number <= len(self.words)]

    def say(self, number: int, memory: Memory) -> Tokens:
        return self.words[number - 1].forms[0]

    def remember(self, number: int, memory: Memory) -> Memory:
        if self.bounds is None or self.variable in memory.chosen:
            return memory
        return memory.choose(self.variable, number)

    def anything(self) -> Iterator[tuple[Tokens, Any]]:
        for number, word in enumerate(self.words, 1):
            yield word.forms[0], number

    def blame(self, number: int, memory: Memory) -> str:
        right = [str(self.words[option - 1]) for option in self.options(memory)]
        if len(right) > 3:
            return f"should be between '{right[0]}' and '{right[-1]}'"
        return f"should be {either(right)}" if right else "cannot be: there are not so many"


def amount(expression: str, memory: Memory) -> int:
    """Return the value of `n`, `3` or `n-k`. Raises ValueError for a number not chosen yet."""
    terms = expression.split("-")
    try:
        first, *rest = (int(term) if term.isdigit() else memory.chosen[term] for term in terms)
    except KeyError:
        raise ValueError(
            f"the number {expression!r} is used before it is chosen with {{… in …}}"
        ) from None
    return first - sum(rest)


def either(words: list[str]) -> str:
    """Return the words as `'x', 'y' or 'z'`."""
    return " or ".join(", ".join(f"'{word}'" for word in words).rsplit(", ", 1))


Slot = WordSlot | NumberSlot


def options_of(item: Any, memory: Memory) -> list:
    """Return what can be chosen, all equally likely. Raises ValueError if nothing fits."""
    options = item.options(memory)
    if not options:
        who = getattr(item, "who", "")
        traits = " ".join(memory.traits.get(who, {}).values())
        who = f", which has to fit {who} ({traits})" if traits else ""
        raise ValueError(f"the grammar has nothing to say for {{{item.source}}}{who}")
    return options


def follow(item: Branch | Slot, option: Any, rest: Items, memory: Memory) -> tuple[Items, Memory]:
    """Return what is planned and what is known after this option is chosen."""
    return (*item.say(option, memory), *rest), item.remember(option, memory)
