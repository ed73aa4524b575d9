"""Schematics of the course: boxes and arrows, in one style, readable in grey.

Written by hand. A schematic shows where data flows and which shape it has there; its labels are
the names of the code. `canvas`, `box` and `arrow` are what every one is drawn with; notebooks draw
their own with them, and what more than one of them shows stands below.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

INK = "#222222"
FILLS = {"data": "#ffffff", "weights": "#b9cbe0", "work": "#efefef", "result": "#f3d9b8"}
UNIT = 0.42  # inches


def canvas(width: float, height: float, title: str = "") -> Axes:
    """Return empty axes of width x height units; (0, 0) is at the bottom left."""
    _, ax = plt.subplots(figsize=(width * UNIT, height * UNIT))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    if title:
        ax.set_title(title)
    return ax


def box(
    ax: Axes, x: float, y: float, text: str, kind: str = "work", width: float = 3, height: float = 1
) -> tuple[float, float]:
    """Draw a box around a text, centred at (x, y); return (x, y), for arrows.

    kind: "data" (white), "weights" (blue: what is learned), "work" (grey: a computation) or
    "result" (sand). In grey print the four differ in lightness.
    """
    edges = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.15",
        facecolor=FILLS[kind],
        edgecolor=INK,
        linewidth=0.9,
    )
    ax.add_patch(edges)
    ax.text(x, y, text, ha="center", va="center", fontsize=9, color=INK)
    return x, y


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    *,
    bend: float = 0,
    dashed: bool = False,
) -> None:
    """Draw an arrow from one point to another, with a text beside its middle.

    bend: how far it bows to the right of its way, as a share of its length.
    """
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    style |= {"connectionstyle": f"arc3,rad={bend}", "linestyle": "--" if dashed else "-"}
    ax.annotate("", xy=end, xytext=start, arrowprops=style)
    if text:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        upright = abs(end[1] - start[1]) > abs(end[0] - start[0])
        place: dict[str, Any] = (
            {"ha": "left", "va": "center"} if upright else {"ha": "center", "va": "bottom"}
        )
        ax.text(x + 0.15 * upright, y + 0.1 * (not upright), text, fontsize=8, color=INK, **place)


def squares(
    ax: Axes,
    x: float,
    y: float,
    texts: Sequence[str],
    kind: str = "data",
    width: float = 1.6,
    height: float = 0.8,
) -> list[tuple[float, float]]:
    """Draw a row of touching boxes that begins at (x, y), its left middle; return their centres."""
    centres = [(x + width * (place + 0.5), y) for place in range(len(texts))]
    for (middle, _), text in zip(centres, texts):
        corner = (middle - width / 2, y - height / 2)
        ax.add_patch(
            plt.Rectangle(
                corner, width, height, facecolor=FILLS[kind], edgecolor=INK, linewidth=0.9
            )
        )
        ax.text(middle, y, text, ha="center", va="center", fontsize=9, color=INK)
    return centres


def shift_by_one(tokens: Sequence[str]) -> Axes:
    """Draw a window as the loader cuts it: the inputs, and below each its target."""
    wide = max(1.6, 0.24 * max(map(len, tokens)) + 0.5)
    ax = canvas(wide * len(tokens) + 3.2, 3.6)
    inputs = squares(ax, 3, 3, tokens[:-1], "data", wide)
    targets = squares(ax, 3, 0.7, tokens[1:], "result", wide)
    ax.text(0.1, 3, "inputs", fontsize=10, va="center", weight="bold")
    ax.text(0.1, 0.7, "targets", fontsize=10, va="center", weight="bold")
    for place, ((x, high), (_, low)) in enumerate(zip(inputs, targets)):
        arrow(ax, (x, high - 0.45), (x, low + 0.45), "" if place else "predict")
    return ax
