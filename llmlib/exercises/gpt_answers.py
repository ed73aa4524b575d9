"""For the checks of notebook 04: what an answer's GPT copies, and what its backward pass costs.

Written by hand. Exercise 04.5 asks for a GPT that copies, 04.7 for a gradient in little memory.
"""

import math
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from llmlib.exercises import Case, case, noise
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT, Block


def followers(ids: list[int], place: int, n_tokens: int) -> list[int]:
    """Return the tokens that followed earlier occurrences of the last `n_tokens` tokens."""
    ended = ids[place + 1 - n_tokens : place + 1]
    return [
        ids[j + 1] for j in range(n_tokens - 1, place) if ids[j + 1 - n_tokens : j + 1] == ended
    ]


def some_texts(vocab_size: int, length: int) -> Tensor:
    """Return all texts of a length if there are few, otherwise some with frequent repetitions."""
    if vocab_size**length < 1000:
        return torch.cartesian_prod(*[torch.arange(vocab_size)] * length)
    draw = torch.Generator().manual_seed(0)
    names = [torch.randperm(vocab_size, generator=draw) for _ in range(60)]
    kinds = [2 + row % (vocab_size - 1) for row in range(60)]  # from two tokens to all of them
    return torch.stack(
        [name[torch.randint(n, (length,), generator=draw)] for name, n in zip(names, kinds)]
    )


@dataclass
class Written:
    """What the GPT of an answer writes after each token of some texts."""

    ids: Tensor  # the texts
    next: Tensor | None  # what it writes; None for another thing than a GPT of the right size
    right: Tensor  # what it should write, -1 for anything

    def __repr__(self) -> str:
        if self.next is None:
            return "something else"
        wrong = (self.right >= 0) & (self.next != self.right)
        if not wrong.any():
            return "such a GPT"
        place, row = min((int(t), int(row)) for row, t in wrong.nonzero())
        text = self.ids[row, : place + 1].tolist()
        return f"{self.next[row, place]} after {text}, not {self.right[row, place]}"


class Copied:
    """Texts of a vocabulary, and what a GPT should write after each of their tokens."""

    def __init__(self, vocab_size: int, length: int):
        self.vocab_size, self.length = vocab_size, length
        self.ids = some_texts(vocab_size, length)
        rows = self.ids.tolist()
        alone = [[followers(row, t, 1) for t in range(length)] for row in rows]
        pairs = [[followers(row, t, 2) if t else [] for t in range(length)] for row in rows]
        best = [[p or a for p, a in zip(*both)] for both in zip(pairs, alone)]
        self.paired = torch.tensor([[bool(found) for found in row] for row in pairs])
        self.several = torch.tensor([[len(set(found)) > 1 for found in row] for row in best])
        self.right, self.by_one = (
            torch.tensor([[found[-1] if found else -1 for found in row] for row in rows])
            for rows in (best, alone)
        )

    def through(self, answer: Callable) -> Callable:
        """Return the function, to be called, and to return what its GPT has written."""

        @torch.no_grad()
        def called(*args):
            """Return what is written by a fresh GPT with the weights of the answer's."""
            model = answer(*args)
            config, made = model.config, None
            fits = config.vocab_size == self.vocab_size and config.context_length >= self.length
            if type(model).__name__ == "GPT" and fits:
                fresh = GPT(GPTConfig(**asdict(config))).eval()  # the weights alone decide
                fresh.load_state_dict(model.state_dict())
                made = fresh(self.ids).argmax(dim=-1)
            return Written(self.ids, made, self.right)

        called.__name__ = getattr(answer, "__name__", "answer")
        return called

    def writes(self, wanted: Tensor, where: Tensor | bool = True) -> Callable[[Written], bool]:
        """Return a test of what was written: whether it is what is wanted, in these places."""
        other = (self.right >= 0) & where
        return lambda it: it.next is not None and not (other & (it.next != wanted)).any()

    def case(self) -> Case:
        """Return the case of one vocabulary and one length."""
        first, second = self.ids[:, :1], self.ids[:, 1:2]
        lone = ~self.several & (self.ids != first)
        early = torch.arange(self.length) < 8
        return case(
            self.vocab_size,
            self.length,
            expected=self.writes(self.right),
            saying="a GPT that writes what followed the last two tokens, or else the last one",
            through=self.through,
            mistakes={
                "that is no GPT of this vocab_size and context_length": lambda it: it.next is None,
                "it repeats the token just read": self.writes(self.ids),
                "it looks for the last token alone, not for the pair": self.writes(self.by_one),
                "nothing stands before the first token: it makes no pair": lambda it: self.writes(
                    it.right.where((self.ids != first) | (it.next != second), second)
                )(it),
                "where the pair is new, the last token alone decides": self.writes(
                    self.right, self.paired
                ),
                "of several occurrences, the last one counts": self.writes(self.right, lone),
                "the first tokens of a text are right, later ones are not": self.writes(
                    self.right, early
                ),
            },
        )


def fewest_calls(n_blocks: int, room: int) -> int:
    """Return how often `forward` has to be called (Griewank and Walther 2000, algorithm 799)."""
    places, repeats = room + 1, 0  # x takes one more place
    while math.comb(places + repeats, places) < n_blocks:
        repeats += 1
    return repeats * n_blocks - math.comb(places + repeats, places + 1)


@dataclass
class Spent:
    """What a backward pass returned, and what it cost."""

    gradient: Tensor
    is_right: bool
    order: list[int]  # of the calls of `backward`
    calls: int  # of `forward`
    held: int  # the most results of `forward` beside the one in use

    def __repr__(self) -> str:
        gradient = "the gradient" if self.is_right else "a wrong gradient"
        return f"{gradient} with {self.calls} calls of forward and {self.held} results held"


class Chain:
    """A stack of blocks that counts what is asked of it and what is still alive."""

    def __init__(self, n_blocks: int, room: int):
        config = GPTConfig(2, 4, emb_dim=8, n_heads=2, n_layers=n_blocks)
        self.blocks = [Block(config) for _ in range(n_blocks)]
        for seed, parameter in enumerate(p for block in self.blocks for p in block.parameters()):
            parameter.data.add_(0.1 * noise(*parameter.shape, seed=seed))
        self.room, self.x, self.upstream = room, noise(1, 4, 8), noise(1, 4, 8, seed=1)
        self.arrays: list[weakref.ref] = []
        self.order: list[int] = []
        self.calls = self.held = 0

    def notice(self, stream: Tensor) -> None:
        """Count what is alive beside a stream; raise ValueError if it is a copy of something."""
        alive = [array for ref in self.arrays if (array := ref()) is not None]
        others = [array for array in alive if array.ctypes.data != stream.data_ptr()]
        if len(others) == len(alive) and stream.data_ptr() != self.x.data_ptr():
            raise ValueError("a stream is neither x nor a result of forward: pass on no copies")
        self.held = max(self.held, len(others))

    @torch.no_grad()
    def forward(self, i: int, stream: Tensor) -> Tensor:
        """Return what block i makes of a stream, in an array whose end can be seen."""
        self.notice(stream)
        self.calls += 1
        array = self.blocks[i](stream).numpy().copy()
        self.arrays.append(weakref.ref(array))
        return torch.from_numpy(array)

    def backward(self, i: int, stream: Tensor, upstream: Tensor) -> Tensor:
        """Return the gradient of a stream, given the gradient of what block i makes of it."""
        self.notice(stream)
        self.order.append(i)
        return gradient_of(self.blocks[i], stream, upstream)

    def through(self, answer: Callable) -> Callable:
        """Return the function, to be called with this chain, and to return what it spent."""

        def called(*args):
            """Return the gradient and its price, all counted from zero."""
            self.arrays, self.order, self.calls, self.held = [], [], 0, 0
            gradient = answer(*args)
            whole = gradient_of(torch.nn.Sequential(*self.blocks), self.x, self.upstream)
            is_right = torch.allclose(gradient, whole, rtol=1e-3, atol=1e-4)
            return Spent(gradient, is_right, self.order, self.calls, self.held)

        called.__name__ = getattr(answer, "__name__", "answer")
        return called

    def case(self) -> Case:
        """Return the case of one stack and one room."""
        n_blocks, room, fewest = (
            len(self.blocks),
            self.room,
            fewest_calls(len(self.blocks), self.room),
        )
        downward = list(reversed(range(n_blocks)))
        wrong = {
            "backward has to be called once for each block": lambda it: it.order != downward,
            "that is not the gradient": lambda it: not it.is_right,
            "more is held than there is room for": lambda it: it.held > room,
            "fewer calls are enough": lambda it: it.calls > fewest,
        }
        return case(
            self.forward,
            self.backward,
            n_blocks,
            self.x,
            self.upstream,
            room,
            expected=lambda it: not any(is_wrong(it) for is_wrong in wrong.values()),
            saying=f"the gradient with {fewest} calls of forward and at most {room} results held",
            through=self.through,
            mistakes=wrong,
        )


def gradient_of(block: torch.nn.Module, stream: Tensor, upstream: Tensor) -> Tensor:
    """Return the gradient with respect to a stream that goes through a block."""
    with torch.enable_grad():
        leaf = stream.detach().requires_grad_()
        return torch.autograd.grad(block(leaf), leaf, upstream)[0]
