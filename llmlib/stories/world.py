"""A world of stories: it tells them, scores them and checks them.

Written by hand. A story is read word by word, as a language model reads it. Of all derivations that
agree with the words so far, each with its probability, we keep those that can say the next word
too. This is the forward algorithm of hidden Markov models (Rabiner 1989), with the grammar's memory
as hidden state.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from llmlib.stories.floor import entropy
from llmlib.stories.grammar import RULES, WORDS
from llmlib.stories.items import Branch, Items, Memory, Note, Slot, Tokens, follow, options_of
from llmlib.stories.parser import Grammar
from llmlib.stories.text import after, around, common_length, join_words, split_words, token_spans


@dataclass(frozen=True)
class Story:
    """A story with its log-probability in nats. facts: name, role, plot, object and ending."""

    text: str
    log_prob: float
    facts: dict[str, str]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    grammatical: the grammar allows each word, if we ignore what was said before.
    consistent: it agrees with what was said before, too; the world could have told this story.
    problems: a sentence for each mistake.
    read: the number of characters that could be read; in a grammatical text, all of them.
    facts: what a grammatical text is about.
    """

    grammatical: bool
    consistent: bool
    problems: list[str] = field(default_factory=list)
    read: int = 0
    facts: dict[str, str] = field(default_factory=dict)


class Reading(NamedTuple):
    """One derivation of the first `n_read` tokens of a text, and what it still plans to say."""

    plan: Items
    memory: Memory
    log_prob: float = 0.0
    n_read: int = 0
    problems: tuple[tuple[int, str], ...] = ()  # (token, what is wrong with it)


class World:
    """All the stories of a grammar; `llmlib.stories.grammar` explains its two texts.

    Raises ValueError for a grammar with a mistake, saying what and where.
    """

    def __init__(self, rules: str = RULES, words: str = WORDS) -> None:
        self.grammar = Grammar(rules, words)
        self.start = Reading((self.grammar.rules["story"],), Memory({}, {}, {}))

    def tell(self, rng: random.Random) -> Story:
        """Tell a story. Raises TypeError for anything but a random.Random."""
        if not isinstance(rng, random.Random):
            raise TypeError(f"tell needs a generator such as random.Random(1), not {rng!r}")
        plan, memory, log_prob, *_ = self.start
        tokens: list[str] = []
        while plan:
            item, plan = plan[0], plan[1:]
            if isinstance(item, str):
                tokens.append(item)
            elif isinstance(item, Note):
                memory = item.write(memory)
            else:
                options = options_of(item, memory)
                choice = rng.choice(options) if len(options) > 1 else options[0]
                log_prob -= math.log(len(options))
                plan, memory = follow(item, choice, plan, memory)
        return Story(join_words(tokens), log_prob, facts_of(memory))

    def tell_many(self, n: int, seed: int) -> list[Story]:
        """Tell n stories, the same ones for the same seed. Raises ValueError for a negative n."""
        if n < 0:
            raise ValueError(f"cannot tell {n} stories: n is 0 or more")
        rng = random.Random(seed)
        return [self.tell(rng) for _ in range(n)]

    def log_prob(self, text: str, prefix: bool = False) -> float:
        """Return the log-probability, in nats, that the world tells this text; -inf if never.

        With `prefix`, return that of a story that begins with these tokens. The last one counts as
        complete ("Once upon a ti" is impossible), and one space may follow it.
        """
        tokens = split_words(text)
        if join_words(tokens) != (text.removesuffix(" ") if prefix else text):
            return -math.inf
        readings = self.read(tokens)
        if not prefix:
            readings = self.endings(readings)
        return log_sum([reading.log_prob for reading in readings if reading.n_read == len(tokens)])

    def next_words(self, beginning: str) -> dict[str, float]:
        """Return the true distribution of the next word, likeliest first; "" is the end.

        The beginning is read as `log_prob` reads a prefix. The probabilities sum to 1. Raises
        ValueError if no story begins so.
        """
        total = self.log_prob(beginning, prefix=True)
        if total == -math.inf:
            raise ValueError(f"no story begins so: {self.check(beginning).problems[0]}")
        words: dict[str, float] = {}
        for reading in self.read(split_words(beginning)):
            for token, step in self.steps(reading):
                words[token] = words.get(token, 0.0) + math.exp(step.log_prob - total)
        return dict(sorted(words.items(), key=lambda item: (-item[1], item[0])))

    def check(self, text: str) -> Report:
        """Mark a text: is it grammatical, is it consistent, and if not, what is wrong?"""
        tokens = split_words(text)
        furthest = [self.start]
        for loose in (False, True):
            readings = self.read(tokens, loose)
            furthest = max(furthest, readings, key=lambda several: several[0].n_read)
            ends = [end for end in self.endings(readings, loose) if end.n_read == len(tokens)]
            if ends and join_words(tokens) == text:
                best = min(ends, key=lambda end: len(end.problems))
                problems = [f"{what} in '{around(text, at)}'" for at, what in best.problems]
                return Report(True, not problems, problems, len(text), facts_of(best.memory))
        return self.unreadable(text, tokens, furthest)

    def unreadable(self, text: str, tokens: list[str], furthest: list[Reading]) -> Report:
        """Return the report on a text that the `furthest` readings could read in part."""
        n_read = furthest[0].n_read
        read = max((end for _, end in token_spans(text)[:n_read]), default=0)
        spaced = common_length(text, join_words(tokens))
        if spaced < read or (n_read == len(tokens) and spaced < len(text)):
            problem = f"spacing: a space is missing or too many {after(text[:spaced])}"
            return Report(False, False, [problem], spaced)
        allowed = {token for r in furthest for token, _ in self.steps(r, loose=True)}
        words = [f"'{word}'" if word else "the end" for word in sorted(allowed)]
        wanted = ", ".join(words[:8]) + (f" and {len(words) - 8} more" if words[8:] else "")
        what = f"'{tokens[n_read][:40]}' cannot stand" if n_read < len(tokens) else "the text ends"
        problem = f"grammar: {what} {after(text[:read])}; there may come: {wanted}"
        return Report(False, False, [problem], read)

    def read(self, tokens: list[str], loose: bool = False) -> list[Reading]:
        """Return all derivations of the tokens that can be read, whose number `n_read` tells."""
        readings = [self.start]
        for token in tokens:
            further = [step for r in readings for _, step in self.steps(r, loose, token)]
            if not further:
                break
            readings = further
        return readings

    def steps(
        self, reading: Reading, loose: bool = False, only: str | None = None
    ) -> Iterator[tuple[str, Reading]]:
        """Yield each way to say one more token (`only` this one), with its reading; "" is the end.

        `loose` also allows words that contradict what was said before, and notes the problem.
        """
        agenda = [reading]
        while agenda:
            plan, memory, log_prob, n_read, problems = reading = agenda.pop()
            if not plan:
                if not only:
                    yield "", reading
                continue
            item, rest = plan[0], plan[1:]
            if isinstance(item, str):
                if only in (None, item):
                    yield item, Reading(rest, memory, log_prob, n_read + 1, problems)
            elif isinstance(item, Note):
                agenda.append(Reading(rest, item.write(memory), log_prob, n_read, problems))
            elif isinstance(item, Branch):
                step = log_prob - math.log(len(item.alternatives))
                for option in item.alternatives:
                    agenda.append(Reading((*option, *rest), memory, step, n_read, problems))
            else:
                for (token, *more), known, share, problem in sayings(item, memory, loose, only):
                    found = (*problems, (n_read, problem)) if problem else problems
                    step = log_prob - share
                    yield token, Reading((*more, *rest), known, step, n_read + 1, found)

    def endings(self, readings: list[Reading], loose: bool = False) -> list[Reading]:
        """Return the readings that can end here, as they are at the end of the story."""
        return [end for r in readings for token, end in self.steps(r, loose, only="") if not token]

    def entropy(self) -> float:
        """Return the mean of -log_prob over all stories, in nats per story, without sampling.

        It is exact if no text can be told in two ways, as in the default world. Otherwise it is the
        entropy of the derivations, and there are more derivations than texts.
        """
        return entropy(self.start.plan, self.start.memory)


def sayings(
    slot: Slot, memory: Memory, loose: bool, only: str | None
) -> Iterator[tuple[Tokens, Memory, float, str]]:
    """Yield what a slot can say, beginning with `only`: (tokens, memory, -log_prob, problem)."""
    options: list = slot.options(memory) if loose else options_of(slot, memory)
    share = math.log(len(options) or 1)
    said = [(slot.say(value, memory), value) for value in options]
    right = {tokens for tokens, _ in said}
    if loose:
        said += [pair for pair in slot.anything() if pair[0] not in right]
    for tokens, value in said:
        if only in (None, tokens[0]):
            problem = ""
            if tokens not in right:
                problem = f"{slot.label}: '{' '.join(tokens)}' {slot.blame(value, memory)}"
            yield tokens, slot.remember(value, memory), share, problem


def facts_of(memory: Memory) -> dict[str, str]:
    """Return the facts noted, with the words of the story in place of its variables."""
    return {key: str(memory.chosen.get(value, value)) for key, value in memory.facts.items()}


def log_sum(log_probs: list[float]) -> float:
    """Return the logarithm of a sum of probabilities; -inf for an empty list."""
    if not log_probs:
        return -math.inf
    largest = max(log_probs)
    return largest + math.log(sum(math.exp(value - largest) for value in log_probs))
