"""Plausible wrong answers to the exercises of notebook 10: each must be refused."""

import math

import torch
import torch.nn.functional as F


def shared(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def takes_over_nothing(prompts):
    return sum(map(len, prompts))


def does_not_read_the_last_token(prompts):
    longest = [max((shared(p, q) for q in prompts[:n]), default=0) for n, p in enumerate(prompts)]
    return sum(len(p) - n for p, n in zip(prompts, longest))


def looks_at_the_prompt_before(prompts):
    total, before = 0, []
    for prompt in prompts:
        total += len(prompt) - min(shared(prompt, before), len(prompt) - 1)
        before = prompt
    return total


def shares_tokens_anywhere(prompts):
    total, known = 0, set()
    for prompt in prompts:
        total += max(1, sum(token not in known for token in prompt))
        known |= set(prompt)
    return total


def takes_the_first_that_is_shared(prompts):
    total = 0
    for n, prompt in enumerate(prompts):
        found = next((m for q in prompts[:n] if (m := shared(prompt, q))), 0)
        total += len(prompt) - min(found, len(prompt) - 1)
    return total


def attention(q, k, v, cache, repeat, mask):
    if cache:
        k, v = torch.cat([cache[0], k], 1), torch.cat([cache[1], v], 1)
    cache[:] = [k, v]
    k, v = (repeat(part, len(q) // len(part)) for part in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask(q.shape[1], k.shape[1]))


def by_neighbours(part, n):
    return part.repeat_interleave(n, dim=0)


def behind_the_old(T, S):
    return torch.ones(T, S, dtype=torch.bool).tril(S - T)


def takes_the_heads_in_turns(q, k, v, cache):
    return attention(q, k, v, cache, lambda x, n: x.repeat(n, 1, 1), behind_the_old)


def sees_the_future(q, k, v, cache):
    return attention(q, k, v, cache, by_neighbours, lambda T, S: None)


def hides_the_old_tokens(q, k, v, cache):
    def mask(T, S):
        return torch.ones(T, S, dtype=torch.bool).tril()

    return attention(q, k, v, cache, by_neighbours, mask)


def keeps_the_repeated_heads(q, k, v, cache):
    k, v = (by_neighbours(part, len(q) // len(part)) for part in (k, v))
    return attention(q, k, v, cache, lambda x, n: x, behind_the_old)


def keeps_nothing(q, k, v, cache):
    return attention(q, k, v, [], by_neighbours, behind_the_old)


def has_a_scale_for_each_row(weight, group):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


def has_one_scale(weight, group):
    scale = weight.abs().max() / 127
    return (weight / scale).round() * scale


def divides_zero_by_zero(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True) / 127
    return ((parts / scale).round() * scale).view_as(weight)


def cuts_off(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return ((parts / scale).trunc() * scale).view_as(weight)


def goes_to_128(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 128
    return ((parts / scale).round() * scale).view_as(weight)


def groups_the_rows(weight, group):
    return divides_zero_by_zero(weight.T.contiguous().view(-1, weight.shape[1]), group)


def serve_in_batches(step, prompts, slots, stop, most, keep=False):
    done = []
    for at in range(0, len(prompts), slots):
        texts = [list(prompt) for prompt in prompts[at : at + slots]]
        ends = [len(text) + most for text in texts]
        going = list(range(len(texts)))
        while going:
            asked = range(len(texts)) if keep else going
            for row, token in zip(asked, step([texts[row] for row in asked])):
                if row in going:
                    texts[row].append(token)
            going = [r for r in going if texts[r][-1] != stop and len(texts[r]) < ends[r]]
        done += texts
    return done


def waits_for_the_batch(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, slots, stop, most)


def asks_for_finished_rows(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, slots, stop, most, keep=True)


def takes_all_at_once(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, len(prompts), stop, most)


def serve_at_once(step, prompts, slots, stop, most):
    waiting, going, finished = list(enumerate(prompts)), [], []
    while waiting or going:
        while waiting and len(going) < slots:
            row, prompt = waiting.pop(0)
            going.append((row, list(prompt)))
        for (_, text), token in zip(going, step([text for _, text in going])):
            text.append(token)
        ended = [
            (row, text)
            for row, text in going
            if text[-1] == stop or len(text) == len(prompts[row]) + most
        ]
        finished += ended
        going = [item for item in going if item not in ended]
    return finished


def returns_them_as_they_end(step, prompts, slots, stop, most):
    return [text for _, text in serve_at_once(step, prompts, slots, stop, most)]


def drops_the_prompts(step, prompts, slots, stop, most):
    texts = sorted(serve_at_once(step, prompts, slots, stop, most))
    return [text[len(prompts[row]) :] for row, text in texts]


def drops_the_stop(step, prompts, slots, stop, most):
    texts = sorted(serve_at_once(step, prompts, slots, stop, most))
    return [text[:-1] if text[-1] == stop else text for _, text in texts]


def serves_one_at_a_time(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, 1, stop, most)


def decodes_each_piece(pieces):
    return [piece.decode(errors="replace") for piece in pieces] + [""]


def forgets_the_rest(pieces):
    return wait_for_all(pieces)[:-1]


def wait_for_all(pieces):
    shown, data = [], b""
    for piece in pieces:
        data += piece
        try:
            shown.append(data.decode())
            data = b""
        except UnicodeDecodeError:
            shown.append("")
    return [*shown, data.decode(errors="replace")]


def waits_for_bytes_that_are_broken(pieces):
    return wait_for_all(pieces)


def loses_what_is_broken(pieces):
    return [piece.decode(errors="ignore") for piece in pieces] + [""]


def best_of(speed):
    return speed.index(max(speed))


def tokens(a, K):
    return sum(a**k for k in range(K + 1))


def forgets_the_longer_reading(a, c, reading):
    return best_of([tokens(a, K) / (1 + K * c) for K in range(len(reading))])


def forgets_the_extra_token(a, c, reading):
    return best_of([(tokens(a, K) - 1) / (K * c + r) for K, r in enumerate(reading)])


def forgets_the_draft(a, c, reading):
    return best_of([tokens(a, K) / r for K, r in enumerate(reading)])


def counts_from_one(a, c, reading):
    return 1 + best_of([tokens(a, K) / (K * c + r) for K, r in enumerate(reading)])


def counts_on_all_drafts(a, c, reading):
    return best_of([(1 + a * K) / (K * c + r) for K, r in enumerate(reading)])


def is_greedy(next_probs, n):
    text = ()
    for _ in range(n):
        probs = next_probs(text)
        text += (probs.index(max(probs)),)
    return text


def has_a_beam_of_two(next_probs, n):
    beams = [((), 1.0)]
    for _ in range(n):
        longer = [((*t, i), p * q) for t, p in beams for i, q in enumerate(next_probs(t))]
        beams = sorted(longer, key=lambda beam: -beam[1])[:2]
    return beams[0][0]


def tries_all_texts(next_probs, n):
    texts = {(): 0.0}
    for _ in range(n):
        texts = {
            (*text, i): total + math.log(max(p, 1e-300))
            for text, total in texts.items()
            for i, p in enumerate(next_probs(text))
        }
    return max(texts, key=texts.get)


WRONG = {
    "10.1": [
        takes_over_nothing,
        does_not_read_the_last_token,
        looks_at_the_prompt_before,
        shares_tokens_anywhere,
        takes_the_first_that_is_shared,
    ],
    "10.2": [
        takes_the_heads_in_turns,
        sees_the_future,
        hides_the_old_tokens,
        keeps_the_repeated_heads,
        keeps_nothing,
    ],
    "10.3": [
        has_a_scale_for_each_row,
        has_one_scale,
        divides_zero_by_zero,
        cuts_off,
        goes_to_128,
        groups_the_rows,
    ],
    "10.4": [
        waits_for_the_batch,
        asks_for_finished_rows,
        takes_all_at_once,
        returns_them_as_they_end,
        drops_the_prompts,
        drops_the_stop,
        serves_one_at_a_time,
    ],
    "10.5": [
        decodes_each_piece,
        forgets_the_rest,
        waits_for_bytes_that_are_broken,
        loses_what_is_broken,
    ],
    "10.6": [
        forgets_the_longer_reading,
        forgets_the_extra_token,
        forgets_the_draft,
        counts_on_all_drafts,
        counts_from_one,
    ],
    "10.7": [is_greedy, has_a_beam_of_two, tries_all_texts],
}
