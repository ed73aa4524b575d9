"""What models/nano-llama is trained on: stories and chats, and which tokens could follow in them.

A row is `<|endoftext|>`, a story and `<|endoftext|>`; or a conversation in ChatML, whose last token
to learn is the end of the answer. Of every place in a story, and in an answer to a request, the
world knows which tokens are possible there. A model that has learned the likely ones well still
gives a little to each of the others: cross-entropy pushes a token down by no more than the
probability that it has. So `PossibleLoss` adds what is lost to all impossible ones together.
"""

import random
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from llmlib import stories
from llmlib.model.protocol import Aux
from llmlib.stories.instructions import may_meet, messages_of, tell_turns
from llmlib.stories.tokens import NextTokens
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.chat_template import IM_END, IM_START, render
from llmlib.training.loss import IGNORED, NextTokenLoss

Asked = list[dict[str, str]]  # of each story in a row, what is known of it before it begins


class StoriesAndChats:
    """Endless batches of new texts of similar length, always the same for a seed.

    chats: conversations, as a share of all rows. asks: what requests ask for, whatever else they
    do, in a share `asking` of the chats.
    """

    POOL = 64  # batches that are sorted by length at a time

    def __init__(
        self,
        tokenizer: BPETokenizer,
        chats: float,
        batch_size: int,
        seed: int,
        asks: tuple[str, ...] = (),
        asking: float = 1.0,
    ):
        self.tokenizer, self.chats = tokenizer, chats
        self.asks, self.asking = set(asks), asking
        self.batch_size, self.seed = batch_size, seed
        self.asked: dict[tuple[int, ...], Asked] = {}  # of the rows that were made: by their ids
        self.world = NextTokens(stories.DEFAULT, tokenizer, max_nodes=200)
        self.end, self.im_end = (tokenizer.special_tokens[i] for i in (END_OF_TEXT, IM_END))
        self.answer = tokenizer.encode(f"{IM_START}assistant\n", allowed_special="all")

    def row(self, rng: random.Random) -> torch.Tensor:
        """Return the ids of a text."""
        if rng.random() < self.chats:
            asks = self.asks if self.asking == 1 or rng.random() < self.asking else set()
            turns, system = tell_turns(rng)
            while not all(asks <= turn.constraints.asked().keys() for turn in turns):
                turns, system = tell_turns(rng)
            text = render(messages_of(*turns, system=system)).removesuffix("\n")
            asked = [turn.constraints.asked() for turn in turns]
        else:
            text, asked = END_OF_TEXT + stories.tell(rng).text + END_OF_TEXT, [{}]
        ids = self.tokenizer.encode(text, allowed_special="all")
        self.asked[tuple(ids)] = asked
        return torch.tensor(ids)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rng, size = random.Random(self.seed), self.batch_size
        self.asked.clear()
        while True:
            rows = sorted((self.row(rng) for _ in range(self.POOL * size)), key=len)
            batches = [rows[i : i + size] for i in range(0, len(rows), size)]
            rng.shuffle(batches)
            for batch in batches:
                inputs = pad_sequence([row[:-1] for row in batch], batch_first=True)
                targets = pad_sequence([row[1:] for row in batch], True, padding_value=IGNORED)
                yield inputs, targets

    def possible(self, ids: list[int]) -> Iterator[tuple[int, int, bool]]:
        """Yield (place, token, wanted) for all tokens that can stand where a row has its stories.

        wanted: whether it can stand there in a story that meets the request. Raises KeyError for a
        row that was not made here.
        """
        place, is_chat = 0, ids[0] != self.end
        before, end = (self.answer, self.im_end) if is_chat else ([self.end], self.end)
        for asked in self.asked[tuple(ids)]:
            while ids[place : place + len(before)] != before:
                place += 1
            place += len(before)
            story = [*ids[place : ids.index(end, place)], self.end]
            wanted = partial(may_meet, asked=asked) if asked else None
            for tokens in self.world.possible(story, wanted):
                for token, meets in tokens.items():
                    yield place, end if token == self.end else int(token), meets
                place += 1


class PossibleLoss(nn.Module):
    """The loss of a model, and beside it what the world knows about the tokens that follow.

    loss: what the trainer puts together. texts: where its batches come from. Two losses are added,
    which the trainer weighs: "impossible" is -log of what the model gives to the possible tokens,
    summed over the places of stories; "unasked" is -log of what part of that goes to those that the
    request allows, summed over the places where it rules some out.
    """

    def __init__(self, loss: NextTokenLoss, texts: StoriesAndChats):
        super().__init__()
        self.loss, self.texts = loss, texts

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, Aux]:
        """Return the sum of -log p over the targets (B, T) that count, and the losses beside it."""
        places, tokens, wanted = self.possible(inputs, targets)
        model, low = self.loss.model, self.loss.dtype == "bfloat16"
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=low):
            logits = model(inputs)
        log_p = F.log_softmax(logits.float().flatten(0, 1), dim=-1)  # (B, T, V) -> (N, V)
        summed = F.nll_loss(log_p, targets.flatten(), ignore_index=IGNORED, reduction="sum")
        p, zeros = log_p[places, tokens].exp(), log_p.new_zeros(len(log_p))
        in_stories, decided = places.unique(), places[~wanted].unique()
        possible = zeros.index_add(0, places, p)
        asked = zeros.index_add(0, places, p * wanted)[decided] / possible[decided]
        return summed, {
            "impossible": (-possible[in_stories].log().sum(), len(in_stories)),
            "unasked": (-asked.log().sum(), len(decided)),
        }

    def possible(self, inputs: torch.Tensor, targets: torch.Tensor) -> Iterator[torch.Tensor]:
        """Return places (n,) in the flattened batch, tokens (n,) there, and which are wanted."""
        found = []
        for number, (row, following) in enumerate(zip(inputs, targets)):
            ids = [int(row[0]), *following[following != IGNORED].tolist()]
            # the token at place 1 of a row is predicted at place 0 of the inputs
            first = number * inputs.shape[1] - 1
            found += [(first + place, *more) for place, *more in self.texts.possible(ids)]
            del self.texts.asked[tuple(ids)]
        places, tokens, wanted = torch.tensor(found).T
        return places, tokens, wanted.bool()
