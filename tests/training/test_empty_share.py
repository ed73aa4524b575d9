"""A process whose share of a step has no target: two processes learn what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import train

IDS = torch.arange(30).reshape(2, 15) % 13
SHARES = [(IDS[:1, :-1], IDS[:1, 1:]), (IDS[1:, :-1], torch.full((1, 14), -100))]
CONFIG = TrainConfig(3, 1e-2, warmup_steps=0)


def make_model():
    torch.manual_seed(0)
    return GPT(GPTConfig(13, 14, emb_dim=8, n_heads=2, n_layers=1))


def one_of_two(rank, folder):
    """Train with the share of one process, and save the weights, or say what was refused."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = make_model()
    reports = train(model, [SHARES[rank]], CONFIG, wrap=DistributedDataParallel)
    assert all(report.n_tokens == 14 for report in reports)
    save_file(model.state_dict(), f"{folder}/{rank}.safetensors")
    try:
        train(model, [SHARES[1]], CONFIG, wrap=DistributedDataParallel)
    except ValueError as error:
        Path(folder, f"{rank}.txt").write_text(str(error))
    dist.barrier()


@pytest.mark.slow
def test_two_processes_one_of_them_without_targets_learn_what_one_does(tmp_path):
    program = "import os, sys; sys.path.insert(0, sys.argv[1]); import test_empty_share as t\n"
    program += "t.one_of_two(int(sys.argv[2]), sys.argv[3]); os._exit(0)"
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, here, str(rank), str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    assert [process.wait(600) for process in processes] == [0, 0]
    alone = make_model()
    train(alone, [SHARES[0]], CONFIG)
    for rank in range(2):
        weights = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(weights, dict(alone.state_dict()))
        assert "step 1 has no targets" in (tmp_path / f"{rank}.txt").read_text()
