"""What nano-llama reads, and the losses that know which tokens are possible."""

import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

from llmlib import stories
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained.models import load_model
from llmlib.stories.instructions import may_meet
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.chat_template import IM_END
from llmlib.training.config import TrainConfig
from llmlib.training.loss import IGNORED, NextTokenLoss
from llmlib.training.trainer import Trainer

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from nano_llama_texts import PossibleLoss, StoriesAndChats

SMALL = ModernConfig(
    vocab_size=1024, context_length=512, emb_dim=32, n_heads=2, n_kv_heads=1, n_layers=1
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_model("nano-llama")[1]


def rows_of(texts, n):
    """The ids of the first rows, without padding."""
    rows = []
    for inputs, targets in texts:
        for row, following in zip(inputs, targets):
            rows.append([int(row[0]), *following[following != IGNORED].tolist()])
        if len(rows) >= n:
            return rows[:n]


def test_rows_are_stories_and_chats_each_read_once_and_the_same_for_a_seed(tokenizer):
    texts = StoriesAndChats(tokenizer, 0.5, 4, seed=1)
    rows = rows_of(texts, 64)
    assert rows == rows_of(texts, 64) != rows_of(StoriesAndChats(tokenizer, 0.5, 4, seed=2), 64)
    assert len({*map(tuple, rows)}) == 64
    ends = [tokenizer.special_tokens[end] for end in (END_OF_TEXT, IM_END)]
    assert {row[-1] for row in rows} == set(ends)
    assert 15 < sum(row[-1] == ends[1] for row in rows) < 49


def test_what_stands_in_a_story_is_possible_and_wanted_there(tokenizer):
    texts = StoriesAndChats(tokenizer, 0.7, 4, seed=3)
    n_answers = 0
    for row in rows_of(texts, 24):
        found = list(texts.possible(row))
        possible, wanted = {p for p, *_ in found}, {(p, t) for p, t, w in found if w}
        assert {(place, row[place]) for place in possible} <= wanted
        assert len(row) - 1 in possible and 0 not in possible
        # one run of places for each story
        starts = sorted(place for place in possible if place - 1 not in possible)
        assert len(starts) == len(texts.asked[tuple(row)])
        n_answers += len(starts) if row[0] != texts.end else 0
        said = tokenizer.decode([row[p] for p in sorted(possible) if p >= starts[-1]][:-1])
        assert stories.check(said).consistent
    assert n_answers > 12


def test_each_request_asks_for_what_a_stage_wants(tokenizer):
    texts = StoriesAndChats(tokenizer, 1.0, 2, seed=4, asks=("object", "ending"))
    rows_of(texts, 4)
    assert all(
        {"object", "ending"} <= {*asked} for turns in texts.asked.values() for asked in turns
    )


def by_hand(logits, rows, texts):
    """Both losses of `PossibleLoss`, place by place."""
    impossible, unasked = [], []
    for row, scores in zip(rows, logits):
        p, found = scores.softmax(-1), list(texts.possible(row))
        for place in sorted({place for place, *_ in found}):
            likely = sum(p[place - 1, t] for q, t, _ in found if q == place)
            asked = sum(p[place - 1, t] for q, t, wanted in found if q == place and wanted)
            impossible.append(-likely.log())
            if not all(wanted for q, _, wanted in found if q == place):
                unasked.append(-(asked / likely).log())
    return impossible, unasked


def test_the_losses_are_what_they_say_place_by_place(tokenizer):
    texts = StoriesAndChats(tokenizer, 0.6, 4, seed=5)
    model = Modern(SMALL)
    inputs, targets = next(iter(texts))
    rows = [
        [int(row[0]), *following[following != IGNORED].tolist()]
        for row, following in zip(inputs, targets)
    ]
    with torch.no_grad():
        impossible, unasked = by_hand(model(inputs), rows, texts)
        plain, _ = NextTokenLoss(model)(inputs, targets)
        summed, aux = PossibleLoss(NextTokenLoss(model), texts)(inputs, targets)
    torch.testing.assert_close(summed, plain, rtol=1e-5, atol=0)
    assert aux["impossible"][1] == len(impossible) and aux["unasked"][1] == len(unasked) > 0
    torch.testing.assert_close(aux["impossible"][0], sum(impossible), rtol=1e-4, atol=0)
    torch.testing.assert_close(aux["unasked"][0], sum(unasked), rtol=1e-4, atol=0)


def test_the_trainer_learns_what_is_impossible(tokenizer):
    """It is the one trainer, which weighs and reports both losses."""
    torch.manual_seed(1)
    texts = StoriesAndChats(tokenizer, 0.5, 4, seed=6)
    config = TrainConfig(max_steps=30, learning_rate=1e-2, warmup_steps=5)
    config = replace(config, aux_weights={"impossible": 1.0, "unasked": 0.1})
    trainer = Trainer(Modern(SMALL), config, wrap=partial(PossibleLoss, texts=texts))
    reports = list(islice(trainer.run(texts), 30))
    first, last = reports[0].aux["impossible"], reports[-1].aux["impossible"]
    assert last < 0.7 * first and reports[-1].aux.keys() == {"impossible", "unasked"}
    assert isinstance(trainer.model, Modern)


def test_a_row_from_elsewhere_is_refused(tokenizer):
    with pytest.raises(KeyError):
        list(StoriesAndChats(tokenizer, 0.5, 4, seed=7).possible([1, 2, 3]))
    assert may_meet(stories.DEFAULT.start, {})
