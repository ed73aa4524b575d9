"""Plausible wrong answers to the exercises of notebook 06: each must be refused."""

import math

import torch


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


def mean_of_means(gradients, n_targets):
    return sum(gradients) / len(gradients)


def only_the_sum(gradients, n_targets):
    return sum(n * gradient for n, gradient in zip(n_targets, gradients))


def sum_of_means(gradients, n_targets):
    return sum(gradients) / sum(n_targets)


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


WRONG = {
    "06.1": [peaks_a_step_too_soon, reaches_zero_too_soon, divides_by_no_steps],
    "06.2": [mean_of_means, only_the_sum, sum_of_means],
    "06.3": [uses_the_new_momentum, one_beta_for_both, in_place, no_decay],
    "06.4": [absolute_probability, ratio_of_logits, best_of_the_batch],
    "06.5": [divides_always, subtracts, punishes_each_time, punishes_in_place, first_row_for_all],
}
