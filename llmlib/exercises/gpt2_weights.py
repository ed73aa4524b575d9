"""Checks of the exercises of notebook 07."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmlib.exercises import case, exercise, same
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
def one_flipped_bit_is_found():
    """07.2: bytes in which one bit has flipped, repaired by their crc."""

    def flipped(data, *bits):
        damaged = bytearray(data)
        for bit in bits:
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def given(data, crc, wanted, mistakes):
        def right(result):
            return isinstance(result, bytes | bytearray) and bytes(result) == wanted

        expected = (lambda result: result is None) if wanted is None else right
        return case(data, crc, expected=expected, saying=repr(wanted), mistakes=mistakes)

    text = b"the heads of a block"
    as_it_came = {"that is the data as it came, with the wrong bit": lambda r: bytes(r) == flips}
    for bit in (0, 7, 8, 77, 8 * len(text) - 1):
        flips = flipped(text, bit)
        unhealed = {"one flip explains the crc": lambda result: result is None}
        yield given(flips, crc32c(text), text, as_it_came | unhealed)
    sound = {"sound data comes back as it is": lambda result: result is None}
    yield given(text, crc32c(text), text, sound)
    yield given(b"", crc32c(b""), b"", sound)
    several = {"no single flip explains the crc": lambda result: result is not None}
    yield given(flipped(text, 3, 50), crc32c(text), None, several)
    yield given(b"", crc32c(b"1"), None, several)


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


def folded(model: GPT, fold: Callable[[Any, Any], None]) -> GPT:
    """Return a copy in which the norms do nothing, after `fold` of each and the layer after it."""

    def change(model):
        for block in model.h:
            for norm, linear in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                fold(norm, linear)
                norm.weight.fill_(1)
                norm.bias.zero_()

    return changed(model, change)


@exercise("07.5")
def the_norms_are_folded_away():
    """07.5: a new GPT with the same logits whose norms have no scale and no shift."""

    def scale(norm, linear):
        linear.weight *= norm.weight

    def scale_first(norm, linear):
        scale(norm, linear)
        linear.bias += linear.weight @ norm.bias

    def do_nothing(new):
        norms = [norm for block in new.h for norm in (block.ln_1, block.ln_2)]
        return all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)

    no_shifts = "the shifts are lost: they belong into the bias"
    late = "the shift goes through W as it was before"
    for seed in (3, 4):
        model, ids = little_gpt(seed), some_ids(seed)
        mistakes = {
            UNCHANGED: in_place(model),
            no_shifts: same_logits(folded(model, scale), ids),
            late: same_logits(folded(model, scale_first), ids),
        }
        right = a_copy(same_logits(model, ids), model)
        yield case(model, expected=right, saying="a copy with the same logits", mistakes=mistakes)
        saying = "a GPT whose ln_1 and ln_2 have scales of 1 and shifts of 0"
        yield case(model, expected=do_nothing, saying=saying)


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
