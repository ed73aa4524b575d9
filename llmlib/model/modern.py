# From notebooks/11_modern_transformer.ipynb: edit there, then run make export.

"""The transformer of today, from a configuration: Llama, Mistral, Qwen, SmolLM and their kin.

Built in notebook 11: the GPT of notebook 04 with other parts, which `ModernConfig` chooses by name.
Its forward pass is GPT's. What is left out: long contexts (notebook 12) and experts (notebook 13),
which add parts of their own in files of their own.

Shapes: B rows, T tokens, C = emb_dim, V = vocab_size.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.gpt import GPT
from llmlib.model.layers import PLAIN, Places
from llmlib.model.parts import Choice, build_part, part
from llmlib.model.presets import MODERN
from llmlib.model.protocol import Aux, Cache


def usual_hidden_dim(emb_dim: int, feed_forward: Choice) -> int:
    """Return the hidden width that gives a feed-forward layer about 8 emb_dim² parameters.

    Two matrices of 4 emb_dim each, or three of 8/3 emb_dim, as a multiple of 32.
    """
    return 4 * emb_dim if feed_forward in ("gelu", "relu2") else -(-emb_dim * 8 // 3 // 32) * 32


@dataclass(frozen=True)
class ModernConfig(checks.KnownFields):
    """All that decides the shape of a modern transformer, checked when it is made.

    None is replaced by the value that the comment names. Parts are given by name, or as a dict with
    "name" and settings of the part. Raises ValueError for a value that no model can have, and
    TypeError for a field that does not exist; both say what is allowed.
    """

    vocab_size: int  # V, the number of different tokens
    context_length: int  # the most tokens it can read at once
    emb_dim: int  # C, numbers per token
    n_heads: int  # heads of queries
    n_layers: int  # blocks
    n_kv_heads: int | None = None  # heads of keys and values, a divisor of n_heads; None: n_heads
    head_dim: int | None = None  # D, numbers per head; None: emb_dim / n_heads
    hidden_dim: int | None = None  # inside the feed-forward layer; None: see `usual_hidden_dim`
    norm_eps: float = 1e-5  # added to the mean square before its root
    rope_base: float = 10_000.0  # of rotary positions
    qkv_bias: bool = False  # whether queries, keys and values have a bias, as in Qwen2
    o_bias: bool = False  # whether the output of attention has a bias
    mlp_bias: bool = False  # whether the feed-forward layer has biases
    qk_norm: bool = False  # whether queries and keys are normalized, as in Qwen3
    tie_weights: bool = False  # whether the output head is the token embedding
    logit_cap: float | None = None  # logits stay between -cap and cap, as in Gemma 2
    zero_init: bool = False  # whether the projections into the stream start at zero
    drop_rate: float = 0.0  # share dropped while training: attention, block outputs
    norm: Choice = "rms"  # rms, layer
    positions: Choice = "rotary"  # rotary, learned, none
    mask: Choice = "causal"  # causal
    attention: Choice = "grouped"  # grouped
    feed_forward: Choice = "swiglu"  # swiglu, relu2, gelu

    def __post_init__(self):
        for name, value in self.usual_values().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        checks.modern_config(self)

    def usual_values(self) -> dict[str, Any]:
        """Return what the fields are that may be left out."""
        return {
            "n_kv_heads": self.n_heads,
            "head_dim": checks.width_of_head(self),
            "hidden_dim": usual_hidden_dim(self.emb_dim, self.feed_forward),
        }

    @staticmethod
    def preset(name: str, **changes: Any) -> "ModernConfig":
        """Return one of the presets of `llmlib.model.presets`, with some fields changed.

        Raises ValueError for an unknown preset.
        """
        checks.known_name("preset", name, MODERN)
        return ModernConfig(**(MODERN[name] | changes))

    def build(self, kind: str, layer: int = 0) -> Any:
        """Build one of the parts: "norm", "positions", "mask", "attention" or "feed_forward"."""
        return build_part(kind, getattr(self, kind), self, layer)


class ModernBlock(nn.Module):
    """A transformer block with the parts of a configuration, normalized at each entrance."""

    def __init__(self, config: ModernConfig, layer: int):
        super().__init__()
        self.ln_1 = config.build("norm")
        self.attn = config.build("attention", layer)
        self.ln_2 = config.build("norm")
        self.mlp = config.build("feed_forward", layer)
        self.drop_rate = config.drop_rate

    def forward(
        self,
        x: Tensor,
        cache: Cache | None = None,
        aux: Aux | None = None,
        places: Places = PLAIN,
    ) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        x = x + self.dropped(self.attn(self.ln_1(x), places, cache))
        return x + self.dropped(self.mlp(self.ln_2(x), places, aux))

    def dropped(self, x: Tensor) -> Tensor:
        """Drop some numbers of x while training."""
        return F.dropout(x, self.drop_rate) if self.training and self.drop_rate else x


@part("mask", "causal")
class CausalMask:
    """Each token sees itself and all before it; with segments, those of its document."""

    def __init__(self, config: ModernConfig, layer: int = 0):
        self.n_layers = config.n_layers

    def packed(self, ids: Tensor, segments: Tensor | None) -> Any:
        """Return positions and mask for reading ids (B, T) without a cache; None if plain."""
        from llmlib.model.cache import PackedRows

        return None if segments is None else PackedRows(segments)

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Return an empty cache."""
        from llmlib.model.cache import KVCache

        return KVCache(self.n_layers, batch_size, length)


class Modern(GPT):
    """A transformer of today: token ids (B, T) in, logits (B, T, V) out.

    It is a GPT with other parts. The logits at a position score the token that follows it, and
    depend on no later token. A new model is initialised as GPT-2 was, or, with `zero_init`, such
    that each block adds nothing at first.

    >>> model = Modern(ModernConfig.preset("llama-small"))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 512])
    """

    def __init__(self, config: ModernConfig):
        nn.Module.__init__(self)
        checks.instance("config", config, ModernConfig)
        self.config = config
        self.logit_cap, self.zero_init = config.logit_cap, config.zero_init
        self.wte = nn.Embedding(config.vocab_size, config.emb_dim)
        self.positions = config.build("positions")
        self.mask = config.build("mask")
        self.h = nn.ModuleList(ModernBlock(config, layer) for layer in range(config.n_layers))
        self.ln_f = config.build("norm")
        self.lm_head: nn.Module | None = None  # the token embedding is the head as well
        self.gradient_checkpointing = False
        if not config.tie_weights:
            self.lm_head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self, std: float = 0.02, *, generator: torch.Generator | None = None) -> None:
        """Draw all weights again, as a GPT does; with zero_init, block outputs start at zero."""
        GPT.init_weights(self, std, generator=generator)
        for name, parameter in self.h.named_parameters():
            if self.zero_init and name.endswith("c_proj.weight"):
                parameter.zero_()

    def embed(
        self, ids: Tensor, positions: slice | Tensor, segments: Tensor | None = None
    ) -> tuple[Any, ...]:
        """Return what the blocks read: x (B, T, C), and rotation and segments of the tokens."""
        x = self.wte(ids).to(self.ln_f.weight.dtype)  # a packed table has 16 bits
        x, rotation = self.positions(x, positions)
        if self.training and self.config.drop_rate:
            x = F.dropout(x, self.config.drop_rate)
        return x, Places(rotation, segments)

    def rows(self, ids: Tensor, cache: Cache | None, segments: Tensor | None) -> Any:
        """Return positions and mask of the tokens: a grown cache, packed rows, or None."""
        if cache is None:
            return self.mask.packed(ids, segments)
        cache.grow(*ids.shape, segments)
        return cache

    def head(self, features: Tensor) -> Tensor:
        """Map features (..., C) to logits (..., V)."""
        logits, cap = GPT.head(self, features), self.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @property
    def head_weight(self) -> Tensor | None:
        """The (V, C) matrix if head(x) is exactly x @ head_weight.T, else None."""
        if self.logit_cap is not None:
            return None
        return self.wte.weight if self.lm_head is None else getattr(self.lm_head, "weight", None)

    def new_cache(self, batch_size: int, length: int) -> Cache:
        """Return an empty cache for batch_size rows of at most `length` tokens."""
        checks.cache_size(batch_size, length, self.config.context_length)
        # an attention that stores something else brings a cache of its own
        own = getattr(self.h[0].attn, "new_cache", self.mask.new_cache)
        return own(batch_size, length)
