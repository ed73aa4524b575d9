"""Checks of notebook 10; 10.2 is in `inference_pages`, 10.6 in `inference_trees`."""

import torch

from llmlib.exercises import case, exercise, inference_pages, inference_trees, noise
from llmlib.exercises.inference_answers import (
    all_texts,
    beam_of,
    chain,
    cut_off,
    next_id,
    random_world,
    repaired,
    rounded,
    served_at_once,
)

__all__ = ["inference_pages", "inference_trees"]  # whose import registers their checks


def named(function, answer):
    """A function under the name of the learner's, for messages."""
    function.__name__ = answer.__name__
    return function


@exercise("10.1")
def beginnings_are_shared():
    """10.1: the tokens that are read where prompts take over what earlier ones have read."""
    last = "the last token of a prompt is read in any case, for its logits"
    all_earlier = "a prompt may take over from any earlier one, not only from the one before"
    yield case([[1, 2, 3]], expected=3)
    yield case([[1, 2, 3], [1, 2, 4, 5]], expected=5, mistakes={"nothing is taken over there": 7})
    yield case([[1, 2, 3], [1, 2, 3]], expected=4, mistakes={last: 3})
    yield case([[1, 2, 3], [7, 8], [1, 2, 5]], expected=6, mistakes={all_earlier: 8})
    only_beginnings = "keys depend on what stands before them, so only beginnings can be taken over"
    yield case([[1, 2, 3], [9, 2, 3]], expected=6, mistakes={only_beginnings: 4})
    yield case([[1, 2, 3, 4], [1, 2]], expected=5, mistakes={last: 4})
    longest = "the longest shared beginning counts, not the first that is found"
    yield case([[1, 9], [1, 2, 3], [1, 2, 3, 4]], expected=5, mistakes={longest: 7})
    yield case([], expected=0)


@exercise("10.3")
def each_group_has_a_scale():
    """10.3: weights rounded to int8 with a scale for each group of columns."""
    numbers = noise(3, 8) * torch.tensor([1, 1, 1, 1, 50, 50, 50, 50])
    for weight, group in (
        (torch.tensor([[1.0, 0.5, 100.0, 50.0]]), 2),  # 0.5 is 63.5 steps, which round to 64
        (numbers, 4),
        (numbers, 2),
        (numbers, 8),
    ):
        n_rows, n_columns = weight.shape
        flat = rounded(weight.view(1, -1), weight.numel()).view(n_rows, n_columns)
        mistakes = {
            "that is one scale for each row": rounded(weight, n_columns),
            "that is one scale for the whole weight": flat,
            "that is cut off, not rounded": cut_off(weight, group),
            "the steps go from −127 to 127, not from −128 to 128": rounded(weight, group, 128),
        }
        if group == n_columns:
            del mistakes["that is one scale for each row"]
        yield case(
            weight.clone(),
            group,
            expected=rounded(weight, group),
            mistakes=mistakes,
        )
    zeros = torch.tensor([[0.0, 0.0, 1.0, -1.0]])
    undefined = {"a group of zeros gives 0 / 0": lambda result: bool(result.isnan().any())}
    yield case(zeros.clone(), 2, expected=zeros, mistakes=undefined)


def served(answer):
    """Serve prompts with a model of the check; return the texts and the number of steps."""

    def run(prompts, slots, stop, most):
        """Serve the prompts; return the texts and how often `step` was asked."""
        n_steps = 0

        def step(texts):
            """Return the next id of each text, and refuse more texts than slots."""
            nonlocal n_steps
            n_steps += 1
            if not 0 < len(texts) <= slots:
                raise ValueError(f"step was given {len(texts)} texts: 1 to {slots} are allowed")
            return [next_id(text, stop) for text in texts]

        texts = answer(step, [list(prompt) for prompt in prompts], slots, stop, most)
        return [list(text) for text in texts], n_steps

    return named(run, answer)


@exercise("10.4")
def places_are_filled_at_once():
    """10.4: continuous batching: a free place is given to the next prompt."""
    for prompts, slots, most in (
        ([[3]], 1, 9),
        ([[4], [2], [2]], 2, 9),
        ([[1], [5], [1], [1], [3]], 2, 9),
        ([[7, 9], [8, 3]], 4, 4),
        ([[6], [2], [9], [2], [2], [4]], 3, 5),
    ):
        texts, n_steps, waiting = served_at_once(prompts, slots, 0, most)
        mistakes = {
            "a free place waits until the whole batch is done": (texts, waiting),
            "texts in the order in which they end": lambda result, texts=texts: (
                result[0] != texts and sorted(result[0]) == sorted(texts)
            ),
            "the prompts are missing": lambda result, texts=texts, prompts=prompts: (
                result[0] == [text[len(p) :] for text, p in zip(texts, prompts)]
            ),
            "too many steps: are finished texts still in the batch, or places empty?": (
                lambda result, texts=texts, n_steps=n_steps: (
                    result[0] == texts and result[1] > n_steps
                )
            ),
            "the stop id belongs to the text": lambda result, texts=texts: (
                result[0] == [text[:-1] if text[-1] == 0 else text for text in texts]
            ),
        }
        if waiting == n_steps:
            del mistakes["a free place waits until the whole batch is done"]
        yield case(
            prompts,
            slots,
            0,
            most,
            expected=(texts, n_steps),
            saying=f"{texts} in {n_steps} steps",
            through=served,
            mistakes=mistakes,
        )


@exercise("10.5")
def characters_arrive_whole():
    """10.5: the text of bytes that come in pieces."""
    fox = "🦊".encode()
    for pieces in (
        [b"ab", b"c"],
        ["é".encode()[:1], "é".encode()[1:]],
        [b"x" + fox[:1], fox[1:3], fox[3:] + b"y"],
        [bytes([byte]) for byte in "a€ß🦊".encode()],
        [b"a\x80", b"b"],
        ["€".encode()[:2], b"x"],
        [fox[:3]],
        [fox + fox[:2], b""],
        [],
    ):
        expected = repaired(list(pieces))
        broken = [piece.decode(errors="replace") for piece in pieces]
        yield case(
            list(pieces),
            expected=expected,
            mistakes={
                "the last item is what is left at the end": lambda result, e=expected: (
                    list(result) == e[:-1]
                ),
                "a character that was cut is shown in broken pieces": lambda result, b=broken: (
                    "\N{REPLACEMENT CHARACTER}" in "".join(b) and list(result)[: len(b)] == b
                ),
                "text is lost": lambda result, e=expected: len("".join(result)) < len("".join(e)),
                "text comes later than it could": lambda result, e=expected: (
                    "".join(result) == "".join(e)
                ),
            },
        )


def counted(limit):
    """Search with a model that may be asked `limit` times."""

    def through(answer):
        def run(table, n):
            n_asked = 0

            def next_probs(ids):
                """Return the probabilities after some ids, and refuse to be asked too often."""
                nonlocal n_asked
                n_asked += 1
                if n_asked > limit:
                    raise RuntimeError(f"next_probs was asked more than {limit} times")
                return chain(table, ids)

            return tuple(map(int, answer(next_probs, n)))

        return named(run, answer)

    return through


@exercise("10.7")
def nothing_is_likelier():
    """10.7: the likeliest text of a length, without trying all."""
    trap: dict[tuple, list[float]] = {(): [0.6, 0.4], (0,): [0.5, 0.5], (1,): [0.0, 1.0]}
    trap |= {(i, j): [0.5, 0.5] if i == j == 0 else [0.1, 0.9] for i in (0, 1) for j in (0, 1)}
    for world, n in [(trap, 2), (trap, 1), *((random_world(seed), 7) for seed in (6, 37, 0, 1))]:
        best = all_texts(world, n)
        mistakes = {
            f"that is what {'greedy' if width == 1 else f'a beam of {width}'} finds": beam
            for width in (1, 2, 3)
            if (beam := beam_of(world, n, width)) != best
        }
        yield case(
            world, n, expected=best, through=counted(600), saying=str(best), mistakes=mistakes
        )
    likely = {context: [0.02, 0.97, 0.01] for context in random_world(0)}
    yield case(likely, 12, expected=(1,) * 12, through=counted(600))
