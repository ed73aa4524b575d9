"""The true distribution of the next token, whatever tokenizer cuts the stories.

Written by hand. The world knows the next word; a token may be a part of a word, a word with the
space before it, or a run of punctuation that two words make together. What helps is that no
tokenizer joins across a space: a story is cut before each space into chunks (` time,`), and its
encoding is that of its chunks, one after another. So the words become a tree of chunks, each with
its probability and its ids, and the next token is read off the chunks that begin as the ids do.

Only canonical encodings count: ids that `encode` gives for the beginning of no story are refused.
Left out: tokenizers that do join across spaces, such as a BPE with a pattern that says so.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain
from typing import Protocol

import numpy as np

from llmlib.stories.text import common_length, group, needs_space
from llmlib.stories.world import Reading, World, log_sum

END_OF_TEXT = "<|endoftext|>"


class Encoder(Protocol):
    """What is asked of a tokenizer; `llmlib.tokenization.base` describes it."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def special_tokens(self) -> Mapping[str, int]: ...

    def encode(
        self, text: str, *, disallowed_special: Collection[str] | str = "all"
    ) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def __hash__(self) -> int: ...


# The ids of a chunk, and the stories that go on with it
Chunk = tuple[Sequence[int | None], "Node"]


@dataclass(frozen=True, eq=False)
class Node:
    """The stories that begin with the same chunks, by the first words of the next chunk.

    steps: each way to say that word ("" is the end of the story), as (word, reading after it).
    quoted: whether these chunks leave a quotation open.
    """

    steps: list[tuple[str, Reading]]
    quoted: bool = False

    @cached_property
    def log_prob(self) -> float:
        return log_sum([reading.log_prob for _, reading in self.steps])


class NextTokens:
    """The distribution of the next token in a world, for one tokenizer.

    Called with ids, it returns what `llmlib.stories.next_tokens` does. It remembers the `max_nodes`
    nodes of the tree that were visited last. Raises ValueError for a tokenizer that joins across
    spaces.
    """

    def __init__(self, world: World, tokenizer: Encoder, max_nodes: int = 10_000):
        self.world, self.tokenizer = world, tokenizer
        self.end = tokenizer.special_tokens.get(END_OF_TEXT)
        self.root = Node([*world.steps(world.start)])
        self.branches = lru_cache(max_nodes)(self.grow)
        self.encode = lru_cache(maxsize=2**14)(partial(tokenizer.encode, disallowed_special=()))
        for story in world.tell_many(20, seed=0):
            chunks = story.text.replace(" ", "\n ").split("\n")
            if [i for chunk in chunks for i in self.encode(chunk)] != self.encode(story.text):
                raise ValueError(
                    "the tokenizer joins words across the space between them, so its next token "
                    "depends on words that are too far ahead to list"
                )

    def __call__(self, ids: Iterable[int]) -> np.ndarray:
        ids = [int(i) for i in ids]
        if self.end in ids:  # another story begins after the last one
            ids = ids[len(ids) - ids[::-1].index(self.end) :]
        found = self.find(ids)
        total = log_sum([log_prob for _, log_prob in found])
        probabilities = np.zeros(self.tokenizer.vocab_size)
        for token, log_prob in found:
            if token is not None:
                probabilities[token] += math.exp(log_prob - total)
        return probabilities

    def find(self, ids: list[int]) -> list[tuple[int | None, float]]:
        """Return each possible next token with its log-probability, chunk by chunk.

        The token is None for the end of a story that no token stands for. Raises ValueError for ids
        that no story begins with.
        """
        agenda, found, n_read = [(self.root, 0)], [], 0
        while agenda:
            node, start = agenda.pop()
            rest, branches = ids[start:], self.branches(node)
            near = branches.get(rest[0], []) if rest else chain.from_iterable(branches.values())
            for chunk, child in near:
                n = common_length(chunk, rest)
                n_read = max(n_read, start + n)
                if n == len(chunk):  # ends where the ids do, or before
                    agenda.append((child, start + n))
                elif n == len(rest):
                    found.append((chunk[n], child.log_prob))
        if not found:
            said, wrong = (self.tokenizer.decode(part) for part in (ids[:n_read], ids[n_read:][:1]))
            raise ValueError(
                f"no story is encoded so: token {n_read} of it, {wrong!r}, cannot follow "
                f"{said[-40:]!r}"
            )
        return found

    def possible(
        self, ids: Iterable[int], wanted: Callable[[Reading], bool] | None = None
    ) -> Iterator[dict[int | None, bool]]:
        """Yield before each id all tokens whose probability is not zero, in one pass over a story.

        ids: the beginning of a story, without `<|endoftext|>` in front. Each token comes with
        whether stories go on with it that are wanted: `wanted` is asked about readings of their
        beginnings. Raises ValueError for ids that no story begins with.
        """
        # chunks that begin as the ids do, and how many of their own ids have been read
        begun = [(chunk, 0) for chunk in chain(*self.branches(self.root).values())]
        for i in ids:
            found: dict[int | None, bool] = {}
            for (more, node), n in begun:
                found[more[n]] = found.get(more[n]) or (
                    wanted is None or any(wanted(reading) for _, reading in node.steps)
                )
            yield found
            read = [(chunk, n + 1) for chunk, n in begun if chunk[0][n] == i]
            if not read:
                raise ValueError(f"no story goes on with {self.tokenizer.decode([i])!r} here")
            begun = [(chunk, n) for chunk, n in read if n < len(chunk[0])]
            for node in (node for (more, node), n in read if n == len(more)):
                begun += [(chunk, 0) for chunk in chain(*self.branches(node).values())]

    def grow(self, node: Node) -> dict[int | None, list[Chunk]]:
        """Return the ways to go on from a node by one chunk, by the first id of that."""
        chunks: list[Chunk] = []
        space = "" if node is self.root else " "
        for word, readings in group(node.steps).items():
            if word:
                chunks += self.chunks(space + word, readings, node.quoted)
            else:
                chunks.append(([self.end], Node([("", reading) for reading in readings])))
        return group((ids[0], (ids, child)) for ids, child in chunks)

    def chunks(self, text: str, readings: list[Reading], quoted: bool) -> Iterator[Chunk]:
        """Yield the ids of all chunks that begin with a text, and what follows each.

        quoted: whether a quotation is open before the text. A chunk is complete only where the next
        word is known to begin with a space, so that this looks one word ahead.
        """
        open_after, complete = quoted ^ (text.count('"') % 2 == 1), []
        steps = [step for reading in readings for step in self.world.steps(reading)]
        for word, longer in group(steps).items():
            if word and not needs_space(word, open_after, open_after and text.endswith('"')):
                yield from self.chunks(text + word, longer, quoted)
            else:
                complete += [(word, reading) for reading in longer]
        if complete:
            yield self.encode(text), Node(complete, open_after)
