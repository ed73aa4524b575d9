"""What training, evaluation, generation and exporters ask of a model: this, and nothing more.

Written by hand. `GPT` keeps to it, and so does every architecture that comes after it: a new one
adds a file, and changes neither the loop that trains nor the loop that writes.

Shapes: B rows in a batch, T tokens, C = emb_dim, V = vocab_size.
"""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor
from torch.nn.parallel import DataParallel, DistributedDataParallel

# Named losses that a model adds while it runs: name -> (sum, count). The caller that passes the
# dict weighs and logs them; the model knows no weights. Under COUNTED, the caller may say which
# tokens count, (B, T): not padding, for which a batch need not have segments.
Aux = dict[str, tuple[Tensor, int]]
COUNTED = "counted tokens"


class Cache(Protocol):
    """Keys and values of the tokens read so far; see `llmlib.model.cache`.

    The model calls `grow` once when it reads tokens, and then takes their numbers from `positions`;
    each attention layer calls `update`. The loop calls `rewind` and `select`. What a cache stores
    for a layer is between the two: another kind of attention brings another cache.
    """

    length: int  # tokens read so far, padding included
    capacity: int  # the most that fit
    positions: slice | Tensor  # of the newest tokens: an index into a table of positions

    def grow(self, batch_size: int, n_new: int, segments: Tensor | None = None) -> None:
        """Make place for n_new tokens in each row; set their positions and their mask."""

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store new keys and values of a layer; return all of them, and the mask if one is needed.

        The mask is bool, True where a query may look, and broadcasts to (B, H, T, S). None means
        causal: a single query sees all keys, and several are the first tokens.
        """

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was."""


class LanguageModel(Protocol):
    """Token ids in, a score for each possible next token out."""

    config: Any  # with vocab_size, context_length and the fields of its own architecture

    # The module that `head` applies before any soft-cap; None if the token embedding is the head.
    # `quantize` puts a packed one there.
    lm_head: Any

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        *,
        segments: Tensor | None = None,
        aux: Aux | None = None,
    ) -> Tensor:
        """Map ids (B, T) to logits (B, T, V); position t scores the token after ids[:, t].

        cache: what was read before; only the new tokens are given, and the cache grows by T. A
        token without segments then goes on with the last document of its row.
        segments: (B, T), the document number of each token, -1 for padding. Attention stays inside
        equal numbers and positions restart, so packing and left padding are one thing.
        aux: a dict that the model fills with named losses as (sum, count).
        """

    def features(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        *,
        segments: Tensor | None = None,
        aux: Aux | None = None,
    ) -> Tensor:
        """Map ids (B, T) to what the head reads, (B, T, C); arguments as for `forward`."""

    def head(self, features: Tensor) -> Tensor:
        """Map features (..., C) to logits (..., V), soft-cap and packed weights included."""

    @property
    def head_weight(self) -> Tensor | None:
        """The (V, C) matrix if head(x) is exactly x @ head_weight.T, else None."""

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Return an empty cache for batch_size rows of at most `length` tokens."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call `forward`."""


def wrappers(model: Any) -> list[Any]:
    """Return what is around a model, from the outside in, and at the end the model itself.

    That is torch.compile, DataParallel and DistributedDataParallel, which all put a word of theirs
    before the names of its parameters.
    """
    found = [model]
    while True:
        parts = getattr(found[-1], "_modules", {})
        if "_orig_mod" in parts:  # torch.compile's; its class takes a second to import
            found.append(parts["_orig_mod"])
        elif isinstance(found[-1], (DataParallel, DistributedDataParallel)):
            found.append(found[-1].module)
        else:
            return found


def unwrapped(model: Any) -> Any:
    """Return the model inside its wrappers, whose parameters have the names that files know."""
    return wrappers(model)[-1]


def recompiled(model: Any) -> Any:
    """Return the model inside its wrappers, compiled as the first of them that compiles would."""
    *around, inner = wrappers(model)
    compilers = [wrapper.dynamo_ctx for wrapper in around if "_orig_mod" in wrapper._modules]
    return compilers[0](inner) if compilers else inner


def features_of(model: Any) -> Callable[..., Tensor] | None:
    """Return the method `features` of a model, compiled if it is; None if only calling it will do.

    `torch.compile(model)` compiles the call, and lets other methods through as they are. What
    `model.compile()` has compiled is nothing but the call.
    """
    if not hasattr(model, "features") or getattr(model, "_compiled_call_impl", None) is not None:
        return None
    inner = unwrapped(model)
    return model.features if inner is model else model.dynamo_ctx(inner.features)
