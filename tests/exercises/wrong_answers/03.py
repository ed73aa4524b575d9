"""Plausible wrong answers to the exercises of notebook 03: each must be refused."""

import torch
import torch.nn.functional as F

from llmlib.model.attention import CausalAttention


def log_of_the_softmax(scores, dim=-1):
    return torch.softmax(scores, dim=dim).log()  # underflows to log(0)


def maximum_not_subtracted(scores, dim=-1):
    return scores - scores.exp().sum(dim=dim, keepdim=True).log()  # overflows


def always_the_last_dimension(scores, dim=-1):
    shifted = scores - scores.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def maximum_of_everything(scores, dim=-1):
    shifted = scores - scores.max()
    return shifted - shifted.exp().sum(dim=dim, keepdim=True).log()


def one_token_too_many(n_tokens, window):
    distance = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    return (distance >= 0) & (distance <= window)


def looks_both_ways(n_tokens, window):
    distance = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    return distance.abs() < window


def marks_what_is_hidden(n_tokens, window):
    distance = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    return (distance < 0) | (distance >= window)


def ones_and_zeros(n_tokens, window):
    return torch.ones(n_tokens, n_tokens).tril().triu(1 - window)


def identity_for_the_keys(emb_dim):
    layer = CausalAttention(emb_dim, 1, 16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.c_attn.weight[emb_dim : 2 * emb_dim] = torch.eye(emb_dim)
        layer.c_proj.weight.copy_(torch.eye(emb_dim))
    return layer


def biases_forgotten(emb_dim):
    layer = CausalAttention(emb_dim, 1, 16)
    with torch.no_grad():
        layer.c_attn.weight.zero_()
        layer.c_attn.weight[2 * emb_dim :] = torch.eye(emb_dim)
        layer.c_proj.weight.copy_(torch.eye(emb_dim))
    return layer


def output_projection_forgotten(emb_dim):
    layer = CausalAttention(emb_dim, 1, 16)
    with torch.no_grad():
        layer.c_attn.weight.zero_()
        layer.c_attn.bias.zero_()
        layer.c_attn.weight[2 * emb_dim :] = torch.eye(emb_dim)
    return layer


def context_too_short(emb_dim):
    layer = CausalAttention(emb_dim, 1, emb_dim)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.c_attn.weight[2 * emb_dim :] = torch.eye(emb_dim)
        layer.c_proj.weight.copy_(torch.eye(emb_dim))
    return layer


def only_the_first_output(layer, x):
    changed = x.clone()
    changed[:, -1] += 1
    return not torch.equal(layer(changed)[:, 0], layer(x)[:, 0])


def only_the_last_token(layer, x):
    changed = x.clone()
    changed[:, -1] += 1
    return not torch.equal(layer(changed)[:, :-1], layer(x)[:, :-1])


def only_the_second_token(layer, x):
    changed = x.clone()
    changed[:, 1:2] += 1
    return not torch.equal(layer(changed)[:, :1], layer(x)[:, :1])


def one_output_too_few(layer, x):
    for t in range(x.shape[1]):
        changed = x.clone()
        changed[:, t] += 1
        if not torch.equal(layer(changed)[:, : max(0, t - 1)], layer(x)[:, : max(0, t - 1)]):
            return True
    return False


def counts_the_token_itself(layer, x):
    for t in range(x.shape[1]):
        changed = x.clone()
        changed[:, t] += 1
        if not torch.equal(layer(changed)[:, : t + 1], layer(x)[:, : t + 1]):
            return True
    return False


def heads_in_the_wrong_order(q, k, v):
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def not_causal(q, k, v):
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
    return F.scaled_dot_product_attention(q, k, v)


def groups_not_repeated(q, k, v):
    return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], is_causal=True)


def not_divided_by_the_root(q, k, v):
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


WRONG = {
    "03.1": [
        log_of_the_softmax,
        maximum_not_subtracted,
        always_the_last_dimension,
        maximum_of_everything,
    ],
    "03.2": [one_token_too_many, looks_both_ways, marks_what_is_hidden, ones_and_zeros],
    "03.3": [
        identity_for_the_keys,
        biases_forgotten,
        output_projection_forgotten,
        context_too_short,
    ],
    "03.4": [
        only_the_first_output,
        only_the_last_token,
        only_the_second_token,
        one_output_too_few,
        counts_the_token_itself,
    ],
    "03.5": [heads_in_the_wrong_order, not_causal, groups_not_repeated, not_divided_by_the_root],
}
