"""`llmlib evaluate`: what a trained model's loss is, in all the units that people compare.

Written by hand.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from llmlib import stories
from llmlib.cli.dataset import Measure, TokenData, cut_documents, measure_documents, measure_text
from llmlib.cli.devices import choose_device
from llmlib.cli.generate import open_run
from llmlib.cli.prepare import count_unknown, encode_documents
from llmlib.cli.run_folder import RunFolder
from llmlib.data import corpora
from llmlib.evaluation.perplexity import evaluate


def evaluate_command(
    checkpoint: str, device: str, text: str | None, batch_size: int, json: bool
) -> int:
    """Do what the command line asks for."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    found, model, data = open_run(checkpoint)
    context = model.config.context_length
    if text is None:
        data = RunFolder(found.folder.parent).data()
        measure, about = data.measure(context, batch_size), data.about["val"]
    else:
        measure, about = measure_file(text, data, context, batch_size)
    choice = choose_device(device, model, measure.batches[0])
    result = evaluate(model.to(choice.device), measure.batches)
    report = {
        "checkpoint": str(found.folder),
        "step": found.step,
        "device": f"{choice.device}: {choice.reason}",
        "text": text or "validation",
        "n_tokens": result.n_tokens,
        "n_bytes": about["n_bytes"],
        "n_unknown": about["n_unknown"],
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte(about["n_bytes"]),
        "floor": measure.floor,
        "above_floor": result.loss / measure.floor - 1 if measure.floor else None,
    }
    show(report, json)
    return 0


def measure_file(
    path: str, data: TokenData, context_length: int, batch_size: int
) -> tuple[Measure, dict]:
    """A text file to measure by; one story a line has a floor, if the world could tell them all."""
    text = corpora.read_text(Path(path)) if Path(path).is_file() else corpora.load(path)
    lines = [line for line in text.splitlines() if line.strip()]
    nats = [-stories.log_prob(line) for line in lines] if data.about["corpus"] == "stories" else []
    told = bool(nats) and all(map(math.isfinite, nats))
    ids = encode_documents(data.tokenizer, lines if told else [text])
    about = {
        "n_bytes": sum(len(line.encode()) for line in lines) if told else len(text.encode()),
        "n_unknown": count_unknown(data.tokenizer, ids),
    }
    sizes = (context_length, batch_size)
    documents = cut_documents(ids, data.end_of_text)
    if told and max(map(len, documents)) < context_length:
        return measure_documents(documents, data.end_of_text, *sizes, np.array(nats)), about
    return measure_text(ids, data.end_of_text, *sizes), about


def show(report: dict, as_json: bool) -> None:
    """Print a report, for programs or for people."""
    if as_json:
        finite = {k: None if v == math.inf else v for k, v in report.items()}
        print(json.dumps(finite))
        return
    print(f"{report['checkpoint']} (step {report['step']:,}) on {report['text']}: "
          f"{report['n_tokens']:,} tokens, {report['n_bytes']:,} bytes")  # fmt: skip
    print(f"device {report['device']}")
    print(f"loss           {report['loss']:.4f} nats a token")
    print(f"perplexity     {report['perplexity']:,.2f}")
    print(f"bits per byte  {report['bits_per_byte']:.4f}")
    if report["floor"] is not None:
        print(f"floor          {report['floor']:.4f}, exceeded by {report['above_floor']:.1%}")
    if report["n_unknown"]:
        print(f"{report['n_unknown']:,} tokens stand for what the tokenizer does not know: "
              "bits per byte are too few", file=sys.stderr)  # fmt: skip
