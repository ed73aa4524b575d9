"""Several texts at once: each is the text that its prompt gets alone, cut before its stop."""

import pytest
import torch

from llmlib.files import home
from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.generation.streaming import stream_text
from llmlib.generation.texts import generate_texts
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2 import load_pretrained
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.words import CharTokenizer

GREEDY = Sampling(temperature=0)
PROMPTS = ["Mia was a", "Once", "Tom had a dog. The dog", "Sam"]


@pytest.fixture(scope="module")
def nano():
    model = load_pretrained(home() / "gpt2" / "nano").requires_grad_(False)
    return model, load_tokenizer(home() / "gpt2" / "nano")


def plain(model, tokenizer, prompts, n, sampling):
    """What is written without stops."""
    end = tokenizer.eot_token
    rows = [[end, *tokenizer.encode(prompt)] for prompt in prompts]
    generator = torch.Generator().manual_seed(0)
    texts = generate(model, rows, n, sampling, stop=end, generator=generator)
    return [
        tokenizer.decode([i for i in text[len(row) :] if i != end])
        for text, row in zip(texts, rows)
    ]


@pytest.mark.parametrize(
    ("sampling", "stops"),
    [
        (GREEDY, (". ", "who")),
        (Sampling(temperature=0.8), ("o l", "e w", "zzz")),
        pytest.param(GREEDY, (), marks=pytest.mark.slow),
        pytest.param(GREEDY, ("a",), marks=pytest.mark.slow),
        pytest.param(GREEDY, ("o l", "e w", "zzz"), marks=pytest.mark.slow),
        pytest.param(Sampling(temperature=0.8), ("\n", ". "), marks=pytest.mark.slow),
    ],
)
def test_each_text_is_cut_before_the_stop_that_comes_first(nano, sampling, stops):
    model, tokenizer = nano
    expected = plain(model, tokenizer, PROMPTS, 40, sampling)
    for number, text in enumerate(expected):
        places = [text.find(stop) for stop in stops if stop in text]
        expected[number] = text[: min(places)] if places else text
    found = generate_texts(
        model,
        tokenizer,
        PROMPTS,
        40,
        sampling,
        end_of_text=tokenizer.eot_token,
        stops=stops,
        generator=torch.Generator().manual_seed(0),
    )
    assert found == expected
    settings = {"end_of_text": tokenizer.eot_token, "stops": stops}
    if sampling is GREEDY:
        alone = ["".join(stream_text(model, tokenizer, p, 40, GREEDY, **settings)) for p in PROMPTS]
        assert found == alone


def test_rows_that_have_stopped_are_no_longer_computed(nano):
    model, tokenizer = nano
    sizes = []
    handle = model.h[0].register_forward_hook(lambda m, args, out: sizes.append(len(out)))
    texts = generate_texts(
        model, tokenizer, PROMPTS, 40, GREEDY, end_of_text=tokenizer.eot_token, stops=". "
    )
    handle.remove()
    assert sizes[0] == 4 and sorted(sizes, reverse=True) == sizes and sizes[-1] < 4
    assert len(sizes) < 40 or any(". " not in text for text in texts)


def test_a_stop_may_span_tokens_and_begin_anywhere_in_one():
    tokenizer = CharTokenizer.from_text("abcdefg")
    cycle = {token: (token + 1) % 7 for token in range(9)}

    def model(ids):
        return 50.0 * torch.nn.functional.one_hot(ids.apply_(cycle.get), 9).float()

    texts = generate_texts(model, tokenizer, ["a", "cd", "g"], 12, GREEDY, stops=["efg", "dea"])
    assert texts == ["bcd", "", "abcd"]
    for n, text in ((4, "bcde"), (5, "bcdef"), (9, "bcde")):  # what may become a stop, and does not
        assert generate_texts(model, tokenizer, ["a"], n, GREEDY, stops=["fg"]) == [text]
    assert generate_texts(model, tokenizer, ["a"], 9, GREEDY, stops=["fg", "efg"]) == ["bcd"]
    cycle[2] = tokenizer.eot_token
    end = {"end_of_text": tokenizer.eot_token}
    assert generate_texts(model, tokenizer, ["a"], 9, GREEDY, **end) == ["bc"]


def test_texts_hold_no_id_that_no_token_has():
    tokenizer = CharTokenizer.from_text("abcdef")
    torch.manual_seed(0)
    model = GPT(GPTConfig(40, 48, 16, 2, 2)).eval()
    hot = Sampling(temperature=9.0)
    texts = generate_texts(model, tokenizer, ["a"] * 8, 40, hot)
    texts += ["".join(stream_text(model, tokenizer, "a", 40, hot))]
    assert all(len(text) >= 30 for text in texts)


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ("abc", TypeError, "prompts are 'abc': give a list of strings"),
        (["a", 5], TypeError, "give a list of strings"),
        ([], ValueError, "at least one prompt"),
        (["a", ""], ValueError, "at least one token in each"),
    ],
)
def test_prompts_that_are_none_are_refused(prompts, error, message):
    tokenizer = CharTokenizer.from_text("abc")
    with pytest.raises(error, match=message):
        generate_texts(lambda ids: torch.zeros(*ids.shape, 5), tokenizer, prompts, 3)
