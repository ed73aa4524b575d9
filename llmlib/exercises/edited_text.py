"""Edited texts for the check of exercise 01.8: which words are new, and who asks for others.

Written by hand.
"""

import re
from collections import Counter
from functools import wraps
from itertools import accumulate, chain

WORDS = re.compile(r"\d{1,3}| ?[^\W\d]+| ?[^\w\s]+|\s+(?!\S)|\s")


def in_pieces(word):
    """Return the pieces of a word, of two characters each."""
    return re.findall("(?s)..?", word)


def spans_of(words):
    """Return where each word begins and ends."""
    ends = [*accumulate(map(len, words))]
    return list(zip([0, *ends], ends))


def editor(answer):
    """Give `word_end` and `cut` to an answer; raise RuntimeError for work that no edit asks for."""

    @wraps(answer)
    def edit(words, edits):
        """Call the answer with a `word_end` and a `cut` that refuse needless work."""
        old = spans_of(map("".join, words))
        text, stays = edited("".join(chain.from_iterable(words)), edits)
        kept = {
            (start + shift, end + shift)
            for first, last, shift in stays
            for start, end in old
            if first <= start and end <= last
        }
        spans = spans_of(WORDS.findall(text))
        left = Counter(text[start:end] for start, end in spans if (start, end) not in kept)
        limit = left.total() + 4 * len(edits)
        asked, needless = [], []

        def word_end(text, place):
            """Return the end of the word that begins at a place."""
            asked.append(place)
            if len(asked) == limit + 1:
                needless.append(f"word_end was asked more than {limit} times")
            found = WORDS.match(text, place)
            if found is None:
                raise IndexError(f"word_end(text, {place}): the text ends at {len(text)}")
            return found.end()

        def cut(word):
            """Return the pieces of a word, and note if it is not new."""
            left[word] -= 1
            if left[word] < 0:
                needless.append(f"cut({word!r}) was asked, but that word is not new")
            return in_pieces(word)

        result = answer([[*pieces] for pieces in words], [*edits], word_end, cut)
        # a wrong result is told first
        if needless and result == [in_pieces(text[start:end]) for start, end in spans]:
            raise RuntimeError(needless[0])
        return result

    return edit


def edited(text, edits):
    """Return the edited text, and the parts that stay: their old places, and how far they move."""
    new, place, stays = "", 0, []
    for start, end, inserted in [*edits, (len(text), len(text), "")]:
        stays.append((place, start, len(new) - place))
        new += text[place:start] + inserted
        place = end
    return new, stays
