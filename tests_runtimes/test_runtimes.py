"""What `save_pretrained` writes loads in the programs of others, and says the same greedy text.

Not part of `make test`: `make test-runtimes` builds the environments and runs this.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[1]
FOUR = ROOT / ".venv-transformers4" / "bin" / "python"
NODE_MODULES = ROOT / "build" / "runtimes" / "node_modules"


def answer_of(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def same(found, expected):
    assert found["new"] == expected["new"] and found["text"] == expected["text"]
    assert found["prompt_ids"] == expected["prompt_ids"]


@pytest.mark.parametrize("generation", [5, 4])
def test_transformers(written, generation):
    folder, expected = written
    python = sys.executable if generation == 5 else FOUR
    if not Path(python).exists():
        pytest.skip("make test-runtimes builds .venv-transformers4")
    found = answer_of(python, HERE / "greedy_transformers.py", folder)
    assert found["version"].startswith(f"{generation}.")
    assert found["ends"] == [expected["ids"][0]]  # one id, by three files
    same(found, expected)


def test_ctranslate2(written, tmp_path):
    import ctranslate2
    from transformers import AutoTokenizer

    folder, expected = written
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(tmp_path / "ct2"))
    generator = ctranslate2.Generator(str(tmp_path / "ct2"), compute_type="float32")
    options = {"max_length": expected["n_new"], "min_length": expected["n_new"]}
    options |= {"sampling_topk": 1, "include_prompt_in_result": False}
    tokens = tokenizer.convert_ids_to_tokens(expected["ids"])
    new = generator.generate_batch([tokens], **options)[0].sequences_ids[0]
    assert new == expected["new"] and tokenizer.decode(new) == expected["text"]


def test_onnxruntime(written):
    import onnxruntime

    folder, expected = written
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=providers)
    ids = list(expected["ids"])
    for _ in range(expected["n_new"]):
        (logits,) = session.run(["logits"], {"input_ids": np.array([ids])})
        ids.append(int(logits[0, -1].argmax()))
    assert ids[len(expected["ids"]) :] == expected["new"]


def test_transformers_js(written):
    if not shutil.which("node") or not NODE_MODULES.is_dir():
        pytest.skip("needs node, and make test-runtimes")
    folder, expected = written
    script = NODE_MODULES.parent / "greedy.mjs"  # beside the packages that it imports
    shutil.copy(HERE / "greedy.mjs", script)
    same(answer_of("node", script, folder), expected)
