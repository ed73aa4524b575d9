"""What a schematic shows is what it was given, and all of it lies on the picture."""

import matplotlib.pyplot as plt
import pytest

from llmlib import schematics


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_each_input_stands_above_its_target():
    ax = schematics.shift_by_one(["the", "fox", "sleeps"])
    assert texts(ax) == ["the", "fox", "fox", "sleeps", "inputs", "targets", "predict"]
    drawn = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert drawn["the"] < drawn["sleeps"]


@pytest.mark.parametrize(
    "tokens", [["a", "b"], ["encyclopedia", "antidisestablishmentarianism"] * 3]
)
def test_texts_stay_on_the_picture(tokens):
    ax = schematics.shift_by_one(tokens)
    figure = ax.figure
    figure.canvas.draw()
    for text in ax.texts:
        place = text.get_window_extent()
        assert figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1, text.get_text()


def test_kinds_of_boxes_differ_in_grey():
    greys = sorted(
        sum(w * v for w, v in zip((0.3, 0.59, 0.11), plt.matplotlib.colors.to_rgb(fill)))
        for fill in schematics.FILLS.values()
    )
    assert all(b - a > 0.03 for a, b in zip(greys, greys[1:]))


def test_an_arrow_that_bends_bows_to_the_right_of_its_way():
    ax = schematics.canvas(4, 4)
    schematics.arrow(ax, (2, 0), (2, 4), bend=0.5)
    ax.figure.canvas.draw()
    (arrow,) = [text.arrow_patch for text in ax.texts]
    middle = arrow.get_path().vertices
    right = ax.transData.transform((2, 2))[0]
    assert arrow.get_transform().transform(middle)[:, 0].max() > right + 5
