"""Draw docs/picture.svg, which opens the README: a model learns to tell stories.

    python docs/picture.py             draw what docs/picture.json holds
    python docs/picture.py --record    run notebook 06 as far as its model is trained, with more
                                       steps than it has, and store its losses and the stories it
                                       told (about six minutes)

The numbers are those of the notebook's own variables; nothing is trained or computed here.
"""

import argparse
import json
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

from llmlib.files import write_json
from llmlib.plots import COLORS, use_style

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE.parent / "notebooks" / "06_pretraining.ipynb"
SETTINGS = {"STEPS": 2750, "EVERY": 250, "LAYERS": 3}  # of the run, for the picture
MEAN_OF = 25  # steps of training that one point of the gray curve is the mean of
SHOWN = {
    "250": 220,
    "500": 220,
    "1000": 220,
    "2750": 900,
}  # characters of the story after so many steps


def record() -> dict:
    """Run the cells of the notebook until its model has told its stories; return what it found."""
    names: dict = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            source = cell.source
            for name, value in SETTINGS.items():
                source = re.sub(rf"^{name} = .*$", f"{name} = {value}", source, flags=re.MULTILINE)
            exec(compile(source, NOTEBOOK.name, "exec"), names)
            plt.close("all")
            if "first_words" in names and "samples = tell(" in cell.source:
                break
    losses = names["trained"]
    groups = [losses[start : start + MEAN_OF] for start in range(0, len(losses), MEAN_OF)]
    return {
        "training": [round(sum(group) / len(group), 4) for group in groups],
        "held out": {step: round(loss, 4) for step, loss in names["validated"].items()},
        "floor": round(float(names["floor"]), 4),
        "baselines": {n: round(loss, 4) for n, loss in names["baselines"].items()},
        "stories": {**names["first_words"], len(losses): names["samples"][0]},
    }


def draw(found: dict) -> None:
    """Draw the losses on the left, and on the right what the model told on the way."""
    use_style()
    plt.rcParams.update({"svg.hashsalt": "picture", "font.size": 9})  # the same file every time
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), width_ratios=(1, 1.15))
    steps = [MEAN_OF * (number + 1) for number in range(len(found["training"]))]
    left.plot(steps, found["training"], "-", color=COLORS[5], linewidth=1, label="training")
    held_out = {int(step): loss for step, loss in found["held out"].items()}
    left.plot(*zip(*held_out.items()), "o-", color=COLORS[0], markersize=4, label="new stories")
    lines = {f"{n}-gram": loss for n, loss in found["baselines"].items()}
    lines["the floor: the world's own entropy"] = found["floor"]
    for name, level in lines.items():
        floor = level == found["floor"]
        left.axhline(level, color=COLORS[1], linestyle="-" if floor else ":", linewidth=1.4)
        above = level * (0.965 if floor else 1.03)
        left.text(
            steps[-1], above, name, ha="right", va="top" if floor else "bottom", color=COLORS[1]
        )
    left.set(yscale="log", ylim=(found["floor"] * 0.85, None), xlabel="step")
    left.set_title("Loss, nats per token")
    left.set_yticks([0.4, 0.6, 1, 2, 4], ["0.4", "0.6", "1", "2", "4"])
    left.minorticks_off()
    left.legend(loc="upper center")
    right.set_axis_off()
    right.set_title("What it tells on the way")
    y = 0.98
    for step, length in SHOWN.items():
        right.text(0, y, f"after {int(step):,} steps", color=COLORS[1], va="top", weight="bold")
        story = textwrap.wrap(
            textwrap.shorten(found["stories"][step], length, placeholder=" …"), 82
        )
        right.text(0, y - 0.055, "\n".join(story), va="top", linespacing=1.35)
        y -= 0.049 * len(story) + 0.095
    fig.savefig(HERE / "picture.svg", metadata={"Date": None}, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="train first")
    plt.switch_backend("agg")
    if parser.parse_args().record:
        write_json(HERE / "picture.json", record(), indent=1)
    draw(json.loads((HERE / "picture.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
