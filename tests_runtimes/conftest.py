"""What the programs of others are held against: our own greedy text."""

import json
from pathlib import Path

import pytest
import torch

from llmlib.files import home
from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2 import load_pretrained, save_pretrained
from llmlib.pretrained.onnx import save_onnx
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import load_tokenizer

N_NEW, PROMPT = 40, "Once upon a time there was a naïve king"


@pytest.fixture(scope="session", params=["nano", "gpt4 pattern, head of its own"])
def written(request, tmp_path_factory):
    """A folder by `save_pretrained`, and `expected.json` in it: the prompt, ids and our text."""
    folder = tmp_path_factory.mktemp("model")
    if request.param == "nano":
        nano = home() / "gpt2" / "nano"
        model, tokenizer = load_pretrained(nano), load_tokenizer(nano)
    else:
        torch.manual_seed(0)
        special = ["<|endoftext|>"]
        text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
        tokenizer = BPETokenizer.train(text, 400, pattern="gpt4", special_tokens=special)
        config = GPTConfig(400, 64, emb_dim=32, n_heads=4, n_layers=2, tie_weights=False)
        model = GPT(config).eval()
        model.init_weights(0.2)
    save_pretrained(model, folder, tokenizer)
    (folder / "onnx").mkdir()
    save_onnx(model, folder / "onnx" / "model.onnx")
    prompt = tokenizer.encode(PROMPT)
    ids = [tokenizer.eot_token, *prompt][: model.config.context_length - N_NEW]
    greedy = Sampling(temperature=0)
    new = generate(model, torch.tensor([ids]), N_NEW, greedy)[0][len(ids) :]
    said = {"ids": ids, "new": new, "text": tokenizer.decode(new), "n_new": N_NEW}
    said |= {"prompt": PROMPT, "prompt_ids": prompt}
    (folder / "expected.json").write_text(json.dumps(said), encoding="utf-8")
    return folder, said
