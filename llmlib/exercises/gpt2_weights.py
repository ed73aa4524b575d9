"""Checks of the exercises of notebook 07."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmlib.exercises import case, exercise, same
from llmlib.exercises.disguised_gpt import disguised, impostors
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.crc import crc32c, mask
from llmlib.pretrained.sstable import MAGIC, Block, read_table, write_table

UNCHANGED = "the given model was changed: work on a copy"


@exercise("07.1")
def bfloat16_is_rounded_to_the_nearest():
    """07.1: the bits of bfloat16 as uint16, rounded to the nearest, halves to even."""

    def given(values, bits):
        """Return the case of some float32 values and their bits."""
        values, wanted = np.array(values, np.float32), np.array(bits)

        def bits_of(result, wide=False):
            return (result.dtype != np.uint16) == wide and np.array_equal(result, wanted)

        words = values.view(np.uint32)
        mistakes = {
            "the right bits, in a larger type: nothing is saved": lambda r: bits_of(r, wide=True),
            "a half goes to the even neighbour, not always up": (words + 0x8000) >> 16,
            "a half goes to the even neighbour, not always down": (words + 0x7FFF) >> 16,
            "they are cut off, not rounded": words >> 16,
            "these are the bits of float16": values.clip(-6e4, 6e4).astype("f2").view("u2"),
        }
        saying = f"an array of uint16: {bits}"
        return case(values, expected=bits_of, saying=saying, mistakes=mistakes)

    yield given([1.0, -2.0, 0.0], [0x3F80, 0xC000, 0])
    yield given([1 + 2**-7, 1 + 2**-8 + 2**-9], [0x3F81, 0x3F81])
    yield given([1 + 2**-9, -1 - 2**-9], [0x3F80, 0xBF80])
    yield given([1 + 2**-8, 1 + 3 * 2**-8], [0x3F80, 0x3F82])
    yield given([[3.14159], [1e38]], [[0x4049], [0x7E96]])


@exercise("07.2")
def two_flipped_bits_are_found():
    """07.2: bytes and a crc in which up to two bits have flipped, and few calls of crc32c."""

    def flipped(data, *bits):
        damaged = bytearray(data)
        for bit in bits:
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def counted(answer):
        def heal(data, crc, checksum):
            calls = []
            found = answer(data, crc, lambda message: calls.append(0) or checksum(message))
            return found, len(calls)

        return heal

    def given(data, crc, wanted, mistakes):
        """Return the case of some data and a crc, and how the data should come back."""

        def right(result):
            found, n_calls = result
            is_right = found is None if wanted is None else bytes(found) == wanted
            return n_calls <= 8 * len(data) + 2 and is_right

        saying = f"{wanted!r}, after at most {8 * len(data) + 2} calls of checksum"
        mistakes = {what: lambda r, bad=bad: bad(r[0]) for what, bad in mistakes.items()} | {
            "checksum was called too often": lambda r: r[1] > 8 * len(data) + 2
        }
        args = data, crc, crc32c
        return case(*args, through=counted, expected=right, saying=saying, mistakes=mistakes)

    text = b"the heads of a block"
    crc, last = crc32c(text), 8 * len(text) - 1
    unhealed = {"two flips or fewer explain the crc": lambda found: found is None}
    flips = ((), 0), ((77,), 0), ((0, last), 0), ((8, 9), 0), ((), 2**31 + 1), ((), 8), ((50,), 64)
    for bits, in_crc in flips:
        data, wrong_crc = flipped(text, *bits), crc ^ in_crc
        as_it_came = {"that is the data as it came": lambda r, data=data: bytes(r) == data}
        yield given(data, wrong_crc, text, unhealed | (as_it_came if bits else {}))
    yield given(b"", 0, b"", unhealed)
    yield given(flipped(text * 25, 5, 3999), crc32c(text * 25), text * 25, unhealed)
    too_many = {"no two flips explain the crc": lambda found: found is not None}
    yield given(flipped(text, 3, 50, 90), crc, None, too_many)
    yield given(flipped(text, 3, 50), crc ^ 1, None, too_many)
    yield given(b"", 7, None, too_many)


@exercise("07.3")
def a_head_has_its_own_columns():
    """07.3: the weights and biases of the keys of one head."""
    C = 4
    w, b = np.arange(3.0 * C * C).reshape(C, 3 * C), np.arange(100.0, 100.0 + 3 * C)
    for head, n_heads in ((0, 2), (1, 2), (3, 4), (0, 1)):
        size = C // n_heads

        def columns(first, size=size):
            return w[:, first : first + size], b[first : first + size]

        keys = columns(C + head * size)
        mistakes = {
            "these are the queries": columns(head * size),
            "these are the values": columns(2 * C + head * size),
            "the thirds come first, the heads lie within each": columns((3 * head + 1) * size),
            "the matrix is transposed": (keys[0].T, keys[1]),
        }
        yield case(w, b, head, n_heads, expected=keys, mistakes=mistakes)


def little_gpt(seed: int) -> GPT:
    """A GPT of three small blocks, none of whose parameters is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(GPTConfig(23, 16, emb_dim=12, n_heads=3, n_layers=3))
    model.init_weights(generator=generator)  # it was drawn from the global generator
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    vars(model)["__name__"] = "model"  # how a failed case is to show it
    return model.eval()


def some_ids(seed: int) -> torch.Tensor:
    return torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits_of(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    """Return what a model's parameters alone say: hooks and other classes are left behind."""
    fresh = GPT(model.config)
    fresh.load_state_dict(model.state_dict())
    return fresh.eval()(ids)


def changed(model: GPT, change: Callable[[Any], None]) -> GPT:
    """Return a copy of a model, changed."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        change(model)
    return model


def same_tensors(model: GPT) -> Callable[[GPT], bool]:
    """Return a test: has another model the same tensors as this one has now?"""
    state = copy.deepcopy(model.state_dict())
    return lambda new: all(torch.equal(t, state[name]) for name, t in new.state_dict().items())


def same_logits(model: GPT, ids: torch.Tensor) -> Callable[[GPT], bool]:
    """Return a test: does another model say the same as this one does now?"""
    logits = logits_of(model, ids)
    return lambda new: same(logits_of(new, ids), logits, 1e-3)


def in_place(model: GPT) -> Callable[[GPT], bool]:
    """Return a test of an answer: did it change the model that it was given?"""
    untouched = same_tensors(model)
    return lambda new: new is model or not untouched(model)


def a_copy(right: Callable[[GPT], bool], model: GPT) -> Callable[[GPT], bool]:
    """Return a test of an answer: is it right, and the model that it was given as before?"""
    untouched = same_tensors(model)
    return lambda new: right(new) and new is not model and untouched(model)


def reordered(model: GPT, block: int, order: list[int], parts: str = "wbc") -> GPT:
    """Return a copy with other heads; parts: weights and biases of c_attn, columns of c_proj."""
    rows = torch.arange(12).view(3, 4)[order].flatten()  # 3 heads of 4 numbers
    thirds = torch.cat([rows, 12 + rows, 24 + rows])

    def change(model):
        """Put the heads of the block into the order, in the parts that are named."""
        attn = model.h[block].attn
        if "w" in parts:
            attn.c_attn.weight.copy_(attn.c_attn.weight[thirds].clone())
        if "b" in parts:
            attn.c_attn.bias.copy_(attn.c_attn.bias[thirds].clone())
        if "c" in parts:
            attn.c_proj.weight.copy_(attn.c_proj.weight[:, rows].clone())

    return changed(model, change)


@exercise("07.4")
def heads_are_put_in_another_order():
    """07.4: a copy of a model in which the heads of one block stand in another order."""
    for seed, block, order in ((0, 0, [1, 2, 0]), (1, 2, [2, 1, 0]), (2, 1, [0, 1, 2])):
        model, back = little_gpt(seed), sorted(range(3), key=order.__getitem__)
        wrong = {
            "c_proj still reads them in the old order": reordered(model, block, order, "wb"),
            "the biases of q, k and v stayed where they were": reordered(model, block, order, "wc"),
            "head i has gone to place order[i]": reordered(model, block, back),
        }
        mistakes = {UNCHANGED: in_place(model)}
        mistakes |= {mistake: same_tensors(bad) for mistake, bad in wrong.items()}
        saying = f"a copy with the heads of block {block} in the order {order}"
        right = a_copy(same_tensors(reordered(model, block, order)), model)
        yield case(model, block, list(order), expected=right, saying=saying, mistakes=mistakes)


@exercise("07.5")
def a_disguised_model_is_known_again():
    """07.5: which head of a model each head of another one is, or None."""
    for seed, orders in ((3, [[0, 1, 2]] * 3), (4, [[1, 2, 0], [0, 2, 1], [2, 0, 1]])):
        model = little_gpt(seed)
        back = [sorted(range(3), key=order.__getitem__) for order in orders]
        other = disguised(model, seed, orders)
        vars(other)["__name__"] = "disguised"
        untouched = {part: same_tensors(part) for part in (model, other)}
        mistakes: dict[str, Any] = {"the two give the same output for every input": None}
        mistakes["these are the places in `other` of the heads of `model`"] = back
        yield case(model, other, expected=orders, mistakes=mistakes)

        def kept(_, untouched=untouched):
            return all(was(it) for it, was in untouched.items())

        yield case(model, other, expected=kept, saying="a list, and leave both models as they are")
        for difference, impostor in impostors(model).items():
            found = {difference: lambda result: result is not None}
            for hidden in (impostor, disguised(impostor, seed + 1, orders)):
                vars(hidden)["__name__"] = "impostor"
                yield case(model, hidden, expected=None, mistakes=found)


@exercise("07.6")
@torch.no_grad()
def every_block_has_its_guess():
    """07.6: the token that the model would predict after each block."""
    for seed in (0, 1, 2):
        model, ids = little_gpt(seed), some_ids(seed)[:1, :7]
        states = [model.wte(ids) + model.wpe.weight[:7]]
        for block in model.h:
            states.append(block(states[-1]))
        normed = [model.head(model.ln_f(x))[0] for x in states]
        expected = [scores[-1].argmax().item() for scores in normed]
        yield case(
            model,
            ids,
            expected=expected,
            mistakes={
                "the embeddings alone make a guess too": expected[1:],
                "this is after the first token, not the last": [
                    scores[0].argmax().item() for scores in normed
                ],
                "the head reads the stream after the last norm": [
                    model.head(x)[0, -1].argmax().item() for x in states
                ],
            },
        )


@exercise("07.7")
def a_head_always_says_the_same():
    """07.7: a copy of a model in which one head gives its mean, whatever it reads."""

    def fixed(model, block, head, mean, silent=True):
        def change(model):
            proj, columns = model.h[block].attn.c_proj, slice(4 * head, 4 * head + 4)
            proj.bias += proj.weight[:, columns] @ mean
            proj.weight[:, columns] *= not silent

        return changed(model, change)

    for seed, block, head in ((5, 0, 0), (6, 2, 2), (7, 1, 1)):
        model, ids = little_gpt(seed), some_ids(seed)
        mean = torch.randn(4, generator=torch.Generator().manual_seed(seed))
        zeros, loud = fixed(model, block, head, 0 * mean), fixed(model, block, head, mean, False)
        mistakes = {
            UNCHANGED: in_place(model),
            "it says zero": same_logits(zeros, ids),
            "it says its mean and goes on with what it said": same_logits(loud, ids),
        }
        right = a_copy(same_logits(fixed(model, block, head, mean), ids), model)
        saying = "a copy whose parameters alone make this head always say its mean"
        given = model, block, head, mean.clone()
        yield case(*given, expected=right, saying=saying, mistakes=mistakes)


@exercise("07.8")
def a_table_is_written():
    """07.8: a sorted string table of one block, as short as TensorFlow writes it."""

    def given(pairs):
        """Return the case of some keys and values."""
        wanted, block = write_table(pairs), Block(16)
        for key, value in pairs:
            block.add(key, value)
        n = len(block)  # its zero byte and its crc come next

        def readable(result):
            return read_table(bytes(result)) == dict(pairs)

        def right(result):
            return result[:n] == wanted[:n] and readable(result) and len(result) <= len(wanted)

        def stored_crc(result):
            return int.from_bytes(result[n + 1 : n + 5], "little")

        mistakes = {
            "it does not end with the magic number": lambda r: r[-8:] != MAGIC,
            "the crc is not masked": lambda r: stored_crc(r) == crc32c(r[: n + 1]),
            "the zero byte belongs under the crc": lambda r: stored_crc(r) == mask(crc32c(r[:n])),
            "keys could share more": lambda r: readable(r) and len(r) > len(wanted),
            "each sixteenth key is to be in full, and listed as a restart": readable,
        }
        saying = f"a table of {len(wanted)} bytes from which read_table gets the pairs"
        return case(pairs, expected=right, saying=saying, mistakes=mistakes)

    yield given([(b"a", b"1")])
    yield given([(b"", b"header"), (b"h0/b", b"x"), (b"h0/w", b"y" * 200), (b"h1/b", b"")])
    yield given([(f"model/h{n:02d}/w".encode(), bytes([n])) for n in range(40)])
