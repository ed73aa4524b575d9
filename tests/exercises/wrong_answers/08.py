"""Plausible wrong answers to the exercises of notebook 08: each must be refused."""

import torch


def forgets_the_biases(n_vocab, n_ctx, n_embd, n_head, n_layer):
    return (n_vocab + n_ctx) * n_embd + n_layer * 12 * n_embd**2


def counts_the_head_again(n_vocab, n_ctx, n_embd, n_head, n_layer):
    block = 12 * n_embd**2 + 13 * n_embd
    return (2 * n_vocab + n_ctx) * n_embd + n_layer * block + 2 * n_embd


def does_not_turn_them(matrix):
    return torch.from_numpy(matrix[0]).chunk(3, dim=1)


def takes_thirds_of_the_inputs(matrix):
    return torch.from_numpy(matrix[0].T.copy()).T.reshape(3, matrix.shape[1], -1).unbind()


def changes_what_it_is_given(logits, temperature, top_k):
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    logits[logits < logits.topk(min(top_k, len(logits))).values[-1]] = -torch.inf
    return (logits / temperature).softmax(0)


def divides_by_zero(logits, temperature, top_k):
    kept = logits >= logits.topk(min(top_k, len(logits))).values[-1]
    return torch.where(kept, logits / temperature, -torch.inf).softmax(0)


def does_not_divide_again(logits, temperature, top_k):
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    p = (logits / temperature).softmax(0)
    return torch.where(p >= p.topk(min(top_k, len(logits))).values[-1], p, 0.0)


WRONG = {
    "08.1": [forgets_the_biases, counts_the_head_again],
    "08.2": [does_not_turn_them, takes_thirds_of_the_inputs],
    "08.3": [changes_what_it_is_given, divides_by_zero, does_not_divide_again],
}
