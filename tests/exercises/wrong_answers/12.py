"""Plausible wrong answers to the exercises of notebook 12: each must be refused."""

import torch

from llmlib.exercises.long_context_answers import (
    Recent,
    bytes_of_layers,
    decayed_states,
    falling,
    layers_needed,
    merged,
)


def favors_what_is_far(scores, slope):
    return falling(scores, -slope)


def sees_the_future(scores, slope):
    return falling(scores, slope, causal=False)


def forgets_the_softmax(scores, slope):
    place = torch.arange(len(scores))
    return scores - slope * (place[:, None] - place)


def adds_to_the_weights(scores, slope):
    place = torch.arange(len(scores))
    return falling(scores, 0.0) - slope * (place[:, None] - place)


def multiplies_the_base(base, dim, factor):
    return base * factor


def turns_the_exponent_over(base, dim, factor):
    return base * factor ** ((dim - 2) / dim)


def slows_the_second_pair(base, dim, factor):
    return base * factor ** (dim / 2)


def keeps_keys_only(windows, n_tokens, n_numbers):
    return bytes_of_layers(windows, n_tokens, n_numbers, tensors=1)


def ignores_windows(windows, n_tokens, n_numbers):
    return bytes_of_layers([None] * len(windows), n_tokens, n_numbers)


def fills_long_windows(windows, n_tokens, n_numbers):
    return 4 * n_numbers * sum(width or n_tokens for width in windows)


def counts_bits(windows, n_tokens, n_numbers):
    return 8 * bytes_of_layers(windows, n_tokens, n_numbers)


def takes_the_mean(parts):
    return torch.stack([out for out, _ in parts]).mean(0), merged(parts)[1]


def weighs_by_log_sums(parts):
    outs, sums = (torch.stack(each) for each in zip(*parts))
    return ((sums / sums.sum(0))[..., None] * outs).sum(0), merged(parts)[1]


def multiplies_nan(parts):
    outs, sums = (torch.stack(each) for each in zip(*parts))
    total = sums.logsumexp(0)
    return ((sums - total).exp()[..., None] * outs).sum(0), total


def overflows(parts):
    outs, sums = (torch.stack(each) for each in zip(*parts))
    return (sums.exp()[..., None] * outs.nan_to_num()).sum(0) / sums.exp().sum(0)[:, None], (
        sums.exp().sum(0).log()
    )


def returns_the_largest_log_sum(parts):
    return merged(parts)[0], torch.stack([lse for _, lse in parts]).amax(0)


def counts_one_too_few(sees):
    n = layers_needed(sees)
    return None if n is None else n - 1


def counts_one_too_many(sees):
    n = layers_needed(sees)
    return None if n is None else n + 1


def never_gives_up(sees):
    n = layers_needed(sees)
    return len(sees) if n is None else n


def one_layer_for_a_token(sees):
    n = layers_needed(sees)
    return n and max(n, 1) if n is None else max(n, 1)


def shrinks_the_newest(q, k, v, decay, size):
    return decayed_states(q, k, v, decay, late=True)


def forgets_nothing(q, k, v, decay, size):
    return decayed_states(q, k, v, 1.0)


def carries_nothing_on(q, k, v, decay, size):
    parts = zip(q.split(size), k.split(size), v.split(size))
    return torch.cat([decayed_states(*part, decay) for part in parts])


def decays_by_chunk(q, k, v, decay, size):
    state, out = torch.zeros(3, 3, dtype=q.dtype), []
    for Q, K, V in zip(q.split(size), k.split(size), v.split(size)):
        out.append(decayed_states(Q, K, V, decay) + Q @ state)
        state = decay * state + K.T @ V
    return torch.cat(out)


class ShowsWhatIsGone(Recent):
    def rewind(self, n):
        self.n -= n


class RefusesTooMuch(Recent):
    def rewind(self, n):
        if n > len(self.slots) - self.width - 1:
            raise ValueError
        self.n -= n


class ShowsSlots(Recent):
    def last(self):
        shown = super().last()
        return sorted(shown, key=lambda item: item % len(self.slots))


class ForgetsHowFarItWas(Recent):
    def rewind(self, n):
        if n > self.n or max(0, self.n - n - self.width) < self.n - len(self.slots):
            raise ValueError
        self.n -= n


WRONG = {
    "12.1": [favors_what_is_far, sees_the_future, forgets_the_softmax, adds_to_the_weights],
    "12.2": [multiplies_the_base, turns_the_exponent_over, slows_the_second_pair],
    "12.3": [keeps_keys_only, ignores_windows, fills_long_windows, counts_bits],
    "12.4": [
        takes_the_mean,
        weighs_by_log_sums,
        multiplies_nan,
        overflows,
        returns_the_largest_log_sum,
    ],
    "12.5": [counts_one_too_few, counts_one_too_many, never_gives_up, one_layer_for_a_token],
    "12.6": [shrinks_the_newest, forgets_nothing, carries_nothing_on, decays_by_chunk],
    "12.7": [ShowsWhatIsGone, RefusesTooMuch, ShowsSlots, ForgetsHowFarItWas],
}
