"""Checks of the exercises of notebook 08."""

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from llmlib.exercises import case, exercise
from llmlib.minimal import GPT2

LOGITS = (1.0, 3.0, 2.0, -1.0)


@exercise("08.1")
def the_head_is_used_once():
    """08.1: the logits of the next token, without computing those of all others."""
    model, ids = small_model(), torch.tensor([[3, 1, 4, 1, 5, 9]])
    with torch.no_grad():
        rows = model(ids)[0]
    yield case(
        model,
        ids,
        expected=rows[-1],
        mistakes={
            "give one row (V,), without the dimension of the batch": rows[-1:],
            "these are the logits after the first token": rows[0],
            "these are the logits of all tokens": rows[None],
        },
    )
    one_row = multiplications(model, ids) - 2 * (ids.numel() - 1) * model.wte.weight.numel()
    yield case(
        model,
        ids,
        through=lambda answer: lambda *args: multiplications(answer, *args),
        expected=lambda number: number <= one_row,
        saying=f"its result with at most {one_row:,} operations",
        mistakes={
            "the matrix of the head is used for each token": lambda number: (
                number >= multiplications(model, ids)
            )
        },
    )


@exercise("08.2")
def places_follow_from_the_names():
    """08.2: where a tensor begins and ends in a file that is sorted by name."""
    shapes = {"wte": (5, 2), "h10/w": (2, 3), "h2/w": (4,), "h1/b": (3, 2), "ln_f/g": (2,)}
    weights = "each number takes four bytes"
    as_given = "the tensors stand in the order of their names"
    yield case(shapes, "h1/b", expected=(0, 24), mistakes={weights: (0, 6), as_given: (80, 104)})
    yield case(shapes, "h10/w", expected=(24, 48), mistakes={weights: (6, 12), as_given: (40, 64)})
    yield case(
        shapes,
        "h2/w",
        expected=(48, 64),
        mistakes={
            "names are sorted as texts: h10 comes before h2": (24, 40),
            "the second number is that of the byte behind the last one": (48, 63),
        },
    )
    yield case(shapes, "wte", expected=(72, 112))
    yield case({"b": (), "a": (0, 7), "c": (1,)}, "c", expected=(4, 8))


@exercise("08.3")
def a_model_is_written_as_it_is_read():
    """08.3: the two files that `load` reads."""
    model = small_model(n_layer=11)
    sizes = {"n_vocab": 12, "n_ctx": 16, "n_embd": 8, "n_head": 2, "n_layer": 11}
    weights = sorted(model.state_dict().items())

    def as_array(tensors):
        return np.concatenate([tensor.detach().reshape(-1).numpy() for tensor in tensors])

    def turned(name, weight):
        return weight.T if name.startswith("h.") and weight.ndim == 2 else weight

    expected = as_array(turned(name, weight) for name, weight in weights)
    mistakes = {
        "the matrices of the blocks are not transposed": as_array(w for _, w in weights),
        "the weights are not in the order of their names": as_array(
            turned(name, weight) for name, weight in model.state_dict().items()
        ),
        "the embeddings are transposed too": as_array(
            w.T if w.ndim == 2 else w for _, w in weights
        ),
        "the numbers are not four bytes long": lambda found: len(found[1]) != len(expected),
    }
    yield case(
        model,
        through=saved,
        expected=(sizes, expected),
        tolerance=0.0,
        saying=f"{sizes} and the weights in the order of the file",
        mistakes={text: bad if callable(bad) else (sizes, bad) for text, bad in mistakes.items()}
        | {"hparams.json differs": lambda found: found[0] != sizes},
    )
    before = copy.deepcopy(model.state_dict())
    yield case(
        model,
        through=saved,
        expected=lambda _: all(torch.equal(before[name], w) for name, w in weights),
        saying="its files, and leave the model as it is",
    )


@exercise("08.4")
def the_distribution_is_that_of_sample():
    """08.4: the probabilities by temperature and top-k; the logits stay as they are."""
    logits = torch.tensor(LOGITS)
    twice = "divide by the temperature, do not multiply"
    share = "the probabilities of what is left add up to 1"
    yield case(torch.tensor(LOGITS), 1.0, 4, expected=logits.softmax(0))
    yield case(
        torch.tensor(LOGITS),
        0.5,
        4,
        expected=(2 * logits).softmax(0),
        mistakes={twice: (0.5 * logits).softmax(0)},
    )
    two = torch.tensor([-torch.inf, 1.5, 1.0, -torch.inf]).softmax(0)
    yield case(
        torch.tensor(LOGITS),
        2.0,
        2,
        expected=two,
        mistakes={
            twice: torch.tensor([-torch.inf, 6.0, 4.0, -torch.inf]).softmax(0),
            share: lambda p: float(p.sum()) < 0.99,
            "these are the logits, not probabilities": lambda p: bool(torch.isinf(p).any()),
        },
    )
    yield case(torch.tensor(LOGITS), 0.0, 3, expected=torch.tensor([0.0, 1.0, 0.0, 0.0]))
    yield case(torch.tensor(LOGITS), 1.0, 50, expected=logits.softmax(0))
    for temperature, top_k in ((2.0, 2), (0.5, 4), (0.0, 4)):
        given = torch.tensor(LOGITS)
        yield case(
            given,
            temperature,
            top_k,
            expected=lambda _, given=given: torch.equal(given, logits),
            saying="its result, and leave the logits as they are",
        )


@exercise("08.5")
def long_texts_are_judged_in_windows():
    """08.5: the loss of a text longer than the context, each target counted once."""
    model = small_model()
    ids = torch.randint(12, (23,), generator=torch.Generator().manual_seed(1)).tolist()
    for n_ctx, stride in ((8, 8), (8, 3), (16, 5), (4, 1)):
        windows = window_losses(model, ids, n_ctx, stride)
        fresh = torch.cat([losses[new:] for losses, new in windows])
        yield case(
            model,
            ids,
            n_ctx,
            stride,
            expected=float(fresh.mean()),
            tolerance=1e-4,
            mistakes={
                "targets where windows overlap are counted more than once": float(
                    torch.cat([losses for losses, _ in windows]).mean()
                ),
                "windows with few new targets weigh as much as others": float(
                    torch.stack([losses[new:].mean() for losses, new in windows]).mean()
                ),
                "this is the sum, not the mean": float(fresh.sum()),
                "the windows do not overlap": float(
                    torch.cat([x for x, _ in window_losses(model, ids, n_ctx, n_ctx)]).mean()
                ),
            },
        )
    ((losses, _),) = window_losses(model, ids[:6], 16, 4)
    yield case(model, ids[:6], 16, 4, expected=float(losses.mean()), tolerance=1e-4)


@exercise("08.6")
def each_token_is_computed_once():
    """08.6: greedy text with keys and values that are kept."""
    model, ids, n = small_model(), [3, 1, 4], 10
    expected = greedy(model, ids, n)
    at_start = copy.deepcopy(model)
    with torch.no_grad():
        at_start.wpe.weight.copy_(model.wpe.weight[:1].expand(16, -1))
    yield case(
        model,
        ids,
        n,
        expected=expected,
        mistakes={
            "give the new tokens alone": ids + expected,
            "each new token is at position 0": greedy(at_start, ids, n),
            "the first new token is missing": lambda found: list(found[:3]) == expected[1:4],
        },
    )
    yield case(model, [7], 3, expected=greedy(model, [7], 3))
    once = multiplications(model, torch.tensor([ids + expected]))
    yield case(
        model,
        ids,
        n,
        through=lambda answer: lambda *args: multiplications(answer, *args),
        expected=lambda number: number <= 1.2 * once,
        saying=f"its result with at most {int(1.2 * once):,} operations",
        mistakes={"tokens are computed more than once": lambda number: number > 1.2 * once},
    )


def small_model(n_layer: int = 2) -> GPT2:
    """Return a GPT2 with random weights that are the same in every run."""
    model = GPT2(n_vocab=12, n_ctx=16, n_embd=8, n_head=2, n_layer=n_layer)
    generator = torch.Generator().manual_seed(28)
    for _, weight in sorted(model.named_parameters()):
        nn.init.normal_(weight, std=0.7, generator=generator)
    vars(model)["__name__"] = "model"  # what a message calls it
    return model.eval()


def multiplications(call, *args) -> int:
    """Return how many operations of matrix products a call takes, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*args)
    return counter.get_total_flops()


def saved(answer):
    """Return a function that saves a model by the answer, and gives what the files hold."""

    def save(model):
        with tempfile.TemporaryDirectory() as folder:
            answer(model, Path(folder))
            sizes = json.loads((Path(folder) / "hparams.json").read_text())
            data = (Path(folder) / "model.ckpt.data-00000-of-00001").read_bytes()
        return sizes, np.frombuffer(data, "<f4").copy()

    return save


def window_losses(
    model: nn.Module, ids: list[int], n_ctx: int, stride: int
) -> list[tuple[torch.Tensor, int]]:
    """Return for each window the losses of its targets, and how many of them are not new."""
    windows, counted = [], 0
    for start in range(0, len(ids) - 1, stride):
        inputs = torch.tensor([ids[start : start + n_ctx]])
        targets = torch.tensor(ids[start + 1 : start + n_ctx + 1])
        with torch.no_grad():
            logits = model(inputs)[0, : len(targets)]
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        windows.append((losses, counted - start))
        counted = start + len(targets)
        if counted == len(ids) - 1:
            break
    return windows


def greedy(model: nn.Module, ids: list[int], n: int) -> list[int]:
    """Return the n most probable tokens after some, one after the other."""
    text = list(ids)
    for _ in range(n):
        with torch.no_grad():
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return text[len(ids) :]
