"""Sizes to start from, by name: those of published models, and small ones for the story world.

Written by hand: facts. Each is a set of fields of `llmlib.model.modern.ModernConfig`, and what is
not given follows from the rest. The published sizes are those of each model's config.json; a test
compares the number of parameters with the one that its authors state.
"""

from typing import Any

MODERN: dict[str, dict[str, Any]] = {
    # The sizes of published models, as their files state them
    "llama2-7b": {
        "vocab_size": 32000,
        "context_length": 4096,
        "emb_dim": 4096,
        "n_heads": 32,
        "n_layers": 32,
        "hidden_dim": 11008,
    },
    "llama3-8b": {
        "vocab_size": 128256,
        "context_length": 8192,
        "emb_dim": 4096,
        "n_heads": 32,
        "n_layers": 32,
        "n_kv_heads": 8,
        "hidden_dim": 14336,
        "rope_base": 500_000.0,
    },
    "llama3.2-1b": {
        "vocab_size": 128256,
        "context_length": 131072,
        "emb_dim": 2048,
        "n_heads": 32,
        "n_layers": 16,
        "n_kv_heads": 8,
        "head_dim": 64,
        "hidden_dim": 8192,
        "rope_base": 500_000.0,
        "positions": {
            "name": "rope_scaling",
            "type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_weights": True,
    },
    "mistral-7b": {
        "vocab_size": 32000,
        "context_length": 32768,
        "emb_dim": 4096,
        "n_heads": 32,
        "n_layers": 32,
        "n_kv_heads": 8,
        "hidden_dim": 14336,
        "mask": {"name": "window", "width": 4096},
    },
    "qwen2-0.5b": {
        "vocab_size": 151936,
        "context_length": 32768,
        "emb_dim": 896,
        "n_heads": 14,
        "n_layers": 24,
        "n_kv_heads": 2,
        "hidden_dim": 4864,
        "norm_eps": 1e-6,
        "rope_base": 1_000_000.0,
        "qkv_bias": True,
        "tie_weights": True,
    },
    "qwen3-0.6b": {
        "vocab_size": 151936,
        "context_length": 40960,
        "emb_dim": 1024,
        "n_heads": 16,
        "n_layers": 28,
        "n_kv_heads": 8,
        "head_dim": 128,
        "hidden_dim": 3072,
        "norm_eps": 1e-6,
        "rope_base": 1_000_000.0,
        "qk_norm": True,
        "tie_weights": True,
    },
    "smollm2-135m": {
        "vocab_size": 49152,
        "context_length": 8192,
        "emb_dim": 576,
        "n_heads": 9,
        "n_layers": 30,
        "n_kv_heads": 3,
        "hidden_dim": 1536,
        "rope_base": 100_000.0,
        "tie_weights": True,
    },
    # For the story world, beside GPT's "story-small"
    "llama-small": {
        "vocab_size": 512,
        "context_length": 192,
        "emb_dim": 96,
        "n_heads": 4,
        "n_layers": 3,
        "n_kv_heads": 2,
        "tie_weights": True,
    },
    # Sixteen experts, of which a token uses two: as wide as a dense layer of 256, llama-small's
    "moe-small": {
        "vocab_size": 512,
        "context_length": 192,
        "emb_dim": 96,
        "n_heads": 4,
        "n_layers": 3,
        "n_kv_heads": 2,
        "hidden_dim": 128,
        "tie_weights": True,
        "feed_forward": {"name": "moe", "n_experts": 16, "top_k": 2},
    },
}

# All names, for help texts that must come without torch; those of a GPT stand in
# `llmlib.model.config`
GPT = ("gpt2-124M", "gpt2-355M", "gpt2-774M", "gpt2-1558M", "story-small", "story-tiny")
NAMES = (*GPT, *MODERN)
