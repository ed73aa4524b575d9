"""Stored experiments: the file is whole and fair, and a slice of it can be made again."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "experiments"))
import modern_parts  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return {(row["variant"], int(row["seed"])): row for row in modern_parts.read()}


def test_every_variant_ran_with_every_seed(rows):
    assert rows.keys() == {(variant, seed) for seed, variant in modern_parts.RUNS}


def test_sizes_and_steps_are_those_of_the_plan_and_fair(rows):
    """Parameters within a hundredth of the base's, and steps in proportion to what they cost."""
    wanted = int(rows["base", 0]["parameters"])
    for (variant, _), row in rows.items():
        assert int(row["parameters"]) == pytest.approx(wanted, rel=0.01), variant
        assert int(row["steps"]) == modern_parts.plan(variant).max_steps, variant
        cost = modern_parts.COSTS.get(variant, 1.0)
        longer = 1.1 if variant == "a tenth more time" else 1.0
        assert int(row["steps"]) * cost == pytest.approx(longer * modern_parts.STEPS, rel=0.01)


def test_the_excess_is_that_over_the_exact_floor(rows):
    floor = modern_parts.language()[2]
    for row in rows.values():
        assert float(row["excess"]) == pytest.approx(float(row["loss"]) / floor - 1, abs=1e-3)
        assert float(row["loss"]) > floor


@pytest.mark.slow
def test_the_first_part_of_a_run_can_be_made_again(rows):
    """Within 0.02 nats: other processors add up in another order, and steps carry it on."""
    mark = modern_parts.MARKS[0]
    row = modern_parts.run("together", 1, marks=(mark,))
    stored = rows["together", 1]
    assert row["steps"] == int(stored["steps"]) and row["parameters"] == int(stored["parameters"])
    assert row["loss"] == pytest.approx(float(stored[f"loss_{mark:.0%}"]), abs=0.02)
