"""Runs and checkpoints of the version before the rooms load, resume, and are evaluated alike.

tests/fixtures/run_before_rooms was written by the command line of commit e13c458:

    llmlib train stories --stories 60 --preset story-tiny --n-layers 1 --emb-dim 8 --n-heads 2
        --drop-rate 0.1 --batch-size 4 --warmup-steps 5 --accumulation-steps 2 --device cpu
        --n-samples 1 --eval-tokens 600 --seed 3 --max-steps 20 --eval-every 10

It was then evaluated and, in a copy, resumed to step 24 by the same version, which gave the numbers
below. Its picture of the curves is left out.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from llmlib.__main__ import main
from llmlib.cli.callbacks import Recorder
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.checkpoint import load_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "run_before_rooms"
EVALUATED = 5.63125483194987
RESUMED = [5.619344234466553, 5.619527816772461, 5.621883392333984, 5.612325668334961]
MEASURED = 5.629137674967448  # after step 24


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def test_an_old_checkpoint_gives_its_model_settings_and_state():
    checkpoint = load_checkpoint(OLD / "latest")
    model = GPT(GPTConfig(**checkpoint.model_config))
    checkpoint.load_into(model)
    assert checkpoint.step == 20
    config = TrainConfig(**checkpoint.training["config"])
    assert config.optimizer == "muon" and config.accumulation_steps == 2
    trainer = Trainer(model, config)
    trainer.load_state_dict(checkpoint.training)
    assert trainer.step == 20
    for name, tensor in trainer.state_dict()["tensors"].items():
        assert torch.equal(tensor, checkpoint.training["tensors"][name]), name


def test_an_old_run_is_resumed_as_its_own_version_resumed_it(run, monkeypatch):
    begin = Recorder.__init__

    def begin_as_before(self, *arguments):
        """The old version drew a number here, so that the dropout after a resume was another."""
        begin(self, *arguments)
        torch.empty((), dtype=torch.int64).random_()

    monkeypatch.setattr(Recorder, "__init__", begin_as_before)
    assert main(["train", "--resume", str(run), "--max-steps", "24", "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert [line["loss"] for line in lines[20:]] == pytest.approx(RESUMED, abs=1e-4)
    assert lines[-1]["val_loss"] == pytest.approx(MEASURED, abs=1e-4)


def test_an_old_run_is_evaluated_as_before(run, capsys):
    assert main(["evaluate", "--checkpoint", str(run), "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["loss"] == pytest.approx(EVALUATED, abs=1e-5) and report["n_tokens"] == 576
