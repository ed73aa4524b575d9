"""Plausible wrong answers to the exercises of notebook 08: each must be refused."""

import json

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot, scaled_dot_product_attention


def computes_all_rows(model, ids):
    return model(ids)[0, -1]


def keeps_the_batch(model, ids):
    return model(ids)[:, -1]


def takes_the_first_row(model, ids):
    return model(ids)[0, 0]


def forgets_the_final_norm(model, ids):
    x = model.wte(ids) + model.wpe.weight[: ids.shape[1]]
    for block in model.h:
        x = block(x)
    return x[0, -1] @ model.wte.weight.T


def sees_only_the_last_token(model, ids):
    return model(ids[:, -1:])[0, 0]


def counts_weights(shapes, name):
    begin = sum(int(np.prod(shapes[other])) for other in shapes if other < name)
    return begin, begin + int(np.prod(shapes[name]))


def keeps_the_order_given(shapes, name):
    begin = 0
    for other, shape in shapes.items():
        if other == name:
            return begin, begin + 4 * int(np.prod(shape))
        begin += 4 * int(np.prod(shape))


def sorts_blocks_as_numbers(shapes, name):
    def key(other):
        block = other.split("/")[0].removeprefix("h")
        return (0, int(block), other) if block.isdigit() else (1, 0, other)

    begin = 4 * sum(int(np.prod(shapes[other])) for other in shapes if key(other) < key(name))
    return begin, begin + 4 * int(np.prod(shapes[name]))


def names_the_last_byte(shapes, name):
    begin = 4 * sum(int(np.prod(shapes[other])) for other in shapes if other < name)
    return begin, begin + 4 * int(np.prod(shapes[name])) - 1


def write(model, folder, items, turn=lambda name: False, dtype="<f4"):
    n_embd = model.wte.embedding_dim
    sizes = {"n_vocab": model.wte.num_embeddings, "n_ctx": model.wpe.num_embeddings}
    sizes |= {"n_embd": n_embd, "n_head": model.h[0].attn.n_head, "n_layer": len(model.h)}
    (folder / "hparams.json").write_text(json.dumps(sizes))
    with (folder / "model.ckpt.data-00000-of-00001").open("wb") as file:
        for name, weight in items:
            part = weight.T if turn(name) and weight.ndim == 2 else weight
            file.write(part.contiguous().numpy().astype(dtype).tobytes())


def does_not_transpose(model, folder):
    write(model, folder, sorted(model.state_dict().items()))


def does_not_sort(model, folder):
    write(model, folder, model.state_dict().items(), lambda name: name.startswith("h."))


def transposes_everything(model, folder):
    write(model, folder, sorted(model.state_dict().items()), lambda name: True)


def writes_doubles(model, folder):
    turn = lambda name: name.startswith("h.")  # noqa: E731
    write(model, folder, sorted(model.state_dict().items()), turn, "<f8")


def guesses_the_heads(model, folder):
    heads = model.h[0].attn.n_head
    model.h[0].attn.n_head = 12
    write(model, folder, sorted(model.state_dict().items()), lambda name: name.startswith("h."))
    model.h[0].attn.n_head = heads


def turns_the_weights_of_the_model(model, folder):
    for name, weight in model.named_parameters():
        if name.startswith("h.") and weight.ndim == 2:
            weight.data = weight.data.T.contiguous()
    write(model, folder, sorted(model.state_dict().items()))


def changes_what_it_is_given(logits, temperature, top_k):
    if temperature == 0:
        return one_hot(logits.argmax(), len(logits)).float()
    logits[logits < logits.topk(min(top_k, len(logits))).values[-1]] = -torch.inf
    return (logits / temperature).softmax(0)


def divides_in_place(logits, temperature, top_k):
    if temperature == 0:
        return one_hot(logits.argmax(), len(logits)).float()
    logits /= temperature
    kept = logits >= logits.topk(min(top_k, len(logits))).values[-1]
    return torch.where(kept, logits, -torch.inf).softmax(0)


def divides_by_zero(logits, temperature, top_k):
    kept = logits >= logits.topk(min(top_k, len(logits))).values[-1]
    return torch.where(kept, logits / temperature, -torch.inf).softmax(0)


def does_not_divide_again(logits, temperature, top_k):
    if temperature == 0:
        return one_hot(logits.argmax(), len(logits)).float()
    p = (logits / temperature).softmax(0)
    return torch.where(p >= p.topk(min(top_k, len(logits))).values[-1], p, 0.0)


def multiplies_by_the_temperature(logits, temperature, top_k):
    if temperature == 0:
        return one_hot(logits.argmax(), len(logits)).float()
    kept = logits >= logits.topk(min(top_k, len(logits))).values[-1]
    return torch.where(kept, logits * temperature, -torch.inf).softmax(0)


def windows_of(model, ids, n_ctx, stride):
    for start in range(0, len(ids) - 1, stride):
        targets = torch.tensor(ids[start + 1 : start + n_ctx + 1])
        with torch.no_grad():
            logits = model(torch.tensor([ids[start : start + n_ctx]]))[0, : len(targets)]
        yield start, cross_entropy(logits, targets, reduction="none")
        if start + n_ctx >= len(ids) - 1:
            return


def counts_overlaps_again(model, ids, n_ctx, stride):
    return torch.cat([x for _, x in windows_of(model, ids, n_ctx, stride)]).mean().item()


def does_not_overlap(model, ids, n_ctx, stride):
    return torch.cat([x for _, x in windows_of(model, ids, n_ctx, n_ctx)]).mean().item()


def averages_windows(model, ids, n_ctx, stride):
    means, counted = [], 0
    for start, losses in windows_of(model, ids, n_ctx, stride):
        means.append(losses[counted - start :].mean())
        counted = start + len(losses)
    return torch.stack(means).mean().item()


def gives_the_sum(model, ids, n_ctx, stride):
    total, counted = 0.0, 0
    for start, losses in windows_of(model, ids, n_ctx, stride):
        total += losses[counted - start :].sum().item()
        counted = start + len(losses)
    return total


def one_by_one(model, prompts, n):
    texts = [list(prompt) for prompt in prompts]
    for text in texts:
        for _ in range(n):
            with torch.no_grad():
                text.append(model(torch.tensor([text]))[0, -1].argmax().item())
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts)]


def together(whole=False, first=False, pad=False, norm=True, cache=True):
    @torch.no_grad()
    def step(model, kept, tokens, place):
        x = model.wte(tokens)[:, None] + model.wpe.weight[place]
        for i, block in enumerate(model.h):
            attn = block.attn
            parts = attn.c_attn(block.ln_1(x)).chunk(3, dim=2)
            q, k, v = (p.unflatten(2, (attn.n_head, -1)).transpose(1, 2) for p in parts)
            if place:
                k, v = torch.cat([kept[i][0], k], 2), torch.cat([kept[i][1], v], 2)
            kept[i] = k, v
            mixed = scaled_dot_product_attention(q, k, v)
            x = x + attn.c_proj(mixed.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.ln_2(x))
        return ((model.ln_f(x[:, 0]) if norm else x[:, 0]) @ model.wte.weight.T).argmax(1)

    @torch.no_grad()
    def grow(model, prompts, n):
        texts, rows, kept = [list(p) for p in prompts], list(range(len(prompts))), {}
        longest = max(map(len, prompts))
        for place in range(longest + n - 1):
            if not cache:
                kept = {}
            tokens = [texts[row][place] for row in rows]
            best = step(model, kept, torch.tensor(tokens), place if cache else 0)
            for row, token in zip(rows, best.tolist()):
                if len(texts[row]) == place + 1:
                    texts[row].append(token)
            going = [j for j, r in enumerate(rows) if pad or place + 2 < len(prompts[r]) + n]
            kept = {i: (k[going], v[going]) for i, (k, v) in kept.items()}
            rows = [rows[j] for j in going]
        begins = [0 if whole else len(prompt) + first for prompt in prompts]
        ends = [len(prompt) + n for prompt in prompts]
        return [text[begin:end] for text, begin, end in zip(texts, begins, ends)]

    return grow


def stays_at_the_first_position(model, prompts, n):
    rows = model.wpe.weight.data.clone()
    model.wpe.weight.data[:] = rows[0]
    found = one_by_one(model, prompts, n)
    model.wpe.weight.data[:] = rows
    return found


def cached_one_by_one(model, prompts, n):
    return [together()(model, [prompt], n)[0] for prompt in prompts]


def backward_at_once(model, ids, scale=1.0):
    logits = model(ids[:, :-1])
    loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    (loss * scale).backward()
    return loss.item()


def backward_by_blocks(embeddings=True, head=True, hold=False, replace=False, sums=False):
    def backward(model, ids):
        inputs, n = ids[:, :-1], ids[:, 1:].numel()
        if replace:
            model.zero_grad()
        with torch.no_grad():
            states = [model.wte(inputs) + model.wpe.weight[: inputs.shape[1]]]
            for block in model.h:
                states.append(block(states[-1]))
        blocks = list(zip(model.h, [state.detach().requires_grad_() for state in states]))
        held = [block(x) for block, x in blocks] if hold else None
        top = states[-1].requires_grad_()
        table = model.wte.weight if head else model.wte.weight.detach()
        logits = (model.ln_f(top) @ table.T).flatten(0, 1)
        loss = cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum" if sums else "mean")
        loss.backward()
        upstream = top.grad
        for i, (block, x) in reversed(list(enumerate(blocks))):
            (held[i] if hold else block(x)).backward(upstream)
            upstream = x.grad
        if embeddings:
            (model.wte(inputs) + model.wpe.weight[: inputs.shape[1]]).backward(upstream)
        return loss.item() if n else 0.0

    return backward


WRONG = {
    "08.1": [
        computes_all_rows,
        keeps_the_batch,
        takes_the_first_row,
        forgets_the_final_norm,
        sees_only_the_last_token,
    ],
    "08.2": [counts_weights, keeps_the_order_given, sorts_blocks_as_numbers, names_the_last_byte],
    "08.3": [
        does_not_transpose,
        does_not_sort,
        transposes_everything,
        writes_doubles,
        guesses_the_heads,
        turns_the_weights_of_the_model,
    ],
    "08.4": [
        changes_what_it_is_given,
        divides_in_place,
        divides_by_zero,
        does_not_divide_again,
        multiplies_by_the_temperature,
    ],
    "08.5": [counts_overlaps_again, does_not_overlap, averages_windows, gives_the_sum],
    "08.6": [
        one_by_one,
        cached_one_by_one,
        stays_at_the_first_position,
        together(whole=True),
        together(first=True),
        together(pad=True),
        together(norm=False),
        together(cache=False),
    ],
    "08.7": [
        backward_at_once,
        *(backward_by_blocks(**{part: False}) for part in ("embeddings", "head")),
        *(backward_by_blocks(**{way: True}) for way in ("hold", "replace", "sums")),
    ],
}
