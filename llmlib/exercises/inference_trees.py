"""Check of exercise 10.6: a tree of drafts, read in one call."""

import torch

from llmlib.exercises import case, exercise, noise
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT

SHAPE = {"emb_dim": 32, "n_heads": 4, "n_layers": 2, "drop_rate": 0.0, "qkv_bias": True}
# (parent, whether the node is the model's own choice after the branch so far)
TREES: list[list[tuple[int, bool]]] = [
    [(-1, False), (-1, True), (1, True), (1, False)],
    [],
    [(-1, True), (0, True), (1, False), (2, True)],
    [(-1, False), (-1, True), (0, True), (1, False), (1, True), (2, True), (4, True)],
    [(-1, True), (-1, True), (0, False), (1, True), (2, True), (3, True), (3, False)],
    [(-1, False), (0, True), (-1, False), (2, True), (3, True)],
    [(-1, True), (-1, False), (-1, False), (0, True), (0, False), (3, False), (3, True), (6, True)],
]


def some_model():
    """Return a small GPT whose choices depend on the text and on positions."""
    model = GPT(GPTConfig(vocab_size=40, context_length=64, **SHAPE)).eval().requires_grad_(False)
    for number, weight in enumerate(model.parameters()):
        if weight.ndim == 2:
            weight.copy_(noise(*weight.shape, seed=number) * (0.3 if number > 1 else 1))
    return model


def choice(model, ids):
    """Return what a model says after ids."""
    return int(model(torch.tensor([ids]))[0, -1].argmax())


def grown(model, text, tree):
    """Return the tokens of a tree, and the branch that ends in each node."""
    branches: list[list[int]] = []
    for number, (parent, is_right) in enumerate(tree):
        before = branches[parent] if parent >= 0 else []
        own = choice(model, [*text, *before])
        branches.append([*before, own if is_right else (own + 1 + number) % 40])
    return [branch[-1] for branch in branches], branches


def longest_path(model, text, branches):
    """Return what 10.6 asks for: each branch is read by itself."""
    best: list[int] = []
    for branch in branches:
        right = all(choice(model, [*text, *branch[:n]]) == t for n, t in enumerate(branch))
        if right and len(branch) > len(best):
            best = branch
    return [*best, choice(model, [*text, *best])]


class Rows:
    """What a model sees in place of a cache: any positions and any mask."""

    def __init__(self, positions, mask):
        self.length, self.positions, self.mask = 0, positions, mask

    def grow(self, batch_size, n_new, segments=None):
        """Do nothing: all is known."""

    def update(self, layer, k, v):
        """Return keys and values as they are, with the mask."""
        return k, v, self.mask


def walked(model, text, tokens, parents, *, positions="depth", mask="tree", first=False):
    """Return the path that is found in one reading; the rest are mistakes to make on purpose."""
    n_text, n = len(text), len(text) + len(tokens)
    sees, own = torch.ones(n, n, dtype=torch.bool).tril(), list(range(n_text))
    for node, parent in enumerate(parents, n_text):
        before = n_text + parent  # -1 is the last token of the text
        own.append(own[before] + 1)
        if mask == "tree":
            sees[node, n_text:] = sees[before, n_text:]
            sees[node, node] = True
    if mask == "new only":
        sees[n_text - 1 :, : n_text - 1] = False
    places = torch.tensor(own) if positions == "depth" else torch.arange(n)
    said = model(torch.tensor([[*text, *tokens]]), Rows(places, sees[None, None]))[0].argmax(-1)
    said, paths, twins = said.tolist(), {-1: []}, set()
    for node, (parent, token) in enumerate(zip(parents, tokens)):
        is_twin = (parent, token) in twins
        twins.add((parent, token))
        if parent in paths and token == said[n_text + parent] and not (first and is_twin):
            paths[node] = [*paths[parent], token]
    best = max(paths, key=lambda node: len(paths[node]))
    return [*paths[best], said[n_text + best]]


def run_on(answer, look):
    """Call an answer with a model and a cache; return what `look` sees of them."""

    def run(text, tokens, parents):
        """Read a text into a new cache, and let the answer go on from there."""
        model = some_model()
        cache = model.new_cache(1, 60)
        if len(text) > 1:
            model.features(torch.tensor([text[:-1]]), cache)
        readings: list[int] = []
        count = model.h[0].attn.c_attn.register_forward_hook(
            lambda layer, args, out: readings.append(args[0].shape[:-1].numel())
        )
        said = list(map(int, answer(model, cache, text[-1], list(tokens), list(parents))))
        count.remove()
        return look(model, cache, said, readings)

    run.__name__ = answer.__name__
    return run


def returned(answer):
    """Look at the tokens that are returned."""
    return run_on(answer, lambda model, cache, said, readings: said)


def readings(answer):
    """Look at the number of tokens in each reading."""
    return run_on(answer, lambda model, cache, said, readings: readings)


def next_reading(answer):
    """Look at the length of the cache and the logits after one more reading."""

    def look(model, cache, said, readings):
        length = int(cache.length)
        return length, model(torch.tensor([said[-1:]]), cache)[0, -1]

    return run_on(answer, look)


@exercise("10.6")
def a_tree_is_read_at_once():
    """10.6: a tree of drafts, verified in a single reading."""
    model = some_model()
    text = [3, 14, 15, 9, 26, 5]
    for tree, own in [*((tree, text) for tree in TREES), (TREES[3], text[:1])]:
        tokens, branches = grown(model, own, tree)
        given = own, tokens, [parent for parent, _ in tree]
        right = longest_path(model, own, branches)
        wrong = {
            "children with the same token: follow both, for the longest path": {"first": True},
            "a node sees its ancestors, and no node of another branch": {"mask": "causal"},
            "a position is that of the branch, not of the order of reading": {"positions": "order"},
            "last and the nodes see the text in the cache too": {"mask": "new only"},
        }
        found = {words: walked(model, *given, **mistake) for words, mistake in wrong.items()}
        found["the model's own token after the path is missing"] = right[:-1]
        mistakes = {words: path for words, path in found.items() if path != right}
        yield case(*given, expected=right, through=returned, mistakes=mistakes)
        n_kept = len(own) + len(right) - 1
        logits = model(torch.tensor([[*own, *right]]))[0, -1]
        yield case(
            *given,
            expected=(n_kept, logits),
            saying=f"a cache of {n_kept} tokens, which gives the right logits for the next one",
            through=next_reading,
            tolerance=1e-3,
            mistakes={
                "refused drafts are still in the cache": lambda r, n=n_kept: r[0] > n,
                "accepted drafts are missing in the cache": lambda r, n=n_kept: r[0] < n,
                "those are not the keys of the path: they move together": lambda r: True,
            },
        )
        yield case(
            *given,
            expected=[1 + len(tokens)],
            saying=f"one reading, of {1 + len(tokens)} tokens",
            through=readings,
            mistakes={"all are read in a single call, each once": lambda r: True},
        )
