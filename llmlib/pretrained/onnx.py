"""A model as ONNX, the format that onnxruntime and browsers run: any number of rows and tokens.

Written by hand. The packages `onnx` and `onnxscript` are needed here only, and not installed with
the course. Left out: the cache, so a program that writes with such a file reads the whole text
again for each token.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmlib import checks, files


class Logits(nn.Module):
    """What is exported of a model: ids in, logits out, and no options."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map ids (B, T) to logits (B, T, V)."""
        return self.model(input_ids)


def save_onnx(model: Any, path: str | Path) -> None:
    """Write a model of `llmlib.model.protocol` as one file, with input_ids and logits by name.

    B and T may be any numbers when it runs, T up to the context length. Raises ImportError without
    the packages that torch exports with, and OSError if the file cannot be written.
    """
    checks.language_model(model)
    longest = model.config.context_length
    # two rows: a size of 1 in the example would stay 1
    example = torch.zeros(2, max(2, longest // 2), dtype=torch.long)
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=longest)}
    with files.replacing(path) as part:
        torch.onnx.export(
            Logits(model).eval(),
            (example,),
            part,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": sizes},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
