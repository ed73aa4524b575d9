"""Windows, batches and the split: equal to the plain version, nothing copied, nothing leaked."""

import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmlib.data.batches import WindowDataset, as_token_array, create_dataloader, split


def windows_one_by_one(ids, max_length, stride):
    """The textbook version that the fast one has to equal."""
    starts = range(0, len(ids) - max_length, stride)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 60_000), min_size=2, max_size=60),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_windows_equal_those_cut_one_by_one(ids, max_length, stride):
    assume(len(ids) > max_length)
    dataset = WindowDataset(ids, max_length, stride)
    got = [(x.tolist(), y.tolist()) for x, y in (dataset[i] for i in range(len(dataset)))]
    assert got == windows_one_by_one(ids, max_length, stride)
    assert len(dataset) == (len(ids) - max_length - 1) // stride + 1


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, np.uint16, range])
def test_every_kind_of_token_ids_gives_the_same_windows(make):
    ids = range(20) if make is range else make([*range(20)])
    inputs, targets = WindowDataset(ids, 4, 2)[[0, 3]]
    assert inputs.tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert targets.tolist() == [[1, 2, 3, 4], [7, 8, 9, 10]]
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous() and targets.is_contiguous()


def test_a_file_is_mapped_and_not_read(tmp_path):
    path = tmp_path / "tokens.npy"
    np.save(path, np.arange(1000, dtype=np.uint16))
    assert isinstance(as_token_array(path).base, np.memmap)
    inputs, _ = WindowDataset(str(path), 10)[1]
    assert inputs.tolist() == list(range(10, 20))


def test_ids_are_held_once_and_shared():
    for ids in (np.arange(100), torch.arange(100)):
        dataset = WindowDataset(ids, 8, 1)
        assert np.shares_memory(dataset.windows, np.asarray(ids))
    ids = torch.arange(100)
    inputs, _ = WindowDataset(ids, 8, 1)[0]
    inputs += 1  # a batch is a copy: the data stay as they are
    assert ids[0] == 0


def test_ten_million_tokens_need_no_time_and_no_memory():
    """A bound on memory, which is exact; that it is fast too is shown by benchmarks/data.py."""
    ids = np.zeros(10_000_000, dtype=np.uint16)
    tracemalloc.start()
    loader = create_dataloader(ids, 256, batch_size=32)
    next(iter(loader))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    copies = 2 * 8 * len(loader.dataset) * 256  # what a list of int64 windows holds
    assert peak * 20 < copies


@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_gives_each_window_once(drop_last):
    loader = create_dataloader(range(101), 4, batch_size=8, drop_last=drop_last)
    starts = [row[0] for inputs, _ in loader for row in inputs.tolist()]
    assert len(set(starts)) == len(starts) == (24 if drop_last else 25)
    assert len(loader) == (3 if drop_last else 4)


def test_order_comes_from_the_generator():
    def epochs(seed):
        loader = create_dataloader(range(400), 4, generator=torch.Generator().manual_seed(seed))
        return [[x[:, 0].tolist() for x, _ in loader] for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again != other
    assert first[0] != first[1]


def test_without_shuffling_order_is_that_of_the_text():
    loader = create_dataloader(range(33), 4, batch_size=2, shuffle=False)
    assert torch.cat([x.flatten() for x, _ in loader]).tolist() == list(range(32))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([], ValueError, "at least one id"),
        ([[1, 2], [3, 4]], ValueError, r"not of shape \(2, 2\)"),
        (5, ValueError, r"not of shape \(\)"),
        ([1.5, 2.5], TypeError, "must be integers, not float64"),
        (torch.rand(10), TypeError, "must be integers, not float32"),
        (["a", "b"], TypeError, "must be integers"),
        ([True, False], TypeError, "must be integers, not bool"),
        ([3, -1, 2], ValueError, "-1 is among them"),
        ("some text", ValueError, "encode a text first"),
        ("absent.npy", FileNotFoundError, "absent"),
    ],
)
def test_what_is_not_a_sequence_of_ids_is_refused(ids, error, message):
    with pytest.raises(error, match=message):
        WindowDataset(ids, 2)


def test_a_npy_file_is_never_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        WindowDataset(tmp_path / "objects.npy", 2)


@pytest.mark.parametrize("name", ["max_length", "stride", "batch_size"])
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_below_one_are_refused(name, value):
    sizes = {"max_length": 4, "stride": 2, "batch_size": 2, name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}: it must be an int of at least 1"):
        create_dataloader(range(100), **sizes)


def test_a_window_longer_than_the_text_is_refused():
    with pytest.raises(ValueError, match="needs 11 tokens, but there are 10"):
        WindowDataset(range(10), 10)
    assert len(WindowDataset(range(11), 10)) == 1


def test_a_batch_larger_than_the_epoch_is_refused():
    with pytest.raises(ValueError, match="2 windows do not fill one batch of 3"):
        create_dataloader(range(9), 4, batch_size=3)
    assert len(create_dataloader(range(9), 4, batch_size=3, drop_last=False)) == 1


def test_an_index_beyond_the_last_window_is_an_index_error():
    dataset = WindowDataset(range(10), 4)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert len([*dataset]) == len(dataset)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(max_size=3), min_size=2, max_size=40), st.floats(0.01, 0.99), st.integers(0, 9)
)
def test_no_document_is_on_both_sides(documents, fraction, seed):
    assume(len(set(documents)) > 1)
    train, val = split(documents, fraction, seed)
    assert train and val and not set(train) & set(val)
    assert sorted(train + val) == sorted(documents)
    assert (train, val) == split(documents, fraction, seed)


def test_the_split_keeps_order_and_share():
    documents = [f"{i:03d}" for i in range(200)]
    train, val = split(documents, 0.1)
    assert len(val) == 20 and train == sorted(train) and val == sorted(val)
    assert val != split(documents, 0.1, seed=1)[1]


@pytest.mark.parametrize(
    ("documents", "fraction", "error", "message"),
    [
        ([], 0.1, ValueError, "0 different documents"),
        (["a"], 0.1, ValueError, "1 different documents"),
        (["a", "a"], 0.1, ValueError, "1 different documents"),
        ("one long text", 0.1, TypeError, "list of documents"),
        (["a", "b"], 0, ValueError, "between 0 and 1, not at 0"),
        (["a", "b"], 1, ValueError, "between 0 and 1"),
        (["a", "b"], -0.5, ValueError, "between 0 and 1"),
        (["a", "b"], float("nan"), ValueError, "between 0 and 1"),
    ],
)
def test_what_cannot_be_divided_is_refused(documents, fraction, error, message):
    with pytest.raises(error, match=message):
        split(documents, fraction)


def test_loading_is_faster_than_a_list_of_windows():
    """The bound is a twentieth, the true ratio a thousandth: a busy machine does not matter."""
    ids = np.zeros(2_000_000, dtype=np.uint16)
    start = time.process_time()
    next(iter(create_dataloader(ids, 256, batch_size=32)))
    ours = time.process_time() - start
    start = time.process_time()
    [torch.tensor(ids[s : s + 257].astype(np.int64)) for s in range(0, len(ids) - 256, 16)]
    assert time.process_time() - start > 20 * ours
