"""Checks of the exercises of notebook 07."""

import copy

import numpy as np
import torch

from llmlib.exercises import case, exercise, same
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.crc import crc32c


@exercise("07.1")
def bfloat16_is_rounded_to_the_nearest():
    """07.1: the bits of bfloat16, rounded to the nearest, halves to even."""

    def given(values, expected):
        return case(np.array(values, np.float32), expected=np.array(expected, np.uint16))

    yield given([1.0, -2.0, 0.0], [0x3F80, 0xC000, 0])
    yield given([1 + 2**-7, 1 + 2**-8 + 2**-9], [0x3F81, 0x3F81])
    yield given([1 + 2**-9, -1 - 2**-9], [0x3F80, 0xBF80])
    yield given([1 + 2**-8, 1 + 3 * 2**-8], [0x3F80, 0x3F82])
    yield given([[3.14159], [1e38]], [[0x4049], [0x7E96]])


@exercise("07.2")
def two_crcs_become_that_of_the_whole():
    """07.2: the CRC of two pieces, from those of the pieces."""

    def given(first, second):
        return case(crc32c(first), crc32c(second), len(second), expected=crc32c(first + second))

    yield given(b"1234", b"56789")
    yield given(b"123456789", b"")
    yield given(b"", b"123456789")
    yield given(b"a" * 1000, bytes(12_345))
    yield given(bytes(range(256)), b"\xff" * 65_536)


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


@exercise("07.3")
def a_head_has_its_own_columns():
    """07.3: the weights and biases of the keys of one head."""
    w, b = np.arange(24.0).reshape(2, 12), np.arange(100.0, 112.0)
    yield case(w, b, 0, 2, expected=(w[:, 4:6], b[4:6]))
    yield case(w, b, 1, 2, expected=(w[:, 6:8], b[6:8]))
    yield case(w, b, 3, 4, expected=(w[:, 7:8], b[7:8]))


@exercise("07.4")
def every_block_has_its_guess():
    """07.4: the token that the model would predict after each block."""
    for seed in (0, 1, 2):
        model = little_gpt(seed)
        ids = torch.randint(23, (1, 7), generator=torch.Generator().manual_seed(seed))
        expected = []
        for depth in range(4):  # a model that really ends there
            shorter = copy.deepcopy(model)
            shorter.h = shorter.h[:depth]
            with torch.no_grad():
                expected.append(shorter(ids)[0, -1].argmax().item())
        yield case(model, ids, expected=expected)


@exercise("07.5")
def the_norms_are_folded_away():
    """07.5: a new GPT with the same logits whose norms have no scale and no shift."""
    for seed in (3, 4):
        model = little_gpt(seed)
        before = copy.deepcopy(model.state_dict())
        ids = torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            logits = model(ids)
        yield case(
            model,
            expected=lambda new, ids=ids, logits=logits: same(new(ids).detach(), logits, 1e-3),
            saying="a GPT with the same logits",
        )
        yield case(
            model,
            expected=lambda new: all(
                (norm.weight == 1).all() and (norm.bias == 0).all()
                for block in new.h
                for norm in (block.ln_1, block.ln_2)
            ),
            saying="a GPT whose ln_1 and ln_2 have scales of 1 and shifts of 0",
        )
        yield case(
            model,
            expected=lambda new, model=model, before=before: all(
                torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()
            ),
            saying="a new GPT, and leave the given one as it is",
        )
