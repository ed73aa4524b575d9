"""The settings in configs/ are ones to start from: each file is run for a few steps, as it is."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cli_helpers import llmlib, metrics, write_text

from llmlib.cli.run_folder import model_config, open_run, train_config
from llmlib.cli.settings import read_settings, settle
from llmlib.model.gpt import GPT

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# What is shortened; everything else stays as the file has it.
FEW = ["--max-steps", 3, "--eval-every", 2, "--save-every", 2, "--n-samples", 2]
FEW += ["--eval-tokens", 500, "--warmup-steps", 2, "--device", "cpu"]


def test_there_are_three_and_each_is_explained():
    files = sorted(CONFIGS.iterdir())
    assert [file.name for file in files] == ["book.yaml", "gpt2-124m.yaml", "stories.yaml"]
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert sum("#" in line for line in lines) > len(lines) / 3, file
        assert any(line.startswith("#   llmlib") for line in lines), file


def trained(run):
    """The settings of a run, which must have taken its steps."""
    assert [entry["step"] for entry in metrics(run)] == [1, 2, 3]
    return open_run(run).settings


def test_stories_are_trained_on(tmp_path):
    few = [*FEW, "--stories", 60, "--out", tmp_path / "run"]
    assert llmlib("train", "--config", CONFIGS / "stories.yaml", *few) == 0
    settings = trained(tmp_path / "run")
    assert (settings.data, settings.tokenizer, settings.optimizer) == ("stories", "word", "muon")
    assert settings.dtype == "bfloat16"


def test_a_book_is_trained_on(tmp_path):
    few = [*FEW, "--max-vocab", 300, "--n-layers", 1, "--batch-size", 2, "--context-length", 64]
    command = ["train", write_text(tmp_path), "--config", CONFIGS / "book.yaml", *few]
    assert llmlib(*command, "--out", tmp_path / "run") == 0
    settings = trained(tmp_path / "run")
    assert (settings.tokenizer, settings.emb_dim, settings.drop_rate) == ("bpe", 192, 0.2)


def test_gpt2_is_what_the_paper_says():
    settings = settle(read_settings(CONFIGS / "gpt2-124m.yaml"))
    config, training = model_config(settings, vocab_size=50257), train_config(settings)
    with torch.device("meta"):
        assert GPT(config).num_parameters() == 124_439_808
    rows = settings.batch_size * training.accumulation_steps
    assert rows * config.context_length == 2**19
    assert training.max_steps * 2**19 == pytest.approx(1e10, rel=1e-3)


@pytest.mark.slow
def test_gpt2_is_trained_by_torchrun(tmp_path):
    text = write_text(tmp_path)
    assert llmlib("prepare", text, "--tokenizer", "char", "--out", tmp_path / "prepared") == 0
    small = ["--n-layers", 1, "--emb-dim", 24, "--context-length", 16, "--batch-size", 4]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "-m", "llmlib", "train", tmp_path / "prepared"]
    command += ["--config", CONFIGS / "gpt2-124m.yaml", *FEW, *small, "--no-compile"]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    settings = trained(tmp_path / "run")
    assert isinstance(settings, SimpleNamespace) and settings.accumulation_steps == 8
    assert "in each of 2 processes" in done.stdout
