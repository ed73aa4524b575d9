"""Generates and mutates files of tokenizers, and compares what we read with what others read.

`python tests/tokenization/tokenizer_fuzz.py N [SEED]` runs N of each kind; `test_foreign_files.py`
runs a few hundred. A file passes if it is refused, or gives `tokenizers`' ids and texts.
"""

import copy
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import tokenizers as hf

from llmlib.checks import FileError
from llmlib.tokenization.folders import load_tokenizer

SOURCE = "The cat's hat sat on 12 mats, naïve café 34567 straße! def f(x):\n    return x\n\n" * 8
TEXTS = [
    "The cat sat on a hat. ",
    "  naïve CAFÉ\n\n\tcafe\u0301  x=12345;  ",
    "<m>a<m> b <s> </s>cat concat<|endoftext|> <m>",
    "日本語 한국어 🦊 ﬁne ﬀ ⅷ ² İstanbul ΣΊΣΥΦΟΣ a\u200db",
    "    def f(x):\n\treturn  x, y\r\n\r\n",
    " ",
    "a",
    "<0x41>\x00\x1c▁ ▁▁x<unk>",
    "",
]
PATTERNS = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{N}",
    r"\p{N}{1,3}",
    r"[a-z&&[^aeiou]]+",
    r"\w+|[^\w\s]+",
    r"\s+$",
    r" ?\w++",
    r"(\p{L})+",
    r"[一-龥]+",
    r"'(?:s|t)",
]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def some(rng, low, high, make):
    return [make(rng) for _ in range(rng.randint(low, high))]


def flag(rng):
    return rng.random() < 0.5


def pattern(rng):
    if flag(rng):
        return {"String": rng.choice([" ", "a", "▁", ".", "at", "\n"])}
    return {"Regex": rng.choice(PATTERNS)}


def normalizer(rng, depth=1):
    makers = [
        *({"type": kind} for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")),
        {"type": "ByteLevel"},
        {"type": "Nmt"},
        {"type": "Strip", "strip_left": flag(rng), "strip_right": flag(rng)},
        {"type": "Prepend", "prepend": rng.choice(["▁", " ", "x"])},
        {"type": "Replace", "pattern": pattern(rng), "content": rng.choice(["▁", "", "b"])},
    ]
    if depth and rng.random() < 0.3:
        return {"type": "Sequence", "normalizers": some(rng, 0, 3, lambda r: normalizer(r, 0))}
    return rng.choice(makers)


def byte_level(rng):
    flags = dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"))
    return {"type": "ByteLevel", **{name: flag(rng) for name in flags}}


def metaspace(rng):
    scheme = rng.choice(["always", "first", "never"])
    mark = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": flag(rng)}
    return mark | ({"add_prefix_space": scheme != "never"} if flag(rng) else {})


def split(rng):
    behavior = rng.choice(BEHAVIORS)
    return {"type": "Split", "pattern": pattern(rng), "behavior": behavior, "invert": flag(rng)}


def pre_tokenizer(rng, depth=1):
    if depth and flag(rng):
        steps = some(rng, 0, 3, lambda r: pre_tokenizer(r, 0))
        return {"type": "Sequence", "pretokenizers": steps}
    makers = [byte_level, split, metaspace, byte_level, split]
    makers += [lambda r: {"type": "Digits", "individual_digits": flag(r)}]
    makers += [lambda r: {"type": "Punctuation", "behavior": r.choice(BEHAVIORS)}]
    makers += [lambda r: {"type": r.choice(["Whitespace", "WhitespaceSplit", "BertPreTokenizer"])}]
    makers += [lambda r: {"type": "CharDelimiterSplit", "delimiter": r.choice(" ax")}]
    makers += [lambda r: {"type": "FixedLength", "length": r.randint(1, 4)}]
    return rng.choice(makers)(rng)


def decoder(rng, depth=1):
    if depth and flag(rng):
        return {"type": "Sequence", "decoders": some(rng, 1, 4, lambda r: decoder(r, 0))}
    return rng.choice(
        [
            byte_level(rng),
            metaspace(rng),
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Replace", "pattern": pattern(rng), "content": " "},
            {"type": "Strip", "content": " ", "start": rng.randint(0, 2), "stop": 0},
            {"type": "BPEDecoder", "suffix": "</w>"},
            {"type": "WordPiece", "prefix": "##", "cleanup": flag(rng)},
            {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
        ]
    )


def added_token(rng):
    contents = ["<m>", "<s>", "</s>", "cat", "    ", "a", " ", "é", "Ġcat", "<|endoftext|>", "CAFÉ"]
    flags = {name: rng.random() < 0.3 for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"content": rng.choice(contents), **flags, "special": flag(rng)}


def trained(rng):
    """Return the model of a tokenizer that was learned here, by bytes or by characters."""
    by_bytes, special = rng.random() < 0.7, rng.choice([[], ["<unk>", "<s>"], ["<|endoftext|>"]])
    tokenizer = hf.Tokenizer(hf.models.BPE())
    alphabet = []
    if by_bytes:
        tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = hf.pre_tokenizers.ByteLevel.alphabet() if rng.random() < 0.8 else []
    else:
        tokenizer.pre_tokenizer = hf.pre_tokenizers.Metaspace()
        special = special + [f"<0x{byte:02X}>" for byte in range(256)] * flag(rng)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=len(special) + len(alphabet) + rng.randint(30, 90),
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
        **({"end_of_word_suffix": "</w>"} if rng.random() < 0.1 else {}),
    )
    tokenizer.train_from_iterator([SOURCE], trainer)
    content = json.loads(tokenizer.to_str())
    return content, by_bytes


def generated(rng):
    """Return a tokenizer.json that asks for this and that."""
    content, by_bytes = trained(rng)
    model = content["model"]
    if flag(rng):
        content["normalizer"] = normalizer(rng)
    content["pre_tokenizer"] = byte_level(rng) if by_bytes and flag(rng) else pre_tokenizer(rng)
    content["decoder"] = byte_level(rng) if by_bytes and flag(rng) else decoder(rng)
    if by_bytes and rng.random() < 0.3:  # as Llama 3, Qwen, StarCoder and Command-R have it
        last = byte_level(rng) | {"use_regex": flag(rng)}
        steps = [*some(rng, 1, 2, split), last]
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    if by_bytes and flag(rng):
        return with_tokens(rng, content | plain(rng))
    model["unk_token"] = rng.choice([None, "<unk>", "<unk>", "a"])
    for option in ("fuse_unk", "byte_fallback", "ignore_merges"):
        model[option] = flag(rng)
    if flag(rng):
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
    return with_tokens(rng, content)


def plain(rng):
    """Return the parts of a tokenizer.json as GPT-2, GPT-4 and the like have it."""
    level = byte_level(rng) | {"add_prefix_space": False, "use_regex": True}
    parts = {"normalizer": None, "pre_tokenizer": level, "decoder": level}
    if flag(rng):
        about = {"pattern": pattern(rng), "behavior": "Isolated", "invert": False}
        steps = [{"type": "Split", **about}, level | {"use_regex": False}]
        parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return parts


def with_tokens(rng, content):
    """Return a tokenizer.json with some added tokens, as `tokenizers` would number them."""
    tokenizer = hf.Tokenizer.from_str(json.dumps(content | {"normalizer": None}))
    for token in some(rng, 0, 3, added_token):
        tokenizer.add_tokens([hf.AddedToken(**token)])
    content["added_tokens"] = json.loads(tokenizer.to_str())["added_tokens"]
    return content


def places(value, path=()):
    """Yield the ways to all values in JSON, not more than a few into each table of tokens."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for n, (key, inner) in enumerate(items):
        if n > 12 and path:
            break
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))


STRANGE = [None, True, 0, -1, 84.0, 1e12, 10**12, "", "x", [], {}, "Ġ", "é", [["a", "b"]], 3]


def mutated(rng, content):
    """Return JSON with one to three values changed, exchanged, doubled or removed."""
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        *path, key = rng.choice(list(places(content)))
        inside = content
        for step in path:
            inside = inside[step]
        change = rng.random()
        if change < 0.4:
            del inside[key]
        elif change < 0.8:
            inside[key] = copy.deepcopy(rng.choice(STRANGE))
        else:
            other = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
            inside[key], inside[other] = inside[other], inside[key]
    return content


def answer(call):
    """Return what a call gives, or None where it fails; Rust panics by a BaseException."""
    try:
        return call()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None


def ids_of(tokenizer, text, special):
    tokenizer.encode_special_tokens = not special
    return answer(lambda: tokenizer.encode(text, add_special_tokens=False).ids)


def text_of(tokenizer, ids):
    return answer(lambda: tokenizer.decode(ids, skip_special_tokens=False))


def difference(path, texts=TEXTS):
    """Return "" if a file is refused or read as `tokenizers` reads it, and else what differs."""
    try:
        ours = load_tokenizer(path)
    except FileError as error:
        refusals[str(error).rsplit("tokenizer.json: ")[-1][:70]] += 1
        return ""
    theirs = answer(lambda: hf.Tokenizer.from_file(str(path)))
    if theirs is None:
        return "tokenizers refuses it, and we do not"
    for text in texts:
        for special in (True, False):
            wanted = ids_of(theirs, text, special)
            allowed = {"allowed_special": "all"} if special else {"disallowed_special": ()}
            try:
                ids = ours.encode(text, **allowed)
            except ValueError as error:
                refusals[str(error)[:70]] += wanted is not None
                continue
            if ids != wanted:
                return f"ids of {text!r} (special tokens: {special}): {ids}, not {wanted}"
            decoded = text_of(theirs, ids)
            if decoded is not None and ours.decode(ids) != decoded:
                return f"text of {ids}: {ours.decode(ids)!r}, not {decoded!r}"
    read[type(ours).__name__] += 1
    return ""


refusals, read = Counter(), Counter()


def differences(path, contents):
    """Return what differs in files of these contents, with the contents."""
    found = []
    for content in contents:
        path.write_text(json.dumps(content), encoding="utf-8")
        try:
            differs = difference(path)
        except Exception as error:
            differs = f"{type(error).__name__}: {error}"
        found += [(differs, content)] * bool(differs)
    return found


def run(n, seed, folder):
    """Return the differences in n generated and n mutated files of tokenizer.json."""
    rng, found = random.Random(seed), []
    for _ in range(n):
        content = generated(rng)
        contents = [content, mutated(rng, content)]
        found += differences(Path(folder) / "tokenizer.json", contents)
    return found


# vocab.json and merges.txt


def damaged(rng, lines):
    """Return the lines of a file with one to three removed, repeated, exchanged or spoilt."""
    lines = list(lines)
    for _ in range(rng.randint(0, 3)):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        change = rng.randrange(8)
        if change < 2:
            del lines[i]
        elif change < 4:
            lines.insert(i, lines[j])
        elif change < 6:
            lines[i], lines[j] = lines[j], lines[i]
        else:
            lines[i] = rng.choice(
                ["", "a b c", "a", lines[i] + " ", lines[i] + "x", "\u0120 a", "1 2"]
            )
        lines = lines or [""]
    return lines


def run_merges(n, seed, folder):
    """Return the differences in n pairs of vocab.json and merges.txt."""
    rng, found, folder = random.Random(seed), [], Path(folder)
    for _ in range(n):
        model = trained(rng)[0]["model"]
        ids = dict(model["vocab"])
        for _ in range(rng.choice([0, 0, 1])):
            ids[rng.choice([*ids, "new", "<new>"])] = rng.choice([*STRANGE, len(ids), len(ids) + 1])
        lines = damaged(rng, ["#version: 0.2", *map(" ".join, model["merges"])])
        (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
        (folder / "merges.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        names = [str(folder / name) for name in ("vocab.json", "merges.txt")]
        try:
            ours = load_tokenizer(folder)
        except FileError as error:
            refusals[str(error).rsplit(": ")[-1][:60]] += 1
            continue
        theirs = answer(lambda names=names: hf.Tokenizer(hf.models.BPE.from_file(*names)))
        if theirs is None:
            found.append(("tokenizers refuses it, and we do not", lines))
            continue
        theirs.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        theirs.decoder = hf.decoders.ByteLevel()
        theirs.add_special_tokens(["<|endoftext|>"])
        read[type(ours).__name__] += 1
        for text in TEXTS:
            ids = ours.encode(text, allowed_special="all")
            if ids != ids_of(theirs, text, True) or ours.decode(ids) != text_of(theirs, ids):
                found.append((f"ids of {text!r}: {ids}, not {ids_of(theirs, text, True)}", lines))
                break
    return found


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
    with tempfile.TemporaryDirectory() as place:
        in_json = run(count, seed, place)
        print(f"{2 * count} tokenizer.json: {len(in_json)} differ; read: {dict(read)}")
        read.clear()
    with tempfile.TemporaryDirectory() as place:
        in_two = run_merges(count, seed, place)
        print(f"{count} vocab.json and merges.txt: {len(in_two)} differ; read: {dict(read)}")
    for differs, content in in_json[:12]:
        model = {k: v for k, v in content.get("model", {}).items() if k not in ("vocab", "merges")}
        print(differs, "\n   ", json.dumps({**content, "model": model}, ensure_ascii=False)[:1500])
    print(*in_two[:5], *refusals.most_common(25), sep="\n")
