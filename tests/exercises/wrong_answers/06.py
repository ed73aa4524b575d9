"""Plausible wrong answers to the exercises of notebook 06: each must be refused."""

import math

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


def absolute_probability(logits, min_p):
    return logits.masked_fill(logits.softmax(-1) < min_p, -math.inf)


def ratio_of_logits(logits, min_p):
    return logits.masked_fill(logits < min_p * logits.amax(-1, keepdim=True), -math.inf)


def best_of_the_batch(logits, min_p):
    return logits.masked_fill(logits < logits.max() + math.log(min_p), -math.inf)


def divides_always(logits, ids, penalty):
    return logits.scatter(1, ids, logits.gather(1, ids) / penalty)


def subtracts(logits, ids, penalty):
    return logits.scatter(1, ids, logits.gather(1, ids) - math.log(penalty))


def punishes_each_time(logits, ids, penalty):
    logits = logits.clone()
    for row, said in enumerate(ids.tolist()):
        for i in said:
            logits[row, i] *= penalty if logits[row, i] < 0 else 1 / penalty
    return logits


def punishes_in_place(logits, ids, penalty):
    said = logits.gather(1, ids)
    return logits.scatter_(1, ids, torch.where(said > 0, said / penalty, said * penalty))


def first_row_for_all(logits, ids, penalty):
    logits = logits.clone()
    said = logits[:, ids[0]]
    logits[:, ids[0]] = torch.where(said > 0, said / penalty, said * penalty)
    return logits


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
    "06.6": [absolute_probability, ratio_of_logits, best_of_the_batch],
    "06.7": [divides_always, subtracts, punishes_each_time, punishes_in_place, first_row_for_all],
    "06.8": [keeps_v_whole, corrects_nothing, divides_by_nothing],
}
