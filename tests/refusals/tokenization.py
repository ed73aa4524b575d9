"""Tokenizers: made, trained, applied, saved and loaded."""

import json
import math

import tiktoken

from refusals import api
from refusals.api import END
from refusals.refusal import Refusal

TEXT = "the king and the queen"
USER = {"role": "user", "content": "Hello"}
LISTED = ("WordTokenizer", "CharTokenizer", "WordPieceTokenizer", "UnigramTokenizer")
ALL = (*LISTED, "BPETokenizer")
SMALL = {"WordTokenizer": 9, "CharTokenizer": 20, "WordPieceTokenizer": 40}
PLAIN = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
LEVEL = {**PLAIN, "use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False}


def made(kind: str):
    """A tokenizer of a kind; all of them know TEXT."""
    sizes = {"BPETokenizer": 260, "UnigramTokenizer": 280}
    return getattr(api, kind).from_text(TEXT, sizes.get(kind))


def bpe(merges=(), special=(), **settings):
    return api.BPETokenizer(merges, special, **settings)


def train(**change):
    return api.BPETokenizer.train(**{"texts": TEXT, "vocab_size": 270, **change})


def bpe_row(name: str, call, says: list, error: type = ValueError) -> Refusal:
    return Refusal(f"bpe {name}", call, error, says)


def load_row(name: str, file: str, content: bytes | str | dict, *says, door="bpe") -> Refusal:
    """A file that is not a byte-level BPE, or not a tokenizer, through the reader of files."""

    def call(tmp):
        octets = content if isinstance(content, (str, bytes)) else json.dumps(content)
        (tmp / file).write_bytes(octets.encode() if isinstance(octets, str) else octets)
        api.BPETokenizer.load(tmp / file) if door == "bpe" else api.load_tokenizer_file(tmp / file)

    return Refusal(f"{door} file {name}", call, ValueError, [file, *says])


def changed_json_row(name: str, change: dict, *says, file="tokenizer.json") -> Refusal:
    """A tokenizer.json of ours, with a part of it changed."""

    def call(tmp):
        bpe([(b"a", b"b")], [END]).save(tmp / "tokenizer.json")
        content = json.loads((tmp / "tokenizer.json").read_text(encoding="utf-8"))
        model = content["model"] | change.get("model", {})
        content |= {**change, "model": model}
        (tmp / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        api.BPETokenizer.load(tmp)

    return Refusal(f"tokenizer.json {name}", call, ValueError, [file, *says])


def vocabulary_row(name: str, content: str, *says, kind="WordTokenizer") -> Refusal:
    def call(tmp):
        (tmp / "words.json").write_text(content)
        getattr(api, kind).load(tmp / "words.json")

    return Refusal(f"vocabulary {name}", call, ValueError, ["words.json", *says])


def several_templates(tmp):
    """A folder as older versions of transformers wrote it, read for its template."""
    content = {"chat_template": [{"name": "default", "template": ""}]}
    (tmp / "tokenizer_config.json").write_text(json.dumps(content))
    return api.read_template(tmp)


def half_spoilt_gpt2(tmp):
    with api.home_in(tmp) as home:
        (home / "gpt2" / "vocab.bpe").write_text("#version: 0.2\n")
        api.gpt2_encoding.__wrapped__()  # past the cache


def encoding_like_nano(swap: bool = False, **change):
    nano = api.load_vocabulary(api.NANO).encoding
    ranks = dict(nano._mergeable_ranks)
    if swap:
        ranks[b"a"], ranks[b"b"] = ranks[b"b"], ranks[b"a"]
    settings = {
        "pat_str": nano._pat_str,
        "mergeable_ranks": ranks,
        "special_tokens": nano._special_tokens,
    }
    return api.get("TiktokenTokenizer")(tiktoken.Encoding("other", **{**settings, **change}))


def gpt2_ids(**change: int) -> dict[bytes, int]:
    """The 256 bytes, each with an id, and more."""
    ids = {token: i for i, token in bpe().tokens.items()}
    return ids | {name.encode(): i for name, i in change.items()}


REFUSALS = [
    # ---- every kind
    *(
        Refusal(
            f"{kind} encodes {wrong!r}",
            lambda tmp, kind=kind, wrong=wrong: made(kind).encode(wrong),
            TypeError,
            ["string", type(wrong).__name__],
        )
        for kind in ALL
        for wrong in (b"the", None)
    ),
    *(
        Refusal(
            f"{kind} special token in the text",
            lambda tmp, kind=kind: made(kind).encode(f"king {END}"),
            ValueError,
            [END, "allowed_special", "disallowed_special"],
        )
        for kind in ALL
    ),
    *(
        Refusal(
            f"{kind} decodes {wrong}",
            lambda tmp, kind=kind, wrong=wrong: made(kind).decode([0, wrong]),
            ValueError,
            [str(wrong), "vocabulary", "0"],
        )
        for kind in ALL
        for wrong in (-1, 10**6)
    ),
    *(
        Refusal(
            f"{kind} of nothing",
            lambda tmp, kind=kind: getattr(api, kind).from_text(" " * (kind == "WordTokenizer")),
            ValueError,
            [("empty", "without words", "no words")],
        )
        for kind in ALL
    ),
    *(
        Refusal(
            f"{kind} decodes {wrong!r}",
            lambda tmp, kind=kind, wrong=wrong: made(kind).decode([0, wrong]),
            ValueError,
            [str(wrong), "vocabulary", "0"],
        )
        for kind in ALL
        for wrong in (1.5, 1.0, True, None)
    ),
    *(
        Refusal(
            f"{kind} decodes no list: {wrong!r}",
            lambda tmp, kind=kind, wrong=wrong: made(kind).decode(wrong),
            TypeError,
            ["list", "tensor", type(wrong).__name__],
        )
        for kind in ALL
        for wrong in (1, "ab", b"ab", {0: 1})
    ),
    *(
        Refusal(
            f"{kind} special tokens in a string",
            lambda tmp, kind=kind: made(kind).encode("king", allowed_special=END),
            TypeError,
            [END, "set", "all"],
        )
        for kind in ALL
    ),
    Refusal(
        "WordPieceTokenizer of one endless word",
        lambda tmp: api.WordPieceTokenizer.from_text("a" * 5_400),
        ValueError,
        ["nothing to learn", "100 characters"],
    ),
    Refusal(
        "UnigramTokenizer of one endless word",
        lambda tmp: api.UnigramTokenizer.from_text("a" * 5_400),
        ValueError,
        ["nothing to learn", "64 characters"],
    ),
    Refusal(
        "UnigramTokenizer of rare characters",
        lambda tmp: api.UnigramTokenizer.train("ab cd", 300, max_characters=0),
        ValueError,
        ["nothing to learn", "max_characters"],
    ),
    # ---- a list of pieces
    *(
        Refusal(
            f"listed tokens {tokens!r}",
            lambda tmp, tokens=tokens: api.CharTokenizer(tokens),
            TypeError,
            ["list", "string"],
        )
        for tokens in ("abc", ["a", ""], ["a", 1])
    ),
    Refusal(
        "listed token twice",
        lambda tmp: api.WordTokenizer(["a", "b", "a"]),
        ValueError,
        ["'a'", "once"],
    ),
    Refusal(
        "listed token reserved",
        lambda tmp: api.WordTokenizer(["a", END]),
        ValueError,
        [END, "leave it out"],
    ),
    *(
        Refusal(
            f"{kind} vocab_size 2",
            lambda tmp, kind=kind: getattr(api, kind).from_text("a b", 2),
            ValueError,
            ["vocab_size", "2", least],
        )
        for kind, least in [("WordTokenizer", "3"), ("CharTokenizer", "3")]
    ),
    Refusal(
        "WordPieceTokenizer too few ids for the letters",
        lambda tmp: api.WordPieceTokenizer.from_text("ab cd", 5),
        ValueError,
        ["vocab_size", "5", "4", "6", "max_letters"],
    ),
    Refusal(
        "UnigramTokenizer too few ids for the characters",
        lambda tmp: api.UnigramTokenizer.from_text("abc", 260),
        ValueError,
        ["vocab_size", "260", "256", "3", "261", "max_characters"],
    ),
    *(
        Refusal(
            f"unigram pieces {pieces!r}",
            lambda tmp, pieces=pieces: api.UnigramTokenizer(pieces),
            TypeError,
            ["pieces", "log-probability", "finite"],
        )
        for pieces in ({}, {"a": 1}, {"a": "b"}, ["a"], None, {"a": math.nan})
    ),
    # ---- their files
    *(
        vocabulary_row(f"{content!r}", content, "WordTokenizer")
        for content in ["", "{", "[]", "3", "null", '{"tokens": ["a"]}']
    ),
    vocabulary_row("without tokens", '{"tokenizer": "WordTokenizer"}', "WordTokenizer", "tokens"),
    vocabulary_row(
        "of another kind",
        '{"tokenizer": "CharTokenizer", "tokens": ["a"]}',
        "CharTokenizer",
    ),
    vocabulary_row(
        "of no pieces",
        '{"tokenizer": "UnigramTokenizer", "pieces": 5}',
        "UnigramTokenizer",
        "pieces",
        kind="UnigramTokenizer",
    ),
    Refusal(
        "vocabulary missing",
        lambda tmp: api.WordTokenizer.load(tmp / "absent.json"),
        FileNotFoundError,
        ["absent.json"],
    ),
    # ---- BPE: made
    bpe_row(
        "merge of unknown tokens", lambda tmp: bpe([(b"ab", b"c")]), ["merge 0", "b'ab'", "b'c'"]
    ),
    bpe_row("bytes without ids", lambda tmp: bpe(vocabulary={b"a": 0}), ["0x00", "id"]),
    bpe_row("the same id twice", lambda tmp: bpe(special={END: 65}), ["same id"]),
    *(
        bpe_row(
            f"special id {wrong!r}",
            lambda tmp, wrong=wrong: bpe(special={END: wrong}),
            [END, repr(wrong), "id", "0"],
        )
        for wrong in (-1, True)
    ),
    bpe_row("special token of no text", lambda tmp: bpe(special=[""]), ["''", "special token"]),
    bpe_row("special token twice", lambda tmp: bpe(special=["<a>", "<a>"]), ["twice"]),
    bpe_row(
        "special tokens in a string",
        lambda tmp: bpe(special=END),
        [END, "special_tokens", "list"],
        TypeError,
    ),
    bpe_row("pattern unreadable", lambda tmp: bpe(pattern="("), ["pattern", "'('", "gpt2", "gpt4"]),
    bpe_row("pattern of no text", lambda tmp: bpe(pattern=3), ["pattern", "3", "gpt2", "gpt4"]),
    bpe_row("pattern of no name", lambda tmp: train(pattern="gpt5"), ["gpt5", "pattern"]),
    bpe_row("pattern with groups", lambda tmp: bpe(pattern=r"(a)|\s"), ["(a)", "groups", "(?:"]),
    bpe_row("pattern too long", lambda tmp: bpe(pattern="a+" * 3000), ["6,000", "too long"]),
    bpe_row(
        "pattern without end",
        lambda tmp: bpe(pattern=r"(?:a|aa)+\b\B|b").encode("a" * 50),
        ["pattern", "time"],
    ),
    # ---- BPE: trained
    bpe_row(
        "vocab_size without bytes", lambda tmp: train(vocab_size=255), ["vocab_size", "255", "256"]
    ),
    bpe_row(
        "vocab_size without special tokens",
        lambda tmp: train(vocab_size=256, special_tokens=[END]),
        ["vocab_size", "256", "257", "1"],
    ),
    bpe_row("vocab_size 300.5", lambda tmp: train(vocab_size=300.5), ["float"], TypeError),
    bpe_row("train on no text", lambda tmp: train(texts=[]), ["empty"]),
    bpe_row("train on bytes", lambda tmp: train(texts=[b"ab"]), ["bytes", "string"], TypeError),
    bpe_row("train on a number", lambda tmp: train(texts=5), ["int"], TypeError),
    bpe_row("ties", lambda tmp: train(ties="none"), ["ties", "'none'", "ids", "bytes"]),
    # ---- BPE: decoded
    bpe_row(
        "errors", lambda tmp: bpe().decode([0], errors="repair"), ["'repair'", "replace", "strict"]
    ),
    bpe_row(
        "strict",
        lambda tmp: bpe().decode(bpe().encode("é")[:1], errors="strict"),
        ["byte 0", "UTF-8", "errors='replace'"],
    ),
    bpe_row("no id", lambda tmp: bpe().decode([0, "a"]), ["'a'", "0", "255"]),
    # ---- BPE: written
    bpe_row(
        "in GPT-2's files by another pattern",
        lambda tmp: bpe(pattern="gpt4").save(tmp / "folder"),
        ["GPT-2", "pattern", "tokenizer.json"],
    ),
    bpe_row(
        "in a file of another ending",
        lambda tmp: bpe().save(tmp / "a.txt"),
        ["a.txt", ".json", ".tiktoken"],
    ),
    bpe_row(
        "in tiktoken's file with ids in another order",
        lambda tmp: bpe([(b"a", b"b"), (b"c", b"d")], vocabulary=gpt2_ids(ab=257, cd=256)).save(
            tmp / "a.tiktoken"
        ),
        ["tiktoken", "order", "tokenizer.json"],
    ),
    bpe_row(
        "in tiktoken's file with no way to a token",
        lambda tmp: bpe(vocabulary=gpt2_ids(abc=256)).save(tmp / "a.tiktoken"),
        ["b'abc'", "merges"],
    ),
    bpe_row(
        "special token like an ordinary one",
        lambda tmp: bpe([(b"a", b"b")], {"ab": 300}).save(tmp / "a.json"),
        ["'ab'", "special"],
    ),
    # ---- BPE: read
    Refusal(
        "bpe folder without files",
        lambda tmp: api.BPETokenizer.load(tmp),
        FileNotFoundError,
        ["tokenizer.json", "vocab.bpe", "merges.txt"],
    ),
    Refusal(
        "bpe missing file",
        lambda tmp: api.BPETokenizer.load(tmp / "none.json"),
        FileNotFoundError,
        ["none.json"],
    ),
    *(
        load_row(f"{file} {content!r}"[:60], file, content)
        for file, content in [
            ("a.json", ""),
            ("a.json", "[]"),
            ("a.json", "{"),
            ("a.json", b"\xff\xfe"),
            ("a.json", {"tokenizer": "CharTokenizer", "tokens": ["a"]}),
            ("a.json", {"model": {"vocab": {}, "merges": []}}),
            ("a.json", {"model": {"type": "BPE", "vocab": {"狐": 1}, "merges": []}}),
            ("a.txt", "hello"),
            ("a.bpe", "#version: 0.2\none two three\n"),
            ("a.bpe", "#version: 0.2\nab c\n"),
            ("a.tiktoken", "\x80\x81"),
            ("a.bpe", "#version\nonly"),
            ("a.bpe", "#version\n€ €\n"),
            ("a.tiktoken", "not a table"),
            ("a.tiktoken", "YQ== x\n"),
        ]
    ),
    load_row("with bytes that are missing", "a.tiktoken", "YQ== 0\nYg== 1\n", "0x00", "damaged"),
    load_row("with a token from nowhere", "a.tiktoken", "YQ== 0\nYWJj 1\n", "b'abc'"),
    changed_json_row("with a normalizer", {"normalizer": {"type": "NFC"}}, "normalizer"),
    *(
        changed_json_row(f"with {name}", {"model": {name: value}}, name)
        for name, value in [
            ("byte_fallback", True),
            ("dropout", 0.1),
            ("end_of_word_suffix", "</w>"),
        ]
    ),
    changed_json_row("of another model", {"model": {"type": "WordPiece"}}, "WordPiece", "BPE"),
    changed_json_row("of words", {"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
    changed_json_row(
        "of spaces in front",
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_"}},
        "Metaspace",
    ),
    changed_json_row(
        "of two rules",
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [SPLIT, {**LEVEL, "use_regex": True}],
            }
        },
        "ByteLevel (use_regex)",
    ),
    changed_json_row("without a rule", {"pre_tokenizer": LEVEL}, "ByteLevel"),
    changed_json_row(
        "of another behaviour",
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{**SPLIT, "behavior": "Removed"}, LEVEL],
            }
        },
        "Removed",
    ),
    changed_json_row(
        "of unknown merges", {"model": {"merges": ["x y"]}}, "merge 0", "'xy'", "no token"
    ),
    # ---- of every kind
    *(
        load_row(f"{content!r}", "my.json", content, door="any")
        for content in ["", "[]", "{}", b"\xff"]
    ),
    *(
        load_row(
            f"of kind {kind!r}",
            "my.json",
            {"tokenizer": kind},
            str(kind),
            "UnigramTokenizer",
            door="any",
        )
        for kind in ("GPT", [])
    ),
    Refusal(
        "any file without an end of text",
        lambda tmp: (bpe().save(tmp / "my.json"), api.load_tokenizer_file(tmp / "my.json")),
        ValueError,
        ["my.json", END],
    ),
    Refusal(
        "any file missing",
        lambda tmp: api.load_tokenizer_file(tmp / "none.json"),
        FileNotFoundError,
        ["none.json"],
    ),
    # ---- GPT-2's own
    Refusal(
        "GPT-2's vocab.bpe changed",
        half_spoilt_gpt2,
        ValueError,
        ["checkout vocab.bpe"],
    ),
    *(
        Refusal(
            f"save {what} as GPT-2's files",
            lambda tmp, save=save, encoding=encoding: getattr(api, save)(
                api.gpt(vocab_size=600), tmp / "new", encoding()
            ),
            error,
            says,
        )
        for save in ("save_openai", "save_pretrained")
        for what, encoding, error, says in [
            (f"a name ({save})", lambda: "gpt2", TypeError, ["str", "TiktokenTokenizer"]),
            (
                f"no end of text ({save})",
                lambda: encoding_like_nano(special_tokens={}),
                ValueError,
                ["the tokenizer", END],
            ),
        ]
    ),
    *(
        Refusal(
            f"save {what} as GPT-2's files",
            lambda tmp, change=change: api.save_openai(
                api.gpt(vocab_size=600), tmp / "new", encoding_like_nano(**change)
            ),
            ValueError,
            says,
        )
        for what, change, says in [
            ("another cut", {"pat_str": r"\S+|\s+"}, ["split", "GPT-2"]),
            ("other bytes", {"swap": True}, ["'a'", "id", "65"]),
        ]
    ),
    # ---- on a full disk
    *(
        Refusal(
            f"{kind} saved as {name} on a full disk",
            api.on_a_full_disk(lambda tmp, kind=kind, name=name: made(kind).save(tmp / name)),
            OSError,
            ["No space left"],
        )
        for kind, name in [
            *((kind, "my.json") for kind in ALL),
            ("BPETokenizer", "folder"),
        ]
    ),
    # ---- conversations, and templates that render them
    *(
        Refusal(f"to render {what}", lambda tmp, wrong=wrong: api.render_chat(wrong), error, says)
        for what, wrong, error, says in [
            ("a text", "Hello", TypeError, ["'Hello'", '"role"', '"content"']),
            ("one message", {"role": "user", "content": "Hi"}, TypeError, ["list", "'Hi'"]),
            ("no messages", [], ValueError, ["no messages", '"role"']),
            ("texts", ["Hello"], TypeError, ["message 0", "'Hello'", '"role"']),
            ("no role", [USER, {"content": "Hi"}], TypeError, ["message 1", '"role"']),
            ("a number as role", [{"role": 1, "content": "Hi"}], TypeError, ["message 0", "1"]),
            ("no content", [{"role": "user"}], ValueError, ["content", "role"]),
            ("no text", [{"role": "user", "content": None}], ValueError, ["content", "NoneType"]),
        ]
    ),
    *(
        Refusal(
            f"a template that {what}",
            lambda tmp, template=template: api.render_chat([USER], template),
            ValueError,
            ["chat template", *says],
        )
        for what, template, says in [
            ("is not Jinja", "Hello\n{% for %}", ["line 2", "Jinja"]),
            ("refuses", "{{ raise_exception('roles must alternate') }}", ["roles must alternate"]),
            ("changes messages", "{{ messages.append(1) }}", ["refuses"]),
            ("looks into Python", "{{ ''.__class__.__mro__ }}", ["unsafe"]),
        ]
    ),
    Refusal(
        "several templates in a folder",
        several_templates,
        "FileError",
        ["tokenizer_config.json", "one template"],
    ),
]
