"""What the tests of the command line share: a text, a quick run, and readers of what it left."""

import json
import random
from itertools import chain

import torch

from llmlib.__main__ import main
from llmlib.training.checkpoint import load_checkpoint

# A model of some thousand parameters; dropout, so that random states matter.
FLAGS = {
    "--tokenizer": "char",
    "--preset": "story-tiny",
    "--n-layers": "1",
    "--emb-dim": "16",
    "--n-heads": "2",
    "--context-length": "16",
    "--drop-rate": "0.1",
    "--batch-size": "4",
    "--warmup-steps": "5",
    "--device": "cpu",
    "--eval-tokens": "300",
    "--n-samples": "1",
}
TINY = list(chain(*FLAGS.items()))
OFTEN = ["--max-steps", 4, "--eval-every", 2, "--save-every", 2]
OFTEN += ["--warmup-steps", 0, "--final-fraction", 1]  # whatever max_steps: each step is the same


def write_text(folder):
    """A text file of some paragraphs, with characters of several bytes."""
    rng = random.Random(5)
    words = ["the", "cat", "säw", "a", "🐈", "on", "many", "mats,", "and", "naïve", "dogs", "too"]
    lines = [" ".join(rng.choices(words, k=12)) + "." for _ in range(120)]
    path = folder / "text.txt"
    path.write_text("\n\n".join(lines), encoding="utf-8")
    return path


def llmlib(*arguments):
    """Run the command line in this process; its exit code."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def failure(capsys, *arguments):
    """The one line that a command that fails prints on stderr; its exit code must be 2."""
    capsys.readouterr()
    code = llmlib(*arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and "Traceback" not in lines, lines
    (line,) = [line for line in lines if not line.startswith(("usage", " "))]
    return line


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    """Step, loss and, where it was measured, validation loss: what must not depend on the clock."""
    return [(m["step"], m["loss"], m.get("val_loss")) for m in metrics(run)]


def weights(run, name="latest"):
    return load_checkpoint(run / name).weights


def assert_equal_weights(first, second, **tolerance):
    torch.testing.assert_close(first, second, **(tolerance or {"rtol": 0, "atol": 0}))


def everything(folder):
    """Each file below a folder but the lock, with its content."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def resume(run, *arguments):
    return llmlib("train", "--resume", run, "--max-steps", 8, *arguments)


def train_on(base, out, *arguments):
    return llmlib("train", base / "text.txt", *TINY, *OFTEN, "--out", out, *arguments)
