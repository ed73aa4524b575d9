# From notebooks/12_long_context.ipynb: edit there, then run make export.

"""Sinusoidal positions, as in the first transformer: a wave for each pair of numbers.

Built in notebook 12, as an example of a part that a reader adds.
"""

from typing import Any

import torch
from torch import Tensor, nn

from llmlib.model.parts import part


@part("positions", "sinusoidal")
class SinusoidalPositions(nn.Module):
    """Sines and cosines of the position, added to the token's vector (Vaswani et al. 2017).

    Scaled to the size of a new token embedding, and by a factor that is learned.
    """

    def __init__(self, config: Any, layer: int = 0):
        super().__init__()
        self.emb_dim, self.scale = config.emb_dim, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, positions: slice | Tensor) -> tuple[Tensor, None]:
        """Return x (B, T, C) with its positions, and no rotation."""
        if isinstance(positions, slice):
            positions = torch.arange(positions.stop, device=x.device)[positions]
        exponents = torch.arange(0, self.emb_dim, 2, device=x.device) / self.emb_dim
        angles = positions[..., None] * 10_000**-exponents  # (T, C/2) or (B, T, C/2)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
        return x + 0.1 * self.scale * waves[..., : self.emb_dim].to(x.dtype), None
