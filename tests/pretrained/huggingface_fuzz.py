"""Folders of transformers, changed at random, read by transformers and by us.

    python tests/pretrained/huggingface_fuzz.py 10000

Half of the folders have other settings or tensors, half have damaged bytes in one of the two files.
A verdict is "same logits" or "refused". Allowed is also that we refuse what transformers fills with
random numbers or drops without a word: missing and left-over tensors, numbers that are no floats or
not finite, and another kind of model by its name.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch
from bundle_fuzz import change_bytes
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from llmlib.pretrained.gpt2 import load_pretrained

logging.set_verbosity(logging.CRITICAL)
logging.disable_progress_bar()

SIZES = {"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])
VALUES = [None, True, False, 0, 1, 2, 8, 20, 32, -1, 0.0, 0.5, 1e-5, 1e-6, 1.0]
VALUES += ["", "gelu", "8", [], {}]
ACTIVATIONS = ["gelu", "relu", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate", "silu", "tanhh"]
KEYS = [
    *("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function"),
    *("layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "n_ctx"),
    *("reorder_and_upcast_attn", "add_cross_attention", "use_cache", "tie_word_embeddings"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "initializer_range", "bos_token_id"),
    *("eos_token_id", "pad_token_id", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("max_position_embeddings", "is_causal", "architectures", "summary_type", "new_key"),
    *("summary_activation", "summary_use_proj", "return_dict", "is_encoder_decoder", "dtype"),
]


def their_tensors():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SIZES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model, {n: t.clone() for n, t in model.state_dict().items() if n != "lm_head.weight"}


def changed_config(config, rng):
    for key in rng.sample(KEYS, rng.choice([0, 1, 1, 2, 3])):
        if rng.random() < 0.2:
            config.pop(key, None)
        elif key == "activation_function":
            config[key] = rng.choice(ACTIVATIONS)
        else:
            config[key] = rng.choice(VALUES)
    return config


def changed_tensors(tensors, rng):
    name = rng.choice([*tensors])
    match rng.randrange(12):
        case 0:
            return {n: t for n, t in tensors.items() if n != name}
        case 1:
            return {**tensors, rng.choice(["lm_head.bias", "x", "h.0.attn.bias"]): torch.ones(1)}
        case 2:
            return {n.removeprefix("transformer."): t for n, t in tensors.items()}
        case 3:
            table = tensors["transformer.wte.weight"]
            return {**tensors, "lm_head.weight": table.roll(rng.choice([0, 1]), 0).contiguous()}
        case 4:
            kind = rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.int32])
            return {**tensors, name: tensors[name].to(kind)}
        case 5:
            return {**tensors, name: tensors[name].flatten()[:-1].clone()}
        case 6:
            changed = tensors[name].clone()
            changed.view(-1)[0] = rng.choice([torch.nan, torch.inf])
            return {**tensors, name: changed}
        case 7:
            table = tensors["transformer.wte.weight"]
            rest = {n: t for n, t in tensors.items() if n != "transformer.wte.weight"}
            return {**rest, "lm_head.weight": table}
    return tensors


def theirs(folder):
    """Logits, or None if transformers refuses, and whether it dropped or made up something."""
    try:
        options = {"output_loading_info": True, "dtype": torch.float32}
        model, report = GPT2LMHeadModel.from_pretrained(folder, **options)
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


def damaged(folder, rng):
    """Change bytes of a file; return the settings and tensors that are left, if any can be read."""
    path = folder / rng.choice(["config.json", "model.safetensors"])
    data = path.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")  # of the header: most of what can go wrong
    if path.suffix == ".safetensors" and rng.random() < 0.8:
        path.write_bytes(change_bytes(rng, data[:length]) + data[length:])
    else:
        path.write_bytes(change_bytes(rng, data))
    settings, weights = {}, {}
    with suppress(Exception):
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    return settings if isinstance(settings, dict) else {}, weights


def compare(rng, config, tensors, damage):
    """Return the verdict on one folder; one that begins with "FAULT" should not be."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings, weights = changed_config(dict(config), rng), changed_tensors(tensors, rng)
        (folder / "config.json").write_text(json.dumps(settings))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if damage:
            settings, weights = damaged(folder, rng)
        expected, made_up = theirs(folder)
        found, reason = ours(folder)
    differing = [f"{k}={settings.get(k, ...)}" for k in KEYS if settings.get(k) != config.get(k)]
    differing += sorted(weights.keys() ^ tensors.keys())
    floats = all(t.is_floating_point() and t.isfinite().all() for t in weights.values())
    if expected is None and found is None:
        return "both refuse"
    if found is None:
        allowed = made_up or not floats or settings.get("is_causal", True) is not True
        # transformers is told a dtype here; where it reads one that is none, it fails
        allowed |= not isinstance(settings.get("dtype"), (str, dict, type(None)))
        same = expected.shape == REFERENCE.shape and (expected - REFERENCE).abs().max() < 1e-5
        return "we refuse" if allowed or not same else f"FAULT refused {reason} {differing}"
    if expected is None and settings.get("return_dict") is False:
        return "we read"  # a model that transformers 4 ran, and 5 cannot
    if expected is None:
        return f"FAULT loaded {differing}"
    close = torch.allclose(found, expected, rtol=1e-3, atol=1e-3, equal_nan=True)
    return "same" if close else f"FAULT other logits {differing}"


MODEL, TENSORS = their_tensors()
CONFIG = MODEL.config.to_dict()
with torch.no_grad():
    REFERENCE = MODEL.eval()(IDS).logits


def run(n, seed=0):
    """Return how often each verdict came, and the faults."""
    rng, counts, faults = random.Random(seed), Counter(), []
    config = {k: v for k, v in CONFIG.items() if k not in ("dtype", "transformers_version")}
    config = json.loads(json.dumps(config))
    for number in range(n):
        verdict = compare(rng, config, TENSORS, damage=number % 2)
        counts[" ".join(verdict.split()[:2])] += 1
        faults += [verdict] if verdict.startswith("FAULT") else []
    return counts, faults


if __name__ == "__main__":
    counts, faults = run(int(sys.argv[1]))
    print(dict(counts))
    print("\n".join(faults[:20]))
