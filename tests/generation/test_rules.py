"""Penalties, bans, beams and looked-up drafts give what transformers gives, row by row."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.cli.callbacks import write_samples
from llmlib.generation.beam import beam_search, beam_searches
from llmlib.generation.constraints import rules_of, unused_ids
from llmlib.generation.generate import constrain, generate, stream
from llmlib.generation.sampling import Sampling
from llmlib.generation.speculative import PromptLookup, speculate
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.words import CharTokenizer

transformers = pytest.importorskip("transformers")
from transformers.generation import logits_process as theirs  # noqa: E402

VOCABULARY, CONTEXT = 31, 48
GREEDY = Sampling(temperature=0)
RULES = {
    "penalty": {"repetition_penalty": 1.7},
    "reward": {"repetition_penalty": 0.6},
    "n-gram": {"no_repeat_ngram_size": 2},
    "unigram": {"no_repeat_ngram_size": 1},
    "length": {"min_new_tokens": 6},
    "words": {"bad_words": ((1,), (4,), (1, 0), (0, 1, 2), (7, 8), (3,))},
    "all": {
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 4,
        "bad_words": ((5,), (6, 7)),
    },
}


@pytest.fixture(scope="module")
def pair():
    """The same weights as a GPT2LMHeadModel and as ours."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=None,
    )
    other = transformers.GPT2LMHeadModel(config).eval()
    ours = GPT(GPTConfig(VOCABULARY, CONTEXT, 32, 4, 2)).eval().requires_grad_(False)
    state = other.state_dict()
    for name, parameter in ours.named_parameters():
        tensor = state[f"transformer.{name}"]
        transposed = parameter.ndim == 2 and name.startswith("h.")
        parameter.copy_(tensor.T if transposed else tensor)
    return other, ours


def their_texts(other, prompts, n_new, stop=None, **settings):
    """What transformers writes after each prompt, without padding and up to its end."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    settings = {"do_sample": False, "use_cache": True, "pad_token_id": 0} | settings
    rows = other.generate(
        ids, attention_mask=mask, max_new_tokens=n_new, eos_token_id=stop, **settings
    )
    n = settings.get("num_return_sequences", 1)
    texts = []
    for number, row in enumerate(rows[:, longest:].tolist()):
        stops = stop if isinstance(stop, list) else [stop]
        end = next((at for at, token in enumerate(row, 1) if token in stops), len(row))
        texts.append(prompts[number // n] + row[:end])
    return texts


def to_theirs(settings):
    names = {"bad_words": "bad_words_ids"}
    changed = {names.get(name, name): value for name, value in settings.items()}
    if "bad_words_ids" in changed:
        changed["bad_words_ids"] = [list(word) for word in changed["bad_words_ids"]]
    return changed


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 30),
    st.integers(1, 5),
    st.floats(0.1, 5),
    st.integers(0, 10**6),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)
def test_each_rule_is_that_of_transformers(n_rows, n_tokens, n, penalty, seed, dtype):
    torch.manual_seed(seed)
    V = 6
    ids, logits = torch.randint(V, (n_rows, n_tokens)), 3 * torch.randn(n_rows, V).to(dtype)
    words = [tuple(torch.randint(V, (k,)).tolist()) for k in (1, 2, 2, 3, n)]
    words = [word for word in words if word != (2,)]
    n_prompt = max(1, n_tokens - n)
    for sampling, processor in [
        (Sampling(repetition_penalty=penalty), theirs.RepetitionPenaltyLogitsProcessor(penalty)),
        (Sampling(no_repeat_ngram_size=n), theirs.NoRepeatNGramLogitsProcessor(n)),
        (
            Sampling(bad_words=tuple(words)),
            theirs.NoBadWordsLogitsProcessor([list(word) for word in words], 2),
        ),
        (
            Sampling(min_new_tokens=3),
            theirs.MinNewTokensLengthLogitsProcessor(n_prompt, 3, 2),
        ),
    ]:
        ours = logits
        for rule in rules_of(sampling, [2], n_prompt):
            ours = rule(ours, ids, torch.zeros(n_rows, dtype=torch.int64))
        torch.testing.assert_close(ours, processor(ids, logits.clone()), rtol=0, atol=0)


SOME = [
    rule if rule in ("all", "words", "n-gram") else pytest.param(rule, marks=pytest.mark.slow)
    for rule in RULES
]


@pytest.mark.parametrize("rule", SOME)
def test_greedy_text_with_rules_is_that_of_transformers(pair, rule):
    other, ours = pair
    prompts = [[1, 2, 3, 1, 2], [9, 8, 7, 6, 5], [1, 0, 1, 0, 1]]
    for stop in (None, 11, [11, 4, 20]):
        sampling = Sampling(temperature=0, **RULES[rule])
        expected = their_texts(other, prompts, 20, stop, **to_theirs(RULES[rule]))
        assert generate(ours, prompts, 20, sampling, stop=stop) == expected
    free = generate(ours, prompts, 20, GREEDY)
    assert rule == "length" or free != generate(ours, prompts, 20, sampling)


@pytest.mark.parametrize("rule", SOME)
def test_rules_know_no_padding_and_no_neighbours(rule):
    torch.manual_seed(1)
    model = GPT(GPTConfig(VOCABULARY, CONTEXT, 32, 4, 2)).eval()
    model.init_weights(0.4)
    prompts = [[0], [5, 6, 5, 6], [3, 0, 0, 2, 1, 1, 2]]
    sampling = Sampling(temperature=0.8, **RULES[rule])
    firsts = []
    for n in range(1, 4):  # a row draws the same in any company
        generator = torch.Generator().manual_seed(4)
        firsts += generate(model, prompts[:n], 25, sampling, stop=11, generator=generator)[:1]
    assert firsts == firsts[:1] * 3
    alone = [generate(model, [p], 25, Sampling(0, **RULES[rule]), stop=11)[0] for p in prompts]
    assert generate(model, prompts, 25, Sampling(0, **RULES[rule]), stop=11) == alone


def test_padding_counts_in_no_rule():
    ids, padding, logits = torch.tensor([[0, 0, 0, 5, 0]]), torch.tensor([2]), torch.ones(1, 9)
    for sampling, changed in [
        (Sampling(no_repeat_ngram_size=2), [5]),
        (Sampling(no_repeat_ngram_size=3), []),
        (Sampling(bad_words=((0, 0, 5, 0, 7), (0, 5, 0, 8))), [8]),
    ]:
        found = constrain(logits, ids, padding, rules_of(sampling, (), 5))
        assert (found != logits).nonzero()[:, 1].tolist() == changed, sampling
    sampling = Sampling(repetition_penalty=2.0, no_repeat_ngram_size=1)
    found = constrain(logits, ids[:, 1:4], torch.tensor([2]), rules_of(sampling, (), 3))
    assert found[0, 0] == 1 and found[0, 5] == -math.inf


def test_what_is_forbidden_never_comes():
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(30, 1, dtype=torch.int64)

    def uniform(ids):
        return torch.zeros(*ids.shape, 6)

    sampling = Sampling(bad_words=((4,), (1, 2), (0, 5)), no_repeat_ngram_size=3, min_new_tokens=5)
    texts = generate(uniform, ids, 25, sampling, stop=3, generator=generator)
    for text in texts:
        pairs = list(zip(text, text[1:]))
        triples = list(zip(text, text[1:], text[2:]))
        assert 4 not in text and (1, 2) not in pairs and (0, 5) not in pairs
        assert len(set(triples)) == len(triples)
        assert 3 not in text[:6]
    assert {len(text) for text in texts} != {26}
    with pytest.raises(ValueError, match=r"no token is left.*bad_words"):
        generate(uniform, ids, 3, Sampling(bad_words=tuple((i,) for i in range(6))))
    with pytest.raises(ValueError, match="no token is left"):
        generate(uniform, ids, 9, Sampling(temperature=0, no_repeat_ngram_size=1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"no_repeat_ngram_size": 0}, "no_repeat_ngram_size is 0"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"bad_words": [[1]]}, "bad_words are .* tuple of tuples"),
        ({"bad_words": ((),)}, "bad_words are"),
        ({"bad_words": ((1.0,),)}, "bad_words are"),
        ({"bad_words": ("ab",)}, "bad_words are"),
        ({"bad_words": ((-1,),)}, "bad_words are"),
    ],
)
def test_impossible_rules_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)


def test_a_bad_word_outside_the_vocabulary_is_refused():
    model = GPT(GPTConfig(9, 8, 8, 2, 1)).eval()
    for callable_ in (model, model.forward):  # the second one says its size with its logits
        with pytest.raises(ValueError, match=r"bad_words has the id 9.*0 to 8"):
            generate(callable_, [[1]], 2, Sampling(bad_words=((1, 9),)))
        with pytest.raises(ValueError, match=r"stop .*9.*0 to 8"):
            generate(callable_, [[1]], 2, Sampling(min_new_tokens=1), stop=9)


# --- ids without a token


class Holes(CharTokenizer):
    """A tokenizer that has lost a token in the middle."""

    def decode(self, ids):
        ids = list(ids)
        if 3 in ids:
            raise KeyError("Invalid token for decoding: 3")
        return super().decode(ids)


def test_ids_that_no_token_has_are_found():
    tokenizer = CharTokenizer.from_text("abcdef")
    assert unused_ids(tokenizer, tokenizer.vocab_size) == ()
    assert unused_ids(tokenizer, 10) == ((8,), (9,))
    assert unused_ids(Holes.from_text("abcdef"), 10) == ((3,), (8,), (9,))
    assert unused_ids(tokenizer, 5) == ()


def test_tokens_that_were_added_to_a_tokenizer_of_transformers_are_written(tmp_path):
    from transformers import PreTrainedTokenizerFast

    BPETokenizer.train("hello", 260).save(tmp_path / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    n = len(tokenizer)
    tokenizer.add_tokens(["<|im_end|>"])
    assert tokenizer.vocab_size == n
    assert unused_ids(tokenizer, n + 3) == ((n + 1,), (n + 2,))


def test_ids_that_no_token_has_are_never_written():
    tokenizer = Holes.from_text("abcdef")
    torch.manual_seed(0)
    model = GPT(GPTConfig(40, CONTEXT, 16, 2, 2)).eval()
    model.init_weights(0.5)
    sampling = Sampling(temperature=5.0, bad_words=unused_ids(tokenizer, 40))
    ways = generate(model, [[1]] * 20, 20, sampling)
    ways += [list(itertools.chain(*speculate(model, model, [[1]], 20, sampling)))]
    ways += [list(itertools.chain(*speculate(model, PromptLookup(), [[1]], 20, sampling)))]
    rules = Sampling(bad_words=sampling.bad_words)
    ways += [beam.ids for beam in beam_search(model, [[1]], 9, 5, sampling=rules)]
    for ids in ways:
        tokenizer.decode(ids)
    assert any(id >= 8 for row in generate(model, [[1]] * 20, 20) for id in row)


def test_samples_of_a_training_hold_no_id_that_no_token_has():
    tokenizer = Holes.from_text("abcdef")
    torch.manual_seed(0)
    model = GPT(GPTConfig(40, CONTEXT, 16, 2, 2)).train()
    data = SimpleNamespace(tokenizer=tokenizer, end_of_text=tokenizer.eot_token)
    for seed in (0, 2**70):
        assert len(write_samples(model, data, 20, seed)) == 20


# --- beams


PENALTIES = (0.0, 1.0, -1.0)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [None, "all"])
@pytest.mark.parametrize("n", [2, 5])
def test_beams_are_those_of_transformers(pair, n, rule):
    other, ours = pair
    prompts = [[1, 2, 3, 1], [9, 8], [4], [1, 0, 1, 0, 1]]
    chosen = RULES[rule] if rule else {}
    lengths = set()
    for stop, penalty, early in itertools.product((None, 11, 4), PENALTIES, (False, True, "never")):
        expected = their_texts(
            other,
            prompts,
            12,
            stop,
            num_beams=n,
            num_return_sequences=n,
            length_penalty=penalty,
            early_stopping=early,
            **to_theirs(chosen),
        )
        found = beam_searches(
            ours,
            prompts,
            12,
            n,
            stop,
            length_penalty=penalty,
            early_stopping=early,
            sampling=Sampling(**chosen),
        )
        texts = [p + beam.ids for p, beams in zip(prompts, found) for beam in beams]
        assert texts == expected, (stop, penalty, early)
        lengths |= {len(beam.ids) for beams in found for beam in beams}
    assert len(lengths) > 1


def test_beams_with_a_penalty_for_length_are_those_of_transformers(pair):
    other, ours = pair
    settings = {"length_penalty": 1.5, "early_stopping": "never"}
    prompts = [[1, 2, 3, 1], [9, 8], [4]]
    expected = their_texts(
        other, prompts, 9, 11, num_beams=3, num_return_sequences=3, min_new_tokens=2, **settings
    )
    found = beam_searches(ours, prompts, 9, 3, 11, sampling=Sampling(min_new_tokens=2), **settings)
    assert [p + beam.ids for p, beams in zip(prompts, found) for beam in beams] == expected
    assert len({len(text) for text in expected}) > 1


@pytest.mark.parametrize("n", [1, 3])
def test_several_ids_end_beams_as_in_transformers(pair, n):
    """With k of them, (1 + k) n candidates leave n that go on."""
    other, ours = pair
    prompts, stop = [[1, 2, 3, 1], [9, 8], [4]], [11, 13, 21, 7, 1]
    settings = {"num_beams": max(2, n), "num_return_sequences": n, "min_new_tokens": 2}
    settings |= {"length_penalty": 1.0, "bad_words_ids": [[4], [8]]}
    expected = their_texts(other, prompts, 12, stop, **settings)
    rules = Sampling(min_new_tokens=2, bad_words=((4,), (8,)))
    found = beam_searches(ours, prompts, 12, max(2, n), stop, length_penalty=1.0, sampling=rules)
    assert [p + b.ids for p, beams in zip(prompts, found) for b in beams[:n]] == expected
    assert {text[-1] for text in expected} & {*stop}


def test_several_ids_end_drafted_and_streamed_texts_alike(pair):
    _, ours = pair
    prompt = [[1, 2, 1, 2]]
    (free,) = generate(ours, prompt, 28, GREEDY)
    stop = [free[15], free[9]]
    (plain,) = generate(ours, prompt, 28, GREEDY, stop=stop)
    assert plain == free[: min(map(free[4:].index, stop)) + 5]
    for draft in (PromptLookup(), ours):
        parts = list(speculate(ours, draft, prompt, 28, GREEDY, stop=stop))
        assert [*itertools.chain(*parts)] == plain[4:]


def test_a_prompt_gets_the_beams_that_it_gets_alone():
    torch.manual_seed(2)
    model = GPT(GPTConfig(VOCABULARY, CONTEXT, 32, 4, 2)).eval()
    model.init_weights(0.3)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]
    for stop in (None, 7):
        together = beam_searches(model, prompts, 10, 4, stop)
        for prompt, beams in zip(prompts, together):
            assert [b.ids for b in beams] == [
                b.ids for b in beam_search(model, [prompt], 10, 4, stop)
            ]


def test_beams_leave_out_what_is_forbidden_and_may_be_fewer():
    def certain(ids):
        logits = torch.full((*ids.shape, 5), -math.inf)
        return logits.index_fill(-1, torch.tensor([1, 2]), 0.0)

    assert len(beam_search(certain, [[1]], 1, 4)) == 2
    assert len(beam_search(certain, [[1]], 3, 4)) == 4
    assert beam_search(certain, [[1]], 3, 9)[0].log_prob == pytest.approx(-3 * math.log(2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"sampling": Sampling(top_k=3)}, "beam search draws nothing"),
        ({"sampling": Sampling(temperature=0.5)}, "beam search draws nothing"),
        ({"stop": VOCABULARY}, "stop is 31"),
    ],
)
def test_beams_refuse_what_they_cannot_use(wrong, message):
    model = GPT(GPTConfig(VOCABULARY, CONTEXT, 32, 4, 2)).eval()
    with pytest.raises(ValueError, match=message):
        beam_search(model, [[1]], 3, 2, **wrong)


# --- drafts without a model


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=25), st.integers(1, 4), st.integers(1, 6))
def test_what_is_looked_up_is_what_transformers_looks_up(ids, longest, n):
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    generator = PromptLookupCandidateGenerator(
        num_output_tokens=n, max_matching_ngram_size=longest, max_length=1000
    )
    candidates, _ = generator.get_candidates(torch.tensor([ids]))
    assert PromptLookup(longest)(ids, n) == candidates[0, len(ids) :].tolist()


@pytest.mark.parametrize(
    ("rule", "draft"),
    [(None, "lookup"), ("all", "lookup"), ("all", "another"), ("penalty", "model")]
    + [
        pytest.param(rule, draft, marks=pytest.mark.slow)
        for rule in RULES
        for draft in ("model", "another", "lookup")
    ],
)
def test_greedy_drafts_change_nothing_under_any_rule(rule, draft):
    torch.manual_seed(5)
    model = GPT(GPTConfig(VOCABULARY, CONTEXT, 32, 4, 2)).eval()
    model.init_weights(0.4)
    torch.manual_seed(6)
    another = GPT(GPTConfig(VOCABULARY, CONTEXT, 16, 2, 1)).eval()
    drafts = {"model": model, "another": another, "lookup": PromptLookup()}
    sampling = Sampling(temperature=0, **(RULES[rule] if rule else {}))
    for stop in (None, 11):
        plain = generate(model, [[1, 2, 1, 2]], 28, sampling, stop=stop)[0]
        parts = list(speculate(model, drafts[draft], [[1, 2, 1, 2]], 28, sampling, stop=stop))
        assert [1, 2, 1, 2, *itertools.chain(*parts)] == plain


def test_looked_up_drafts_are_accepted_where_a_text_repeats():
    def cycle(ids):
        return 50.0 * torch.nn.functional.one_hot((ids + 1) % 7, 7).float()

    parts = list(speculate(cycle, PromptLookup(), [[1, 2, 3, 4, 5, 6, 0, 1, 2]], 20, n_draft=4))
    assert [len(part) for part in parts] == [5, 5, 5, 5]


@pytest.mark.slow
def test_looked_up_drafts_keep_the_distribution():
    torch.manual_seed(5)
    model = GPT(GPTConfig(5, CONTEXT, 16, 2, 1)).eval()
    model.init_weights(0.4)
    prompt, generator, counts, n = [[1, 2, 3, 1, 2]], torch.Generator().manual_seed(1), {}, 1500
    for _ in range(n):
        parts = speculate(model, PromptLookup(), prompt, 2, n_draft=3, generator=generator)
        text = tuple(itertools.chain(*parts))
        counts[text] = counts.get(text, 0) + 1
    chi = 0.0
    for text in itertools.product(range(5), repeat=2):
        log_probs = model(torch.tensor([[*prompt[0], *text]])).log_softmax(-1)[0, 4:]
        due = n * math.exp(sum(log_probs[i, token].item() for i, token in enumerate(text)))
        chi += (counts.get(text, 0) - due) ** 2 / due
    assert chi < 24 + 4 * math.sqrt(48)


def test_streamed_rows_with_rules_are_those_of_generate():
    torch.manual_seed(1)
    model = GPT(GPTConfig(VOCABULARY, CONTEXT, 32, 4, 2)).eval()
    sampling = Sampling(**RULES["all"])
    whole = generate(model, [[1, 2]], 12, sampling, generator=torch.Generator().manual_seed(1))
    steps = stream(model, [[1, 2]], 12, sampling, generator=torch.Generator().manual_seed(1))
    assert whole[0][2:] == [int(step) for step in steps]
