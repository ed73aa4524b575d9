"""Files of other programs: read as those read them, or refused with the feature's name."""

import json
import random
import shutil
import time
from itertools import pairwise

import pytest
import regex
import tiktoken
import tokenizer_fuzz
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib import checks
from llmlib.checks import FileError
from llmlib.files import shipped
from llmlib.tokenization import patterns
from llmlib.tokenization.added_tokens import AddedToken
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.patterns import from_oniguruma, is_portable
from llmlib.tokenization.pipeline import PipelineTokenizer
from llmlib.tokenization.splitting import splitter
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer

TEXT = "a cat sat on the mat, and the cat's hat is flat. def f(x):\n    return 12345\n" * 9
END = "<|endoftext|>"
TEXTS = tokenizer_fuzz.TEXTS


@pytest.fixture(scope="module")
def small():
    return BPETokenizer.train(TEXT, 280, special_tokens=[END])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokenizer.json"


def write(path, tokenizer, **change):
    """Write a tokenizer.json, with parts of it changed."""
    tokenizer.save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"] |= change.pop("model", {})
    path.write_text(json.dumps(content | change), encoding="utf-8")


def assert_equal(path, texts=TEXTS):
    """Our reader gives Hugging Face's ids and texts, with special tokens and without."""
    refusals = tokenizer_fuzz.refusals.total()
    assert tokenizer_fuzz.difference(path, texts) == ""
    assert tokenizer_fuzz.refusals.total() == refusals, "it was refused"


# Added tokens (T3, T4, T8)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("flags", ["", "lstrip", "rstrip", "single_word", "normalized", "l+rstrip"])
def test_added_tokens_obey_their_flags(small, path, flags, special):
    small.save(path)
    theirs = hf.Tokenizer.from_file(str(path))
    names = {"l+rstrip": ["lstrip", "rstrip"], "": []}.get(flags, [flags])
    theirs.add_tokens([hf.AddedToken("<m>", special=special, **dict.fromkeys(names, True))])
    theirs.add_tokens([hf.AddedToken("    "), hf.AddedToken("cat", single_word=True)])
    theirs.save(str(path))
    texts = [
        "a <m> b",
        "<m>",
        "  <m>  <m>\n<m>x",
        "x<m>y z",
        "cat concat cat's    <m>",
        END + "<m>",
    ]
    for tokenizer in (load_tokenizer(path), BPETokenizer.load(path)):
        assert type(tokenizer) is BPETokenizer
        for text in texts:
            assert tokenizer.encode(text, allowed_special="all") == theirs.encode(text).ids
    assert_equal(path, texts)
    tokenizer.save(path)  # what is written keeps the flags
    assert_equal(path, texts)
    assert hf.Tokenizer.from_file(str(path)).encode("a <m> b").ids == theirs.encode("a <m> b").ids


@pytest.mark.parametrize("first", ["", "lstrip", "rstrip", "l+rstrip"])
@pytest.mark.parametrize("second", ["", "lstrip", "rstrip", "l+rstrip"])
def test_spaces_that_two_tokens_want_go_to_the_first_as_in_hugging_face(small, path, first, second):
    small.save(path)
    theirs = hf.Tokenizer.from_file(str(path))
    for token, flags in (("<m>", first), ("  ", second)):
        flags = {side + "strip": side in flags.replace("strip", "") for side in "lr"}
        theirs.add_tokens([hf.AddedToken(token, **flags)])
    theirs.save(str(path))
    ours = load_tokenizer(path)
    for text in (
        "<m>  a",
        "  <m>",
        "<m>   <m>",
        "a <m>    <m> b",
        "    ",
        " <m>\n   <m>",
        "<m> \n a",
    ):
        ids, spans = ours.encode_with_offsets(text)
        if (found := tokenizer_fuzz.answer(lambda text=text: theirs.encode(text))) is None:
            continue  # it panics where a token takes more than all of another
        assert ids == found.ids
        if all(one[1] <= other[0] for one, other in pairwise(found.offsets)):
            assert spans == found.offsets, text


def test_added_tokens_that_are_not_special_are_found_in_any_text(small, path):
    small.save(path)
    theirs = hf.Tokenizer.from_file(str(path))
    theirs.add_tokens(["    ", "def f"])
    theirs.save(str(path))
    ours, text = load_tokenizer(path), "def f():\n    return 1\n" * 4000
    assert "    " not in ours.special_tokens
    assert ours.encode(text) == ours.encode_ordinary(text) == theirs.encode(text).ids
    assert ours.token_to_id("    ") in ours.encode(text)
    assert list(ours.encode_stream(["def f():\n  ", "  return 1\n"] * 4000)) == ours.encode(text)


def test_an_added_token_may_be_one_that_merges_make(small, path):
    small.save(path)
    theirs = hf.Tokenizer.from_file(str(path))
    theirs.add_tokens([hf.AddedToken("cat")])
    assert small.token_to_id("cat") == theirs.token_to_id("cat")
    theirs.save(str(path))
    assert_equal(path, ["concatenate", "cat", "a cat's hat"])
    BPETokenizer.load(path).save(path)
    assert_equal(path, ["concatenate", "cat", "a cat's hat"])


def test_added_tokens_are_given_to_the_constructor_too(small):
    tokens = [AddedToken("<m>", 400, lstrip=True), AddedToken("  ", 401, special=False)]
    special = small.special_tokens | {"<m>": 400}
    own = BPETokenizer(small.merges, special, added_tokens=tokens)
    assert own.encode("a <m>", allowed_special="all") == [*small.encode("a"), 400]
    assert own.encode("a  b") == [*small.encode("a"), 401, *small.encode("b")]
    assert own.decode([400, 401]) == "<m>  "
    with pytest.raises(ValueError, match="contains the special token '<m>'"):
        own.encode("a <m>")
    with pytest.raises(ValueError, match="the same id"):
        BPETokenizer(small.merges, {"<m>": 65})


# What a tokenizer.json may ask for (T12, M4)

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
QWEN += r"|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(source, behavior="Isolated", kind="Regex", invert=False):
    about = {"pattern": {kind: source}, "behavior": behavior, "invert": invert}
    return {"type": "Split", **about}


def steps(*parts, name="pretokenizers"):
    return {"type": "Sequence", name: list(parts)}


FEATURES = {
    "a space in front": {"pre_tokenizer": LEVEL | {"use_regex": True, "add_prefix_space": True}},
    "a space in front of each piece": {
        "pre_tokenizer": steps(
            split(r"\p{N}{1,3}"), LEVEL | {"use_regex": True, "add_prefix_space": True}
        )
    },
    "no pattern": {"pre_tokenizer": LEVEL},
    "split by a string": {"pre_tokenizer": steps(split(" ", kind="String"), LEVEL)},
    "Qwen": {"pre_tokenizer": steps(split(QWEN), LEVEL)},
    "StarCoder": {
        "pre_tokenizer": steps(
            {"type": "Digits", "individual_digits": True}, LEVEL | {"use_regex": True}
        )
    },
    "two splits": {"pre_tokenizer": steps(split(r"\p{N}{1,3}"), split(QWEN), LEVEL)},
    "Command-R": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": steps(
            {"type": "Digits", "individual_digits": True}, LEVEL | {"use_regex": True}
        ),
    },
    "Falcon, which splits bytes": {
        "pre_tokenizer": steps(
            {"type": "Punctuation", "behavior": "Contiguous"},
            LEVEL | {"use_regex": True},
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        )
    },
    "DeepSeek Coder": {
        "pre_tokenizer": steps(
            split("[\\r\\n]"),
            split(r"\s?\p{L}+"),
            split(r"\s?\p{P}+"),
            split("[一-龥ࠀ-一가-퟿]+"),
            {"type": "Digits", "individual_digits": True},
            LEVEL,
        )
    },
    "a pattern with gaps": {"pre_tokenizer": steps(split(r"\p{L}+"), LEVEL)},
    "a pattern with groups": {"pre_tokenizer": steps(split(r"(\p{L})+|(\s)"), LEVEL)},
    "word characters": {"pre_tokenizer": steps(split(r"\w+|[^\w\s]+"), LEVEL)},
    "removed": {"pre_tokenizer": steps(split(r"\s", "Removed"), LEVEL)},
    "inverted": {"pre_tokenizer": steps(split(r"\s", "MergedWithNext", invert=True), LEVEL)},
    "punctuation": {"pre_tokenizer": steps({"type": "Punctuation"}, LEVEL)},
    **{form: {"normalizer": {"type": form}} for form in ("NFC", "NFD", "NFKC", "NFKD")},
    "accents": {
        "normalizer": steps(
            {"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}, name="normalizers"
        )
    },
    "strip": {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
    "replace": {"normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}},
    "prepend": {"normalizer": {"type": "Prepend", "prepend": "x"}},
    "merges before whole tokens": {"model": {"ignore_merges": False}},
    "no decoder": {"decoder": None},
    "template": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": END, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {END: {"id": END, "ids": [279], "tokens": [END]}},
        }
    },
}


@pytest.mark.parametrize("feature", FEATURES)
def test_what_a_tokenizer_json_asks_for_is_done(small, path, feature):
    write(path, small, **FEATURES[feature])
    assert_equal(path)
    ours = load_tokenizer(path)
    ours.save(path.with_name("again.json"))
    assert load_tokenizer(path.with_name("again.json")).encode("A  cat, 12") == ours.encode(
        "A  cat, 12"
    )


@pytest.mark.parametrize("feature", FEATURES)
def test_places_of_tokens_are_hugging_faces_or_refused(small, path, feature):
    write(path, small, **FEATURES[feature])
    ours, theirs = load_tokenizer(path), hf.Tokenizer.from_file(str(path))
    exact = 0
    for text in TEXTS:
        wanted = theirs.encode(text, add_special_tokens=False)
        try:
            found = ours.encode_with_offsets(text, allowed_special="all")
        except ValueError as error:
            assert "before it cuts it" in str(error)
            continue
        assert found == (wanted.ids, wanted.offsets)
        exact += 1
    assert exact


@pytest.mark.parametrize("unknown", ["bytes", "fused", "one by one", "dropped", "some bytes"])
@pytest.mark.parametrize("prepend", ["always", "first", "never"])
def test_a_vocabulary_of_characters_is_read_as_llama_2_has_it(path, unknown, prepend):
    theirs = hf.Tokenizer(hf.models.BPE(unk_token="<unk>", fuse_unk=unknown == "fused"))
    scheme = {"replacement": "▁", "prepend_scheme": prepend}
    theirs.pre_tokenizer = hf.pre_tokenizers.Metaspace(**scheme)
    n_bytes = {"bytes": 256, "some bytes": 0xC4}.get(unknown, 0)
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(n_bytes))]
    trainer = hf.trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False)
    theirs.train_from_iterator([TEXT], trainer)
    content = json.loads(theirs.to_str())
    content["model"] |= {"byte_fallback": bool(n_bytes)}
    content["model"] |= {"unk_token": None} if unknown == "dropped" else {}
    content["added_tokens"] = content["added_tokens"][:2]
    content["decoder"] = steps(
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        name="decoders",
    )
    path.write_text(json.dumps(content), encoding="utf-8")
    assert_equal(path, ["a cat", " the hat", "<s>a cat<s> sat", "naïve 🦊 cafés", "", "ĳʼn \x00"])
    ours = load_tokenizer(path)
    assert isinstance(ours, PipelineTokenizer)
    if unknown == "bytes":
        ids = ours.encode(" 🦊")
        assert ours.decode(ids).strip() == "🦊" and ours.settled(ids[:-1]).strip() == ""
        theirs = hf.Tokenizer.from_file(str(path))
        assert ours.decode(ids[:-1]) == theirs.decode(ids[:-1]) == "\ufffd" * 3


def test_bytes_that_no_text_holds_need_no_token(small, path):
    small.save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for symbol in "ÀÁõö÷øùúûüýþÿ":
        del content["model"]["vocab"][symbol]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert_equal(path)
    assert isinstance(load_tokenizer(path), BPETokenizer)
    del content["model"]["vocab"]["Q"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert_equal(path, ["QED", "a Q"])  # dropped, as there
    with pytest.raises(FileError, match=r"without the byte 0x51.*load_tokenizer reads it"):
        BPETokenizer.load(path)


def template(*single):
    pieces = [{"Sequence": {"id": name, "type_id": 0}} for name in single]
    return {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}}


START = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}
BEHIND = ({"type": "WhitespaceSplit"}, START), (START, START | {"prepend_scheme": "never"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalizer": {"type": "Nmt"}}, "uses the normalizer 'Nmt'"),
        ({"normalizer": {"type": "Precompiled"}}, "uses the normalizer 'Precompiled'"),
        ({"normalizer": {"type": "Sequence", "normalizers": [None]}}, "normalizers is null"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [None]}}, "tokenizers is null"),
        ({"decoder": {"type": "Sequence", "decoders": [None]}}, "a step of its decoders is null"),
        ({"post_processor": {"type": "Sequence", "processors": [None]}}, "processors is null"),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "uses the pre_tokenizer 'UnicodeScripts'"),
        ({"decoder": {"type": "CTC"}}, "uses the decoder 'CTC'"),
        ({"model": {"dropout": 0.1}}, "uses dropout 0.1"),
        ({"model": {"continuing_subword_prefix": "##"}}, "continuing_subword_prefix"),
        ({"model": {"type": "WordLevel"}}, "holds a WordLevel tokenizer"),
        ({"truncation": {"max_length": 8}}, "asks for truncation"),
        ({"version": "2.0"}, "its version is '2.0'"),
        ({"note": "x"}, "it has ['note'], which no tokenizer.json has"),
        ({"post_processor": {"type": "Magic"}}, "uses the post_processor 'Magic'"),
        ({"pre_tokenizer": LEVEL | {"trim_offsets": "no"}}, "'trim_offsets' of its ByteLevel"),
        ({"added_tokens": [{"content": "x"}]}, "its added token lacks 'id'"),
        *(({"post_processor": template(*single)}, "text once") for single in ("", "AA", "B", "AB")),
        *(({"pre_tokenizer": steps(*parts)}, "behind other steps") for parts in BEHIND),
        ({"pre_tokenizer": START, "normalizer": {"type": "StripAccents"}}, "behind other steps"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(small, path, change, words):
    write(path, small, **change)
    for load in (load_tokenizer, BPETokenizer.load):
        with pytest.raises(FileError, match=regex.escape(words)):
            load(path)


# Patterns (T6, T15, A17, A18)


@pytest.mark.parametrize(
    ("source", "construct"),
    [
        ("[a-z&&[^aeiou]]+", "&& in a set"),
        ("[a&&b]", "&& in a set"),
        ("[a||b]", "|| in a set"),
        ("[a~~b]", "~~ in a set"),
        ("[a--b]", "a range in a set"),
        ("[--b]", "a range in a set"),
        (r"[\w--b]", "a range in a set"),
        ("[a-z--b]", "a range in a set"),
        ("[[:alpha:]]+", "unescaped ["),
        (r"\X", r"\X"),
        (r"x\Z", r"\Z"),
        (r"\p{Upper}", "Upper"),
        (r"\p{Script=Han}", "Script"),
        (r"\pL", r"\p"),
        ("(?i)a", "(?i"),
        ("(?i:ss)", "(?i) with 'ss'"),
        ("(?i:é)", "(?i)"),
        ("(?i:[^a])", "(?i)"),
        ("(?s:.)", "(?s"),
        ("(?<name>a)", "(?<n"),
        (r"(a)\1", r"\1"),
        (r"\Ga", r"\G"),
        ("^", "the empty string"),
        (r"\b+a", "look around"),
        ("a{1,3}+", "an unescaped +"),
        ("a{2}?", "an unescaped ?"),
        ("a{2}{3}", "an unescaped {"),
        ("a{,2}", "{ that"),
        ("a**", "an unescaped *"),
        ("a+{2}", "an unescaped {"),
        ("a*", "the empty string"),
        ("a|", "the empty string"),
        ("(?:a*)*b", "may be empty"),
        ("(?<=a|bb)c", "several widths"),
        ("(", "without its )"),
        ("a)", "without its ("),
        ("(" * 99 + "a" + ")" * 99, "nests over 50"),
        ("a" * 6000, "longer than 5,000"),
    ],
)
def test_a_pattern_that_engines_read_differently_is_refused(small, path, source, construct):
    with pytest.raises(ValueError, match=r"pattern") as caught:
        from_oniguruma(source)
    said = str(caught.value)
    assert construct in said.replace(checks.shown(source), ""), "beside the pattern itself"
    assert len(said) < 300 and not is_portable(source)
    write(path, small, pre_tokenizer=steps(split(source), LEVEL))
    with pytest.raises(FileError, match=regex.escape(construct)):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\w+|\s", "a²b_c\u200dd Ⅷ\n"),
        (r"[^\w\s]+|[\w\s]+", "a²b_c\u200dd Ⅷ\n"),
        (r"\W|\w", "a²"),
        (r"\h+|.", "cafe\nxyz"),
        (r"\p{^L}+|\p{L}", "ab 12"),
        (r"\s+$|\s+|\S+", "a  \n\nb  "),
        (r"(\p{L})+|(\s)", "ab c"),
        (r"\p{N}{1,3}|\D++", "1234 ab"),
        (r"(?i:'s|'ll)|.", "'S 'lL 'ſ"),
        (r"(?<=a)b|(?>ab|a)c|[\s\S]", "abacabc"),
        (r"[\u00e9\x41-\x43\-]+|.", "éABC-d"),
        (r"\d{1,3}(?=(?:\d{3})*\b)|\B.|\s", "1234567 a² b\u0301c"),
        (r"(?:^|\s)\S|\A.|.\z|[\s\S]", "ab c\nd\n"),
        (r"^..|[\s\S]", "abc\nde\n\n"),
        (r"a\n(?=^)|[\s\S]", "a\na\n"),
    ],
)
def test_a_pattern_in_words_of_all_engines_cuts_as_hugging_faces(source, text):
    theirs = hf.pre_tokenizers.Split(hf.Regex(source), "isolated").pre_tokenize_str(text)
    portable = from_oniguruma(source)
    assert splitter(portable)(text) == [piece for piece, _ in theirs]
    assert is_portable(portable) and from_oniguruma(portable) == portable


def test_a_pattern_that_others_would_read_differently_is_not_written(small, path):
    own = BPETokenizer(small.merges, pattern=r"[a-z&&[^aeiou]]+|[\s\S]")
    with pytest.raises(ValueError, match="has && in a set"):
        own.save(path)
    with pytest.raises(ValueError, match=r"would read the pattern.*as"):
        BPETokenizer(small.merges, pattern=r"\w+|\W").save(path)
    assert not path.exists()
    BPETokenizer(small.merges, pattern=r"[^aeiou\s]+|[\s\S]").save(path)
    assert_equal(path)


def test_a_pattern_without_end_is_stopped(small, path, monkeypatch):
    assert checks.time_for(r"(?:a|aa)+", "") and checks.time_for(QWEN, "") is None
    monkeypatch.setattr(checks, "time_for", lambda *_: 0.2)
    write(path, small, pre_tokenizer=steps(split(r"(?:a|aa)+$|[\s\S]"), LEVEL))
    ours = load_tokenizer(path)
    assert ours.encode("aab") == [ours.token_to_id(token) for token in "aab"]
    with pytest.raises(ValueError, match="takes time without end"):
        ours.encode("a" * 60 + "b")
    write(path, small, pre_tokenizer=steps(split(r"(?:a|aa)+$", "Removed"), LEVEL))
    with pytest.raises(ValueError, match="takes time without end"):
        load_tokenizer(path).encode("a" * 60 + "b")
    endless = {"type": "Replace", "pattern": {"Regex": "(?:a|aa)+$"}, "content": "x"}
    write(path, small, normalizer=endless)
    with pytest.raises(ValueError, match="takes time without end"):
        load_tokenizer(path).encode("a" * 60 + "b")


def test_a_misspelt_name_is_no_pattern(small):
    with pytest.raises(ValueError, match="there is no pattern 'gpt5': did you mean 'gpt4'"):
        BPETokenizer(small.merges, pattern="gpt5")
    start = time.process_time()
    for wrong in ("ab" * 10**7, "a+" * 10**5, "(" * 5000):
        with pytest.raises(ValueError, match="pattern") as caught:
            BPETokenizer(small.merges, pattern=wrong)
        assert len(str(caught.value)) < 400
    assert time.process_time() - start < 2


PIECES = [
    *("a", "s", "t", "'", " ", r"\s", r"\S", r"\d", r"\w", r"\W", r"\h", r"\p{L}", r"\p{N}"),
    *(r"\P{L}", r"\p{^L}", "[a-z]", "[^a-z]", r"[^\s\p{L}]", r"[\w'-]", r"[\r\n]", ".", "$"),
    *(r"(?!\S)", "(?=a)", "(?<=a)", "[a-z&&[^a]]", r"\b", "^", "(?i:'s|'t)", "(?i:st)", r"\R"),
    *(
        r"\u0041",
        "[-a]",
        "(a)",
        r"\X",
        r"\p{Han}",
        r"\Z",
        r"\B",
        r"\A",
        r"\z",
        "(?m:.)",
        "[]a]",
        r"\n",
        "{",
        r"\K",
    ),
]
MARKS = ["", "", "", "+", "*", "?", "+?", "*?", "++", "*+", "{1,3}", "{2,}", "{1,3}+", "{2}?"]


def random_pattern(rng, depth=2):
    def part():
        if depth and rng.random() < 0.3:
            opening = rng.choice(["(?:", "(?>", "(", "(?=", "(?!", "(?i:", "(?<="])
            return opening + random_pattern(rng, depth - 1) + ")"
        return rng.choice(PIECES)

    def sequence():
        return "".join(part() + rng.choice(MARKS) for _ in range(rng.randint(1, 3)))

    return "|".join(sequence() for _ in range(rng.randint(1, 3)))


@pytest.mark.slow
def test_ten_thousand_random_patterns_cut_as_hugging_faces_and_tiktokens():
    rng, kept = random.Random(0), 0
    ranks = {bytes([byte]): byte for byte in range(256)}
    for _ in range(10_000):
        source = random_pattern(rng) + r"|[\s\S]"
        try:
            portable = from_oniguruma(source)
        except ValueError:
            continue
        kept += 1
        theirs = hf.pre_tokenizers.Split(hf.Regex(source), "isolated")
        for text in ("aab's ss'S't\n\n 12é日 ab_²\n", "".join(rng.choices("abst '\n\r1é_", k=12))):
            pieces = splitter(portable)(text)
            assert pieces == [piece for piece, _ in theirs.pre_tokenize_str(text)], source
            known = dict.fromkeys([*ranks, *(piece.encode() for piece in pieces)])
            known = {token: rank for rank, token in enumerate(known)}
            encoding = tiktoken.Encoding(
                "random", pat_str=portable, mergeable_ranks=known, special_tokens={}
            )
            ids = encoding.encode_ordinary(text)
            assert ids == [known[piece.encode()] for piece in pieces], source
    assert kept > 300


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cn", "Cs")), max_size=40))  # named long ago
def test_any_text_is_cut_as_hugging_face_cuts_it(text):
    for source in (QWEN, r"\s+$|\s+|\S+"):
        theirs = hf.pre_tokenizers.Split(hf.Regex(source), "isolated").pre_tokenize_str(text)
        assert splitter(from_oniguruma(source))(text) == [piece for piece, _ in theirs]


def test_the_properties_of_patterns_are_hugging_faces():
    """Each property that is let through holds the same characters, up to U+2FFF."""
    text = "".join(map(chr, range(0x3000)))
    new = set(regex.findall(r"\P{Cn}", text)) ^ set(hugging_face_finds(r"\P{Cn}", text))
    for name in sorted(patterns.PROPERTIES - {"Lo", "Ll"}):  # U+0295 moved from one to the other
        ours = set(regex.findall(rf"\p{{{name}}}", text))
        assert ours - new == set(hugging_face_finds(rf"\p{{{name}}}", text)) - new, name


def hugging_face_finds(source, text):
    found = hf.pre_tokenizers.Split(hf.Regex(source), "removed", invert=True)
    return "".join(piece for piece, _ in found.pre_tokenize_str(text))


# Files that are damaged (A10, A11, A17)


def test_a_lost_merge_makes_no_special_token(small, tmp_path):
    small.save(tmp_path)
    merges = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").splitlines(keepends=True)
    for lines in (merges[:1], merges[:5] + merges[6:], merges[:-1]):
        (tmp_path / "vocab.bpe").write_text("".join(lines), encoding="utf-8")
        with pytest.raises(
            FileError, match=r"a line of the merges is lost|of two models|are known"
        ):
            load_tokenizer(tmp_path)
    (tmp_path / "vocab.bpe").write_text("".join(merges), encoding="utf-8")
    assert load_tokenizer(tmp_path).special_tokens == {END: 279}
    for old, new in (("vocab.bpe", "merges.txt"), ("encoder.json", "vocab.json")):
        (tmp_path / old).rename(tmp_path / new)
    (tmp_path / "merges.txt").write_text("".join(merges[:-1]), encoding="utf-8")
    with pytest.raises(FileError, match=r"of vocab\.json: a line of the merges is lost"):
        load_tokenizer(tmp_path)
    # without the file of the ids, a lost merge shows where a later one needs it
    parts = {part for line in merges[1:] for part in line.split()}
    lost = next(line for line in merges[1:] if line.replace(" ", "").strip() in parts)
    (tmp_path / "vocab.bpe").write_text("".join(m for m in merges if m != lost), encoding="utf-8")
    with pytest.raises(FileError, match="merges join two tokens that are known"):
        load_tokenizer(tmp_path / "vocab.bpe")


def test_a_lost_line_of_tiktoken_leaves_no_hole(small, tmp_path):
    path = tmp_path / "a.tiktoken"
    small.save(path)
    lines = path.read_text().splitlines(keepends=True)
    for gone in (0, 100, len(lines) - 3):
        path.write_text("".join(lines[:gone] + lines[gone + 1 :]))
        with pytest.raises(FileError, match=rf"no token has the id {gone}|no merges of earlier"):
            load_tokenizer(path)
    # as in p50k_base, whose end of a text stands among its tokens
    moved = [f"{line.split()[0]} {n + (n >= 270)}\n" for n, line in enumerate(lines)]
    path.write_text("".join(moved))
    with pytest.raises(FileError, match=r"no token has the id 270.*special_tokens="):
        load_tokenizer(path)
    assert BPETokenizer.load(path, special_tokens={END: 270}).eot_token == 270
    path.write_text("".join(lines))  # as in cl100k_base, whose special tokens leave an id out
    own = BPETokenizer.load(path, special_tokens={END: len(lines) + 1})
    assert own.encode(f"a cat{END}", allowed_special="all")[-1] == len(lines) + 1
    assert own.missing_ids() == [len(lines)]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_merges_that_tiktoken_would_not_make_are_not_left_to_it(tmp_path, names):
    """Ids are in the order of the merges, and yet tiktoken would join ab and c to abc."""
    own = BPETokenizer([(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")], whole_tokens=False)
    own.save(tmp_path)
    for old, new in zip(("encoder.json", "vocab.bpe"), names):
        (tmp_path / old).rename(tmp_path / new)
    theirs = hf.Tokenizer(hf.models.BPE.from_file(*(str(tmp_path / name) for name in names)))
    for tokenizer in (load_tokenizer(tmp_path), BPETokenizer.load(tmp_path)):
        assert tokenizer.encode("abcxabc") == theirs.encode("abcxabc").ids
    with pytest.raises(FileError, match="joins any two tokens that make a third"):
        TiktokenTokenizer.load(tmp_path)
    with pytest.raises(ValueError, match="joins any two"):  # a whole word would be one token there
        BPETokenizer(own.merges).save(tmp_path / "other")


def test_a_file_of_tiktoken_is_read_line_by_line_as_there(small, tmp_path):
    path = tmp_path / "a.tiktoken"
    small.save(path)
    whole = path.read_bytes()
    for same in (
        b"\xef\xbb\xbf" + whole,
        whole.replace(b"\n", b" \r\n"),
        whole.replace(b" ", b"\t"),
        whole.replace(b"\n", b"\n\n"),
    ):
        path.write_bytes(same)
        assert BPETokenizer.load(path).merges == small.merges
    for wrong, line in ((b"#v\n" + whole, 1), (whole + b"YQ 279\n", 280), (whole + b" 279", 280)):
        path.write_bytes(wrong)
        with pytest.raises(FileError, match=f"line {line} is .*a token in base64, and its rank"):
            load_tokenizer(path)
    path.write_bytes(whole + whole.splitlines()[-1].split()[0] + b" 279\n")
    with pytest.raises(FileError, match="line 280 repeats a token"):
        load_tokenizer(path)


@pytest.mark.parametrize("wrong", [10**12, 300_000_000, -84, 84.0, "x", None, True, 65])
def test_an_id_is_a_whole_number_and_hardly_more_than_there_are_tokens(small, tmp_path, wrong):
    small.save(tmp_path / "tokenizer.json")
    small.save(tmp_path / "two")
    for path in (tmp_path / "tokenizer.json", tmp_path / "two" / "encoder.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content.get("model", {"vocab": content})["vocab"]["A"] = wrong
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(FileError, match=r"whole numbers from 0|have the same id") as caught:
            load_tokenizer(path.parent)
        assert str(wrong) in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "tokenizer_config.json"])
@pytest.mark.parametrize("octets", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"a": NaN}'])
def test_deep_and_broken_json_is_refused_in_one_line(small, tmp_path, name, octets):
    small.save(tmp_path / "tokenizer.json")
    if name == "vocab.json":
        (tmp_path / "tokenizer.json").unlink()
        small.save(tmp_path)
        (tmp_path / "vocab.bpe").rename(tmp_path / "merges.txt")
    (tmp_path / name).write_bytes(octets)
    with pytest.raises(FileError, match=regex.escape(name)) as caught:
        load_tokenizer(tmp_path)
    assert len(str(caught.value)) < 300


def test_half_a_character_is_no_json(small, path):
    write(path, small, model={"note": "\ud83e\udd8a"})
    assert_equal(path, ["a cat"])
    write(path, small, model={"note": "\ud83e"})
    assert tokenizer_fuzz.answer(lambda: hf.Tokenizer.from_file(str(path))) is None
    with pytest.raises(FileError, match="half a character"):
        load_tokenizer(path)


# Folders of transformers (M4, M5)


@pytest.fixture
def folder(small, tmp_path):
    """A folder with vocab.json and merges.txt, as `ByteLevelBPETokenizer.save_model` writes it."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    theirs = hf.ByteLevelBPETokenizer()
    theirs.train_from_iterator([TEXT], vocab_size=280, special_tokens=names, show_progress=False)
    theirs.save_model(str(tmp_path))
    return tmp_path


def test_special_tokens_may_come_first(folder):
    names = [str(folder / name) for name in ("vocab.json", "merges.txt")]
    theirs, ours = hf.ByteLevelBPETokenizer(*names), load_tokenizer(folder)
    assert ours.token_to_id("!") == 5 and ours.special_tokens == {END: 280}
    for text in TEXTS:
        text = text.replace(END, "")
        assert ours.encode(text) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text))


def test_tokens_are_added_by_the_files_beside(folder):
    (folder / "added_tokens.json").write_text('{"<new>": 281, "plain": 280}')
    (folder / "special_tokens_map.json").write_text('{"eos_token": "</s>", "bos_token": "<s>"}')
    ours = load_tokenizer(folder)
    assert ours.special_tokens == {"<s>": 0, "</s>": 2, END: 282}  # for what is unknown
    assert ours.encode("plain <new>")[0] == 280 and ours.encode("<new>") == [281]
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(vocab | {"STOP": 280}))
    (folder / "added_tokens.json").unlink()
    with pytest.raises(FileError, match="no merge makes the token 'STOP'"):
        load_tokenizer(folder)
    (folder / "special_tokens_map.json").write_text('{"eos_token": "STOP"}')
    assert load_tokenizer(folder).special_tokens["STOP"] == 280
    (folder / "added_tokens.json").write_text('{"<new>": 3210}')
    with pytest.raises(FileError, match="'<new>' has the id 3210 in the file"):
        load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    with pytest.raises(FileError, match=r"names 'RobertaTokenizer'.*tokenizer\.json says"):
        load_tokenizer(folder)


def test_a_class_that_transformers_builds_anew_has_to_agree(small, path):
    write(path, small, pre_tokenizer=steps(split(QWEN), LEVEL))
    config = path.with_name("tokenizer_config.json")
    config.write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    with pytest.raises(FileError, match="names GPT2Tokenizer, for which transformers splits"):
        load_tokenizer(path.parent)
    # StarCoder names that class, too, and transformers reads its tokenizer.json as it is
    beside = path.with_name("config.json")
    beside.write_text('{"model_type": "gpt_bigcode"}')
    assert load_tokenizer(path.parent).encode("a 12345") == load_tokenizer(path).encode("a 12345")
    beside.write_text('{"model_type": "llama"}')
    with pytest.raises(FileError, match="names GPT2Tokenizer, for which transformers splits"):
        load_tokenizer(path.parent)
    config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}')
    assert load_tokenizer(path.parent).special_tokens == {END: 279, "<pad>": 280}


@pytest.mark.slow
def test_transformers_reads_nano_and_writes_what_we_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    for old, new in (("vocab.bpe", "merges.txt"), ("encoder.json", "vocab.json")):
        shutil.copy(shipped("gpt2/nano") / old, tmp_path / new)
    theirs = transformers.GPT2Tokenizer.from_pretrained(str(tmp_path))
    theirs.add_tokens(["<new>"])
    theirs.save_pretrained(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "vocab.json").exists()
    for folder in (tmp_path, tmp_path / "saved"):
        theirs = transformers.AutoTokenizer.from_pretrained(str(folder), tokenizer_type="gpt2")
        ours = load_tokenizer(folder)
        for text in [*TEXTS, "<new>"]:
            ids = theirs.encode(text, add_special_tokens=False)
            assert ours.encode(text, allowed_special="all") == ids
            assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)


# What we write, and differences sought at random


def test_what_we_write_has_the_parts_that_transformers_js_reads(small, path):
    small.save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["post_processor"] is content["normalizer"] is None
    assert hf.Tokenizer.from_file(str(path)).encode(f"a cat{END}").ids == small.encode(
        f"a cat{END}", allowed_special="all"
    )
    with pytest.raises(ValueError, match="cannot hold the special token 'éé'"):
        BPETokenizer(small.merges, ["éé"]).save(path)


def test_what_a_format_cannot_hold_is_not_written(small, tmp_path):
    added = [AddedToken(END, 281), AddedToken("  ", 280, special=False)]
    own = BPETokenizer(small.merges, {END: 281}, added_tokens=added)
    for name in ("a.tiktoken", "folder"):
        with pytest.raises(ValueError, match=r"only a \.json file holds added tokens"):
            own.save(tmp_path / name)
    own.save(tmp_path / "tokenizer.json")  # with an id before that of a special token
    assert_equal(tmp_path / "tokenizer.json", ["a  b   c", END])
    with pytest.raises(ValueError, match="the special token 'STOP' looks like a token"):
        BPETokenizer(small.merges, ["STOP"]).save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_the_file_of_the_ids_stands_for_both(small, tmp_path):
    small.save(tmp_path)
    assert load_tokenizer(tmp_path / "encoder.json").encode("a cat") == small.encode("a cat")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "spiece.model").write_bytes(b"\n\x0e")
    with pytest.raises(FileNotFoundError, match=r"holds no vocabulary but spiece\.model, of Sent"):
        load_tokenizer(tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.model", b"\n\x0e\n\x05<unk>", "of SentencePiece, which is not supported"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "a file of tiktoken: give it a name that ends in"),
        ("vocab.txt", b"[PAD]\n[UNK]\n##a\n", "a list of WordPieces, as BERT has it"),
        ("tekken.json", b'{"config": {}, "vocab": []}', "Mistral's, which is not supported"),
        ("vocab.json", b'{"a": 0}', "to which merges.txt belongs|lacks 'model'"),
        ("merges.txt", b"a b\n", "vocab.json, which has the ids of its tokens, is missing"),
        ("tokenizer.json", b"\xef\xbb\xbf{}", "begins with a byte-order mark"),
        ("tokenizer.json", b"\xff\xfe{\0}\0", "it is UTF-16"),
        ("tokenizer.json", b"\x1f\x8b\x08", "it is compressed by gzip"),
    ],
)
def test_a_tokenizer_in_another_form_is_called_by_its_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises((FileError, FileNotFoundError), match=words):
            load_tokenizer(place)


def test_thirty_files_found_at_random_are_read_alike_or_refused(tmp_path):
    assert tokenizer_fuzz.run(12, 0, tmp_path) == []
    (tmp_path / "tokenizer.json").unlink()
    assert tokenizer_fuzz.run_merges(6, 0, tmp_path) == []


@pytest.mark.slow
def test_six_hundred_files_found_at_random_are_read_alike_or_refused(tmp_path):
    assert tokenizer_fuzz.run(200, 1, tmp_path) == []
    (tmp_path / "tokenizer.json").unlink()
    assert tokenizer_fuzz.run_merges(200, 1, tmp_path) == []
