"""The rules of benchmarks/speedrun.py, by cases small enough to check by hand; and a quick run."""

import csv
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "speedrun.py"


def load_script():
    """Import the benchmark, which lies in no package."""
    spec = importlib.util.spec_from_file_location("speedrun", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["speedrun"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


speedrun = load_script()
import speedrun_recipes as recipes  # noqa: E402, the script has made it known

Look, Text = speedrun.Look, speedrun.Text


def text_of(n, vocab_size=5):
    """n random characters, of which a tenth is held out."""
    ids = torch.randint(vocab_size, (n,), generator=torch.Generator().manual_seed(0))
    return Text(ids, n - round(n / 10), vocab_size)


def test_the_vocabulary_comes_from_the_training_part_and_the_rest_is_unknown():
    text = speedrun.number_characters("abcabcabcabcabcabcax")  # 18 characters to learn from
    assert text.n_trained == 18 and text.vocab_size == 4
    assert text.ids.tolist() == [1, 2, 3] * 6 + [1, 0]


def test_every_held_out_character_is_a_target_once_in_windows_that_do_not_overlap():
    ids = torch.arange(100)
    windows = speedrun.held_out_windows(Text(ids, 90, 100), length=4)
    assert [targets.tolist() for _, targets in windows] == [
        [90, 91, 92, 93],
        [94, 95, 96, 97],
        [98, 99],
    ]
    for inputs, targets in windows:
        assert torch.equal(inputs, targets - 1)


def test_no_held_out_character_is_learned_from():
    text = Text(torch.arange(40), 36, 40)
    torch.manual_seed(0)
    for _ in range(50):
        inputs, targets = recipes.random_batch(text, 8, 5)
        assert targets.max() < 36 and torch.equal(targets, inputs + 1)
    seen = {int(i) for _ in range(50) for i in recipes.random_batch(text, 8, 5)[1].flatten()}
    assert seen == set(range(1, 36))


def test_the_loss_is_the_mean_over_characters_and_not_over_windows():
    text = text_of(3000)  # 300 held out: a window of 256, and one of 44
    windows = speedrun.held_out_windows(text)
    table = torch.randn(5, 5).log_softmax(-1)
    by_hand = -table[text.ids[2699:-1], text.ids[2700:]].mean().item()
    for context in (64, 128, 256):
        assert speedrun.mean_loss(table.__getitem__, windows, context) == pytest.approx(by_hand)


def test_a_model_sees_no_more_than_its_context():
    seen = []

    def logits_of(ids):
        seen.append(ids.shape[1])
        return torch.zeros(*ids.shape, 5)

    loss = speedrun.mean_loss(logits_of, speedrun.held_out_windows(text_of(3000)), 64)
    assert set(seen) == {64} and loss == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([3.0, 2.2, 2.1, 2.0], 30),
        ([3.0, 2.1, 2.2, 2.1, 2.0], 40),  # the first at the target was not confirmed
        ([3.0, 2.13, 2.13], 20),  # at the target counts
        ([3.0, 2.2, 2.1], None),  # the last has nothing after it that confirms it
        ([], None),
    ],
)
def test_a_target_counts_when_the_next_evaluation_confirms_it(losses, step):
    looks = [Look(10 * n, float(n), loss) for n, loss in enumerate(losses, start=1)]
    found = speedrun.finish(looks, 2.13)
    assert (found and found.step) == step


class Falling:
    """A recipe whose loss falls by 0.01 with each step, from log(5) on."""

    context, n_steps = 64, 200

    def __init__(self):
        self.step, self.tokens = 0, []

    def take_step(self):
        self.step += 1

    def logits_of(self, ids):
        self.tokens.append((self.step, ids.numel()))
        p = min(
            0.9, math.exp(0.01 * self.step - math.log(5))
        )  # of the character 0, which is all there is
        logits = torch.full((*ids.shape, 5), math.log((1 - p) / 4))
        logits[..., 0] = math.log(p)
        return logits


def test_a_race_looks_every_ten_steps_until_all_targets_are_confirmed():
    recipe, text = Falling(), Text(torch.zeros(30_000, dtype=torch.long), 27_000, 5)
    looks = speedrun.race(recipe, text, [1.4, 1.25])
    assert [look.step for look in looks] == [10, 20, 30, 40, 50]
    assert [look.loss for look in looks] == pytest.approx(
        [1.509, 1.409, 1.309, 1.209, 1.109], abs=1e-3
    )
    assert speedrun.finish(looks, 1.4).step == 30 and speedrun.finish(looks, 1.25).step == 40
    # a hopeless evaluation reads an eighth of the windows, and the others all held-out characters
    read = {step: sum(n for s, n in recipe.tokens if s == step) for step in (10, 30)}
    assert read[10] < 600 and read[30] >= 3000


def test_a_race_stops_at_the_end_of_a_recipe_that_does_not_arrive():
    recipe, text = Falling(), text_of(3000)
    looks = speedrun.race(recipe, text, [-1.0])
    assert looks[-1].step == 200 and speedrun.finish(looks, -1.0) is None


def test_recipes_keep_to_the_number_of_parameters():
    text = text_of(1000, vocab_size=224)  # the vocabulary of the first million characters of wiki
    for recipe in (recipes.ModernParts, recipes.Ours):
        assert recipe(text, 0).model.num_parameters() <= speedrun.MOST_PARAMETERS
    # by Karpathy's count, without positions, 0.82M: blocks, token embedding, norms
    n = recipes.NanoGPT(text, 0).model.num_parameters()
    assert n == 4 * 12 * 128**2 + 224 * 128 + 64 * 128 + 9 * 128


def test_too_many_parameters_are_refused():
    class Large(Falling):
        name, model = "large", type("M", (), {"num_parameters": staticmethod(lambda: 800_001)})

    with pytest.raises(ValueError, match="800,000"):
        speedrun.report(Large(), 0, {2.13: None}, [Look(10, 1.0, 3.0)])


@pytest.mark.parametrize("name", list(speedrun.RECIPES))
def test_no_character_sees_the_future(name):
    text = text_of(1000)
    recipe = speedrun.RECIPES[name](text, 0)
    for _ in range(3):  # projections that start at zero would hide what attention sees
        recipe.take_step()
    ids = torch.randint(5, (2, 64))
    later = ids.clone()
    later[:, 40:] = (ids[:, 40:] + 1) % 5
    with torch.inference_mode():
        before, after = recipe.logits_of(ids), recipe.logits_of(later)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.equal(before[:, 40:], after[:, 40:])


def test_the_gradient_of_the_squared_relu_is_right():
    x = torch.tensor([-1.5, -0.1, 0.2, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.equal(recipes.SquaredReLU.apply(x), x.relu().square())
    torch.autograd.gradcheck(recipes.SquaredReLU.apply, x)


def test_tables_are_looked_up_by_the_last_characters_and_by_nothing_else():
    ids = torch.tensor([[1, 2, 3, 1, 2, 3, 2]])
    for n in (2, 3):
        rows = recipes.hashes(ids, n, 10_007)[0]
        assert rows[2] != rows[1] and rows.max() < 10_007
        assert rows[4 if n == 2 else 5] == rows[1 if n == 2 else 2]
        assert rows[6] not in rows[:6]


@pytest.mark.slow
def test_a_quick_run_reports_seconds_and_ratio():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick"],
        cwd=SCRIPT.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    row = done.stdout.strip().splitlines()[-1].split()
    assert row[:2] == ["2.60", "ours"] and float(row[-4]) > 1.5, done.stdout


def test_the_runs_are_saved_with_what_made_them(tmp_path):
    found = {"ours": [{2.13: Look(20, 0.5, 2.1)}, {2.13: None}]}
    speedrun.save(tmp_path / "runs.csv", found, [10, 11])
    *header, names, first, second = (tmp_path / "runs.csv").read_text().splitlines()
    assert all(line.startswith("# ") for line in header)
    assert names == "recipe,seed,target,steps,seconds"
    assert (first, second) == ("ours,10,2.13,20,0.50", "ours,11,2.13,,")


def test_the_stored_report_is_that_of_the_reported_seeds():
    """Notebook 11 shows it: three recipes, seeds 10 to 14, one target that all have reached."""
    path = SCRIPT.parents[1] / "notebooks" / "results" / "speedrun.csv"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    runs = {(row["recipe"], int(row["seed"])) for row in rows}
    assert runs == {(name, seed) for name in speedrun.RECIPES for seed in range(10, 15)}
    assert len(rows) == 15 and all(row["target"] == "2.13" and row["steps"] for row in rows)
