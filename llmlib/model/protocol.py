"""What training, evaluation, generation and exporters ask of a model: this, and nothing more.

Written by hand. `GPT` keeps to it, and so does every architecture that comes after it: a new one
adds a file, and changes neither the loop that trains nor the loop that writes.

Shapes: B rows in a batch, T tokens, C = emb_dim, V = vocab_size.
"""

from typing import Any, Protocol

import torch

# Named losses that a model adds while it runs: name -> (sum, count). Whoever passes the dict weighs
# and logs them; the model knows no weights.
Aux = dict[str, tuple[torch.Tensor, int]]


class ModelConfig(Protocol):
    """The two fields that every model's configuration has."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_length(self) -> int: ...


class Cache(Protocol):
    """Keys and values of the tokens read so far; see `llmlib.model.cache`."""

    length: int

    def update(
        self, layer: int, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]: ...


class LanguageModel(Protocol):
    """Token ids in, a score for each possible next token out."""

    config: Any  # a ModelConfig, with the fields of its own architecture beside the two

    def forward(
        self,
        ids: torch.Tensor,
        cache: Cache | None = None,
        *,
        segments: torch.Tensor | None = None,
        aux: Aux | None = None,
    ) -> torch.Tensor:
        """Map ids (B, T) to logits (B, T, V); position t scores the token after ids[:, t].

        cache: what was read before; only the new tokens are given, and the cache grows by T.
        segments: (B, T), the document number of each token, -1 for padding. Attention stays inside
        equal numbers and positions restart, so packing and left padding are one thing.
        aux: a dict that the model fills with named losses as (sum, count).
        """
        ...

    def features(
        self,
        ids: torch.Tensor,
        cache: Cache | None = None,
        *,
        segments: torch.Tensor | None = None,
        aux: Aux | None = None,
    ) -> torch.Tensor:
        """Map ids (B, T) to what the head reads, (B, T, C); arguments as for `forward`."""
        ...

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (..., C) to logits (..., V), soft-cap and packed weights included."""
        ...

    @property
    def head_weight(self) -> torch.Tensor | None:
        """The (V, C) matrix if head(x) is exactly x @ head_weight.T, else None."""
        ...

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Return an empty cache for batch_size rows of at most `length` tokens."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Call `forward`."""
        ...
