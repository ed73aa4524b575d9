"""The story world in four languages that share no word and no mark: four disjoint worlds.

Written by hand; notebook 13 asks with it whether experts specialize. A language moves each letter
on in the alphabet and has marks of its own. So every story has a translation in each, token by
token, whose probability is the same: the floor of the loss is known for all. Only the end of a text
is common to them.

>>> for language in range(N_LANGUAGES):
...     print(translate('"Yes!" said Tom.', language))
"Yes!" said Tom.
«Zft¡« tbje Upn·
»Hnb‼» bjrm Cxv•
°Pvj§° jrzu Kfd†
"""

from string import ascii_lowercase as LETTERS

# Chosen such that no word of the default world becomes another one; a test looks
SHIFTS = (0, 1, 9, 17)
MARKS = ('.,!?"', "·;¡¿«", "•:‼⁇»", "†‡§¶°")
N_LANGUAGES = len(SHIFTS)


def table(language: int) -> dict[int, int]:
    """Return which character stands for which, for `str.translate`."""
    moved = LETTERS[SHIFTS[language] :] + LETTERS[: SHIFTS[language]]
    return str.maketrans(
        LETTERS + LETTERS.upper() + MARKS[0], moved + moved.upper() + MARKS[language]
    )


def translate(text: str, language: int) -> str:
    """Return a text of the default world in language 0, 1, 2 or 3; in 0 it stays as it is."""
    return text.translate(table(language))
