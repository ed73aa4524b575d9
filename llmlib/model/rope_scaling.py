# From notebooks/12_long_context.ipynb: edit there, then run make export.

"""Rotary positions for texts longer than those of the training: rates that turn more slowly.

Built in notebook 12. A configuration asks for them with positions={"name": "rope_scaling", "type":
"yarn", "factor": 4.0, …}; the keys are those of `rope_parameters` (once `rope_scaling`) in the
files of transformers, and so are the formulas. What is left out: longrope, whose factors are found
by a search, and rotations of a part of each head.
"""

import math
from typing import Any

import torch
from torch import Tensor

from llmlib import checks
from llmlib.model.parts import part
from llmlib.model.positions import RotaryPositions, Rotation


class ScaledRotaryPositions(RotaryPositions):
    """Rotary positions whose rates are changed, so that longer texts turn no further than short.

    type: "linear" (Chen et al. 2023), "ntk" (bloc97 2023), "dynamic" (emozilla 2023), "yarn" (Peng
    et al. 2023) or "llama3" (Llama 3.1, 2024). Other keys: see `checks.rope_scaling`. A length that
    a key leaves out is config.context_length. Raises ValueError for a key that a type does not use.
    """

    def __init__(self, config: Any, layer: int = 0, *, type: str, **keys: Any):
        super().__init__(config, layer)
        self.kind, self.keys = type, checks.rope_scaling(type, keys, config.context_length)
        self.scale = yarn_scale(self.keys) if type == "yarn" else 1.0
        self.length = 0  # of the text that is read, for the type dynamic

    def rates(self, device: Any = None) -> Tensor:
        """Return by how many radians each of the D/2 pairs turns from token to token."""
        base, rates, factor = self.base, super().rates(device), self.keys["factor"]
        if self.kind == "linear":
            return rates / factor
        if self.kind == "yarn":
            return yarn_rates(rates, base, self.keys)
        if self.kind == "llama3":
            return llama3_rates(rates, self.keys)
        if self.kind == "dynamic":  # as long as the text is: 1 up to the length of the training
            factor = factor * max(1.0, self.length / self.context_length) - (factor - 1)
        # a larger base: the slowest pair turns `factor` times more slowly, the first as before
        exponents = torch.arange(0, self.dim, 2, dtype=torch.float32, device=device) / self.dim
        return (base * factor ** (self.dim / (self.dim - 2))) ** -exponents

    def forward(self, x: Tensor, positions: slice | Tensor) -> tuple[Tensor, Rotation]:
        """Return x (B, T, C) as it is, and what `rotate` needs."""
        if self.kind != "dynamic":
            return RotaryPositions.forward(self, x, positions)
        # the rates depend on how much has been read, so no table lasts
        if isinstance(positions, slice):
            self.length = positions.stop
            cos, sin = self.turn(torch.arange(positions.stop, device=x.device)[positions])
            return x, (cos, sin)  # (T, D)
        self.length = int(positions.max()) + 1
        cos, sin = self.turn(positions)  # (B, T, D)
        return x, (cos[:, None], sin[:, None])


part("positions", "rope_scaling")(ScaledRotaryPositions)


def llama3_rates(rates: Tensor, keys: dict[str, Any]) -> Tensor:
    """Divide slow rates by the factor, keep fast ones, and blend between them.

    A pair is fast if it turned more than high_freq_factor times in a text of the training, slow if
    less than low_freq_factor times.
    """
    low, high = keys["low_freq_factor"], keys["high_freq_factor"]
    turns = keys["original_max_position_embeddings"] * rates / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * rates + (1 - kept) * rates / keys["factor"]


def yarn_rates(rates: Tensor, base: float, keys: dict[str, Any]) -> Tensor:
    """Divide slow rates by the factor, keep fast ones; between them by the number of the pair."""
    length, dim = keys["original_max_position_embeddings"], 2 * len(rates)

    def pair_that_turns(times: float) -> float:
        """Return the number of the pair that turns so often in a text of the training."""
        return dim * math.log(length / (times * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair_that_turns(keys["beta_fast"]), pair_that_turns(keys["beta_slow"])
    if keys["truncate"]:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    width = last - first or 0.001  # not 0 / 0
    slow = ((torch.arange(dim // 2, device=rates.device) - first) / width).clamp(0, 1)
    return slow * rates / keys["factor"] + (1 - slow) * rates


def yarn_scale(keys: dict[str, Any]) -> float:
    """Return by what queries and keys are multiplied: attention over more tokens is sharpened.

    An attention_factor that is given replaces the formula, and mscale with mscale_all_dim make a
    quotient of two.
    """
    if keys["attention_factor"] is not None:
        return keys["attention_factor"]
    above, below = keys["mscale"], keys["mscale_all_dim"]
    if above and below:
        return sharpening(keys["factor"], above) / sharpening(keys["factor"], below)
    return sharpening(keys["factor"])


def sharpening(factor: float, mscale: float = 1.0) -> float:
    """Return 0.1 mscale ln(factor) + 1 (Peng et al. 2023, section 3.4); 1 for a factor up to 1."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0
