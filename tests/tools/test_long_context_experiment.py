"""The stored rows of notebook 12 can be made again."""

import csv
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def experiment():
    path = ROOT / "tools" / "experiments" / "long_context.py"
    spec = importlib.util.spec_from_file_location("long_context_experiment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(module):
    lines = module.PLACE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_every_run_is_stored_once_and_whole(experiment):
    stored = {}
    for row in rows(experiment):
        key = row["experiment"], row["model"], int(row["seed"])
        stored.setdefault(key, []).append(int(row["x"]))
    wanted = {
        (name, model, seed)
        for name, (_, models) in experiment.RUNS.items()
        for model in models
        for seed in experiment.SEEDS
    }
    assert stored.keys() == wanted
    for key, places in stored.items():
        assert len(places) == len(set(places)) and places == sorted(places), key


@pytest.mark.slow
def test_a_slice_is_made_again(experiment):
    """Another than the one that the notebook makes again."""
    stored = {
        int(row["x"]): float(row["value"])
        for row in rows(experiment)
        if (row["experiment"], row["model"], row["seed"]) == ("recall", "delta", "1")
    }
    for n, share in experiment.recall("delta", 1):
        assert abs(share - stored[n]) < 0.1, (n, share, stored[n])
