"""A prepared folder vouches for itself: whatever is changed in it is noticed when it is opened."""

import json
import os
import random
import shutil

import numpy as np
import pytest
from cli_helpers import TINY, failure, llmlib, write_text

from llmlib import checks
from llmlib.cli.dataset import TokenData
from llmlib.cli.prepare import prepare
from llmlib.data.token_files import ArrayWriter, read_array, write_array
from llmlib.pretrained.models import load_model
from llmlib.tokenization.prepared import hash_of, read_about


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(str(write_text(folder)), folder / "text", tokenizer="char")
    prepare("stories", folder / "stories", tokenizer="word", stories=40)
    return folder


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "copy")


def read_all(folder):
    """Open a folder as training and evaluation do."""
    data = TokenData(folder)
    data.train_loader(200, 2, seed=0)
    data.measure(200, 2)


def change(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


@pytest.mark.parametrize("file", ["text/train", "text/val", "stories/train", "stories/val_nats"])
@pytest.mark.parametrize("place", [-1, -20, 90, 15, 9, 3])
def test_a_flipped_bit_in_a_token_file_is_noticed(copy, file, place):
    path = copy / f"{file}.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name}: it is damaged, so prepare the text again"):
        read_all(path.parent)


def test_equal_bytes_of_another_type_or_shape_are_noticed(copy):
    path = copy / "text" / "train.npy"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"'<u2'", b"'>u2'"))
    with pytest.raises(ValueError, match="it holds >u2, not uint16"):
        read_all(copy / "text")
    path.write_bytes(whole.replace(b",), }  ", b",1), } "))
    with pytest.raises(ValueError, match="numbers, not "):
        read_all(copy / "text")


def test_the_same_tokens_in_another_order_are_noticed(copy):
    ids = np.load(copy / "text" / "train.npy")
    np.save(copy / "text" / "train.npy", np.random.default_rng(0).permutation(ids))
    with pytest.raises(ValueError, match="its numbers are not those"):
        read_all(copy / "text")


@pytest.mark.parametrize("name", ["end_of_text", "val", "rows", "train", "corpus", "sha256"])
def test_what_is_missing_in_data_json_is_noticed(copy, name):
    change(copy / "text" / "data.json", **{name: ...})
    with pytest.raises(ValueError, match=r"data\.json: it is damaged, so prepare the text again"):
        read_all(copy / "text")


WRONG = [
    {"tokenizer": "../x"}, {"tokenizer": "gpt2"}, {"end_of_text": 3}, {"vocab_size": 10**12},
    {"vocab_size": 2.0}, {"rows": "documents"}, {"train": 5}, {"val": []}, {"corpus": None},
    {"train": {"n_tokens": -1}}, {"end_of_text": True}, {"tokenizer": {}}, {"tokenizer": ["char"]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_is_wrong_in_data_json_is_noticed_even_if_it_is_sealed_again(prepared, copy, wrong):
    path = copy / "text" / "data.json"
    for seal in (False, True):
        shutil.copy(prepared / "text" / "data.json", path)
        change(path, **wrong)
        if seal:
            change(path, sha256=hash_of(json.loads(path.read_text())))
        with pytest.raises(ValueError, match=r"(data|tokenizer)\.json: it is damaged"):
            read_all(copy / "text")


@pytest.mark.parametrize("name", ["n_documents", "n_tokens", "n_bytes", "n_unknown", "sha256"])
@pytest.mark.parametrize("value", [-1, True, 2.0, [], None])
def test_a_count_that_is_none_is_noticed_where_no_hash_tells(copy, name, value):
    path = copy / "text" / "data.json"
    part = json.loads(path.read_text())["val"] | {name: value}
    change(path, version=1, val=part)
    with pytest.raises(ValueError, match=r"data\.json: it is damaged.* (of val is|is no text)"):
        read_about(path.parent)
    change(path, val=part | {name: 1 if name != "sha256" else ""}, rows="stories")
    with pytest.raises(ValueError, match="rows is 'stories'"):
        read_about(path.parent)


def test_a_folder_of_version_1_is_read_and_held_against_its_tokenizer(copy):
    path = copy / "text" / "data.json"
    unknown = dict.fromkeys(["sha256", "tokenizer_sha256", "text_sha256", "n_separators"], ...)
    change(path, version=1, **unknown)
    read_all(copy / "text")
    tokens = json.loads((copy / "text" / "tokenizer.json").read_text())
    (copy / "text" / "tokenizer.json").write_text(
        json.dumps(tokens | {"tokens": tokens["tokens"][1:]})
    )
    with pytest.raises(ValueError, match="vocab_size is"):
        read_all(copy / "text")


def test_another_tokenizer_of_the_same_size_is_noticed(copy):
    path = copy / "text" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["tokens"].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tokenizer\.json: it is damaged, so prepare"):
        read_all(copy / "text")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"", b"[]", b'{"a":1}'])
def test_a_data_json_of_anything_else_is_one_line(copy, capsys, content):
    (copy / "text" / "data.json").write_bytes(content)
    assert "data.json" in failure(capsys, "train", copy / "text", *TINY[2:], "--out", copy / "run")


def test_a_data_json_of_any_depth_is_refused(tmp_path):
    """Also of the one depth that can be read, and is too deep to be written for its hash."""
    for depth in range(300, 1000):
        lists = "[" * depth + "]" * depth
        content = f'{{"format": "llmlib data", "version": 2, "more": {lists}}}'
        (tmp_path / "data.json").write_text(content)
        with pytest.raises(ValueError, match=r"data\.json: it is"):
            read_about(tmp_path)


@pytest.mark.slow
def test_a_run_notices_other_tokens_and_another_tokenizer(tmp_path):
    run = ["train", write_text(tmp_path), *TINY, "--max-steps", 2, "--eval-every", 2]
    assert llmlib(*run, "--out", tmp_path / "run") == 0
    whole = shutil.copytree(tmp_path / "run", tmp_path / "whole")
    content = bytearray((whole / "data" / "train.npy").read_bytes())
    content[-7] ^= 1
    (tmp_path / "run" / "data" / "train.npy").write_bytes(content)
    assert llmlib("train", "--resume", tmp_path / "run", "--max-steps", 3) == 2
    assert llmlib("train", "--resume", whole, "--max-steps", 3) == 0
    tokens = json.loads((whole / "data" / "tokenizer.json").read_text())
    tokens["tokens"].reverse()
    (whole / "data" / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(ValueError, match=r"is not what it was when the run began"):
        load_model(whole)
    assert llmlib("evaluate", "--checkpoint", whole, "--device", "cpu") == 2


def test_any_damage_is_refused_in_words(prepared, tmp_path):
    """Fuzz: bytes changed, dropped, doubled anywhere in a folder; never another kind of error."""
    rng, noticed = random.Random(1), 0
    names = ["data.json", "tokenizer.json", "train.npy", "val.npy", "val_nats.npy"]
    for _ in range(300):
        folder = shutil.copytree(prepared / "stories", tmp_path / "fuzz")
        path = folder / rng.choice(names)
        content = bytearray(path.read_bytes())
        place = rng.randrange(min(len(content), rng.choice([200, 10**6])))
        how = rng.randrange(4)
        if how == 0:
            content[place] = rng.randrange(256)
        elif how == 1:
            del content[place : place + rng.choice([1, 9, 10**6])]
        elif how == 2:
            content[place:place] = content[place : place + rng.choice([1, 9])]
        else:
            content[place] ^= 1 << rng.randrange(8)
        same = bytes(content) == path.read_bytes()
        path.write_bytes(content)
        try:
            read_all(folder)
        except ValueError as error:
            noticed += 1
            assert not same and path.name in str(error)
        else:  # white space in JSON, at most
            assert same or read_about(folder) == read_about(prepared / "stories")
        shutil.rmtree(folder)
    assert noticed > 250


# Writing. -----------------------------------------------------------------------------------------


def test_an_array_is_written_piece_by_piece_as_numpy_writes_it(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2**16, 100_000).astype(np.uint16)
    with ArrayWriter(tmp_path / "a.npy", np.uint16) as file:
        for start in range(0, len(array), 777):
            file.append(array[start : start + 777])
    assert (np.load(tmp_path / "a.npy") == array).all()
    sha256 = write_array(tmp_path / "b.npy", array)
    assert sha256 == file.sha256
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert (read_array(tmp_path / "a.npy", np.uint16, len(array), sha256) == array).all()


def test_a_file_that_ends_too_soon_is_no_success(tmp_path, capsys):
    """A limit of the size of files, as FAT has one: the kernel writes less, and says so once."""
    resource = pytest.importorskip("resource")
    text, before = write_text(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    short = tmp_path / "short.txt"  # whose tokens wait in memory until the end
    short.write_text(text.read_text(encoding="utf-8")[:900], encoding="utf-8")
    try:
        for limit, given in ((5120, text), (700, text), (100, text), (700, short)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            line = failure(capsys, "prepare", given, "--tokenizer", "char", "--out", tmp_path / "p")
            assert "p." in line and ".npy" in line and "File too large" in line
            assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "short.txt"}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_bytes_that_vanish_silently_are_noticed(tmp_path, monkeypatch):
    flush = checks.same_size

    def lose(path, size):
        """What `np.save` leaves where the last flush fails: a file that is too short."""
        os.truncate(path, 1000)
        flush(path, size)

    monkeypatch.setattr(checks, "same_size", lose)
    with pytest.raises(OSError, match=r"only 1,000 of 2,128 bytes reached the disk"):
        write_array(tmp_path / "a.npy", np.arange(1000, dtype=np.uint16))


def test_what_a_killed_process_left_is_removed(tmp_path):
    text = write_text(tmp_path)
    (tmp_path / "p.4194305.part").mkdir()  # no process has a number as high
    (tmp_path / "p.4194305.part" / "train.npy").write_bytes(b"half")
    (tmp_path / "p.notes.part").write_text("mine")
    prepare(str(text), tmp_path / "p", tokenizer="char")
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "p", "p.notes.part"}
