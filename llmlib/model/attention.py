# From notebooks/03_attention.ipynb: edit there, then run make export.

"""Causal multi-head self-attention, the one part of a GPT in which tokens see each other.

Notebook 03 builds it, from a running mean to the fused kernel used here. Parameters carry GPT-2's
names and layout: `c_attn` projects to queries, keys and values side by side, `c_proj` mixes what
the heads found. There is no mask to store: the kernel knows what "causal" means. A cache for
generating text is left to notebook 10.

Shapes: B sequences in a batch, T tokens each, C = emb_dim numbers per token, n_heads heads of
head_dim = C / n_heads numbers.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def check_sizes(emb_dim: int, n_heads: int, context_length: int, drop_rate: float) -> None:
    """Raise ValueError, saying what is allowed, for sizes that no attention layer can have."""
    sizes = {"emb_dim": emb_dim, "n_heads": n_heads, "context_length": context_length}
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {size!r}: it must be a whole number of at least 1")
    if emb_dim % n_heads:
        raise ValueError(
            f"emb_dim {emb_dim} is not divisible by n_heads {n_heads}: each head gets an equal part"
        )
    if not (isinstance(drop_rate, (int, float)) and 0 <= drop_rate < 1):
        raise ValueError(f"drop_rate is {drop_rate!r}: it must be a number from 0 to below 1")


def check_input(x: torch.Tensor, emb_dim: int, context_length: int) -> None:
    """Raise TypeError or ValueError, saying what is expected, unless x is floats (B, T, C)."""
    if not torch.is_floating_point(x):
        raise TypeError(f"x holds {x.dtype}: attention takes vectors, so embed token ids first")
    if x.ndim != 3 or x.shape[2] != emb_dim:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (batch, tokens, {emb_dim}); "
            "a single sequence is a batch of one: x.unsqueeze(0)"
        )
    if x.shape[1] == 0:
        raise ValueError("x holds sequences of no tokens: give at least one")
    if x.shape[1] > context_length:
        raise ValueError(
            f"sequence of {x.shape[1]} tokens exceeds the layer's context_length of "
            f"{context_length}: crop it, or build the layer with a longer one"
        )


class CausalAttention(nn.Module):
    """Multi-head self-attention in which each token sees itself and the tokens before it.

    Scaled dot-product attention of "Attention Is All You Need" (Vaswani et al. 2017, section 3.2),
    softmax(q kᵀ / √head_dim + mask) v, with the dropout of GPT-2: on the weights and on the output.

    emb_dim: C, numbers per token, divisible by n_heads; context_length: the most tokens it takes;
    drop_rate: share dropped while training; qkv_bias: whether c_attn has a bias (GPT-2's has).
    Raises ValueError for sizes that do not fit.

    >>> layer = CausalAttention(emb_dim=8, n_heads=2, context_length=16)
    >>> layer(torch.randn(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        emb_dim: int,
        n_heads: int,
        context_length: int,
        drop_rate: float = 0.0,
        qkv_bias: bool = True,
    ):
        super().__init__()
        check_sizes(emb_dim, n_heads, context_length, drop_rate)
        self.emb_dim, self.n_heads, self.context_length = emb_dim, n_heads, context_length
        self.drop_rate = drop_rate
        self.c_attn = nn.Linear(emb_dim, 3 * emb_dim, bias=qkv_bias)
        self.c_proj = nn.Linear(emb_dim, emb_dim)

    def forward(
        self, x: torch.Tensor, return_weights: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map x (B, T, C) to (B, T, C); with return_weights, also give weights (B, n_heads, T, T).

        The weights are those before dropout: rows sum to 1, and are 0 above the diagonal. They take
        memory in T², which the fused kernel saves: ask for them only to look at them.
        Raises TypeError for token ids, and ValueError for a wrong shape or too many tokens.
        """
        check_input(x, self.emb_dim, self.context_length)
        B, T, C = x.shape
        head_dim = C // self.n_heads
        drop_rate = self.drop_rate if self.training else 0.0
        q, k, v = (  # (B, T, 3C) -> three of (B, n_heads, T, head_dim)
            part.view(B, T, self.n_heads, head_dim).transpose(1, 2)
            for part in self.c_attn(x).split(C, dim=-1)
        )
        if return_weights:
            future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
            scores = q @ k.mT / math.sqrt(head_dim)
            weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)  # (B, n_heads, T, T)
            heads = F.dropout(weights, drop_rate) @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, dropout_p=drop_rate, is_causal=True)
        out = heads.transpose(1, 2).reshape(B, T, C)  # (B, n_heads, T, head_dim) -> (B, T, C)
        out = F.dropout(self.c_proj(out), drop_rate)
        return (out, weights) if return_weights else out
