"""The edges of the command line: streams that nobody reads, words, interrupts, what it prints."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from cli_helpers import TINY, failure, llmlib, write_text

from llmlib.cli import arguments, console
from llmlib.messages import quoted, shown


class Full(io.StringIO):
    """A stream on a disk without room."""

    name = "<stdout>"

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_stream_that_cannot_be_written_is_silent_or_raises_once(monkeypatch):
    out = console.Output(Full())
    assert out.write("abc") == 3
    out.patient = False
    with pytest.raises(OSError, match="<stdout>"):
        out.write("abc")


def test_closed_streams_are_replaced_and_given_back(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with console.streams():
        print("to nowhere")
        print("to nowhere", file=sys.stderr, flush=True)
        assert not sys.stdout.isatty()
    assert sys.stdout is None and sys.stderr is None


def run_shell(line, **environment):
    """Exit code, stdout and stderr of a line for the shell, with $LLMLIB for the command."""
    environment = {**os.environ, "LLMLIB": f"{quoted(sys.executable)} -m llmlib", **environment}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_help_and_mistakes_need_no_streams(closed):
    assert run_shell(f"$LLMLIB --help {closed}")[0] == 0
    code, out, err = run_shell(f"$LLMLIB train --max-stepps 3 {closed}")
    assert code == 2 and "Traceback" not in out + err


def test_a_reader_that_has_seen_enough_is_no_error():
    code, _, err = run_shell("set -o pipefail; $LLMLIB train --help | head -1")
    assert code == 0 and err == ""


def test_no_file_takes_the_number_of_a_stream_that_was_closed():
    code = (
        "import os\nfrom llmlib.cli import console\nwith console.streams():\n"
        "    os._exit(os.open(os.devnull, os.O_RDONLY))\n"
    )
    assert run_shell(f"{quoted(sys.executable)} -c {quoted(code)} <&- >&- 2>&-")[0] > 2


@pytest.mark.slow
def test_commands_work_without_streams(tmp_path):
    text = quoted(write_text(tmp_path))
    flags = " ".join([*TINY, "--max-steps", "2", "--eval-every", "2"])
    folder = quoted(tmp_path)
    assert run_shell(f"$LLMLIB train {text} {flags} --out {folder}/a >/dev/full 2>&-")[0] == 0
    assert (tmp_path / "a" / "latest" / "checkpoint.json").exists()
    generate = f"$LLMLIB generate --checkpoint {folder}/a --max-new-tokens 4"
    code, out, err = run_shell(f"{generate} 2>/dev/full")
    assert code == 0 and out and not err
    code, _, err = run_shell(f"{generate} >/dev/full")  # the text is what it is for
    assert code == 2 and err.endswith("llmlib: <stdout>: No space left on device\n")


def test_a_variable_that_a_library_cannot_read_is_named():
    code, _, err = run_shell("$LLMLIB download gpt2-12M", TQDM_MININTERVAL="a b")
    assert code == 2 and "TQDM_MININTERVAL='a b'" in err and "in the environment" in err


# Words. -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("n_heads is 0: it must be an int of", "--n-heads is 0: it must be a whole number of"),
        ("emb_dim 16 is not divisible by n_heads", "--emb-dim 16 is not divisible by --n-heads"),
        ("a smaller max_length", "a smaller --context-length"),
        ("a smaller stride, a smaller batch_size, or drop_last=False",
         "a smaller --context-length, a smaller --batch-size"),
        ("the first of betas is 1.0", "the first of --betas is 1.0"),
        ("seed is -1: it must be", "--seed is -1: it must be"),
        ("no file runs/max_steps.txt", "no file runs/max_steps.txt"),
        ("no setting 'x', did you mean 'max_steps'?", "no setting 'x', did you mean 'max_steps'?"),
        ("the device is gone", "the device is gone"),
    ],
)  # fmt: skip
def test_messages_name_flags(message, expected):
    assert arguments.name_flags(message, "train").startswith(expected)


def test_a_text_that_is_too_short_names_what_can_be_set(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("Once upon a time there was a cat.")
    for flags in (["--context-length", 64], ["--context-length", 8, "--batch-size", 64]):
        line = failure(capsys, "train", "t.txt", *TINY, *flags)
        assert "--context-length" in line and not re.search("max_length|stride|drop_last", line)


def test_numbers_of_all_commands_are_read_alike(capsys):
    command = ["generate", "--checkpoint", "gpt2/nano"]
    for flag, value, kind in (("--n", 2**31, "whole number"), ("--top-p", "nan", "number")):
        assert f"argument {flag}: '{value}' is not a {kind}" in failure(
            capsys, *command, flag, value
        )
    assert "of at least 1, or none" in failure(capsys, *command, "--top-k", 0)
    assert "--until is ('',)" in failure(capsys, *command, "--until", "")


@pytest.mark.parametrize("flag", ["--prompt", "--tokenizer", "--n-heads", "--devise", "--kind", ""])
def test_a_value_of_100_000_letters_is_cut(tmp_path, capsys, flag, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("Once upon a time. " * 99)
    command = {"--prompt": "generate", "--kind": "tokenizer"}.get(flag, "train")
    first = ["--checkpoint", "nothing"] if command == "generate" else ["t.txt"]
    first += ["--out", "x.json"] if command == "tokenizer" else []
    flags = [f"{flag}={'x' * 100_000}"] if flag else ["y" * 100_000]
    line = failure(capsys, command, *first, *flags)
    assert len(line) < 700 + len(str(tmp_path))
    assert len(failure(capsys, "x" * 100_000)) < 700, "no such command"


def test_values_are_cut_before_they_are_written_out():
    deep = [0] * 9
    for _ in range(9):
        deep = [deep] * 9
    assert (
        len(shown(deep)) < 110 and len(shown("x" * 10**6)) < 110 and len(shown(b"x" * 10**6)) < 110
    )
    assert shown("x") == "'x'" and shown([1, 2]) == "[1, 2]"


def test_a_prompt_is_utf_8_whatever_python_takes_the_terminal_for(capsys):
    mangled = "naïve".encode().decode("ascii", "surrogateescape")  # as under LANG=C
    assert arguments.typed("naïve") == arguments.typed(mangled) == "naïve"
    for flag in ("--prompt", "--until"):
        line = failure(capsys, "generate", "--checkpoint", "gpt2/nano", flag, "na\udcefve")
        assert f"argument {flag}" in line and "not UTF-8" in line


EMPTY = [
    ("train", "t.txt", "--config"), ("train", "t.txt", "--resume"), ("train", "t.txt", "--out"),
    ("train",), ("prepare", "t.txt", "--out"), ("prepare", "--out", "p"), ("generate",
    "--checkpoint"), ("evaluate", "--checkpoint", "gpt2/nano", "--text"), ("tokenizer", "t.txt",
    "--out", "k.json", "--text-field"), ("tokenizer", "t.txt", "--out", "k.json", "--separator"),
]  # fmt: skip


@pytest.mark.parametrize("given", EMPTY, ids=" ".join)
def test_an_empty_value_is_no_value_that_was_left_out(given, tmp_path, capsys, monkeypatch):
    """A variable of a shell that is not set: the command would do something else than was meant."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path).rename(tmp_path / "t.txt")
    line = failure(capsys, *given, "")
    name = given[-1] if given[-1].startswith("--") else "data"
    assert line.endswith(f"argument {name}: it is empty")
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_two_dashes_are_no_value(capsys):
    """From Python 3.13 on they are a text like any other, so that a prompt may begin with them."""
    for flag in ("--prompt", "--checkpoint")[sys.version_info >= (3, 13) :]:
        line = failure(capsys, "generate", "--checkpoint", "gpt2/nano", f"{flag}=--")
        assert "'--'" in line or "model at --" in line


def test_a_name_that_a_terminal_would_obey_is_shown(capsys):
    line = failure(capsys, "generate", "--checkpoint", "a\x1b[31mb\u202ec\u200dd")
    assert r"there is no model at a\x1b[31mb\u202ec" in line and "c\u200dd" in line


@pytest.mark.parametrize("flag", ["--separator", "--end-token", "--text-field"])
def test_a_text_that_is_looked_for_is_utf_8(flag, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = write_text(tmp_path)
    line = failure(capsys, "prepare", text, "--out", "p", flag, "na\udcefve")
    assert f"argument {flag}: it is not UTF-8" in line
    mangled = "naïve".encode().decode("ascii", "surrogateescape")  # as under LANG=C
    assert llmlib("prepare", text, "--tokenizer", "char", "--out", "p", "--separator", mangled) == 0
    assert json.loads((tmp_path / "p" / "data.json").read_text())["n_separators"] > 9


# Interrupts. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["yaml", "argparse", "torch"])
def test_an_interrupt_while_it_imports_ends_quietly(module):
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def stop(name, *rest, **more):\n"
        f"    if name == {module!r}: raise KeyboardInterrupt\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = stop\n"
        "sys.argv = ['llmlib', 'train', 'stories']\n"
        "from llmlib.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr == "llmlib: stopped\n" and not done.stdout


def test_ctrl_c_ends_a_process_of_its_own_at_once_while_it_imports(monkeypatch):
    during, before = [], signal.getsignal(signal.SIGINT)
    look = lambda _: during.append(signal.getsignal(signal.SIGINT))  # noqa: E731
    monkeypatch.setattr(console, "import_module", look)
    try:
        for alone, handler in (
            (True, signal.default_int_handler),
            (False, signal.default_int_handler),
            (True, signal.SIG_IGN),
        ):
            signal.signal(signal.SIGINT, handler)
            console.load("train", alone)
            assert signal.getsignal(signal.SIGINT) == handler, "given back"
    finally:
        signal.signal(signal.SIGINT, before)
    assert during[0] != signal.default_int_handler, "libraries would swallow what it raises"
    assert during[1:] == [signal.default_int_handler, signal.SIG_IGN]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.6, 1.2, 2.0])
def test_ctrl_c_while_torch_is_imported_ends_quietly(seconds):
    command = [sys.executable, "-m", "llmlib", "generate", "--checkpoint", "gpt2/nano"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode in (130, 0, -2), err  # 0: it was faster; -2: Python had not begun
    assert process.returncode != 130 or err.endswith("llmlib: stopped\n")
    assert "Traceback" not in out + err or process.returncode == -2


# Printed commands. --------------------------------------------------------------------------------


def printed_commands(text):
    """The commands that a text shows, each as the arguments that a shell makes of it."""
    found = re.findall(r"(?:: |`)(llmlib (?:train|generate|evaluate) [^\n`]*)", text)
    return [shlex.split(command)[1:] for command in found]


def test_a_printed_command_means_what_was_made(tmp_path, capsys, monkeypatch):
    """Not what has the same name; and it goes on with the flags that made it."""
    monkeypatch.chdir(tmp_path)
    lines = [{"body": text} for text in write_text(tmp_path).read_text("utf-8").split("\n\n")]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    flags = ["--text-field", "body", "--separator=---"]
    assert llmlib("prepare", "t.jsonl", "--tokenizer", "char", "--out", "wiki", *flags) == 0
    assert "llmlib train ./wiki\n" in capsys.readouterr().out
    assert llmlib("tokenizer", "t.jsonl", "--vocab-size", 300, "--out", "./gpt2", *flags) == 0
    (command,) = printed_commands(capsys.readouterr().out)
    assert command[2:] == ["--tokenizer", "./gpt2", "--separator=---", "--text-field=body"]
    few = [*TINY[2:], "--max-steps", 2, "--eval-every", 2]
    assert llmlib(*command, *few, "--out", "gpt2-124M") == 0
    (command,) = printed_commands(capsys.readouterr().out)
    assert llmlib(*command, "--max-new-tokens", 2) == 0


def test_a_command_in_an_error_is_whole_and_unchanged():
    path = f"my n_heads/{'x' * 200}/{'y' * 200}/'"
    command = f"`llmlib train --resume {quoted(path)}`"
    line = arguments.one_line(ValueError(f"n_heads is {path}: {command}, n_heads"), "train")
    assert line.startswith("--n-heads is") and line.endswith(f"{command}, --n-heads")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["it's my folder", "-x $HOME", 'a;b"c'])
def test_every_command_that_is_printed_works_as_printed(tmp_path, capsys, monkeypatch, place):
    (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path)
    text = write_text(tmp_path).rename(tmp_path / place / "text.txt").relative_to(tmp_path)
    few = ["--max-steps", 2, "--eval-every", 2]
    sizes = [*TINY[2:], *few]  # without a tokenizer

    def commands(*words):
        capsys.readouterr()
        assert llmlib(*words) in (0, 2), words
        output = capsys.readouterr()
        return printed_commands(output.out + output.err)

    def from_here(path):  # as a user would have to type it
        return f"./{path}" if str(path).startswith("-") else str(path)

    text, out = from_here(text), from_here(f"{place}/run")
    (train,) = commands(
        "tokenizer", text, "--out", from_here(f"{place}/t.json"), "--vocab-size", 300
    )
    (generate,) = commands(*train, *sizes, "--out", out)
    assert commands(*generate, "--max-new-tokens", 3) == []
    (resume,) = commands(*train, *sizes, "--out", out)  # "holds a run already: go on with …"
    assert resume[1] == "--resume" and commands(*resume, "--max-steps", 3) == [generate]
    prepared = from_here(f"{place}/prepared")
    (train,) = commands("prepare", text, "--tokenizer", "char", "--out", prepared)
    (generate,) = commands(*train, *sizes, "--out", from_here(f"{place}/second"))
    assert commands(*generate, "--max-new-tokens", 3) == []
