# From notebooks/05_loss.ipynb: edit there, then run make export.

"""How good a language model is, in one number; and the n-gram models that it has to beat.

Built in notebook 05. Losses are in nats a token: the mean of -log p(what came next). `evaluate`
takes any callable that maps ids to logits, so that counts and networks are measured alike. What is
left out: label smoothing and other changes to the targets, which move the floor of the loss.

Shapes: B rows in a batch, T tokens in each, V = vocab_size, C numbers in a feature vector.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

IGNORED = -100  # the target of a position that does not count: torch's own default


def check_targets(
    targets: torch.Tensor, shape: Sequence[int], vocab_size: int, ignore_index: int, reduction: str
) -> None:
    """Raise TypeError or ValueError, saying what is allowed, unless targets are ids of `shape`.

    The ids themselves are looked at on the CPU only: Python would have to wait for an accelerator.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}: it must be 'mean' or 'sum'")
    if not isinstance(targets, torch.Tensor):
        raise TypeError(f"targets are a {type(targets).__name__}: give a tensor of token ids")
    if targets.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"targets hold {targets.dtype}: token ids are torch.int64 (or int32)")
    if targets.shape != torch.Size(shape):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, expected {tuple(shape)}: "
            "one id for each position"
        )
    if targets.device.type != "cpu" or torch.compiler.is_compiling():
        return
    counted = targets[targets != ignore_index]
    if reduction == "mean" and counted.numel() == 0:
        raise ValueError(
            f"none of the {targets.numel()} targets counts: there is no mean loss of nothing"
        )
    if counted.numel():
        low, high = (bound.item() for bound in counted.aminmax())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"target {low if low < 0 else high} is outside the vocabulary: ids are 0 to "
                f"{vocab_size - 1}, or {ignore_index} where a position does not count"
            )


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> torch.Tensor:
    """Return the negative log-likelihood of the targets in nats, a tensor without dimensions.

    logits: floats (..., V); targets: ids (...), or `ignore_index` where a position does not count.
    reduction: "mean" over the positions that count, or "sum". The softmax is done in float32 at
    least, whatever the format of the logits.
    Raises TypeError or ValueError for what does not fit, and for a mean where no position counts
    (on an accelerator, that is nan).

    >>> cross_entropy(torch.zeros(1, 2, 8), torch.tensor([[3, 5]])).exp().round()
    tensor(8.)
    """
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a tensor of floats, not {kind}")
    if logits.ndim < 2:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, expected (batch, tokens, vocabulary)"
        )
    check_targets(targets, logits.shape[:-1], logits.shape[-1], ignore_index, reduction)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(
        logits.flatten(0, -2),
        targets.flatten().long(),
        ignore_index=ignore_index,
        reduction=reduction,
    )


def logits_to_errors(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Turn logits (n, V) in place into p - [i = y], their gradient; return the losses (n, 1).

    The softmax is done in float32 at least, and on a CPU for so few rows at a time that all of its
    passes over them find them in the cache.
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
    def forward(ctx, features, weight, targets, chunk_size, ignore_index, with_gradients):
        """features (N, C), weight (V, C), targets (N,): return the sum; see the function below."""
        for_features, for_weight = (with_gradients and need for need in ctx.needs_input_grad[:2])
        N, V = len(features), len(weight)
        dtype = torch.promote_types(features.dtype, torch.float32)  # of sums and of the softmax
        counts, targets = (targets != ignore_index).unsqueeze(1), targets.unsqueeze(1)  # (N, 1)
        # where, not a product: what does not count may be infinite, and 0 · inf is nan
        features, targets = features.where(counts, 0), targets.where(counts, 0)
        head = weight.to(features.dtype)
        total = torch.zeros((), dtype=dtype, device=features.device)
        grad_features = torch.empty_like(features) if for_features else None
        grad_weight = None
        # Rows of whole cache lines: products are up to half as fast again on them
        padded = features.new_empty(min(N, chunk_size), V + -V % 64)
        for start in range(0, N, chunk_size):
            x, y, c = (part[start : start + chunk_size] for part in (features, targets, counts))
            rows = padded[: len(x)]
            error = torch.mm(x, head.T, out=rows[:, :V])  # (n, V), at first the logits
            total += logits_to_errors(error, y).where(c, 0).sum()
            if for_features:
                grad = torch.mm(error, head, out=grad_features[start : start + chunk_size])
                grad.masked_fill_(~c, 0)
            if for_weight:
                grad = (rows.T @ x)[:V]
                grad_weight = grad if grad_weight is None else grad_weight.to(dtype).add_(grad)
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(grad_features, grad_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Scale the gradients that are there already; grad is what the sum was multiplied by."""
        grad_features, grad_weight = ctx.saved_tensors
        if grad_features is not None:
            grad_features = grad_features * grad.to(grad_features.dtype)
        if grad_weight is not None:
            cast = grad_weight.to(ctx.weight_dtype)
            # a copy may be written into; what was saved may be needed once more
            grad_weight = cast * grad if cast is grad_weight else cast.mul_(grad)
        return grad_features, grad_weight, None, None, None, None


def chunked_cross_entropy(
    features: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    chunk_size: int | None = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> torch.Tensor:
    """Return `cross_entropy(features @ weight.T, targets)` without ever holding all the logits.

    features: floats (..., C); weight: (V, C); targets: ids (...), or `ignore_index`.
    chunk_size: positions whose logits exist at a time; if left out, as many as fill 128 MiB.
    Gradients are computed on the way forward, so that each logit is computed once. Products are
    in the dtype of the features (or of autocast), sums and softmax in float32 at least.
    Raises as `cross_entropy` does, and ValueError for a chunk_size below 1.

    The idea is that of "Cut Your Losses in Large-Vocabulary Language Models" (Wijmans and others
    2024) and of Liger Kernel (Hsu and others 2024).
    """
    for name, value in {"features": features, "weight": weight}.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a tensor of floats, not {kind}")
    if weight.ndim != 2 or features.ndim < 2 or features.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"features {tuple(features.shape)} and weight {tuple(weight.shape)} do not fit: "
            "expected (batch, tokens, C) and (vocabulary, C)"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    check_targets(targets, features.shape[:-1], len(weight), ignore_index, reduction)
    device = features.device.type
    if torch.is_autocast_enabled(device):
        features = features.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):  # the formats are chosen by hand
        total = ChunkedCrossEntropy.apply(
            features.flatten(0, -2),
            weight,
            targets.flatten().long(),
            chunk_size or max(1, 2**27 // (len(weight) * features.itemsize)),
            ignore_index,
            torch.is_grad_enabled(),
        )
    return total / (targets != ignore_index).sum() if reduction == "mean" else total
