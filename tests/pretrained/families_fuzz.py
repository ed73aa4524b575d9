"""Configurations of Llama and its kin, changed at random, read by transformers and by us.

    python tests/pretrained/families_fuzz.py 3000

A verdict is "same logits" or "refused". That we refuse more is allowed where a key is not on our
lists, where values are of a type that only transformers lets pass, or where weights do not fit.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import KINDS
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from llmlib.pretrained.huggingface import load_pretrained

logging.set_verbosity(logging.CRITICAL)
logging.disable_progress_bar()

NAMES = ("llama", "mistral", "qwen2", "qwen3")
IDS = torch.randint(20, (2, 16), generator=torch.Generator().manual_seed(0))
VALUES = [None, True, False, 0, 1, 2, 4, 5, 8, 16, 20, 24, -1, 0.0, 0.5, 1e-5, 1e-6, 1.0, 50.0]
VALUES += ["", "silu", "8", [], {}, 10_000]
ROPES = [
    {"rope_type": "default"},
    {"rope_type": "default", "rope_theta": 50.0},
    {"type": "default", "rope_theta": 10_000.0},
    {"rope_theta": 20},
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 2.0},
    {"rope_type": "longrope"},
    {"rope_type": "none"},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"rope_type": "default", "partial_rotary_factor": 1.0},
    {"rope_type": "default", "factor": 8.0},
]
CHOICES = {
    "hidden_act": ["silu", "swish", "gelu", "relu", "gelu_new", "silu ", "linear"],
    "rope_parameters": ROPES,
    "rope_scaling": ROPES,
    "rope_theta": [10_000.0, 10_000, 50.0, 20, 1e6, 1.0],
    "layer_types": [
        ["full_attention"] * 2,
        ["sliding_attention"] * 2,
        ["full_attention", "sliding_attention"],
        ["full_attention"],
        [],
    ],
    "torch_dtype": ["float16", "float32", "bfloat16", "int8"],
    "model_type": [*NAMES, "gemma", "gpt2"],
    "eos_token_id": [1, [1, 2], None, "a"],
}
KEYS = [
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"),
    *("hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "sliding_window"),
    *("use_sliding_window", "max_window_layers", "layer_types", "rope_theta", "rope_scaling"),
    *("rope_parameters", "partial_rotary_factor", "torch_dtype", "dtype", "use_cache"),
    *("pretraining_tp", "initializer_range", "attention_dropout", "is_causal", "return_dict"),
    *("eos_token_id", "model_type", "rope_interleaved", "is_encoder_decoder", "new_key"),
    *("chunk_size_feed_forward", "output_hidden_states", "per_layer_config", "num_labels"),
    *("original_max_position_embeddings", "add_cross_attention", "transformers_weights"),
]


def changed(config, rng):
    for key in rng.sample(KEYS, rng.choice([0, 1, 1, 2, 3])):
        if rng.random() < 0.2:
            config.pop(key, None)
        else:
            config[key] = rng.choice(CHOICES.get(key, VALUES) if rng.random() < 0.8 else VALUES)
    return config


def theirs(folder):
    """Logits, or None if transformers refuses, and whether it dropped or made up something."""
    try:
        options = {"output_loading_info": True, "dtype": torch.float32}
        model, report = AutoModelForCausalLM.from_pretrained(folder, **options)
        with torch.no_grad():
            logits = model.float().eval()(IDS)[0]
    except Exception:
        return None, False
    return logits, any(len(report[k]) for k in ("missing_keys", "unexpected_keys"))


def ours(folder):
    try:
        with torch.no_grad():
            return load_pretrained(folder)(IDS), ""
    except ValueError as error:  # a FileError, or ids that so small a model cannot read
        return None, str(error).removeprefix(str(folder))


def makes_no_sense(settings):
    """Whether transformers fails only when it runs, or reads a window of 0 as no token at all."""
    return settings.get("sliding_window") == 0 or settings.get("return_dict") is False


def compare(rng, name):
    """Return the verdict on one folder; one that begins with "FAULT" should not be."""
    config, tensors, reference = MODELS[name]
    with tempfile.TemporaryDirectory() as place:
        folder, settings = Path(place), changed(dict(config), rng)
        (folder / "config.json").write_text(json.dumps(settings))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        expected, made_up = theirs(folder)
        found, reason = ours(folder)
    about = [f"{k}={settings.get(k, ...)}" for k in KEYS if settings.get(k) != config.get(k)]
    if expected is None and found is None:
        return "both refuse"
    if found is None:
        same = expected.shape == reference.shape and (expected - reference).abs().max() < 1e-5
        harmless = about and not any(word in reason for word in STRICT)
        return (
            "we refuse" if made_up or not same or not harmless else f"FAULT {name} {reason} {about}"
        )
    if expected is None:
        return "we read" if makes_no_sense(settings) else f"FAULT loaded {name} {about}"
    close = torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
    return "same" if close else f"FAULT other logits {name} {about}"


# where transformers lets pass what changes nothing here: we say which key, and what to do
STRICT = ("not read for", "is read here has", "should be of type", "say it once", "one of them")
STRICT += ("is a type missing", "rope_scaling", "layer_types", "must be", "hidden_act")
STRICT += ("sliding_window is", "exceeds the model's context_length")


def make(name):
    """The settings, tensors and logits of a model of transformers."""
    model = KINDS[name].make()
    with torch.no_grad():
        logits = model(IDS).logits
    config = json.loads(json.dumps(model.config.to_diff_dict(), default=str))
    config = {k: v for k, v in config.items() if k not in ("dtype", "transformers_version")}
    tensors = {n: t.clone() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    return config, tensors, logits


MODELS = {name: make(name) for name in NAMES}


def run(n, seed=0):
    """Return how often each verdict came, and the faults."""
    rng, counts, faults = random.Random(seed), Counter(), []
    for number in range(n):
        verdict = compare(rng, NAMES[number % len(NAMES)])
        counts[" ".join(verdict.split()[:2])] += 1
        faults += [verdict] if verdict.startswith("FAULT") else []
    return counts, faults


if __name__ == "__main__":
    counts, faults = run(int(sys.argv[1]))
    print(dict(counts))
    print("\n".join(faults[:30]))
