"""Pictures that move: `explore` puts controls above a picture, and draws it again as they move.

Written by hand. The first picture is an ordinary output, so that a page without a kernel (GitHub, a
printed copy) shows it; the controls are ipywidgets and need one. A picture is whatever Jupyter
displays: a figure of matplotlib, or HTML such as that of `color_tokens`.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display
from ipywidgets import HBox, Layout, Widget, interactive
from matplotlib.figure import Figure

from llmlib.plots import CMAP


def explore(draw: Callable[..., Any], **controls: Any) -> None:
    """Show `draw(**values)` below controls for its arguments; draw it again when one of them moves.

    draw: returns a picture. An error that it raises while somebody moves a control is shown in the
    picture's place, and the next move draws again.
    controls: one for each argument, in the short forms of `ipywidgets.interact`: `(0, 11)` or
    `(0.1, 2.0, 0.1)` a slider, a list or a dict a menu, a text a field, True or False a check box;
    or a widget. A slider starts in its middle; `IntSlider(3, 0, 11)` says where.

    Raises what `draw` raises for the first picture.
    """
    widgets = interactive(lambda **_: None, **controls).kwargs_widgets  # it makes them, we draw
    for widget in widgets:
        widget.style.description_width = "initial"
        if hasattr(widget, "continuous_update"):
            widget.continuous_update = False  # a picture for each place where the slider rests

    def picture() -> Any:
        shown = draw(**{widget._kwarg: widget.value for widget in widgets})
        if isinstance(shown, Figure):
            plt.close(shown)  # Jupyter shows figures that are still open a second time
        return shown

    def redraw(_: dict) -> None:
        try:
            handle.update(picture())
        except Exception as error:
            plt.close("all")
            text = html.escape(f"{type(error).__name__}: {error}")
            handle.update(HTML(f"<pre>{text}</pre>"))

    first = picture()
    show_controls(HBox(widgets, layout=Layout(flex_flow="row wrap")))
    handle = display(first, display_id=True)
    for widget in widgets:
        widget.observe(redraw, names="value")


def show_controls(controls: Widget) -> None:
    """Display a widget without the text that stands in its place where no kernel runs."""
    view = {"version_major": 2, "version_minor": 0, "model_id": controls.model_id}
    display({"application/vnd.jupyter.widget-view+json": view}, raw=True)


def color_tokens(
    tokens: Sequence[str],
    values: Sequence[float] | None = None,
    *,
    limits: tuple[float, float] | None = None,
    notes: Sequence[str] | None = None,
) -> HTML:
    """Return a text in which each token has a colour.

    tokens: the text, cut into pieces; a new line in one breaks the line.
    values: one number a token, from dark (low) to bright (high); without them, neighbours differ.
    limits: the values of the darkest and the brightest colour; by default those that occur.
    notes: what a tooltip says of each token; by default its value.

    Raises ValueError where there is not one value or note for each token.
    """
    for name, given in (("values", values), ("notes", notes)):
        if given is not None and len(given) != len(tokens):
            raise ValueError(f"{len(given)} {name} for {len(tokens)} tokens: give one for each")
    if values is None:
        shades = [("#dbe4ee", "#000000"), ("#f3d9b8", "#000000")]
        colors = [shades[place % 2] for place in range(len(tokens))]
        notes = notes if notes is not None else [""] * len(tokens)
    else:
        numbers = np.asarray(values, dtype=float)
        low, high = limits or (numbers.min(initial=0), numbers.max(initial=0))
        scaled = np.clip((numbers - low) / ((high - low) or 1), 0, 1)
        colors = [(shade(part), "#ffffff" if part < 0.5 else "#000000") for part in scaled]
        notes = notes if notes is not None else [f"{value:.3g}" for value in numbers]
    spans = [
        f'<span title="{html.escape(note)}" style="background:{back};color:{ink};white-space:'
        f'pre-wrap;padding:1px 0;border-radius:2px">{visible(token)}</span>'
        for token, note, (back, ink) in zip(tokens, notes, colors)
    ]
    return HTML(f'<div style="line-height:1.8;font-family:monospace">{"<wbr>".join(spans)}</div>')


def shade(part: float) -> str:
    """Return a colour of the course's scale, as HTML writes it: 0 the darkest, 1 the brightest."""
    red, green, blue, _ = plt.get_cmap(CMAP)(float(part), bytes=True)
    return f"#{red:02x}{green:02x}{blue:02x}"


def visible(token: str) -> str:
    """Return a token as HTML, with a sign for what would not be seen: an end of line, nothing."""
    return html.escape(token).replace("\n", "⏎\n") or "∅"
