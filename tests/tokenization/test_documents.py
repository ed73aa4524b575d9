"""Documents become ids: those of the whole text, however it is cut, by however many processes."""

import json
import multiprocessing
import random
from types import SimpleNamespace

import numpy as np
import pytest
import regex
import tiktoken

from llmlib.cli.prepare import encode_documents, prepare
from llmlib.data import corpora
from llmlib.data.parallel import parallel_map
from llmlib.tokenization import documents, learning
from llmlib.tokenization.documents import DocumentEncoder, batches_of, encode_parts
from llmlib.tokenization.engines import CLASSES, SETTLED, rust_classes, split_alike
from llmlib.tokenization.folders import KINDS, load_tokenizer
from llmlib.tokenization.safe_cuts import SAFE, may_cut, safe_pieces
from llmlib.tokenization.splitting import PATTERNS
from llmlib.tokenization.tiktoken_bpe import fastest

ALPHABET = ["the ", "cat ", "Säw", "'s", "12", "3 ", "\n", "\n\n", "  ", ". ", "🦊", "漢字", "，"]
ALPHABET += ["<|endoftext|>", "<|unk|>", "\t", "\x1c", "\u00a0", "e\u0301 "]


def hostile(seed, length=400):
    rng = random.Random(seed)
    return "".join(rng.choices(ALPHABET, k=length))


def apply(item):
    """Call an encoder that was sent together with its batch."""
    return item[0](item[1])


@pytest.fixture(scope="module")
def tokenizers():
    text = hostile(0, 3000) + corpora.load("stories")[:20_000]
    made = {kind: KINDS[kind].from_text(text, 700) for kind in KINDS}
    return made | {"gpt2": load_tokenizer("gpt2")}


def whole(tokenizer, texts):
    """The ids as the simplest program makes them."""
    end, ids = tokenizer.eot_token, []
    for text in texts:
        ids += [*tokenizer.encode(text, disallowed_special=()), end]
    return ids


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
@pytest.mark.parametrize("size", [1, 40, 10**6])
def test_cut_into_pieces_and_batches_the_ids_are_those_of_the_whole_text(
    tokenizers, kind, size, monkeypatch
):
    monkeypatch.setattr(documents, "BATCH", size)
    tokenizer, rng = tokenizers[kind], random.Random(size)
    texts = [hostile(seed, rng.randrange(1, 200)) for seed in range(12)]
    parts = [(n % 3 == 0, n, half) for n, t in enumerate(texts) for half in (t[:7], t[7:])]
    found = {False: [], True: []}
    totals = {"n_documents": 0, "n_tokens": 0, "n_bytes": 0}
    for part, ids, counts in encode_parts(tokenizer, parts, 1):
        found[part] += ids.tolist()
        totals = {name: totals[name] + counts[name] for name in totals}
    for part in (False, True):
        assert found[part] == whole(
            tokenizer, [t for n, t in enumerate(texts) if (n % 3 == 0) == part]
        )
    assert totals["n_documents"] == 12
    assert totals["n_tokens"] == sum(map(len, found.values()))
    assert totals["n_bytes"] == sum(len(t.encode()) for t in texts)


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "char", "word", "wordpiece"])
def test_many_processes_give_the_ids_of_one(tokenizers, kind, monkeypatch):
    monkeypatch.setattr(documents, "BATCH", 500)
    texts = [hostile(seed, 300) for seed in range(9)]
    parts = [(0, n, text) for n, text in enumerate(texts)]
    one, many = (list(encode_parts(tokenizers[kind], parts, n)) for n in (1, 3))
    assert np.array_equal(*(np.concatenate([ids for _, ids, _ in found]) for found in (one, many)))
    assert [counts for *_, counts in one] == [counts for *_, counts in many]
    assert len(one) > 8, "several batches"


@pytest.mark.slow
@pytest.mark.skipif("spawn" not in multiprocessing.get_all_start_methods(), reason="no spawn here")
def test_every_tokenizer_can_be_sent_to_a_process_that_is_spawned(tokenizers):
    items = [(DocumentEncoder(t), (0, [(hostile(3), True)])) for t in tokenizers.values()]
    spawned = list(parallel_map(apply, items, 2, method="spawn"))
    for (_, ids, counts), (_, expected, numbers) in zip(spawned, map(apply, items), strict=True):
        assert np.array_equal(ids, expected) and counts == numbers


@pytest.mark.parametrize(
    "text", ["x" * 5000, "漢字，" * 3000, "word\n" * 3000, " " * 4000, "a. " * 9]
)
def test_pieces_join_and_are_short_wherever_that_is_safe(text):
    halves = (text[start : start + 333] for start in range(0, len(text), 333))
    pieces = list(safe_pieces(halves, None, 500))
    assert "".join(pieces) == text
    assert text.strip("x ") == "" or max(map(len, pieces)) <= 1000


SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim_offsets": False}
MARKED = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
FLAGS = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
QWEN = SPLIT | {"pattern": {"Regex": r"\p{N}| ?[^\s\p{N}]+|\s+(?!\S)|\s+"}}
PLAIN = BYTES | {"use_regex": False}
GPT2 = SPLIT | {"pattern": {"Regex": PATTERNS["gpt2"]}}


def after_digits(*steps):
    digits = {"type": "Digits", "individual_digits": True}
    return {"type": "Sequence", "pretokenizers": [digits, *steps]}


VARIANTS = {  # of a tokenizer.json: what changes, and whether a text may be cut for it
    "bytes": ({}, True),
    "nfc": ({"normalizer": {"type": "NFC"}}, True),
    "digits": ({"pre_tokenizer": after_digits(BYTES)}, True),
    "prefix": ({"pre_tokenizer": BYTES | {"add_prefix_space": True}}, False),
    "digits and": ({"pre_tokenizer": after_digits(BYTES | {"add_prefix_space": True})}, False),
    "digits and an unknown pattern": ({"pre_tokenizer": after_digits(QWEN, PLAIN)}, False),
    "digits and a pattern": ({"pre_tokenizer": after_digits(GPT2, PLAIN)}, True),
    "what is between": ({"pre_tokenizer": after_digits(GPT2 | {"invert": True}, PLAIN)}, False),
    "joined": ({"pre_tokenizer": after_digits(
        GPT2 | {"behavior": "MergedWithPrevious"}, PLAIN)}, False),
    "no regex": ({"pre_tokenizer": BYTES | {"use_regex": False}}, False),
    "lowercase": ({"normalizer": {"type": "Lowercase"}}, False),
    "unknown pattern": ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        QWEN, BYTES | {"use_regex": False}]}}, False),
    "added": ({"added_tokens": [FLAGS | {"id": 300, "content": "the cat "},
                                FLAGS | {"id": 301, "content": "  "}]}, True),
    "added in another form": ({"normalizer": {"type": "NFC"}, "added_tokens": [
        FLAGS | {"id": 300, "content": "\u00e9 the", "normalized": True}]}, False),
}  # fmt: skip
VARIANTS |= {
    f"added with {flag}": (
        {"added_tokens": [FLAGS | {"id": 300, "content": "e cat", flag: True}]}, False)
    for flag in ("lstrip", "rstrip", "single_word")
}  # fmt: skip
VARIANTS |= {
    f"pattern {n}": ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        SPLIT | {"pattern": {"Regex": source}}, BYTES | {"use_regex": False}]}}, True)
    for n, source in enumerate(sorted(SAFE - {"gpt2", "gpt4"}))
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_tokenizer_json_is_cut_for_only_where_that_changes_no_id(tmp_path, name, monkeypatch):
    changes, expected = VARIANTS[name]
    path = tmp_path / "tokenizer.json"
    KINDS["bpe"].from_text(hostile(1), 300).save(path)
    content = json.loads(path.read_text())
    added = content["added_tokens"] + changes.pop("added_tokens", [])
    path.write_text(json.dumps(content | changes | {"added_tokens": added}))
    tokenizer = load_tokenizer(path)
    assert may_cut(tokenizer) == expected
    monkeypatch.setattr(documents, "BATCH", 30)
    for seed in range(20):
        parts = [(0, 0, hostile(seed, 60))]
        ids = np.concatenate([ids for _, ids, _ in encode_parts(tokenizer, parts, 1)])
        assert ids.tolist() == whole(tokenizer, [hostile(seed, 60)])


def test_batches_are_full_though_the_parts_alternate(tokenizers, monkeypatch):
    monkeypatch.setattr(documents, "BATCH", 1000)
    parts = [(n % 2, n, "some words") for n in range(1000)]
    batches = list(batches_of(parts, tokenizers["char"]))
    assert len(batches) == 10 and {part for part, _ in batches} == {0, 1}
    batches = batches_of([(0, 0, "some words " * 1000)], tokenizers["char"])
    assert max(len(text) for _, pieces in batches for text, _ in pieces) < 2000, "in pieces"


def test_no_document_and_an_empty_one_are_encoded(tokenizers):
    ids, counts = encode_documents(tokenizers["gpt2"], [""])
    assert ids.tolist() == [50256] and counts["n_documents"] == 1 and counts["n_bytes"] == 0


def test_of_a_long_text_pieces_that_are_evenly_spread_are_learned_from(monkeypatch):
    taught = SimpleNamespace(from_text=lambda pieces, *_, **__: [*pieces])
    monkeypatch.setattr(learning, "KINDS", dict.fromkeys(["bpe", "char"], taught))
    texts = [(n, f"text {n}") for n in range(10)]
    assert learning.learn("bpe", texts, 400_000_000) == ["text 0", "\ntext 4", "\ntext 8"]
    assert len(learning.learn("char", texts, 400_000_000)) == 10, "it has to see all"


def test_a_tokenizer_learns_from_what_it_would_learn_of_the_whole_text(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "BATCH", 300)
    text = hostile(5, 4000).replace("<|endoftext|>", "")
    (tmp_path / "t.txt").write_text(text)
    for kind in ("char", "word", "bpe"):
        prepare(str(tmp_path / "t.txt"), tmp_path / kind, tokenizer=kind, max_vocab=400)
        found = load_tokenizer(tmp_path / kind / "tokenizer.json")
        ids = np.load(tmp_path / kind / "train.npy")[:-1].tolist()
        if kind != "word":
            text = found.decode(ids)
            assert KINDS[kind].from_text(text, 400).encode("the cat") == found.encode("the cat")
            assert KINDS[kind].from_text(text, 400).tokens == found.tokens


# tiktoken at work. --------------------------------------------------------------------------------

NEW = "\ua7ce\u208f\U000323b0\U00031350"  # letters of Unicode 17, 17, 17 and 15


@pytest.mark.slow
def test_texts_with_a_character_that_one_engine_does_not_know_are_told_from_others():
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    different = set()
    for name, encoding in zip(CLASSES, rust_classes()):
        rust = set(bytes(encoding.encode_ordinary("".join(every))).decode())
        different |= rust ^ set(regex.findall(name, "".join(every)))
    assert different, "or this module can go"
    sample = [*random.Random(0).sample(every, 3000), *random.Random(0).sample([*different], 500)]
    assert {c for c in sample if not split_alike(c)} == different & {*sample}
    settled = {c for c in every if not SETTLED.match(c)}
    assert not settled & different and len(settled) > 30_000
    assert split_alike("the cat säw 漢字 🦊 \u0e01\u0905") and not split_alike(f"a cat {NEW[0]}")


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_contractions_ignore_case_alike(pattern):
    contraction = PATTERNS[pattern].split(r"| ?")[0].split("|[^")[0]
    ranks = {bytes([byte]): byte for byte in range(256)}
    rust = tiktoken.Encoding("c", pat_str=contraction, mergeable_ranks=ranks, special_tokens={})
    for form in ("'{}", "'{}l", "'l{}", "'v{}", "'{}e"):
        text = " ".join(form.format(chr(code)) for code in range(0x2200))  # all of them: alike, too
        found = regex.findall(contraction, text)
        assert bytes(rust.encode_ordinary(text)).decode() == "".join(found) and found


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_with_tiktoken_at_work_a_bpe_of_our_own_gives_its_own_ids(pattern, monkeypatch):
    text = hostile(2, 3000) + f" ab{NEW[0]}cd" * 400  # merged across the letter that is new
    own = KINDS["bpe"].from_text(text, 600, pattern=pattern)
    monkeypatch.setattr(documents, "BATCH", 200)
    monkeypatch.setattr(documents, "FEW", 1)
    texts = [hostile(seed, 300) + f" ab{NEW[seed % 4]}cd" * (seed % 3) for seed in range(12)]
    parts = [(0, n, text) for n, text in enumerate(texts)]
    seen = []
    monkeypatch.setattr(documents, "fastest", lambda t: seen.append(quick := fastest(t)) or quick)
    found = np.concatenate([ids for _, ids, _ in encode_parts(own, parts, 1)])
    assert type(seen[0]).__name__ == "TiktokenTokenizer"
    assert found.tolist() == whole(own, texts)
