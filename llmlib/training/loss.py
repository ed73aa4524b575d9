# From notebooks/05_loss.ipynb, notebooks/06_pretraining.ipynb: edit there, then run
# make export.

"""How good a language model is, in one number: the loss that training lowers.

Built in notebook 05, with the module that training differentiates from notebook 06. Losses are in
nats per token: the mean of -log p(what came next). Neither form holds the logits of a whole batch:
the head is applied to some positions at a time. What is left out: label smoothing and other changes
to the targets, which move the floor of the loss.

Shapes: B rows in a batch, T tokens in each, N = B * T positions, V = vocab_size, C numbers in a
feature vector.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from llmlib import checks
from llmlib.model.protocol import COUNTED, Aux, features_of

IGNORED = -100  # the target of a position that does not count: torch's own default


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, reduction: str = "mean"
) -> torch.Tensor:
    """Return the negative log-likelihood of the targets in nats, a tensor without dimensions.

    logits: floats (..., V); targets: ids (...), or `IGNORED` where a position does not count.
    reduction: "mean" over the positions that count, or "sum". The softmax is done in float32 at
    least, whatever the format of the logits.
    Raises TypeError or ValueError for inputs that do not fit, and for a mean where no position
    counts (on an accelerator, that is nan).

    >>> cross_entropy(torch.zeros(1, 2, 8), torch.tensor([[3, 5]])).exp().round()
    tensor(8.)
    """
    checks.logits(logits)
    checks.targets(targets, logits.shape[:-1], logits.shape[-1], IGNORED, reduction)
    return F.cross_entropy(
        # near 10, the numbers of bfloat16 are 1/16 apart: too coarse for a loss
        logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2),  # (N, V)
        targets.flatten().long(),  # (...) -> (N,)
        ignore_index=IGNORED,
        reduction=reduction,
    )


def checkpointed_cross_entropy(
    features: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    targets: torch.Tensor,
    chunk_size: int,
    reduction: str = "mean",
) -> torch.Tensor:
    """Return `cross_entropy(head(features), targets)` without ever holding all the logits.

    head: any function of features (n, C) to logits (n, V), such as one with a bias, a soft-cap or
    packed weights. chunk_size: the most positions whose logits exist at a time.
    For the gradient, the logits of each chunk are computed a second time, on the way back. Raises
    as `cross_entropy` does.
    """

    def sum_of_chunk(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(head(x), y, reduction="sum")

    # V is known only with the logits: each chunk looks whether its ids are below it
    checks.targets(targets, features.shape[:-1], 2**63, IGNORED, reduction)
    features, targets = features.flatten(0, -2), targets.flatten()  # (N, C) and (N,)
    total = torch.zeros((), device=features.device)
    for x, y in zip(features.split(chunk_size), targets.split(chunk_size)):
        total = total + checkpoint(sum_of_chunk, x, y, use_reentrant=False)
    return total / (targets != IGNORED).sum() if reduction == "mean" else total


def logits_to_errors(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Turn logits (n, V) in place into p - [i = y], their gradient; return the losses (n, 1).

    targets: (n, 1). The softmax is done in float32 at least, and on a CPU for so few rows at a time
    that all of its passes over them find them in the cache.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    n, V = logits.shape
    rows = max(1, 2**19 // V) if logits.device.type == "cpu" else n
    exact, p = (logits.new_empty(min(rows, n), V, dtype=dtype) for _ in range(2))
    losses = []
    for part, y in zip(logits.split(rows), targets.split(rows)):
        exact, p = exact[: len(part)].copy_(part), p[: len(part)]
        torch.softmax(exact, dim=1, out=p)
        # -log p of the target would be infinite where p rounds to 0. The p of the highest logit
        # never does, and how far below it the target lies, the logits know.
        below = exact.amax(dim=1, keepdim=True) - exact.gather(1, y)
        losses.append(below - p.amax(dim=1, keepdim=True).log())
        part.copy_(p.scatter_add_(1, y, torch.full_like(y, -1, dtype=dtype)))
    return torch.cat(losses)


class ChunkedCrossEntropy(torch.autograd.Function):
    """The summed loss of `features @ weight.T`, with its gradients computed on the way forward."""

    @staticmethod
    def forward(ctx, features, weight, targets, chunk_size, with_gradients):
        """Return the sum for features (N, C), weight (V, C) and targets (N,)."""
        for_features, for_weight = (with_gradients and need for need in ctx.needs_input_grad[:2])
        N, V = len(features), len(weight)
        dtype = torch.promote_types(features.dtype, torch.float32)  # of sums and of the softmax
        counts, targets = (targets != IGNORED).unsqueeze(1), targets.unsqueeze(1)  # (N, 1)
        # where, not a product: what does not count may be infinite, and 0 · inf is nan
        features, targets = features.where(counts, 0), targets.where(counts, 0)
        head = weight.to(features.dtype)
        total = torch.zeros((), dtype=dtype, device=features.device)
        grad_features = torch.empty_like(features) if for_features else None
        grad_weight = None
        # rows of whole cache lines, which some libraries multiply faster; zeros, since some
        # products in bfloat16 read the gap too, and a nan that lay there would spread
        padded = features.new_zeros(min(N, chunk_size), V + -V % 64)
        for start in range(0, N, chunk_size):
            x, y, c = (part[start : start + chunk_size] for part in (features, targets, counts))
            rows = padded[: len(x)]
            error = torch.mm(x, head.T, out=rows[:, :V])  # (n, V), at first the logits
            total += logits_to_errors(error, y).where(c, 0).sum()
            if grad_features is not None:
                grad = torch.mm(error, head, out=grad_features[start : start + chunk_size])
                grad.masked_fill_(~c, 0)
            if for_weight:
                grad = (rows.T @ x)[:V]  # (V, C)
                grad_weight = grad if grad_weight is None else grad_weight.to(dtype).add_(grad)
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(grad_features, grad_weight)
        return total

    @staticmethod
    @once_differentiable  # a gradient of this gradient is refused
    def backward(ctx, grad):
        """Scale the gradients from the way forward by grad, the gradient of the sum."""
        grad_features, grad_weight = ctx.saved_tensors
        if grad_features is not None:
            grad_features = grad_features * grad.to(grad_features.dtype)
        if grad_weight is not None:
            cast = grad_weight.to(ctx.weight_dtype)
            # a copy may be written into; what was saved may be needed once more
            grad_weight = cast * grad if cast is grad_weight else cast.mul_(grad)
        return grad_features, grad_weight, None, None, None


def chunked_cross_entropy(
    features: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    chunk_size: int | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """Return `cross_entropy(features @ weight.T, targets)` without ever holding all the logits.

    features: floats (..., C); weight: (V, C); targets: ids (...), or `IGNORED`.
    chunk_size: positions whose logits exist at a time; by default, as many as fill 128 MiB.
    Gradients are computed on the way forward, so that each logit is computed once. Products are
    in the dtype of the features (or of autocast), sums and softmax in float32 at least.
    Raises as `cross_entropy` does, and ValueError for a chunk_size below 1.

    The idea is that of "Cut Your Losses in Large-Vocabulary Language Models" (Wijmans and others
    2024) and of Liger Kernel (Hsu and others 2024).
    """
    checks.features(features, weight, chunk_size)
    checks.targets(targets, features.shape[:-1], len(weight), IGNORED, reduction)
    device = features.device.type
    if torch.is_autocast_enabled(device):
        features = features.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):  # the formats are chosen by hand
        total = ChunkedCrossEntropy.apply(
            features.flatten(0, -2),  # (..., C) -> (N, C)
            weight,
            targets.flatten().long(),
            chunk_size or positions_at_a_time(len(weight), features.itemsize),
            torch.is_grad_enabled(),
        )
    return total / (targets != IGNORED).sum() if reduction == "mean" else total


def positions_at_a_time(vocab_size: int, itemsize: int) -> int:
    """Return of how many positions the logits fill 128 MiB, at itemsize bytes each."""
    return max(1, 2**27 // (vocab_size * itemsize))


def split_batch(
    batch: Sequence[torch.Tensor], name: str = "a batch"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return inputs, targets and segments (B, T) of a batch; None without segments.

    Positions of segment -1 are padding, and their targets do not count. Raises TypeError unless a
    batch is (inputs, targets) or (inputs, targets, segments).
    """
    checks.batch(batch, name)
    inputs, targets, *rest = batch
    if not rest:
        return inputs, targets, None
    return inputs, targets.masked_fill(rest[0] < 0, IGNORED), rest[0]


def next_token_loss(
    model: Any,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    segments: torch.Tensor | None = None,
    aux: Aux | None = None,
) -> torch.Tensor:
    """Return the sum of -log p over the targets (B, T) that count, in nats.

    model: as in `llmlib.model.protocol`, for which no more than a chunk of the logits exists at a
    time; any other function of ids has to give all of them. segments, aux: as in the protocol.
    """
    read = features_of(model)
    if read is None:  # a plain function, which need not know about segments
        options: dict[str, Any] = {} if segments is None else {"segments": segments}
        if hasattr(model, "features"):  # compiled by model.compile(), which leaves methods alone
            options["aux"] = aux
        logits = model(inputs, **options)
        return cross_entropy(logits, targets, reduction="sum")
    features = read(inputs, segments=segments, aux=aux)  # (B, T, C)
    weight = model.head_weight
    if weight is not None:
        return chunked_cross_entropy(features, weight, targets, reduction="sum")
    chunk_size = positions_at_a_time(model.config.vocab_size, itemsize=4)
    return checkpointed_cross_entropy(features, model.head, targets, chunk_size, reduction="sum")


class NextTokenLoss(nn.Module):
    """The loss of a model, summed over the targets of a batch: what the loop differentiates.

    A module, so that `torch.compile` or DistributedDataParallel can be put around it. With dtype
    "bfloat16" the matrix products run under autocast; weights, their gradients and all sums stay in
    float32. For the model, see `next_token_loss`.
    """

    def __init__(self, model: nn.Module, dtype: str = "float32"):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(
        self, inputs: torch.Tensor, targets: torch.Tensor, segments: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Aux]:
        """Return the sum of -log p over the targets (B, T) that count, and what the model adds.

        The model's additional losses are named, each as (sum, count). They are returned, and not
        written to a dict of the caller, because DistributedDataParallel copies its arguments.
        """
        aux: Aux = {COUNTED: (targets != IGNORED, 0)}  # a loss over tokens leaves out the others
        low = self.dtype == "bfloat16"
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=low):
            loss = next_token_loss(self.model, inputs, targets, segments, aux)
        # a copy: blocks that are computed again on the way back look into aux once more
        return loss, {name: added for name, added in aux.items() if name != COUNTED}
