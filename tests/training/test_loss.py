"""The loss equals torch's, the evaluation is honest, the counts are Kneser-Ney, the floor holds."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from llmlib import stories
from llmlib.data.batches import create_document_loader
from llmlib.evaluation.ngrams import NGramModel
from llmlib.evaluation.perplexity import Evaluation, evaluate
from llmlib.tokenization.words import WordTokenizer, join_words, split_words
from llmlib.training.loss import chunked_cross_entropy, cross_entropy

# cross_entropy ------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 30), st.integers(0, 999))
def test_cross_entropy_equals_torch_and_the_definition(B, T, V, seed):
    torch.manual_seed(seed)
    logits = 5 * torch.randn(B, T, V)
    targets = torch.randint(V, (B, T))
    targets[torch.rand(B, T) < 0.3] = -100
    targets[0, 0] = 0
    ours = cross_entropy(logits, targets)
    torch.testing.assert_close(ours, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    p = logits.double().exp() / logits.double().exp().sum(-1, keepdim=True)
    by_hand = [-p[b, t, targets[b, t]].log() for b, t in (targets != -100).nonzero().tolist()]
    torch.testing.assert_close(ours.double(), torch.stack(by_hand).mean(), rtol=1e-5, atol=1e-5)
    total = cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(total, ours * len(by_hand))


def test_a_uniform_model_scores_the_logarithm_of_the_vocabulary():
    for V in (1, 2, 50_257):
        loss = cross_entropy(torch.zeros(2, 3, V), torch.zeros(2, 3, dtype=torch.int64))
        assert abs(loss.item() - math.log(V)) < 1e-5


def test_the_softmax_is_done_in_float32():
    torch.manual_seed(0)
    logits, targets = torch.randn(64, 5000).bfloat16(), torch.randint(5000, (64,))
    loss = cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), targets))
    assert cross_entropy(logits.double(), targets).dtype == torch.float64


def test_extreme_logits_give_finite_losses_and_shifted_ones_the_same():
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert cross_entropy(logits, torch.tensor([0])) == 0
    assert cross_entropy(logits, torch.tensor([1])) == 2e4
    torch.testing.assert_close(cross_entropy(logits + 77, torch.tensor([2])), torch.tensor(1e4))


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (torch.zeros(2, 3), TypeError, "targets hold torch.float32: token ids are torch.int64"),
        (torch.zeros(2, 3, dtype=torch.bool), TypeError, "targets hold torch.bool"),
        (torch.zeros(2, 3, dtype=torch.uint8), TypeError, "targets hold torch.uint8"),
        ([[0, 0, 0]], TypeError, "targets are a list"),
        (torch.zeros(3, 2, dtype=torch.int64), ValueError, r"shape \(3, 2\), expected \(2, 3\)"),
        (torch.full((2, 3), 5), ValueError, "target 5 is outside the vocabulary: ids are 0 to 4"),
        (torch.full((2, 3), -1), ValueError, "target -1 is outside.*or -100"),
        (torch.full((2, 3), -100), ValueError, "none of the 6 targets counts"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, error, message):
    with pytest.raises(error, match=message):
        cross_entropy(torch.zeros(2, 3, 5), targets)
    with pytest.raises(error, match=message):
        chunked_cross_entropy(torch.zeros(2, 3, 4), torch.zeros(5, 4), targets)


@pytest.mark.parametrize("V", [50, 99, 100, 362])
def test_memory_that_was_not_set_does_not_reach_the_gradients(V, monkeypatch):
    """A bfloat16 product of oneDNN reads past the end of a row, and 0 times nan is nan."""
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: empty(*a, **k).fill_(math.nan))
    features = torch.randn(256, 96, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(V, 96, requires_grad=True)
    chunked_cross_entropy(features, weight, torch.randint(V, (256,)), reduction="sum").backward()
    for tensor in (features, weight):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


@pytest.mark.parametrize("loss", [cross_entropy, lambda z, y, **k: evaluate(lambda x: z, [(y, y)])])
def test_invalid_logits_are_refused(loss):
    y = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"logits must be a tensor of floats, not torch.int64"):
        loss(torch.zeros(2, 3, 5, dtype=torch.int64), y)
    with pytest.raises(TypeError, match="list"):
        loss([[1.0]], y)
    with pytest.raises(ValueError, match=r"logits have shape \(5,\)"):
        loss(torch.zeros(5), y)


def test_other_options_are_checked():
    y = torch.zeros(1, dtype=torch.int32)
    assert cross_entropy(torch.zeros(1, 1), y) == 0  # int32 is fine
    with pytest.raises(ValueError, match="reduction is 'none': it must be one of mean, sum"):
        cross_entropy(torch.zeros(1, 1), y, reduction="none")


# chunked_cross_entropy ----------------------------------------------------------------------------


def problem(N=23, C=8, V=37, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    features = torch.randn(N, C, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, C, dtype=dtype, requires_grad=True)
    targets = torch.randint(V, (N,))
    targets[::4] = -100
    return features, weight, targets


def value_and_gradients(loss, *tensors):
    return loss.detach(), *torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7, 22, 23, 24, 1000, None])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_chunks_of_every_size_equal_torch_in_value_and_gradients(chunk_size, reduction):
    features, weight, targets = problem()
    got = value_and_gradients(
        chunked_cross_entropy(features, weight, targets, chunk_size, reduction=reduction),
        features,
        weight,
    )
    torch_loss = F.cross_entropy(features @ weight.T, targets, reduction=reduction)
    expected = value_and_gradients(torch_loss, features, weight)
    scale = 1 if reduction == "mean" else len(targets)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * scale)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(1, 20),
    st.integers(1, 25),
    st.integers(0, 99),
)
def test_chunks_equal_torch_for_every_shape(N, C, V, chunk_size, seed):
    features, weight, targets = problem(N, C, V, seed)
    targets[-1] = V - 1
    loss = chunked_cross_entropy(features[None], weight, targets[None], chunk_size)
    got = value_and_gradients(loss, features, weight)
    expected = value_and_gradients(F.cross_entropy(features @ weight.T, targets), features, weight)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)


def test_chunked_gradients_pass_the_numerical_check():
    features, weight, targets = problem(7, 3, 5, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda x, w: chunked_cross_entropy(x, w, targets, 3), (features, weight)
    )


def test_chunked_equals_torchs_own_fused_loss():
    features, weight, targets = problem()
    expected = F.linear_cross_entropy(features, weight, targets)
    torch.testing.assert_close(chunked_cross_entropy(features, weight, targets, 5), expected)


def test_gradients_are_scaled_by_what_follows_and_survive_a_second_pass():
    features, weight, targets = problem()
    expected = value_and_gradients(F.cross_entropy(features @ weight.T, targets), features, weight)
    loss = 3 * chunked_cross_entropy(features, weight, targets, 5)
    for _ in range(2):
        gradients = torch.autograd.grad(loss, (features, weight), retain_graph=True)
        for ours, theirs in zip(gradients, expected[1:]):
            torch.testing.assert_close(ours, 3 * theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", ["features", "weight", "both"])
def test_what_needs_no_gradient_gets_none(frozen):
    features, weight, targets = problem()
    expected = value_and_gradients(F.cross_entropy(features @ weight.T, targets), features, weight)
    features.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "features")
    loss = chunked_cross_entropy(features, weight, targets, 5)
    torch.testing.assert_close(loss.detach(), expected[0])
    assert loss.requires_grad == (frozen != "both")
    if loss.requires_grad:
        loss.backward()
        for tensor, gradient in zip((features, weight), expected[1:]):
            if tensor.requires_grad:
                torch.testing.assert_close(tensor.grad, gradient)
            else:
                assert tensor.grad is None


class Largest(TorchDispatchMode):
    """The most numbers in one tensor that is made inside, and how often a product is made."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(getattr(self, "numel", 0), tensor.numel())
        self.products = getattr(self, "products", 0) + ("mm" in str(operation))
        return result


def test_the_whole_logits_never_exist():
    N, C, V = 512, 4, 600
    features, weight, targets = problem(N, C, V)
    with Largest() as chunked:
        chunked_cross_entropy(features, weight, targets, 16).backward()
    assert chunked.numel <= 16 * (V + 63)  # rows are padded to a multiple of 64
    with Largest() as plain:
        cross_entropy(features @ weight.T, targets).backward()
    assert plain.numel == N * V
    assert chunked.products == 3 * (N // 16)  # logits, and a gradient each: nothing is made twice


def test_without_gradients_only_the_logits_are_computed():
    features, weight, targets = problem()
    with torch.no_grad(), Largest() as counted:
        loss = chunked_cross_entropy(features, weight, targets, 23)
    assert counted.products == 1 and not loss.requires_grad


def test_the_default_chunk_grows_as_the_vocabulary_shrinks():
    for dtype, most in ((torch.float32, 2**25), (torch.bfloat16, 2**26)):  # 128 MiB of each
        features, weight = torch.zeros(1400, 2, dtype=dtype), torch.zeros(50_000, 2)
        with Largest() as counted, torch.no_grad():
            chunked_cross_entropy(features, weight, torch.zeros(1400, dtype=torch.int64))
        assert 0.9 * most < counted.numel < 1.01 * most


@pytest.mark.parametrize("how", ["features in bf16", "autocast"])
def test_bfloat16_products_with_float32_weights_come_close(how):
    features, weight, targets = problem(200, 64, 300)
    with torch.no_grad():
        weight /= 8
    expected = value_and_gradients(F.cross_entropy(features @ weight.T, targets), features, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        x = features if how == "autocast" else features.bfloat16()
        loss = chunked_cross_entropy(x, weight, targets, 64)
    got = value_and_gradients(loss, features, weight)
    assert [part.dtype for part in got] == [torch.float32] * 3
    for ours, theirs in zip(got, expected):
        assert (ours - theirs).norm() < 0.01 * theirs.norm()
    assert (got[2] - expected[2]).norm() > 1e-4 * expected[2].norm()  # products were in bfloat16


def test_infinite_logits_at_ignored_positions_do_no_harm():
    features, weight, targets = problem()
    expected = value_and_gradients(F.cross_entropy(features @ weight.T, targets), features, weight)
    wild = features.detach().clone()
    wild[0] = 3e38  # position 0 is ignored; its logits overflow
    assert not (wild[0] @ weight.T).isfinite().all()
    wild.requires_grad_()
    got = value_and_gradients(chunked_cross_entropy(wild, weight, targets, 5), wild, weight)
    assert all(part.isfinite().all() for part in got)
    torch.testing.assert_close(got[0], expected[0])


@pytest.mark.parametrize("scale", [1, 50, 1e4])
def test_sure_and_surprised_predictions_lose_nothing_to_rounding(scale):
    features, weight, targets = problem(9, 3, 5)
    with torch.no_grad():
        features *= scale  # -log p is up to hundreds of nats, or within a rounding error of 0
    expected = value_and_gradients(F.cross_entropy(features @ weight.T, targets), features, weight)
    got = value_and_gradients(chunked_cross_entropy(features, weight, targets, 4), features, weight)
    assert got[0].isfinite() and (scale == 1 or got[0] > 30)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6 * scale)


def test_all_ignored_has_a_sum_but_no_mean():
    features, weight, targets = problem()
    targets[:] = -100
    total = chunked_cross_entropy(features, weight, targets, 5, reduction="sum")
    assert total == 0
    assert all((g == 0).all() for g in torch.autograd.grad(total, (features, weight)))


def test_features_and_weight_that_do_not_fit_are_refused():
    x, w, y = torch.zeros(2, 3, 4), torch.zeros(5, 4), torch.zeros(2, 3, dtype=torch.int64)
    for features, weight in ((x, w.T), (x, w[0]), (x[0, 0], w), (x[..., :2], w)):
        with pytest.raises(ValueError, match="do not fit: expected"):
            chunked_cross_entropy(features, weight, y)
    with pytest.raises(TypeError, match=r"features must be a tensor of floats, not torch.int64"):
        chunked_cross_entropy(x.long(), w, y)
    with pytest.raises(TypeError, match="weight must be a tensor of floats, not list"):
        chunked_cross_entropy(x, [[1.0]], y)
    for size in (0, -3):
        with pytest.raises(ValueError, match=f"chunk_size is {size}: it must be an int"):
            chunked_cross_entropy(x, w, y, chunk_size=size)


# evaluate -----------------------------------------------------------------------------------------


class Table(nn.Module):
    """A model with dropout and with a frozen part, to see what evaluate leaves behind."""

    def __init__(self, V=11):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(V, V)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.fails = False

    def forward(self, ids):
        assert not self.training and not torch.is_grad_enabled()
        if self.fails:
            raise KeyboardInterrupt
        return self.frozen(self.drop(self.table(ids)))


def batches(seed=0, V=11, ignored=0.3):
    torch.manual_seed(seed)
    shapes = [(4, 9), (4, 3), (1, 17), (2, 1)]
    pairs = [(torch.randint(V, shape), torch.randint(V, shape)) for shape in shapes]
    for _, targets in pairs:
        targets[torch.rand(targets.shape) < ignored] = -100
    return pairs


def test_every_token_counts_the_same_however_it_is_batched():
    model = Table().eval()
    data = batches()
    result = evaluate(model, data)
    with torch.no_grad():
        everything = [
            F.cross_entropy(model.table(x).flatten(0, 1), y.flatten(), reduction="none")[
                y.flatten() != -100
            ]
            for x, y in data
        ]
    losses = torch.cat(everything)
    assert result.n_tokens == len(losses)
    assert abs(result.loss - losses.mean().item()) < 1e-6
    assert abs(result.perplexity - math.exp(result.loss)) < 1e-9
    rows = [(x[i : i + 1], y[i : i + 1]) for x, y in data for i in range(len(x))]
    assert abs(evaluate(model, rows).loss - result.loss) < 1e-6
    means = [part.mean().item() for part in everything if len(part)]
    assert abs(np.mean(means) - result.loss) > 0.01  # what it is not


def test_modes_and_gradients_are_left_as_they_were():
    model = Table().train()
    model.frozen.eval()
    evaluate(model, batches())
    assert model.training and model.drop.training and not model.frozen.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_modes_come_back_when_the_model_fails():
    model = Table().train()
    model.frozen.eval()
    model.fails = True
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, batches())
    assert model.training and model.drop.training and not model.frozen.training
    assert torch.is_grad_enabled()


def test_any_callable_will_do_and_no_more_batches_are_taken_than_asked_for():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64)

    result = evaluate(lambda ids: torch.zeros(*ids.shape, 4), endless(), max_batches=3)
    assert len(taken) == 3 and result.n_tokens == 6 and abs(result.loss - math.log(4)) < 1e-6


def test_nothing_to_measure_is_an_error():
    model = Table()
    with pytest.raises(ValueError, match="no batch to evaluate: the loader is empty"):
        evaluate(model, [])
    with pytest.raises(ValueError, match="no target of 4 batches counts: all of them are -100"):
        evaluate(model, batches(ignored=1.1))
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"max_batches is {wrong}: it must be an int"):
            evaluate(model, batches(), max_batches=wrong)
    with pytest.raises(TypeError, match="the model is a str"):
        evaluate("gpt", batches())
    with pytest.raises(TypeError, match="batch 1 is a Tensor: give pairs"):
        evaluate(model, [torch.zeros(2, 2, dtype=torch.int64)])
    with pytest.raises(TypeError, match="floats, not tuple: the model has to map"):
        evaluate(lambda ids: (ids, ids), batches())
    with pytest.raises(ValueError, match=r"targets have shape \(4, 9\), expected \(4, 8\)"):
        evaluate(lambda ids: torch.zeros(*ids[:, 1:].shape, 11), batches())


def test_one_batch_without_targets_among_others_does_no_harm():
    data = batches()
    data[1][1][:] = -100
    whole, without = evaluate(Table(), data), evaluate(Table(), [data[0], *data[2:]])
    assert whole == without


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_a_number_is_reported_and_not_averaged_away(bad):
    def model(ids):
        logits = torch.zeros(*ids.shape, 11)
        if ids.shape == (4, 3):
            logits[0, 0, :2] = bad
        return logits

    data = batches(ignored=0)
    with pytest.raises(ValueError, match=r"the loss of batch 2 is not a number.* 2 of 132 logits"):
        evaluate(model, data)


def test_a_target_ruled_out_gives_an_infinite_loss():
    logits = torch.tensor([[[0.0, -math.inf]]])
    y = torch.ones(1, 1, dtype=torch.int64)
    result = evaluate(lambda ids: logits, [(y, y)])
    assert result.loss == result.perplexity == math.inf


def test_bits_per_byte():
    assert Evaluation(math.log(4), 10).bits_per_byte(10) == pytest.approx(2)
    assert Evaluation(math.log(16), 5).bits_per_byte(10) == pytest.approx(2)
    assert Evaluation(1e6, 5).perplexity == math.inf
    for wrong in (0, -2):
        with pytest.raises(ValueError, match=f"n_bytes is {wrong}: it must be an int"):
            Evaluation(1.0, 10).bits_per_byte(wrong)


# NGramModel ---------------------------------------------------------------------------------------


def kneser_ney(documents, n, V, d):
    """Interpolated Kneser-Ney from the definition, in dictionaries: returns p(context, word)."""
    follow = defaultdict(Counter)  # context -> how often each word, as the definition counts it
    for document in documents:
        for t in range(n - 1, len(document)):
            if t > 0:
                follow[tuple(document[t - n + 1 : t])][document[t]] += 1
    for length in range(1, n):
        befores = defaultdict(set)
        for document in documents:
            for t in range(length, len(document)):
                befores[tuple(document[t - length + 1 : t + 1])].add(document[t - length])
            if length > 1 and len(document) >= length:  # nothing stands before: count it as it is
                follow[tuple(document[: length - 1])][document[length - 1]] += 1
        for gram, left in befores.items():
            follow[gram[:-1]][gram[-1]] += len(left)

    def discount(length):
        if d is not None:
            return d
        counts = [
            c for gram, words in follow.items() if len(gram) == length for c in words.values()
        ]
        return min(0.95, max(0.1, counts.count(1) / max(1, counts.count(1) + 2 * counts.count(2))))

    discounts = [discount(length) for length in range(n)]

    def probability(context, word):
        context = context[max(0, len(context) - n + 1) :]
        shorter = probability(context[1:], word) if context else 1 / V
        counts = follow[context]
        if not counts:
            return shorter
        total, d = sum(counts.values()), discounts[len(context)]
        return (max(counts[word] - d, 0) + d * len(counts) * shorter) / total

    return probability


DOCUMENTS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=15), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.integers(1, 5), st.sampled_from([0.3, 0.75, None]))
def test_ngrams_equal_kneser_ney_from_its_definition(documents, n, discount):
    if max(map(len, documents)) < 2:
        documents.append([1, 2])
    model = NGramModel(n, 6, discount).fit(documents)
    p = kneser_ney(documents, n, 6, discount)
    rows = [documents[0], [5, 4, 3, 2, 1, 0], [0, 0, 1, 1, 2, 2]]
    for row in rows:
        got = model(torch.tensor([row]))[0].exp()
        expected = [[p(tuple(row[: t + 1]), word) for word in range(6)] for t in range(len(row))]
        torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.integers(1, 6), st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_ngram_distributions_sum_to_one_and_rule_nothing_out(documents, n, row):
    documents.append([3, 1, 2])
    log_probs = NGramModel(n, 7).fit(documents)(torch.tensor([row, row[::-1]]))
    assert log_probs.shape == (2, len(row), 7) and log_probs.dtype == torch.float32
    assert log_probs.isfinite().all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, len(row)))


def test_no_ngram_sees_the_future_or_its_neighbours_in_the_batch():
    torch.manual_seed(0)
    model = NGramModel(3, 5).fit(torch.randint(5, (500,)))
    ids = torch.randint(5, (2, 12))
    changed = ids.clone()
    changed[0, 7:] = 0
    assert torch.equal(model(ids)[0, :7], model(changed)[0, :7])
    assert torch.equal(model(ids)[1], model(changed)[1])
    assert torch.equal(model(ids)[0:1, :4], model(ids[:1, :4]))


def test_no_gram_reaches_from_one_document_into_another():
    apart = NGramModel(2, 4, discount=0.5).fit([[0, 1], [2, 3]])(torch.tensor([[1]]))
    joined = NGramModel(2, 4, discount=0.5).fit([0, 1, 2, 3])(torch.tensor([[1]]))
    assert joined[0, 0, 2] > apart[0, 0, 2] + 0.5


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, np.uint16])
def test_every_kind_of_ids_counts_the_same(make):
    ids = [0, 1, 2, 0, 1, 1, 2]
    x = torch.tensor([[0, 1, 2]])
    expected = NGramModel(3, 3).fit(ids)(x)
    assert torch.equal(NGramModel(3, 3).fit(make(ids))(x), expected)
    assert torch.equal(NGramModel(3, 3).fit([make(ids)])(x), expected)
    assert torch.equal(NGramModel(3, 3).fit(range(3))(x), NGramModel(3, 3).fit([0, 1, 2])(x))


def test_what_an_ngram_model_cannot_be_or_read_is_refused():
    for n in (0, -1, 1.5):
        with pytest.raises(ValueError, match=r"n is .*whole number of at least 1"):
            NGramModel(n, 5)
    with pytest.raises(ValueError, match="vocab_size is 0"):
        NGramModel(2, 0)
    for d in (0, 1, -0.5, math.nan):
        with pytest.raises(ValueError, match=r"discount is .*between 0 and 1"):
            NGramModel(2, 5, discount=d)
    model = NGramModel(2, 5)
    with pytest.raises(RuntimeError, match=r"call fit\(ids\) first"):
        model(torch.tensor([[1]]))
    for nothing in ([], [3], [[1], [2]]):
        with pytest.raises(ValueError, match="nothing to count"):
            model.fit(nothing)
    with pytest.raises(ValueError, match="token id 5 is not in the vocabulary: ids are 0 to 4"):
        model.fit([1, 5])
    for error, wrong in ((TypeError, [0.5, 1.0]), (ValueError, [1, -1]), (ValueError, "text")):
        with pytest.raises(error):
            model.fit(wrong)
    assert not model.levels  # nothing half counted stays behind
    model.fit([1, 2])
    with pytest.raises(TypeError, match="ids must be a tensor"):
        model(torch.tensor([1]))
    with pytest.raises(ValueError, match="token id 7 is not in the vocabulary"):
        model(torch.tensor([[7]]))
    with pytest.raises(ValueError, match="start at 0"):
        model(torch.tensor([[-1]]))
    with pytest.raises(TypeError, match="integers"):
        model(torch.tensor([[1.5]]))


# The floor ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    texts = [story.text for story in stories.tell_many(700, seed=11)]
    tokenizer = WordTokenizer.from_text(" ".join(texts))
    end = tokenizer.special_tokens["<|endoftext|>"]
    documents = [tokenizer.encode(text) for text in texts]
    model = NGramModel(4, tokenizer.vocab_size).fit([[end, *ids, end] for ids in documents[:600]])
    return texts, tokenizer, end, documents, model


@pytest.mark.slow
def test_a_told_storys_log_prob_is_the_sum_over_its_next_words():
    for story in stories.tell_many(25, seed=4):
        words = split_words(story.text)
        steps = [
            math.log(stories.next_words(join_words(words[:t]))[word])
            for t, word in enumerate([*words, ""])
        ]
        assert abs(sum(steps) - story.log_prob) < 1e-9


def test_cross_entropy_is_entropy_plus_a_divergence_that_is_never_negative(world):
    texts, tokenizer, end, _, model = world
    for text in texts[600:610]:
        words = split_words(text)
        log_q = model(torch.tensor([[end, *tokenizer.encode(text)]])).double()[0]
        for t in range(0, len(words), 7):
            truth = stories.next_words(join_words(words[:t]))
            ids = [tokenizer.ids[word] if word else end for word in truth]
            p = torch.tensor(list(truth.values()), dtype=torch.float64)
            q = log_q[t, ids]
            divergence = (p * (p.log() - q)).sum()
            assert divergence > -1e-6
            assert abs(-(p * q).sum() - (-(p * p.log()).sum() + divergence)) < 1e-9


def test_no_ngram_model_beats_the_floor_on_stories_it_has_not_seen(world):
    texts, _, end, documents, model = world
    loader = create_document_loader(documents[600:], end, 16, shuffle=False, drop_last=False)
    result = evaluate(model, loader)
    floor = -sum(map(stories.log_prob, texts[600:])) / result.n_tokens
    assert floor < result.loss < math.log(len(world[1].tokens)) / 3


@pytest.mark.slow
def test_the_mean_cost_of_a_story_is_the_entropy():
    costs = np.array([-story.log_prob for story in stories.tell_many(3000, seed=5)])
    assert abs(costs.mean() - stories.entropy()) < 4 * costs.std() / math.sqrt(len(costs))
