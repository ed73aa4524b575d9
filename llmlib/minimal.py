# From notebooks/08_gpt2_in_100_lines.ipynb: edit there, then run make export.

"""GPT-2, complete in 100 lines: `python -m llmlib.minimal "Once upon a time"`. See notebook 08."""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import tiktoken
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, n_head):
        super().__init__()
        self.n_head, self.c_attn = n_head, nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):  # (B, T, C)
        q, k, v = self.c_attn(x).unflatten(2, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width, n_head):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, n_head)
        wide, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=wide, gelu=nn.GELU("tanh"), c_proj=narrow))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    def __init__(self, n_vocab, n_ctx, n_embd, n_head, n_layer):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(n_vocab, n_embd), nn.Embedding(n_ctx, n_embd)
        self.h = nn.ModuleList(Block(n_embd, n_head) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd)

    def forward(self, ids):  # (B, T) -> (B, T, V)
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def load(folder):
    model = GPT2(**json.loads((folder / "hparams.json").read_text()))
    data, at = np.fromfile(folder / "model.ckpt.data-00000-of-00001", "<f4"), 0
    for name, weight in sorted(model.state_dict().items()):  # the file is sorted by name, too
        matrix = name.startswith("h.") and weight.ndim == 2  # there (in, out), here (out, in)
        part, at = data[at : at + weight.numel()], at + weight.numel()
        part = torch.from_numpy(part).view(weight.shape[::-1] if matrix else weight.shape)
        weight.copy_(part.T if matrix else part)
    if at != len(data):
        raise ValueError(f"{folder} holds {len(data)} weights; hparams.json asks for {at}")
    return model.eval()


def tokenizer(folder):
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted({*range(256)} - {*printable})
    byte_of = dict(zip(map(chr, [*printable, *range(256, 324)]), [*printable, *others]))
    *tokens, end = json.loads((folder / "encoder.json").read_text())  # in the order of the ids
    ids = {bytes(byte_of[c] for c in token): number for number, token in enumerate(tokens)}
    words = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    return tiktoken.Encoding("", pat_str=words, mergeable_ranks=ids, special_tokens={end: len(ids)})


@torch.inference_mode()
def sample(model, ids, n, temperature=1.0, top_k=50):
    for _ in range(n):
        logits = model(torch.tensor([ids[-model.wpe.num_embeddings :]]))[0, -1] / temperature
        best = logits.topk(min(top_k, len(logits)))
        chosen = torch.multinomial(best.values.softmax(dim=0), 1)
        ids = [*ids, best.indices[chosen].item()]
        yield ids[-1]


def main(prompt, folder):
    model, encoding = load(folder), tokenizer(folder)
    print(prompt, end="", flush=True)
    for i in sample(model, [encoding.eot_token, *encoding.encode(prompt)], 200):
        if i == encoding.eot_token:
            break
        print(encoding.decode([i]), end="", flush=True)
    print()


if __name__ == "__main__" and "__file__" in globals():  # a program, and no notebook
    gpt2 = Path(__file__).parents[1] / "gpt2"
    main(" ".join(sys.argv[1:]), gpt2 / ("124M" if (gpt2 / "124M").exists() else "nano"))
