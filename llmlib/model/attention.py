# From notebooks/03_attention.ipynb: edit there, then run make export.

"""Causal multi-head self-attention, the one part of a GPT in which tokens see each other.

Notebook 03 builds it, from a running mean to the fused kernel used here. Parameters carry GPT-2's
names and layout: `c_attn` projects to queries, keys and values side by side, `c_proj` mixes what
the heads found. There is no mask to store: the kernel knows what "causal" means. What is left out:
the cache that keeps keys and values of earlier tokens (`llmlib.model.cache`, notebook 10).

Shapes: B sequences in a batch, T tokens each, C = emb_dim numbers per token, n_heads heads of
head_dim = C / n_heads numbers; S keys, which are more than T where a cache holds earlier ones.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.protocol import Cache


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, drop_rate: float = 0.0
) -> Tensor:
    """Return softmax(q kᵀ / √head_dim + mask) v, (B, n_heads, T, head_dim), the fastest way.

    q: (B, n_heads, T, head_dim); k and v: (B, n_heads, S, head_dim). mask: bool, broadcast to
    (B, n_heads, T, S), True where a query may look. Without one it is causal: query and key number
    i belong to the same token, and a single query, as the latest token, sees all keys. drop_rate:
    share of weights dropped.
    """
    several = q.shape[-2] > 1
    if several and q.dtype is torch.bfloat16 and q.device.type == "cpu":
        return attend_bfloat16(q, k, v, mask, drop_rate)
    causal = several and mask is None
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=drop_rate, is_causal=causal
    )


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q kᵀ / √head_dim), (..., T, S): how much each query looks at each key.

    q: (..., T, head_dim); k: (..., S, head_dim), with any dimensions before them. mask: bool,
    broadcast to (..., T, S), True where a query may look; by default, everywhere. A query that may
    look nowhere has weights of 0, as in torch's own function. Raises TypeError for another mask.
    """
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is None:
        return scores.softmax(dim=-1)
    checks.attention_mask(mask)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return weights.where(mask.any(dim=-1, keepdim=True), 0.0)  # not 0 / 0


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return attention_weights(q, k, mask) v, (..., T, C), for values v (..., S, C).

    Attention on paper (Vaswani et al. 2017, equation 1), for any mask; `attend` is the fast form.
    """
    return attention_weights(q, k, mask) @ v


def attend_bfloat16(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, drop_rate: float
) -> Tensor:
    """Do what `attend` does, in bfloat16 on a CPU, where the fused kernel gains nothing from it.

    Up to 512 tokens the two products and the softmax one by one are about twice as fast, since each
    product by itself does gain. Beyond, their T² weights would not fit the processor's cache, and
    the fused kernel runs in float32.
    """
    B, n_heads, T, head_dim = q.shape
    with torch.autocast("cpu", enabled=False):  # it would take the softmax to float32
        if T > 512 or mask is not None or drop_rate:
            q, k, v, causal = q.float(), k.float(), v.float(), mask is None
            out = F.scaled_dot_product_attention(q, k, v, mask, drop_rate, causal)
            return out.bfloat16()
        q, k, v = (part.reshape(B * n_heads, T, head_dim) for part in (q, k, v))
        future = torch.full((T, T), -math.inf, dtype=q.dtype).triu(1)
        scores = torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(head_dim))  # (B·n_heads, T, T)
        return (scores.softmax(dim=-1) @ v).view(B, n_heads, T, head_dim)


class CausalAttention(nn.Module):
    """Multi-head self-attention in which each token sees itself and the tokens before it.

    Scaled dot-product attention of "Attention Is All You Need" (Vaswani et al. 2017, section 3.2),
    softmax(q kᵀ / √head_dim + mask) v, with the dropout of GPT-2: on the weights and on the output.

    emb_dim: C, numbers per token, divisible by n_heads; context_length: the most tokens it takes;
    drop_rate: share dropped while training; qkv_bias: whether c_attn has a bias (GPT-2's has);
    layer: its number in a model, by which it finds its part of a cache.
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
        *,
        layer: int = 0,
    ):
        super().__init__()
        checks.attention_sizes(emb_dim, n_heads, context_length, drop_rate)
        self.emb_dim, self.n_heads, self.context_length = emb_dim, n_heads, context_length
        self.drop_rate, self.layer = drop_rate, layer
        self.c_attn = nn.Linear(emb_dim, 3 * emb_dim, bias=qkv_bias)
        self.c_proj = nn.Linear(emb_dim, emb_dim)

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Map x (B, T, C) to (B, T, C); with return_weights, also give weights (B, n_heads, T, S).

        The weights are those before dropout: rows sum to 1, and are 0 above the diagonal. They take
        memory in T², which the fused kernel saves: ask for them only to look at them.
        Raises TypeError for token ids, and ValueError for a wrong shape or too many tokens.
        """
        checks.vectors(x, self.emb_dim, self.context_length)
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_heads, C // self.n_heads)  # (B, T, 3C) cut up
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # (B, n_heads, T, head_dim)
        mask = None
        if cache is not None:
            k, v, mask = cache.update(self.layer, k, v)  # (B, n_heads, S, head_dim)
        drop_rate = self.drop_rate if self.training else 0.0
        weights = None
        if return_weights:
            if mask is None:  # (T, T), True where a query may look
                mask = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
            weights = attention_weights(q, k, mask)  # (B, n_heads, T, S)
            heads = F.dropout(weights, drop_rate) @ v
        else:
            heads = attend(q, k, v, mask, drop_rate)
        # (B, n_heads, T, head_dim) -> (B, T, C)
        out = self.c_proj(heads.transpose(1, 2).reshape(B, T, C))
        if drop_rate:  # a call that does nothing would still cost time at each token of a text
            out = F.dropout(out, drop_rate)
        return out if weights is None else (out, weights)
