"""Checkpoints under attack: a changed manifest, a save meanwhile, left-overs, odd names."""

import json
import os
import subprocess
import sys
import threading

import pytest
import torch
from test_checkpoint import make_model, make_trainer, names, save, saved  # noqa: F401

from llmlib import files
from llmlib.checks import FileError
from llmlib.training import checkpoint as module
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint

NOBODY = 4194305  # no process has that number: the largest one is 4194304


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"n_heads": 2', '"n_heads": 4'),
        ('"step": 3', '"step": 2147483648'),
        ('"step": 3', '"step": 2'),
        ('"batch": 3', '"batch": 4'),
        ('"learning_rate": 0.01', '"learning_rate": 0.02'),
        ('"corpus": "test"', '"corpus": "text"'),
        ('"corpus": "test"', '"corpus": "test", "more": 1'),
        ('"version": 2', '"version": 1'),
        ('"sha256": "', '"sha256": "0'),
        ('"sha256"', '"sha257"'),
    ],
)
def test_a_manifest_vouches_for_itself(saved, old, new):  # noqa: F811
    path = saved / "checkpoint.json"
    text = path.read_text()
    assert old in text
    path.write_text(new.join(text.rsplit(old, 1)))
    with pytest.raises(FileError, match="is damaged"):
        load_checkpoint(saved)


def test_spaces_and_the_order_of_keys_say_nothing(saved):  # noqa: F811
    path = saved / "checkpoint.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items()))))
    assert load_checkpoint(saved).step == 3


def test_a_checkpoint_of_the_first_version_had_no_hash(saved):  # noqa: F811
    path = saved / "checkpoint.json"
    content = json.loads(path.read_text()) | {"version": 1}
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert load_checkpoint(saved).step == 3
    for name, value in [
        ("step", -1),
        ("step", 2**60),
        ("epoch", "2"),
        ("batch", 1.5),
        ("step", True),
    ]:
        changed = content | {"training": content["training"] | {name: value}}
        path.write_text(json.dumps(changed))
        with pytest.raises(FileError, match="is damaged"):
            load_checkpoint(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"notes": ' * 100_000,
        b'{"format": "llmlib checkpoint", "version": 2, "files": {"zz": 5}}',
        b'{"format": "llmlib checkpoint", "version": [1, 2], "files": {"zz": 5}}',
        b'{"format": "llmlib checkpoint", "version": 2, "notes": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format": "llmlib checkpoint", "version": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_manifest_that_is_nested_too_deeply_or_says_nonsense(saved, content):  # noqa: F811
    (saved / "checkpoint.json").write_bytes(content)
    with pytest.raises(FileError, match=r"checkpoint\.json") as error:
        load_checkpoint(saved)
    assert len(str(error.value)) < 500


def test_weights_that_are_not_finite_are_never_saved_over_good_ones(saved):  # noqa: F811
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    trainer = make_trainer(seed=3)
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            trainer.model.h[0].attn.c_attn.weight[3, 4] = value
        with pytest.raises(FloatingPointError, match=r"h\.0\.attn\.c_attn\.weight holds numbers"):
            save(saved, trainer)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_checkpoint_is_read_while_another_one_is_saved(tmp_path):
    """A reader gets one of the checkpoints as a whole, however often they change meanwhile."""
    models = [make_model(seed) for seed in range(2)]
    save_checkpoint(tmp_path, models[0], notes={"seed": 0})
    stop, failures = threading.Event(), []

    def write():
        while not stop.is_set():
            for seed, model in enumerate(models):
                save_checkpoint(tmp_path, model, notes={"seed": seed})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(150):
            loaded = load_checkpoint(tmp_path)
            expected = models[loaded.notes["seed"]].wte.weight
            failures += [loaded] * (not torch.equal(loaded.weights["wte.weight"], expected))
    finally:
        stop.set()
        writer.join()
    assert not failures, "weights and manifest are of two checkpoints"


@pytest.mark.parametrize("error", [None, RuntimeError("unable to open file")])  # of torch
def test_a_save_between_the_manifest_and_its_files_is_noticed(
    saved,  # noqa: F811
    monkeypatch,
    error,
):
    read, calls = module.read_tensors, []

    def read_late(folder, entry):
        calls.append(entry)
        if len(calls) == 1:
            save_checkpoint(saved, make_model(seed=9), notes={"corpus": "newer"})
            if error:
                raise error
        return read(folder, entry)

    monkeypatch.setattr(module, "read_tensors", read_late)
    loaded = load_checkpoint(saved)
    assert loaded.notes["corpus"] == "newer"
    assert torch.equal(loaded.weights["wte.weight"], make_model(seed=9).wte.weight)


KILLED = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
import llmlib.training.checkpoint as module
from test_checkpoint import make_trainer, save

def killed(tensors, path):
    save_file(tensors, path)
    Path(path).with_name(".tmpAbC123").write_bytes(bytes(1000))  # as safetensors has until then
    os._exit(9)

module.save_file = killed
save(sys.argv[1], make_trainer())
"""


@pytest.mark.slow
def test_a_killed_save_leaves_nothing_for_ever(saved):  # noqa: F811
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, str(saved)]
        assert subprocess.run(command, env=environment).returncode == 9
    # the second one removed what the first had left
    assert len(list(saved.iterdir())) == 4 and len(list(saved.rglob(".tmp*"))) == 1
    save(saved, make_trainer(seed=2))
    assert names(saved) == ["checkpoint.json", "training", "weights"]


def test_only_our_own_left_overs_are_removed(saved, tmp_path_factory):  # noqa: F811
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x.part").write_text("mine")
    theirs = [
        "notes.part", "notes.4194305.part", f"weights.{os.getppid()}.part", "weights.part",
        ".tmp", ".tmpnotes", "weights-0123456789abcdef.safetensors.bak", "x.tmpAbC123",
    ]  # fmt: skip
    for name in theirs:
        (saved / name).write_text("mine")
    (saved / "7.part").mkdir()
    (saved / f"training.{NOBODY}.part").symlink_to(elsewhere)
    ours = [f"weights.{NOBODY}.part", f"checkpoint.json.{NOBODY}.part", "123.part", ".tmpAbC123"]
    for name in ours:
        (saved / name).write_text("half")
    save(saved, make_trainer(seed=2))
    left = {path.name for path in saved.iterdir()}
    assert left >= {*theirs, "7.part"} and not left & {*ours, f"training.{NOBODY}.part"}
    assert (elsewhere / "x.part").read_text() == "mine"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(tmp_path):
    target = tmp_path / "theirs"
    target.write_text("mine")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "checkpoint.json").symlink_to(target)
    (folder / f"checkpoint.json.{os.getpid()}.part").symlink_to(target)
    (folder / f"weights.{os.getpid()}.part").symlink_to(target)
    save(folder, make_trainer())
    assert target.read_text() == "mine" and not (folder / "checkpoint.json").is_symlink()
    assert load_checkpoint(folder, make_model()).step == 0


def test_a_folder_whose_name_is_not_utf_8_can_be_read_again(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    save(folder, make_trainer())
    assert torch.equal(load_checkpoint(folder).weights["wte.weight"], make_model().wte.weight)


def test_a_writer_that_is_gone_is_told_from_one_that_is_at_work(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    for number in (NOBODY, 10**30, os.getppid(), 0):
        (tmp_path / f"x.json.{number}.part").mkdir()
        (tmp_path / f"x.json.{number}.part" / "file").write_text("half")
    files.write_text(path, "{}")
    left = {part.name for part in tmp_path.glob("*.part")}
    assert left == {f"x.json.{os.getppid()}.part", "x.json.0.part"}

    def deny(*_):
        raise PermissionError  # as for a process of somebody else

    monkeypatch.setattr(os, "kill", deny)
    assert files.is_running(NOBODY)
