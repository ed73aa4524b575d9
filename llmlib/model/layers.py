# From notebooks/11_modern_transformer.ipynb: edit there, then run make export.

"""The layers of a transformer of today: RMSNorm, grouped attention, gated feed-forward layers.

Built in notebook 11. Each is a part that a `ModernConfig` chooses by name. Parameters keep GPT-2's
names where the layer does the same work: `c_attn` and `c_proj` in attention, `c_fc` and `c_proj`
in the feed-forward layer, so that optimizers, quantisation and exporters treat both alike.

Shapes: B rows, T tokens, C = emb_dim, H = n_heads of queries and G = n_kv_heads of keys and values,
each of D = head_dim numbers.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib.model import gates, norms
from llmlib.model.attention import attend
from llmlib.model.parts import part
from llmlib.model.positions import Rotation, rotate
from llmlib.model.protocol import Aux, Cache
from llmlib.model.rotations import rotated_heads


class Places(NamedTuple):
    """What all blocks are told about the tokens besides x."""

    rotation: Rotation | None = None  # by which queries and keys turn
    segments: Tensor | None = None  # (B, T), the document number of each token, -1 for padding


PLAIN = Places()  # no rotation, one document


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale (Zhang and Sennrich 2019); no mean, no bias."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis."""
        return norms.rms_norm(x, self.weight, self.eps)


@part("norm", "rms")
def rms_norm(config: Any, layer: int = 0) -> RMSNorm:
    """Build the norm of Llama and its kin."""
    return RMSNorm(config.emb_dim, config.norm_eps)


@part("norm", "layer")
def layer_norm(config: Any, layer: int = 0) -> nn.LayerNorm:
    """Build the norm of GPT-2."""
    return nn.LayerNorm(config.emb_dim, config.norm_eps)


class GroupedAttention(nn.Module):
    """Causal attention in which neighbouring heads of queries share a head of keys and values.

    With n_kv_heads = n_heads it is multi-head attention, with 1 multi-query attention (Shazeer
    2019), between them grouped-query attention (Ainslie et al. 2023). Queries and keys may be
    normalized before they are rotated (Henry et al. 2020), each head by itself.
    """

    def __init__(self, config: Any, layer: int = 0):
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.head_dim, self.layer, self.drop_rate = config.head_dim, layer, config.drop_rate
        n_numbers = (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
        self.c_attn = nn.Linear(config.emb_dim, n_numbers, bias=config.qkv_bias)
        self.c_proj = nn.Linear(self.n_heads * self.head_dim, config.emb_dim, bias=config.o_bias)
        self.q_norm: nn.Module | None = None
        self.k_norm: nn.Module | None = None
        if config.qk_norm:
            self.q_norm = RMSNorm(self.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(self.head_dim, config.norm_eps)

    def forward(self, x: Tensor, places: Places = PLAIN, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        B, T, _ = x.shape
        H, G = self.n_heads, self.n_kv_heads
        # queries, keys and values lie side by side: (B, T, (H + 2G) D) -> (B, T, H + 2G, D)
        qkv = self.c_attn(x).view(B, T, H + 2 * G, self.head_dim)
        if self.q_norm is None:  # cut apart, and q and k rotated
            q, k, v = rotated_heads(qkv, places.rotation, H, G)
        else:
            q, k, v = qkv.transpose(1, 2).split_with_sizes([H, G, G], dim=1)
            assert self.k_norm is not None, "both or neither"
            q, k = rotate(self.q_norm(q), places.rotation), rotate(self.k_norm(k), places.rotation)
        mask = None
        if cache is not None:
            k, v, mask = cache.update(self.layer, k, v)  # (B, G, S, D)
        out = attend_groups(q, k, v, mask, self.drop_rate if self.training else 0.0)
        return self.c_proj(out.transpose(1, 2).reshape(B, T, -1))  # (B, H, T, D) -> (B, T, C)


part("attention", "grouped")(GroupedAttention)


def attend_groups(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, drop_rate: float = 0.0
) -> Tensor:
    """Do what `attend` does for queries (B, H, T, D), and keys and values (B, G, S, D).

    G divides H; queries H/G·g to H/G·(g+1)−1 look at keys and values g.
    """
    B, H, T, D = q.shape
    G = k.shape[1]
    if H == G:
        return attend(q, k, v, mask, drop_rate)
    if T == 1:  # the queries of a group in place of tokens: all see the same, nothing is copied
        q = q.view(B, G, H // G, D)
        if mask is not None and mask.shape[1] == H:  # a mask for each head
            mask = mask.view(-1, G, H // G, mask.shape[-1])
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop_rate)
        return out.view(B, H, 1, D)
    k, v = (part.repeat_interleave(H // G, dim=1) for part in (k, v))  # (B, H, S, D)
    return attend(q, k, v, mask, drop_rate)


@part("feed_forward", "swiglu")
class SwiGLU(nn.Module):
    """A gated feed-forward layer: SiLU of one product times another (Shazeer 2020)."""

    def __init__(self, config: Any, layer: int = 0):
        super().__init__()
        hidden, bias = config.hidden_dim, config.mlp_bias
        self.c_fc = nn.Linear(config.emb_dim, 2 * hidden, bias=bias)  # gate, then up
        self.c_proj = nn.Linear(hidden, config.emb_dim, bias=bias)

    def forward(self, x: Tensor, places: Places = PLAIN, aux: Aux | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        gate, up = gates.halves(self.c_fc, x)  # of c_fc(x)
        return self.c_proj(F.silu(gate) * up)


class PlainFeedForward(nn.Module):
    """A feed-forward layer without a gate: widen, an activation, narrow again."""

    def __init__(self, config: Any, layer: int = 0):
        super().__init__()
        hidden, bias = config.hidden_dim, config.mlp_bias
        self.c_fc = nn.Linear(config.emb_dim, hidden, bias=bias)
        self.c_proj = nn.Linear(hidden, config.emb_dim, bias=bias)

    def forward(self, x: Tensor, places: Places = PLAIN, aux: Aux | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        return self.c_proj(self.activation(self.c_fc(x)))

    def activation(self, x: Tensor) -> Tensor:
        """Return what stands between the two products."""
        raise NotImplementedError


@part("feed_forward", "gelu")
class GELU(PlainFeedForward):
    """The feed-forward layer of GPT-2, with the tanh form of GELU."""

    def activation(self, x: Tensor) -> Tensor:
        """Return GELU(x)."""
        return F.gelu(x, approximate="tanh")


@part("feed_forward", "relu2")
class ReLU2(PlainFeedForward):
    """A feed-forward layer with the square of ReLU (So et al. 2021, Primer)."""

    def activation(self, x: Tensor) -> Tensor:
        """Return max(x, 0)²."""
        return F.relu(x).square()
