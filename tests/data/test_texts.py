"""Texts of every form: read as what they are, in pieces, and cut where documents end."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import tarfile
import tracemalloc
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import pytest
import text_fuzz

from llmlib import checks
from llmlib.data import corpora, texts
from llmlib.data.batches import split
from llmlib.data.corpora import documents
from llmlib.data.division import BLANK, TRAIN, VAL, divide
from llmlib.data.texts import SEPARATOR, Texts, files_in
from llmlib.tokenization.base import END_OF_TEXT

SPOKEN = "Grüße,\n\nein 🦊 und 漢字.\n"


def joined(pieces):
    return ["".join(text for _, text in group) for _, group in groupby(pieces, key=itemgetter(0))]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(texts, "BLOCK", 7)


# Files. -------------------------------------------------------------------------------------------

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("packed", PACKERS)
def test_any_encoding_with_a_mark_and_any_packing_reads_alike(
    tmp_path, encoding, packed, small_blocks
):
    path = tmp_path / f"file.txt{packed}"
    path.write_bytes(PACKERS[packed](SPOKEN.replace("\n", "\r\n").encode(encoding)))
    assert documents(path) == [SPOKEN]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_byte_order_mark_is_taken_away_and_no_second_one(tmp_path, encoding):
    path = tmp_path / "file.txt"
    path.write_bytes(("\ufeff" * (encoding == "utf-8") + "\ufeffa").encode(encoding))
    assert documents(path) == ["\ufeffa"]


@pytest.mark.slow
def test_texts_with_damaged_bytes_are_read_as_python_reads_them_or_refused():
    """10,000 of them: python tests/data/text_fuzz.py 10000."""
    counts, faults = text_fuzz.run(1500)
    assert faults == [] and counts["same"] > 500, counts


@pytest.mark.parametrize("mark", ["be", "le"])
@pytest.mark.parametrize("bits", [16, 32])
def test_both_byte_orders_are_read(tmp_path, mark, bits):
    (tmp_path / "t").write_bytes(f"\ufeff{SPOKEN}".encode(f"utf-{bits}-{mark}"))
    assert documents(tmp_path / "t") == [SPOKEN]


def test_packing_is_known_by_the_content_and_not_by_the_name(tmp_path):
    (tmp_path / "packed.txt").write_bytes(gzip.compress(b"a text") + gzip.compress(b" in two"))
    (tmp_path / "plain.gz").write_bytes(b"BZh is a text, too")
    assert documents(tmp_path / "packed.txt") == ["a text in two"]
    assert documents(tmp_path / "plain.gz") == ["BZh is a text, too"]
    for pack in PACKERS.values():
        (tmp_path / "nothing").write_bytes(pack(b""))
        with pytest.raises(ValueError, match="nothing is empty"):
            documents(tmp_path / "nothing")


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz"])
def test_a_packed_file_that_is_cut_or_changed_is_called_damaged(tmp_path, packed):
    whole = PACKERS[packed](os.urandom(500).hex().encode())
    path = tmp_path / f"file{packed}"
    for content in (whole[:-9], whole[:60], whole[:60] + b"?" + whole[61:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"file{packed}: it is damaged, or was cut short"):
            documents(path)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_where_blocks_end_changes_nothing(tmp_path, monkeypatch, block):
    rng = random.Random(block)
    for _ in range(40):
        alphabet = ["\r", "\n", "\r\n", "ü", "🦊", "a", SEPARATOR, "<|end", "oftext|>", " "]
        content = "".join(rng.choices(alphabet, k=rng.randrange(30)))
        (tmp_path / "t").write_bytes(content.encode())
        whole = content.replace("\r\n", "\n").replace("\r", "\n")
        expected = re.split(r"\n{0,2}<\|endoftext\|>\n{0,2}", whole)
        monkeypatch.setattr(texts, "BLOCK", block)
        found = Texts(tmp_path / "t")
        assert joined(found) == expected == joined(found), "twice"
        assert found.n_separators == len(expected) - 1
        assert joined(Texts(tmp_path / "t", separator=None)) == [whole]


@pytest.mark.parametrize("block", range(1, 60))
def test_line_breaks_around_a_separator_go_with_it_wherever_a_block_ends(
    tmp_path, monkeypatch, block
):
    monkeypatch.setattr(texts, "BLOCK", block)
    for before, after in (("", ""), ("\n", "\n\n"), ("\n\n", "\n"), (" \n", "\n ")):
        content = "x" * 45 + before + SEPARATOR + after + "y" * 45
        (tmp_path / "t").write_text(content)
        expected = ["x" * 45 + before.rstrip("\n"), after.lstrip("\n") + "y" * 45]
        assert joined(Texts(tmp_path / "t")) == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"ok \xe9t\xe9", "not UTF-8: byte 3 is 0xe9"),
        (b"0123456789 \xf0\x9f\xa6", "not UTF-8: byte 11 is 0xf0"),
        ("text".encode("utf-16")[:-1], "not UTF-16: byte 8"),
        (b"text \0", "not text: character 5 is a zero"),
    ],
)
def test_the_first_wrong_byte_is_named_whatever_the_blocks(tmp_path, monkeypatch, content, says):
    (tmp_path / "t").write_bytes(content)
    for block in (1, 2, 5, 100):
        monkeypatch.setattr(texts, "BLOCK", block)
        with pytest.raises(ValueError, match=says):
            documents(tmp_path / "t")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def tar(content):
    """Return a tar archive with one file."""
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            about = tarfile.TarInfo("story.txt")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
        return out.getvalue()


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tar(b"once upon a time"), "a tar archive: unpack it, and give the folder"),
        (b"PK\3\4" + bytes(40), "a zip archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\x93NUMPY\1\0", "an array of NumPy"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old Office document"),
        (lzma.compress(b"abc", format=lzma.FORMAT_ALONE), "the old form of xz"),
    ],
)
def test_what_has_to_be_unpacked_or_is_no_text_is_called_by_its_name(
    tmp_path, packed, content, says
):
    path = tmp_path / f"file{packed}"
    path.write_bytes(PACKERS[packed](content))
    with pytest.raises(ValueError, match=f"file.*: it is .*{says}"):
        documents(path)
    path.write_bytes(gzip.compress(PACKERS[packed](b"twice") if packed else b"once"))
    if packed:
        with pytest.raises(ValueError, match="compressed twice"):
            documents(path)


def test_a_json_file_is_read_by_lines_as_c4_has_it_or_refused(tmp_path):
    lines = b'{"text": "one", "url": "a"}\n{"text": "two", "url": "b"}\n'
    (tmp_path / "c4.json.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c4.JSON").write_bytes(lines)
    assert documents(tmp_path / "c4.json.gz") == documents(tmp_path / "c4.JSON") == ["one", "two"]
    for content, says in (
        ('[{"text": "one"}, {"text": "two"}]', "it is a JSON list: write an object on each line"),
        ('\n [\n{"text": "one"}]', "it is a JSON list"),
        ('{\n "text": "one"\n}', "line 1 is not JSON.*Each line has to hold a whole object"),
        ("plain text", "line 1 is not JSON"),
    ):
        for name in ("a.json", "a.jsonl"):
            (tmp_path / name).write_text(content)
            with pytest.raises(ValueError, match=f"{name}: {says}"):
                documents(tmp_path / name)


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(ValueError, match="pipe or a device"):
            documents(place)


# Documents. ---------------------------------------------------------------------------------------


def test_the_separator_is_the_end_of_text_of_the_tokenizers():
    assert SEPARATOR == END_OF_TEXT


def test_documents_end_where_the_file_separates_them(tmp_path):
    (tmp_path / "t.txt").write_text(
        "One\n<|endoftext|>\nTwo.\n\n\n\nMore<|endoftext|><|endoftext|>\n"
    )
    assert documents(tmp_path / "t.txt") == ["One", "Two.\n\n\n\nMore"]
    (tmp_path / "u.txt").write_text("One\n---\nTwo <|endoftext|>\n---")
    assert documents(tmp_path / "u.txt", "---") == ["One", "Two <|endoftext|>"]


def test_a_folder_gives_its_files_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_bytes(b"\xff")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0")
    (tmp_path / "c.txt").write_text("three<|endoftext|>\n")
    (tmp_path / "b" / "z.gz").write_bytes(gzip.compress(b"two"))
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "and a half<|endoftext|>more"}')
    (tmp_path / "empty.txt").write_text("")
    assert documents(tmp_path) == ["one", "and a half", "more", "two", "three"]
    found = Texts(tmp_path)
    assert list(found) and found.n_separators == 2, "of all files"
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(ValueError, match=r"picture\.png"):
        documents(tmp_path)


def test_links_and_pipes_in_a_folder_do_not_lead_in_circles_or_nowhere(tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "a")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    assert documents(tmp_path) == ["one", "one"]


def test_a_folder_is_read_while_its_files_are_looked_for(tmp_path, monkeypatch):
    """So a whole disk, or a home folder, is refused at its first file that is no text."""
    for name in ("a/b/c", "a.d", "b", "c/d"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/b/c/1", "a/b.txt", "a.d/2", "a.txt", "b/z", "c/d/3"):
        (tmp_path / name).write_text(name)
    everything = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [*files_in(tmp_path)] == everything and [*files_in(tmp_path / "b")] == everything[4:5]
    (tmp_path / "a" / "b.txt").write_bytes(b"\xff")
    looked, of_all = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: looked.append(path.name) or of_all(path))
    with pytest.raises(ValueError, match=r"b\.txt: it is not UTF-8"):
        documents(tmp_path)
    assert looked == [tmp_path.name, "a", "b", "c"]


def test_what_cannot_be_read_in_a_folder_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "t.txt").write_text("one")
    of_all = Path.iterdir

    def refuse(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return of_all(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        documents(tmp_path)


def test_a_disk_that_fails_under_a_text_is_named(tmp_path):
    with pytest.raises(OSError, match=r"t\.txt"), checks.readable_text(tmp_path / "t.txt"):
        raise OSError(5, "Input/output error")


def test_a_jsonl_gives_the_text_of_each_line(tmp_path):
    rows = [{"text": "a\u2028b\r\nc", "n": 1}, {"text": "", "n": 2}, {"n": 3, "text": "\x85 d\0"}]
    path = tmp_path / "t.jsonl"
    path.write_text("\ufeff" + "\r\n\r\n".join(map(json.dumps, rows)) + '\r\n{"text": "\\ud83d"}')
    assert documents(path) == ["a\u2028b\r\nc", "\x85 d\0", "\ufffd"]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows[:1]))
    assert documents(path) == ["a\u2028b\r\nc"]
    (tmp_path / "T.JSONL.GZ").write_bytes(gzip.compress(path.read_bytes()))
    assert documents(tmp_path / "T.JSONL.GZ") == documents(path)


def test_a_name_wins_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories").mkdir()
    (tmp_path / "stories" / "mine.txt").write_text("mine")
    assert len(documents("stories")) == 1000
    assert "./stories is what is here" in capsys.readouterr().err
    assert documents("./stories") == ["mine"] and not capsys.readouterr().err


def test_reading_needs_no_memory(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"Some words of a text that goes on.\n" * 600_000)  # 21 MB
    tracemalloc.start()
    n = sum(len(text) for _, text in Texts(path))
    division = divide(Texts(path), 0.1, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == path.stat().st_size == division.n_bytes
    assert peak < 16e6


# What is trained on. ------------------------------------------------------------------------------


def parts_of(found, division):
    sides = {TRAIN: [], VAL: []}
    for (side, _), group in groupby(division.parts(found), key=lambda piece: piece[:2]):
        sides[side].append("".join(text for *_, text in group))
    return sides[TRAIN], sides[VAL]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_documents_are_drawn_as_split_draws_them(seed, share):
    rng = random.Random(seed)
    for n in (2, 3, 10, 200):
        drawn = [f"text {rng.randrange(n)}" for _ in range(n)] + ["first", "last"]
        pieces = [(number, half) for number, d in enumerate(drawn) for half in (d[:3], d[3:])]
        assert parts_of(pieces, divide(pieces, share, seed)) == split(drawn, share, seed)


def test_blank_documents_are_left_out():
    pieces = list(enumerate(["", "one", " \n", "two", "\t"]))
    division = divide(pieces, 0.5, 0)
    assert [side == BLANK for side in division.sides] == [True, False, True, False, True]
    assert sorted(chain(*parts_of(pieces, division))) == ["one", "two"]


def test_equal_documents_are_divided_by_their_places():
    pieces = list(enumerate(["the same"] * 20))
    assert [len(part) for part in parts_of(pieces, divide(pieces, 0.1, 0))] == [18, 2]


@pytest.mark.parametrize(
    "text",
    ["word", "a b", "\n\n\n\na\n", "ab" * 50, "a\n\nb", "x " * 500, " \n\n" * 30 + "ab", "é"],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_any_text_is_cut_in_two_that_join_or_refused(text, size):
    pieces = [(1, text[start : start + size]) for start in range(0, len(text), size)]
    pieces = [(0, ""), *pieces, (2, "")]
    try:
        train, val = parts_of(pieces, divide(pieces, 0.1, 0))
    except ValueError as error:
        assert "too short" in str(error)
    else:
        assert len(train) == len(val) == 1 and train[0].strip() and val[0].strip()
        assert train[0] + val[0] == text


def test_a_text_is_cut_where_a_paragraph_ends_else_a_line_else_a_word():
    for separator in ("\n\n", "\n", " "):
        text = ("x y\nz" if separator == "\n\n" else "xyz") * 9 + separator
        pieces = [(0, text * 10)]
        train, val = parts_of(pieces, divide(pieces, 0.13, 0))
        assert train == [text * 8] and val == [text * 2]


def test_the_hash_of_a_text_tells_documents_apart_and_nothing_else():
    def hash_of(*pieces):
        return divide(pieces, 0.5, 0).sha256

    assert hash_of((0, "a b"), (1, "c")) == hash_of((0, "a"), (0, " b"), (1, "c"))
    assert (
        len({hash_of((0, "a b"), (1, "c")), hash_of((0, "a b c")), hash_of((0, "a b"), (1, "d"))})
        == 3
    )


@pytest.mark.parametrize("pieces", [[], [(0, "")], [(0, " "), (1, "\n")]])
def test_texts_without_a_word_are_refused(pieces):
    with pytest.raises(ValueError, match=r"t\.txt is empty"):
        divide(pieces, 0.1, 0, "t.txt")


def test_corpora_divide_as_before():
    told = corpora.documents("stories")
    pieces = corpora.texts("stories")
    assert parts_of(pieces, divide(pieces, 0.1, 3)) == split(told, 0.1, 3)
