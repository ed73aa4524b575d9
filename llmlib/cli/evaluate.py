"""`llmlib evaluate`: the loss of a model, in all the units that people compare.

Written by hand.
"""

import json
import math
import sys
from itertools import takewhile
from pathlib import Path

from llmlib import checks, stories
from llmlib.cli.base_model import document_end
from llmlib.cli.dataset import Measure, cut_documents, measure_documents, measure_windows
from llmlib.cli.devices import choose_device
from llmlib.cli.prepare import encode_documents
from llmlib.cli.run_folder import CONFIG, open_run
from llmlib.data import corpora
from llmlib.data.texts import SEPARATOR, separator_of
from llmlib.evaluation.perplexity import evaluate
from llmlib.pretrained.models import find_model, load_model
from llmlib.tokenization.base import Tokenizer
from llmlib.training.checkpoint import MANIFEST, read_manifest


def evaluate_command(
    checkpoint: str,
    device: str = "auto",
    text: str | None = None,
    batch_size: int = 16,
    as_json: bool = False,
    ignore_extra: bool = False,
    separator: str | None = None,
    text_field: str | None = None,
) -> int:
    """Do what the command line asks for; a model that kept no text is measured on stories.

    A text is read as the run read its own, unless it is said how.
    """
    checks.whole_number("batch_size", batch_size)
    folder = find_model(checkpoint)
    is_run = (folder / MANIFEST).is_file()
    text = text or (None if is_run else "stories")
    model, tokenizer = load_model(checkpoint, ignore_extra=ignore_extra)
    tokenizer.end_token = document_end(folder, tokenizer)
    sizes = model.config.context_length, batch_size
    texts = read_texts(text, folder.parent, separator, text_field) if text else None
    found = measure_texts(texts, tokenizer, *sizes) if texts else measure_run(folder.parent, *sizes)
    measure, about = found
    place, reason = choose_device(device, model, measure.batches[0])
    result = evaluate(model.to(place), measure.batches)
    training = (read_manifest(folder)["training"] if is_run else None) or {}
    report = {
        "checkpoint": str(folder),
        "step": training.get("step", 0),
        "device": f"{place}: {reason}",
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
    (print_json if as_json else print_lines)(report)
    return 0


def read_texts(name: str, run: Path, separator: str | None, text_field: str | None) -> list[str]:
    """Return the texts of a corpus or a file, read as the run read its own, if there is one."""
    before = vars(open_run(run).settings) if (run / CONFIG).is_file() else {}
    cut_at = separator_of(separator or before.get("separator", SEPARATOR))
    return corpora.documents(name, cut_at, text_field or before.get("text_field", "text"))


def measure_run(run: Path, context_length: int, batch_size: int) -> tuple[Measure, dict]:
    """Return the validation part of a run as batches, and what its data.json says about it."""
    data = open_run(run).data()
    return data.measure(context_length, batch_size), data.about["val"]


def measure_texts(
    texts: list[str], tokenizer: Tokenizer, context_length: int, batch_size: int
) -> tuple[Measure, dict]:
    """Return texts as batches, and what `encode_documents` says about it.

    One story per line has a floor, if the world can tell all of them.
    """
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    nats = list(takewhile(math.isfinite, (-stories.log_prob(line) for line in lines)))
    told = len(nats) == len(lines)
    ids, about = encode_documents(tokenizer, lines if told else texts)
    sizes = (tokenizer.eot_token, context_length, batch_size)
    documents = cut_documents(ids, sizes[0])
    if told and max(map(len, documents)) < context_length:
        return measure_documents(documents, *sizes, nats), about
    return measure_windows(ids, *sizes), about


def print_json(report: dict) -> None:
    """Print a report as one JSON object, which knows no infinity."""
    print(json.dumps({k: None if v == math.inf else v for k, v in report.items()}))


def print_lines(report: dict) -> None:
    """Print a report for people."""
    print(f"{report['checkpoint']} (step {report['step']:,}) on {report['text']}: "
          f"{report['n_tokens']:,} tokens, {report['n_bytes']:,} bytes")  # fmt: skip
    print(f"device {report['device']}")
    print(f"loss           {report['loss']:.4f} nats per token")
    print(f"perplexity     {report['perplexity']:,.2f}")
    print(f"bits per byte  {report['bits_per_byte']:.4f}")
    if report["floor"] is not None:
        print(f"floor          {report['floor']:.4f}, exceeded by {report['above_floor']:.1%}")
    if report["n_unknown"]:
        print(f"{report['n_unknown']:,} tokens stand for text that the tokenizer does not know: "
              "bits per byte are too low", file=sys.stderr)  # fmt: skip
