"""TensorFlow's checkpoints: read exactly, written to the byte, and refused where unsound."""

import hashlib
import importlib.util
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llmlib.checks import FileError, MissingTensor
from llmlib.pretrained import crc, tensor_bundle
from llmlib.pretrained.crc import LAGS, POLYNOMIAL, crc32c, crc_by_folding, mask, unmask
from llmlib.pretrained.sstable import (
    FOOTER_SIZE,
    MAGIC,
    Block,
    read_entries,
    read_table,
    read_varint,
    separator,
    write_table,
    write_varint,
)
from llmlib.pretrained.tensor_bundle import (
    TensorBundle,
    parse_message,
    write_bundle,
    write_field,
)

TESTS = Path(__file__).resolve().parents[1]
SMALL3 = TESTS / "fixtures" / "small3" / "model.ckpt"
TENSORFLOW = TESTS / "fixtures" / "tensorflow"
DATA = ".data-00000-of-00001"
# TensorFlow's index of `many()`, which is too large to be kept
MANY_INDEX = "eba15e2f4c1c5f252cca022c5e5d6d050c944f4626aea7247775acea7f2b574b"


def script(path):
    """Import a script that lies beside the tests."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fixtures = script(TESTS / "fixtures" / "make_tensorflow.py")
fuzzer = script(TESTS / "pretrained" / "bundle_fuzz.py")


def reference_crc(data):
    """The definition, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def file_bytes(prefix):
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in (".index", DATA)]


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def load_all(prefix):
    return dict(TensorBundle(prefix))


@pytest.fixture
def sound(tmp_path):
    """The prefix of a small checkpoint to damage."""
    prefix = tmp_path / "model.ckpt"
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.int8)}
    write_bundle(prefix, tensors | {"c": np.arange(50_000, dtype=np.float64)})
    return prefix


def change_entries(prefix, **changed):
    """Rewrite an index, its crcs right, with other entries: messages by name, None to drop."""
    path = Path(f"{prefix}.index")
    table = read_table(path.read_bytes())
    for name, message in changed.items():
        table[{"header": b""}.get(name, name.encode())] = message
    entries = sorted((key, value) for key, value in table.items() if value is not None)
    path.write_bytes(write_table(entries))


def entry(code=1, dims=(2, 3), shard=0, offset=0, size=24, crc=0, extra=b""):
    shape = b"".join(write_field(2, write_field(1, n)) for n in dims)
    place = write_field(3, shard) + write_field(4, offset) + write_field(5, size)
    return (
        write_field(1, code)
        + write_field(2, shape)
        + place
        + b"\x35"
        + crc.to_bytes(4, "little")
        + extra
    )


# ------------------------------------------------------------------------------------- crc32c


@pytest.fixture(params=["google-crc32c", "ours"])
def crc32c_by(request, monkeypatch):
    """Compute every crc of the test by the package for it, and by what notebook 07 builds."""
    if request.param == "ours":
        monkeypatch.setattr(crc, "google_crc32c", None)
    else:
        pytest.importorskip("google_crc32c")
    return request.param


def test_the_package_for_crcs_and_ours_give_the_same():
    google_crc32c = pytest.importorskip("google_crc32c")
    assert crc.google_crc32c is google_crc32c
    noise = np.random.default_rng(4).integers(0, 256, 500_000, np.uint8)
    for n in (0, 1, 2, 3, 4, 31, 32, 33, 6777, 13_554, 13_555, 433_729, 500_000):
        for part in (noise[:n], noise[len(noise) - n :]):  # at aligned places and others
            assert crc32c(part) == crc_by_folding(part) == google_crc32c.value(part.tobytes())


def test_without_the_package_crcs_are_ours(monkeypatch):
    """A process that cannot import it gets the same crcs."""
    script = "import sys; sys.modules['google_crc32c'] = None\n"
    script += "from llmlib.pretrained import crc\n"
    script += "print(crc.google_crc32c, crc.crc32c(b'123456789') == 0xE3069283)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "None True\n", run.stderr


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_gives_the_published_values(data, expected, crc32c_by):
    assert crc32c(data) == expected


def test_crc32c_follows_its_definition_for_every_length_near_a_change_of_method(crc32c_by):
    noise = np.random.default_rng(0).bytes(60_000)
    edges = [2 * LAGS[-1], LAGS[-1] + LAGS[0], LAGS[-1] + 2 * LAGS[0]]
    lengths = [*range(70), *(edge + d for edge in edges for d in (-1, 0, 1, 2)), 60_000]
    table = crc.zeros_table(0)[0].tolist()
    value, expected = 0xFFFFFFFF, {0: 0}
    for n, byte in enumerate(noise, start=1):
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
        expected[n] = value ^ 0xFFFFFFFF
    assert expected[300] == reference_crc(noise[:300])
    for n in lengths:
        assert crc32c(noise[:n]) == expected[n], n


def test_folding_in_large_units_changes_no_remainder():
    noise = np.random.default_rng(1).integers(0, 256, 900_001, np.uint8)
    expected = crc.remainder(noise)
    for unit in (1, 2, 8, 32, 64):
        folded = crc.fold(noise, unit)
        assert len(folded) == unit * LAGS[-1] and crc.remainder(folded) == expected


@pytest.mark.parametrize("length", [5, 5000, 500_000])
def test_crc32c_notices_every_single_bit(length, crc32c_by):
    data = bytearray(np.random.default_rng(2).bytes(length))
    crcs = {crc32c(data)}
    places = [0, 1, length // 2, length - 1]
    for place in places:
        for bit in range(8):
            data[place] ^= 1 << bit
            crcs.add(crc32c(data))
            data[place] ^= 1 << bit
    assert len(crcs) == 1 + 8 * len(places)


def test_crc32c_takes_arrays_of_any_type_and_refuses_what_is_not_bytes(crc32c_by):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert crc32c(array) == crc32c(array.tobytes()) == crc32c(memoryview(array.tobytes()))
    assert crc32c(np.zeros((2, 0))) == 0
    with pytest.raises(ValueError):
        crc32c(array[:, 1:])
    with pytest.raises(TypeError):
        crc32c("text")


def test_masking_is_undone():
    assert mask(0) == 0xA282EAD8 and mask(2**15) == 0xA282EAD9
    for value in (0, 1, 0xFFFFFFFF, 0xE3069283, 0x80000000):
        assert unmask(mask(value)) == value and mask(unmask(value)) == value


def test_crc32c_keeps_up_with_the_disk(crc32c_by):
    data = np.zeros(2**26, np.uint8)
    crc32c(data[: 2**20])
    start = time.process_time()
    crc32c(data)
    assert len(data) / (time.process_time() - start) > 2e8  # bytes per second; 4e9 if quiet


# ------------------------------------------------------------------------------------- reading


def test_every_tensor_of_a_checkpoint_by_tensorflow_is_read_exactly(crc32c_by):
    expected = json.loads((SMALL3.parent / "tensors.json").read_text())
    bundle = TensorBundle(SMALL3)
    assert set(bundle) == set(expected) and len(bundle) == 40
    for name, facts in expected.items():
        array = bundle[name]
        assert hashlib.sha256(array.tobytes()).hexdigest() == facts["sha256"]
        assert (array.dtype.name, list(array.shape)) == (facts["dtype"], facts["shape"])
        assert bundle.entry(name).crc32c == crc32c(array.tobytes())


def test_every_type_and_unaligned_places_are_read():
    bundle, expected = TensorBundle(TENSORFLOW / "types"), fixtures.variables()
    assert set(bundle) == set(expected)
    assert any(bundle.entry(n).offset % bundle[n].itemsize for n in bundle)  # some are unaligned
    for name, array in expected.items():
        assert same(bundle[name], array), name
        assert bundle[name].flags.aligned


def test_bfloat16_becomes_float32():
    bundle = TensorBundle(TENSORFLOW / "bfloat16")
    assert bundle.entry("x").dtype == "bfloat16" and bundle.entry("x").offset == 1
    assert same(bundle["x"], fixtures.BFLOAT16)
    assert not bundle["x"].flags.writeable


def test_several_shards_are_read():
    bundle = TensorBundle(TENSORFLOW / "shards")
    assert {n: bundle[n].tolist() for n in bundle} == {
        "a": [0, 0],
        "b": [0, 1],
        "c": [1, 0],
        "d": [1, 1],
        "e": [2, 0],
    }
    assert {bundle.entry(name).shard for name in bundle} == {0, 1}


def test_an_index_of_several_blocks_is_read(tmp_path):
    write_bundle(tmp_path / "many", fixtures.many())
    bundle = TensorBundle(tmp_path / "many")
    assert len(bundle) == 9000
    assert all(bundle[f"model/h{i}/{'x' * (i % 50)}/w"] == [i] for i in range(0, 9000, 371))


def test_names_come_in_the_order_of_their_bytes():
    names = [n for n in TensorBundle(TENSORFLOW / "types").names if n.startswith("model")]
    assert names == sorted(names) and names.index("model/h10/w") < names.index("model/h2/w")


def test_a_bundle_is_a_read_only_mapping_that_maps_the_file(sound):
    bundle = TensorBundle(sound)
    a = bundle["a"]
    assert "a" in bundle and "x" not in bundle and 3 not in bundle and len(bundle) == 3
    assert list(bundle) == bundle.names == ["a", "b", "c"] and bundle.get("x") is None
    assert np.shares_memory(a, bundle["a"]) and not a.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        a[0, 0] = 1
    with pytest.raises(TypeError):
        bundle["a"] = a


@pytest.mark.parametrize("verify", [True, False])
def test_what_was_released_is_read_again(sound, verify):
    bundle = TensorBundle(sound, verify)
    a = bundle["a"]
    bundle.release()
    assert same(a, bundle["a"]) and not np.shares_memory(a, bundle["a"])
    bundle.release()
    short = Path(f"{sound}{DATA}.new")
    short.write_bytes(b"short")
    short.replace(f"{sound}{DATA}")
    with pytest.raises(FileError, match="tensor 'a'"):
        bundle["a"]
    assert a.sum() == 15


def test_a_missing_tensor_is_an_error_that_names_it(sound):
    for ask in (TensorBundle(sound).entry, TensorBundle(sound).__getitem__):
        with pytest.raises(MissingTensor, match=r"model.ckpt.index: tensor 'x': .* 3 tensors") as e:
            ask("x")
        assert isinstance(e.value, KeyError) and isinstance(e.value, FileError)


@pytest.mark.parametrize(
    "name, tensor, kind",
    [("strings", "text", "string"), ("slices", "whole", "partitioned float32")],
)
def test_what_cannot_be_read_is_refused_by_name_and_the_rest_is_read(name, tensor, kind):
    bundle = TensorBundle(TENSORFLOW / name)
    with pytest.raises(FileError, match=f"tensor '{tensor}': .*{kind}"):
        bundle[tensor]
    assert name == "slices" or same(bundle["x"], np.arange(3, dtype=np.float32))


def test_a_scalar_crc_is_compared_once_and_only_where_wanted(sound, monkeypatch):
    calls = []
    monkeypatch.setattr(tensor_bundle, "crc32c", lambda data: calls.append(1) or crc32c(data))
    bundle = TensorBundle(sound)
    assert not calls
    bundle["a"], bundle["a"], bundle["b"]
    assert len(calls) == 2
    TensorBundle(sound, verify=False)["a"]
    assert len(calls) == 2


# ------------------------------------------------------------------------------------- refusing


def refusal(prefix, tensor=None):
    """Load all of a checkpoint that must be refused; what it says, file and tensor named."""
    with pytest.raises(FileError) as error:
        load_all(prefix)
    assert error.value.tensor == tensor and str(error.value).startswith(str(error.value.file))
    assert error.value.file.name.startswith("model.ckpt.")
    return str(error.value)


def test_a_flipped_lowest_mantissa_bit_is_found(sound, crc32c_by):
    path, place = Path(f"{sound}{DATA}"), TensorBundle(sound).entry("c").offset + 8 * 1234
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    changed = TensorBundle(sound, verify=False)["c"][1234]
    assert changed != 1234 and abs(changed - 1234) < 1e-9
    assert "its crc does not match" in refusal(sound, "c")
    assert same(TensorBundle(sound)["a"], np.arange(6, dtype=np.float32).reshape(2, 3))


def test_a_zeroed_tail_is_found(sound):
    path = Path(f"{sound}{DATA}")
    path.write_bytes(path.read_bytes()[:-16] + bytes(16))
    assert "its crc does not match" in refusal(sound, "c")


def test_every_flipped_bit_of_an_index_is_found(sound):
    path = Path(f"{sound}.index")
    index = path.read_bytes()
    for place in range(len(index)):
        for bit in range(8):
            changed = bytearray(index)
            changed[place] ^= 1 << bit
            with pytest.raises(ValueError):
                read_table(bytes(changed))


def test_an_index_is_refused_at_every_length_but_its_own(sound):
    path = Path(f"{sound}.index")
    index = path.read_bytes()
    for size in range(len(index)):
        path.write_bytes(index[:size])
        refusal(sound)
    for added in (b"\0", index[-FOOTER_SIZE:], index):
        path.write_bytes(index + added)
        refusal(sound)
        path.write_bytes(added + index)
        refusal(sound)


def test_data_is_refused_at_every_shorter_length(sound):
    path = Path(f"{sound}{DATA}")
    data = path.read_bytes()
    for size in [*range(40), *range(40, len(data), 999), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(FileError, match="but the file at byte"):
            TensorBundle(sound)


@pytest.mark.parametrize(
    "content, told",
    [
        (b"<?xml version='1.0'?><Error/>", "a page that a server sent"),
        (b"\n <!DOCTYPE html><html>" + b" " * 99, "a page that a server sent"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"", ""),
    ],
)
@pytest.mark.parametrize("suffix", [".index", DATA])
def test_another_file_in_its_place_is_recognised(sound, suffix, content, told):
    Path(f"{sound}{suffix}").write_bytes(content)
    first = "c" if content else "a"  # the first tensor that has no place in it
    assert told in refusal(sound, None if suffix == ".index" else first)


def test_missing_and_swapped_files_are_refused(sound, tmp_path):
    Path(f"{sound}{DATA}").unlink()
    assert "No such file" in refusal(sound, "a")
    Path(f"{sound}{DATA}").mkdir()
    refusal(sound, "a")
    for suffix in (".index", ".data-00000-of-00002", ".data-00001-of-00002"):
        shutil.copy(TENSORFLOW / f"shards{suffix}", tmp_path / f"model.ckpt{suffix}")
    load_all(sound)
    one = (tmp_path / "model.ckpt.data-00001-of-00002").read_bytes()
    zero = (tmp_path / "model.ckpt.data-00000-of-00002").read_bytes()
    (tmp_path / "model.ckpt.data-00000-of-00002").write_bytes(one + zero)
    assert "crc" in refusal(sound, "a")
    (tmp_path / "model.ckpt.data-00001-of-00002").unlink()
    assert "No such file" in refusal(sound, "b")


def test_what_is_not_a_prefix_is_told_apart(sound, tmp_path):
    for prefix, told in [
        (tmp_path, "give a prefix"),
        (f"{sound}.index", "or not a prefix"),
        (TENSORFLOW / "v1", "V1 checkpoint"),
        (tmp_path / "none", "No such file"),
        (f"{sound}\0", "null"),
    ]:
        with pytest.raises(FileError, match=told):
            TensorBundle(prefix)
    shutil.copy(TENSORFLOW / "v1", f"{sound}.index")  # the same kind of table
    refusal(sound)


@pytest.mark.parametrize(
    "message, told",
    [
        (entry(code=7), "tensors of type string are not supported"),
        (entry(code=99), "type 99"),
        (entry(code=3), "crc"),
        (entry(dims=(3, 3)), "is not 24 bytes"),
        (entry(dims=(2, 3, 2**62)), "absurd"),
        (entry(dims=(0, 2**62), size=0), "absurd"),
        (entry(dims=(2**64 - 1, 2**64 - 6)), "absurd"),  # -1 and -6 as protobuf writes them
        (entry(dims=(1,) * 63 + (2, 3)), "absurd"),
        (entry(size=20), "is not 20 bytes"),
        (entry(size=2**63, dims=(2**61,)), "but the file at byte"),
        (entry(offset=2**64 - 24), "but the file at byte"),
        (entry(offset=4), "crc"),
        (entry(shard=1), "its shard is 1: it must be an int from 0 to 0"),
        (entry(shard=2**64 - 1), "shard"),
        (entry() + write_field(1, 1), "field 1"),
        (entry(extra=write_field(7, b"")), "partitioned"),
        (write_field(2, write_field(3, 1)), "shape is unknown"),
        (write_field(2, write_field(2, 7)), "shape is malformed"),
        (write_field(1, b"text"), "field 1"),
        (write_field(1, 1) + b"\x0b", "wire type 3"),
        (b"\x12\xff\xff\xff\xff\x0f", "cut off"),
        (b"\x80" * 11, "malformed"),
        (b"\x08\x80\x00", "malformed"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "malformed"),
    ],
)
def test_a_forged_entry_with_a_right_crc_is_refused(sound, message, told):
    change_entries(sound, a=message)
    assert told in refusal(sound, "a")


@pytest.mark.parametrize(
    "header, told",
    [
        (None, "0 shards"),
        (b"", "0 shards"),
        (bytes.fromhex("0801 1001 1a020801"), "endianness 1"),
        (bytes.fromhex("0801 1a04 0802 1002"), "version 2"),
        (write_field(1, 10**9), "shards"),
        (write_field(1, 2**64 - 1), "shards"),
        (write_field(1, b"V1"), "field 1"),
    ],
)
def test_a_header_of_another_kind_is_refused(sound, header, told):
    change_entries(sound, header=header)
    assert told in refusal(sound)


def test_names_that_are_not_text_are_refused(sound):
    path = Path(f"{sound}.index")
    entries = [*read_table(path.read_bytes()).items(), (b"\xff\xfe", entry())]
    path.write_bytes(write_table(entries))
    with pytest.raises(FileError):
        TensorBundle(sound)


def build_table(blocks, compression=b"\0"):
    """An index from the bytes of its blocks of data, crcs right, as no writer would write it."""
    file, index = bytearray(), Block(1)

    def store(contents):
        start = len(file)
        file.extend(contents + compression)
        file.extend(mask(crc32c(contents + compression)).to_bytes(4, "little"))
        return write_varint(start) + write_varint(len(contents))

    for i, contents in enumerate(blocks):
        index.add(b"%06d" % i, store(contents))
    footer = Block(1).store(file) + index.store(file)
    return bytes(file) + footer.ljust(FOOTER_SIZE - 8, b"\0") + MAGIC


def block(*entries):
    """The contents of a block: entries (shared, suffix, value) as they come."""
    data = b"".join(
        write_varint(s) + write_varint(len(k)) + write_varint(len(v)) + k + v for s, k, v in entries
    )
    return data + bytes(4) + b"\1\0\0\0"


def test_the_forging_itself_is_right():
    assert read_table(build_table([block((0, b"ab", b"1"), (1, b"c", b"2"))])) == {
        b"ab": b"1",
        b"ac": b"2",
    }


@pytest.mark.parametrize(
    "table, told",
    [
        (build_table([block((0, b"b", b""), (0, b"a", b""))]), "order"),
        (build_table([block((0, b"a", b""), (0, b"a", b""))]), "order"),
        (build_table([block((0, b"b", b""))] * 2), "order"),
        (build_table([block((3, b"b", b""))]), "cut off"),
        (build_table([b"\0\0\0\0"]), "no proper end"),
        (build_table([b"\xff\xff\xff\xff"]), "no proper end"),
        (build_table([b"\0\0\0" + b"\xff\xff\xff\x3f"]), "no proper end"),
        (build_table([b""]), "no proper end"),
        (build_table([block((0, b"a", b""))], compression=b"\1"), "compressed"),
        (build_table([b"\0\xff\xff\xff\xff\x0f" + bytes(4) + b"\1\0\0\0"]), "cut off"),
    ],
)
def test_a_forged_table_with_right_crcs_is_refused(table, told):
    with pytest.raises(ValueError, match=told):
        read_table(table)


@pytest.mark.parametrize(
    "handles",
    [
        [0, 2**62, 0, 8],
        [2**63, 2**63, 0, 8],
        [0, 0, 0, 0],
        [0, 8, 0, 2**64 - 1],
    ],
)
def test_absurd_handles_are_refused_at_once(sound, handles):
    path = Path(f"{sound}.index")
    footer = b"".join(map(write_varint, handles)).ljust(FOOTER_SIZE - 8, b"\0") + MAGIC
    path.write_bytes(path.read_bytes()[:-FOOTER_SIZE] + footer)
    refusal(sound)


def test_names_that_grow_without_end_take_no_memory(sound):
    """Shared beginnings are a bomb: 400 kB that spell out names of many gigabytes."""
    first = (0, b"k" * 100_000, b"")
    bomb = build_table([block(first, *((100_000 + i, b"k", b"") for i in range(60_000)))])
    start = time.process_time()
    with pytest.raises(ValueError, match="too long"):
        read_table(bomb)
    assert time.process_time() - start < 2


def test_blocks_that_are_listed_many_times_take_no_time(sound):
    file, index = bytearray(), Block(1)
    handle = Block(16).store(file)
    for i in range(50_000):
        index.add(b"%06d" % i, handle)
    footer = Block(1).store(file) + index.store(file)
    with pytest.raises(ValueError, match="should lie at byte"):
        read_table(bytes(file) + footer.ljust(FOOTER_SIZE - 8, b"\0") + MAGIC)


def test_a_huge_file_is_not_read_as_an_index(sound):
    with Path(f"{sound}.index").open("r+b") as file:
        file.truncate(2**40)  # takes no space
    assert "far too large" in refusal(sound)


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(FileError("f", "it is odd", "x")))
    assert str(error) == "f: tensor 'x': it is odd" and error.tensor == "x"
    assert str(MissingTensor("f", "it is not there", "x")) == "f: tensor 'x': it is not there"


def test_damaged_files_by_the_hundred_are_refused_or_read_rightly(tmp_path):
    outcome = fuzzer.fuzz(600, seed=7, folder=tmp_path)
    assert all(outcome[way, "refused"] > 50 for way in ("index", "data", "block", "entries"))


# ------------------------------------------------------------------------------------- writing


def test_small3_is_written_as_tensorflow_wrote_it(tmp_path):
    tensors = list(TensorBundle(SMALL3).items())
    random.Random(0).shuffle(tensors)
    write_bundle(tmp_path / "copy", dict(tensors))
    assert file_bytes(tmp_path / "copy") == file_bytes(SMALL3)


def test_every_type_and_shape_is_written_as_tensorflow_writes_it(tmp_path):
    write_bundle(tmp_path / "copy", fixtures.variables())
    assert file_bytes(tmp_path / "copy") == file_bytes(TENSORFLOW / "types")


def test_an_index_of_several_blocks_is_written_as_tensorflow_writes_it(tmp_path):
    write_bundle(tmp_path / "many", fixtures.many())
    assert hashlib.sha256((tmp_path / "many.index").read_bytes()).hexdigest() == MANY_INDEX


@pytest.mark.parametrize(
    "layers, width, size",
    [(12, 768, 5215), (24, 1024, 10399), (36, 1280, 15535), (48, 1600, 20724)],
)
def test_the_index_of_each_gpt2_has_the_published_size(layers, width, size):
    """The sizes of OpenAI's files; crcs are four bytes each, so their values do not matter."""
    C, shapes = width, {"wte": (50257, width), "wpe": (1024, width)}
    shapes |= {"ln_f/g": (C,), "ln_f/b": (C,)}
    for i in range(layers):
        for name in ("ln_1/g", "ln_1/b", "ln_2/g", "ln_2/b", "attn/c_proj/b", "mlp/c_proj/b"):
            shapes[f"h{i}/{name}"] = (C,)
        for name, n_in, n_out in [
            ("attn/c_attn", C, 3 * C),
            ("attn/c_proj", C, C),
            ("mlp/c_fc", C, 4 * C),
            ("mlp/c_proj", 4 * C, C),
        ]:
            shapes[f"h{i}/{name}/w"] = (1, n_in, n_out)
            shapes[f"h{i}/{name}/b"] = (n_out,)
    entries, offset = [(b"", tensor_bundle.HEADER)], 0
    for name in sorted(shapes):
        n = 4 * int(np.prod(shapes[name]))
        described = tensor_bundle.Entry("float32", shapes[name], 0, offset, n, 1)
        entries.append((f"model/{name}".encode(), tensor_bundle.write_entry(described)))
        offset += n
    assert len(write_table(entries)) == size


def test_what_is_written_is_read_again(tmp_path):
    tensors = {
        "ä/ö": np.arange(6).reshape(2, 3)[:, ::-1],  # not contiguous
        "big": np.arange(3, dtype=">f4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "list": [1.5, 2.5],
        "strided": np.arange(6)[::2],
        "zero": np.zeros((0, 5), np.int16),
        "\x01": True,
    }
    write_bundle(tmp_path / "x", tensors)
    bundle = TensorBundle(tmp_path / "x")
    assert set(bundle) == set(tensors)
    for name, values in tensors.items():
        values = np.asarray(values)
        assert same(bundle[name], values.astype(values.dtype.newbyteorder("="))), name
    write_bundle(tmp_path / "empty", {})
    assert len(TensorBundle(tmp_path / "empty")) == 0
    assert file_bytes(tmp_path / "empty")[1] == b""


@pytest.mark.parametrize(
    "tensors, error",
    [
        ({"": [1]}, ValueError),
        ({"\0x": [1]}, ValueError),
        ({3: [1]}, ValueError),
        ({"\ud800": [1]}, ValueError),
        ({"a": [1], "x": ["text"]}, TypeError),
        ({"a": [1], "x": [None]}, TypeError),
        ({"a": [1], "x": np.longdouble(1)}, TypeError),
    ],
)
def test_what_cannot_be_written_leaves_the_old_files_whole(sound, tensors, error):
    before = file_bytes(sound)
    with pytest.raises(error):
        write_bundle(sound, tensors)
    assert file_bytes(sound) == before
    assert len(list(sound.parent.iterdir())) == 2


def test_a_writer_that_fails_half_way_leaves_the_old_files_whole(sound, monkeypatch):
    before = file_bytes(sound)
    monkeypatch.setattr(tensor_bundle, "write_table", None)
    with pytest.raises(TypeError):
        write_bundle(sound, {"a": np.ones(3)})
    assert file_bytes(sound) == before
    assert len(list(sound.parent.iterdir())) == 2


def test_the_numbers_take_their_place_before_the_index_that_speaks_of_them(sound, monkeypatch):
    taken, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: taken.append(Path(b).name) or replace(a, b))
    write_bundle(sound, {"a": np.ones(3)})
    assert taken == [f"model.ckpt{DATA}", "model.ckpt.index"]


def test_varints_and_separators():
    for value in (0, 1, 127, 128, 300, 2**32, 2**63, 2**64 - 1):
        assert read_varint(b"\xff" + write_varint(value) + b"\x80", 1) == (
            value,
            1 + len(write_varint(value)),
        )
    assert separator(b"abc", b"abe") == b"abd" and separator(b"abc", b"abd") == b"abc"
    assert separator(b"ab", b"abc") == b"ab" and separator(b"", b"\xff") == b""
    assert list(read_entries(block())) == []
    assert parse_message(b"") == {}


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_tensorflow_itself_reads_and_writes_the_same(tmp_path):
    import tensorflow as tf

    tensors = fixtures.variables()
    write_bundle(tmp_path / "ours", tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert set(reader.get_variable_to_dtype_map()) == set(tensors)
    for name, values in tensors.items():
        assert same(reader.get_tensor(name), values)
    for variables in (tensors, fixtures.many()):
        names = sorted(variables, key=str.encode)
        tf.raw_ops.SaveV2(
            prefix=str(tmp_path / "theirs"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(variables[name]) for name in names],
        )
        write_bundle(tmp_path / "ours", variables)
        assert file_bytes(tmp_path / "ours") == file_bytes(tmp_path / "theirs")
