# From notebooks/08_gpt2_in_100_lines.ipynb: edit there, then run make export.

"""GPT-2, complete in one hundred lines of code: `python -m llmlib.minimal "Once upon a time"`.

Built in notebook 08, and tied to nothing else of the package. Blank lines, comments and docstrings
are not counted. Left out: training, dropout, checksums, and the cache of notebook 10.
"""

import argparse
import codecs
import json
from pathlib import Path

import numpy as np
import tiktoken
import torch
from torch import nn


class Attention(nn.Module):
    """Let each token look at itself and at those before it: (B, T, C) -> (B, T, C)."""

    def __init__(self, n_embd, n_head):
        super().__init__()
        self.n_head = n_head
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)  # queries, keys and values at once
        self.c_proj = nn.Linear(n_embd, n_embd)

    def forward(self, x):
        q, k, v = self.c_attn(x).chunk(3, dim=2)  # each (B, T, C)
        q, k, v = (part.unflatten(2, (self.n_head, -1)).transpose(1, 2) for part in (q, k, v))
        # each (B, n_head, T, C / n_head)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Work on each token by itself: (B, T, C) -> (B, T, C)."""

    def __init__(self, n_embd):
        super().__init__()
        self.c_fc = nn.Linear(n_embd, 4 * n_embd)
        self.c_proj = nn.Linear(4 * n_embd, n_embd)

    def forward(self, x):
        return self.c_proj(nn.functional.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """Add what attention and the MLP find to what came in: (B, T, C) -> (B, T, C)."""

    def __init__(self, n_embd, n_head):
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd)
        self.attn = Attention(n_embd, n_head)
        self.ln_2 = nn.LayerNorm(n_embd)
        self.mlp = MLP(n_embd)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """Token ids (B, T) -> logits of the next token (B, T, V)."""

    def __init__(self, n_vocab, n_ctx, n_embd, n_head, n_layer):
        super().__init__()
        self.wte = nn.Embedding(n_vocab, n_embd)
        self.wpe = nn.Embedding(n_ctx, n_embd)
        self.h = nn.ModuleList(Block(n_embd, n_head) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


@torch.no_grad()
def load(folder):
    """Return the GPT2 that OpenAI's files in a folder hold.

    Raises ValueError if the file of the weights has another size than hparams.json asks for.
    """
    model = GPT2(**json.loads((Path(folder) / "hparams.json").read_text()))
    weights = sorted(model.state_dict().items())  # the tensors themselves, in the file's order
    path = Path(folder) / "model.ckpt.data-00000-of-00001"
    size = path.stat().st_size
    expected = 4 * sum(weight.numel() for _, weight in weights)
    if size != expected:
        raise ValueError(f"{path} has {size} bytes; the weights of hparams.json have {expected}")
    with path.open("rb") as file:
        for name, weight in weights:
            values = torch.from_numpy(np.fromfile(file, "<f4", weight.numel()))
            matrix = name.startswith("h.") and weight.ndim == 2  # there (in, out), here (out, in)
            weight.copy_(values.view(weight.T.shape).T if matrix else values.view_as(weight))
    return model.eval()


def tokenizer(folder):
    """Return the tokenizer of a folder with OpenAI's encoder.json, as tiktoken runs it."""
    printable = [b for b in range(33, 256) if chr(b).isprintable()]  # they stand for themselves
    others = [b for b in range(256) if b not in printable]
    byte_of = {chr(b): b for b in printable}
    byte_of |= {chr(256 + number): b for number, b in enumerate(others)}
    *tokens, end = json.loads((Path(folder) / "encoder.json").read_text())  # in the order of ids
    ids = {bytes(byte_of[c] for c in token): number for number, token in enumerate(tokens)}
    words = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    return tiktoken.Encoding("", pat_str=words, mergeable_ranks=ids, special_tokens={end: len(ids)})


@torch.inference_mode()
def sample(model, ids, n, temperature=1.0, top_k=50):
    """Yield n token ids that continue a list of ids; temperature 0 takes the most probable."""
    if temperature == 0:
        top_k = temperature = 1  # only the best one is left to draw
    for _ in range(n):
        logits = model(torch.tensor([ids[-model.wpe.num_embeddings :]]))[0, -1] / temperature
        best = logits.topk(min(top_k, len(logits)))
        chosen = torch.multinomial(best.values.softmax(dim=0), 1)
        ids = [*ids, best.indices[chosen].item()]
        yield ids[-1]


def main():
    """Continue a prompt until the model ends the document."""
    parser = argparse.ArgumentParser(description="GPT-2 in one hundred lines.")
    parser.add_argument("prompt")
    parser.add_argument("--folder", default="gpt2/nano", help="with OpenAI's files")
    parser.add_argument("--temperature", type=float, default=1.0)
    options = parser.parse_args()
    model, encoding = load(options.folder), tokenizer(options.folder)
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    print(options.prompt, end="")
    ids = [encoding.eot_token, *encoding.encode(options.prompt)]
    for i in sample(model, ids, 200, options.temperature):
        if i == encoding.eot_token:
            break
        print(utf8.decode(encoding.decode_single_token_bytes(i)), end="", flush=True)
    print()


if __name__ == "__main__":
    main()
