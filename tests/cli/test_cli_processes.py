"""Many processes learn what one would have learned: torchrun, gloo, on this machine's CPU."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from cli_helpers import TINY, assert_equal_weights, llmlib, metrics, weights, write_text
from torch.nn.parallel import DistributedDataParallel

from llmlib import checks
from llmlib.cli.dataset import TokenData
from llmlib.cli.prepare import prepare
from llmlib.cli.processes import Processes
from llmlib.cli.run_folder import RunFolder
from llmlib.cli.train import stopped
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.checkpoint import load_checkpoint
from llmlib.training.loss import NextTokenLoss
from llmlib.training.trainer import accumulate

# Dropout draws differently in each process, so that it is left out where runs are compared.
FLAGS = {
    "--drop-rate": "0",
    "--max-steps": "8",
    "--eval-every": "4",
    "--save-every": "4",
    "--accumulation-steps": "2",
}
# a small rate: Adam divides gradients that are nearly 0, and differ in all bits, by their size
STEPS = [*chain(*FLAGS.items()), "--learning-rate", "3e-4"]
# Not Muon, the recipe's choice: it rounds to bfloat16, where the order of a sum can tip a last bit.
STORIES = "stories --stories 120 --preset story-tiny --batch-size 4 --n-samples 1 --device cpu "
# And slowly: the keys' bias has no gradient but rounding, of which AdamW makes full steps.
STORIES += "--optimizer adamw --learning-rate 3e-4"
NAMES = {".lock", "config.yaml", "metrics.jsonl", "samples.txt", "loss.png"}
NAMES |= {"data", "latest", "best"}


def torchrun(*arguments):
    """Start the command line in two processes; --standalone finds a port that is free."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*launcher, "-m", "llmlib", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def finish(process):
    """What a process printed, to stdout and to stderr; killed if it hangs."""
    try:
        return process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_text(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["windows", "story-tiny", "llama-small", "moe-small"])
def test_two_processes_learn_what_one_does(folder, kind):
    stories = STORIES.replace("story-tiny", kind).split()
    text = [folder / "text.txt", *TINY] if kind == "windows" else stories
    one, two = folder / f"one-{kind}", folder / f"two-{kind}"
    process = torchrun("train", *text, *STEPS, "--out", two)
    assert llmlib("train", *text, *STEPS, "--out", one) == 0
    output, errors = finish(process)
    assert process.returncode == 0, errors
    for first, second in zip(metrics(one), metrics(two), strict=True):
        assert first["step"] == second["step"] and first["n_tokens"] == second["n_tokens"]
        assert first.keys() == second.keys()
        for name in ("loss", "grad_norm", "val_loss"):
            assert second.get(name) == pytest.approx(first.get(name), abs=1e-5)
    for name in ("latest", "best"):
        assert_equal_weights(weights(two, name), weights(one, name), rtol=0, atol=1e-5)
    # one writer: nothing was said, written or left behind twice
    assert {path.name for path in two.iterdir()} == NAMES
    assert output.count("device cpu in each of 2 processes") == output.count("done: ") == 1
    assert re.findall(r"=== step (\d+) ===", (two / "samples.txt").read_text()) == ["4", "8"]
    # and one process goes on where two stopped
    assert llmlib("train", "--resume", two, "--max-steps", 9) == 0
    assert load_checkpoint(two / "latest").step == 9


@pytest.mark.parametrize("kind", ["windows", "stories"])
def test_no_row_is_read_twice_and_none_is_left_out(tmp_path, kind):
    if kind == "windows":
        prepare(str(write_text(tmp_path)), tmp_path / "p", tokenizer="char")
    else:
        prepare("stories", tmp_path / "p", tokenizer="word", stories=60)
    data = TokenData(tmp_path / "p")
    alone = data.train_loader(192, 6, seed=3)
    shares = [data.train_loader(192, 6, seed=3, rank=rank, world=3) for rank in range(3)]
    for whole, *parts in zip(alone, *shares, strict=True):
        rows = [real(*row) for row in zip(*whole)]
        shared = [real(*row) for part in parts for row in zip(*part)]
        assert all(len(part[0]) == 2 for part in parts)
        assert sorted(shared) == sorted(rows) and len(set(rows)) == 6


def real(inputs, targets):
    """A row without its padding."""
    return tuple(inputs[targets != -100].tolist()), tuple(targets[targets != -100].tolist())


def test_accumulated_gradients_are_sent_once_per_step(process_group):
    model = GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=1))
    loss = DistributedDataParallel(NextTokenLoss(model))
    sent = []

    def note(state, bucket):
        sent.append(bucket.index())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    loss.register_comm_hook(None, note)
    ids = torch.randint(20, (3, 2, 9))
    accumulate(loss, [(rows[:, :-1], rows[:, 1:]) for rows in ids])
    assert sent == [0]


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_saves(folder):
    run = folder / "stopped"
    steps = [*STEPS, "--max-steps", 100_000, "--eval-every", 100_000]
    process = torchrun("train", folder / "text.txt", *TINY, *steps, "--out", run)
    end = time.monotonic() + 600
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = finish(process)
    step = metrics(run)[-1]["step"]
    command = f"torchrun --nproc_per_node=2 -m llmlib train --resume {run}"
    assert f"stopped and saved at step {step:,}; go on with: {command}" in errors
    assert load_checkpoint(run / "latest").step == step


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_one_line_each(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    process = torchrun("train", folder / "text.txt", *TINY, "--out", folder / "mine")
    output, errors = finish(process)
    assert process.returncode != 0 and not output
    assert "is not empty: name a new folder with --out" in errors
    assert "llmlib/cli" not in errors, "a traceback of ours"
    assert (folder / "mine" / "notes.txt").read_text() == "mine"


def test_only_the_writer_removes_what_a_refused_start_has_made(folder, monkeypatch):
    def fail(*_):
        raise ValueError("no")

    monkeypatch.setattr("llmlib.cli.train.make_trainer", fail)
    monkeypatch.setattr(Processes, "is_writer", False)
    assert llmlib("train", folder / "text.txt", *TINY, "--out", folder / "refused") == 2
    assert (folder / "refused" / "config.yaml").is_file()


def test_the_advice_about_a_short_text_can_be_shared():
    for n_tokens, advice in (
        (5 * 8 + 1, "--batch-size 4,"),
        (9, "--context-length 4 --batch-size 2,"),
    ):
        with pytest.raises(ValueError, match=advice):
            checks.windows_fit(n_tokens, context_length=8, batch_size=8, world=2)


def test_rows_that_cannot_be_shared_equally_are_refused(folder):
    prepare(str(folder / "text.txt"), folder / "p", tokenizer="char")
    with pytest.raises(ValueError, match="batch_size is 4: 3 processes cannot share"):
        TokenData(folder / "p").train_loader(16, 4, seed=0, rank=0, world=3)


@pytest.mark.parametrize(
    "environment, command",
    [
        ({}, "llmlib"),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "torchrun --nproc_per_node=2 -m llmlib"),
        (
            {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
            "torchrun --nnodes=2 … --nproc_per_node=4 -m llmlib",
        ),
    ],
)
def test_the_command_to_go_on_starts_as_many_processes(monkeypatch, environment, command):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Processes().command() == command


def test_the_command_to_go_on_may_be_pasted(capsys):
    run = RunFolder("it's mine", SimpleNamespace())
    assert stopped("stopped", run, Processes()) == 130
    assert shlex.split(capsys.readouterr().err)[-2:] == ["--resume", "it's mine"]


def test_a_lost_connection_gives_no_traceback(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    processes = Processes()
    with pytest.raises(ConnectionError, match="process 0 stops, as another one failed"):
        processes.__exit__(RuntimeError, RuntimeError("Connection closed by peer"), None)
    processes.__exit__(RuntimeError, RuntimeError("a mistake of ours"), None)


def test_what_fails_in_the_writer_ends_the_others(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = []

    def broadcast(box, **_):
        told.append(list(box))
        box[:] = [None, False]

    monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
    with pytest.raises(ZeroDivisionError):
        Processes().by_writer(lambda: 1 / 0)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConnectionError, match="process 1 stops"):
        Processes().by_writer(lambda: 1 / 0)  # which it leaves to rank 0
    assert told == [[None, False], [None, False]]
