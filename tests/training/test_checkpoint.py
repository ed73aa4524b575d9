"""Checkpoints: equal when loaded, whole at every moment, and clear when something is wrong."""

import copy
import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from models import KINDS, small_model
from torch import nn

from llmlib.checks import FileError
from llmlib.data.batches import create_document_loader
from llmlib.files import sha256
from llmlib.model.architectures import config_of, new_model
from llmlib.training import checkpoint as module
from llmlib.training.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

DOCUMENTS = [[1 + (7 * start + i) % 30 for i in range(2 + start % 9)] for start in range(30)]


def make_model(seed=0, kind="gpt", **changes):
    torch.manual_seed(seed)
    shape = {"emb_dim": 16, "n_heads": 2, "n_layers": 1, **changes}
    return small_model(kind, 32, 16, **shape)


def make_loader(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return create_document_loader(DOCUMENTS, 0, 4, generator=generator)


def make_trainer(seed=0, optimizer="adamw", settings=None, **changes):
    config = TrainConfig(12, 1e-2, warmup_steps=2, optimizer=optimizer, **settings or {})
    return Trainer(make_model(seed, **changes), config)


def save(folder, trainer, notes=None):
    save_checkpoint(folder, trainer.model, trainer.state_dict(), notes)


def seal(folder, manifest):
    """Write a manifest with its right hash, as somebody could who means harm."""
    manifest.pop("sha256", None)
    module.write_manifest(folder, manifest)


def names(folder):
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of step 3."""
    return save_step_3(tmp_path)


def save_step_3(tmp_path, kind="gpt"):
    trainer = make_trainer(kind=kind)
    for report in trainer.run(make_loader()):
        if report.step == 3:
            break
    save(tmp_path, trainer, {"corpus": "test"})
    return tmp_path


def everything(trainer, loader):
    """All that a run consists of, as one dict of plain values and tensors."""
    state = trainer.state_dict()
    whole = {f"weights.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    whole |= state.pop("tensors")
    whole |= {"global generator": torch.get_rng_state(), **state}
    # at the end of a step the loader has drawn the order of its epoch, and nothing beyond
    return whole | {"loader": loader.sampler.generator.get_state()}


def differences(a, b):
    keys = sorted(a.keys() | b.keys())
    tensors = {k for k in keys if isinstance(a.get(k), torch.Tensor)}
    return [
        key
        for key in keys
        if key not in a
        or key not in b
        or not (torch.equal(a[key], b[key]) if key in tensors else a[key] == b[key])
    ]


@pytest.mark.parametrize(
    ("optimizer", "accumulation_steps", "drop_rate", "dtype"),
    [
        ("adamw", 1, 0.0, "float32"),
        ("adamw", 3, 0.2, "float32"),
        ("muon", 1, 0.2, "float32"),
        ("muon", 3, 0.2, "bfloat16"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_at_any_step_and_resumed_equals_the_uninterrupted_one(
    tmp_path, optimizer, accumulation_steps, drop_rate, dtype, kind
):
    """Bit for bit, through files: weights, optimizer, schedule, place in the loader, randomness.

    An epoch has 7 batches, so that the stops lie in the middle of epochs, at their ends (a step of
    one batch) and across them (a step of three).
    """

    def new_trainer(seed):
        settings = {"accumulation_steps": accumulation_steps, "dtype": dtype}
        return make_trainer(seed, optimizer, settings, kind=kind, drop_rate=drop_rate)

    trainer, loader, reports, after = new_trainer(0), make_loader(), [], {}
    for report in trainer.run(loader):
        reports.append((report.loss, report.learning_rate, report.grad_norm, report.n_tokens))
        save(tmp_path / str(report.step), trainer)
        after[report.step] = copy.deepcopy(everything(trainer, loader))
    assert len({loss for loss, *_ in reports}) == 12  # each step is another one

    for stop in range(1, 12):
        resumed, again = new_trainer(seed=50 + stop), make_loader(seed=50 + stop)
        torch.rand(stop)  # no matter what else happened in between
        resumed.load_state_dict(load_checkpoint(tmp_path / str(stop), resumed.model).training)
        for report in resumed.run(again):
            same = (report.loss, report.learning_rate, report.grad_norm, report.n_tokens)
            assert same == reports[report.step - 1], f"stopped at {stop}, step {report.step}"
            now = everything(resumed, again)
            assert not differences(now, after[report.step]), f"stopped at {stop}"
        assert resumed.step == 12


def test_saving_twice_and_resuming_twice_changes_nothing(tmp_path):
    trainer = make_trainer(drop_rate=0.1)
    losses = []
    for report in trainer.run(make_loader()):
        losses.append(report.loss)
        if report.step == 5:
            save(tmp_path, trainer)
    for stop in (5, 9):  # the second time from a checkpoint of a run that was resumed itself
        resumed = make_trainer(seed=4, drop_rate=0.1)
        resumed.load_state_dict(load_checkpoint(tmp_path, resumed.model).training)
        assert resumed.step == stop
        for report in resumed.run(make_loader(seed=stop)):
            assert report.loss == losses[report.step - 1]
            if report.step == 9:
                save(tmp_path, resumed)
                save(tmp_path, resumed)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back(tmp_path, kind):
    saved = save_step_3(tmp_path, kind)
    loaded = load_checkpoint(str(saved))
    assert loaded.notes == {"corpus": "test"} and loaded.step == 3
    model = new_model(config_of(loaded.model_config, loaded.config_class))
    loaded.load_into(model)
    assert TrainConfig(**loaded.training["config"]) == make_trainer().config
    assert names(saved) == ["checkpoint.json", "training", "weights"]
    for values in loaded.weights, loaded.training["tensors"]:
        assert all(isinstance(value, torch.Tensor) for value in values.values())


def test_weights_alone_are_a_checkpoint_too(tmp_path):
    save_checkpoint(tmp_path, make_model())
    loaded = load_checkpoint(tmp_path, make_model(seed=1))
    assert loaded.training is None and loaded.step == 0 and loaded.notes == {}


def test_a_model_of_another_kind_needs_no_config(tmp_path):
    save_checkpoint(tmp_path, nn.Linear(3, 4))
    assert load_checkpoint(tmp_path, nn.Linear(3, 4)).model_config is None
    with pytest.raises(FileError, match=r"'bias' it has \(4,\), the model \(5,\)"):
        load_checkpoint(tmp_path, nn.Linear(3, 5))


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_other_files_alone(saved):
    (saved / "log.txt").write_text("mine")
    (saved / "weights-of-mine.safetensors").write_text("mine")
    # no process has that number: the largest one is 4194304
    for name in ("12345.part", "weights.4194305.part", "checkpoint.json.4194305.part"):
        (saved / name).write_text("left behind by a process that was killed")
    (saved / "mine.part").write_text("mine")
    trainer = make_trainer(seed=2)
    save(saved, trainer)
    assert load_checkpoint(saved).step == 0
    assert sum(path.stat().st_size < 10 for path in saved.iterdir()) == 3
    assert len(list(saved.iterdir())) == 6
    save(saved, trainer)  # the same once more: the files keep their names
    load_checkpoint(saved, make_model())


# Something is wrong -------------------------------------------------------------------------------


def test_no_checkpoint_is_said_so(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="there is no checkpoint in"):
            load_checkpoint(folder)


@pytest.mark.parametrize("name", ["weights", "training"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "bit", "longer", "missing", "other"])
def test_a_damaged_file_is_named_and_nothing_is_loaded(saved, name, damage):
    path = next(saved.glob(f"{name}-*"))
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        path.write_bytes(b"PK\x03\x04" + b"pickle" * 100)
    else:
        content[len(content) // 3] ^= damage == "bit"
        size = {"truncated": len(content) // 2, "empty": 0}.get(damage, len(content))
        path.write_bytes(content[:size] + b"x" * (damage == "longer"))
    model = make_model(seed=1)
    with pytest.raises(FileError) as error:
        load_checkpoint(saved, model)
    assert path.name in str(error.value)
    if damage in ("truncated", "empty", "longer"):
        assert "bytes instead of" in str(error.value)
    assert torch.equal(model.wte.weight, make_model(seed=1).wte.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b'{"model": "GPT"}', "was not written by llmlib"),
        (b'{"format": "llmlib checkpoint", "version": 99}', "version 99, this llmlib reads 2"),
        (b'{"format": "llmlib checkpoint", "version": 1}', "something is missing"),
        (b'{"format": "llmlib checkpoint", "version": 1, "files": []}', "something is missing"),
    ],
)
def test_a_damaged_or_foreign_manifest_is_refused(saved, content, message):
    (saved / "checkpoint.json").write_bytes(content)
    with pytest.raises(FileError, match=message) as error:
        load_checkpoint(saved)
    assert "checkpoint.json" in str(error.value)


def test_a_file_that_is_not_safetensors_is_refused_even_with_the_right_hash(saved):
    path = next(saved.glob("weights-*"))
    path.write_bytes(b"not a table of tensors")
    manifest = json.loads((saved / "checkpoint.json").read_text())
    manifest["files"]["weights"] |= {"size": 22, "sha256": sha256(path)}
    seal(saved, manifest)
    with pytest.raises(FileError, match="is not a safetensors file"):
        load_checkpoint(saved)


def test_a_manifest_cannot_point_outside_its_folder(saved):
    manifest = json.loads((saved / "checkpoint.json").read_text())
    outside = saved.parent / "outside.safetensors"
    os.replace(saved / manifest["files"]["weights"]["name"], outside)
    manifest["files"]["weights"]["name"] = "../outside.safetensors"
    seal(saved, manifest)
    with pytest.raises(FileError, match="missing"):
        load_checkpoint(saved)


def test_a_model_that_does_not_fit_is_refused_by_name(saved):
    for changes, message in [
        ({"emb_dim": 32}, "has emb_dim=16, the model has emb_dim=32"),
        ({"n_layers": 2}, "n_layers=1"),
        ({"n_heads": 4}, "n_heads=2"),  # the same shapes, and another model
        ({"tie_weights": False}, "tie_weights=True"),
    ]:
        with pytest.raises(FileError, match=message):
            load_checkpoint(saved, make_model(**changes))
    with pytest.raises(FileError, match="does not fit the model"):
        load_checkpoint(saved, nn.Linear(2, 2))
    load_checkpoint(saved, make_model(drop_rate=0.5))  # dropout has no weights


def test_notes_that_json_cannot_hold_are_refused_before_anything_is_written(saved):
    before, files = read_manifest(saved), sorted(saved.iterdir())

    @dataclass
    class Thing:
        x: int = 1

    for notes in ({"loss": float("nan")}, {"thing": Thing()}, {"path": saved}):
        with pytest.raises((TypeError, ValueError)):
            save_checkpoint(saved, make_model(seed=3), notes=notes)
    assert read_manifest(saved) == before and sorted(saved.iterdir()) == files
    load_checkpoint(saved, make_model())


# A disk that is full, a process that is killed ----------------------------------------------------


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_full_disk_leaves_the_old_checkpoint(saved, monkeypatch, fails_at):
    before, calls, real = sorted(saved.iterdir()), [], module.save_file

    def save_file(tensors, path):
        calls.append(path)
        real(tensors, path)
        if len(calls) == fails_at:
            with open(path, "rb+") as file:
                file.truncate(100)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", save_file)
    with pytest.raises(
        OSError, match=r"No space left on device\. What was saved there before"
    ) as error:
        save(saved, make_trainer(seed=3))
    assert error.value.errno == errno.ENOSPC
    assert load_checkpoint(saved, make_model()).step == 3
    assert set(before) <= set(saved.iterdir()) and not list(saved.glob("*.part"))
    monkeypatch.undo()
    save(saved, make_trainer(seed=3))
    assert len(list(saved.iterdir())) == 3


def test_a_write_that_really_fails_halfway_leaves_the_old_checkpoint(saved):
    resource = pytest.importorskip("resource")  # Windows has none
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))  # a file may not grow beyond this
    try:
        with pytest.raises(OSError, match="could not be saved"):
            save(saved, make_trainer(seed=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(saved, make_model()).step == 3


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"could not be saved in .*file"):
            save_checkpoint(folder, make_model())


# One interpreter imports torch, and then starts, kills and checks one child after another: a new
# interpreter for each would take most of the time to start.
FORKS = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from llmlib.training.checkpoint import MANIFEST, load_checkpoint
from test_checkpoint import make_loader, make_model, make_trainer, save

folder, rng = sys.argv[1], random.Random(int(sys.argv[2]))
def written():
    "What changes with every save."
    return os.stat(os.path.join(folder, MANIFEST)).st_mtime_ns

save(folder, make_trainer())
seen = []
for number in range(24):
    before = written()
    child = os.fork()
    if child == 0:
        trainer = make_trainer(seed=len(seen))
        while True:
            for report in trainer.run(make_loader()):
                save(folder, trainer, {"child": len(seen), "loss": report.loss})
            trainer = make_trainer(seed=len(seen))
    while number % 2 and written() == before:  # every second one has saved, on a busy machine too
        time.sleep(0.001)
    time.sleep(rng.uniform(0.02, 0.25))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaded = load_checkpoint(folder, make_model())
    trainer = make_trainer()
    trainer.load_state_dict(loaded.training)
    next(trainer.run(make_loader()), None)
    seen.append(loaded.notes.get("child"))
assert seen[1::2] == list(range(1, 24, 2)), seen
print(len(seen))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and SIGKILL")
def test_a_process_killed_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path):
    """Twenty-four kills, at random moments, of a process that does nothing but train and save."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FORKS, str(tmp_path), "0"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "24\n"
