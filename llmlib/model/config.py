# From notebooks/04_gpt.ipynb: edit there, then run make export.

"""What decides the shape of a GPT: its configuration, and the presets.

Built in notebook 04.
"""

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

from llmlib.model.attention import check_sizes


@dataclass(frozen=True)
class GPTConfig:
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

    def __new__(cls, *args: object, **given: object) -> "GPTConfig":
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise TypeError(f"GPTConfig has no field {name!r}: {suggest(name, names)}")
        return super().__new__(cls)

    def __post_init__(self):
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                raise ValueError(f"{name} is {size!r}: it must be an int of at least 1")
        for name in ("qkv_bias", "tie_weights"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be True or False")
        check_sizes(self.emb_dim, self.n_heads, self.context_length, self.drop_rate)

    @classmethod
    def preset(cls, name: str, **changes: object) -> "GPTConfig":
        """Return one of PRESETS, with some fields changed; ValueError for a name that is none."""
        if name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}: {suggest(name, list(PRESETS))}")
        return replace(PRESETS[name], **changes)


def suggest(name: str, allowed: list[str]) -> str:
    """Words that help with a misspelt name: the nearest allowed one, and all of them."""
    close = get_close_matches(str(name), allowed, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(allowed)}"


PRESETS = {
    "gpt2-124M": GPTConfig(50257, 1024, emb_dim=768, n_heads=12, n_layers=12),
    "gpt2-355M": GPTConfig(50257, 1024, emb_dim=1024, n_heads=16, n_layers=24),
    "gpt2-774M": GPTConfig(50257, 1024, emb_dim=1280, n_heads=20, n_layers=36),
    "gpt2-1558M": GPTConfig(50257, 1024, emb_dim=1600, n_heads=25, n_layers=48),
    # For the story world: its words fit 512 ids; give vocab_size=tokenizer.vocab_size for no waste.
    "story-small": GPTConfig(512, 192, emb_dim=96, n_heads=4, n_layers=3),
    "story-tiny": GPTConfig(512, 192, emb_dim=48, n_heads=4, n_layers=2),
}
