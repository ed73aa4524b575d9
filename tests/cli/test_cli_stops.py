"""Ctrl-C ends with exit code 130, whatever a library makes of it; processes leave in order."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from cli_helpers import failure, llmlib

from llmlib.cli.devices import choose_device, compiled
from llmlib.cli.processes import Processes
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.loss import NextTokenLoss


def test_an_error_that_a_library_makes_of_a_stop_is_a_stop(monkeypatch, capsys):
    def convert(**_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("compiling failed") from None

    monkeypatch.setattr("llmlib.cli.evaluate.evaluate_command", convert)
    assert llmlib("evaluate", "--checkpoint", "r") == 130
    assert capsys.readouterr().err == "llmlib: stopped\n"
    monkeypatch.setattr("llmlib.cli.evaluate.evaluate_command", lambda **_: 1 / 0)
    assert llmlib("evaluate", "--checkpoint", "r") == 2


def test_a_stop_while_compiling_or_trying_a_device_is_not_taken_for_a_failure(monkeypatch):
    def stop(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("the compiler was interrupted") from error

    loss = NextTokenLoss(GPT(GPTConfig(9, 4, emb_dim=4, n_heads=2, n_layers=1)))
    batch = torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)
    monkeypatch.setattr(torch, "compile", stop)
    with pytest.raises(KeyboardInterrupt):
        compiled(loss, batch)
    monkeypatch.setattr("llmlib.cli.devices.accelerators", lambda: ["mps"])
    monkeypatch.setattr(
        "llmlib.cli.devices.loss_on", lambda device, *_: 1.0 if device == "cpu" else stop()
    )
    with pytest.raises(KeyboardInterrupt):
        choose_device("auto", loss.model, batch)


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "junk"},
        {"RANK": "1"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "²"},
        {"LOCAL_RANK": "1.5"},
        {"LOCAL_WORLD_SIZE": "0"},
        {"WORLD_SIZE": "2", "RANK": "0"},
    ],
)
def test_variables_that_torchrun_would_not_set_are_named(monkeypatch, capsys, tmp_path, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = failure(capsys, "train", "stories", "--out", tmp_path / "r")
    assert "torchrun" in line and any(name in line for name in variables)
    assert not (tmp_path / "r").exists()


def test_what_is_waited_for_has_no_limit_of_time(process_group, monkeypatch):
    """Preparing and looking may take hours; gradients keep torch's limit, which finds the dead."""
    limits = {}
    new_group = dist.new_group

    def note(*given, **options):
        limits[len(limits)] = options["timeout"].days
        return new_group(*given, **options)

    monkeypatch.setattr(dist, "new_group", note)
    monkeypatch.setattr(dist, "init_process_group", lambda *_: None)
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1" if name != "RANK" else "0")
    processes = Processes()
    processes.world = 2
    processes.__enter__()
    assert limits == {0: 365}
    used = []
    monkeypatch.setattr(dist, "all_reduce", lambda *_, group, **__: used.append(group))
    monkeypatch.setattr(dist, "broadcast_object_list", lambda *_, group, **__: used.append(group))
    processes.any(False)
    assert processes.by_writer(lambda: 5) == 5
    assert used == [processes.group] * 2


def test_one_of_several_processes_ends_without_pythons_farewell():
    program = (
        "import atexit, os, sys; from llmlib.cli import console\n"
        "atexit.register(print, 'farewell'); print('done'); console.leave(3)"
    )
    for world, expected in (("1", "done\nfarewell\n"), ("2", "done\n")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "WORLD_SIZE": world, "PYTHONUNBUFFERED": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 3 and done.stdout == expected


@pytest.mark.parametrize(("end", "code"), [("return 3", 3), ("1 / 0", 1)])
def test_the_door_lets_one_of_several_processes_leave_at_once(end, code):
    program = (
        "import atexit; import llmlib.__main__ as door\n"
        f"def main(): {end}\n"
        "atexit.register(print, 'farewell'); door.main = main; door.door()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code and not done.stdout
    assert ("ZeroDivisionError" in done.stderr) == (code == 1)
