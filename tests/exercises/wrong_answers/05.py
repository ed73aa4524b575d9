"""Plausible wrong answers to the exercises of notebook 05: each must be refused."""

import math

import torch


def multiplies_the_probabilities(probabilities):
    product = math.prod(probabilities)
    return product ** (-1 / len(probabilities)) if product else math.inf


def averages_the_numbers_of_choices(probabilities):
    return sum(1 / p if p else math.inf for p in probabilities) / len(probabilities)


def averages_the_probabilities(probabilities):
    return len(probabilities) / sum(probabilities)


def fails_at_zero(probabilities):
    return math.exp(-sum(map(math.log, probabilities)) / len(probabilities))


def counts_characters(text, log_probs):
    return -sum(log_probs) / math.log(2) / len(text)


def stays_with_nats(text, log_probs):
    return -sum(log_probs) / len(text.encode())


def counts_tokens(text, log_probs):
    return -sum(log_probs) / math.log(2) / len(log_probs)


def takes_the_mean_of_means(parts):
    means = [loss for loss, n in parts if n]
    return sum(means) / len(means)


def is_poisoned_by_the_idle(parts):
    return sum(loss * n for loss, n in parts) / sum(n for _, n in parts)


def the_wrong_way_round(p, q):
    if q.keys() - {word for word in p if p[word] > 0}:
        return math.inf
    return sum(q[word] * math.log(q[word] / p[word]) for word in q)


def leaves_out_what_q_lacks(p, q):
    return sum(p[word] * math.log(p[word] / q[word]) for word in p if word in q and p[word])


def fails_at_what_p_rules_out(p, q):
    if p.keys() - q.keys():
        return math.inf
    return sum(p[word] * math.log(p[word] / q[word]) for word in p)


def counts_what_is_ignored(logits, targets):
    gradient = logits.softmax(dim=-1)
    for row, target in enumerate(targets.tolist()):
        gradient[row, target if target >= 0 else 0] -= 1
    return gradient / len(targets)


def divides_by_all_rows(logits, targets):
    counts = targets != -100
    gradient = logits.softmax(dim=-1)
    gradient[torch.arange(len(targets)), targets.clamp(min=0)] -= 1
    return gradient * counts[:, None] / len(targets)


def is_the_gradient_of_the_sum(logits, targets):
    return divides_by_all_rows(logits, targets) * len(targets)


def overflows(logits, targets):
    counts = targets != -100
    gradient = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
    gradient[torch.arange(len(targets)), targets.clamp(min=0)] -= 1
    return gradient * counts[:, None] / counts.sum()


WRONG = {
    "05.1": [
        multiplies_the_probabilities,
        averages_the_numbers_of_choices,
        averages_the_probabilities,
        fails_at_zero,
    ],
    "05.2": [counts_characters, stays_with_nats, counts_tokens],
    "05.3": [takes_the_mean_of_means, is_poisoned_by_the_idle],
    "05.4": [the_wrong_way_round, leaves_out_what_q_lacks, fails_at_what_p_rules_out],
    "05.5": [
        counts_what_is_ignored,
        divides_by_all_rows,
        is_the_gradient_of_the_sum,
        overflows,
    ],
}
