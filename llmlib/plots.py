"""How the figures of the course look, and the few drawings that more than one notebook needs.

Written by hand. Every figure is drawn with plain matplotlib in the notebook that shows it; what
stands here is the common style, chosen to be read in grey as well, and drawings used twice.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

# Neighbours differ in lightness too, and each has its line: both survive printing in grey.
COLORS = ["#1f3a5f", "#c8553d", "#5b8e7d", "#e0a458", "#5d3a78", "#a8a8a8"]
LINES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1))]
CMAP = "cividis"


def use_style() -> None:
    """Set matplotlib's defaults to the look of the course; a notebook calls it once at its top."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 80,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=LINES),
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.8,
            "legend.frameon": False,
            "image.cmap": CMAP,
            "lines.linewidth": 1.8,
        }
    )


def heatmap(
    values: ArrayLike,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    numbers: str | None = None,
    **imshow: Any,
) -> AxesImage:
    """Draw a matrix as colours, with a label for each row and column.

    values: a matrix (R, C), anything numpy can read, a detached CPU tensor included.
    rows, columns: labels, R and C of them; no ticks where they are left out.
    numbers: a format such as ".2f" writes each value into its square; NaN is left empty.
    Other keywords go to `imshow`. Returns the image, for a colour bar.

    Raises ValueError where the labels do not fit the matrix.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2:
        raise ValueError(f"a heat map draws a matrix, not an array of shape {matrix.shape}")
    for labels, size, side in zip((rows, columns), matrix.shape, ("rows", "columns")):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{len(labels)} labels for {size} {side}: give one for each")
    ax = ax or plt.gca()
    image = ax.imshow(matrix, **imshow)
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    if columns is not None:
        # Rotated about their ends, long labels do not run into each other.
        ticks = range(len(columns))
        ax.set_xticks(ticks, columns, rotation=45, ha="right", rotation_mode="anchor")
    if rows is not None:
        ax.set_yticks(range(len(rows)), rows)
    if title:
        ax.set_title(title)
    if numbers:
        dark = np.asarray(image.norm(matrix)) < 0.55
        for (row, column), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                ink = "white" if dark[row, column] else "black"
                ax.text(column, row, format(value, numbers), ha="center", va="center", color=ink)
    return image
