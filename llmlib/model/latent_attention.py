# From notebooks/12_long_context.ipynb: edit there, then run make export.

"""Multi-head latent attention: a cache of one small vector a token, from which all heads read.

Built in notebook 12, as in DeepSeek-V2 (2024). A configuration asks for it with attention={"name":
"latent_attention", "kv_lora_rank": 512, …}; head_dim is then the part of a key that turns, which
all heads share. The names of its layers are those of DeepSeek's files. What is left out: windows.

Shapes: B rows, T new tokens, S tokens so far, C = emb_dim, H heads; R = kv_lora_rank numbers in a
latent, N = qk_nope_head_dim and P = head_dim numbers of a key without and with a position, V =
v_head_dim numbers of a value.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.attention import attend
from llmlib.model.cache import KVCache
from llmlib.model.layers import PLAIN, Places, RMSNorm, attend_groups
from llmlib.model.parts import part
from llmlib.model.positions import rotate
from llmlib.model.protocol import Cache
from llmlib.model.rope_scaling import sharpening

NORM_EPS = 1e-6  # of the norms inside, whatever the model's is, as in DeepSeek's code


class Expansion(nn.Linear):
    """The weights from a latent to keys and values; a class that `quantize` leaves as it is."""


class LatentAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-V2, 2405.04434, section 2.1).

    A token leaves a latent of kv_lora_rank numbers, from which every head has its own key and
    value, and a rotated key of head_dim numbers, the same for all heads. Both fit in a cache of
    R + P numbers a token. Queries may come from a latent too (q_lora_rank).

    rope_interleave: whether the rotated numbers come in neighbouring pairs, as in DeepSeek's files.
    """

    def __init__(
        self,
        config: Any,
        layer: int = 0,
        *,
        kv_lora_rank: int,
        qk_nope_head_dim: int,
        v_head_dim: int,
        q_lora_rank: int | None = None,
        rope_interleave: bool = True,
    ):
        nn.Module.__init__(self)
        sizes = kv_lora_rank, qk_nope_head_dim, v_head_dim
        checks.latent_attention(config, *sizes, q_lora_rank, rope_interleave)
        C, self.n_heads, self.layer = config.emb_dim, config.n_heads, layer
        self.n_layers, self.drop_rate = config.n_layers, config.drop_rate
        self.rank, self.nope, self.v_dim = sizes
        self.rope, self.rope_interleave = config.head_dim, rope_interleave
        self.scale = softmax_scale(self.nope + self.rope, config.positions)
        H, bias = self.n_heads, config.qkv_bias
        self.q_lora_rank, n_queries = q_lora_rank, H * (self.nope + self.rope)
        if q_lora_rank is None:
            self.q_proj = nn.Linear(C, n_queries, bias=False)
        else:
            self.q_a_proj = nn.Linear(C, q_lora_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(q_lora_rank, NORM_EPS)
            self.q_b_proj = nn.Linear(q_lora_rank, n_queries, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(C, self.rank + self.rope, bias=bias)
        self.kv_a_layernorm = RMSNorm(self.rank, NORM_EPS)
        self.kv_b_proj = Expansion(self.rank, H * (self.nope + self.v_dim), bias=False)
        self.c_proj = nn.Linear(H * self.v_dim, C, bias=config.o_bias)

    def forward(self, x: Tensor, places: Places = PLAIN, cache: Cache | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        q_nope, q_rope = self.queries(x)
        latent, k_rope = self.kv_a_proj_with_mqa(x)[:, None].split([self.rank, self.rope], dim=-1)
        latent = self.kv_a_layernorm(latent)  # (B, 1, T, R): as if of a single head
        q_rope, k_rope = (rotate(self.halves(part), places.rotation) for part in (q_rope, k_rope))
        kept, mask = torch.cat([latent, k_rope], dim=-1), None  # (B, 1, T, R + P)
        if cache is not None:
            kept, _, mask = cache.update(self.layer, kept, latent)  # (B, 1, S, R + P)
        # behind a cache, queries go to the latents; of a text at once, latents to each head's keys
        attention = (
            self.absorbed if x.shape[1] < kept.shape[2] or x.shape[1] == 1 else self.expanded
        )
        out = attention(q_nope, q_rope, kept, mask)  # (B, H, T, V)
        return self.c_proj(out.transpose(1, 2).reshape(*x.shape[:2], -1))

    def queries(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries (B, H, T, N) and (B, H, T, P), without and with a position."""
        if self.q_lora_rank is None:
            q = self.q_proj(x)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2) * self.scale
        q_nope, q_rope = q.split([self.nope, self.rope], dim=-1)
        return q_nope, q_rope

    def halves(self, x: Tensor) -> Tensor:
        """Return numbers (..., P) in the order that `rotate` turns: pairs (i, i + P/2)."""
        return torch.cat([x[..., ::2], x[..., 1::2]], dim=-1) if self.rope_interleave else x

    def expanded(self, q_nope: Tensor, q_rope: Tensor, kept: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to a key and value of each head, (B, H, S, N + P) and (B, H, S, V)."""
        latent, k_rope = kept.split([self.rank, self.rope], dim=-1)  # (B, 1, S, …)
        keys_values = F.linear(latent[:, 0], self.expansion(kept)).unflatten(-1, (self.n_heads, -1))
        k_nope, v = keys_values.transpose(1, 2).split([self.nope, self.v_dim], dim=-1)
        q = torch.cat([q_nope, q_rope], dim=-1)
        k = torch.cat([k_nope, k_rope.expand(-1, self.n_heads, -1, -1)], dim=-1)
        # the fused kernel wants one width for all: zeros change no score, and are cut off again.
        # It divides scores by the root of the width, which `scale` has done already
        width = max(self.nope + self.rope, self.v_dim)
        q, k, v = (F.pad(part, (0, width - part.shape[-1])) for part in (q, k, v))
        return attend(q * math.sqrt(width), k, v, mask, self.dropped)[..., : self.v_dim]

    def absorbed(self, q_nope: Tensor, q_rope: Tensor, kept: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to the latents themselves, as heads that share one key and value.

        A score q · (W c) is (Wᵀ q) · c, and a sum of values W c is W times a sum of latents: so W
        is applied to T queries and T results, and not to S keys and values.
        """
        weight = self.expansion(kept).view(self.n_heads, -1, self.rank)
        to_key, to_value = weight.split([self.nope, self.v_dim], dim=1)  # (H, N, R), (H, V, R)
        q = torch.cat([q_nope @ to_key, q_rope], dim=-1)
        q = q * math.sqrt(self.rank + self.rope)  # by which the kernel divides: see `expanded`
        values = F.pad(kept[..., : self.rank], (0, self.rope))  # (B, 1, S, R + P)
        out = attend_groups(q, kept, values, mask, self.dropped)[..., : self.rank]
        return out @ to_value.mT  # (B, H, T, R) -> (B, H, T, V)

    def expansion(self, kept: Tensor) -> Tensor:
        """Return the weights (H (N + V), R) in the type of what they are multiplied with."""
        return self.kv_b_proj.weight.to(kept.dtype)

    @property
    def dropped(self) -> float:
        """The share of attention weights that is dropped."""
        return self.drop_rate if self.training else 0.0

    def new_cache(self, batch_size: int, length: int) -> "LatentCache":
        """Return an empty cache for batch_size rows of at most `length` tokens."""
        return LatentCache(self.n_layers, batch_size, length)


part("attention", "latent_attention")(LatentAttention)


def softmax_scale(dim: int, positions: Any) -> float:
    """Return by what scores are multiplied: 1/√dim, and YaRN's sharpening where it is asked for.

    With mscale_all_dim, DeepSeek sharpens all of a score here, and not its rotated part alone.
    """
    keys = positions if isinstance(positions, Mapping) else {}
    if not keys.get("mscale_all_dim"):
        return dim**-0.5
    return dim**-0.5 * sharpening(keys["factor"], keys["mscale_all_dim"]) ** 2


class LatentCache(KVCache):
    """What latent attention keeps of the tokens read so far: (B, 1, S, R + P) for each layer."""

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store latents and rotated keys k (B, 1, T, R + P); return all, the latents, and the mask.

        v: the latents, which are the first numbers of k.
        """
        checks.cache_entry(self, layer, k)
        if self.data is None:
            checks.no_gradient(k)
            B, _, T, D = k.shape
            self.data = k.new_empty(self.n_layers, B, 1, self.capacity, D)
            self.open(self.data, self.length - T)
        self.stored += 1
        self.new[layer].copy_(k)
        kept = self.filled[layer]
        return kept, kept[..., : v.shape[-1]], self.mask
