# From notebooks/05_loss.ipynb: edit there, then run make export.

"""How good a language model is, in one number; and the n-gram models that it has to beat.

Built in notebook 05. Losses are in nats a token: the mean of -log p(what came next). `evaluate`
takes any callable that maps ids to logits, so that counts and networks are measured alike. What is
left out: label smoothing and other changes to the targets, which move the floor of the loss.

Shapes: B rows in a batch, T tokens in each, V = vocab_size, C numbers in a feature vector.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from llmlib.data import as_token_array

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


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: the loss in nats a token, and of how many tokens it is the mean."""

    loss: float
    n_tokens: int

    @property
    def perplexity(self) -> float:
        """The number of sides of a fair die that surprises as much: e to the loss."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def bits_per_byte(self, n_bytes: int) -> float:
        """Return the loss of the whole text in bits for each of its bytes.

        n_bytes: the length, in UTF-8, of the text that all the targets spell. Only what is measured
        in bytes compares between tokenizers. Raises ValueError for less than one byte.
        """
        if n_bytes < 1:
            raise ValueError(f"a text of {n_bytes} bytes has no bits per byte: give at least 1")
        return self.loss * self.n_tokens / math.log(2) / n_bytes


@contextmanager
def evaluating(model: Callable) -> Iterator[None]:
    """No gradients and no dropout inside; afterwards each submodule is in its former mode again."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules[:1]:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode


def sum_of_batch(model: Callable, batch: Sequence[torch.Tensor], number: int) -> tuple[float, int]:
    """The loss of one batch in nats, summed, and how many of its tokens count."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"batch {number} is a {type(batch).__name__}: give pairs (inputs, targets)")
    inputs, targets = batch
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if parameter is not None:
        inputs, targets = inputs.to(parameter.device), targets.to(parameter.device)
    logits = model(inputs)
    if not isinstance(logits, torch.Tensor):
        raise TypeError(
            f"the model gave a {type(logits).__name__}: evaluate needs logits (B, T, V)"
        )
    loss = cross_entropy(logits, targets, reduction="sum").item()
    if math.isnan(loss):
        bad = (~logits.isfinite()).sum().item()
        raise ValueError(
            f"the loss of batch {number} is not a number, nor would be any mean with it: "
            f"{bad} of {logits.numel()} logits are NaN or infinite"
        )
    return loss, int((targets != IGNORED).sum())


def evaluate(
    model: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    max_batches: int | None = None,
) -> Evaluation:
    """Return the loss of a model over batches, in which every token counts the same.

    model: maps ids (B, T) to logits (B, T, V). A module is evaluated without dropout, on the device
    where its parameters are, and each of its parts is left in the mode in which it was.
    batches: pairs (inputs, targets), ids (B, T) each; targets of -100 do not count.
    max_batches: stop after so many.
    The loss is infinite if a target was given no probability at all. Raises ValueError where there
    is nothing to measure or a loss is not a number, and as `cross_entropy` does.
    """
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a function of ids (B, T)")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches must be at least 1, not {max_batches}")
    total, n_tokens, number = 0.0, 0, 0
    with evaluating(model):
        for number, batch in enumerate(islice(batches, max_batches), 1):
            loss, counted = sum_of_batch(model, batch, number)
            total, n_tokens = total + loss, n_tokens + counted
    if number == 0:
        raise ValueError("there is no batch to evaluate: the loader is empty (or used up)")
    if n_tokens == 0:
        raise ValueError(f"no target of {number} batches counts: all of them are {IGNORED}")
    return Evaluation(total / n_tokens, n_tokens)


class Grams(NamedTuple):
    """All different sequences of one length that were seen, sorted, and what the counts make of it.

    A context is what a gram is without its last token; its number is its place among the grams
    that are one shorter.
    """

    keys: np.ndarray  # (G,) int64: number of the context times V, plus the last token
    starts: np.ndarray  # (contexts + 1,) int64: where the grams of each context begin
    shares: np.ndarray  # (G,) float32: the probability of the last token, less the discount
    backoffs: np.ndarray  # (contexts,) float32: what the discounts leave to the shorter context


def count_grams(
    tokens: np.ndarray, place: np.ndarray, n: int, vocab_size: int
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield, for the lengths 1, 2, … n: keys (G,), the number of contexts, and counts (G,).

    tokens: the ids of all documents (N,); place: that of each in its document, from 0 on.
    The longest grams are counted as often as they occur, shorter ones once for each different
    token that stood before them. What opens a document has none, and is counted as it occurs.
    """
    number = np.zeros(len(tokens), dtype=np.int64)  # of the gram that ends at each token
    keys, n_contexts, counts = np.empty(0, dtype=np.int64), 1, None
    for length in range(1, n + 1):
        ends = np.flatnonzero(place >= length - 1)
        longer, first, found = np.unique(
            number[ends - 1] * vocab_size + tokens[ends], return_index=True, return_inverse=True
        )
        if length > 1:  # the first place of each longer gram tells what shorter one it ends with
            counts += np.bincount(number[ends[first]], minlength=len(keys))
            yield keys, n_contexts, counts
            n_contexts = len(keys)
        as_it_occurs = (
            place[ends] > 0 if length == n else (place[ends] == length - 1) & (length > 1)
        )
        keys, counts = longer, np.bincount(found, weights=as_it_occurs, minlength=len(longer))
        number = np.full(len(tokens), -1)
        number[ends] = found
    yield keys, n_contexts, counts


def weigh_grams(
    keys: np.ndarray, n_contexts: int, counts: np.ndarray, vocab_size: int, discount: float | None
) -> Grams:
    """Turn the counts of one length into probabilities; discount None: the customary one."""
    if discount is None:
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        # within bounds, because a discount of 0 would rule out what was not seen
        discount = np.clip(once / max(1, once + 2 * twice), 0.1, 0.95)
    context = keys // vocab_size
    total = np.bincount(context, weights=counts, minlength=n_contexts)
    kinds = np.bincount(context, weights=counts > 0, minlength=n_contexts)
    divisor = np.maximum(total, 1)
    return Grams(
        keys,
        np.searchsorted(context, np.arange(n_contexts + 1)),
        (np.maximum(counts - discount, 0) / divisor[context]).astype(np.float32),
        np.where(total > 0, discount * kinds / divisor, 1).astype(np.float32),
    )


class NGramModel:
    """Counts what followed the last n - 1 tokens, with interpolated Kneser-Ney smoothing.

    As a language model it maps ids (B, T) to log-probabilities (B, T, V), which are logits whose
    softmax is themselves. The beginning of a row has a shorter context, and of a context that was
    never seen, the longest end that was seen counts.

    n: 1 for a unigram model, 2 for a bigram model, and so on. discount: d, between 0 and 1; if left
    out, it is estimated for each length from how many grams were counted once and twice.
    Raises ValueError for sizes that do not make sense.
    Source: Kneser and Ney 1995, interpolated as by Chen and Goodman 1998; the discount of Ney,
    Essen and Kneser 1994.

    >>> model = NGramModel(2, vocab_size=3).fit([0, 1, 0, 1, 0, 2])
    >>> model(torch.tensor([[0]])).exp().argmax().item()
    1
    """

    def __init__(self, n: int, vocab_size: int, discount: float | None = None):
        for name, value in {"n": n, "vocab_size": vocab_size}.items():
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
        if discount is not None and not 0 < discount < 1:
            raise ValueError(f"discount is {discount!r}: it must lie between 0 and 1")
        self.n, self.vocab_size, self.discount = int(n), int(vocab_size), discount
        self.levels: list[Grams] = []

    def fit(self, ids: Sequence) -> "NGramModel":
        """Count the grams of a sequence of token ids (N,), or of a list of them, one a document.

        No gram reaches from one document into another, and the first token of each is context only:
        let it be `<|endoftext|>`, and the last one too. Returns the model.
        Raises ValueError or TypeError for what are no ids below vocab_size.
        """
        one = isinstance(ids, (str, Path, np.ndarray, torch.Tensor))
        one = one or (len(ids) > 0 and np.ndim(ids[0]) == 0)
        documents = [as_token_array(document) for document in ([ids] if one else ids)]
        if sum(len(document) > 1 for document in documents) == 0:
            raise ValueError("there is nothing to count: no token follows another one")
        tokens = np.concatenate(documents).astype(np.int64)
        place = np.concatenate([np.arange(len(document)) for document in documents])
        if tokens.max() >= self.vocab_size:
            raise ValueError(
                f"token id {tokens.max()} is outside the vocabulary: "
                f"ids are 0 to {self.vocab_size - 1}"
            )
        n = min(self.n, place.max() + 1)  # the longest gram that there is
        self.levels = [
            weigh_grams(*counted, self.vocab_size, self.discount)
            for counted in count_grams(tokens, place, n, self.vocab_size)
        ]
        return self

    def find_contexts(self, ids: np.ndarray) -> list[np.ndarray]:
        """For 1, 2, … n - 1 tokens: the number of the gram that ends at each place, or -1."""
        number, found = np.zeros_like(ids), []
        for grams in self.levels[:-1]:
            before = np.full_like(ids, -1 if found else 0)
            before[:, 1:] = number[:, :-1]
            keys = before * self.vocab_size + ids
            at = np.searchsorted(grams.keys, keys).clip(max=len(grams.keys) - 1)
            number = np.where((before >= 0) & (grams.keys[at] == keys), at, -1)
            found.append(number)
        return found

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to log-probabilities (B, T, V) of the token that follows, in float32.

        Raises RuntimeError before `fit`, and TypeError or ValueError for what are no such ids.
        """
        if not self.levels:
            raise RuntimeError("the model has counted nothing yet: call fit(ids) first")
        if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
            raise TypeError(
                "ids must be a tensor (batch, tokens), for one sequence ids.unsqueeze(0)"
            )
        as_token_array(ids.flatten())
        if ids.max() >= self.vocab_size:
            raise ValueError(
                f"token id {ids.max()} is outside the vocabulary: "
                f"ids are 0 to {self.vocab_size - 1}"
            )
        first, *longer = self.levels
        weight, parts = (
            np.ones(ids.numel(), dtype=np.float32),
            [],
        )  # the weight left to shorter ones
        contexts = self.find_contexts(ids.cpu().numpy().astype(np.int64))
        for grams, number in zip(reversed(longer), reversed(contexts)):
            row = np.flatnonzero(number >= 0)
            context = number.flat[row]
            size = grams.starts[context + 1] - grams.starts[context]
            gram = np.arange(size.sum()) + np.repeat(
                grams.starts[context] - size.cumsum() + size, size
            )
            row_of_gram = np.repeat(row, size)
            parts.append((row_of_gram, gram, grams, weight[row_of_gram]))
            weight[row] *= grams.backoffs[context]
        unigram = np.full(self.vocab_size, first.backoffs[0] / self.vocab_size, dtype=np.float32)
        unigram[first.keys] += first.shares
        p = weight[:, None] * unigram  # (B * T, V)
        for row, gram, grams, left in parts:
            p[row, grams.keys[gram] % self.vocab_size] += left * grams.shares[gram]
        return torch.from_numpy(np.log(p, out=p)).view(*ids.shape, -1).to(ids.device)


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
