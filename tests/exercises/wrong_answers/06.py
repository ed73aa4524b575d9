"""Plausible wrong answers to the exercises of notebook 06: each must be refused."""

import itertools
import math
import random

import torch


def no_look_ahead(weight, grad, velocity, lr, beta=0.9):
    velocity = beta * velocity + grad
    return weight - lr * velocity, velocity


def looks_ahead_with_the_old_velocity(weight, grad, velocity, lr, beta=0.9):
    return weight - lr * (grad + beta * velocity), beta * velocity + grad


def nesterov_in_place(weight, grad, velocity, lr, beta=0.9):
    velocity.mul_(beta).add_(grad)
    weight -= lr * (grad + beta * velocity)
    return weight, velocity


def uses_the_new_momentum(weight, grad, momentum, lr, betas=(0.9, 0.99), weight_decay=0.0):
    momentum = betas[1] * momentum + (1 - betas[1]) * grad
    step = (betas[0] * momentum + (1 - betas[0]) * grad).sign()
    return weight - lr * (step + weight_decay * weight), momentum


def one_beta_for_both(weight, grad, momentum, lr, betas=(0.9, 0.99), weight_decay=0.0):
    mixed = betas[0] * momentum + (1 - betas[0]) * grad
    return weight - lr * (mixed.sign() + weight_decay * weight), mixed


def in_place(weight, grad, momentum, lr, betas=(0.9, 0.99), weight_decay=0.0):
    step = (betas[0] * momentum + (1 - betas[0]) * grad).sign()
    weight -= lr * (step + weight_decay * weight)
    return weight, momentum.mul_(betas[1]).add_((1 - betas[1]) * grad)


def no_decay(weight, grad, momentum, lr, betas=(0.9, 0.99), weight_decay=0.0):
    step = (betas[0] * momentum + (1 - betas[0]) * grad).sign()
    return weight - lr * step, betas[1] * momentum + (1 - betas[1]) * grad


def shampoo(weight, grad, left, right, lr, exponent=-0.25, new=True):
    def power(square):
        values, vectors = torch.linalg.eigh(square)
        keep = values > 1e-6 * values.max()
        return (vectors * torch.where(keep, values.clamp(min=1e-30) ** exponent, 0)) @ vectors.T

    sums = left + grad @ grad.T, right + grad.T @ grad
    before = sums if new else (left, right)
    return weight - lr * power(before[0]) @ grad @ power(before[1]), *sums


def shampoo_with_square_roots(weight, grad, left, right, lr):
    return shampoo(weight, grad, left, right, lr, exponent=-0.5)


def shampoo_with_the_old_squares(weight, grad, left, right, lr):
    return shampoo(weight, grad, left, right, lr, new=False)


def shampoo_in_place(weight, grad, left, right, lr):
    step, new_left, new_right = shampoo(weight, grad, left, right, lr)
    return weight.copy_(step), left.copy_(new_left), right.copy_(new_right)


def peaks_a_step_too_soon(step, max_steps, warmup_steps, decay_steps, highest):
    if step < warmup_steps:
        return highest * (step + 1) / warmup_steps
    return highest * min(1.0, (max_steps - step) / max(decay_steps, 1))


def reaches_zero_too_soon(step, max_steps, warmup_steps, decay_steps, highest):
    if step < warmup_steps:
        return highest * step / warmup_steps
    return highest * min(1.0, (max_steps - 1 - step) / max(decay_steps, 1))


def divides_by_no_steps(step, max_steps, warmup_steps, decay_steps, highest):
    return highest * min(1.0, step / warmup_steps, (max_steps - step) / decay_steps)


def the_lower_slope_is_not_taken(step, max_steps, warmup_steps, decay_steps, highest):
    if step < warmup_steps:
        return highest * step / warmup_steps
    if max_steps - step < decay_steps:
        return highest * (max_steps - step) / decay_steps
    return highest


def decays_from_the_end_of_the_warmup(step, max_steps, warmup_steps, decay_steps, highest):
    if step < warmup_steps:
        return highest * step / warmup_steps
    return highest * min(1.0, (max_steps - step) / max(max_steps - warmup_steps, 1))


def takes_the_mean_for_the_truth(gradients, batch_size):
    stack = torch.stack(gradients)
    signal = stack.mean(0).square().sum()
    return ((stack.square().sum(1).mean() - signal) * batch_size / signal).item()


def noise_and_signal(gradients):
    stack = torch.stack(gradients)
    small, large = stack.square().sum(1).mean(), stack.mean(0).square().sum()
    signal = (len(stack) * large - small) / (len(stack) - 1)
    return (small - signal).item(), signal.item()


def forgets_the_batch_size(gradients, batch_size):
    noise, signal = noise_and_signal(gradients)
    return noise / signal


def signal_over_noise(gradients, batch_size):
    noise, signal = noise_and_signal(gradients)
    return signal / (noise * batch_size) if noise else 0.0


def noise_alone(gradients, batch_size):
    return noise_and_signal(gradients)[0] * batch_size


def slopes_in(w, v, rates, loss, momentum, constant=False, forgets=False, old=False, last=0):
    """Return the derivatives by the graph of the whole run, with a mistake or without one."""
    rates, w = rates.clone().requires_grad_(), w.clone().requires_grad_()
    for k, rate in enumerate(rates):
        (g,) = torch.autograd.grad(loss(w, k), w, create_graph=not constant)
        before, v = v, momentum * (v.detach() if forgets else v) + g
        w = w - rate * (before if old else v)
    return torch.autograd.grad(loss(w, len(rates) - last), rates)[0]


def keeps_the_graph_of_the_run(loss, weight, rates, momentum):
    return slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum)


def takes_gradients_for_constants(loss, weight, rates, momentum):
    return slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum, constant=True)


def carries_no_velocity(loss, weight, rates, momentum):
    return slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum, forgets=True)


def steps_by_the_old_velocity(loss, weight, rates, momentum):
    return slopes_in(weight, 0 * weight.requires_grad_(), rates, loss, momentum, old=True)


def ends_on_the_last_step(loss, weight, rates, momentum):
    return slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum, last=1)


def slopes_upwards(loss, weight, rates, momentum):
    return -slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum)


def one_slope_for_all(loss, weight, rates, momentum):
    return slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum).sum()


def slopes_backwards(loss, weight, rates, momentum, keep=False, again=False):
    """Return the derivatives, walking backwards over states that are kept, or undone."""
    w, v, n = weight, torch.zeros_like(weight), len(rates)
    states, slopes = [], torch.zeros(n)

    def gradient(w, k, **options):
        w = w.detach().requires_grad_()
        return w, *torch.autograd.grad(loss(w, k), w, **options)

    for k in range(n):
        states.append((w, v) if keep else None)
        v = momentum * v + gradient(w, k)[1]
        w = w - rates[k] * v
    (_, a), b = gradient(w, n), torch.zeros_like(weight)
    for k in reversed(range(n)):
        slopes[k] = -(a @ v)
        if again:  # from the first step
            w, v = weight, torch.zeros_like(weight)
            for i in range(k):
                v = momentum * v + gradient(w, i)[1]
                w = w - rates[i] * v
        elif keep:
            w, v = states.pop()
        else:
            w = w + rates[k] * v
            v = (v - gradient(w, k)[1]) / momentum
        leaf, g = gradient(w, k, create_graph=True)
        b = b - rates[k] * a
        a, b = a + torch.autograd.grad(g, leaf, b)[0], momentum * b
    return slopes


def keeps_every_state(loss, weight, rates, momentum):
    return slopes_backwards(loss, weight, rates, momentum, keep=True)


def starts_again_for_each_step(loss, weight, rates, momentum):
    return slopes_backwards(loss, weight, rates, momentum, again=True)


def undoes_the_steps(loss, weight, rates, momentum):
    return slopes_backwards(loss, weight, rates, momentum)


def changes_the_weight(loss, weight, rates, momentum):
    slopes = slopes_in(weight, torch.zeros_like(weight), rates, loss, momentum)
    weight -= 0.1
    return slopes


def number_at(place, n, key):
    """Return the number at a place of an order, by the cipher of the solution."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    while True:
        left, right = place >> half, place & (2**half - 1)
        for i in range(4):
            f = random.Random(repr((key, i, right))).getrandbits(half)
            left, right = right, left ^ f
        place = (left << half) | right
        if place < n:
            return place


def line(n, seed):
    for epoch in itertools.count():
        yield from (number_at(i, n, (seed, epoch)) for i in range(n))


def reader(n, batch_size, rank, world, start, number):
    for step in itertools.count(start):
        places = range(step * batch_size + rank, (step + 1) * batch_size, world)
        yield [number(i % n, i // n) for i in places]


def drops_the_rest(n, batch_size, seed, rank, world, start):
    for step in itertools.count(start):
        epoch, k = divmod(step, max(1, n // batch_size))
        places = range(k * batch_size, min(n, (k + 1) * batch_size))
        yield [number_at(i, n, (seed, epoch)) for i in places][rank::world]


def a_batch_for_each(n, batch_size, seed, rank, world, start):
    for step in itertools.count(start):
        first = (step * world + rank) * batch_size
        places = range(first, first + batch_size)
        yield [number_at(i % n, n, (seed, i // n)) for i in places]


def drops_what_does_not_divide(n, batch_size, seed, rank, world, start):
    share = batch_size // world
    for step in itertools.count(start):
        first = step * batch_size + rank * share
        places = range(first, first + (share if world > 1 else batch_size))
        yield [number_at(i % n, n, (seed, i // n)) for i in places]


def leaves_the_rest_to_the_last(n, batch_size, seed, rank, world, start):
    share = batch_size // world
    for step in itertools.count(start):
        ends = (rank * share, batch_size if rank == world - 1 else (rank + 1) * share)
        places = range(step * batch_size + ends[0], step * batch_size + ends[1])
        yield [number_at(i % n, n, (seed, i // n)) for i in places]


def shuffles_for_each_machine(n, batch_size, seed, rank, world, start):
    return reader(n, batch_size, rank, world, start, lambda i, e: number_at(i, n, (seed, e, rank)))


def starts_at_the_beginning(n, batch_size, seed, rank, world, start):
    return reader(n, batch_size, rank, world, 0, lambda i, e: number_at(i, n, (seed, e)))


def shuffles_once(n, batch_size, seed, rank, world, start):
    return reader(n, batch_size, rank, world, start, lambda i, e: number_at(i, n, seed))


def adds_seed_and_epoch(n, batch_size, seed, rank, world, start):
    return reader(n, batch_size, rank, world, start, lambda i, e: number_at(i, n, seed + e))


def rotates_one_order(n, batch_size, seed, rank, world, start):
    return reader(
        n, batch_size, rank, world, start, lambda i, e: number_at((i + 13 * e) % n, n, seed)
    )


def affine_map(n, batch_size, seed, rank, world, start):
    def number(i, epoch):
        dice = random.Random(repr((seed, epoch)))
        a = next(a for a in iter(lambda: dice.randrange(1, n + 1), None) if math.gcd(a, n) == 1)
        return (a * i + dice.randrange(n)) % n

    return reader(n, batch_size, rank, world, start, number)


def does_not_shuffle(n, batch_size, seed, rank, world, start):
    return reader(n, batch_size, rank, world, start, lambda i, e: i)


def stores_the_order(n, batch_size, seed, rank, world, start):
    orders = {}

    def number(i, epoch):
        if epoch not in orders:
            generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
            orders[epoch] = torch.randperm(n, generator=generator)
        return int(orders[epoch][i])

    return reader(n, batch_size, rank, world, start, number)


def replays_the_run(n, batch_size, seed, rank, world, start):
    numbers = line(n, seed)
    for step in itertools.count():
        batch = list(itertools.islice(numbers, batch_size))
        if step >= start:
            yield batch[rank::world]


def squares(grad, beta, state):
    for name, axis in (("row", 1), ("column", 0)):
        mean = grad.square().mean(axis, keepdim=True)
        state[name] = beta * state.get(name, 0.0) + (1 - beta) * mean
    return state["row"] * state["column"] / state["row"].mean()


def keeps_v_whole(weight, grad, state, lr, betas=(0.9, 0.999)):
    state["t"] = t = state.get("t", 0) + 1
    state["v"] = squares(grad, betas[1], state)
    state["m"] = betas[0] * state.get("m", 0.0) + (1 - betas[0]) * grad
    mean, square = state["m"] / (1 - betas[0] ** t), state["v"] / (1 - betas[1] ** t)
    return weight - lr * mean / (square.sqrt() + 1e-8)


def corrects_nothing(weight, grad, state, lr, betas=(0.9, 0.999)):
    state["m"] = betas[0] * state.get("m", 0.0) + (1 - betas[0]) * grad
    return weight - lr * state["m"] / (squares(grad, betas[1], state).sqrt() + 1e-8)


def divides_by_nothing(weight, grad, state, lr, betas=(0.9, 0.999)):
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = betas[0] * state.get("m", 0.0) + (1 - betas[0]) * grad
    squares(grad, betas[1], state)
    v = state["row"] * state["column"] / (1 - betas[1] ** t)
    return weight - lr * state["m"] / (1 - betas[0] ** t) / (v.sqrt() + 1e-8)


WRONG = {
    "06.1": [no_look_ahead, looks_ahead_with_the_old_velocity, nesterov_in_place],
    "06.2": [uses_the_new_momentum, one_beta_for_both, in_place, no_decay],
    "06.3": [
        shampoo_with_square_roots,
        shampoo_with_the_old_squares,
        shampoo_in_place,
    ],
    "06.4": [
        peaks_a_step_too_soon,
        reaches_zero_too_soon,
        divides_by_no_steps,
        the_lower_slope_is_not_taken,
        decays_from_the_end_of_the_warmup,
    ],
    "06.5": [
        takes_the_mean_for_the_truth,
        forgets_the_batch_size,
        signal_over_noise,
        noise_alone,
    ],
    "06.6": [
        keeps_the_graph_of_the_run,
        takes_gradients_for_constants,
        carries_no_velocity,
        steps_by_the_old_velocity,
        ends_on_the_last_step,
        slopes_upwards,
        one_slope_for_all,
        keeps_every_state,
        starts_again_for_each_step,
        undoes_the_steps,
        changes_the_weight,
    ],
    "06.7": [
        drops_the_rest,
        a_batch_for_each,
        drops_what_does_not_divide,
        leaves_the_rest_to_the_last,
        shuffles_for_each_machine,
        starts_at_the_beginning,
        shuffles_once,
        adds_seed_and_epoch,
        rotates_one_order,
        affine_map,
        does_not_shuffle,
        stores_the_order,
        replays_the_run,
    ],
    "06.8": [keeps_v_whole, corrects_nothing, divides_by_nothing],
}
