"""Checks of the exercises of notebook 13."""

import torch

from llmlib.exercises import case, exercise, noise
from llmlib.exercises.experts_answers import (
    Counted,
    Cut,
    Upcycled,
    balance_of_texts,
    copied,
    without_autograd,
)
from llmlib.model.layers import SwiGLU
from llmlib.model.modern import ModernConfig
from llmlib.model.moe import top_experts


def dense_layer(hidden: int, seed: int) -> SwiGLU:
    """Return a gated layer for vectors of 8 with random weights."""
    layer = SwiGLU(ModernConfig(7, 8, 8, 1, 1, head_dim=8, hidden_dim=hidden))
    with torch.no_grad():
        layer.c_fc.weight.copy_(noise(2 * hidden, 8, seed=seed))
        layer.c_proj.weight.copy_(noise(8, hidden, seed=seed + 1))
    return layer


@exercise("13.1")
def a_layer_is_cut():
    """13.1: a dense layer as a list of experts whose outputs add up to its own."""
    for hidden, n, seed in ((8, 2, 0), (12, 4, 2), (11, 4, 4), (5, 5, 6), (6, 1, 8)):
        yield Cut(dense_layer(hidden, seed), n, noise(9, 8, seed=seed + 2)).case()


def router_case(n: int, n_experts: int, k: int, normalize: bool, seed: int):
    """Return the case of random logits; autograd gives what is right."""
    logits, upstream = noise(n, n_experts, seed=seed).double(), noise(n, k, seed=seed + 1).double()
    with torch.enable_grad():
        leaf = logits.clone().requires_grad_()
        p, chosen = leaf.softmax(dim=-1).topk(k)
        weights = p / p.sum(dim=-1, keepdim=True) if normalize else p
        (expected,) = torch.autograd.grad(weights, leaf, upstream)
    everywhere = torch.zeros_like(logits).scatter(1, chosen, upstream)
    probs = logits.softmax(dim=-1)
    raw = probs * (everywhere - (everywhere * probs).sum(dim=-1, keepdim=True))
    own = probs.gather(1, chosen)
    own = own / own.sum(dim=-1, keepdim=True)
    inside = own * (upstream - (upstream * own).sum(dim=-1, keepdim=True))
    normed = torch.zeros_like(logits).scatter(1, chosen, inside)
    mistakes = {
        "that is for weights that are not normalized": raw,
        "that is for normalized weights": normed,
        "experts that were not chosen get a gradient too: they share the softmax": raw
        * (everywhere != 0),
        "each probability depends on all logits: the sum is missing": probs * everywhere,
        "the columns are those of the ranks, not of the experts": torch.zeros_like(logits).scatter(
            1, torch.arange(k).expand(n, k), inside if normalize else own * upstream
        ),
    }
    return case(
        logits,
        k,
        normalize,
        upstream,
        expected=expected,
        tolerance=1e-6,
        through=without_autograd,
        mistakes={
            words: value
            for words, value in mistakes.items()
            if not torch.allclose(value, expected, atol=1e-6)
        },
    )


@exercise("13.2")
def a_router_learns():
    """13.2: the gradient of the weights with respect to the logits."""
    for k, normalize in ((2, False), (2, True), (1, True), (1, False), (3, True), (5, False)):
        yield router_case(4, 5, k, normalize, seed=10 * k)


@exercise("13.3")
def each_text_is_balanced():
    """13.3: the balance loss of each text by itself."""
    for lengths, k, seed in (([6, 6], 1, 0), ([2, 7, 5], 2, 1), ([3, 0, 6], 2, 2), ([0, 0], 1, 3)):
        T, E = 7, 4
        routing = top_experts(noise(len(lengths) * T, E, seed=seed), k)
        probs = routing.probs.view(-1, T, E)
        chosen = routing.chosen.view(-1, T, k)
        real = torch.arange(T) < torch.tensor(lengths)[:, None]
        expected = balance_of_texts(probs, chosen, real)
        others = {
            "that is the loss of the batch as a whole": balance_of_texts(
                probs.reshape(1, -1, E), chosen.reshape(1, -1, k), real.reshape(1, -1)
            ),
            "padding is counted": balance_of_texts(probs, chosen, torch.ones_like(real)),
            "f sums to k: divide by it": k * expected,
            "long texts weigh more: take the mean over texts": balance_of_texts(
                probs, chosen, real, by_tokens=True
            ),
            "texts without real tokens are counted in the mean": expected
            * (sum(n > 0 for n in lengths) / len(lengths)),
            "with no real token at all, the loss is 0": torch.tensor(float("nan")),
        }
        yield case(
            probs,
            chosen,
            real,
            expected=expected,
            through=copied,
            mistakes={w: v for w, v in others.items() if not torch.allclose(v, expected)},
        )


@exercise("13.4")
def logits_are_kept_small():
    """13.4: the z-loss of a router."""
    for scale, real in (
        (1.0, None),
        (1.0, torch.tensor([True, False, True, True])),
        (300.0, None),
        (-300.0, None),
        (1.0, torch.zeros(4, dtype=torch.bool)),
    ):
        logits = scale * (noise(4, 6).abs() + 1)
        counted = logits if real is None else logits[real]
        z = torch.logsumexp(counted, dim=-1)
        expected = z.square().mean() if len(z) else torch.tensor(0.0)
        others = {
            "padding is counted": torch.logsumexp(logits, dim=-1).square().mean(),
            "the square is missing": z.mean() if len(z) else expected,
            "square first, then take the mean": z.mean().square() if len(z) else expected,
            "exp overflows, or all of it is 0: use logsumexp": torch.tensor(float("inf")),
            "exp of such logits is 0, and its logarithm infinite: use logsumexp": torch.tensor(
                float("nan")
            ),
            "that is the sum, not the mean": z.square().sum(),
        }
        yield case(
            logits,
            real,
            expected=expected,
            through=copied,
            mistakes={w: v for w, v in others.items() if not torch.allclose(v, expected)},
        )


@exercise("13.5")
def experts_choose():
    """13.5: each expert takes the tokens that want it most."""
    for n_tokens, n, padded, seed in ((6, 2, 0, 0), (8, 3, 3, 1), (5, 4, 3, 2), (4, 9, 0, 3)):
        probs = noise(n_tokens, 3, seed=seed).softmax(dim=-1)
        real = torch.arange(n_tokens) >= padded
        scores = probs.masked_fill(~real[:, None], -1)
        takes = min(n, int(real.sum()))
        chosen = scores.topk(takes, dim=0).indices
        expected = torch.zeros_like(probs).scatter(0, chosen, probs.gather(0, chosen))
        by_token = probs.topk(min(n, 3), dim=1).indices
        careless = probs.topk(min(n, n_tokens), dim=0).indices
        others = {
            "the tokens have chosen: take the best along the other dimension": torch.zeros_like(
                probs
            ).scatter(1, by_token, probs.gather(1, by_token)),
            "padding has been taken": torch.zeros_like(probs).scatter(
                0, careless, probs.gather(0, careless)
            ),
            "give the probabilities, not ones": (expected > 0).float(),
            "the matrix is transposed": expected.T,
        }
        yield case(
            probs,
            n,
            real,
            expected=expected,
            through=copied,
            mistakes={
                w: v
                for w, v in others.items()
                if v.shape != expected.shape or not torch.allclose(v, expected)
            },
        )


@exercise("13.6")
def a_dense_model_becomes_sparse():
    """13.6: a mixture of experts with the logits of a dense model."""
    for n_experts, top_k, normalize, seed in (
        (4, 2, True, 0),
        (8, 1, True, 1),
        (4, 2, False, 2),
        (3, 3, False, 3),
    ):
        yield Upcycled(n_experts, top_k, normalize, seed).case()


@exercise("13.7")
def one_product_for_all():
    """13.7: all experts in batched products."""
    for N, E, k, H, seed in ((6, 3, 2, 4, 0), (20, 8, 2, 5, 1), (7, 5, 1, 3, 2), (40, 16, 4, 4, 3)):
        routing = top_experts(noise(N, E, seed=seed), k)
        chosen = routing.chosen.clone()
        if seed:
            chosen[seed] = E  # nobody
        fc, proj = noise(E, 2 * H, 6, seed=seed + 5), noise(E, 6, H, seed=seed + 6)
        yield Counted(noise(N, 6, seed=seed + 7), chosen, routing.weights, fc, proj).case()


def highest_load(load: list[int], machines: list[int]) -> int:
    """Return the load of the busiest machine."""
    return max(sum(n for n, m in zip(load, machines) if m == each) for each in set(machines))


def best_load(load: list[int], n_machines: int) -> int:
    """Return the lowest possible load of the busiest machine, with equally many experts each."""
    places, order = len(load) // n_machines, sorted(load, reverse=True)
    best = sum(load)

    def search(rest: list[int], loads: tuple, free: tuple) -> None:
        """Place the experts that are left, largest first; give up where it cannot get better."""
        nonlocal best
        if not rest:
            best = max(loads)
            return
        tried = set()
        for machine, (now, room) in enumerate(zip(loads, free)):
            if room and now + rest[0] < best and (now, room) not in tried:
                tried.add((now, room))
                after = *loads[:machine], now + rest[0], *loads[machine + 1 :]
                left = *free[:machine], room - 1, *free[machine + 1 :]
                search(rest[1:], after, left)

    search(order, (0,) * n_machines, (places,) * n_machines)
    return best


@exercise("13.8")
def experts_are_placed():
    """13.8: experts on machines, such that the busiest machine has the least to do."""
    draw = torch.Generator().manual_seed(0)
    loads = [[5, 1, 1, 1], [7, 6, 5, 4, 3, 2], [8, 7, 6, 5, 4, 4]]
    loads += [torch.randint(1, 400, (12,), generator=draw).tolist() for _ in range(3)]
    for load, machines in zip(loads, (2, 3, 2, 4, 3, 2)):
        best, places = best_load(load, machines), len(load) // machines

        def fits(answer, load=load, machines=machines, places=places):
            counts = [list(answer).count(machine) for machine in range(machines)]
            return len(answer) == len(load) and counts == [places] * machines

        def unfit(answer, fits=fits):
            return not fits(answer)

        def right(answer, load=load, best=best, fits=fits):
            return fits(answer) and highest_load(load, answer) == best

        yield case(
            load,
            machines,
            expected=right,
            saying=f"{places} experts for each of {machines} machines, the busiest with {best}",
            through=copied,
            mistakes={
                f"each machine from 0 to {machines - 1} has to get {places} experts": unfit,
                "a lower highest load is possible": fits,
            },
        )
