"""Files of word vectors: read as gensim reads them, or refused with the reason."""

import bz2
import gzip
import lzma
import pickle
import random

import numpy as np
import pytest
import torch
import vector_fuzz
from gensim import downloader
from gensim.models import KeyedVectors

from llmlib import checks
from llmlib.data import vector_files
from llmlib.data.vector_files import read_word_vectors
from llmlib.model.word_vectors import word_vectors
from llmlib.pretrained.embeddings import load_word_vectors

WORDS = [f"word{i}" for i in range(30)]


def random_matrix(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def vectors():
    return word_vectors(WORDS, random_matrix(30, 5))


def save(vectors, path, layout):
    if layout == "glove":
        vectors.save_word2vec_format(str(path), write_header=False)
    else:
        vectors.save_word2vec_format(str(path), binary=layout == "binary")
    return path


@pytest.mark.parametrize("ending", [".vec", ".vec.gz"])
@pytest.mark.parametrize("layout", ["text", "binary", "glove"])
def test_a_file_comes_back_as_it_was_saved(vectors, tmp_path, layout, ending):
    path = save(vectors, tmp_path / f"vectors{ending}", layout)
    for given in (path, str(path)):
        back = load_word_vectors(given)
        assert back.index_to_key == WORDS
        np.testing.assert_allclose(back.vectors, vectors.vectors, rtol=1e-5)


@pytest.mark.parametrize("layout", ["text", "binary", "glove"])
def test_words_of_other_scripts_and_numbers_come_back(tmp_path, layout):
    words = ["Zürich", "猫", "1984", "🙂", "0.5"]
    path = save(word_vectors(words, random_matrix(5, 3)), tmp_path / "v.txt", layout)
    assert load_word_vectors(path).index_to_key == words


@pytest.mark.parametrize("ending", [".vec", ".vec.gz"])
@pytest.mark.parametrize("layout", ["text", "binary", "glove"])
def test_a_file_cut_short_is_refused(vectors, tmp_path, layout, ending):
    path = save(vectors, tmp_path / f"vectors{ending}", layout)
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half[: half.rfind(b" ")] if ending == ".vec" else half)
    with pytest.raises(ValueError, match=r"vectors\.vec.*(cut short|dimensions|end-of-stream)"):
        load_word_vectors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not hold word vectors"),
        (b"\n\n\n", "does not hold word vectors"),
        (b"Once upon a time there was a king.\n", "does not hold word vectors"),
        (b"It was in 1984\n", "does not hold word vectors"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "does not hold word vectors"),
        (b"\xff\xfe2\x00 \x003\x00", "UTF-16"),
        (b"\xef\xbb\xbf2 2\na 1 2\nb 1 2\n", "byte-order mark"),
        (b"\xef\xbb\xbfa 1 2\nb 1 2\n", "byte-order mark"),
        (b"PK\x03\x04" + bytes(60), "zip archive"),
        (b"\xba\x16\x4f\x2f" + bytes(60), "fastText"),
        (b"2 3\na 1 2\nb 1 2\n", "line 2: it has 3 fields, but a word and 3 dimensions are 4"),
        (b"3 2\na 1 2\nb 1 2\n", "2 of the 3 words .*cut short"),
        (b"1 2\na 1 2\nb 1 2\n", "line 3: it announces 1 words, but more follow"),
        (b"2 2\na 1 2\nb 1 x\n", "line 3: could not convert string to float: 'x'"),
        (b"2 2\na 1 2\nb 1 0x2\n", "line 3: could not convert"),
        (b"2 2\na 1 2\nb 1\n", "line 3: it has 2 fields"),
        (b"3 2\na 1 2\nb 1\nc 1 2\n", "line 3"),
        (b"3 2\na 1 2\n\nc 1 2\n", "line 3: it is empty"),
        (b"a 1 2\nb 1\n", "line 2: it has 2 fields"),
        (b"a 1 2\nb 1 2\n\n", "line 3: it is empty"),  # gensim cannot read it, either
        (b"a 1 2\nb 1 2\na 3 4\n", "'a' occurs twice"),
        (b"3 2\na 1 2\nb 1 2\na 3 4\n", "'a' occurs twice"),
        (b"a 1 2\nb  1 2\n", "line 2: it has 4 fields"),
        (b"2 2\nmay 1 2\narea 51 1 2\n", "line 3: it has 4 fields"),
        (b"2 2\na 1 2\ncaf\xe9 1 2\n", "line 3 is not UTF-8"),
        (b"2 2\ncaf\xe9 1 2\na 1 2\n", "line 2 is not UTF-8"),
        (b"a 1 2\ncaf\xe9 1 2\n", "line 2 is not UTF-8"),
        (b"a\t1\t2\n", "does not hold word vectors"),
        (b"1 2\na nan 1\n", "'a' holds NaN"),
        (b"2 2\na 1 2\nb 1 -inf\n", "'b' holds NaN or .* infinite"),
        (b"a 1 2\nb 1 1e39\n", "'b' holds NaN or .* infinite"),
        (b"5 300\n", "0 of the 5 words .*cut short"),
        (b"200000000 5\na 1 2 3 4 5\n", "1 of the 200,000,000 words .*cut short"),
        (b"2000000000000000 5\na 1 2 3 4 5\n", "announces 2000000000000000 words"),
        (b"1 2000000000\na 1 2 3 4 5\n", "announces .*2000000000 dimensions"),
        (b"5 300\nhello world\n", "line 2: it has 2 fields"),
        (b"0 3\n", "announces 0 words"),
        (pickle.dumps({"a": [1.0]}), "pickle.*save_word2vec_format"),
        (b"2 2\ncaf\xe9 1\na 1 2\n", "line 2 is not UTF-8"),
        (gzip.compress(b"a 1 2\n", mtime=0), "ends in .gz"),
        (bz2.compress(b"a 1 2\n"), "ends in .bz2"),
        (lzma.compress(b"a 1 2\n"), "ends in .xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "zstd"),
        (b"<!DOCTYPE html><p>Log in\n", "page that a server sent"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS pointer"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused(tmp_path, content, message):
    path = tmp_path / "some file.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_word_vectors(path)
    assert "some file.txt" in str(raised.value)


def test_words_with_spaces_come_back_as_gensim_writes_them(tmp_path):
    words = ["new york", "red", ". . .", "a  b", "blue"]
    vectors = word_vectors(words, random_matrix(5, 4))
    for layout in ("text", "glove"):
        back = load_word_vectors(save(vectors, tmp_path / "v.txt", layout))
        assert back.index_to_key == words
        np.testing.assert_array_equal(back.vectors, vectors.vectors)
    vectors.save_word2vec_format(str(tmp_path / "v.txt"), binary=True)  # where the first space ends
    with pytest.raises(ValueError, match="bytes"):
        load_word_vectors(tmp_path / "v.txt")


@pytest.mark.parametrize(
    ("content", "words", "numbers"),
    [
        (b"2 2\r\na 1 2\r\nb 3 4\r\n", ["a", "b"], [[1, 2], [3, 4]]),
        (b"2 2\na 1 2 \nb 3 4\n\n \n", ["a", "b"], [[1, 2], [3, 4]]),
        (b" 2\t2\na 1 2\nb 3 4", ["a", "b"], [[1, 2], [3, 4]]),
        (b"a 0.5\n1 3e38\n", ["a", "1"], [[0.5], [3e38]]),
        (b"a -1e-3 1_000\nb +.5 1.\n", ["a", "b"], [[-1e-3, 1000], [0.5, 1]]),
        (b"2 1\na 1.25\nb 2\n", ["a", "b"], [[1.25], [2]]),
        (b"1 1\na 1.25", ["a"], [[1.25]]),  # as a binary file, it would end here, too
        ("\u00a0 1 2\na\u2028b 3 4\n".encode(), ["\u00a0", "a\u2028b"], [[1, 2], [3, 4]]),
        (b"2 2\na\x00b 1 2 \nc 3 4\n", ["a\x00b", "c"], [[1, 2], [3, 4]]),
        (b"a 3e38 3e38\nb 3e38 3e38\n", ["a", "b"], [[3e38] * 2] * 2),  # their sum is infinite
    ],
)
def test_what_gensim_reads_is_read_as_gensim_reads_it(tmp_path, content, words, numbers):
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    back = read_word_vectors(path)
    header = not content.startswith(b"a") and content[0] < 128
    theirs = KeyedVectors.load_word2vec_format(str(path), no_header=not header)
    for found in (back, theirs):
        assert found.index_to_key == words and found.key_to_index[words[-1]] == len(words) - 1
        np.testing.assert_array_equal(found.vectors, np.float32(numbers))
    assert [back.get_vecattr(word, "count") for word in words] == list(range(len(words), 0, -1))


def binary_file(words, matrix, end=b"", header=None):
    rows = [
        word.encode() + b" " + row.tobytes() + end for word, row in zip(words, np.float32(matrix))
    ]
    return (header or b"%d %d\n" % (len(words), len(matrix[0]))) + b"".join(rows)


@pytest.mark.parametrize("end", [b"", b"\n"])  # gensim's files, and those of word2vec itself
def test_a_binary_file_is_read_only_if_it_ends_where_its_header_says(tmp_path, end):
    words, path = ["the", "cat", "sat", "naïve"], tmp_path / "v.bin"
    matrix = random_matrix(4, 5).numpy()
    whole = binary_file(words, matrix, end)
    path.write_bytes(whole)
    assert read_word_vectors(path).index_to_key == words
    place = whole.index(b"cat ") + 9  # in the vector of "cat"
    for damaged in (
        whole + b"\n\n",
        whole + b"more",
        whole[:-2],
        binary_file(words, matrix, end, b"3 5\n"),
        binary_file(words, matrix, end, b"5 5\n"),
        binary_file(words, matrix, end, b"4 4\n"),
        binary_file(["the", "cat", "the", "naïve"], matrix, end),
        binary_file(words, matrix * [[1], [np.nan], [1], [1]], end),
        whole[:place] + whole[place + 1 :],  # "sat" becomes "at"
        whole[:place] + b"x" + whole[place:],
        whole.replace("naïve".encode(), b"na\xefve"),
        whole.replace(b"cat ", b"\ncat "),
        whole.replace(b"cat ", b" "),
        whole.replace(b"cat ", b"c\x01t "),
        binary_file(words, matrix * [[1], [1e8], [1], [1]], end),
        binary_file(words, matrix * [[1], [1e-25], [1], [1]], end),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"v\.bin: "):
            print(read_word_vectors(path).index_to_key)


@pytest.mark.parametrize("numbers", [[0, 0, 0, 0], [0, 0, 0, 1], [2, 0, 0, 2]])
def test_numbers_whose_bytes_are_characters_and_zeros_are_binary(tmp_path, numbers):
    (tmp_path / "v.bin").write_bytes(binary_file("abcd", np.float32([numbers] * 2).T))
    np.testing.assert_array_equal(read_word_vectors(tmp_path / "v.bin").vectors[:, 0], numbers)


def test_packed_files_are_known_by_their_endings(tmp_path):
    for ending, pack in {".gz": gzip.compress, ".bz2": bz2.compress, ".XZ": lzma.compress}.items():
        (tmp_path / f"v{ending}").write_bytes(pack(b"2 2\na 1 2\nb 3 4\n"))
        assert read_word_vectors(tmp_path / f"v{ending}").index_to_key == ["a", "b"]


def test_a_first_line_is_looked_at_as_a_whole(tmp_path):
    (tmp_path / "v.txt").write_bytes(b"aa" + b" -1" * 30_000 + b"\n")  # a block ends behind a "-"
    assert read_word_vectors(tmp_path / "v.txt").vectors.shape == (1, 30_000)


def test_lines_and_words_have_an_end(tmp_path, monkeypatch):
    for module in ("llmlib.checks", "llmlib.checks.vector_files"):
        monkeypatch.setattr(f"{module}.LONGEST", 1000)
    (tmp_path / "v").write_bytes(b"2 2\na 1 2\nb" + b"x" * 5000 + b" 1 2\n")
    with pytest.raises(ValueError, match="line 3: it has 1 fields"):
        read_word_vectors(tmp_path / "v")
    (tmp_path / "v").write_bytes(b"2 2\n\0" + b"x" * 5000)
    with pytest.raises(ValueError, match="a word in it does not end"):
        read_word_vectors(tmp_path / "v")


def test_large_and_small_vectors_of_a_binary_file_are_not_taken_for_lost_bytes(tmp_path):
    matrix = np.float32([[0, 0, 0], [1e-9, 6e-17, 1], [300, -2e5, 3], [1, 2, 3]])
    for factor in (1, 1e30, 1e-20):
        (tmp_path / "v.bin").write_bytes(binary_file("abcd", matrix * np.float32(factor)))
        back = read_word_vectors(tmp_path / "v.bin")
        np.testing.assert_array_equal(back.vectors, matrix * np.float32(factor))


@pytest.mark.slow
@pytest.mark.parametrize("form", vector_fuzz.FORMS)
def test_damaged_files_are_read_as_gensim_reads_them_or_refused(tmp_path, form):
    rng = random.Random(f"faults {form}")
    for _ in range(300):
        wrong = vector_fuzz.judge(read_word_vectors, checks.FileError, tmp_path, rng, form)
        assert wrong is None, wrong


def test_a_file_that_only_claims_to_be_gzipped_is_refused(tmp_path):
    (tmp_path / "v.gz").write_bytes(b"a 1 2\nb 3 4\n")
    with pytest.raises(ValueError, match=r"v.gz: Not a gzipped file"):
        load_word_vectors(tmp_path / "v.gz")


def test_gensims_own_files_are_pickles_and_are_not_opened(vectors, tmp_path):
    vectors.save(str(tmp_path / "v.kv"))
    with pytest.raises(ValueError, match="it is a pickle"):
        load_word_vectors(tmp_path / "v.kv")


def test_missing_files_folders_and_unknown_names_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.vec"):
        load_word_vectors(tmp_path / "nowhere.vec")
    with pytest.raises(FileNotFoundError, match=r"no file nowhere.bin"):
        load_word_vectors("nowhere.bin")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_word_vectors(tmp_path)
    with pytest.raises(ValueError, match=r"'google-news-30'.*did you mean 'google-news-300'"):
        load_word_vectors("google-news-30")
    with pytest.raises(ValueError, match=r"'qqqq'.*There are wiki, google-news-300"):
        load_word_vectors("qqqq")


# ---- vectors by name


@pytest.mark.parametrize("name", ["google-news-300", "glove-wiki-gigaword-50"])
def test_vectors_are_fetched_by_name_and_the_size_is_said_first(
    vectors, tmp_path, monkeypatch, capsys, name
):
    path = save(vectors, tmp_path / "downloaded.gz", "binary")
    asked = []

    def fake_load(full_name, return_path):
        asked.append((full_name, return_path, capsys.readouterr().out))
        return str(path)

    monkeypatch.setattr(downloader, "BASE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(downloader, "load", fake_load)
    assert load_word_vectors(name).index_to_key == WORDS
    ((full_name, return_path, said),) = asked
    assert full_name == name.replace("google", "word2vec-google")
    assert return_path  # otherwise gensim would run a file that came with the download
    assert f"{vector_files.MEGABYTES[full_name]:,} MB" in said


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("x"), Exception("y")])
def test_without_a_network_the_offline_vectors_are_named(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(downloader, "BASE_DIR", str(tmp_path))
    monkeypatch.setattr(downloader, "load", fail)
    with pytest.raises(ConnectionError, match=r'could not be fetched.*load_word_vectors\("wiki"\)'):
        load_word_vectors("google-news-300")
