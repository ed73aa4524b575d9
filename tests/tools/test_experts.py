"""A slice of the stored experiment of notebook 13 is made again, and its rows are whole."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "experiments"))
import experts


def test_every_run_has_a_row_for_each_mark_and_the_header_says_where_it_comes_from():
    rows = experts.read()
    runs = {(row["model"], row["seed"]) for row in rows}
    assert len(rows) == len(runs) * len(experts.MARKS) > 0
    assert all(row["model"] in experts.MODELS for row in rows)
    assert all(int(row["step"]) == round(float(row["mark"]) * int(row["steps"])) for row in rows)
    assert all(int(row["steps"]) == experts.STEPS[row["model"]] for row in rows)
    header = experts.PLACE.read_text(encoding="utf-8").splitlines()[:5]
    words = ("command:", "commit:", "versions:", "CPU-seconds", "floor")
    assert all(line.startswith("# ") and word in line for line, word in zip(header, words))


@pytest.mark.slow
def test_the_beginning_of_a_run_gives_its_first_row_again():
    (again,) = experts.run("no balance", 0, experts.MARKS[:1])
    (stored,) = (
        row
        for row in experts.read()
        if (row["model"], row["seed"], row["mark"]) == ("no balance", "0", str(experts.MARKS[0]))
    )
    assert again["parameters"] == int(stored["parameters"])
    for name in ("loss", "violation_0", "violation_1", "entropy_0", "information_0"):
        assert again[name] == pytest.approx(float(stored[name]), rel=0.03, abs=0.02), name
