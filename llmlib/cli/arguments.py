"""The flags of every command, with help and examples. Needs no torch, so that `--help` is quick.

Written by hand. The docstring of each `…_flags` function is the help of its command: the first line
says what it does, and the examples stand at the end.
"""

import argparse
import inspect
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from llmlib.cli.settings import (
    BIG,
    DATA,
    GROUPS,
    SETTINGS,
    TEXTS,
    Setting,
    SettingsFileError,
    convert,
    did_you_mean,
)  # fmt: skip
from llmlib.messages import shown


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that shows examples as they are and takes no shortened flags.

    What is not given does not stand in its result: the defaults are those of the commands.
    """

    def __init__(self, **settings: Any):
        settings |= {"allow_abbrev": False, "argument_default": argparse.SUPPRESS}
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        # what `type=int` and `type=float` mean: numbers that can be meant, in our words
        self.register("type", int, read_as(int, most=BIG))
        self.register("type", float, read_as(float))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Answer an unknown flag with the nearest one; the parser of a command comes here too."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            near = did_you_mean(rest[0], self._option_string_actions)
            self.error(f"no argument {shown(rest[0])}{near}")
        for action in self._actions:
            name = "/".join(action.option_strings) or action.dest
            value = vars(known).get(action.dest)
            if value == "" and action.dest != "prompt":  # "$NAME" of a shell that has no NAME
                self.error(f"argument {name}: it is empty")
            if value == []:  # of --out=--, which Python's argparse up to 3.12 takes for nothing
                self.error(f"argument {name}: it cannot be '--'")
        return known, rest

    def error(self, message: str) -> Any:
        """End the program with a message that is not longer than what it is about."""
        super().error(message if len(message) < 500 else f"{message[:300]} ...")


def read_as(kind: type, least: float = -math.inf, most: float = math.inf) -> Callable[[str], Any]:
    """Return a reader of numbers in a range, as `add_argument` takes it."""
    setting = Setting("", kind, 0, "", least=least, most=most)

    def read(given: str) -> Any:
        with suppress(ValueError):
            return convert(setting, given, "")
        raise argparse.ArgumentTypeError(f"{shown(given)} is not {setting.allowed}")

    return read


# what a terminal obeys in place of showing it, in a name that comes from elsewhere
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SEED = read_as(int, -(2**63), 2**64 - 1)  # what torch takes


def typed(given: str) -> str:
    """Return what a user typed, also where Python took the terminal for one without UTF-8."""
    try:
        return os.fsencode(given).decode("utf-8")
    except UnicodeError:
        raise argparse.ArgumentTypeError("it is not UTF-8") from None


def one_line(error: BaseException, command: str) -> str:
    """Return the message of an error without line breaks, in the words of the command line."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = error.args[1] if isinstance(error, OSError) and len(error.args) > 1 else str(error)
    parts = re.split("(`[^`]*`)", " ".join(str(text).split()))  # commands, to be pasted, stay whole
    for n, part in [*enumerate(parts)][::2]:
        part = re.sub(r"\S{400,}", lambda long: f"{long[0][:100]}...", part)
        in_file = isinstance(error, SettingsFileError)  # which has names and no flags
        parts[n] = part if in_file else name_flags(part, command)
    line = CONTROLS.sub(lambda found: ascii(found[0])[1:-1], "".join(parts))
    return line or type(error).__name__


def name_flags(message: str, command: str) -> str:
    """Return a message about parameters with the flags of a command: n_heads becomes --n-heads."""
    parser = Parser()
    next(add for add in COMMANDS if add.__name__ == f"{command}_flags")(parser)
    flags = {a.dest: a.option_strings[0] for a in parser._actions if a.option_strings}
    for phrase, own in WORDS.items():
        message = message.replace(phrase, own)
    for name, flag in flags.items():
        # one word alone may be a word of English, or stand in a path
        alone, joined = r"^((?:the \w+ of )?){}(?= is )", r"(?<![\w./'\"-])(){}(?![\w./'\"-])"
        pattern = (joined if "_" in name else alone).format(name)
        message = re.sub(pattern, rf"\g<1>{flag}", message)
    return message


# what only a programmer can set, and what a user sets in its place
WORDS = {
    "max_length": "context_length",
    "a smaller stride": "a smaller context_length",
    ", or drop_last=False": "",
    " an int ": " a whole number ",
    ", or None": ", or none",
    "stops are": "--until is",
}


def make_parser() -> Parser:
    """Return the parser of the whole command line; it ends the program with exit code 2."""
    parser = Parser(
        prog="llmlib",
        description="Prepare texts, train GPTs on them, generate text, and evaluate models.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    first_examples = []
    for add_flags in COMMANDS:
        about, _, examples = inspect.cleandoc(add_flags.__doc__ or "").partition("\n\n")
        name = add_flags.__name__.removesuffix("_flags")
        add_flags(commands.add_parser(name, help=about, description=about, epilog=examples))
        first_examples += examples.split("\n")[1:2]
    more = "`llmlib train --help` and so on say more."
    parser.epilog = "\n".join(["examples:", *first_examples, "", more])
    return parser


def tokenizer_flags(parser: Parser) -> None:
    """Learn a tokenizer from a text, for prepare and train to use.

    examples:
      llmlib tokenizer wiki --out wiki.json --vocab-size 8000
      llmlib tokenizer my_book.txt --kind unigram --out my_book.json
    """
    parser.add_argument(
        "data", help="the name of a corpus, a text (also .gz, .jsonl), or a folder of texts"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the new .json file")
    parser.add_argument("--kind", help="bpe, wordpiece, unigram, word, char [bpe]")
    parser.add_argument("--vocab-size", type=int, metavar="N", help="how many ids [4000]")
    parser.add_argument("--pattern", help="how bpe splits: gpt2, gpt4 [gpt2]")
    for setting in (SETTINGS["separator"], SETTINGS["text_field"]):
        parser.add_argument(
            setting.flag, metavar="TEXT", type=typed, help=f"{setting.help} [{setting.default}]"
        )


def prepare_flags(parser: Parser) -> None:
    """Turn a text into token files that training maps into memory.

    examples:
      llmlib prepare wiki --tokenizer gpt2 --out data/prepared/wiki
      llmlib prepare my_book.txt --tokenizer my_book.json --out data/prepared/my_book
    """
    parser.add_argument(
        "data", help="the name of a corpus, a text (also .gz, .jsonl), or a folder of texts"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the new folder")
    add_settings(parser, "settings", DATA)


def train_flags(parser: Parser) -> None:
    """Train a model; the run folder that it leaves can be resumed at any step.

    examples:
      llmlib train stories --max-steps 4000 --dtype bfloat16
      llmlib train my_book.txt --tokenizer char --n-layers 4 --emb-dim 128 --out runs/my_book
      llmlib train data/prepared/wiki --preset gpt2-124M --context-length 256 --device auto
      llmlib train my_book.txt --from gpt2-124M --context-length 256 --learning-rate 1e-4
      llmlib train --config configs/stories.yaml --learning-rate 3e-3
      llmlib train --resume runs/my_book --max-steps 8000
      torchrun --nproc_per_node=2 -m llmlib train stories
    """
    parser.add_argument("data", nargs="?", help=SETTINGS["data"].help)
    parser.add_argument("--config", metavar="FILE", help="settings in YAML or TOML; flags win")
    parser.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    parser.add_argument("--out", metavar="RUN", help=SETTINGS["out"].help)
    for title, settings in GROUPS.items():
        add_settings(parser, title, settings)


def generate_flags(parser: Parser) -> None:
    """Generate text with a model, token by token.

    examples:
      llmlib generate --checkpoint runs/stories --prompt "Once upon a time" --n 3
      llmlib generate --checkpoint runs/my_book --temperature 0.8 --top-k 50 --seed 1
      llmlib generate --checkpoint gpt2-124M --prompt "The meaning of life is" --weights int8
      llmlib generate --checkpoint gpt2/nano
    """
    add_checkpoint(parser)
    add = parser.add_argument
    add("--prompt", type=typed, help="the beginning [a new text]")
    add("--max-new-tokens", type=read_as(int, 0, BIG), metavar="N", help="[200]")
    add("--temperature", type=float, metavar="T", help="[1.0]")
    add("--top-k", type=int, metavar="K", help="only the K likeliest tokens")
    add("--top-p", type=float, metavar="P", help="only the likeliest tokens, P together")
    add("--min-p", type=float, metavar="P", help="only those at least P times the likeliest")
    add("--repetition-penalty", type=float, metavar="R", help="above 1: fewer repeats [1.0]")
    add("--no-repeat-ngram-size", type=int, metavar="N", help="no N tokens twice in a text")
    add("--min-new-tokens", type=int, metavar="N", help="no end of the text before these [0]")
    about = "end before this string (repeatable)"
    add("--until", "--stop", dest="until", action="append", type=typed, metavar="TEXT", help=about)
    add("--num-beams", type=int, metavar="N", help="search with N beams, draw nothing")
    add("--prompt-lookup", type=int, metavar="N", help="guess N tokens from what stood before")
    add("--weights", metavar="FORMAT", help="stored as float32, bfloat16, float16, int8 [float32]")
    add("--seed", type=SEED, help="[0]")
    add("--n", type=int, help="how many texts [1]")


def evaluate_flags(parser: Parser) -> None:
    """Measure a model: loss, perplexity, bits per byte.

    examples:
      llmlib evaluate --checkpoint runs/stories
      llmlib evaluate --checkpoint runs/my_book --text another_book.txt --json
      llmlib evaluate --checkpoint gpt2-124M --text my_book.txt
    """
    add_checkpoint(parser)
    parser.add_argument(
        "--text", metavar="FILE", help="a text [the run's validation part, or stories]"
    )
    for setting in (SETTINGS["separator"], SETTINGS["text_field"]):
        about = f"{setting.help} [what the run had, or {setting.default}]"
        parser.add_argument(setting.flag, metavar="TEXT", help=about)
    parser.add_argument("--batch-size", type=int, metavar="N", help="[16]")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")


def download_flags(parser: Parser) -> None:
    """Fetch a published model, verified: a GPT-2 into gpt2/, others into models/.

    examples:
      llmlib download gpt2-124M
      llmlib download gpt2-355M --source huggingface
      llmlib download smollm2-135m
    """
    about = "gpt2-124M, gpt2-355M, gpt2-774M, gpt2-1558M, smollm2-135m"
    parser.add_argument("name", help=about)
    parser.add_argument("--source", help="of a GPT-2: openai, huggingface [openai]")


def add_checkpoint(parser: Parser) -> None:
    """Add the flags of commands that use a trained model."""
    about = "a run (its best), RUN/latest, a folder of transformers or OpenAI's, a .gguf, a name"
    parser.add_argument("--checkpoint", required=True, metavar="MODEL", help=about)
    extra = "load a file that holds tensors that the model has no place for, without them"
    parser.add_argument("--ignore-extra", action="store_true", help=extra)
    parser.add_argument("--device", help="auto, cpu, cuda, mps [auto]")


def add_settings(parser: Parser, title: str, settings: list[Setting]) -> None:
    """Add a flag for each setting; only those that are given will stand in the result."""
    group = parser.add_argument_group(title)
    for setting in settings:
        about = setting.help + (f" [{setting.default}]" if setting.default is not None else "")
        keywords: dict[str, Any] = {"help": about}
        if setting.kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif setting.kind is tuple:
            keywords |= {"nargs": 2, "metavar": ("B1", "B2")}
        else:
            if setting.name in TEXTS:
                keywords["type"] = typed
            keywords["metavar"] = "|".join(setting.choices) or setting.kind.__name__.upper()
        group.add_argument(setting.flag, **keywords)


COMMANDS = [tokenizer_flags, prepare_flags, train_flags, generate_flags, evaluate_flags]
COMMANDS += [download_flags]
