"""What the exercises of notebook 10 ask for, and mistakes made on purpose, for its checks."""

import codecs

import torch

from llmlib.exercises import noise


def rounded(weight: torch.Tensor, group: int, steps: int = 127) -> torch.Tensor:
    """What 10.3 asks for."""
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / steps
    return ((parts / scale).round() * scale).view_as(weight)


def cut_off(weight, group):
    """The mistake of 10.3 that truncates."""
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True) / 127
    return ((parts / scale).trunc() * scale).view_as(weight)


def next_id(text, stop):
    """The model of 10.4: counts down from its last id to `stop`."""
    return max(int(text[-1]) - 1, stop)


def served_at_once(prompts, slots, stop, most):
    """What 10.4 asks for: texts, and steps."""
    length = [min(max(prompt[-1] - stop, 1), most) for prompt in prompts]
    texts = []
    for prompt, n in zip(prompts, length):
        text = list(prompt)
        for _ in range(n):
            text.append(next_id(text, stop))
        texts.append(text)
    places = [0] * slots  # when each is free again
    for n in length:
        first = places.index(min(places))
        places[first] += n
    batches = [max(length[at : at + slots]) for at in range(0, len(length), slots)]
    return texts, max(places), sum(batches)


def repaired(pieces):
    """What 10.5 asks for: Python's own decoder, which waits."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(piece) for piece in pieces] + [decoder.decode(b"", final=True)]


def chain(table, ids):
    """Probabilities of the next id in a small world: they depend on the last two."""
    return list(table[tuple(ids[-2:])])


def all_texts(table, n):
    """The likeliest text, by trying all."""
    texts = {(): 1.0}
    for _ in range(n):
        texts = {
            (*text, i): p * q for text, p in texts.items() for i, q in enumerate(chain(table, text))
        }
    return max(texts, key=lambda text: texts[text])


def beam_of(table, n, width):
    """What beam search finds."""
    beams = [((), 1.0)]
    for _ in range(n):
        longer = [((*t, i), p * q) for t, p in beams for i, q in enumerate(chain(table, t))]
        beams = sorted(longer, key=lambda beam: -beam[1])[:width]
    return beams[0][0]


def random_world(seed, n_ids=3):
    """Random tables of `chain`; some probabilities are 0."""
    table = {}
    contexts: list[tuple] = [(), *((i,) for i in range(n_ids))]
    contexts += [(i, j) for i in range(n_ids) for j in range(n_ids)]
    for number, context in enumerate(contexts):
        weights = (3 * noise(n_ids, seed=1000 * seed + number)).exp()
        weights[number % n_ids] *= float(number % 4 != 0)
        table[context] = [round(float(w), 6) for w in weights / weights.sum()]
    return table
