"""Controls change the picture below them, and a page without a kernel has the first one."""

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import pytest
from IPython.display import HTML
from ipywidgets.widgets import widget

from llmlib import widgets
from llmlib.widgets import color_tokens, explore


@pytest.fixture
def page(monkeypatch):
    """Collect what is displayed: [first controls, then pictures], without a Jupyter."""
    shown = []

    class Handle:
        def update(self, picture):
            shown.append(picture)

    def display(picture, **options):
        shown.append(picture)
        return Handle()

    monkeypatch.setattr(widgets, "display", display)
    return shown


def controls_of(page):
    view = page[0]["application/vnd.jupyter.widget-view+json"]
    return widget._instances[view["model_id"]].children


def test_a_control_that_moves_draws_the_picture_again(page):
    explore(lambda head, word: f"head {head} of {word}", head=(0, 10), word=["fox", "hen"])
    head, word = controls_of(page)
    assert page[1:] == ["head 5 of fox"]
    head.value = 2
    word.value = "hen"
    assert page[2:] == ["head 2 of fox", "head 2 of hen"]


def test_controls_are_displayed_as_nothing_but_controls(page):
    """nbval passes over outputs of just this type, and tools/execute.py drops them."""
    explore(str, object=(0, 1))
    assert list(page[0]) == ["application/vnd.jupyter.widget-view+json"]


def test_an_error_is_shown_in_the_pictures_place_and_the_next_move_draws(page):
    explore(lambda n: f"{1 / n}", n=ipywidgets.IntSlider(1, 0, 4))
    (slider,) = controls_of(page)
    slider.value = 0
    slider.value = 4
    assert "ZeroDivisionError" in page[2].data and page[3] == "0.25"


def test_an_error_of_the_first_picture_is_raised(page):
    with pytest.raises(ZeroDivisionError):
        explore(lambda n: 1 / n, n=ipywidgets.IntSlider(0, 0, 4))
    assert not page


def test_figures_are_closed_so_that_they_are_shown_once(page):
    backend = matplotlib.get_backend()
    explore(lambda n: plt.figure(), n=(0, 4))
    controls_of(page)[0].value = 1
    assert len(page) == 3 and not plt.get_fignums() and matplotlib.get_backend() == backend


def test_tokens_are_coloured_from_dark_to_bright_and_never_read_as_html():
    page = color_tokens(["a<b", " c\n", ""], [0, 5, 10])
    assert isinstance(page, HTML)
    assert "a&lt;b" in page.data and "⏎\n" in page.data and "∅" in page.data
    dark, middle, bright = (widgets.shade(part) for part in (0, 0.5, 1))
    assert page.data.index(dark) < page.data.index(middle) < page.data.index(bright)
    assert page.data.index("color:#ffffff") < page.data.index("color:#000000")


def test_limits_make_pictures_comparable_and_hold_what_lies_outside():
    inside = color_tokens(["a"], [5], limits=(0, 10)).data
    assert widgets.shade(0.5) in inside
    assert widgets.shade(1) in color_tokens(["a"], [99], limits=(0, 10)).data


def test_without_values_neighbours_differ():
    first, second = color_tokens(["a", "b"]).data.split("<wbr>")
    colour = "background:#"
    assert first.split(colour)[1][:6] != second.split(colour)[1][:6]


def test_equal_values_and_no_tokens_at_all_are_drawn():
    assert "NaN" not in color_tokens(["a", "b"], [3, 3]).data
    assert "span" not in color_tokens([], []).data


@pytest.mark.parametrize("name", ["values", "notes"])
def test_there_is_one_of_each_for_every_token(name):
    with pytest.raises(ValueError, match=f"1 {name} for 2 tokens: give one for each"):
        color_tokens(["a", "b"], **{name: ["1"] if name == "notes" else [1]})
