"""A small model of every architecture, for tests that all of them pass."""

from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.model.modern import Modern, ModernConfig

# What a kind has besides the sizes; "modern" has all that changes the way of a number through it
FIELDS = {
    "gpt": {},
    "modern": {"n_kv_heads": 1, "qk_norm": True, "qkv_bias": True},
    "experts": {
        "hidden_dim": 16,
        "feed_forward": {"name": "moe", "n_experts": 6, "top_k": 2, "shared_dim": 8},
    },
}
KINDS = [*FIELDS]


def small_model(kind, *sizes, **changes):
    """Build a model; sizes and changes are those of its configuration, which is tied by default."""
    fields = {"tie_weights": True} | FIELDS[kind] | changes
    if kind == "gpt":
        return GPT(GPTConfig(*sizes, **fields))
    return Modern(ModernConfig(*sizes, **fields))
