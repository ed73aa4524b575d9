"""Checks of the exercises of notebook 08."""

import copy

import numpy as np
import torch
from torch import nn

from llmlib.exercises import case, exercise
from llmlib.exercises.minimal_answers import (
    at_once,
    block_alone,
    greedy,
    measured,
    multiplications,
    passes,
    peak,
    saved,
    small_model,
    trained,
    window_losses,
)

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
        through=measured(multiplications),
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
def several_texts_grow_together():
    """08.6: greedy texts of several prompts, with keys and values that are kept."""
    model = small_model()
    at_start, no_norm = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        at_start.wpe.weight.copy_(model.wpe.weight[:1].expand(16, -1))
    no_norm.add_module("ln_f", nn.Identity())

    def texts(model, prompts, n):
        return [greedy(model, prompt, n) for prompt in prompts]

    lists = ([[3, 1, 4], [1], [5, 9, 2, 6, 5]], 8), ([[7]], 3), ([[2, 7], [1, 8]], 5), ([[4, 4]], 1)
    for prompts, n in lists:
        expected = texts(model, prompts, n)
        mistakes = {
            "give the new tokens alone": [p + new for p, new in zip(prompts, expected)],
            "each new token is at position 0": texts(at_start, prompts, n),
            "the final norm is missing": texts(no_norm, prompts, n),
            "the first new token is missing": lambda found, expected=expected: (
                [list(row[: len(new) - 1]) for row, new in zip(found, expected)]
                == [new[1:] for new in expected]
            ),
        }
        yield case(model, [list(p) for p in prompts], n, expected=expected, mistakes=mistakes)
        steps = max(map(len, prompts)) + n - 1
        n_tokens = sum(map(len, prompts)) + len(prompts) * (n - 1)
        yield case(
            model,
            [list(p) for p in prompts],
            n,
            through=measured(passes),
            expected=lambda found, most=(steps, n_tokens): found <= most and found[1] == most[1],
            saying=f"its result in at most {steps} calls of each layer, on {n_tokens} tokens",
            mistakes={
                "the layers are called for each text by itself": lambda r, n=steps: r[0] > n,
                "padding, or a token for the second time, went in": lambda r, n=n_tokens: r[1] > n,
                "tokens went past the layer, which can't be called": lambda r, n=n_tokens: r[1] < n,
            },
        )


@exercise("08.7")
def one_block_is_held_at_a_time():
    """08.7: the gradients of all weights, without what more than a block has saved."""
    for seed, size in ((1, (2, 17)), (2, (1, 6))):
        model = small_model(n_layer=6)
        ids = torch.randint(12, size, generator=torch.Generator().manual_seed(seed))
        loss, wanted = trained(at_once, model, ids)
        yield case(
            model,
            ids,
            through=measured(lambda *args: trained(*args)[0]),
            expected=loss,
            mistakes={"this is the sum, not the mean": loss * ids[:, 1:].numel()},
        )
        for start in (None, 1.0):
            yield case(
                model,
                ids,
                through=measured(lambda *args, s=start: trained(*args, s)[1]),
                expected={name: grad + (start or 0) for name, grad in wanted.items()},
                tolerance=1e-4,
                saying="the gradients of loss.backward(), added to those that are there",
                mistakes={
                    f"that of {name} is wrong": lambda found, name=name, want=grad, s=start: (
                        not torch.allclose(found[name], want + (s or 0), rtol=1e-3, atol=1e-4)
                    )
                    for name, grad in wanted.items()
                },
            )
        most = 1.5 * peak(block_alone, model, ids)
        yield case(
            model,
            ids,
            through=measured(peak),
            expected=lambda found, most=most: found <= most,
            saying=f"its result while autograd holds at most {most:,.0f} numbers",
            mistakes={"several blocks are held": lambda found, most=most: found > most},
        )
