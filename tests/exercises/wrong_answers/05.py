"""Plausible wrong answers to the exercises of notebook 05: each must be refused."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F


def gives_the_loss(probabilities):
    return -sum(math.log(p) if p else -math.inf for p in probabilities) / len(probabilities)


def mixes_bits_and_nats(probabilities):
    logs = [math.log2(p) if p else -math.inf for p in probabilities]
    return math.exp(-sum(logs) / len(logs))


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


def asks_autograd(logits, targets):
    logits.requires_grad_()
    F.cross_entropy(logits, targets).backward()
    return logits.grad


def asks_autograd_on_a_copy(logits, targets):
    with torch.enable_grad():
        z = logits.detach().clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(z, targets), z)[0]


def asks_functorch(logits, targets):
    def loss(z):
        return F.cross_entropy(z, targets)

    return torch.func.grad(loss)(logits)


def asks_for_the_jacobian(logits, targets):
    return torch.func.jacrev(lambda z: F.cross_entropy(z, targets))(logits)


def leaves_inference_mode(logits, targets):
    with torch.inference_mode(False):
        z = torch.tensor(logits.tolist(), requires_grad=True)
        F.cross_entropy(z, torch.tensor(targets.tolist())).backward()
        return z.grad


def has_the_sign_wrong(logits, targets):
    return -divides_by_all_rows(logits, targets) * len(targets) / (targets != -100).sum()


def takes_nothing_from_the_target(logits, targets):
    counts = targets != -100
    return logits.softmax(dim=-1) * counts[:, None] / counts.sum()


def loss_at(logits, targets, scale):
    return F.cross_entropy(scale * logits.double(), targets).item()


def gives_the_temperature(logits, targets):
    scales = [math.exp(k / 400) for k in range(-3600, 3600)]
    return 1 / min(scales, key=lambda scale: loss_at(logits, targets, scale))


def searches_in_steps_of_a_tenth(logits, targets):
    return min([k / 10 for k in range(1, 200)], key=lambda scale: loss_at(logits, targets, scale))


def searches_up_to_ten(logits, targets):
    scales = [math.exp(k / 400) for k in range(-3600, 922)]
    return min(scales, key=lambda scale: loss_at(logits, targets, scale))


def searches_from_a_tenth(logits, targets):
    scales = [math.exp(k / 400) for k in range(-921, 3600)]
    return min(scales, key=lambda scale: loss_at(logits, targets, scale))


def makes_the_variance_one(logits, targets):
    return 1 / logits.std().item()


def gives_bits_of_divergence(p, q):
    possible = [word for word in p if p[word] > 0]
    if any(not q.get(word) for word in possible):
        return math.inf
    return sum(p[word] * math.log2(p[word] / q[word]) for word in possible)


def gives_the_cross_entropy(p, q):
    possible = [word for word in p if p[word] > 0]
    if any(not q.get(word) for word in possible):
        return math.inf
    return -sum(p[word] * math.log(q[word]) for word in possible)


def rows(transitions):
    return torch.special.entr(transitions.double()).sum(dim=1)


def averages_the_rows(transitions):
    return rows(transitions).mean().item()


def shares_of(transitions):
    power = torch.matrix_power(transitions.double(), 20_001)
    return power.mean(dim=0)


def takes_the_entropy_of_the_shares(transitions):
    return torch.special.entr(shares_of(transitions)).sum().item()


def gives_bits_of_the_chain(transitions):
    return (shares_of(transitions) @ rows(transitions)).item() / math.log(2)


def walks_in_circles(transitions):
    return (torch.matrix_power(transitions.double(), 20_000)[0] @ rows(transitions)).item()


def forgets_that_zero_costs_nothing(transitions):
    P = transitions.double()
    return (shares_of(P) @ -(P * P.log()).sum(dim=1)).item()


def forgets_the_sign(text, log_probs):
    return sum(log_probs) / math.log(2) / len(text.encode())


def narrow(ids, next_probs):
    low, width = Fraction(0), Fraction(1)
    for place, token in enumerate(ids):
        p = next_probs(ids[:place])
        low, width = low + width * sum(p[:token], Fraction(0)), width * p[token]
    return low, width


def writes_the_lower_end(ids, next_probs):
    low, width = narrow(ids, next_probs)
    k = 1
    while Fraction(1, 2**k) > width:
        k += 1
    return format(math.floor(low * 2**k), "b").zfill(k)


def looks_at_the_first_number_only(ids, next_probs):
    low, width = narrow(ids, next_probs)
    k = 1
    while Fraction(math.ceil(low * 2**k), 2**k) >= low + width:
        k += 1
    return format(math.ceil(low * 2**k), "b").zfill(k)


def writes_ten_bits_more(ids, next_probs):
    low, width = narrow(ids, next_probs)
    k = 10
    while Fraction(1, 2 ** (k - 10)) > width:
        k += 1
    return format(math.ceil(low * 2**k), "b").zfill(k)


def uses_floats(ids, next_probs):
    low, width = map(float, narrow(ids, next_probs))
    k = 1
    while 2.0**-k > width / 2 and k < 1000:
        k += 1
    return format(math.ceil(low * 2**k), "b").zfill(k)


def puts_the_last_token_first(ids, next_probs):
    return right_compressor([len(next_probs([])) - 1 - i for i in ids], next_probs)


def right_compressor(ids, next_probs):
    low, width = narrow(ids, next_probs)
    k = 0
    while Fraction(math.ceil(low * 2**k) + 1, 2**k) > low + width:
        k += 1
    return format(math.ceil(low * 2**k), "b").zfill(k)


def gives_a_number(ids, next_probs):
    return int(right_compressor(ids, next_probs) or "0", 2)


WRONG = {
    "05.1": [
        counts_what_is_ignored,
        divides_by_all_rows,
        is_the_gradient_of_the_sum,
        overflows,
        asks_autograd,
        asks_autograd_on_a_copy,
        asks_functorch,
        asks_for_the_jacobian,
        leaves_inference_mode,
        has_the_sign_wrong,
        takes_nothing_from_the_target,
    ],
    "05.2": [
        multiplies_the_probabilities,
        averages_the_numbers_of_choices,
        averages_the_probabilities,
        fails_at_zero,
        gives_the_loss,
        mixes_bits_and_nats,
    ],
    "05.3": [
        gives_the_temperature,
        searches_in_steps_of_a_tenth,
        searches_up_to_ten,
        searches_from_a_tenth,
        makes_the_variance_one,
    ],
    "05.4": [takes_the_mean_of_means, is_poisoned_by_the_idle],
    "05.5": [
        the_wrong_way_round,
        leaves_out_what_q_lacks,
        fails_at_what_p_rules_out,
        gives_bits_of_divergence,
        gives_the_cross_entropy,
    ],
    "05.6": [
        averages_the_rows,
        takes_the_entropy_of_the_shares,
        gives_bits_of_the_chain,
        walks_in_circles,
        forgets_that_zero_costs_nothing,
    ],
    "05.7": [counts_characters, stays_with_nats, counts_tokens, forgets_the_sign],
    "05.8": [
        writes_the_lower_end,
        looks_at_the_first_number_only,
        writes_ten_bits_more,
        uses_floats,
        puts_the_last_token_first,
        gives_a_number,
    ],
}
