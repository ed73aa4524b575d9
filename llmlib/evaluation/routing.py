"""What experts do: how evenly they are used, how sure the router is, what they specialize in.

Written by hand; notebook 13 uses it. All is counted on tokens that a model has read; nothing is
trained. A layer of experts is known by its method `route`.

Shapes: N tokens, E experts, k of them for each token, W kinds of tokens.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.model.modes import evaluating
from llmlib.model.moe import Routing, expert_load
from llmlib.training.loss import IGNORED, split_batch


@torch.no_grad()
def route_tokens(model: Any, batches: Iterable[Sequence[Tensor]]) -> list[tuple[Routing, Tensor]]:
    """Return, for each layer of experts, the routing of all tokens read, and their ids (N,).

    batches: as for `evaluate`; tokens whose target does not count are left out.
    """
    layers = [module for module in model.modules() if hasattr(module, "route")]
    seen: list[list[Routing]] = [[] for _ in layers]
    ids, counts = [], torch.zeros(0, dtype=torch.bool)
    with evaluating(model):
        for batch in batches:
            inputs, targets, segments = split_batch(batch)
            counts = (targets != IGNORED).flatten()
            ids.append(inputs.flatten()[counts])

            def note(module: Any, arguments: tuple, found: list[Routing], counts=counts) -> None:
                routing = module.route(arguments[0].flatten(0, -2))
                found.append(Routing(*(part[counts] for part in routing)))

            hooks = [
                layer.register_forward_pre_hook(lambda m, a, found=found: note(m, a, found))
                for layer, found in zip(layers, seen)
            ]
            try:
                model.features(inputs, segments=segments)
            finally:
                for hook in hooks:
                    hook.remove()
    return [(Routing(*map(torch.cat, zip(*found))), torch.cat(ids)) for found in seen]


def max_violation(chosen: Tensor, n_experts: int) -> float:
    """Return by what share the busiest expert has more tokens than the mean (Wang et al. 2024).

    chosen: (N, k). 0 for an even load, E/k - 1 if all tokens take the same.
    """
    return n_experts * expert_load(chosen, n_experts).max().item() - 1


def router_entropy(probs: Tensor) -> float:
    """Return the mean entropy of the router's probabilities (N, E), in nats: log E if undecided."""
    return torch.special.entr(probs).sum(dim=-1).mean().item()


def mutual_information(counts: Tensor) -> float:
    """Return what knowing an expert tells of the kind of a token, in nats, from counts (E, W).

    At most the logarithm of W, if an expert has tokens of one kind only; 0 if all are used alike.
    """
    joint = counts.double() / counts.sum()
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0)
    return max(0.0, torch.special.xlogy(joint, joint / apart.clamp(min=1e-300)).nansum().item())
