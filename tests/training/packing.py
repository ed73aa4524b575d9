"""The toy of all tests with a packed head, and documents packed in rows.

Its head has weights stored as int8 with a scale for each row, a trained adapter beside them, a bias
and a soft-cap, so that no single matrix says what it does.
"""

from dataclasses import dataclass

import torch
import toy
from torch import nn


@dataclass(frozen=True)
class ToyConfig(toy.ToyConfig):
    vocab_size: int = 13
    context_length: int = 32
    emb_dim: int = 8
    softcap: float | None = 5.0
    aux_name: str | None = "gate"


class Toy(toy.Toy):
    """Token ids (B, T) to logits (B, T, V), as the protocol has it."""

    def __init__(self, config=ToyConfig(), seed=0):
        super().__init__(config, seed)
        del self.lm_head
        V, C = config.vocab_size, config.emb_dim
        torch.manual_seed(seed)
        self.adapter = nn.Parameter(0.3 * torch.randn(V, C))
        self.bias = nn.Parameter(torch.randn(V))
        self.register_buffer("packed", torch.randint(-127, 128, (V, C), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(V, 1) / 127)
        self.largest_head_call = 0

    def head(self, features):
        self.largest_head_call = max(self.largest_head_call, features[..., 0].numel())
        logits = features @ (self.packed * self.scale + self.adapter).T + self.bias
        cap = self.config.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def features(self, ids, cache=None, *, segments=None, aux=None):
        named = self.config.aux_name is not None
        return super().features(ids, cache, segments=segments, aux=aux if named else None)


def pack(documents, length, end=0):
    """Put documents one after the other into one row (1, length); the rest is padding."""
    inputs = torch.full((1, length), end)
    targets, segments = torch.full((1, length), -100), torch.full((1, length), -1)
    at = 0
    for number, document in enumerate(documents):
        n = len(document) + 1
        inputs[0, at : at + n] = torch.tensor([end, *document])
        targets[0, at : at + n] = torch.tensor([*document, end])
        segments[0, at : at + n] = number
        at += n
    return inputs, targets, segments


def rows(documents, end=0):
    """The same documents as separate batches of one row, without padding."""
    return [pack([document], len(document) + 1, end) for document in documents]
