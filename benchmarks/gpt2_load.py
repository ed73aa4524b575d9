"""Load a checkpoint of GPT-2 124M's size: `llmlib` beside TensorFlow's `tf.train.load_checkpoint`.

Each way runs in a separate process, so that its peak of memory is its own; the files lie in the
page cache, every crc is compared, and the quickest of three runs counts. TensorFlow is asked for
every variable as an array, `llmlib.pretrained.gpt2` for the whole model. The numbers in the
checkpoint are random. Run from the checkout:

    python benchmarks/gpt2_load.py [--tensorflow PYTHON]

where PYTHON is an interpreter that has TensorFlow, if the one that runs this has none.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HPARAMS = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}
WEIGHTS = 497_759_232  # bytes


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes; mapped files count."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(kind: str, folder: Path) -> dict[str, float]:
    """Load once, after all that is imported: the seconds, and by how much the peak rose."""
    prefix = str(folder / "model.ckpt")
    if kind == "tensorflow":
        import tensorflow as tf

        def load() -> dict:
            reader = tf.train.load_checkpoint(prefix)
            return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    elif kind == "bundle":
        from llmlib.pretrained.tensor_bundle import TensorBundle

        def load() -> dict:
            return dict(TensorBundle(prefix))
    else:
        from llmlib.pretrained.gpt2 import load_pretrained

        def load() -> object:
            return load_pretrained(folder)

    before = peak_memory()
    start = time.perf_counter()
    loaded = load()
    seconds = time.perf_counter() - start
    peak = peak_memory() - before
    del loaded
    return {"seconds": seconds, "memory": peak / WEIGHTS}


def write_checkpoint(folder: Path) -> None:
    """A checkpoint with the names and shapes of OpenAI's 124M, and its hparams."""
    import numpy as np

    from llmlib.pretrained.tensor_bundle import write_bundle

    rng = np.random.default_rng(0)
    C, shapes = HPARAMS["n_embd"], {}
    shapes["wte"], shapes["wpe"] = (HPARAMS["n_vocab"], C), (HPARAMS["n_ctx"], C)
    shapes["ln_f/g"] = shapes["ln_f/b"] = (C,)
    linear = {"attn/c_attn": (C, 3 * C), "attn/c_proj": (C, C)}
    linear |= {"mlp/c_fc": (C, 4 * C), "mlp/c_proj": (4 * C, C)}
    for layer in range(HPARAMS["n_layer"]):
        for name in ("ln_1/g", "ln_1/b", "ln_2/g", "ln_2/b"):
            shapes[f"h{layer}/{name}"] = (C,)
        for name, shape in linear.items():
            shapes[f"h{layer}/{name}/w"] = (1, *shape)
            shapes[f"h{layer}/{name}/b"] = shape[1:]
    tensors = {
        f"model/{name}": rng.standard_normal(shape, np.float32) for name, shape in shapes.items()
    }
    write_bundle(folder / "model.ckpt", tensors)
    (folder / "hparams.json").write_text(json.dumps(HPARAMS))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')


def main() -> None:
    """Measure each way in fresh processes, and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tensorflow", metavar="PYTHON", help="an interpreter with TensorFlow")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, place = options.child[0], Path(options.child[1])
        print(json.dumps(write_checkpoint(place) if kind == "write" else measure(kind, place)))
        return
    pythons = {"bundle": sys.executable, "model": sys.executable}
    pythons["tensorflow"] = options.tensorflow or sys.executable
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        # Not here: the peak of a process begins with the size of the one that started it.
        subprocess.run(
            [sys.executable, __file__, "--child", "write", folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(options.runs):
            for kind, python in pythons.items():  # in turn: noise meets all of them
                command = [python, __file__, "--child", kind, folder]
                run = subprocess.run(command, capture_output=True, text=True)
                if run.returncode:
                    print(f"{kind}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                found = json.loads(run.stdout.splitlines()[-1])
                best[kind] = min(best.get(kind, found), found, key=lambda found: found["seconds"])
    print(f"{'':12s}{'seconds':>9s}{'GB/s':>7s}{'peak memory / weights':>24s}")
    for kind, found in best.items():
        speed = WEIGHTS / found["seconds"] / 1e9
        print(f"{kind:12s}{found['seconds']:9.3f}{speed:7.2f}{found['memory']:24.2f}")
    if "tensorflow" in best:
        for kind in ("bundle", "model"):
            if kind in best:
                ratio = best[kind]["seconds"] / best["tensorflow"]["seconds"]
                print(f"{kind} takes {ratio:.2f} of TensorFlow's time")


if __name__ == "__main__":
    main()
