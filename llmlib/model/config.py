# From notebooks/04_gpt.ipynb: edit there, then run make export.

"""What decides the shape of a GPT: its configuration, and the presets.

Built in notebook 04.
"""

from dataclasses import dataclass, replace

from torch import nn

from llmlib import checks
from llmlib.model.attention import CausalAttention


@dataclass(frozen=True)
class GPTConfig(checks.KnownFields):
    """All that decides a GPT's shape, checked when it is made.

    Raises ValueError for a value that no GPT can have, and TypeError for a field that does not
    exist; both say what is allowed.

    >>> GPTConfig.preset("gpt2-124M", context_length=256).emb_dim
    768
    """

    vocab_size: int  # V, the number of different tokens
    context_length: int  # the most tokens it can read at once
    emb_dim: int  # C, numbers per token; divisible by n_heads
    n_heads: int  # attention heads in each block
    n_layers: int  # blocks
    drop_rate: float = 0.0  # share dropped while training: embeddings, attention, block outputs
    qkv_bias: bool = True  # whether queries, keys and values have a bias, as in GPT-2
    tie_weights: bool = True  # whether the output head is the token embedding, as in GPT-2

    def __post_init__(self):
        checks.gpt_config(self)

    @staticmethod
    def preset(name: str, **changes: object) -> "GPTConfig":
        """Return one of PRESETS, with some fields changed.

        Raises ValueError for an unknown preset.
        """
        checks.known_name("preset", name, PRESETS)
        return replace(PRESETS[name], **changes)

    def attention(self, layer: int) -> nn.Module:
        """Build the attention of one layer."""
        sizes = self.emb_dim, self.n_heads, self.context_length
        return CausalAttention(*sizes, self.drop_rate, self.qkv_bias, layer=layer)


PRESETS = {
    "gpt2-124M": GPTConfig(50257, 1024, emb_dim=768, n_heads=12, n_layers=12),
    "gpt2-355M": GPTConfig(50257, 1024, emb_dim=1024, n_heads=16, n_layers=24),
    "gpt2-774M": GPTConfig(50257, 1024, emb_dim=1280, n_heads=20, n_layers=36),
    "gpt2-1558M": GPTConfig(50257, 1024, emb_dim=1600, n_heads=25, n_layers=48),
    # For the story world: its words fit 512 ids; give vocab_size=tokenizer.vocab_size for no waste.
    "story-small": GPTConfig(512, 192, emb_dim=96, n_heads=4, n_layers=3),
    "story-tiny": GPTConfig(512, 192, emb_dim=48, n_heads=4, n_layers=2),
}
