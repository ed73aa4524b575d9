"""How the text of a grammar becomes items and words.

Written by hand. `llmlib.stories.grammar` explains the language, and `llmlib.stories.items` holds
what it is parsed into. A grammar is made to be changed, and mistakes happen, so every error here
says what is wrong and in which rule or class.
"""

import re
from collections import Counter
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

from llmlib.stories.items import Branch, Items, Note, NumberSlot, Slot, Word, WordClass, WordSlot
from llmlib.stories.text import split_words

T = TypeVar("T")
SYNTAX = re.compile(r"\{([^{}]*)\}|<([^<>]*)>|([\[|\]])|([^{}<>\[\]|]+)|(.)")
NAME = r"[a-z][a-z_]+"  # of at least two letters, as single ones are numbers
HEADER = re.compile(rf"({NAME})(?: as ({NAME}(?:/{NAME})*))?(, no two alike)?")
AMOUNT = r"(?:[a-z](?:-(?:[a-z]|\d+))*|\d+)"
VARIABLE = rf"(?:(\w+)\.)?([A-Za-z_]+)(\d*)(?::({AMOUNT}))?"


class Grammar:
    """The parsed form of two texts: `rules` by name, and word `classes` by name.

    Raises ValueError that says what is wrong, and in which rule or class.
    """

    def __init__(self, rules: str, words: str) -> None:
        self.traits: dict[str, str] = {}  # royal -> rank
        self.classes: dict[str, WordClass] = {}
        self.forms: dict[str, tuple[WordClass, int]] = {}  # played -> (the class play, 1)
        for header, lines in blocks(words, "words").items():
            with_place(f"words, class {header!r}", self.add_class, header, lines)
        texts = {
            header: with_place(f"rule {header!r}", split_alternatives, lines)
            for header, lines in blocks(rules, "rules").items()
        }
        if "story" not in texts:
            raise ValueError("there is no rule 'story', with which every story begins")
        self.rules = {name: Branch() for name in texts}  # all of them, before one calls another
        for name, rule in self.rules.items():
            for number, text in enumerate(texts[name], 1):
                place = f"rule {name!r}, alternative {number}"
                rule.alternatives.append(with_place(place, self.items, text))
        check_that_stories_end(texts)

    def add_class(self, header: str, lines: list[str]) -> None:
        """Read a table of words. Raises ValueError for a line that is not one."""
        # a line without a colon goes on with the one above it
        text = re.sub(r"\n(?=[^:\n]*$)", " ", "\n".join(lines), flags=re.MULTILINE)
        table = [re.split(r"\s*:\s*", line, maxsplit=1) for line in text.splitlines()]
        if table and len(table[0]) == 1:
            raise ValueError(f"{lines[0]!r} should be like 'royal old: king, queen'")
        if header == "traits":
            self.traits = {trait: kind for kind, names in table for trait in split_commas(names)}
            return
        match = HEADER.fullmatch(header)
        if not match:
            raise ValueError("expected a name in small letters, such as 'play as play/played'")
        name, forms, alike = match.groups()
        form_names = (forms or name).split("/")
        words = [
            self.word(word, traits.split(), len(form_names))
            for traits, words in table
            for word in split_commas(words)
        ]
        if not words:
            raise ValueError("a class needs words: lines such as 'any: sunny, rainy'")
        (word, times), *_ = Counter(map(str, words)).most_common(1)
        if times > 1:
            raise ValueError(f"{word!r} is listed twice")
        self.classes[name] = word_class = WordClass(name, form_names, bool(alike), words)
        for number, form_name in enumerate(form_names):
            if form_name in self.forms:
                raise ValueError(f"{form_name!r} is the name of another class or form already")
            self.forms[form_name] = (word_class, number)

    def word(self, text: str, traits: list[str], n_forms: int) -> Word:
        forms = tuple(tuple(split_words(form)) for form in text.split("/"))
        if len(forms) != n_forms or not all(forms):
            raise ValueError(f"{text!r} should have {n_forms} form(s), with '/' between them")
        return Word(forms, self.by_kind([] if traits == ["any"] else traits))

    def by_kind(self, traits: list[str]) -> dict[str, str]:
        """Return traits by kind: ["royal", "old"] -> {"rank": "royal", "age": "old"}."""
        found = {look_up(f"trait {trait!r}", trait, self.traits): trait for trait in traits}
        if len(found) < len(traits):
            raise ValueError(f"no one can be {' and '.join(traits)} at once")
        return found

    def items(self, text: str) -> Items:
        """Return the items of an alternative."""
        open_brackets: list[list[list]] = [[[]]]  # each holds alternatives, which hold items
        for match in SYNTAX.finditer(text):
            slot, rule, mark, words, stray = match.groups()
            items = open_brackets[-1][-1]
            if slot is not None:
                items.append(self.slot(slot))
            elif rule is not None:
                items.append(look_up(f"rule <{rule}>", rule, self.rules))
            elif words:
                items.extend(split_words(words))
            elif mark == "[":
                open_brackets.append([[]])
            elif stray or len(open_brackets) == 1:
                raise ValueError(f"{stray or mark!r} has lost its other bracket in {text!r}")
            elif mark == "|":
                open_brackets[-1].append([])
            else:
                branch = Branch([tuple(items) for items in open_brackets.pop()])
                open_brackets[-1][-1].append(branch)
        if len(open_brackets) > 1:
            raise ValueError(f"'[' has lost its other bracket in {text!r}")
        return tuple(open_brackets[0][0])

    def slot(self, source: str) -> Note | Slot:
        """Return the item that a text in curly brackets describes."""
        if match := re.fullmatch(r"(\w+) is ([\w ]+)", source):
            return Note(match[1], self.by_kind(match[2].split()))
        if match := re.fullmatch(r"(\w+) = ([\w.]+)", source):
            if "." in match[2]:
                self.find(re.split(r"[.\d]", match[2])[1])  # it must be a class
            return Note(None, {match[1]: match[2]})
        if match := re.fullmatch(rf"(?:([a-z]) in ({AMOUNT})\.\.)?({AMOUNT})", source):
            variable, low, high = match.groups()
            words = self.find("number")[0].words
            return NumberSlot(source, variable or source, (low, high) if variable else None, words)
        match = re.fullmatch(VARIABLE, source)
        if not match:
            raise ValueError(f"{{{source}}} has no form that is allowed in curly brackets")
        who, name, digits, number = match.groups()
        word_class, form = self.find(name.lower())
        if number and len(word_class.form_names) != 2:
            raise ValueError(f"{{{source}}} needs a class with two forms, one and many")
        variable = f"{who}.{word_class.name}" if who else word_class.name
        return WordSlot(
            source, who or "", variable + digits, word_class, form, name[0].isupper(), number
        )

    def find(self, name: str) -> tuple[WordClass, int]:
        return look_up(f"class of words {name!r}", name, self.forms)


def look_up(what: str, name: str, known: dict[str, T]) -> T:
    """Return what has a name. Raises ValueError, with the names there are, if nothing has it."""
    if name not in known:
        raise ValueError(f"no {what}: there are {', '.join(known) or 'none'}")
    return known[name]


def split_alternatives(lines: list[str]) -> list[str]:
    before, *alternatives = re.split(r"(?:^|\n)-(?=\s|$)", "\n".join(lines))
    if before or not alternatives:
        raise ValueError("every alternative begins with '- '")
    return alternatives


def check_that_stories_end(texts: dict[str, list[str]]) -> None:
    """Raise ValueError if a rule leads back to itself."""
    calls = {name: re.findall(r"<([^<>]*)>", " ".join(texts[name])) for name in texts}
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1][::-1])
        problem = "a story might never end, as a rule leads back to itself"
        raise ValueError(f"{problem}: {circle}") from None


def blocks(text: str, what: str) -> dict[str, list[str]]:
    """Split a text into headers, which are not indented, and the indented lines below each."""
    found: dict[str, list[str]] = {}
    header = None
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        if line[0].isspace():
            if header is None:
                raise ValueError(f"{what}, line {number}: {content!r} has no name above it")
            found[header].append(content)
        else:
            header = content.rstrip(":")
            if header in found:
                raise ValueError(f"{what}, line {number}: {header!r} is defined twice")
            found[header] = []
    return found


def split_commas(text: str) -> list[str]:
    return [part for part in map(str.strip, text.split(",")) if part]


def with_place(place: str, function: Callable, *args: object) -> Any:
    """Call a function, and add the place to its ValueError."""
    try:
        return function(*args)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
