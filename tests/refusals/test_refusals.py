"""What is refused stays refused, with a message that says what was given and what is allowed.

One row for each bad input, in a table for each room. The tables make their calls through public
doors alone, and api.py knows where these are: a name that changes is changed there.
"""

from importlib import import_module

import pytest

from refusals import api
from refusals.refusal import missing, says

ROOMS = [
    "model",
    "word_vectors",
    "tokenization",
    "data",
    "training",
    "generation",
    "pretrained",
    "evaluation",
    "stories",
    "cli",
    "ground",
]
TABLES = {room: import_module(f"refusals.{room}").REFUSALS for room in ROOMS}
ROWS = [pytest.param(row, id=f"{room}:{row.id}") for room in ROOMS for row in TABLES[room]]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_refused_says_why(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = getattr(api, row.error) if isinstance(row.error, str) else row.error
    with pytest.raises(error) as caught:
        row.call(tmp_path)
    message = str(caught.value)
    assert not missing(message, row.says), f"{missing(message, row.says)} is not in: {message}"


def test_each_row_has_its_own_name_and_asks_for_something():
    for room, rows in TABLES.items():
        names = [row.id for row in rows]
        assert len(set(names)) == len(names), (
            f"{room}: {sorted(n for n in names if names.count(n) > 1)}"
        )
        assert all(row.says for row in rows), f"{room}: a row that asks for no word"


@pytest.mark.parametrize(
    ("message", "fragment", "found"),
    [
        ("emb_dim is 10", "10", True),
        ("emb_dim is 100", "10", False),
        ("emb_dim is 1.5", "1", False),
        ("there are 50,257 tokens.", "50257", True),
        ("n_heads is -1", "1", False),
        ("n_heads is -1", "-1", True),
        ("no n_headsets", "n_heads", False),
        ("Give at least one", "give at least", True),
        ("give a list", ("tuple", "list"), True),
        ("give a set", ("tuple", "list"), False),
        ("shape (3,)", "(3,)", True),
    ],
)
def test_fragments_are_found_as_whole_words(message, fragment, found):
    assert says(message, fragment) is found
