"""One document per row: each token is a target once, padding is rare, order is reproducible."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data.batches import DocumentDataset, LengthSampler, create_document_loader

END = 99
DOCUMENTS = st.lists(
    st.lists(st.integers(0, END - 1), min_size=1, max_size=12), min_size=1, max_size=40
)


def row_by_hand(document, length):
    filling = length - len(document) - 1
    return [END, *document] + [END] * filling, [*document, END] + [-100] * filling


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_a_batch_equals_rows_made_by_hand(documents):
    dataset = DocumentDataset(documents, END)
    inputs, targets = dataset[list(range(len(documents)))]
    length = max(map(len, documents)) + 1
    by_hand = [row_by_hand(document, length) for document in documents]
    assert inputs.tolist() == [row for row, _ in by_hand]
    assert targets.tolist() == [row for _, row in by_hand]
    assert inputs.dtype == targets.dtype == torch.int64
    for number, document in enumerate(documents):
        one = [ids.tolist() for ids in dataset[number]]
        assert one == [[END, *document], [*document, END]]


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, st.integers(1, 7), st.booleans(), st.integers(0, 5))
def test_an_epoch_gives_each_document_once(documents, batch_size, shuffle, seed):
    loader = create_document_loader(
        documents,
        END,
        batch_size,
        shuffle=shuffle,
        drop_last=False,
        generator=torch.Generator().manual_seed(seed),
    )
    seen = []
    for inputs, targets in loader:
        assert inputs.shape == targets.shape and len(inputs) <= batch_size
        for row, target in zip(inputs.tolist(), targets.tolist()):
            n = len(target) - target.count(-100)
            assert target[n:] == [-100] * (len(target) - n)
            seen.append(row[1:n])
            assert target[:n] == [*row[1:n], END] and row[0] == END
    assert sorted(seen) == sorted(documents)
    assert len(loader) == -(-len(documents) // batch_size)


def test_the_same_generator_gives_the_same_order_and_a_new_one_each_epoch():
    documents = [[n % 90] * (1 + n % 17) for n in range(300)]

    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        loader = create_document_loader(documents, END, 8, generator=generator)
        return [[inputs.tolist() for inputs, _ in loader] for _ in range(2)]

    first, second = epochs(1)
    assert epochs(1) == [first, second]
    assert first != second and epochs(2)[0] != first


def test_rows_of_similar_length_stand_together_and_batches_do_not_grow():
    lengths = np.random.default_rng(0).integers(10, 150, 4000)
    sampler = LengthSampler(lengths, 8, generator=torch.Generator().manual_seed(0))
    batches = [lengths[rows] for rows in sampler]
    padding = 1 - sum(b.sum() for b in batches) / sum(len(b) * b.max() for b in batches)
    assert padding < 0.02
    means = np.array([b.mean() for b in batches])
    half = len(means) // 2
    assert abs(means[:half].mean() - means[half:].mean()) < 10
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2  # batches are shuffled too


def test_what_is_dropped_is_not_always_the_longest():
    lengths = np.arange(1, 11)
    dropped = set()
    for seed in range(40):
        sampler = LengthSampler(lengths, 3, generator=torch.Generator().manual_seed(seed))
        rows = [row for batch in sampler for row in batch]
        assert len(rows) == len(set(rows)) == 9 and len(sampler) == 3
        dropped |= set(range(10)) - set(rows)
    assert len(dropped) > 5


def test_without_shuffling_the_order_is_that_of_the_lengths_and_always_the_same():
    documents = [[1] * n for n in (5, 2, 9, 2, 7)]
    loader = create_document_loader(documents, END, 2, shuffle=False, drop_last=False)
    shapes = [tuple(inputs.shape) for inputs, _ in loader]
    assert shapes == [(2, 3), (2, 8), (1, 10)]
    assert shapes == [tuple(inputs.shape) for inputs, _ in loader]


def test_ids_are_held_once_and_neighbours_share_the_end_of_text():
    dataset = DocumentDataset([[1, 2], np.array([3], dtype=np.uint16), torch.tensor([4, 5])], END)
    assert dataset.ids.tolist() == [END, 1, 2, END, 3, END, 4, 5, END]
    inputs, _ = dataset[[0]]
    inputs += 1  # a batch is a copy: the data stay as they are
    assert dataset.ids[1] == 1


def test_a_document_may_fill_the_context_and_no_more():
    assert len(DocumentDataset([[1] * 7], END, context_length=8)) == 1
    with pytest.raises(ValueError, match=r"document 1 of 8 tokens.*context_length of 8: divide it"):
        DocumentDataset([[1], [1] * 8], END, context_length=8)


@pytest.mark.parametrize(
    ("documents", "end", "error", "message"),
    [
        ([], END, ValueError, "there are no documents"),
        ([[1], []], END, ValueError, "document 1: .*at least one id"),
        ([1, 2, 3], END, ValueError, "document 0: .*one sequence"),
        ([[1], [2, END]], END, ValueError, r"document 1 holds end_of_text \(99\)"),
        ([[1], [-2]], END, ValueError, "document 1: token ids start at 0"),
        ([[1], [0.5]], END, TypeError, "document 1: token ids must be integers"),
        (["a story"], END, ValueError, "document 0: 'a story' is neither token ids"),
        ([[1]], -1, ValueError, "end_of_text must be a token id"),
    ],
)
def test_invalid_documents_are_refused(documents, end, error, message):
    with pytest.raises(error, match=message):
        create_document_loader(documents, end, 1)


def test_a_loader_without_a_batch_is_refused():
    with pytest.raises(ValueError, match="2 documents do not fill one batch of 3"):
        create_document_loader([[1], [2]], END, 3)
    with pytest.raises(ValueError, match="batch_size is 0: it must be an int of at least 1"):
        create_document_loader([[1], [2]], END, 0)
    assert len(create_document_loader([[1], [2]], END, 3, drop_last=False)) == 1
