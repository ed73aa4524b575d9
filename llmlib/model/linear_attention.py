# From notebooks/12_long_context.ipynb: edit there, then run make export.

"""Attention without a softmax: a state of fixed size that each token adds to, or corrects.

Built in notebook 12. Linear attention adds value times key to the state (Katharopoulos et al.
2020), the delta rule first takes away what the state holds under the key (Schlag et al. 2021). Both
are computed in chunks (Yang et al. 2024). What is left out: caches, documents in a row, decay.

Shapes: B rows, T tokens, H heads of D numbers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.attention import attend
from llmlib.model.layers import PLAIN, Places
from llmlib.model.parts import part
from llmlib.model.positions import rotate
from llmlib.model.protocol import Cache


def delta_chunks(q: Tensor, k: Tensor, v: Tensor, rate: Tensor | None, size: int = 32) -> Tensor:
    """Return q S at each token, for the state S of all tokens up to it: (B, H, T, D).

    rate (B, H, T, 1): how much of what S holds under a key is replaced by its value; None adds the
    value and replaces nothing. Inside a chunk of `size` tokens it is a product of T² scores, and
    between chunks S is carried on.
    """
    T = q.shape[2]
    state = q.new_zeros(*q.shape[:2], k.shape[-1], v.shape[-1])
    out = []
    for start in range(0, T, size):
        here = slice(start, min(start + size, T))
        Q, K, V = q[:, :, here], k[:, :, here], v[:, :, here]
        if rate is not None:
            # the new values u solve (1 + tril(β K Kᵀ)) u = β (v − K S): each sees those before it
            beta = rate[:, :, here]
            lower = (beta * (K @ K.mT)).tril(-1)
            right = beta * (V - K @ state)
            V = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        out.append(Q @ state + (Q @ K.mT).tril() @ V)
        state = state + K.mT @ V
    return torch.cat(out, dim=2)


@part("attention", "linear_attention")
class LinearAttention(nn.Module):
    """Attention whose memory is a matrix for each head, of D x D numbers, however long the text.

    rule: "linear", where a token adds its value to what is stored under its key; "delta", where it
    replaces what is stored; or "softmax", for comparison: attention as usual, with the same keys.

    Keys see the token before their own too (a convolution of two tokens), as in most models of
    this kind: with it a value can be stored under the token that it follows.
    """

    def __init__(self, config: Any, layer: int = 0, *, rule: str = "delta"):
        super().__init__()
        checks.own_memory(config, rule)
        self.n_heads, self.head_dim, C = config.n_heads, config.head_dim, config.emb_dim
        self.rule = rule
        self.c_attn = nn.Linear(C, 3 * self.n_heads * self.head_dim, bias=config.qkv_bias)
        self.mix = nn.Parameter(torch.zeros(self.n_heads * self.head_dim) + 0.5)
        self.rate = nn.Linear(C, self.n_heads) if rule == "delta" else None
        self.c_proj = nn.Linear(self.n_heads * self.head_dim, C, bias=config.o_bias)

    def forward(self, x: Tensor, places: Places = PLAIN, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        checks.reads_whole_rows(cache, self.rule, places.segments)
        B, T, _ = x.shape
        q, k, v = self.c_attn(x).chunk(3, dim=-1)
        k = torch.lerp(k, F.pad(k, (0, 0, 1, -1)), self.mix)  # with that of the token before
        q, k, v = (t.view(B, T, self.n_heads, -1).transpose(1, 2) for t in (q, k, v))
        if self.rule == "softmax":
            q, k = (rotate(t, places.rotation) for t in (q, k))
            out = attend(q, k, v, None if cache is None else cache.update(0, k, v)[2])
        else:
            q, k = (rotate(F.normalize(t, dim=-1), places.rotation) for t in (q, k))
            # how much of the old is replaced, (B, H, T, 1)
            rate = None if self.rate is None else self.rate(x).sigmoid().mT[..., None]
            out = F.rms_norm(delta_chunks(q, k, v, rate), (self.head_dim,))
        return self.c_proj(out.transpose(1, 2).reshape(B, T, -1))

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Refuse: this attention has no cache."""
        return checks.no_cache("linear attention")
