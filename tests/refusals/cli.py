"""The command line: flags, files of settings, prepared folders, runs; each in one line of text."""

import gc
import json
import shutil
from unittest import mock

import yaml

from refusals import api
from refusals.refusal import Refusal

LINE = "CommandLineRefusal"


def row(name: str, command, *says) -> Refusal:
    """A command that ends with exit code 2; command makes its arguments from an empty folder."""
    return Refusal(name, lambda tmp: api.llmlib(*command(tmp)), LINE, [*says])


def train(*arguments):
    return ["train", api.text_file(), *api.TINY, *arguments]


def setting_row(text: str, *says) -> Refusal:
    """A file of settings with a mistake in it."""

    def command(tmp):
        (tmp / "run.yaml").write_text(text)
        return ["train", "stories", "--config", tmp / "run.yaml"]

    return row(f"settings {text!r}", command, *says)


def flag_row(flag: str, value: str, *says) -> Refusal:
    return row(f"train {flag} {value}", lambda tmp: train(flag, value), *says)


def prepare_row(name: str, arguments, *says) -> Refusal:
    return row(
        f"prepare {name}",
        lambda tmp: ["prepare", *arguments(tmp), *["--out", tmp / "p"]],
        *says,
    )


def tokenizer_row(name: str, *arguments: object, says: list, out: str = "my.json") -> Refusal:
    return row(
        f"tokenizer {name}",
        lambda tmp: ["tokenizer", api.text_file(), "--out", tmp / out, *arguments],
        *says,
    )


def spoilt_prepared(file: str, content, *says) -> Refusal:
    """A prepared folder with another content in a file, a function of its bytes."""

    def command(tmp):
        path = api.copy_prepared(tmp) / file
        path.write_bytes(content(path.read_bytes()))
        return ["train", path.parent, *api.OWN, "--out", tmp / "run", "--max-steps", 1]

    return Refusal(
        f"prepared folder with another {file} ({says[0]})",
        lambda tmp: api.llmlib(*command(tmp)),
        LINE,
        [file, *says],
    )


def change_count(folder):
    content = json.loads((folder / "data.json").read_text())
    content["train"]["n_tokens"] = 7
    (folder / "data.json").write_text(json.dumps(content))
    return folder


def about(**changes):
    return lambda octets: json.dumps({**json.loads(octets), **changes}).encode()


def spoilt_run(name: str, spoil, *says, command=("train", "--max-steps", 2, "--resume")) -> Refusal:
    """A run that is damaged, by a function of its folder, and then resumed."""

    def arguments(tmp):
        run = api.copy_run(tmp)
        spoil(run)
        return [*command, run]

    return row(f"run {name}", arguments, *says)


def put(file: str, content: bytes):
    return lambda run: (run / file).write_bytes(content)


def settings_without(name: str):
    def spoil(run):
        content = yaml.safe_load((run / "config.yaml").read_text())
        del content[name]
        (run / "config.yaml").write_text(yaml.safe_dump(content))

    return spoil


def other_manifest(**changes):
    def change(run):
        api.change_json(run / "best" / "checkpoint.json", **changes)
        api.seal(run / "best" / "checkpoint.json")

    return change


def generate(run, *arguments):
    return ["generate", "--checkpoint", run, "--device", "cpu", *arguments]


def impossible(flag: str, value: object, *says) -> Refusal:
    return row(f"generate {flag} {value}", lambda tmp: generate(api.made_run(), flag, value), *says)


def evaluate_row(name: str, arguments, *says) -> Refusal:
    return row(
        f"evaluate {name}",
        lambda tmp: ["evaluate", "--checkpoint", api.made_run(), *arguments(tmp)],
        *says,
    )


def written(tmp, name: str, content: bytes):
    (tmp / name).write_bytes(content)
    return tmp / name


def resume_with(flag: str, value: object, *says) -> Refusal:
    return row(
        f"resume {flag} {value}",
        lambda tmp: ["train", "--resume", api.made_run(), flag, value],
        *says,
        "new run",
    )


def locked_run(tmp):
    held = api.lock_run(api.copy_run(tmp))
    try:
        api.llmlib("train", "--resume", tmp / "run", "--max-steps", 2)
    finally:
        held.file_lock.release()


def prepared_with(error):
    """What goes wrong while the ids are written."""

    def call(tmp):
        with mock.patch("llmlib.data.token_files.ArrayWriter.append", side_effect=error):
            api.llmlib("prepare", api.text_file(), "--tokenizer", "char", "--out", tmp / "p")

    return call


def metrics_on_a_full_disk(tmp):
    run = api.copy_run(tmp)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    api.llmlib("train", "--resume", run, "--max-steps", 2)


def other_tokens(tmp):
    """A run on a prepared folder that holds other tokens now."""
    prepared = api.copy_prepared(tmp)
    api.llmlib("train", prepared, *api.OWN, "--max-steps", 1, "--out", tmp / "run")
    shutil.rmtree(prepared)
    text = [api.text_file(), "--tokenizer", "char", "--val-fraction", 0.3]
    api.llmlib("prepare", *text, "--out", prepared)
    gc.collect()  # the first run holds its lock as long as anything refers to it
    api.llmlib("train", "--resume", tmp / "run", "--max-steps", 2)


def stories_too_long(tmp):
    return ["train", "stories", "--stories", 20, "--context-length", 60, "--out", tmp / "run"]


def another_process_failed(tmp):
    with api.environment(WORLD_SIZE="2"):
        api.processes().__exit__(RuntimeError, RuntimeError("Connection closed by peer"), None)


def writer_failed(rank: str):
    def call(tmp):
        def broadcast(box, **_):
            box[:] = [None, False]

        with (
            api.environment(WORLD_SIZE="2", RANK=rank),
            mock.patch("torch.distributed.broadcast_object_list", broadcast),
        ):
            api.processes().by_writer(lambda: api.full())

    return call


def with_traceback(tmp):
    with api.environment(LLMLIB_TRACEBACK="1"):
        api.llmlib("train", "wikki")


REFUSALS = [
    # ---- words that argparse does not know
    row("no command", lambda tmp: [], "COMMAND"),
    row("misspelt command", lambda tmp: ["trian", "x"], "'trian'", "train"),
    row(
        "misspelt flag", lambda tmp: train("--lerning-rate", 1), "--lerning-rate", "--learning-rate"
    ),
    row("shortened flag", lambda tmp: train("--max", 1), "--max"),
    row("flag without a value", lambda tmp: train("--max-steps"), "--max-steps"),
    row("flag that is required", lambda tmp: ["prepare", "wiki"], "--out"),
    row("number in letters", lambda tmp: generate(tmp, "--n", "x"), "--n", "'x'"),
    # ---- settings in a file
    setting_row("lerning_rate: 1", "run.yaml", "lerning_rate", "learning_rate"),
    setting_row("max-step: 1", "max-step", "max_steps"),
    *(
        setting_row(text, "run.yaml", *says)
        for text, *says in [
            ("max_steps: many", "max_steps", "'many'", ("whole number", "int")),
            ("max_steps: 1.5", "max_steps", "1.5", ("whole number", "int")),
            ("max_steps: true", "max_steps", "True", ("whole number", "int")),
            ("max_steps:", "max_steps", "None", ("whole number", "int")),
            ("learning_rate: [1]", "learning_rate", "[1]", "number"),
            ("learning_rate: none", "learning_rate", "none", "number"),
            ("batch_size: 0", "batch_size", "0", "1"),
            ("stories: 1", "stories", "1", "2"),
            ("betas: [1]", "betas", "[1]", ("two numbers", "2 numbers")),
            ("betas: 3", "betas", "3", ("two numbers", "2 numbers")),
            ("compile: perhaps", "compile", "'perhaps'", "true", "false"),
            ("optimizer: sgd", "optimizer", "'sgd'", "adamw", "muon"),
            ("preset: 3", "preset", "3"),
            ("train:\n  max_steps: 3", "'train'", "setting"),
            ("- 1\n- 2", "settings", "max_steps: 1000"),
            ("a: [", "cannot be read"),
            ("data: 3", "data", "3"),
        ]
    ),
    setting_row("max_steps: 0", "max_steps", "0", "1"),
    setting_row("n_heads: 5", "--n-heads", "5", "divisible"),
    setting_row("preset: story-smal", "story-smal", "story-small"),
    row(
        "settings in a .txt",
        lambda tmp: train("--config", api.text_file()),
        "text.txt",
        ".yaml",
        ".toml",
    ),
    row(
        "settings missing",
        lambda tmp: train("--config", "nothing.yaml"),
        "nothing.yaml",
        "No such file",
    ),
    row(
        "settings in TOML with a mistake",
        lambda tmp: train("--config", written(tmp, "run.toml", b"a = [")),
        "run.toml",
        "cannot be read",
    ),
    # ---- settings in flags
    flag_row("--max-steps", "x", "--max-steps", "'x'", ("whole number", "int")),
    flag_row("--grad-clip", "-1", "--grad-clip", "-1.0", "0"),
    flag_row("--device", "cuda:7", "'cuda:7'", "cpu"),
    flag_row("--device", "gpu", "'gpu'", "cpu"),
    flag_row("--emb-dim", "15", "15", "2", "divisible"),
    flag_row("--init-std", "0", "std", "0.0"),
    flag_row("--tokenizer", "bpee", "'bpee'", "'bpe'", "gpt2"),
    row("no data", lambda tmp: ["train"], "data", "llmlib train stories"),
    row("misspelt data", lambda tmp: ["train", "wikki"], "'wikki'", "'wiki'"),
    row("missing data", lambda tmp: ["train", "no/such/file.txt"], "no/such/file.txt", "path"),
    row("data in a folder of nothing", lambda tmp: ["train", tmp], "prepared", "data.json"),
    row(
        "--resume and --out",
        lambda tmp: train("--resume", "x", "--out", "y"),
        "--resume",
        "--out",
        "both",
    ),
    row(
        "--resume nothing",
        lambda tmp: ["train", "--resume", "nothing"],
        "nothing",
        "config.yaml",
        ("no run", "not a run"),
    ),
    row("stories longer than the context", stories_too_long, "60", "--context-length", "story"),
    row(
        "text too short for a batch",
        lambda tmp: [
            *("train", written(tmp, "short.txt", b"a few words " * 9), *api.TINY),
            *("--batch-size", 50, "--out", tmp / "run"),
        ],
        "50",
        "--batch-size",
        "--context-length",
    ),
    row(
        "training that diverges",
        lambda tmp: [
            *train("--learning-rate", "1e30", "--grad-clip", "none", "--warmup-steps", 0),
            *("--max-steps", 9, "--out", tmp / "run"),
        ],
        "step",
        "learning rate",
        "--grad-clip",
    ),
    # ---- the tokenizer command
    tokenizer_row("of no kind", "--kind", "bpo", says=["kind", "'bpo'", "bpe", "char"]),
    tokenizer_row("too small", "--vocab-size", 100, says=["--vocab-size", "100", "256", "257"]),
    tokenizer_row(
        "of characters by a pattern",
        "--kind",
        "char",
        "--pattern",
        "gpt4",
        says=["char", "pattern"],
    ),
    tokenizer_row(
        "of words for tiktoken", "--kind", "word", says=["word", ".json"], out="a.tiktoken"
    ),
    tokenizer_row("of no pattern", "--pattern", "(", says=["pattern", "'('", "gpt2", "gpt4"]),
    tokenizer_row(
        "of another cut for GPT-2",
        "--pattern",
        "gpt4",
        says=["GPT-2", "tokenizer.json"],
        out="folder",
    ),
    tokenizer_row("in no folder", says=["none", "folder", "--out"], out="none/there.json"),
    row(
        "tokenizer over a file",
        lambda tmp: ["tokenizer", "stories", "--out", written(tmp, "my.json", b"mine")],
        "my.json",
        "exists",
        "--out",
    ),
    # ---- the prepare command
    row(
        "prepare over a folder",
        lambda tmp: ["prepare", api.text_file(), "--out", tmp],
        "exists",
        "remove",
        "--out",
    ),
    row(
        "prepare below a file",
        lambda tmp: [
            *("prepare", api.text_file(), "--tokenizer", "char"),
            *("--out", written(tmp, "file", b"") / "p"),
        ],
        "file",
        ("Not a directory", "File exists"),
    ),
    prepare_row("misspelt", lambda tmp: ["storys"], "'storys'", "'stories'"),
    prepare_row("empty", lambda tmp: [written(tmp, "a.txt", b" \n")], "a.txt", "empty"),
    prepare_row(
        "latin", lambda tmp: [written(tmp, "a.txt", b"na\xefve")], "a.txt", "UTF-8", "0xef"
    ),
    prepare_row(
        "with no tokenizer", lambda tmp: [api.text_file(), "--tokenizer", "bpee"], "'bpee'", "'bpe'"
    ),
    prepare_row(
        "with a tokenizer of nothing",
        lambda tmp: [api.text_file(), "--tokenizer", written(tmp, "my.json", b"{}")],
        "my.json",
    ),
    prepare_row(
        "all for validation",
        lambda tmp: [api.text_file(), "--val-fraction", 1],
        "--val-fraction",
        "1.0",
        "0",
    ),
    prepare_row(
        "more of a learned vocabulary",
        lambda tmp: [api.text_file(), "--max-vocab", 9],
        "--max-vocab",
        "gpt2",
        "bpe",
    ),
    prepare_row("one story", lambda tmp: ["stories", "--stories", 1], "stories", "1", "2"),
    prepare_row(
        "too short",
        lambda tmp: [written(tmp, "a.txt", b"a"), "--tokenizer", "char"],
        "1",
        "too short",
    ),
    Refusal("prepare on a full disk", prepared_with(api.FullDisk()), LINE, ["No space left"]),
    Refusal("prepare without memory", prepared_with(MemoryError()), LINE, ["memory"]),
    Refusal(
        "prepare without memory on a GPU",
        prepared_with(RuntimeError("CUDA out of memory")),
        LINE,
        ["out of memory"],
    ),
    Refusal(
        "prepare with a mistake of ours",
        prepared_with(RuntimeError("a mistake of ours")),
        RuntimeError,
        ["a mistake of ours"],
    ),
    # ---- a prepared folder
    spoilt_prepared("train.npy", lambda octets: octets[:-100], "damaged", "prepare"),
    spoilt_prepared("train.npy", lambda octets: b"PK" + octets, "prepare", "damaged"),
    spoilt_prepared("data.json", lambda octets: b"{", "not JSON"),
    spoilt_prepared("data.json", lambda octets: b"{}", "llmlib prepare"),
    spoilt_prepared("data.json", about(version=9), "version", "9", "prepare"),
    row(
        "prepared folder of another length",
        lambda tmp: [
            "train",
            change_count(api.copy_prepared(tmp)),
            *api.OWN,
            *["--out", tmp / "run", "--max-steps", 1],
        ],
        "data.json",
        "damaged",
        "prepare",
    ),
    spoilt_prepared("tokenizer.json", lambda octets: b"[]", "JSON object"),
    row(
        "prepared folder with another tokenizer",
        lambda tmp: ["train", api.made_prepared(), "--tokenizer", "word", "--out", tmp / "run"],
        "tokenizer",
        "prepared",
        "leave it out",
    ),
    Refusal("prepared folder of other tokens", other_tokens, LINE, ["prepared", "other tokens"]),
    Refusal(
        "rows that cannot be shared",
        lambda tmp: api.share_rows(api.made_prepared(), 4, 3),
        ValueError,
        ["batch_size", "4", "3", "processes"],
    ),
    # ---- a run
    row(
        "run over a run",
        lambda tmp: train("--out", api.made_run()),
        "holds a run already",
        "--resume",
        "--out",
    ),
    row(
        "run over a folder",
        lambda tmp: train("--out", written(tmp, "mine.txt", b"mine").parent),
        "not empty",
        "--out",
    ),
    row(
        "run below a file",
        lambda tmp: train("--out", written(tmp, "file", b"") / "run"),
        "file",
        "Not a directory",
    ),
    resume_with("--emb-dim", 32, "--emb-dim", "16", "32"),
    resume_with("--batch-size", 2, "--batch-size", "4", "2"),
    resume_with("--seed", 3, "seed", "0", "3"),
    resume_with("--optimizer", "muon", "optimizer", "'adamw'", "'muon'"),
    row(
        "resume with other data",
        lambda tmp: ["train", written(tmp, "other.txt", b"more"), "--resume", api.made_run()],
        "data",
        "text.txt",
        "other.txt",
        "new run",
    ),
    Refusal("run of another process", locked_run, LINE, ["another process", "run"]),
    spoilt_run(
        "with settings cut", put("config.yaml", b"max_steps: ["), "config.yaml", "cannot be read"
    ),
    spoilt_run(
        "with settings of nothing", put("config.yaml", b"3"), "config.yaml", "holds no settings"
    ),
    spoilt_run(
        "without a setting", settings_without("seed"), "config.yaml", "seed", "damaged", "missing"
    ),
    spoilt_run(
        "with a misspelt setting", put("config.yaml", b"max_stepz: 3"), "max_stepz", "max_steps"
    ),
    spoilt_run(
        "with a foreign checkpoint",
        put("latest/checkpoint.json", b'{"format": "pt"}'),
        "checkpoint.json",
        "llmlib checkpoint",
    ),
    spoilt_run(
        "with half a checkpoint",
        lambda run: next((run / "latest").glob("weights-*")).write_bytes(b"half"),
        "weights-",
        "damaged",
    ),
    Refusal(
        "run whose metrics cannot be written",
        metrics_on_a_full_disk,
        LINE,
        ["metrics.jsonl", "directory"],
    ),
    # ---- generate
    impossible("--n", 0, "n", "0", "1"),
    impossible("--weights", "int9", "'int9'", "int8", "float32"),
    impossible("--temperature", -1, "temperature", "-1.0", "0"),
    impossible("--top-k", 0, "--top-k", "0", "1"),
    impossible("--top-p", 2, "--top-p", "2.0", "1"),
    impossible("--min-p", 2, "--min-p", "2.0", "0", "1"),
    impossible("--repetition-penalty", 0, "--repetition-penalty", "0.0"),
    impossible("--max-new-tokens", -1, "--max-new-tokens", "-1", "0"),
    impossible("--until", "", ("stop", "until"), "''"),
    impossible("--device", "gpu", "'gpu'", "cpu"),
    row(
        "generate by a GPT-2 not here",
        lambda tmp: generate("gpt2-1558M"),
        "llmlib download gpt2-1558M",
    ),
    row(
        "generate by a GPT-2 of no name", lambda tmp: generate("gpt2-124"), "gpt2-124", "gpt2-124M"
    ),
    row(
        "generate by a misspelt run",
        lambda tmp: generate(api.copy_run(tmp).with_name("rum")),
        "rum",
        "'run'",
    ),
    row(
        "generate by a folder of nothing",
        lambda tmp: generate(tmp),
        ("no run or checkpoint", "no model at"),
    ),
    spoilt_run(
        "without its tokenizer",
        lambda run: (run / "data" / "data.json").unlink(),
        "tokenizer",
        "llmlib train",
        command=("generate", "--checkpoint"),
    ),
    spoilt_run(
        "of a model without a name",
        other_manifest(model=None),
        "best",
        ("not say which model", "no model", "names no", "without a model"),
        command=("generate", "--checkpoint"),
    ),
    spoilt_run(
        "of another kind of model",
        other_manifest(model={"hidden": 3}),
        "best",
        "hidden",
        "kind of model",
        command=("generate", "--checkpoint"),
    ),
    # ---- evaluate and download
    evaluate_row(
        "nothing", lambda tmp: ["--text", written(tmp, "a.txt", b"\r\n")], "a.txt", "empty"
    ),
    evaluate_row("a missing text", lambda tmp: ["--text", tmp / "none.txt"], "none.txt"),
    evaluate_row("a folder", lambda tmp: ["--text", tmp], "folder"),
    evaluate_row("in no batch", lambda tmp: ["--batch-size", 0], "--batch-size", "0", "1"),
    row("download nothing", lambda tmp: ["download", "gpt2-124m"], "gpt2-124m", "gpt2-124M"),
    row(
        "download SmolLM2 from OpenAI",
        lambda tmp: ["download", "smollm2-135m", "--source", "openai"],
        "openai",
        "huggingface",
    ),
    row(
        "download from nowhere",
        lambda tmp: ["download", "gpt2-124M", "--source", "google"],
        "'google'",
        "openai",
        "huggingface",
    ),
    # ---- several processes, and those who want to see the traceback
    Refusal(
        "another process failed",
        another_process_failed,
        ConnectionError,
        ["process 0", "another one failed"],
    ),
    Refusal("the writer failed", writer_failed("0"), OSError, ["No space left"]),
    Refusal(
        "the writer failed elsewhere",
        writer_failed("1"),
        ConnectionError,
        ["process 1", "another one failed"],
    ),
    Refusal("an error with its traceback", with_traceback, ValueError, ["'wikki'", "'wiki'"]),
]
