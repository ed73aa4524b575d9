"""Word vectors: equal to their references, and clear about bad input."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gensim.models import KeyedVectors

from llmlib.data import corpora
from llmlib.model.skipgram import (
    SkipGram,
    encode_words,
    keep_probability,
    noise_distribution,
    thin_out,
    train_skipgram,
    window_pairs,
)
from llmlib.model.word_vectors import (
    analogy,
    analogy_accuracy,
    cosine_similarity,
    find,
    nearest,
    odd_one_out,
    pca,
    to_words,
    unit,
    word_vectors,
)
from llmlib.pretrained import embeddings as module
from llmlib.pretrained.embeddings import load_word_vectors

WORDS = [f"word{i}" for i in range(30)]
NAN = float("nan")


def random_matrix(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def vectors():
    return word_vectors(WORDS, random_matrix(30, 5))


# ---- words and pairs


def test_words_are_runs_of_letters_in_lower_case():
    assert to_words("The Queen's hat, 3 coins! Ünïcode_x") == [
        "the",
        "queen",
        "s",
        "hat",
        "coins",
        "ünïcode",
        "x",
    ]
    assert to_words("") == []


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_window_pairs_are_those_of_the_plain_loop(window):
    documents = [[1, 2, 3, 4, 5, 6, 7], [], [8], [9, 9, 1]]
    slow = [
        (document[i], document[j])
        for document in documents
        for i, j in itertools.permutations(range(len(document)), 2)
        if abs(i - j) <= window
    ]
    assert sorted(map(tuple, window_pairs(documents, window).tolist())) == sorted(slow)


def test_no_pair_crosses_the_border_of_a_document():
    assert window_pairs([[1], [2], [3]], window=5).shape == (0, 2)
    assert window_pairs([], window=5).shape == (0, 2)


@pytest.mark.parametrize("window", [0, -3])
def test_a_window_without_neighbours_is_refused(window):
    with pytest.raises(ValueError, match=f"window is {window}.*at least 1"):
        window_pairs([[1, 2]], window)


def test_subsampling_keeps_the_share_it_promises():
    keep = torch.tensor([1.0, 0.0, 0.3])
    (kept,) = thin_out([[0, 1, 2] * 4000], keep, torch.Generator().manual_seed(1))
    assert kept.count(0) == 4000 and kept.count(1) == 0
    assert kept.count(2) / 4000 == pytest.approx(0.3, abs=0.03)


def test_the_most_frequent_word_has_id_0():
    words, encoded, counts = encode_words([["b", "a", "b"], [], ["c", "b", "a"]])
    assert words == ["b", "a", "c"] and counts.tolist() == [3, 2, 1]
    assert encoded == [[0, 1, 0], [], [2, 0, 1]]


def test_keep_probability_is_the_papers_formula():
    frequencies = torch.tensor([900, 90, 10])
    expected = torch.tensor([(0.05 / 0.9) ** 0.5, (0.05 / 0.09) ** 0.5, 1.0])
    torch.testing.assert_close(keep_probability(frequencies, 0.05), expected)
    assert keep_probability(frequencies, float("inf")).tolist() == [1, 1, 1]
    for threshold in (0, -1, NAN):
        with pytest.raises(ValueError, match="threshold"):
            keep_probability(frequencies, threshold)


def test_noise_is_frequency_to_the_power_three_quarters():
    noise = noise_distribution(torch.tensor([16, 1]))
    torch.testing.assert_close(noise, torch.tensor([8 / 9, 1 / 9]))
    for frequencies in ([], [3, 0], [1, -2], [NAN, 1]):
        with pytest.raises(ValueError, match="above 0"):
            noise_distribution(torch.tensor(frequencies))


# ---- angles


def test_cosine_is_torchs_cosine():
    a, b = random_matrix(20, 7, seed=1), random_matrix(20, 7, seed=2)
    torch.testing.assert_close(cosine_similarity(a, b), F.cosine_similarity(a, b))
    torch.testing.assert_close(
        cosine_similarity(a[:, None], b), F.cosine_similarity(a[:, None], b[None], dim=-1)
    )
    integers = torch.tensor([3, 4]), torch.tensor([4, 3])
    assert cosine_similarity(*integers).item() == pytest.approx(0.96)


def test_a_zero_vector_has_no_direction_and_cosine_0():
    zero = torch.zeros(3)
    assert unit(zero).tolist() == [0, 0, 0]
    assert cosine_similarity(zero, torch.ones(3)) == F.cosine_similarity(zero, torch.ones(3), dim=0)


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_nan_and_infinity_have_no_cosine(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        cosine_similarity(torch.tensor([1.0, bad]), torch.ones(2))


def test_cosine_of_vectors_with_different_lengths_is_refused():
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\): .*equally many"):
        cosine_similarity(torch.ones(2), torch.ones(1))


def test_large_finite_vectors_are_not_taken_for_infinite():
    large = torch.full((4,), 3e38)  # their sum overflows, they do not
    assert torch.isfinite(unit(large)).all()


# ---- the container


def test_word_vectors_keep_words_and_matrix():
    matrix = random_matrix(3, 4)
    box = word_vectors(["a", "b", "c"], matrix.requires_grad_())
    assert box.index_to_key == ["a", "b", "c"]
    np.testing.assert_array_equal(box.vectors, matrix.detach().numpy())
    assert box.vectors.base is not matrix.detach().numpy().base  # a copy: training goes on


@pytest.mark.parametrize(
    ("words", "matrix", "message"),
    [
        (["a"], torch.ones(2, 3), r"1 words and a matrix of shape \(2, 3\)"),
        ([], torch.ones(0, 3), "0 words"),
        (["a", "b"], torch.ones(2), "one row for each word"),
        (["a", "a"], torch.ones(2, 3), "'a' occurs twice"),
        (["a"], torch.full((1, 2), NAN), "NaN"),
    ],
)
def test_words_that_do_not_fit_their_matrix_are_refused(words, matrix, message):
    with pytest.raises(ValueError, match=message):
        word_vectors(words, matrix)


def test_an_unknown_word_gets_a_suggestion(vectors):
    with pytest.raises(KeyError, match=r"no vector for 'wrod7'.*did you mean 'word7'"):
        find(vectors, "wrod7")
    with pytest.raises(KeyError, match="no vector for 'xyz' among these 30"):
        nearest(vectors, "xyz")
    for not_a_word in (3, None, b"word1"):
        with pytest.raises(TypeError, match="a word is a string"):
            find(vectors, not_a_word)


# ---- neighbours and analogies


def test_nearest_is_gensims_most_similar(vectors):
    for word in WORDS:
        ours, theirs = nearest(vectors, word, 8), vectors.most_similar(word, topn=8)
        assert [w for w, _ in ours] == [w for w, _ in theirs]
        assert [c for _, c in ours] == pytest.approx([c for _, c in theirs], abs=1e-5)


def test_analogy_is_gensims_most_similar(vectors):
    for a, b, c in itertools.permutations(WORDS[:6], 3):
        theirs = vectors.most_similar(positive=[b, c], negative=[a], topn=4)
        assert [w for w, _ in analogy(vectors, a, b, c, k=4)] == [w for w, _ in theirs]


def test_accuracy_over_all_questions_is_that_of_single_analogies(vectors):
    questions = list(itertools.permutations(WORDS[:7], 4))
    for exclude in (True, False):
        single = [analogy(vectors, *q[:3], exclude=exclude)[0][0] == q[3] for q in questions]
        expected = sum(single) / len(single)
        assert analogy_accuracy(vectors, questions, exclude) == pytest.approx(expected)


def test_excluding_the_question_changes_the_answer():
    square = word_vectors(["a", "b", "c", "d"], [[1.0, 0.1], [1.0, 0.2], [0.1, 1.0], [-1.0, 1.0]])
    assert analogy(square, "a", "b", "c", exclude=False)[0][0] == "c"
    assert analogy(square, "a", "b", "c")[0][0] == "d"
    assert analogy_accuracy(square, [("a", "b", "c", "d")]) == 1
    assert analogy_accuracy(square, [("a", "b", "c", "d")], exclude=False) == 0


def test_a_vector_may_be_the_query_and_then_finds_itself(vectors):
    assert nearest(vectors, vectors["word3"], 1)[0][0] == "word3"
    assert nearest(vectors, "word3", 29)[-1][1] >= -1.001


@pytest.mark.parametrize("k", [0, -1, 30, 1000])
def test_k_out_of_range_is_refused(vectors, k):
    with pytest.raises(ValueError, match=f"k is {k}: there are 29 words"):
        nearest(vectors, "word1", k)


def test_misshapen_and_broken_queries_are_refused(vectors):
    with pytest.raises(ValueError, match=r"shape \(3,\).*\(5,\)"):
        nearest(vectors, torch.ones(3))
    with pytest.raises(ValueError, match="NaN"):
        nearest(vectors, torch.full((5,), NAN))
    for nothing in ([], [("word1", "word2", "word3")]):
        with pytest.raises(ValueError, match="at least one question"):
            analogy_accuracy(vectors, nothing)
    with pytest.raises(KeyError, match="nobody"):
        analogy_accuracy(vectors, [("word1", "word2", "word3", "nobody")])


def test_a_row_of_zeros_is_nobodys_neighbour():
    box = word_vectors(["a", "b", "nothing"], [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    assert nearest(box, "a", 2) == [("b", pytest.approx(0.5**0.5)), ("nothing", 0.0)]
    assert nearest(box, "nothing", 1)[0][1] == 0


def test_odd_one_out_is_the_word_that_points_elsewhere():
    box = word_vectors(["a", "b", "c", "odd"], [[1, 0], [0.9, 0.1], [10, 0.5], [-1, 3]])
    assert odd_one_out(box, ["a", "odd", "b", "c"]) == "odd"
    for few in ([], ["a"], ["a", "b"], ["a", "b", "b"]):
        with pytest.raises(ValueError, match="at least two others"):
            odd_one_out(box, few)
    with pytest.raises(KeyError):
        odd_one_out(box, ["a", "b", "z"])


# ---- PCA


def test_pca_is_numpys_svd_up_to_sign():
    x = random_matrix(40, 6)
    coordinates, explained = pca(x, 3)
    centered = x.numpy() - x.numpy().mean(axis=0)
    left, s, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(coordinates.abs().numpy(), np.abs(left * s)[:, :3], atol=1e-4)
    np.testing.assert_allclose(explained, (s**2 / (s**2).sum())[:3], rtol=1e-4)


def test_pca_is_torchs_low_rank_pca_up_to_sign():
    x = random_matrix(40, 6)
    _, s, directions = torch.pca_lowrank(x, q=6, niter=10)
    projected = (x - x.mean(dim=0)) @ directions[:, :2]
    torch.testing.assert_close(pca(x)[0].abs(), projected.abs(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(pca(x)[1], (s**2 / (s**2).sum())[:2], atol=1e-4, rtol=1e-3)


def test_pca_shares_sum_to_one_and_the_sign_does_not_depend_on_the_data_order():
    x = random_matrix(10, 4)
    coordinates, explained = pca(x, 4)
    assert explained.sum().item() == pytest.approx(1)
    torch.testing.assert_close(pca(x.flip(0), 4)[0].flip(0), coordinates, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "k", "message"),
    [
        (torch.ones(5), 1, "two or more"),
        (torch.ones(1, 5), 1, "two or more"),
        (torch.full((3, 3), NAN), 1, "finite"),
        (random_matrix(5, 3), 4, "allow 1 to 3"),
        (random_matrix(5, 3), 0, "k is 0"),
        (torch.ones(5, 3), 1, "the same"),
    ],
)
def test_pca_refuses_what_has_no_directions(x, k, message):
    with pytest.raises(ValueError, match=message):
        pca(x, k)


# ---- skip-gram


def small_model():
    model = SkipGram(list("abcdef"), 3, torch.Generator().manual_seed(1)).double()
    torch.nn.init.normal_(model.contexts.weight, generator=torch.Generator().manual_seed(2))
    center, context = torch.tensor([0, 1, 0, 5]), torch.tensor([1, 2, 3, 5])
    return model, (center, context, torch.tensor([[2, 3], [0, 3], [1, 1], [4, 4]]))


def test_the_loss_is_equation_4():
    model, (center, context, noise) = small_model()
    v, u = model.centers.weight.detach().numpy(), model.contexts.weight.detach().numpy()

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    expected = np.mean(
        [
            -np.log(sigmoid(u[o] @ v[c])) - sum(np.log(sigmoid(-u[n] @ v[c])) for n in drawn)
            for c, o, drawn in zip(center.tolist(), context.tolist(), noise.tolist())
        ]
    )
    assert model(center, context, noise).item() == pytest.approx(expected)


def test_the_gradient_is_the_one_derived_by_hand():
    model, (center, context, noise) = small_model()
    model(center, context, noise).backward()
    v, u = model.centers.weight.detach(), model.contexts.weight.detach()
    for_v, for_u = torch.zeros_like(v), torch.zeros_like(u)
    for c, o, drawn in zip(center.tolist(), context.tolist(), noise.tolist()):
        wrong = 1 - torch.sigmoid(u[o] @ v[c])
        for_v[c] -= wrong * u[o]
        for_u[o] -= wrong * v[c]
        for n in drawn:
            for_v[c] += torch.sigmoid(u[n] @ v[c]) * u[n]
            for_u[n] += torch.sigmoid(u[n] @ v[c]) * v[c]
    torch.testing.assert_close(model.centers.weight.grad, for_v / 4)
    torch.testing.assert_close(model.contexts.weight.grad, for_u / 4)


def test_the_gradient_is_that_of_finite_differences():
    model, batch = small_model()
    model(*batch).backward()
    for parameter in model.parameters():
        numeric = torch.zeros_like(parameter)
        with torch.no_grad():
            for i in itertools.product(*map(range, parameter.shape)):
                parameter[i] += 1e-5
                above = model(*batch)
                parameter[i] -= 2e-5
                numeric[i] = (above - model(*batch)) / 2e-5
                parameter[i] += 1e-5
        torch.testing.assert_close(parameter.grad, numeric, atol=1e-8, rtol=1e-6)


def test_the_loss_stays_finite_where_the_sigmoid_underflows():
    model, batch = small_model()
    with torch.no_grad():
        model.centers.weight.fill_(-100)
        model.contexts.weight.fill_(100)
    assert model(*batch).isfinite()


PETS = [
    ["the", "cat", "drinks", "milk", "at", "night"],
    ["the", "dog", "eats", "meat", "at", "noon"],
] * 40


def test_training_starts_at_chance_and_learns():
    model, losses = train_skipgram(PETS, emb_dim=8, epochs=30, batch_size=64, subsample=1)
    assert losses[0] == pytest.approx(6 * np.log(2), rel=1e-3)
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    box = model.word_vectors()
    of_cat = cosine_similarity(torch.tensor(box["cat"]), torch.tensor(box["milk"]))
    assert of_cat > cosine_similarity(torch.tensor(box["cat"]), torch.tensor(box["meat"]))


def test_the_seed_decides_everything_and_global_randomness_nothing():
    sizes = {"emb_dim": 4, "batch_size": 64, "subsample": 0.05, "epochs": 2}
    first, losses = train_skipgram(PETS, seed=7, **sizes)
    torch.manual_seed(99)
    again, same_losses = train_skipgram(PETS, seed=7, **sizes)
    other, _ = train_skipgram(PETS, seed=8, **sizes)
    assert losses == same_losses and torch.equal(first.centers.weight, again.centers.weight)
    assert not torch.equal(first.centers.weight, other.centers.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window is 0: it must be an int of at least 1"),
        ({"n_noise": 0}, "n_noise is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"emb_dim": 0}, "emb_dim is 0"),
        ({"subsample": 0}, "threshold is 0"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_skipgram(PETS, **arguments)


@pytest.mark.parametrize("documents", [[], [[]], [["alone"]], [["a", "a"]], [["a"], ["b"]]])
def test_too_little_text_is_refused(documents):
    with pytest.raises(ValueError, match=r"at least two|no two words stand together"):
        train_skipgram(documents)


def test_a_text_that_was_not_split_is_refused():
    with pytest.raises(TypeError, match="split it with to_words"):
        train_skipgram(["the cat drinks milk"])


def test_words_that_repeat_are_refused():
    with pytest.raises(ValueError, match="each of them once"):
        SkipGram(["a", "a"], 3)


def test_wiki_vectors_are_trained_on_the_wiki_corpus(monkeypatch):
    asked = []

    def few(name):
        asked.append(name)
        return ["The cat drinks milk at night. The dog eats meat at noon."] * 50

    monkeypatch.setattr(corpora, "documents", few)
    real, arguments = module.Word2Vec, {}
    monkeypatch.setattr(
        module, "Word2Vec", lambda *args, **kw: arguments.update(kw) or real(*args, **kw)
    )
    trained, again = load_word_vectors("wiki"), load_word_vectors()
    assert asked == ["wiki", "wiki"] and trained.vector_size == 100
    assert isinstance(trained, KeyedVectors) and "milk" in trained
    assert arguments["workers"] == 1  # several finish in an order that nobody controls
    np.testing.assert_array_equal(trained.vectors, again.vectors)


@pytest.mark.slow
def test_vectors_do_not_depend_on_pythons_hash_seed():
    program = (
        "from llmlib.data import corpora\nfrom llmlib.model import skipgram\n"
        "from llmlib.pretrained import embeddings\n"
        "corpora.documents = lambda name: ['the cat drinks milk and the dog eats meat'] * 9\n"
        "v = embeddings.load_word_vectors('wiki')\n"
        "m, _ = skipgram.train_skipgram([v.index_to_key] * 9, subsample=1)\n"
        "print(v.index_to_key, v.vectors.tolist(), m.words, m.centers.weight.tolist())"
    )
    root = Path(__file__).resolve().parents[2]
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] and said[0] == said[1]
