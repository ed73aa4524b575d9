"""The programs of examples/ run, and do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(folder, *launcher):
    """The losses that examples/fsdp2.py prints in six steps, and the weights that it saves."""
    program = [str(EXAMPLES / "fsdp2.py"), "--steps=6", "--out=weights.safetensors"]
    done = subprocess.run(
        [sys.executable, *launcher, *program],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    losses = re.findall(r"step \d+, loss ([\d.]+)", done.stdout)
    return list(map(float, losses)), load_file(folder / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs gloo with libuv")
def test_two_processes_with_half_the_weights_each_learn_what_one_does(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    losses, weights = run(tmp_path)
    shared_losses, shared_weights = run(tmp_path, *torchrun)
    assert len(losses) == 6 and losses[5] < losses[0] - 0.3
    assert shared_losses == pytest.approx(losses, abs=2e-4)
    assert weights.keys() == shared_weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(shared_weights[name], weight, atol=1e-4, rtol=0)
