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


def the_softmax_itself(scores, dim=-1):
    return torch.softmax(scores, dim=dim)


def uses_torch(scores, dim=-1):
    return torch.log_softmax(scores, dim=dim)


def uses_functional(scores, dim=-1):
    return F.log_softmax(scores, dim)


def uses_logsumexp(scores, dim=-1):
    return scores - scores.logsumexp(dim, keepdim=True)


def looks_at_itself(n):
    return 100 * torch.eye(n), torch.eye(n)


def queries_and_keys_swapped(n):
    return torch.eye(n), 100 * torch.diag(torch.ones(n - 1), diagonal=-1)


def previous_but_quiet(n):
    W_query = torch.zeros(n, n)
    W_query[range(1, n), range(n - 1)] = 5.0
    return W_query, torch.eye(n)


def i_and_j(segments):
    return torch.arange(len(segments))[:, None], torch.arange(len(segments))


def documents_ignored(segments, window):
    i, j = i_and_j(segments)
    seen = segments != -1
    return (j <= i) & (i - j < window) & seen & seen[:, None]


def padding_sees_padding(segments, window):
    i, j = i_and_j(segments)
    return (j <= i) & (i - j < window) & (segments == segments[:, None])


def one_token_too_many(segments, window):
    i, j = i_and_j(segments)
    same = (segments == segments[:, None]) & (segments != -1)
    return (j <= i) & (i - j <= window) & same


def looks_both_ways(segments, window):
    i, j = i_and_j(segments)
    same = (segments == segments[:, None]) & (segments != -1)
    return ((i - j).abs() < window) & same


def looks_ahead(segments, window):
    i, j = i_and_j(segments)
    return (i - j < window) & (segments == segments[:, None]) & (segments != -1)


def marks_what_is_hidden(segments, window):
    i, j = i_and_j(segments)
    same = (segments == segments[:, None]) & (segments != -1)
    return ~((j <= i) & (i - j < window) & same)


def ones_and_zeros(segments, window):
    i, j = i_and_j(segments)
    same = (segments == segments[:, None]) & (segments != -1)
    return ((j <= i) & (i - j < window) & same).float()


def results_of_heads(layer, x, causal=True):
    q, k, v = (
        part.unflatten(-1, (layer.n_heads, -1)).transpose(1, 2)
        for part in layer.c_attn(x).chunk(3, dim=-1)
    )
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def bias_in_every_head(layer, x):
    W = layer.c_proj.weight.unflatten(1, (layer.n_heads, -1))
    return torch.einsum("bhtd,chd->bhtc", results_of_heads(layer, x), W) + layer.c_proj.bias


def rows_of_the_projection(layer, x):
    W = layer.c_proj.weight.unflatten(0, (layer.n_heads, -1))
    return torch.einsum("bhtd,hdc->bhtc", results_of_heads(layer, x), W)


def heads_without_a_mask(layer, x):
    W = layer.c_proj.weight.unflatten(1, (layer.n_heads, -1))
    return torch.einsum("bhtd,chd->bhtc", results_of_heads(layer, x, causal=False), W)


def results_before_the_projection(layer, x):
    return results_of_heads(layer, x)


def one_softmax_a_block(q, blocks):
    parts = [(k @ q / len(q) ** 0.5).softmax(0) @ v for k, v in blocks]
    return sum(parts) / len(parts)


def no_maximum(q, blocks):
    total, summed = 0.0, 0.0
    for k, v in blocks:
        powers = (k @ q / len(q) ** 0.5).exp()
        total, summed = total + powers.sum(), summed + powers @ v
    return summed / total


def keeps_the_blocks(q, blocks):
    keys, values = zip(*blocks)
    return (torch.cat(keys) @ q / len(q) ** 0.5).softmax(0) @ torch.cat(values)


def running(q, blocks, root, rescale=True):
    largest, total, summed = torch.tensor(-torch.inf), 0.0, 0.0
    for k, v in blocks:
        scores = k @ q / root
        new = torch.maximum(largest, scores.max())
        old = (largest - new).exp() if rescale else 1.0
        powers = (scores - new).exp()
        total, summed, largest = old * total + powers.sum(), old * summed + powers @ v, new
    return summed / total


def old_sums_not_rescaled(q, blocks):
    return running(q, blocks, len(q) ** 0.5, rescale=False)


def blocks_undivided(q, blocks):
    return running(q, blocks, 1.0)


def blocks_divided_by_d(q, blocks):
    return running(q, blocks, len(q))


def only_the_last_block(q, blocks):
    for k, v in blocks:
        result = (k @ q / len(q) ** 0.5).softmax(0) @ v
    return result


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


def divided_by_d(q, k, v):
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])


def gradients(args, rows=32, root=2, lse=1.0, own=1.0, sign=1.0, everything=False, safe=True):
    """Return the four gradients for d = 4, by blocks of rows, or with a part that is wrong."""
    q, k, v, bias, out, logsumexp, d_out, d_logsumexp = args
    T, S, W = len(q), len(k), len(bias)
    d_q, d_k, d_v, d_bias = (torch.zeros_like(part) for part in args[:4])
    for a in range(0, T, rows):
        b = min(a + rows, T)
        low, high = max(0, a + S - T - W + 1), b + S - T
        if everything:
            low, high = 0, S
        back = torch.arange(a + S - T, b + S - T)[:, None] - torch.arange(low, high)
        seen = (back >= 0) & (back < W)
        scores = q[a:b] @ k[low:high].T / q.shape[1] ** 0.5 + bias[back.clamp(0, W - 1)]
        if safe:
            weights = (scores - logsumexp[a:b, None]).exp().where(seen, 0.0)
        else:
            weights = scores.exp() / logsumexp[a:b, None].exp() * seen
        mean = own * (d_out[a:b] * out[a:b]).sum(1) - lse * d_logsumexp[a:b]
        d_scores = sign * weights * (d_out[a:b] @ v[low:high].T - mean[:, None])
        scale = 1.0 if root == 1 else q.shape[1] ** 0.5
        d_v[low:high] += weights.T @ d_out[a:b]
        d_q[a:b] = d_scores @ k[low:high] / scale
        d_k[low:high] += d_scores.T @ q[a:b] / scale
        d_bias.index_add_(0, back[seen], d_scores[seen])
    return d_q, d_k, d_v, d_bias


def logsumexp_forgotten(*args):
    return gradients(args, lse=0.0)


def logsumexp_subtracted(*args):
    return gradients(args, lse=-1.0)


def softmax_not_undone(*args):
    return gradients(args, own=0.0)


def gradients_of_the_opposite_sign(*args):
    return gradients(args, sign=-1.0)


def gradients_undivided(*args):
    return gradients(args, root=1)


def powers_that_overflow(*args):
    return gradients(args, safe=False)


def all_scores_at_once(*args):
    return gradients(args, rows=10**6, everything=True)


def all_keys_of_each_block(*args):
    return gradients(args, everything=True, rows=16)


def values_unweighted(*args):
    d_q, d_k, _, d_bias = gradients(args)
    back = torch.arange(len(args[1]) - len(args[0]), len(args[1]))[:, None]
    back = back - torch.arange(len(args[1]))
    return d_q, d_k, ((back >= 0) & (back < len(args[3]))).float().T @ args[6], d_bias


def queries_are_the_first_tokens(*args):
    T, S = len(args[0]), len(args[1])
    d_q, d_k, d_v, d_bias = gradients([args[0], args[1][:T], args[2][:T], *args[3:]])
    return d_q, F.pad(d_k, (0, 0, 0, S - T)), F.pad(d_v, (0, 0, 0, S - T)), d_bias


def a_strip_of_the_window(q, k, v, bias, out, logsumexp, d_out, d_logsumexp):
    """Right, with a number for each query and distance."""
    T, S, W, root = len(q), len(k), len(bias), q.shape[1] ** 0.5
    at = torch.arange(S - T, S)[:, None] - torch.arange(W)  # (T, W): which key is how far back
    seen, at = at >= 0, at.clamp(min=0)
    scores = (q[:, None] * k[at]).sum(-1) / root + bias
    weights = (scores - logsumexp[:, None]).exp().where(seen, 0.0)
    d_weights = (d_out[:, None] * v[at]).sum(-1)
    d_scores = weights * (d_weights + (d_logsumexp - (d_out * out).sum(1))[:, None])
    d_k, d_v = torch.zeros_like(k), torch.zeros_like(v)
    d_k.index_add_(0, at.flatten(), (d_scores[..., None] * q[:, None] / root).flatten(0, 1))
    d_v.index_add_(0, at.flatten(), (weights[..., None] * d_out[:, None]).flatten(0, 1))
    return (d_scores[..., None] * k[at]).sum(1) / root, d_k, d_v, d_scores.sum(0)


def by_autograd(q, k, v, bias, out, logsumexp, d_out, d_logsumexp):
    leaves = [part.clone().requires_grad_() for part in (q, k, v, bias)]
    q, k, v, bias = leaves
    back = torch.arange(len(k) - len(q), len(k))[:, None] - torch.arange(len(k))
    seen = (back >= 0) & (back < len(bias))
    scores = q @ k.T / q.shape[1] ** 0.5 + bias[back.clamp(0, len(bias) - 1)]
    scores = scores.masked_fill(~seen, -torch.inf)
    found = (scores.softmax(-1) @ v, scores.logsumexp(-1))
    return torch.autograd.grad(found, leaves, (d_out, d_logsumexp))


def three_gradients(*args):
    return gradients(args)[:3]


def backing_off(V, P, *, step=10.0, first=3.0, second=1.0, sink=2.5, key="before", value=0):
    """Return the layers of the solution, or with scores that are out of order."""
    C, d, parts = 4 * V + P, 2 * V + P // 2, {"before": V + P, "earlier": 2 * V + P, "word": 0}
    layers = [CausalAttention(C, 2, P), CausalAttention(C, 1, P)]
    with torch.no_grad():
        for parameter in [*layers[0].parameters(), *layers[1].parameters()]:
            parameter.zero_()
        look, find = (layer.c_attn.weight for layer in layers)
        for head, back in ((0, 1), (1, 2)):
            for i in range(P):
                look[C + head * d + i, V + i] = 1.0
                if i >= back:
                    look[head * d + i - back, V + i] = 100 * d**0.5
            for i in range(V):
                look[2 * C + head * d + i, i] = 1.0
                layers[0].c_proj.weight[V + P + head * V + i, head * d + i] = 1.0
        level = abs(step) * (P + 1) + 10
        for i in range(V):
            find[i, i], find[C + i, parts[key] + i] = first * level * C**0.5, 1.0
            find[V + i, V + P + i], find[C + V + i, 2 * V + P + i] = second * level * C**0.5, 1.0
            find[2 * C + i, i] = float(i > 0) if value == 0 else 1.0
            layers[1].c_proj.weight[3 * V + P + i, i] = 1.0
        layers[1].c_attn.bias[2 * V] = C**0.5
        find[C + 2 * V, V : V + P] = step * torch.arange(P)
        find[C + 2 * V, 0] = sink * level
    return layers[0], layers[1]


def the_first_place_wins(vocab_size, context_length):
    return backing_off(vocab_size, context_length, step=-10.0)


def no_place_wins(vocab_size, context_length):
    return backing_off(vocab_size, context_length, step=0.0)


def steps_too_small(vocab_size, context_length):
    return backing_off(vocab_size, context_length, step=1.0)


def the_last_word_alone(vocab_size, context_length):
    return backing_off(vocab_size, context_length, second=0.0)


def only_the_word_before_agrees(vocab_size, context_length):
    return backing_off(vocab_size, context_length, first=1.5, second=1.5, sink=1.2)


def no_place_to_rest(vocab_size, context_length):
    return backing_off(vocab_size, context_length, sink=0.0)


def rests_on_itself(vocab_size, context_length):
    return backing_off(vocab_size, context_length, key="word")


def word_0_is_handed_over(vocab_size, context_length):
    return backing_off(vocab_size, context_length, value=1)


def always_at_rest(vocab_size, context_length):
    return backing_off(vocab_size, context_length, sink=9.0)


def layers_that_do_nothing(vocab_size, context_length):
    C = 4 * vocab_size + context_length
    return CausalAttention(C, 2, context_length), CausalAttention(C, 1, context_length)


def one_head_in_each_layer(vocab_size, context_length):
    C = 4 * vocab_size + context_length
    return CausalAttention(C, 1, context_length), CausalAttention(C, 1, context_length)


WRONG = {
    "03.1": [
        log_of_the_softmax,
        maximum_not_subtracted,
        always_the_last_dimension,
        maximum_of_everything,
        the_softmax_itself,
        uses_torch,
        uses_functional,
        uses_logsumexp,
    ],
    "03.2": [looks_at_itself, queries_and_keys_swapped, previous_but_quiet],
    "03.3": [
        documents_ignored,
        padding_sees_padding,
        one_token_too_many,
        looks_both_ways,
        looks_ahead,
        marks_what_is_hidden,
        ones_and_zeros,
    ],
    "03.4": [
        bias_in_every_head,
        rows_of_the_projection,
        heads_without_a_mask,
        results_before_the_projection,
    ],
    "03.5": [
        one_softmax_a_block,
        no_maximum,
        keeps_the_blocks,
        old_sums_not_rescaled,
        blocks_undivided,
        blocks_divided_by_d,
        only_the_last_block,
    ],
    "03.6": [
        heads_in_the_wrong_order,
        not_causal,
        groups_not_repeated,
        not_divided_by_the_root,
        divided_by_d,
    ],
    "03.7": [
        logsumexp_forgotten,
        logsumexp_subtracted,
        softmax_not_undone,
        gradients_of_the_opposite_sign,
        gradients_undivided,
        values_unweighted,
        powers_that_overflow,
        queries_are_the_first_tokens,
        all_scores_at_once,
        a_strip_of_the_window,
        all_keys_of_each_block,
        by_autograd,
        three_gradients,
    ],
    "03.8": [
        the_first_place_wins,
        no_place_wins,
        steps_too_small,
        the_last_word_alone,
        only_the_word_before_agrees,
        no_place_to_rest,
        rests_on_itself,
        word_0_is_handed_over,
        always_at_rest,
        layers_that_do_nothing,
        one_head_in_each_layer,
    ],
}
