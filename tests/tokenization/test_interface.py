"""What every tokenizer offers beyond encode and decode: equal to tiktoken and Hugging Face."""

import copy
import itertools
import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers as hf
import torch
from tiktoken_ext import openai_public

from llmlib import stories
from llmlib.files import home
from llmlib.generation.streaming import TextStream
from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.base import END_OF_TEXT, UNKNOWN
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.gpt2 import GPT2_PATTERN, gpt2_encoding
from llmlib.tokenization.huggingface import read_content
from llmlib.tokenization.interface import common_length
from llmlib.tokenization.pipeline import PipelineTokenizer
from llmlib.tokenization.splitting import PATTERNS
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer, fastest, gpt2_tokenizer
from llmlib.tokenization.unigram import UnigramTokenizer
from llmlib.tokenization.wordpiece import WordPieceTokenizer
from llmlib.tokenization.words import CharTokenizer, WordTokenizer

EXTRA = ' naïve 🦊 狐狸 "Oh!" (he) said… \ufffd é é\n\n  x'
TEXT = "\n".join(story.text for story in stories.tell_many(60, seed=1)) + EXTRA
NANO = home() / "gpt2" / "nano"


def huggingface_content():
    """A byte-level BPE that needs more than a BPETokenizer: it joins accents first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        MAKERS["bpe"]().save(path)
        return read_content(path) | {"normalizer": {"type": "NFC"}}


MAKERS = {
    "word": lambda: WordTokenizer.from_text(TEXT),
    "char": lambda: CharTokenizer.from_text(TEXT),
    "bpe": lambda: BPETokenizer.train(TEXT, 400, special_tokens=[END_OF_TEXT]),
    "wordpiece": lambda: WordPieceTokenizer.train(TEXT, 250),
    "unigram": lambda: UnigramTokenizer.train(TEXT, 450),
    "tiktoken": lambda: TiktokenTokenizer.load(NANO),
    "pipeline": lambda: PipelineTokenizer(huggingface_content()),
}
MADE = {}
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@pytest.fixture(params=MAKERS)
def tokenizer(request):
    name = request.param
    return MADE[name] if name in MADE else MADE.setdefault(name, MAKERS[name]())


def in_tiktoken(tokenizer):
    return tiktoken.Encoding(
        "ours",
        pat_str=PATTERNS[tokenizer.pattern],
        mergeable_ranks=dict(tokenizer._ids),
        special_tokens=tokenizer.special_tokens,
    )


# Streaming (T16)


def streamed(tokenizer, prompt, new):
    stream = TextStream(tokenizer, prompt)
    return "".join([*map(stream.add, new), stream.rest()])


def without_the_prompt(tokenizer, prompt, new):
    """The text of all ids behind what the prompt settles: what was promised."""
    text, before = tokenizer.decode([*prompt, *new]), tokenizer.decode(prompt)
    if before.endswith(REPLACEMENT):
        before = tokenizer.settled(prompt)
    return text[common_length(before, text) :]


def check_streams(tokenizer, n, seed):
    rng = random.Random(seed)
    marks = [i for i in map(tokenizer.token_to_id, '.,!"()?…') if i is not None]
    inside = [i for i, t in enumerate(getattr(tokenizer, "tokens", ())) if str(t).startswith("##")]
    halves = [i for i in range(256) if isinstance(tokenizer, UnigramTokenizer)]
    pools = [range(tokenizer.vocab_size), marks, inside or marks, halves or marks]
    for _ in range(n):
        ids = [rng.choice(rng.choice(pools)) for _ in range(rng.randint(0, 12))]
        cut = rng.randint(0, len(ids))
        expected = without_the_prompt(tokenizer, ids[:cut], ids[cut:])
        assert streamed(tokenizer, ids[:cut], ids[cut:]) == expected, (ids[:cut], ids[cut:])
        settled = tokenizer.settled(ids[:cut])
        assert tokenizer.decode(ids).startswith(settled), "what is settled has changed"


def test_streamed_pieces_are_the_decoded_text(tokenizer):
    check_streams(tokenizer, 300, seed=0)


@pytest.mark.slow
def test_five_thousand_streams_of_random_ids_are_the_decoded_text(tokenizer):
    check_streams(tokenizer, 5000, seed=1)


def test_characters_of_any_text_are_streamed_whole(tokenizer):
    """Cut at any place, the prompt's text and the streamed text are the text."""
    ids = tokenizer.encode(EXTRA.replace(REPLACEMENT, ""), disallowed_special=())
    for cut in range(len(ids) + 1):
        prompt = tokenizer.decode(ids[:cut])
        prompt = tokenizer.settled(ids[:cut]) if prompt.endswith(REPLACEMENT) else prompt
        new = streamed(tokenizer, ids[:cut], ids[cut:])
        assert prompt + new == tokenizer.decode(ids) and REPLACEMENT not in new


def test_a_prompt_that_ends_within_a_character_does_not_lose_it():
    for tokenizer in (gpt2_tokenizer(), gpt2_encoding(), BPETokenizer.load(NANO.parent)):
        prompt, last = [19567, 255, 19567], 109
        assert TextStream(tokenizer, prompt).add(last) == "ั"
        # one that is never completed is shown as what it is
        stream = TextStream(tokenizer, prompt)
        assert stream.add(64) + stream.rest() == REPLACEMENT + "a"


def test_what_cannot_change_any_more_is_shown_at_once():
    words = MADE.get("wordpiece") or MADE.setdefault("wordpiece", MAKERS["wordpiece"]())
    assert words.settled(words.encode("Mia said")) == "Mia said"
    assert words.settled(words.encode("Mia said.")) == "Mia said"  # .##a would be a word
    for text in ("Mia said.", "Mia \ufffd"):
        assert gpt2_tokenizer().settled(gpt2_tokenizer().encode(text)) == text


class OnlyDecodes:
    """A tokenizer of someone else, which shows no bytes."""

    def decode(self, ids):
        return gpt2_encoding().decode(ids)


def test_tokenizers_that_only_decode_are_streamed_too():
    ids = gpt2_encoding().encode("naïve 🦊 狐")
    for cut in range(len(ids)):
        prompt = OnlyDecodes().decode(ids[:cut]).rstrip(REPLACEMENT)
        assert prompt + streamed(OnlyDecodes(), ids[:cut], ids[cut:]) == "naïve 🦊 狐"


# Ids (A27, M5)


@pytest.mark.parametrize(
    "wrong",
    [1.0, 1.5, 1j, float("nan"), 10**5000, True, None, "1", b"1", [1], np.True_, np.float32(1)],
    ids=lambda value: f"{type(value).__name__}",
)
def test_only_whole_numbers_are_ids(tokenizer, wrong):
    calls = (tokenizer.decode, tokenizer.decode_bytes, tokenizer.settled)
    for call in calls:
        with pytest.raises(ValueError, match="not in the vocabulary: ids are 0 to"):
            call([0, wrong])
    with pytest.raises(KeyError):
        tokenizer.decode_single_token_bytes(wrong)


def test_ids_come_from_numpy_and_torch_as_numbers_too(tokenizer):
    text = tokenizer.decode([0, 1, 2])
    for forms in (
        [np.int64(0), np.uint8(1), 2],
        [torch.tensor(0), 1, torch.tensor(2, dtype=torch.int32)],
        np.array([0, 1, 2], dtype=np.uint16),
        torch.arange(3, dtype=torch.uint8),
        range(3),
    ):
        assert tokenizer.decode(forms) == text
    for forms in (
        np.array([0.0, 1.0]),
        torch.tensor([True]),
        torch.zeros(2),
        [torch.tensor(1.0)],
        [torch.tensor(True)],
        [torch.tensor([1, 2])],
        torch.zeros(1, 2, dtype=torch.int64),
    ):
        with pytest.raises(ValueError, match="ids are 0 to"):
            tokenizer.decode(forms)
    for forms in (5, torch.tensor(5), "01", b"01", {0: 1}, None):
        with pytest.raises(TypeError, match="list, an array or a tensor, not"):
            tokenizer.decode(forms)
    assert tokenizer.decode(np.array([])) == tokenizer.decode(torch.zeros(0)) == ""


def test_ids_that_no_token_has_are_known(tokenizer):
    size = tokenizer.vocab_size
    assert tokenizer.missing_ids() == [] and tokenizer.missing_ids(size + 2) == [size, size + 1]
    with_gaps = BPETokenizer([(b"a", b"b")], {END_OF_TEXT: 300})
    assert with_gaps.missing_ids() == [*range(257, 300)]
    assert with_gaps.missing_ids(302) == [*range(257, 300), 301]
    assert with_gaps.missing_ids(258) == [257] and with_gaps.max_token_value == 300


# Copies and threads (A30)


def test_copies_and_pickles_are_the_same_tokenizer_without_its_memory(tokenizer):
    ids = tokenizer.encode(TEXT)  # fills what is remembered
    data = pickle.dumps(tokenizer)
    for other in (pickle.loads(data), copy.deepcopy(tokenizer), copy.copy(tokenizer)):
        assert type(other) is type(tokenizer) and other.encode(TEXT) == ids
        assert other.decode(ids) == tokenizer.decode(ids)
    named = copy.copy(tokenizer)
    if named is not tokenizer:
        named.end_token = UNKNOWN
        assert tokenizer.end_token == END_OF_TEXT
        assert pickle.loads(pickle.dumps(named)).end_token == UNKNOWN
    known = getattr(pickle.loads(data), "_known", getattr(pickle.loads(data), "pieces", ()))
    assert len(known) == 0


@pytest.mark.slow
def test_gpt2s_tokenizer_is_unpickled_where_tiktoken_has_nothing(tmp_path):
    """Pickled by its name alone, it would be downloaded."""
    (tmp_path / "gpt2.pickle").write_bytes(pickle.dumps([gpt2_tokenizer(), gpt2_tokenizer()]))
    program = """
import pickle, socket, sys
def refuse(*_, **__): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
first, second = pickle.load(open(sys.argv[1], "rb"))
print(first.encode("Every effort moves you"), first is second)
"""
    environment = os.environ | {"TIKTOKEN_CACHE_DIR": str(tmp_path / "empty")}
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "gpt2.pickle"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout.strip() == "[6109, 3626, 6100, 345] True", run.stderr


@pytest.mark.slow
def test_threads_that_all_come_first_get_one_encoding(monkeypatch):
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "untouched")
    found, barrier = [], threading.Barrier(8)

    def first():
        barrier.wait()
        found.append(gpt2_encoding.__wrapped__())  # past the cache

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1
    assert os.environ["TIKTOKEN_CACHE_DIR"] == "untouched"
    assert tiktoken.get_encoding("gpt2") is found[0]


def test_gpt2s_pattern_is_tiktokens():
    assert openai_public.r50k_pat_str == GPT2_PATTERN


@pytest.mark.parametrize("wrong", [b"Mia", None, 3, ["Mia"]])
def test_only_strings_are_encoded_by_every_door(tokenizer, wrong):
    doors = [tokenizer.encode, tokenizer.encode_ordinary, tokenizer.encode_with_offsets]
    for encode in [*doors, lambda text: tokenizer.encode_words([text])]:
        with pytest.raises(TypeError, match="takes a string, not"):
            encode(wrong)


def test_half_characters_are_joined_or_replaced_by_every_tokenizer(tokenizer):
    assert tokenizer.encode("\ud83e\udd8a") == tokenizer.encode("🦊")
    assert tokenizer.encode_ordinary("a\ud83e") == tokenizer.encode("a\ufffd")


def test_one_name_is_no_set_of_names(tokenizer):
    for wrong in ({"allowed_special": END_OF_TEXT}, {"disallowed_special": "none"}):
        with pytest.raises(TypeError, match='give a set of them, or "all"'):
            tokenizer.encode("Mia", **wrong)


# What tiktoken has


@pytest.fixture(scope="module")
def twins():
    """A BPE with special tokens, and tiktoken's of the same vocabulary."""
    special = [END_OF_TEXT, "<|a|>", "<|b|>"]
    ours = BPETokenizer.train(TEXT, 400, pattern="gpt4", special_tokens=special)
    return ours, in_tiktoken(ours)


def test_names_and_results_are_tiktokens(twins):
    ours, theirs = twins
    for name in ("n_vocab", "max_token_value", "eot_token", "special_tokens_set"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.token_byte_values() == theirs.token_byte_values()
    for i in range(ours.n_vocab):
        assert ours.decode_single_token_bytes(i) == theirs.decode_single_token_bytes(i)
        assert ours.is_special_token(i) == theirs.is_special_token(i)
        assert ours.encode_single_token(ours.decode_single_token_bytes(i)) == i
    assert ours.encode_single_token(" the") == theirs.encode_single_token(" the")
    assert ours.encode_single_token(END_OF_TEXT) == ours.encode_single_token(END_OF_TEXT.encode())
    texts = ["hello world", "", "naïve 🦊"]
    ids = ours.encode_batch(texts)
    assert ids == theirs.encode_batch(texts)
    assert ours.encode_ordinary_batch(texts) == theirs.encode_ordinary_batch(texts)
    assert ours.decode_batch(ids) == theirs.decode_batch(ids) == texts
    assert ours.decode_bytes_batch(ids) == theirs.decode_bytes_batch(ids)
    assert ours.decode_tokens_bytes(ids[2]) == theirs.decode_tokens_bytes(ids[2])
    for errors in ("replace", "ignore", "backslashreplace"):
        assert ours.decode(ids[2][:-1], errors) == theirs.decode(ids[2][:-1], errors)


@pytest.mark.parametrize("name", MAKERS)
def test_an_unknown_single_token_is_a_key_error_as_in_tiktoken(name):
    tokenizer = MADE[name] if name in MADE else MADE.setdefault(name, MAKERS[name]())
    for wrong in ("xyzzy", b"\xff\xfe", "", "\ud800", b"<|no|>"):
        with pytest.raises(KeyError):
            tokenizer.encode_single_token(wrong)
    with pytest.raises(KeyError):
        gpt2_encoding().encode_single_token("xyzzyx")
    for wrong in (-1, tokenizer.vocab_size, True, 1.0):
        with pytest.raises(KeyError):
            tokenizer.decode_single_token_bytes(wrong)
    end = tokenizer.eot_token
    assert tokenizer.encode_single_token(END_OF_TEXT) == end and tokenizer.is_special_token(end)
    assert tokenizer.decode_single_token_bytes(end) == END_OF_TEXT.encode()


def test_which_special_tokens_are_allowed_is_as_in_tiktoken(twins):
    """Also those that are allowed and refused at once, or are no special tokens."""
    ours, theirs = twins
    rng = random.Random(0)
    names = [END_OF_TEXT, "<|a|>", "<|b|>", "no", "the"]
    for _ in range(400):
        text = "".join(rng.choices(["<|a|>", END_OF_TEXT, "<|b|>", "the ", "no ", "<|"], k=4))
        allowed, refused = (
            rng.choice(["all", set(rng.sample(names, rng.randint(0, 3)))]) for _ in range(2)
        )
        outcomes = []
        for encode in (ours.encode, theirs.encode):
            try:
                outcomes.append(encode(text, allowed_special=allowed, disallowed_special=refused))
            except ValueError:
                outcomes.append("refused")
        assert outcomes[0] == outcomes[1], (text, allowed, refused)


def test_decoded_offsets_are_tiktokens(twins):
    ours, theirs = twins
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices(["the", " 🦊", "狐狸", "é", END_OF_TEXT, " ", "ந", "\n"], k=6))
        ids = ours.encode(text, allowed_special="all")
        assert ours.decode_with_offsets(ids) == theirs.decode_with_offsets(ids)
    with pytest.raises(UnicodeDecodeError):
        ours.decode_with_offsets(ours.encode("🦊")[:1])


def test_decoded_offsets_are_where_the_text_of_the_ids_before_ends(tokenizer):
    ids = tokenizer.encode('Mia said: "Oh!" She was a naïve 狐狸.', disallowed_special=())
    text, offsets = tokenizer.decode_with_offsets(ids)
    assert text == tokenizer.decode(ids)
    before = [
        common_length(text, tokenizer.decode_bytes(ids[:n]).decode(errors="ignore"))
        for n in range(len(ids))
    ]
    assert offsets == before


# Offsets as in Hugging Face


def hf_offsets(reference, text):
    found = reference.encode(text, add_special_tokens=False)
    return found.ids, found.offsets


def random_texts(n, seed, signs):
    rng = random.Random(seed)
    return ["".join(rng.choices(signs, k=rng.randint(0, 12))) for _ in range(n)]


SIGNS = ["the", "fox", " ", "  ", "\n", "é", "e\u0301", "🦊", "狐", ".", '"', "naïve", "zq", "#"]


def test_offsets_of_a_bpe_are_hugging_faces(tmp_path):
    ours = MAKERS["bpe"]()
    ours.save(tmp_path / "tokenizer.json")
    theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in random_texts(300, 0, [*SIGNS, END_OF_TEXT]):
        found = ours.encode_with_offsets(text, allowed_special="all")
        assert found == hf_offsets(theirs, text)
        assert found[0] == ours.encode(text, allowed_special="all")


def test_offsets_of_wordpiece_are_hugging_faces():
    ours = MAKERS["wordpiece"]()
    theirs = hf.BertWordPieceTokenizer(
        ours.ids, unk_token=UNKNOWN, sep_token=UNKNOWN, cls_token=UNKNOWN, lowercase=False
    )
    for text in random_texts(300, 1, SIGNS):
        assert ours.encode_with_offsets(text) == hf_offsets(theirs, text)


def test_offsets_cover_what_each_token_was_made_from(tokenizer):
    text = 'Mia said:  "Oh! zq" She was a naïve 🦊 狐狸.' + END_OF_TEXT + "Tom"
    ids, spans = tokenizer.encode_with_offsets(text, allowed_special="all")
    assert ids == tokenizer.encode(text, allowed_special="all") and len(ids) == len(spans)
    assert all(0 <= start < stop <= len(text) for start, stop in spans)
    starts = [start for start, _ in spans]
    assert starts == sorted(starts)
    assert text[slice(*spans[ids.index(tokenizer.eot_token)])] == END_OF_TEXT
    for i, (start, stop) in zip(ids, spans):
        spelled = tokenizer.spelling(i).decode(errors="ignore").replace(REPLACEMENT, "").strip()
        assert UNKNOWN in spelled or spelled in text[start:stop]
    with pytest.raises(ValueError, match="allowed_special"):
        tokenizer.encode_with_offsets(text)


def test_words_that_are_split_already_are_encoded_apart(tokenizer):
    words = ["Mia", " said", "hello", "the", "re"]
    ids = tokenizer.encode_words(words)
    assert ids == list(itertools.chain.from_iterable(map(tokenizer.encode, words)))
    with pytest.raises(TypeError, match="list of strings"):
        tokenizer.encode_words("Mia said")


def test_pre_split_input_is_hugging_faces(tmp_path):
    ours = MAKERS["bpe"]()
    ours.save(tmp_path / "tokenizer.json")
    theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for words in (["the", " fox", "is"], ["th", "e"], [], ["naïve 🦊", "x\n\n y"]):
        assert ours.encode_words(words) == theirs.encode(words, is_pretokenized=True).ids


# tiktoken at work, and what is too much for it


def test_what_was_learned_is_encoded_by_tiktoken_with_the_same_ids():
    text = TEXT + END_OF_TEXT + "".join(random_texts(50, 3, SIGNS))
    for pattern in PATTERNS:
        for vocab_size in (257, 300, 600):
            ours = BPETokenizer.train(
                TEXT, vocab_size, pattern=pattern, special_tokens=[END_OF_TEXT]
            )
            fast = fastest(ours)
            assert isinstance(fast, TiktokenTokenizer)
            assert fast.special_tokens == ours.special_tokens
            assert fast.encode(text, allowed_special="all") == ours.encode(
                text, allowed_special="all"
            )
    assert fastest(fast) is fast
    assert type(fastest(BPETokenizer.load(NANO))) is TiktokenTokenizer


def test_tiktoken_is_left_out_where_it_would_give_other_ids():
    crossed = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")]  # never made: a|bc comes first
    swapped = dict(BPETokenizer([(b"a", b"b"), (b"c", b"d")])._ids)
    swapped[b"ab"], swapped[b"cd"] = swapped[b"cd"], swapped[b"ab"]
    for other in (
        BPETokenizer(crossed),
        BPETokenizer([(b"a", b"b"), (b"c", b"d")], vocabulary=swapped),
        BPETokenizer([(b"a", b"b")], pattern=r"[a-z]+|\s|\S"),
        BPETokenizer([(b"a", b"b")], add_prefix_space=True),
        BPETokenizer([(b"a", b"b")], added_tokens=[AddedToken("ab", 256, special=False)]),
        MAKERS["unigram"](),
    ):
        assert fastest(other) is other


@pytest.mark.slow
@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0", " \n"])
def test_a_million_spaces_are_encoded_all_the_same(space):
    """tiktoken runs out of stack."""
    text = "a chapter" + space * (1_000_001 // len(space)) + "another"
    slow = MAKERS["bpe"]()
    fast = fastest(slow)
    ids = fast.encode(text)
    assert ids == slow.encode(text) and fast.decode(ids) == text
    assert fast.encode(text + END_OF_TEXT, allowed_special="all") == [*ids, fast.eot_token]


@pytest.mark.slow
def test_gpt2_takes_a_million_spaces():
    text = "a chapter" + " " * 1_000_001 + "another"
    ids = gpt2_tokenizer().encode(text)
    assert gpt2_tokenizer().decode(ids) == text
    assert ids == [*gpt2_encoding().encode("a chapter"), *[220] * 1_000_000, 1194]


def test_any_bytes_are_encoded_as_in_tiktoken(twins):
    ours, theirs = twins
    rng = random.Random(0)
    parts = [b"the ", b" ", b"\n", "é".encode(), "🦊".encode(), b"\xff", b"\x80", b"\xf0\x9f", b"x"]
    for _ in range(500):
        data = b"".join(rng.choices(parts, k=rng.randint(0, 6)))
        ids = ours.encode_bytes(data)
        assert ids == theirs._encode_bytes(data), data
        assert ours.decode_bytes(ids) == data
    assert fastest(ours).encode_bytes(b"the \xff") == ours.encode_bytes(b"the \xff")
    blank = BPETokenizer([(b"\n", b" "), (b" ", b"\xff")], pattern="gpt4")
    for data in (b"a\n \xff", b"\n \n \xe2\x82", b"\n\n  \xff"):
        assert blank.encode_bytes(data) == in_tiktoken(blank)._encode_bytes(data)
