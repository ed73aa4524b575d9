"""Plausible wrong answers to the exercises of notebook 08: each must be refused."""

import json

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot


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


def computes_everything_again(model, ids, n):
    text = list(ids)
    for _ in range(n):
        with torch.no_grad():
            text.append(model(torch.tensor([text]))[0, -1].argmax().item())
    return text[len(ids) :]


def gives_the_whole_text(model, ids, n):
    return list(ids) + computes_everything_again(model, ids, n)


def stays_at_the_first_position(model, ids, n):
    rows = model.wpe.weight.data.clone()
    model.wpe.weight.data[:] = rows[0]
    found = computes_everything_again(model, ids, n)
    model.wpe.weight.data[:] = rows
    return found


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
    "08.6": [computes_everything_again, gives_the_whole_text, stays_at_the_first_position],
}
