"""Check of exercise 06.7, of a reader of batches; `pretraining` has the others of notebook 06."""

import functools
import itertools
import sys
import tracemalloc
from collections.abc import Callable

from llmlib.exercises import Case, case, exercise
from llmlib.exercises.training_rates import AliveTensors


def joined(batches: list[list[int]]) -> list[int]:
    """Return the numbers of all batches, one behind the other."""
    return list(itertools.chain.from_iterable(batches))


def lists_of(answer: Callable, n_steps: int, *run: int) -> list[list[int]]:
    """Return the first steps of a reader, as lists of numbers."""
    return [[int(x) for x in batch] for batch in itertools.islice(answer(*run), n_steps)]


def line_of(n_steps: int) -> Callable:
    """Return what turns a reader into a function that returns its first steps."""

    def through(answer: Callable) -> Callable:
        @functools.wraps(answer)
        def first_steps(*run: int) -> list[list[int]]:
            return lists_of(answer, n_steps, *run)

        return first_steps

    return through


def all_machines(n_steps: int) -> Callable:
    """Return what turns a reader into a function: what each of so many machines reads."""

    def through(answer: Callable) -> Callable:
        @functools.wraps(answer)
        def every_rank(n: int, batch_size: int, seed: int, world: int, start: int) -> list:
            """Return the batches as one machine reads them, and those of each of `world`."""
            alone = lists_of(answer, start + n_steps, n, batch_size, seed, 0, 1, 0)[start:]
            ranks = range(world)
            return [
                alone,
                *(lists_of(answer, n_steps, n, batch_size, seed, r, world, start) for r in ranks),
            ]

        return every_rank

    return through


def is_shared(machines: list) -> bool:
    """Tell whether what the machines read in a step has as many places as the batch of one."""
    alone, *ranks = machines
    return all(sum(len(r[k]) for r in ranks) == len(batch) for k, batch in enumerate(alone))


def is_even(machines: list) -> bool:
    """Tell whether the parts of a step differ by at most one place."""
    sizes = [[len(part) for part in parts] for parts in zip(*machines[1:])]
    return all(max(step) - min(step) <= 1 for step in sizes)


def is_the_same_batch(machines: list) -> bool:
    """Tell whether all machines read together what one alone reads."""
    alone, *ranks = machines
    return all(
        sorted(joined(parts)) == sorted(batch) for batch, *parts in zip(alone, *ranks, strict=True)
    )


def epochs_are_whole(n: int, batch_size: int) -> Callable[[list], bool]:
    """Return a test of batches: all full, and each epoch in them has every number once."""

    def whole(batches: list[list[int]]) -> bool:
        """Tell whether batches are full and their epochs whole."""
        line = joined(batches)
        epochs = [line[i : i + n] for i in range(0, len(line) - n + 1, n)]
        full = all(len(batch) == batch_size for batch in batches)
        return full and all(sorted(epoch) == list(range(n)) for epoch in epochs)

    return whole


def some_orders(answer: Callable) -> Callable:
    """Return a function of n: the orders of four epochs under three seeds, by (seed, epoch)."""

    @functools.wraps(answer)
    def orders(n: int, batch_size: int) -> dict[tuple[int, int], list[int]]:
        found = {}
        for seed in (0, 1, 2):
            n_steps = 4 * n // batch_size
            line = joined(lists_of(answer, n_steps, n, batch_size, seed, 0, 1, 0))
            found |= {(seed, epoch): line[epoch * n : epoch * n + n] for epoch in range(4)}
        return found

    return orders


def common(a: list[int], b: list[int]) -> int:
    """Return how many places or neighbours two orders share; by chance it is about two."""
    pairs = set(zip(a, a[1:])) & set(zip(b, b[1:]))
    return max(sum(x == y for x, y in zip(a, b)), len(pairs))


def patterned(order: list[int]) -> bool:
    """Tell whether neighbours show a pattern; by chance, 63 % of n differences are different."""
    n = len(order)
    return len({(b - a) % n for a, b in zip(order, order[1:])}) < n / 2


def alike(orders: dict, related: Callable) -> bool:
    """Tell whether two orders have too much in common, of those whose keys are related."""
    keys = itertools.combinations(orders, 2)
    return any(related(*a, *b) and common(orders[a], orders[b]) > 20 for a, b in keys)


def with_few_steps(n_steps: int) -> Callable:
    """Return what turns a reader into its first steps, refused where it stores or replays much."""

    def through(answer: Callable) -> Callable:
        @functools.wraps(answer)
        def counted(*run: int) -> list[list[int]]:
            """Return the first steps of the reader that the answer makes for this run."""
            lines, alive, before = itertools.count(1), AliveTensors(), sys.gettrace()

            def trace(frame, event, arg):
                if frame.f_globals.get("__name__") != getattr(answer, "__module__", None):
                    return None  # a library, whose first import alone has many lines
                if next(lines) > 400_000:
                    raise RuntimeError("400,000 lines were run: nothing before `start` is replayed")
                return trace

            with AliveTensors():  # what the answer imports at its first call is not counted
                lists_of(answer, n_steps, 7, *run[1:-1], 0)
            tracemalloc.start()
            sys.settrace(trace)
            try:
                with alive:
                    result = lists_of(answer, n_steps, *run)
            finally:
                sys.settrace(before)
                most = alive.most + tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            if most > 1_000_000:
                raise RuntimeError(f"{most / 1e6:.1f} MB were kept: an order is not stored")
            return result

        return counted

    return through


def whole_case(n: int, batch_size: int) -> Case:
    """Return the case of one machine from the start: full batches, and whole epochs."""
    return case(
        n, batch_size, 0, 0, 1, 0,
        through=line_of(4 * n),
        expected=epochs_are_whole(n, batch_size),
        saying=f"batches of {batch_size}, and among each {n} numbers in turn every one once",
        mistakes={
            "a batch goes on across the end of an epoch": lambda batches: any(
                len(batch) != batch_size for batch in batches
            ),
            "no number of an epoch is left out or comes twice": lambda batches: True,
        },
    )  # fmt: skip


def shared_case(*run: int) -> Case:
    """Return the case of several machines, which read together what one alone reads."""
    tests = {
        "all machines together read one batch, all of it": is_shared,
        "the parts of two machines differ by at most one place": is_even,
        "the batch of a step is the same with any world and start": is_the_same_batch,
    }

    def fails(test: Callable) -> Callable:
        return lambda machines: not test(machines)

    return case(
        *run,
        through=all_machines(6),
        expected=lambda machines: all(test(machines) for test in tests.values()),
        saying="the batches that one machine reads from there, shared as evenly as can be",
        mistakes={words: fails(test) for words, test in tests.items()},
    )


def shuffled_case(n: int, batch_size: int) -> Case:
    """Return the case of orders that are compared with chance."""

    def a_pattern(orders: dict) -> bool:
        return any(map(patterned, orders.values()))

    def one_seed(orders: dict) -> bool:
        return alike(orders, lambda seed, epoch, other, later: seed == other)

    def two_seeds(orders: dict) -> bool:
        return alike(orders, lambda seed, epoch, other, later: seed != other)

    return case(
        n,
        batch_size,
        through=some_orders,
        expected=lambda o: not (a_pattern(o) or one_seed(o) or two_seeds(o)),
        saying="orders of several seeds and epochs that have no more in common than chance gives",
        mistakes={
            "neighbours show a pattern": a_pattern,
            "the epochs of a seed resemble one another": one_seed,
            "an epoch of one seed is an epoch of another": two_seeds,
        },
    )


def large_case(n: int, start: int) -> Case:
    """Return the case of many examples, of which little is stored and no step replayed."""

    def fits(batches: list[list[int]]) -> bool:
        numbers = joined(batches)
        return len(numbers) == 12 and 0 <= min(numbers) <= max(numbers) < n

    saying = f"three batches of numbers below {n}"
    return case(
        n, 4, 0, 0, 1, start, through=with_few_steps(3), expected=fits, saying=saying
    )  # fmt: skip


@exercise("06.7")
def readers_go_on_with_other_machines():
    """06.7: batches that any number of machines share, from any step on, of orders not stored."""
    for n, batch_size in ((7, 3), (5, 8), (1, 2), (64, 4), (2, 1)):
        yield whole_case(n, batch_size)
    for run in ((7, 6, 0, 2, 0), (7, 6, 0, 4, 0), (20, 8, 3, 3, 5), (5, 3, 1, 5, 9)):
        yield shared_case(*run)
    yield shuffled_case(1000, 50)
    yield large_case(300_000, 10_000_000)  # a list of so many is noticed, and does no harm
    yield large_case(10**12 + 1, 10**12 // 4 - 1)
