"""The common drawings: labels where they belong, and clear refusals."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from llmlib import plots


@pytest.fixture(autouse=True)
def style_and_figure():
    with plt.rc_context():
        plots.use_style()
        yield
        plt.close("all")


def test_a_heat_map_labels_rows_and_columns():
    image = plots.heatmap(torch.arange(6).reshape(2, 3), ["a", "b"], ["x", "y", "z"], numbers=".0f")
    ax = image.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y", "z"]
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2", "3", "4", "5"]


def test_numbers_are_legible_on_dark_and_light_and_nan_stays_empty():
    ax = plots.heatmap([[0.0, 1.0], [np.nan, 0.5]], numbers=".1f").axes
    assert {text.get_text(): text.get_color() for text in ax.texts} == {
        "0.0": "white",
        "1.0": "black",
        "0.5": "white",
    }


def test_ticks_can_be_set_afterwards():
    ax = plots.heatmap(np.zeros((4, 4)), title="four").axes
    assert not ax.get_xticks().size
    ax.set_xticks([0, 3])
    plt.gcf().canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "3"]


@pytest.mark.parametrize(
    ("values", "rows", "columns", "message"),
    [
        ([1, 2, 3], None, None, r"not an array of shape \(3,\)"),
        ([[1, 2]], ["a", "b"], None, "2 labels for 1 rows"),
        ([[1, 2]], None, ["a"], "1 labels for 2 columns"),
    ],
)
def test_labels_that_do_not_fit_are_refused(values, rows, columns, message):
    with pytest.raises(ValueError, match=message):
        plots.heatmap(values, rows, columns)


def test_colours_differ_in_grey_as_well():
    """Neighbours of the cycle differ by at least 8 % in luminance."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    grey = [float(weights @ matplotlib.colors.to_rgb(color)) for color in plots.COLORS]
    assert len(set(plots.COLORS)) == len(plots.COLORS) == len(plots.LINES)
    assert all(abs(a - b) > 0.08 for a, b in zip(grey, grey[1:]))
