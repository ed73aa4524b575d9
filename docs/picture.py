"""Draw docs/picture.svg, which opens the README: a model learns to tell stories.

    python docs/picture.py             draw what docs/picture.json holds
    python docs/picture.py --record    run notebook 06 as far as its model is trained, and store
                                       its losses and the stories it told (about six minutes)

The numbers are those of the notebook's own variables; nothing is trained or computed here.
"""

import argparse
import json
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

from llmlib.files import write_json
from llmlib.plots import COLORS, use_style

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE.parent / "notebooks" / "06_pretraining.ipynb"
MEAN_OF = 25  # steps of training that one point of the gray curve is the mean of


def record() -> dict:
    """Run the cells of the notebook until its model has told its stories; return what it found."""
    names: dict = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, NOTEBOOK.name, "exec"), names)
            plt.close("all")
            if "first_words" in names and "samples[0]" in cell.source and "excess" in cell.source:
                break
    losses = [report.loss for report in names["trained"]]
    groups = [losses[start : start + MEAN_OF] for start in range(0, len(losses), MEAN_OF)]
    return {
        "training": [round(sum(group) / len(group), 4) for group in groups],
        "held out": {step: round(loss, 4) for step, loss in names["validated"].items()},
        "floor": round(float(names["floor"]), 4),
        "baselines": {n: round(loss, 4) for n, loss in names["baselines"].items()},
        "stories": {**names["first_words"], len(losses): names["samples"][0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="train first")
    if parser.parse_args().record:
        plt.switch_backend("agg")
        write_json(HERE / "picture.json", record(), indent=1)


if __name__ == "__main__":
    main()
