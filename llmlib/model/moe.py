# From notebooks/13_mixture_of_experts.ipynb: edit there, then run make export.

"""Mixture of experts: many feed-forward layers, of which each token uses a few.

Built in notebook 13. A router scores the experts for each token; the k best work on it, and their
answers are added up with the router's probabilities as weights (Shazeer et al. 2017). So a model
has more parameters than it reads for a token. It is a feed-forward part of `ModernConfig`:

    feed_forward={"name": "moe", "n_experts": 8, "top_k": 2, "hidden_dim": 64}

What is left out: experts on several machines, and products of all experts in one kernel.

Shapes: N tokens, C = emb_dim, E experts, k = top_k of them for each token.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.layers import PLAIN, Places, SwiGLU
from llmlib.model.parts import part
from llmlib.model.protocol import COUNTED, Aux


class Routing(NamedTuple):
    """What a router decides for N tokens."""

    probs: Tensor  # (N, E), of all experts; sums to 1
    chosen: Tensor  # (N, k), numbers of experts; E stands for none, after a drop
    weights: Tensor  # (N, k), what the chosen experts' answers are multiplied with


def top_experts(
    logits: Tensor, k: int, normalize: bool = True, bias: Tensor | None = None
) -> Routing:
    """Choose the k experts with the highest logits (N, E); their probabilities are the weights.

    normalize: whether the k weights are scaled to sum to 1. bias: (E,), added to the probabilities
    when experts are chosen, and not to the weights (Wang et al. 2024).
    """
    probs = logits.float().softmax(dim=-1)
    scores = probs if bias is None else probs + bias
    chosen = scores.topk(k, dim=-1).indices  # (N, k)
    weights = probs.gather(-1, chosen)
    if normalize:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(probs, chosen, weights)


class Expert(SwiGLU):
    """A small gated feed-forward layer, with a width for itself."""

    def __init__(self, emb_dim: int, hidden_dim: int):
        nn.Module.__init__(self)
        self.c_fc = nn.Linear(emb_dim, 2 * hidden_dim, bias=False)  # gate, then up
        self.c_proj = nn.Linear(hidden_dim, emb_dim, bias=False)


def mix_experts(
    x: Tensor, routing: Routing, experts: nn.ModuleList | Sequence[nn.Module]
) -> Tensor:
    """Return the weighted sum of the chosen experts' answers to x (N, C).

    Tokens are sorted by expert, so that each expert gets its own in one piece. An expert without
    tokens takes part while gradients are recorded: DistributedDataParallel waits for everyone's.
    """
    N, k = routing.chosen.shape
    order = routing.chosen.flatten().argsort(stable=True)  # (N k), places sorted by expert
    sizes = routing.chosen.flatten().bincount(minlength=len(experts) + 1).tolist()
    # each expert's tokens, and those dropped: assignment i is one of token i // k
    *pieces, dropped = x[order // k].split(sizes)
    all_answer = torch.is_grad_enabled()
    answers = [e(piece) for e, piece in zip(experts, pieces) if len(piece) or all_answer]
    dtype = answers[0].dtype if answers else x.dtype
    answers = torch.cat([*answers, torch.zeros_like(dropped, dtype=dtype)])
    back = torch.empty_like(order).scatter_(0, order, torch.arange(N * k, device=x.device))
    answers = answers[back].view(N, k, x.shape[1])  # in the order of the tokens
    return (answers * routing.weights[..., None]).sum(dim=1).to(x.dtype)


class MixtureOfExperts(nn.Module):
    """A feed-forward layer of E experts, of which each token uses the k that the router prefers.

    balance: "loss" adds `balance_loss`; "bias" adds a bias to the choice instead, which the
    optimizer lowers where an expert has more than its share (see `add_losses`); None does nothing.
    capacity: while training, an expert takes at most capacity · N k / E tokens; None for all.
    shared_dim: width of an expert that every token uses besides (Dai et al. 2024); 0 for none.
    """

    def __init__(
        self,
        emb_dim: int,
        hidden_dim: int,
        n_experts: int = 8,
        top_k: int = 2,
        normalize: bool = True,
        shared_dim: int = 0,
        capacity: float | None = None,
        balance: str | None = "loss",
    ):
        super().__init__()
        self.n_experts, self.top_k, self.normalize = n_experts, top_k, normalize
        self.capacity, self.balance = capacity, balance
        self.router = nn.Linear(emb_dim, n_experts, bias=False)
        self.experts = nn.ModuleList(Expert(emb_dim, hidden_dim) for _ in range(n_experts))
        self.shared = Expert(emb_dim, shared_dim) if shared_dim else None
        self.balance_bias = nn.Parameter(torch.zeros(n_experts)) if balance == "bias" else None

    def forward(self, x: Tensor, places: Places = PLAIN, aux: Aux | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C); aux gets what keeps the load even, if the caller asks."""
        flat = x.flatten(0, -2)  # (B, T, C) -> (N, C)
        real = None if places.segments is None else places.segments.flatten() >= 0
        routing = self.route(flat)
        if aux is not None and self.balance is not None:
            counted, _ = aux.get(COUNTED, (None, 0))
            self.add_losses(routing, real if counted is None else counted.flatten(), aux)
        if self.training and self.capacity is not None:
            n_real = len(flat) if real is None else int(real.sum())
            room = int(self.capacity * n_real * self.top_k / self.n_experts)
            routing = within_capacity(routing, max(room, 1), real)
            if aux is not None:
                lost = (routing.chosen == self.n_experts)[slice(None) if real is None else real]
                add(aux, "dropped", lost.sum().float(), lost.numel())
        out = mix_experts(flat, routing, self.experts)
        if self.shared is not None:
            out = out + self.shared(flat)
        return out.view_as(x)

    def route(self, x: Tensor) -> Routing:
        """Choose experts for tokens (N, C)."""
        weight = getattr(self.router, "weight", x)  # a packed router has none, and casts by itself
        # in full precision also under autocast: a rounded logit may choose another expert
        with torch.autocast(x.device.type, enabled=False):
            logits = self.router(x.to(weight.dtype))
        bias = None if self.balance_bias is None else self.balance_bias.detach()
        return top_experts(logits, self.top_k, self.normalize, bias)

    def add_losses(self, routing: Routing, real: Tensor | None, aux: Aux) -> None:
        """Add to aux["balance"] as (sum, count), so that it is a mean over tokens and layers."""
        n = len(routing.probs) if real is None else int(real.sum())
        if self.balance == "loss":
            loss = balance_loss(routing.probs, routing.chosen, real, everywhere=True)
            add(aux, "balance", n * loss, n)
        elif self.balance_bias is not None:
            load = expert_load(routing.chosen, self.n_experts, real, everywhere=True)
            excess = self.n_experts * load - 1
            pull = (excess * self.balance_bias).sum()
            # its value is the worst excess, to be logged; its gradient is the bias's alone
            add(aux, "balance", n * (excess.max() + pull - pull.detach()), n)


def active_parameters(model: nn.Module) -> int:
    """Return how many parameters a token meets: all but those of the experts not chosen."""
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "experts")]
    idle = sum(
        (layer.n_experts - layer.top_k) * sum(p.numel() for p in layer.experts[0].parameters())
        for layer in layers
    )
    return sum(p.numel() for p in model.parameters()) - idle


@part("feed_forward", "moe")
def moe_or_dense(
    config: Any,
    layer: int = 0,
    n_experts: int = 8,
    top_k: int = 2,
    hidden_dim: int | None = None,
    normalize: bool = True,
    shared_dim: int = 0,
    capacity: float | None = None,
    balance: str | None = "loss",
    n_dense: int = 0,
    sparse_step: int = 1,
    dense_layers: Sequence[int] = (),
) -> nn.Module:
    """Build the feed-forward part of a layer: a mixture of experts, or a dense one.

    hidden_dim: of each expert, by default that of the configuration, which dense layers have. Dense
    are the first n_dense layers, those in dense_layers, and all but every sparse_step-th. The rest
    is told by `MixtureOfExperts`. Raises ValueError for impossible values.
    """
    checks.experts(config, locals())
    if layer < n_dense or layer in dense_layers or (layer + 1) % sparse_step:
        return SwiGLU(config, layer)
    sizes = config.emb_dim, hidden_dim or config.hidden_dim
    return MixtureOfExperts(*sizes, n_experts, top_k, normalize, shared_dim, capacity, balance)


def expert_load(
    chosen: Tensor, n_experts: int, real: Tensor | None = None, everywhere: bool = False
) -> Tensor:
    """Return the share of all assignments (N, k) that goes to each expert: (E,), sums to 1.

    real: (N,), which tokens count; the others are padding. everywhere: over the tokens of all
    processes that train together (Qiu et al. 2025).
    """
    counted = chosen if real is None else chosen[real]
    counts = counted.flatten().bincount(minlength=n_experts)[:n_experts].float()
    if everywhere and dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    return counts / counts.sum().clamp(min=1)


def balance_loss(
    probs: Tensor, chosen: Tensor, real: Tensor | None = None, everywhere: bool = False
) -> Tensor:
    """Return E Σ f_e P_e (Fedus et al. 2021, equation 4), which is 1 for an even load.

    f: the load, of all processes if everywhere; P: the mean of the probabilities (N, E)
    of all experts, chosen or not. Only P passes gradients: who has a high load is made less likely.
    """
    E = probs.shape[-1]
    counted = probs if real is None else probs[real]
    P = counted.sum(dim=0) / max(len(counted), 1)
    return E * (expert_load(chosen, E, real, everywhere) * P).sum()


def add(aux: Aux, name: str, total: Tensor, count: int) -> None:
    """Add a sum and a count to those that other layers left under this name."""
    old, n = aux.get(name, (0.0, 0))
    aux[name] = old + total, n + count


def within_capacity(routing: Routing, capacity: int, real: Tensor | None = None) -> Routing:
    """Drop what exceeds `capacity` tokens at an expert: it is answered by nobody.

    First choices go before second ones, earlier tokens before later ones (Lepikhin et al. 2020).
    Padding takes no place.
    """
    probs, chosen, weights = routing
    E, (N, k) = probs.shape[-1], chosen.shape
    if real is not None:
        chosen = chosen.where(real[:, None], E)
    # all first choices, then all second ones: (k N, E), how many came to an expert so far
    queue = F.one_hot(chosen.T.flatten(), E + 1)[:, :E].cumsum(dim=0)
    fits = (queue <= capacity).gather(1, chosen.T.flatten().clamp(max=E - 1)[:, None])
    fits = fits.view(k, N).T & (chosen < E)
    return Routing(probs, chosen.where(fits, E), weights * fits)
