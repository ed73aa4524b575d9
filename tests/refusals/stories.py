"""The story world: its texts, and grammars with mistakes in them."""

import random

from refusals import api
from refusals.refusal import Refusal

WORDS = "traits\n age: young, old\nname, no two alike\n young: Tim\nnumber\n any: one"


def grammar_row(name: str, rules: str, words: str, *says) -> Refusal:
    return Refusal(f"grammar {name}", lambda tmp: api.world(rules, words), ValueError, [*says])


def rule_row(name: str, text: str, *says, words: str = WORDS) -> Refusal:
    """A rule with a mistake; the message says in which alternative it stands."""
    rules = f"story:\n - Once.\n - {text}"
    return grammar_row(name, rules, words, "'story'", "alternative 2", *says)


def class_row(name: str, text: str, *says) -> Refusal:
    """A class of words with a mistake; the message says in which class it stands."""
    words = f"traits\n age: young, old\n mood: happy\n{text}"
    return grammar_row(name, "story:\n - Once.", words, repr(text.split("\n")[0]), *says)


def silent_rows(name: str, text: str, *says) -> list[Refusal]:
    """A grammar that is found to have nothing to say only when it is used."""

    rules = f"story:\n - {text}"
    return [
        Refusal(
            f"{door} {name}", lambda tmp, use=use: use(api.world(rules, WORDS)), ValueError, [*says]
        )
        for door, use in [
            ("tell", lambda world: world.tell(random.Random(1))),
            ("entropy of", lambda world: world.entropy()),
        ]
    ]


def not_a(kind: str) -> list:
    """Which type was given, as llmlib says it; Python would say "got" or "bytes-like"."""
    return [(f"not {kind}", f"not a {kind}")]


REFUSALS = [
    *(
        Refusal(
            f"{name} of {wrong!r}",
            lambda tmp, name=name, wrong=wrong: api.stories(name, wrong),
            TypeError,
            ["str", *not_a(type(wrong).__name__)],
        )
        for name in ("check", "log_prob", "next_words", "split_words")
        for wrong in (None, b"Mia")
    ),
    Refusal("tell by 5", lambda tmp: api.stories("tell", 5), TypeError, ["random.Random", "5"]),
    Refusal(
        "tell -1 stories", lambda tmp: api.stories("tell_many", -1, 0), ValueError, ["-1", "0"]
    ),
    Refusal(
        "join a string",
        lambda tmp: api.stories("join_words", "Mia was"),
        TypeError,
        ["list", "str", "split_words"],
    ),
    Refusal(
        "next word of another story",
        lambda tmp: api.stories("next_words", "Once upon a ti"),
        ValueError,
        ["'ti'", "Once upon a", "'time'"],
    ),
    # ---- rules
    grammar_row("without a story", "plot:\n - Once.", WORDS, "'story'"),
    grammar_row("without an alternative", "story:\n Once.", WORDS, "'story'", "- "),
    grammar_row("of nothing", "story:\n", WORDS, "'story'", "- "),
    grammar_row("of lines under no name", " - Once.", WORDS, "line 1", "Once", "rules"),
    grammar_row(
        "with a rule twice", "story:\n - A.\nstory:\n - B.", WORDS, "line 3", "'story'", "twice"
    ),
    grammar_row(
        "in a circle",
        "story:\n - <plot>\nplot:\n - <story>",
        WORDS,
        "story → plot → story",
        ("never end", "back to itself"),
    ),
    rule_row("of an unknown rule", "A <plot>.", "<plot>", "story"),
    rule_row("with a bracket that opens", "A [b|c.", "[", "bracket"),
    rule_row("with a bracket that closes", "A b] c.", "]", "bracket"),
    rule_row("with a bar alone", "A b | c.", "|", "bracket"),
    rule_row("with a stray brace", "A } b.", "}", "bracket"),
    rule_row("with a strange slot", "A {b!}.", "{b!}"),
    rule_row("of an unknown class", "A {hero.hat}.", "'hat'", "name", "number"),
    rule_row("of an unknown class in a fact", "{x = hero.hat} A.", "'hat'", "name", "number"),
    rule_row("of an unknown trait", "{hero is tall} A.", "'tall'", "young", "old"),
    rule_row("of traits that exclude each other", "{hero is young old} A.", "young", "old"),
    rule_row(
        "of a number of single words", "{n in 1..1} {name:n}.", "{name:n}", ("two forms", "2")
    ),
    rule_row("of a number without numbers", "{n in 1..2}.", "'number'", words="name\n any: Tim"),
    # ---- words
    class_row("with a line without traits", "hat\n cap", "'cap'", "king, queen"),
    class_row("without words", "hat\n", "words"),
    class_row("of a strange name", "Hat 2\n any: cap", "name"),
    class_row("with a word twice", "hat\n any: cap, cap", "'cap'", "twice"),
    class_row("with too few forms", "hat as hat/hats\n any: cap", "'cap'", "2", "form"),
    class_row("with an unknown trait", "hat\n tall: cap", "'tall'", "young", "happy"),
    class_row("with traits that exclude each other", "hat\n young old: cap", "young", "old"),
    grammar_row(
        "with a name of two classes",
        "story:\n - Once.",
        "hat\n any: cap\ncap as cap/hat\n any: a/b",
        "'hat'",
        "class",
    ),
    grammar_row(
        "with words under no name", "story:\n - Once.", " any: cap", "line 1", "words", "cap"
    ),
    # ---- only seen when it is told
    *silent_rows("of too many names", "{a.name} {b.name}", "{b.name}"),
    *silent_rows("of nobody old", "{hero is old} {hero.name}", "{hero.name}", "hero", "old"),
    *silent_rows("of a number too soon", "{n}", "'n'", "before"),
    # ---- what is asked of a story
    *(
        Refusal(
            f"a story whose {kind} is {wrong!r}",
            lambda tmp, kind=kind, wrong=wrong: api.Constraints(**{kind: wrong}),
            ValueError,
            [kind, repr(wrong), choice],
        )
        for kind, wrong, choice in [
            ("name", "Lilly", "Lily"),
            ("role", "fox", "princess"),  # heroes are people
            ("plot", "", "swap"),
            ("object", "apples", "apple"),
            ("ending", 1, "sad"),
        ]
    ),
]
