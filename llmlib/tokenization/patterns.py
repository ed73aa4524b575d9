r"""Regular expressions that split a text: the part of their language in which all engines agree.

Written by hand. A tokenizer.json is read by Oniguruma (in Hugging Face's `tokenizers`), a pattern
of tiktoken by Rust's fancy-regex, and ours by Python's `regex`. `&&` in a set, `$`, `\w`, `{1,3}+`
and `(?i)` mean something else in each of them, and none says so. `from_oniguruma` puts a pattern
into words that all three read alike, or refuses it with the construct that it met. Left out:
characters newer than Unicode 16, which one engine has heard of and another has not.
"""

from llmlib import checks

# What Oniguruma's classes hold, as members of a set that the three engines read alike.
CLASSES = {"w": r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}", "h": "0-9a-fA-F"}
LONE_WORD = r"\u00b2\u00b3\u00b9\u00bc-\u00be"  # which \w holds outside of a set, and not inside
W = f"[{CLASSES['w']}{LONE_WORD}]"
# Places in a text: ^ and $ are those of any line, as in Ruby, whose rules are Oniguruma's.
PLACES = {
    "^": r"(?<![^\n])(?=[\s\S])",
    "$": r"(?=\n|(?![\s\S]))",
    r"\A": r"(?<![\s\S])",
    r"\z": r"(?![\s\S])",
    r"\b": f"(?:(?<={W})(?!{W})|(?<!{W})(?={W}))",
    r"\B": f"(?:(?<={W})(?={W})|(?<!{W})(?!{W}))",
}
CATEGORIES = (
    "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp"
)
SCRIPTS = (
    "Han Hiragana Katakana Hangul Thai Latin Cyrillic Greek Arabic Hebrew Devanagari Alphabetic"
)
PROPERTIES = frozenset([*CATEGORIES.split(), *SCRIPTS.split()])

LONGEST, DEEPEST = 5000, 50  # characters, and groups inside one another
Widths = tuple[int, float]  # the fewest and the most characters that a part can match


def from_oniguruma(source: str) -> str:
    """Return a pattern of Hugging Face's in words that Python's and Rust's engines read alike.

    Raises ValueError, naming the construct, for what they might read differently, and for a pattern
    that can match nothing at all, which every engine handles in another way.
    """
    return PatternReader(source).read()


def is_portable(source: str) -> bool:
    """Return whether Oniguruma, fancy-regex and `regex` cut every text alike by a pattern."""
    try:
        return from_oniguruma(source) == source
    except ValueError:
        return False


class PatternReader:
    """Reads a pattern from left to right; each method returns what it read, and its widths."""

    def __init__(self, source: str):
        self.source, self.place, self.depth = source, 0, 0
        self.folded = False  # inside (?i:...)

    def need(self, fact: object, what: str) -> None:
        """Refuse the pattern, naming a construct and its place, unless a fact holds."""
        message = (
            f"the pattern {checks.shown(self.source)} has {what} before character {self.place}"
        )
        checks.require(fact, f"{message}, which engines of regular expressions read differently")

    def peek(self, n: int = 1) -> str:
        return self.source[self.place : self.place + n]

    def take(self, n: int = 1) -> str:
        self.place += n
        return self.source[self.place - n : self.place]

    def read(self) -> str:
        """Return the whole pattern."""
        n = len(self.source)
        checks.require(n <= LONGEST, f"a pattern of {n:,} characters is longer than {LONGEST:,}")
        text, (least, _) = self.alternatives()
        self.need(self.place == n, "a ) without its (")
        self.need(least, "an alternative that matches the empty string")
        return text

    def alternatives(self) -> tuple[str, Widths]:
        """Read up to the end of a group: alternatives between bars."""
        texts, widths = [], []
        while True:
            text, width = self.sequence()
            texts.append(text)
            widths.append(width)
            if self.peek() != "|":
                return "|".join(texts), (min(w[0] for w in widths), max(w[1] for w in widths))
            self.take()

    def sequence(self) -> tuple[str, Widths]:
        """Read one alternative: parts with their quantifiers."""
        text, least, most = "", 0, 0.0
        while self.peek() not in ("", "|", ")"):
            part, (low, high), repeatable = self.atom()
            mark, times = self.quantifier()
            self.need(not mark or (repeatable and high), f"{mark} after a look around")
            self.need(times[1] <= 1 or low, f"{mark} after what may be empty")
            text += part + mark
            least, most = least + low * times[0], most + (high * times[1] if high else 0)
        return text, (least, most)

    def quantifier(self) -> tuple[str, Widths]:
        """Read what follows a part: how often it comes."""
        sign = self.peek()
        if sign and sign in "*+?":
            mark = self.take()
            if self.peek() and self.peek() in "?+":  # as few as possible, or nothing given back
                mark += self.take()
            return mark, {"*": (0, float("inf")), "+": (1, float("inf")), "?": (0, 1)}[mark[0]]
        if sign != "{":
            return "", (1, 1)
        mark, _, _ = self.source[self.place :].partition("}")
        low, comma, high = mark[1:].partition(",")
        plain = all(bound.isascii() and bound.isdigit() for bound in (low, high or low))
        self.need(plain and len(mark) < 10, "{ that is no {n}, {n,} or {n,m}")
        self.take(len(mark) + 1)
        most = int(high) if high else float("inf") if comma else int(low)
        self.need(int(low) <= most and most and (most <= 1000 or not high), f"the bounds {mark}}}")
        return mark + "}", (int(low), most)

    def atom(self) -> tuple[str, Widths, bool]:
        """Read one part: its text, its widths, and whether a quantifier may follow."""
        sign = self.peek()
        place = self.peek(2) if sign == "\\" else sign
        if place in PLACES:
            self.take(len(place))
            return PLACES[place], (0, 0), False
        if sign == "(":
            return self.group()
        if sign == "[":
            return self.set(), (1, 1), True
        if sign == "\\":
            return self.escape(), (1, 1), True
        self.take()
        self.need(sign not in "{}]*+?", f"an unescaped {sign}")
        self.letter(sign)
        return sign, (1, 1), True

    def letter(self, sign: str) -> None:
        """Refuse letters whose other cases differ between the engines, where cases are folded."""
        if self.folded:
            before = self.source[self.place - 2 : self.place].lower()
            known = sign.isascii() and sign not in "iI."
            self.need(known, f"(?i) with {sign!r}")
            # one character in a text can stand for these two: the German sharp s, and ligatures
            self.need(before not in ("ss", "ff", "st"), f"(?i) with {before!r}")

    def group(self) -> tuple[str, Widths, bool]:
        """Read a group in parentheses. What it captures is of no use here."""
        openings = ("(?:", "(?>", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(")
        opening = next(o for o in openings if self.peek(len(o)) == o)
        self.take(len(opening))
        self.need(self.peek() not in ("?", "*"), f"({self.peek(3)}")
        self.depth += 1
        checks.require(self.depth <= DEEPEST, f"the pattern nests over {DEEPEST} groups")
        self.need(not self.folded, "a group inside (?i:...)")
        self.folded = opening == "(?i:"
        text, widths = self.alternatives()
        self.need(self.peek() == ")", "a ( without its )")
        self.take()
        self.depth, self.folded = self.depth - 1, False
        if opening in openings[3:7]:
            behind = opening.startswith("(?<")
            self.need(not behind or widths[0] == widths[1], "a look behind of several widths")
            return f"{opening}{text})", (0, 0), False
        return f"{'(?:' if opening == '(' else opening}{text})", widths, True

    def escape(self, inside: bool = False) -> str:
        """Read a backslash and what belongs to it; inside: of a set."""
        _, sign = self.take(), self.take()
        if sign and (sign in "rntfsSdD" or (sign.isascii() and not sign.isalnum())):
            self.need(not (self.folded and sign in "sSdD"), f"(?i) with \\{sign}")
            return "\\" + sign
        if sign in ("u", "x"):
            digits = self.take(4 if sign == "u" else 2)
            self.need(all(d in "0123456789abcdefABCDEF" for d in digits), f"\\{sign}{digits}")
            self.need(not self.folded and (sign == "u" or digits < "8"), f"\\{sign}{digits}")
            return f"\\{sign}{digits}"
        if sign and sign in "pP" and self.peek() == "{":
            name = self.source[self.place :].partition("}")[0][1:]
            self.take(len(name) + 2)
            if name.startswith("^"):
                sign, name = "P" if sign == "p" else "p", name[1:]
            self.need(name in PROPERTIES and not self.folded, f"\\{sign}{{{name[:40]}}}")
            return f"\\{sign}{{{name}}}"
        self.need(sign.lower() in CLASSES and not self.folded, f"\\{sign}")
        self.need(not inside or sign.islower(), f"\\{sign} in a set")
        members = CLASSES[sign.lower()]
        if inside:
            return members
        return f"[{'^' if sign.isupper() else ''}{members}{LONE_WORD if sign in 'wW' else ''}]"

    def set(self) -> str:
        """Read a set in brackets: characters, classes and ranges."""
        text, first = self.take(), True
        if self.peek() == "^":
            self.need(not self.folded, "(?i) with [^")
            text += self.take()
        while self.peek() != "]" or first:
            self.need(self.peek() and self.peek() not in "[]", "an unescaped [ or ] in a set")
            self.need(self.peek(2) not in ("&&", "||", "~~"), f"{self.peek(2)} in a set")
            item, single = self.member()
            text, first = text + item, False
            if self.peek() == "-" and self.peek(2) != "-]":
                self.need(single and item != "-" and not self.folded, "a range in a set")
                self.take()
                self.need(self.peek() not in ("[", "", "-"), "a range in a set")
                last, single = self.member()
                self.need(single and code(item) <= code(last), f"the range {item}-{last}")
                text += "-" + last
        return text + self.take()

    def member(self) -> tuple[str, bool]:
        """Read one member of a set, and whether it is a single character."""
        if self.peek() == "\\":
            item = self.escape(inside=True)
            return item, item[1] in "ux" or (len(item) == 2 and item[1] not in "sSdD")
        sign = self.take()
        self.letter(sign)
        return sign, True


def code(item: str) -> int:
    """Return the code point of a character as a set writes it."""
    if item[0] != "\\":
        return ord(item)
    if item[1] in "ux":
        return int(item[2:], 16)
    return ord({"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(item[1], item[1]))
