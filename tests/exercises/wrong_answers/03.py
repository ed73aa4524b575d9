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


def divided_by_d(q, k, v):
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])


def never_sees_the_future(layer, x):
    return False


def two_layers(V, P, query=0, key="before", value=0, target="after", loud=100.0):
    """Return the two layers of the solution, or with a part that reads the wrong numbers."""
    C, token, place, before, after = 3 * V + P, 0, V, V + P, 2 * V + P
    parts = {"token": token, "before": before, "after": after}
    layers = [CausalAttention(C, 1, P), CausalAttention(C, 1, P)]
    with torch.no_grad():
        for parameter in [*layers[0].parameters(), *layers[1].parameters()]:
            parameter.zero_()
        first, second = layers
        for i in range(P - 1):
            first.c_attn.weight[i, place + i + 1] = loud * C**0.5
        for i in range(P):
            first.c_attn.weight[C + i, place + i] = 1.0
        for i in range(V):
            first.c_attn.weight[2 * C + i, token + i] = 1.0
            first.c_proj.weight[before + i, i] = 1.0
            second.c_attn.weight[i, parts.get(query, token) + i] = loud * C**0.5
            second.c_attn.weight[C + i, parts[key] + i] = 1.0
            second.c_attn.weight[2 * C + i, parts.get(value, token) + i] = 1.0
            second.c_proj.weight[parts[target] + i, i] = 1.0
    return first, second


def finds_the_word_itself(vocab_size, context_length):
    return two_layers(vocab_size, context_length, key="token")


def hands_over_the_word_before(vocab_size, context_length):
    return two_layers(vocab_size, context_length, key="token", value="before")


def written_in_the_wrong_place(vocab_size, context_length):
    return two_layers(vocab_size, context_length, target="before")


def too_quiet_to_find(vocab_size, context_length):
    return two_layers(vocab_size, context_length, loud=0.01)


def layers_that_do_nothing(vocab_size, context_length):
    C = 3 * vocab_size + context_length
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
        only_the_first_output,
        only_the_last_token,
        only_the_second_token,
        one_output_too_few,
        counts_the_token_itself,
        never_sees_the_future,
    ],
    "03.8": [
        finds_the_word_itself,
        hands_over_the_word_before,
        written_in_the_wrong_place,
        too_quiet_to_find,
        layers_that_do_nothing,
    ],
}
