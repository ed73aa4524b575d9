"""Byte-level BPE: what is learned, what comes out, what is refused; equal to the references."""

import base64
import json
import os
import random
import time
import tracemalloc
import unicodedata
from collections import Counter

import numpy as np
import pytest
import regex
import tiktoken
import tokenizers as hf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import corpora
from llmlib.files import home
from llmlib.tokenization import formats, merging
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.bpe_trainer import BYTE_ORDER, count_pieces, learn_merges
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.formats import as_bytes
from llmlib.tokenization.gpt2 import gpt2_encoding
from llmlib.tokenization.interface import whole_characters
from llmlib.tokenization.merging import merge_long, merge_short
from llmlib.tokenization.splitting import PATTERNS, SAFE_CUT, blocks, splitter

os.environ["TOKENIZERS_PARALLELISM"] = "false"
END = "<|endoftext|>"
# unassigned code points are left out: the libraries know different versions of Unicode
UNICODE = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40)
TRICKY = st.text(st.sampled_from("aZ é狐🦊\n\r\t\x00 19½'stLLſ!./\u00a0\u2028\u0301"), max_size=30)


@pytest.fixture(scope="module")
def wiki():
    return corpora.load("wiki")


@pytest.fixture(scope="module")
def gpt2():
    return BPETokenizer.load(home() / "gpt2" / "vocab.bpe")


@pytest.fixture(scope="module")
def small(wiki):
    return BPETokenizer.train(wiki[:200_000], 1000, special_tokens=[END])


def naive_merges(counts, n_merges, ties):
    """The definition: count everything, merge the best, and again."""
    words = {piece: [bytes([byte]) for byte in piece.encode()] for piece in counts}
    ids = {bytes([byte]): i for i, byte in enumerate(BYTE_ORDER)}
    merges = []
    while len(merges) < n_merges:
        pairs = Counter()
        for piece, word in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += counts[piece]
        if not pairs:
            break
        most = [pair for pair in pairs if pairs[pair] == max(pairs.values())]
        by_ids = min(most, key=lambda pair: [ids[token] for token in pair])
        best = max(most) if ties == "bytes" else by_ids
        merges.append(best)
        ids[best[0] + best[1]] = len(ids)
        for piece, word in words.items():
            words[piece] = apply_merge(word, best)
    return merges


def apply_merge(word, pair):
    merged, i = [], 0
    while i < len(word):
        joined = tuple(word[i : i + 2]) == pair
        merged.append(b"".join(pair) if joined else word[i])
        i += 1 + joined
    return merged


def hugging_face(text, vocab_size, pattern="gpt2"):
    """The merges that Hugging Face's trainer learns."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    split = hf.pre_tokenizers.Split(hf.Regex(PATTERNS[pattern]), "isolated")
    parts = [split, hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Sequence(parts)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(as_bytes(part) for part in merge) for merge in merges]


# Training


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("abé", min_size=1, max_size=12), min_size=1, max_size=8), st.data())
def test_the_fast_trainer_learns_what_the_naive_one_does(pieces, data):
    counts = {piece: data.draw(st.integers(1, 3)) for piece in pieces}
    for ties in ("ids", "bytes"):
        assert learn_merges(counts, 12, ties) == naive_merges(counts, 12, ties)


def test_the_two_customs_for_ties_differ_on_real_text(wiki):
    counts = count_pieces(wiki[:1500])
    by_ids, by_bytes = (learn_merges(counts, 100, ties) for ties in ("ids", "bytes"))
    assert by_ids != by_bytes
    assert by_bytes == naive_merges(counts, 100, "bytes")
    assert by_ids == naive_merges(counts, 100, "ids")


def test_the_lexicographically_greatest_pair_wins_a_tie():
    pairs = [(b"A", b"B"), (b"A", b"C"), (b"B", b"ZZ"), (b"BA", b"A")]
    assert max(pairs) == (b"BA", b"A")
    counts = {"BAA": 1, "BA": 9, "BZZ": 1, "ZZ": 9}
    merges = learn_merges(counts, 4, ties="bytes")
    assert merges == [(b"Z", b"Z"), (b"B", b"A"), (b"BA", b"A"), (b"B", b"ZZ")]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_merges_equal_those_of_hugging_face_on_all_of_wiki(wiki, pattern):
    ours = BPETokenizer.train(wiki, 5000, pattern=pattern)
    assert ours.merges == hugging_face(wiki, 5000, pattern)


def test_each_token_encodes_to_itself(small, gpt2):
    for tokenizer in (small, gpt2):
        for token, number in tokenizer._ids.items():
            ids = [tokenizer._byte_ids[byte] for byte in token]
            assert merge_short(ids, tokenizer._ranks, tokenizer._new_ids) == [number]


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        (
            "gpt2",
            ["She", "'s", " 1234567", " ", " old", "!!", "\n\n", "\t", "HOW", "'", "D", "?", "\n"],
        ),
        (
            "gpt4",
            ["She", "'s", " ", "123", "456", "7", " ", " old", "!!\n\n", "\tHOW", "'D", "?\n"],
        ),
    ],
)
def test_a_text_is_split_as_the_models_split_it(pattern, pieces):
    assert splitter(pattern)("She's 1234567  old!!\n\n\tHOW'D?\n") == pieces


def test_special_tokens_are_neither_counted_nor_crossed():
    texts = [f"ab{END}ab{END}ab"]
    counts = count_pieces(texts, special_tokens=[END])
    assert counts == {"ab": 3}
    tokenizer = BPETokenizer.train(texts, 300, special_tokens=[END])
    assert tokenizer.merges == [(b"a", b"b")]
    assert tokenizer.special_tokens == {END: 257}


def test_a_text_in_parts_is_counted_as_documents():
    assert count_pieces(["ab", "cd"]) == {"ab": 1, "cd": 1}
    assert count_pieces("abcd") == {"abcd": 1}


def test_training_stops_where_no_pair_is_left():
    tokenizer = BPETokenizer.train("aaa", 1000)
    assert tokenizer.vocab_size == 258
    assert [tokenizer.tokens[i] for i in (256, 257)] == [b"aa", b"aaa"]


def test_an_endless_word_is_learned_from_in_seconds():
    text = "".join(random.Random(0).choices("acgt", k=300_000))
    start = time.process_time()
    BPETokenizer.train(text, 500)
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 255}, "too small for 256 bytes and 0 special"),
        ({"vocab_size": 256, "special_tokens": [END]}, "give at least 257"),
        ({"texts": ""}, "empty text"),
        ({"texts": []}, "empty text"),
        ({"ties": "first"}, "must be one of ids, bytes"),
        ({"pattern": "gpt5"}, "did you mean 'gpt4'"),
        ({"pattern": "("}, "give one of gpt2, gpt4"),
        ({"pattern": 7}, "give one of gpt2, gpt4"),
        ({"pattern": r"(\s)|\S+"}, "has groups"),
        ({"special_tokens": [""]}, "give a text"),
        ({"special_tokens": [END, END]}, "named twice"),
    ],
)
def test_training_refuses_what_cannot_be(change, words):
    arguments = {"texts": "some text", "vocab_size": 300} | change
    with pytest.raises(ValueError, match=regex.escape(words)):
        BPETokenizer.train(**arguments)


@pytest.mark.parametrize(
    "change",
    [{"texts": [b"ab"]}, {"texts": 5}, {"vocab_size": 300.5}, {"special_tokens": END}],
)
def test_training_names_the_wrong_type(change):
    with pytest.raises(TypeError):
        BPETokenizer.train(**({"texts": "some text", "vocab_size": 300} | change))


# Encoding


@settings(max_examples=3_000, deadline=None)
@given(st.one_of(UNICODE, TRICKY))
def test_ids_equal_tiktokens_and_any_text_comes_back(gpt2, text):
    ids = gpt2.encode(text, disallowed_special=())
    assert ids == gpt2_encoding().encode(text, disallowed_special=())
    assert gpt2.decode(ids, errors="strict") == text


def test_ids_equal_tiktokens_on_ten_thousand_random_strings_and_all_of_wiki(gpt2, wiki):
    rng = random.Random(7)
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cs", "Cn")]
    theirs = gpt2_encoding()
    for _ in range(10_000):
        text = "".join(rng.choices(assigned, k=rng.randint(0, 25)))
        assert gpt2.encode(text) == theirs.encode(text)
    assert gpt2.encode(wiki) == theirs.encode(wiki)


def in_tiktoken(tokenizer):
    return tiktoken.Encoding(
        "ours",
        pat_str=PATTERNS[tokenizer.pattern],
        mergeable_ranks=dict(tokenizer._ids),
        special_tokens=tokenizer.special_tokens,
    )


@pytest.fixture(scope="module")
def gpt4_style(wiki):
    """A tokenizer with GPT-4's pattern and special tokens that overlap, and tiktoken's twin."""
    special = [END, END + END, "<|end|>", "|>x", "<|a b|>"]
    tokenizer = BPETokenizer.train(wiki[:200_000], 1200, pattern="gpt4", special_tokens=special)
    return tokenizer, in_tiktoken(tokenizer)


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None)
@given(st.one_of(UNICODE, TRICKY))
def test_gpt4s_pattern_gives_tiktokens_ids_too(gpt4_style, text):
    ours, theirs = gpt4_style
    assert ours.encode(text, disallowed_special=()) == theirs.encode(text, disallowed_special=())


PARTS = st.lists(
    st.sampled_from(
        [END, END + END, "<|end|>", "|>x", "<|a b|>", "<|", "|>", "end", " ", "x", "a b"]
    )
)


@settings(max_examples=1_000, deadline=None)
@given(PARTS, st.data())
@pytest.mark.slow
def test_special_tokens_that_overlap_give_tiktokens_ids(gpt4_style, parts, data):
    text = "".join(parts)
    ours, theirs = gpt4_style
    # tiktoken takes the alternative that comes first, in no fixed order, where one begins another
    names = [name for name in ours.special_tokens if name != END]
    allowed = data.draw(st.sets(st.sampled_from(names)))
    ids = ours.encode(text, allowed_special=allowed, disallowed_special=())
    assert ids == theirs.encode(text, allowed_special=allowed, disallowed_special=())
    assert ours.decode(ids) == text


def test_the_longer_of_two_special_tokens_is_meant(gpt4_style):
    tokenizer, _ = gpt4_style
    one, two = tokenizer.special_tokens[END], tokenizer.special_tokens[END + END]
    assert tokenizer.encode(END * 3, allowed_special="all") == [two, one]
    assert tokenizer.encode(END * 3, allowed_special={END}, disallowed_special=()) == [one] * 3


def test_special_tokens_in_a_text_are_refused_or_plain_and_never_silently_orders(small):
    text = f"Stop.{END}Go."
    with pytest.raises(ValueError, match="contains the special token"):
        small.encode(text)
    with pytest.raises(ValueError, match="contains the special token"):
        list(small.encode_stream([text]))
    plain = small.encode(text, disallowed_special=())
    assert small.special_tokens[END] not in plain and small.decode(plain) == text
    ids = small.encode(text, allowed_special={END})
    assert ids.count(small.special_tokens[END]) == 1 and small.decode(ids) == text


@settings(max_examples=500, deadline=None)
@given(st.text("ab", min_size=1, max_size=300))
def test_the_heap_merges_as_the_list_does(small, text):
    ids = [small._byte_ids[byte] for byte in text.encode()]
    short = merge_short(list(ids), small._ranks, small._new_ids)
    assert merge_long(list(ids), small._ranks, small._new_ids) == short


@pytest.mark.slow
@pytest.mark.parametrize("letters", ["a", "abcdefgh", "狐"])
def test_one_word_of_a_megabyte_takes_seconds(gpt2, letters):
    word = "".join(random.Random(0).choices(letters, k=1_000_000 // len(letters.encode()[:3])))
    start = time.process_time()
    ids = gpt2.encode(word)
    assert time.process_time() - start < 30
    assert gpt2.decode(ids) == word
    assert ids == gpt2_encoding().encode(word)
    assert len(gpt2._known) == 0 or max(map(len, gpt2._known)) <= merging.LONG


def test_the_memory_of_pieces_is_limited():
    known = merging.PieceIds(lambda piece: [len(piece)], limit=3)
    assert [known[piece] for piece in ("a", "bb", "c", "dd", "a")] == [[1], [2], [1], [2], [1]]
    assert len(known) <= 3
    assert known["x" * 500] == [500] and "x" * 500 not in known


def test_nothing_gives_nothing(small):
    assert small.encode("") == [] and small.decode([]) == ""
    assert list(small.encode_stream([])) == list(small.encode_stream(["", ""])) == []


HALVES = [
    "\ud800",
    "fine \udfff",
    "\udc80abc",
    "\ud83e\udd8a",
    "\udd8a\ud83e",
    "a\ud83d\ud83d\udc4db",
]


@pytest.mark.parametrize("text", HALVES)
def test_half_characters_are_joined_or_replaced_as_in_tiktoken(gpt2, gpt4_style, text):
    assert gpt2.encode(text) == gpt2.encode_ordinary(text) == gpt2_encoding().encode(text)
    ours, theirs = gpt4_style
    assert ours.encode(text + END, allowed_special="all") == theirs.encode(
        text + END, allowed_special="all"
    )
    assert (
        BPETokenizer.train([text] * 9, 262).merges
        == BPETokenizer.train([whole_characters(text)] * 9, 262).merges
    )


@pytest.mark.parametrize("text", [b"ab", None, 5, ["ab"]])
def test_what_is_not_text_is_refused(small, text):
    with pytest.raises(TypeError, match="takes a string"):
        small.encode(text)


def test_nul_and_control_characters_come_back(small):
    text = "\x00a\x00\x1b[0m\x7f\r\n\x0b\x85\u200b\ufeff\ufffd"
    assert small.decode(small.encode(text), errors="strict") == text


def test_what_a_custom_pattern_passes_over_is_a_piece_too(small):
    own = BPETokenizer(small.merges, pattern=r"\w+|\s")
    assert own.decode(own.encode("a bc")) == "a bc"
    assert splitter(r"\w+|\s")("a, b--c") == ["a", ",", " ", "b", "--", "c"]
    assert own.decode(own.encode("a, b")) == "a, b"
    assert list(own.encode_stream(["ab", "cd e"])) == own.encode("abcd e")


# Streaming


@settings(max_examples=1_000, deadline=None)
@given(st.lists(TRICKY, max_size=6), st.integers(1, 12))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_are_cut_where_any_text_would_be_split(pattern, texts, size):
    split, text = splitter(pattern), "".join(texts)
    cut = list(blocks(texts, ["a b", "<|x|>"], size=size))
    assert "".join(cut) == text
    assert [piece for block in cut for piece in split(block)] == split(text)
    assert sum(block.count("a b") for block in cut) == text.count("a b")


@settings(max_examples=1_000, deadline=None)
@given(st.lists(PARTS, max_size=8), st.integers(1, 9))
@pytest.mark.slow
def test_no_special_token_is_cut_in_two(gpt4_style, parts, size):
    tokenizer, _ = gpt4_style
    text = " ".join("".join(part) for part in parts)
    slices = [text[i : i + size] for i in range(0, len(text), size)]
    cut = list(blocks(slices, tokenizer.special_tokens, size=size))
    whole = tokenizer.encode(text, allowed_special="all")
    assert [i for block in cut for i in tokenizer.encode(block, allowed_special="all")] == whole


def test_a_stream_gives_the_ids_of_the_whole_text(gpt2, wiki):
    text = wiki[:400_000]
    for size in (1, 80, 100_000):
        slices = (text[i : i + size] for i in range(0, len(text), size))
        assert list(gpt2.encode_stream(slices)) == gpt2.encode(text)
    lines = text.splitlines(keepends=True)
    assert list(gpt2.encode_stream(lines)) == gpt2.encode(text)


def test_a_stream_is_encoded_in_constant_memory(gpt2):
    def endless(n):
        for i in range(n):
            yield f"This is line {i % 50}, and it ends here.\n"

    def peak(n):
        tracemalloc.start()
        count = sum(1 for _ in gpt2.encode_stream(endless(n)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, peak

    few, small_peak = peak(5_000)
    many, large_peak = peak(40_000)
    assert many == 8 * few
    assert large_peak < 1.5 * small_peak < 20e6


def test_chinese_lines_without_spaces_are_streamed_too():
    cut = list(blocks(["狐狸很聰明\n"] * 100, [], size=50))
    assert len(cut) > 5 and "".join(cut) == "狐狸很聰明\n" * 100


# Decoding


def test_broken_bytes_are_replaced_or_refused(small):
    ids = small.encode("🦊")[:-1]
    assert small.decode(ids) == "\ufffd"
    assert small.decode([small._byte_ids[0xFF], small._byte_ids[0x61]]) == "\ufffda"
    assert small.decode_bytes(ids) == "🦊".encode()[:-1]
    with pytest.raises(ValueError, match="at byte 0, which is not UTF-8"):
        small.decode(ids, errors="strict")
    with pytest.raises(UnicodeDecodeError):  # as tiktoken does
        small.decode(ids, errors="strict")
    assert small.decode(ids, errors="ignore") == ""
    assert small.decode(ids, "backslashreplace") == r"\xf0\x9f\xa6"
    for wrong in ("repair", "", 5, None):
        with pytest.raises(ValueError, match="give replace, strict, ignore"):
            small.decode(ids, errors=wrong)


@pytest.mark.parametrize("wrong", [-1, 1000, 10**12, "a", 0.5, None])
def test_ids_that_no_token_has_are_refused(small, wrong):
    with pytest.raises(ValueError, match="ids are 0 to 999"):
        small.decode([0, wrong])


def test_ids_come_as_lists_arrays_and_tensors(small):
    ids = small.encode("the fox")
    for form in (tuple(ids), iter(ids), np.array(ids, dtype=np.uint16), torch.tensor(ids)):
        assert small.decode(form) == "the fox"


# Construction


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"merges": [(b"ab", b"c")]}, "merge 0 of b'ab' and b'c'"),
        ({"merges": [(b"a", b"b")], "vocabulary": {b"a": 0}}, "has no id"),
        ({"merges": [], "special_tokens": {END: 65}}, "the same id"),
        ({"merges": [], "special_tokens": {END: -1}}, "an id from 0"),
        ({"merges": [], "special_tokens": {END: True}}, "an id from 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, words):
    with pytest.raises(ValueError, match=regex.escape(words)):
        BPETokenizer(**arguments)


def test_ids_may_have_gaps_for_special_tokens():
    tokenizer = BPETokenizer([(b"a", b"b")], {END: 300})
    assert tokenizer.vocab_size == 301
    assert tokenizer.encode(f"ab{END}", allowed_special="all") == [256, 300]
    with pytest.raises(ValueError, match="299 is not in the vocabulary"):
        tokenizer.decode([299])


# Files


FORMS = ["tokenizer.json", "vocab.tiktoken", "folder"]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_is_loaded(tmp_path, small, wiki, form):
    small.save(tmp_path / form)
    special = small.special_tokens if form.endswith("tiktoken") else None
    again = BPETokenizer.load(tmp_path / form, special_tokens=special)
    assert again.merges == small.merges and again.tokens == small.tokens
    assert again.special_tokens == small.special_tokens and again.pattern == "gpt2"
    assert again.encode(wiki[:50_000]) == small.encode(wiki[:50_000])
    assert not list(tmp_path.rglob("*.part"))


def test_gpt4s_pattern_survives_where_the_format_can_hold_it(tmp_path, gpt4_style):
    tokenizer, _ = gpt4_style
    tokenizer.save(tmp_path / "tokenizer.json")
    assert BPETokenizer.load(tmp_path / "tokenizer.json").pattern == "gpt4"
    with pytest.raises(ValueError, match="cannot say how a text is split"):
        tokenizer.save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(ValueError, match=r"ends in \.json or \.tiktoken"):
        tokenizer.save(tmp_path / "a.txt")


def test_hugging_face_reads_our_tokenizer_json(tmp_path, small, gpt4_style, wiki):
    for tokenizer in (small, gpt4_style[0]):
        tokenizer.save(tmp_path / "tokenizer.json")
        theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        text = wiki[:50_000] + f" 🦊\x00\r\n\r\n  x{END}y"
        assert theirs.encode(text).ids == tokenizer.encode(text, allowed_special="all")
        assert theirs.decode(tokenizer.encode(wiki[:5000])) == wiki[:5000]
        assert theirs.get_vocab_size() == tokenizer.vocab_size


def test_we_read_what_hugging_face_writes(tmp_path, wiki):
    theirs = hf.Tokenizer(hf.models.BPE())
    theirs.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = hf.decoders.ByteLevel()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[END],
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([wiki[:50_000]], trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = BPETokenizer.load(tmp_path)
    assert ours.special_tokens == {END: 0}  # they give special tokens the first ids
    assert ours.encode(wiki[:50_000]) == theirs.encode(wiki[:50_000]).ids
    theirs.model.save(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    assert BPETokenizer.load(tmp_path).encode(wiki[:9000]) == theirs.encode(wiki[:9000]).ids


def test_tokens_no_merge_leads_to_are_taken_whole_only_where_the_file_says_so(tmp_path):
    small = BPETokenizer([(b"a", b"b")])
    small.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["xyz"] = 257
    for whole in (True, False):
        content["model"]["ignore_merges"] = whole
        (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        ours = BPETokenizer.load(tmp_path / "tokenizer.json")
        theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert (len(ours.encode("xyz")) == 1) is whole
        assert ours.encode("xyz ab") == theirs.encode("xyz ab").ids


def test_tiktoken_reads_our_file(tmp_path, small, wiki):
    small.save(tmp_path / "ours.tiktoken")
    lines = (tmp_path / "ours.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    theirs = tiktoken.Encoding(
        "ours", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={}
    )
    assert theirs.encode(wiki[:50_000]) == small.encode(wiki[:50_000])


def test_gpt2s_files_are_written_as_openai_did(tmp_path, gpt2):
    gpt2.save(tmp_path / "gpt2")
    original = home() / "gpt2" / "vocab.bpe"
    written = (tmp_path / "gpt2" / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]
    assert written == original.read_text(encoding="utf-8").split("\n")[1:]
    encoder = json.loads((tmp_path / "gpt2" / "encoder.json").read_text(encoding="utf-8"))
    assert len(encoder) == 50257 and encoder[END] == 50256 and encoder["Ġthe"] == 262


def test_the_merges_that_tiktokens_format_leaves_out_are_found_again(gpt2):
    assert formats.merges_of(gpt2._ids) == gpt2.merges


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


GOOD = {
    "model": {"type": "BPE", "vocab": {}, "merges": []},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", ""),
        ("a.json", "[]"),
        ("a.json", "{"),
        ("a.json", {"tokenizer": "CharTokenizer", "tokens": ["a"]}),
        ("a.json", {"model": {"type": "Unigram", "vocab": []}}),
        ("a.json", GOOD),  # no bytes in the vocabulary
        ("a.json", GOOD | {"normalizer": {"type": "NFC"}}),
        ("a.json", GOOD | {"pre_tokenizer": {"type": "Metaspace"}}),
        ("a.json", GOOD | {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}),
        ("a.json", GOOD | {"model": {"type": "BPE", "byte_fallback": True}}),
        ("a.json", GOOD | {"model": {"type": "BPE", "vocab": {"狐": 1}, "merges": []}}),
        ("a.tiktoken", "no base64 1\n"),
        ("a.tiktoken", "YQ== one\n"),
        ("a.tiktoken", "YQ== 0\nYWJj 1\n"),
        ("a.tiktoken", "\x80\x81"),
        ("a.bpe", "#version: 0.2\none two three\n"),
        ("a.bpe", "#version: 0.2\na\n"),
        ("a.bpe", "#version: 0.2\nab c\n"),
        ("a.txt", "hello"),
    ],
)
def test_foreign_and_damaged_files_are_refused_by_name(tmp_path, name, content):
    write(tmp_path / name, content)
    with pytest.raises(ValueError, match=regex.escape(name)):
        BPETokenizer.load(tmp_path / name)


SPLIT = {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
SEQUENCE, PREFIX = {"type": "Sequence"}, {"add_prefix_space": True}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalizer": {"type": "NFC"}}, "uses the normalizer NFC"),
        ({"model": {"byte_fallback": True}}, "uses byte_fallback"),
        ({"model": {"dropout": 0.1}}, "uses dropout"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "uses end_of_word_suffix"),
        ({"model": {"type": "WordPiece"}}, "holds a WordPiece tokenizer"),
        (
            {"pre_tokenizer": SEQUENCE | {"pretokenizers": [SPLIT, LEVEL | PREFIX]}},
            r"ByteLevel \(add_prefix_space",
        ),
        ({"pre_tokenizer": {"use_regex": False}}, r"the pre_tokenizer ByteLevel \(\)"),
        (
            {"pre_tokenizer": SEQUENCE | {"pretokenizers": [SPLIT, LEVEL | {"use_regex": True}]}},
            r"Split \(Isolated\), ByteLevel \(use_regex\)",
        ),
        (
            {
                "pre_tokenizer": SEQUENCE
                | {"pretokenizers": [SPLIT | {"behavior": "Removed"}, LEVEL]}
            },
            r"Split \(Removed\)",
        ),
    ],
)
def test_what_a_tokenizer_json_asks_for_beyond_bpe_is_refused(tmp_path, small, change, words):
    small.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    for name, value in change.items():
        content[name] = {**(content.get(name) or {}), **value}
    write(tmp_path / "tokenizer.json", content)
    with pytest.raises(ValueError, match=words):
        BPETokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "folder"])
def test_what_could_not_be_read_again_is_not_written(tmp_path, name):
    tokenizer = BPETokenizer([], special_tokens={"<|far|>": 10_000_309})
    with pytest.raises(ValueError, match=r"<.far.>' is 10000309: ids are whole numbers from 0"):
        tokenizer.save(tmp_path / name)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("whole", [True, False])
def test_whether_tokens_are_taken_whole_is_saved(tmp_path, small, whole):
    tokenizer = BPETokenizer(small.merges, whole_tokens=whole)
    tokenizer.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert content["model"]["ignore_merges"] is whole


def test_a_token_that_earlier_ones_cannot_make_is_not_bpe():
    ranks = {bytes([byte]): byte for byte in range(256)}
    with pytest.raises(ValueError, match="no merges of earlier tokens lead to the token b'abc'"):
        formats.merges_of(ranks | {b"abc": 256, b"ab": 257})


def test_a_file_cut_short_is_refused_at_any_place(tmp_path, small):
    small.save(tmp_path / "tokenizer.json")
    content = (tmp_path / "tokenizer.json").read_bytes()
    for length in range(0, len(content) - 1, len(content) // 20):
        (tmp_path / "cut.json").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.json"):
            BPETokenizer.load(tmp_path / "cut.json")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        BPETokenizer.load(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        BPETokenizer.load(tmp_path)


def test_a_special_token_that_looks_like_a_token_cannot_be_written(tmp_path):
    tokenizer = BPETokenizer([(b"a", b"b")], ["ab"])
    with pytest.raises(ValueError, match="looks like an ordinary one"):
        tokenizer.save(tmp_path / "a.json")


def test_ids_that_are_not_ranks_cannot_be_written_for_tiktoken(tmp_path):
    ids = {bytes([byte]): i for i, byte in enumerate(BYTE_ORDER)} | {b"ab": 257, b"cd": 256}
    tokenizer = BPETokenizer([(b"a", b"b"), (b"c", b"d")], vocabulary=ids)
    with pytest.raises(ValueError, match="order of the merges"):
        tokenizer.save(tmp_path / "a.tiktoken")


def test_safe_cuts_are_searched_from_the_end():
    assert SAFE_CUT.search("a b c").start() == 3


# What Hugging Face's trainer can be told


def hugging_face_rules(texts, vocab_size, **rules):
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False, **rules
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(as_bytes(part) for part in merge) for merge in merges]


def test_rare_pairs_and_long_tokens_are_left_out_as_in_hugging_faces_trainer(wiki):
    rng = random.Random(0)
    texts = [wiki[:20_000], "aaaa aaaaaaaa abababab éééééé " * 3]
    texts += [" ".join("".join(rng.choices("abé", k=rng.randint(1, 9))) for _ in range(12))]
    for text in texts:
        for rules in (
            {"min_frequency": 0},
            {"min_frequency": 3},
            {"min_frequency": 10**9},
            *({"max_token_length": length} for length in (1, 2, 3, 4, 5, 8)),
            {"max_token_length": 6, "min_frequency": 2},
        ):
            ours = BPETokenizer.train(text, 600, **rules)
            assert ours.merges == hugging_face_rules([text], 600, **rules), rules
            longest = rules.get("max_token_length", 10**9)
            assert max(len(a + b) for a, b in ours.merges or [(b"", b"")]) < max(3, longest)


def test_dropout_of_merges_cuts_at_random_and_loses_nothing(small, wiki):
    text = wiki[2000:6000] + " 🦊" + "abcd" * 60
    rng = random.Random(0)
    assert small.sample_ids(text, rng, 0) == small.encode(text)
    assert small.sample_ids(text, rng, 1) == [small._byte_ids[byte] for byte in text.encode()]
    lengths = [len(small.sample_ids(text, rng, p)) for p in (0, 0.1, 0.3, 0.6, 1)]
    assert lengths == sorted(lengths) and len(set(lengths)) == 5
    drawn = [small.sample_ids(text, random.Random(seed), 0.2) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {small.decode(ids) for ids in drawn} == {text}
    for wrong in (-0.1, 1.1, True, "a", float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            small.sample_ids(text, rng, wrong)


def test_cuts_with_dropout_come_as_often_as_in_hugging_face(tmp_path):
    merges = [(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd"), (b"b", b"c"), (b"a", b"bc")]
    ours, n, p = BPETokenizer(merges), 4000, 0.4
    ours.save(tmp_path / "tokenizer.json")
    theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.model.dropout = p
    rng = random.Random(0)
    drawn = Counter(tuple(ours.sample_ids("abcd", rng, p)) for _ in range(n))
    expected = Counter(tuple(theirs.encode("abcd").ids) for _ in range(n))
    assert set(drawn) == set(expected) and len(drawn) > 5
    for cut, times in expected.items():
        assert abs(drawn[cut] - times) < 6 * times**0.5 + 12


def test_a_space_is_put_before_a_text_as_in_hugging_face(wiki, tmp_path):
    texts = [line for line in wiki[:30_000].splitlines() if line]
    ours = BPETokenizer.train(texts, 500, special_tokens=[END], add_prefix_space=True)
    theirs = hf.ByteLevelBPETokenizer(add_prefix_space=True)
    theirs.train_from_iterator(texts, 499, min_frequency=0, show_progress=False)
    merges = json.loads(theirs.to_str())["model"]["merges"]
    assert ours.merges == [tuple(map(as_bytes, merge)) for merge in merges]
    ours.save(tmp_path / "tokenizer.json")
    again, file = load_tokenizer(tmp_path), str(tmp_path / "tokenizer.json")
    theirs = hf.Tokenizer.from_file(file)
    rng = random.Random(0)
    for _ in range(200):
        text = "".join(rng.choices(["the", " ", "\n", "é", "🦊", END, "fox", "  "], k=6))
        found = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, allowed_special="all") == found.ids
        assert again.encode(text, allowed_special="all") == found.ids
        assert ours.encode_with_offsets(text, allowed_special="all") == (found.ids, found.offsets)
    assert ours.encode("the fox") == ours.encode(" the fox") == ours.sample_ids("the fox", rng, 0)
    assert ours.encode("") == [] and ours.decode(ours.encode("fox")) == " fox"
    lines = ["the fox\n", "a fox\n"] * 5000  # more than is held at a time
    assert list(ours.encode_stream(lines)) == ours.encode("".join(lines))
    for name in ("a.tiktoken", "folder"):
        with pytest.raises(ValueError, match=r"save this tokenizer as|cannot be written"):
            ours.save(tmp_path / name)
    with pytest.raises(ValueError, match="add_prefix_space cannot be written"):
        BPETokenizer(ours.merges, pattern="gpt4", add_prefix_space=True).save(tmp_path / "b.json")
