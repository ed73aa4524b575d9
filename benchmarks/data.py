"""Ten million tokens loaded: a list of windows, as tutorials build it, against `data.batches`.

Each dataset is made in a separate process, so that its peak of resident memory is its own.
Run from the checkout: python benchmarks/data.py [--stride 256]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from llmlib.data.batches import create_dataloader

MAX_LENGTH, BATCH_SIZE = 256, 32


class WindowList(Dataset):
    """Every window as a separate tensor, in two lists."""

    def __init__(self, ids: list[int], stride: int):
        starts = range(0, len(ids) - MAX_LENGTH, stride)
        self.inputs = [torch.tensor(ids[s : s + MAX_LENGTH]) for s in starts]
        self.targets = [torch.tensor(ids[s + 1 : s + MAX_LENGTH + 1]) for s in starts]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.targets[index]


def measure(kind: str, path: str, stride: int) -> dict[str, float]:
    """Time the way to the first batch, the batches after it, and the memory it all took."""
    torch.tensor([0])  # PyTorch's own start is not what we measure
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if kind == "list":
        dataset = WindowList(np.load(path).astype(np.int64), stride)
        loader = DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True)
    else:
        loader = create_dataloader(path, MAX_LENGTH, stride, BATCH_SIZE)
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    start = time.perf_counter()
    count = sum(1 for _, _ in zip(range(1000), batches))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return {
        "first": first,
        "megabytes": peak * unit / 1e6,
        "batches": count / (time.perf_counter() - start),
    }


def main() -> None:
    """Measure both, each in a fresh process, and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stride", type=int, default=MAX_LENGTH)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*options.child, options.stride)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokens.npy")
        rng = np.random.default_rng(0)
        np.save(path, rng.integers(0, 50257, size=10_000_000, dtype=np.uint16))
        results = {}
        for kind in ("list", "view"):
            command = [sys.executable, __file__, "--stride", str(options.stride)]
            run = subprocess.run(
                [*command, "--child", kind, path], check=True, capture_output=True, text=True
            )
            results[kind] = json.loads(run.stdout)
    print(
        f"10,000,000 tokens, windows of {MAX_LENGTH}, stride {options.stride}, batch {BATCH_SIZE}"
    )
    print(f"{'':16s}{'first batch':>14s}{'peak memory':>14s}{'batches per second':>20s}")
    for kind, found in results.items():
        print(
            f"{kind + ' of windows':16s}{found['first']:12.3f} s{found['megabytes']:11.1f} MB"
            f"{found['batches']:20,.0f}"
        )
    slow, fast = results["list"], results["view"]
    print(
        f"{'ratio':16s}{slow['first'] / fast['first']:13.0f}x"
        f"{slow['megabytes'] / fast['megabytes']:13.0f}x{fast['batches'] / slow['batches']:19.1f}x"
    )


if __name__ == "__main__":
    main()
