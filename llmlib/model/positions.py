# From notebooks/11_modern_transformer.ipynb: edit there, then run make export.

"""Where a token stands: rotary positions, which turn queries and keys, and learned ones.

Built in notebook 11. A configuration names the kind; models call it once for all layers. What is
left out: scaling to longer contexts (`llmlib.model.rope_scaling`, notebook 12).

Shapes: B rows, T tokens, C = emb_dim, H heads of D numbers.
"""

from typing import Any

import torch
from torch import Tensor, nn

from llmlib import checks
from llmlib.model.parts import part

Rotation = tuple[Tensor, Tensor]  # cos and signed sin: (T, D), or (B, 1, T, D)


class RotaryPositions(nn.Module):
    """Rotary position embedding (Su et al. 2021): pairs of numbers turn by position times a rate.

    Numbers i and i + D/2 of a head are a pair, as in GPT-NeoX, transformers and the files that it
    writes; Meta's code and GGUF pair neighbours. The score of two tokens then depends on their
    distance only. Pair i turns by base^(-2i/D) radians per token. Angles are computed in float32,
    whatever the model is cast to: in half precision, far positions would fall together.

    config: with head_dim, rope_base and context_length; dim: D, by default head_dim.
    """

    def __init__(self, config: Any, layer: int = 0, dim: int | None = None):
        super().__init__()
        self.dim = config.head_dim if dim is None else dim
        checks.even_head(self.dim)
        self.context_length, self.base = config.context_length, config.rope_base
        self.scale = 1.0  # of queries and keys; a kind of scaling may change it
        # two of (positions so far, D) for the positions that were asked for; no buffer, which
        # would be cast with the model
        self.table: Tensor | None = None

    def rates(self, device: Any = None) -> Tensor:
        """Return by how many radians each of the D/2 pairs turns from token to token."""
        exponents = torch.arange(0, self.dim, 2, dtype=torch.float32, device=device) / self.dim
        return self.base**-exponents

    def turn(self, positions: Tensor) -> Tensor:
        """Return cos and signed sin at positions (...), stacked: (2, ..., D)."""
        with torch.autocast(positions.device.type, enabled=False):
            angles = positions.float()[..., None] * self.rates(positions.device)
            cos, sin = angles.cos() * self.scale, angles.sin() * self.scale
            # the first half turns with minus the sine: see `rotate`
            return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])

    def forward(self, x: Tensor, positions: slice | Tensor) -> tuple[Tensor, Rotation]:
        """Return x (B, T, C) as it is, and what `rotate` needs.

        positions: as a cache gives them, a slice, or a tensor (B, T).
        """
        if isinstance(positions, Tensor):
            cos, sin = self.turn(positions)  # (B, T, D)
            return x, (cos[:, None], sin[:, None])
        if torch.compiler.is_compiling():  # a compiled program keeps no table
            numbers = torch.arange(positions.start or 0, positions.stop, device=x.device)
            cos, sin = self.turn(numbers)
        else:
            cos, sin = self.table_for(positions.stop, x.device)[:, positions]
        return x, (cos, sin)

    def table_for(self, length: int, device: torch.device) -> Tensor:
        """Return a table (2, at least `length`, D), which grows by doubling."""
        table = self.table
        if table is None or table.shape[1] < length or table.device != device:
            known = 0 if table is None else 2 * table.shape[1]
            size = min(max(length, known, 64), max(length, self.context_length))
            # not in inference mode: what is made there could not be used in training
            with torch.inference_mode(False), torch.no_grad():
                self.table = table = self.turn(torch.arange(size, device=device))
        return table


def rotate(x: Tensor, rotation: Rotation | None) -> Tensor:
    """Turn queries or keys (B, H, T, D) by the angles of their positions; the type of x stays.

    In each pair, (a, b) becomes (a cos − b sin, b cos + a sin). Rolling by D/2 puts b in the place
    of a and a in the place of b, and the sin of the first half carries the minus.
    """
    if rotation is None:
        return x
    cos, sin = rotation
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


part("positions", "rotary")(RotaryPositions)


@part("positions", "learned")
class LearnedPositions(nn.Module):
    """A vector for each position, which is added to the token's, as in GPT-2."""

    def __init__(self, config: Any, layer: int = 0):
        super().__init__()
        self.wpe = nn.Embedding(config.context_length, config.emb_dim)

    def forward(self, x: Tensor, positions: slice | Tensor) -> tuple[Tensor, None]:
        """Return x (B, T, C) with its positions, and no rotation."""
        return x + self.wpe.weight[positions], None


@part("positions", "none")
class NoPositions(nn.Module):
    """No positions: only the causal mask tells a token what stood before it."""

    def __init__(self, config: Any, layer: int = 0):
        super().__init__()

    def forward(self, x: Tensor, positions: slice | Tensor) -> tuple[Tensor, None]:
        """Return x as it is, and no rotation."""
        return x, None
