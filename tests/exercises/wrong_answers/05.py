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


def walks_on(transitions, shows, steps=None):
    """Where a chain is when it shows the next word; steps: silent ones, or any number."""
    silent = transitions * (shows.sum(dim=1, keepdim=True) == 0)
    unity = torch.eye(len(shows), dtype=torch.float64)
    if steps is None:
        return torch.linalg.inv(unity - silent)
    total = unity
    for _ in range(steps):
        total = unity + silent @ total
    return total


def right_chain(ids, start, transitions, shows, steps=None, add=torch.logsumexp):
    walk = walks_on(transitions, shows, steps)
    state, hop, words = (start @ walk).log(), (transitions @ walk).log(), shows.log()
    before, found = torch.zeros((), dtype=torch.float64), []
    for token in ids:
        shown = state + words[:, token]
        total = add(shown, 0)
        impossible = total.isneginf()
        found.append(total if impossible else total - before)
        before, state = total, add(shown[:, None] + hop, 0)
    return torch.stack(found)


def gives_bits_of_the_chain(*chain):
    return right_chain(*chain) / math.log(2)


def adds_up_the_text(*chain):
    return right_chain(*chain).cumsum(0)


def reads_transitions_the_wrong_way(ids, start, transitions, shows):
    return right_chain(ids, start, transitions.T, shows, steps=1)


def takes_the_likeliest_path(*chain):
    return right_chain(*chain, add=torch.amax)


def does_not_look_at_the_words(ids, start, transitions, shows):
    state, visible = start, (shows.sum(dim=1) > 0).double()
    found = []
    for token in ids:
        state = state @ walks_on(transitions, shows)
        found.append(state @ shows[:, token])
        state = (state * visible) @ transitions
    return torch.stack(found).log()


def stops_at_silent_states(*chain):
    return right_chain(*chain, steps=0)


def walks_one_silent_step(*chain):
    return right_chain(*chain, steps=1)


def walks_five_silent_steps(*chain):
    return right_chain(*chain, steps=5)


def scales_without_logarithms(ids, start, transitions, shows):
    walk, found = walks_on(transitions, shows), []
    state = start @ walk
    for token in ids:
        shown = state * shows[:, token]
        found.append(shown.sum())
        state = shown / shown.sum().clamp(min=1e-300) @ transitions @ walk
    return torch.stack(found).log()


def is_not_a_number_after_the_impossible(ids, start, transitions, shows):
    walk, found = walks_on(transitions, shows), []
    state, hop = (start @ walk).log(), (transitions @ walk).log()
    for token in ids:
        shown = state + shows[:, token].log()
        found.append(shown.logsumexp(0))
        state = (shown[:, None] - found[-1] + hop).logsumexp(0)
    return torch.stack(found)


def begins_again_for_each_token(ids, *chain):
    return torch.stack([right_chain(ids[: t + 1], *chain)[-1] for t in range(len(ids))])


def forgets_the_sign(text, log_probs):
    return sum(log_probs) / math.log(2) / len(text.encode())


class RightCoder:
    """An arithmetic coder with numbers of `width` bits; mistakes can be made on purpose."""

    width, around_the_middle, tail = 32, True, 2

    def begin(self):
        self.one = 1 << self.width
        self.low, self.high = 0, self.one

    def narrow(self, counts, token):
        size, total, below = self.high - self.low, sum(counts), sum(counts[:token])
        self.high = self.low + size * (below + counts[token]) // total
        self.low += size * below // total
        if self.high <= self.low:
            raise ZeroDivisionError("the interval is empty")

    def doublings(self):
        half, quarter = self.one // 2, self.one // 4
        while True:
            if self.high <= half:
                cut = 0
            elif self.low >= half:
                cut = half
            elif self.around_the_middle and self.low >= quarter and self.high <= 3 * quarter:
                cut = quarter
            else:
                return
            self.low, self.high = 2 * (self.low - cut), 2 * (self.high - cut)
            yield cut

    def encode(self, ids, counts):
        self.begin()
        bits, waiting = "", 0
        for place, token in enumerate(ids):
            self.narrow(counts(ids[:place]), token)
            for cut in self.doublings():
                if cut == self.one // 4:
                    waiting += 1
                else:
                    bits += "01"[cut > 0] + "10"[cut > 0] * waiting
                    waiting = 0
        first = self.low >= self.one // 4
        return bits + ("01"[first] + "10"[first] * (waiting + self.tail - 1))[: self.tail + waiting]

    def decode(self, bits, counts):
        self.begin()
        ids, used = [], 0
        value = int(bits[: self.width].ljust(self.width, "0"), 2)
        while ids[-1:] != [0]:
            n, token, size = counts(ids), 0, self.high - self.low
            ends = [self.low + size * sum(n[: k + 1]) // sum(n) for k in range(len(n) - 1)]
            while token < len(ends) and value >= ends[token]:
                token += 1
            self.narrow(n, token)
            ids.append(token)
            for cut in self.doublings():
                new = bits[used + self.width : used + self.width + 1] or "0"
                value, used = 2 * (value - cut) + int(new), used + 1
        return ids, bits[used + self.tail :]


class KnowsNoMiddle(RightCoder):
    around_the_middle = False


class KeepsAtLeastOneUnit(KnowsNoMiddle):
    def narrow(self, counts, token):
        size, total, below = self.high - self.low, sum(counts), sum(counts[:token])
        self.low += min(size - 1, size * below // total)
        self.high = self.low + max(1, size * counts[token] // total)


class HasSixteenBits(RightCoder):
    width = 16


class WritesThirtyBitsMore(RightCoder):
    tail = 32


class WritesOneBitLess(RightCoder):
    tail = 1


class WritesNothingAtTheEnd(RightCoder):
    tail = 0


class LosesWhatFollows(RightCoder):
    def decode(self, bits, counts):
        return super().decode(bits, counts)[0], ""


class ReadsTheWholeWindow(RightCoder):
    def decode(self, bits, counts):
        ids, after = super().decode(bits, counts)
        return ids, after[30:]


class IgnoresTheModel(RightCoder):
    def narrow(self, counts, token):
        super().narrow([1] * len(counts), token)


class WritesNumbers(RightCoder):
    def encode(self, ids, counts):
        return [int(bit) for bit in super().encode(ids, counts)]


class LetsNumbersGrow:
    """The interval in exact fractions."""

    def narrow(self, low, width, n, token):
        return low + width * Fraction(sum(n[:token]), sum(n)), width * Fraction(n[token], sum(n))

    def encode(self, ids, counts):
        low, width = Fraction(0), Fraction(1)
        for place, token in enumerate(ids):
            low, width = self.narrow(low, width, counts(ids[:place]), token)
        k = self.bits_of(low, width)
        return format(math.ceil(low * 2**k), "b").zfill(k) if k else ""

    def bits_of(self, low, width):
        k = 0
        while Fraction(math.ceil(low * 2**k) + 1, 2**k) > low + width:
            k += 1
        return k

    def decode(self, bits, counts):
        value = Fraction(int(bits or "0", 2), 2 ** len(bits))
        ids, low, width = [], Fraction(0), Fraction(1)
        while ids[-1:] != [0]:
            n, token = counts(ids), 0
            while value >= sum(self.narrow(low, width, n, token)):
                token += 1
            low, width = self.narrow(low, width, n, token)
            ids.append(token)
        return ids, bits[self.bits_of(low, width) :]


class ReadsAllBitsAtOnce(RightCoder):
    def decode(self, bits, counts):
        number = int(bits, 2)  # noqa: F841
        return super().decode(bits, counts)


class UsesFloats:
    """The interval in floats, which are not doubled."""

    def encode(self, ids, counts):
        low, width = 0.0, 1.0
        for place, token in enumerate(ids):
            n = counts(ids[:place])
            low, width = low + width * sum(n[:token]) / sum(n), width * n[token] / sum(n)
        k = min(1000, 1 - math.floor(math.log2(max(width, 1e-300))))
        return format(math.ceil(low * 2.0**k), "b").zfill(k)

    def decode(self, bits, counts):
        ids, low, width, value = [], 0.0, 1.0, int(bits[:60], 2) / 2.0 ** len(bits[:60])
        while ids[-1:] != [0]:
            n, token = counts(ids), 0
            while token < len(n) - 1 and value >= low + width * sum(n[: token + 1]) / sum(n):
                token += 1
            low, width = low + width * sum(n[:token]) / sum(n), width * n[token] / sum(n)
            ids.append(token)
        return ids, bits[1 - math.floor(math.log2(width)) :]


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
        gives_bits_of_the_chain,
        adds_up_the_text,
        reads_transitions_the_wrong_way,
        takes_the_likeliest_path,
        does_not_look_at_the_words,
        stops_at_silent_states,
        walks_one_silent_step,
        walks_five_silent_steps,
        scales_without_logarithms,
        is_not_a_number_after_the_impossible,
        begins_again_for_each_token,
    ],
    "05.7": [counts_characters, stays_with_nats, counts_tokens, forgets_the_sign],
    "05.8": [
        KnowsNoMiddle,
        KeepsAtLeastOneUnit,
        HasSixteenBits,
        WritesThirtyBitsMore,
        WritesOneBitLess,
        WritesNothingAtTheEnd,
        LosesWhatFollows,
        ReadsTheWholeWindow,
        IgnoresTheModel,
        WritesNumbers,
        LetsNumbersGrow,
        ReadsAllBitsAtOnce,
        UsesFloats,
    ],
}
