"""The tasks of long context ask what they say, and a model that knows the answer is right."""

import pytest
import torch
import torch.nn.functional as F

from llmlib.evaluation.long_context import (
    losses_at,
    recall_accuracy,
    recall_batch,
    recall_by_distance,
    stream_of_stories,
    windows,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Reader(torch.nn.Module):
    """A model whose likeliest next token is what a rule says of the tokens so far."""

    def __init__(self, rule, vocab_size):
        super().__init__()
        self.rule, self.vocab_size = rule, vocab_size

    def forward(self, ids):
        answers = [[self.rule(row[: t + 1]) for t in range(len(row))] for row in ids.tolist()]
        return F.one_hot(torch.tensor(answers), self.vocab_size).float()


def value_after_the_same_token(row):
    before = [t for t in range(len(row) - 1) if row[t] == row[-1]]
    return row[before[0] + 1] if before else 0


def test_losses_by_position_are_those_of_each_token():
    ids = torch.randint(7, (5, 10), generator=seeded())
    table = torch.randn(7, 7, generator=seeded(1))

    class Bigram(torch.nn.Module):
        def forward(self, ids):
            return table[ids]

    expected = F.cross_entropy(table[ids[:, :-1]].mT, ids[:, 1:], reduction="none").mean(0)
    torch.testing.assert_close(losses_at(Bigram(), ids, batch_size=2), expected)


def test_windows_are_cut_anywhere_and_their_targets_are_one_further():
    ids = torch.arange(50)
    inputs, targets = next(windows(ids, 6, 64, seeded()))
    assert inputs.shape == (64, 6) and torch.equal(inputs + 1, targets)
    assert len(set(inputs[:, 0].tolist())) > 20 and targets.max() == 49


def test_recall_asks_each_key_once_more_and_the_pairs_say_the_answer():
    inputs, targets = recall_batch(5, 8, seeded(), n_keys=9, n_values=4)
    assert inputs.shape == targets.shape == (8, 20)
    for row, wanted in zip(inputs.tolist(), targets.tolist()):
        pairs = dict(zip(row[:10:2], row[1:10:2]))
        assert len(pairs) == 5 and all(9 <= value < 13 for value in pairs.values())
        assert sorted(row[10::2]) == sorted(pairs)
        assert wanted[10::2] == [pairs[key] for key in row[10::2]]
        assert set(wanted[:10] + wanted[11::2]) == {-100}
    model = Reader(value_after_the_same_token, 128)
    assert recall_accuracy(model, 6, seeded()) == 1
    assert recall_accuracy(Reader(lambda row: 64, 128), 6, seeded()) < 0.1


def test_streams_are_the_same_for_the_same_seed():
    _, ids = stream_of_stories(20, seed=3)
    assert torch.equal(ids, stream_of_stories(20, seed=3)[1]) and len(ids) > 1000


def within(reach):
    """The rule above, of a model that sees no further than `reach` tokens back."""

    def rule(row):
        before = [t for t in range(len(row) - 1) if row[t] == row[-1]]
        return row[before[0] + 1] if before and len(row) - 2 - before[0] <= reach else 0

    return Reader(rule, 128)


@pytest.mark.parametrize("reach", [1, 4, 7, 99])
def test_recall_ends_exactly_where_a_model_sees_no_further(reach):
    found = recall_by_distance(within(reach), 6, 1, seeded(), n_rows=40)
    assert [*found] == sorted(found) and set(found) == set(range(1, 22, 2))
    for far, share in found.items():
        assert share == (far <= reach), (far, share)


def test_bins_of_recall_are_means_over_distances():
    found = recall_by_distance(within(5), 6, 4, seeded(), n_rows=200)
    assert [*found] == [0, 4, 8, 12, 16, 20]
    assert found[0] == 1 and 0 < found[4] < 1 and found[8] == 0
