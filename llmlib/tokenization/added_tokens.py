"""Added tokens: strings that are looked for in a text before anything else cuts it.

Written by hand, after the rules of Hugging Face's `tokenizers` (added_vocabulary.rs), whose files
hold them. A special token is one of them. `AddedTokens` finds them; their ids are given when the
file is read.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import regex

from llmlib import checks

# Unicode's White_Space. str.strip() takes four control characters (1c to 1f) for spaces, too.
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
WORD = regex.compile(r"\w")

Part = tuple[str, int | None, bool]  # a part of a text, its id if it is a token, is it the start


@dataclass(frozen=True)
class AddedToken:
    """A string with an id, and how it is looked for.

    single_word: only where no letter or digit stands beside it. lstrip, rstrip: it takes the spaces
    before, or behind it. normalized: it is looked for after the text was normalized, and in its
    own normalized form. special: an order to the model, which only `allowed_special` lets through.
    """

    content: str
    id: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


def are_plain(tokens: Collection[AddedToken]) -> bool:
    """Return whether tokens are special and nothing else, as those of tiktoken are.

    All are looked for in one go, if none, or each of them, waits for a normalizer.
    """
    flagged = any(t.single_word or t.lstrip or t.rstrip or not t.special for t in tokens)
    return not flagged and len({token.normalized for token in tokens}) < 2


class AddedTokens:
    """Finds added tokens in a text; normalize: what is done to the text between them.

    Raises ValueError if two of them look the same once they are normalized.
    """

    def __init__(self, tokens: Iterable[AddedToken], normalize: Callable[[str], str] = str):
        self.tokens, self.normalize = list(tokens), normalize
        first = {token.content: token for token in self.tokens if not token.normalized}
        then = [(normalize(token.content), token) for token in self.tokens if token.normalized]
        checks.different_tokens(content for content, _ in then)
        # those that are not normalized are cut out of the raw text, the others afterwards
        self.passes = [(finder(table), table) for table in (first, dict(then))]

    def __bool__(self) -> bool:
        return bool(self.tokens)

    def split(
        self,
        text: str,
        special_tokens: Collection[str],
        allowed_special: Collection[str] | str,
        disallowed_special: Collection[str] | str,
    ) -> Iterator[Part]:
        """Yield the parts of a text: added tokens with their ids, and normalized text with None.

        allowed_special, disallowed_special: as for `Tokenizer.encode`.
        """
        checks.names_or_all(allowed_special, disallowed_special)
        special = set(special_tokens)
        allowed = special & set(special if allowed_special == "all" else allowed_special)
        refused = special - allowed if disallowed_special == "all" else disallowed_special
        checks.no_special_tokens(text, refused)
        return self.found(text, special - allowed)

    def found(self, text: str, ignored: Collection[str]) -> Iterator[Part]:
        """Yield the parts of a text; ignored: special tokens that are read as plain text."""
        for part, i, is_start in cut(text, *self.passes[0], ignored):
            if i is not None:
                yield part, i, is_start
                continue
            for piece, number, is_first in cut(self.normalize(part), *self.passes[1], ignored):
                yield piece, number, is_start and is_first


def finder(tokens: Collection[str]) -> re.Pattern | None:
    """Return an expression that finds the longest of these strings, or None without any."""
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if tokens else None


def cut(
    text: str, found: re.Pattern | None, tokens: dict[str, AddedToken], ignored: Collection[str]
) -> Iterator[Part]:
    """Yield the parts of a text between tokens, and the tokens, with the spaces that they take."""
    place = 0
    for match in found.finditer(text) if found else ():
        token, (start, stop) = tokens[match[0]], match.span()
        if token.content in ignored:
            continue
        beside = text[start - 1 : start] + text[stop : stop + 1]
        if token.single_word and WORD.search(beside):
            continue
        if token.lstrip:
            start = max(start, place)  # the spaces before may have gone to the last token
            while start > place and text[start - 1] in SPACES:
                start -= 1
        while token.rstrip and text[stop : stop + 1] and text[stop] in SPACES:
            stop += 1
        if place < start:
            yield text[place:start], None, place == 0
        if start < stop:
            yield text[start:stop], token.id, start == 0
        place = stop
    if place < len(text):
        yield text[place:], None, place == 0
