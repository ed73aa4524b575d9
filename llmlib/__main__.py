"""The command line: `python -m llmlib`, also installed as `llmlib`.

Written by hand. Reads the arguments, calls the part of `llmlib.cli` that does the work, and turns
what went wrong into one line and an exit code: 0 for done, 2 for a mistake that can be mended, 130
for a stop by Ctrl-C. LLMLIB_TRACEBACK=1 shows the whole traceback instead.
"""

import argparse
import os
import sys

from llmlib.cli import config, console

EXAMPLES = {
    "tokenizer": """examples:
  llmlib tokenizer wiki --out wiki.json --vocab-size 8000
  llmlib tokenizer my_book.txt --kind unigram --out my_book.json""",
    "prepare": """examples:
  llmlib prepare wiki --tokenizer gpt2 --out data/prepared/wiki
  llmlib prepare my_book.txt --tokenizer my_book.json --out data/prepared/my_book""",
    "train": """examples:
  llmlib train stories --max-steps 4000 --dtype bfloat16
  llmlib train my_book.txt --tokenizer char --n-layers 4 --emb-dim 128 --out runs/my_book
  llmlib train data/prepared/wiki --preset gpt2-124M --context-length 256 --device auto
  llmlib train --config run.yaml --learning-rate 3e-3
  llmlib train --resume runs/my_book --max-steps 8000
  torchrun --nproc_per_node=2 -m llmlib train stories""",
    "generate": """examples:
  llmlib generate --checkpoint runs/stories --prompt "Once upon a time" --n 3
  llmlib generate --checkpoint runs/my_book --temperature 0.8 --top-k 50 --seed 1
  llmlib generate --checkpoint gpt2-124M --prompt "The meaning of life is" --weights int8
  llmlib generate --checkpoint gpt2/nano""",
    "evaluate": """examples:
  llmlib evaluate --checkpoint runs/stories
  llmlib evaluate --checkpoint runs/my_book --text another_book.txt --json""",
    "download": """examples:
  llmlib download gpt2-124M
  llmlib download gpt2-355M --source huggingface""",
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with examples at the end, that takes no shortened flags."""

    def __init__(self, **settings):
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)


def add_options(parser: argparse.ArgumentParser, title: str, options: list) -> None:
    """Add flags for settings; only those that are given will stand in the result."""
    group = parser.add_argument_group(title)
    for option in options:
        text = option.help + (f" [{option.default}]" if option.default is not None else "")
        keywords = {"help": text.replace("%", "%%"), "default": argparse.SUPPRESS}
        if option.kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords["metavar"] = "|".join(option.choices) or option.kind.__name__.upper()
            if option.kind is tuple:
                keywords |= {"nargs": 2, "metavar": ("B1", "B2")}
        group.add_argument(option.flag, **keywords)


def make_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="llmlib",
        description="Prepare texts, train GPTs on them, let them write, and measure them.",
        epilog="\n".join(["examples:", *(text.split("\n")[1] for text in EXAMPLES.values())])
        + "\n\n`llmlib train --help` and so on say more.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str) -> Parser:
        return commands.add_parser(name, help=about, description=about, epilog=EXAMPLES[name])

    learn = command("tokenizer", "Learn a tokenizer from a text, for prepare and train to use.")
    learn.add_argument("data", help="the name of a corpus, or a text file")
    learn.add_argument("--out", required=True, metavar="FILE", help="a .json file to be made")
    learn.add_argument("--kind", default="bpe", help="bpe, wordpiece, unigram, word, char [bpe]")
    learn.add_argument("--vocab-size", type=int, metavar="N", help="how many ids [4000]")
    learn.add_argument("--pattern", default="gpt2", help="of bpe, to cut a text: gpt2, gpt4 [gpt2]")

    prepare = command("prepare", "Turn a text into token files that training maps into memory.")
    prepare.add_argument("data", help="the name of a corpus, or a text file")
    prepare.add_argument("--out", required=True, metavar="FOLDER", help="a folder to be made")
    add_options(prepare, "settings", config.DATA)

    train = command("train", "Train a GPT; the run folder it leaves can be resumed at any step.")
    about = "a corpus, a text file, or a folder that prepare made"
    train.add_argument("data", nargs="?", default=argparse.SUPPRESS, help=about)
    train.add_argument("--config", metavar="FILE", help="settings in YAML or TOML; flags win")
    train.add_argument("--resume", metavar="RUN", help="a run folder, to go on where it was saved")
    train.add_argument("--out", default=argparse.SUPPRESS, metavar="RUN", help="[runs/NAME]")
    for title, options in config.GROUPS.items():
        add_options(train, title, options)

    generate = command("generate", "Write with a trained model, token by token as it goes.")
    add_checkpoint(generate)
    generate.add_argument("--prompt", default="", help="the beginning [a new text]")
    generate.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="[200]")
    generate.add_argument("--temperature", type=float, default=1.0, metavar="T", help="[1.0]")
    generate.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="only the likeliest, P together")
    about = "only those at least P times as likely as the likeliest"
    generate.add_argument("--min-p", type=float, metavar="P", help=about)
    about = "above 1 makes less likely what was said already [1.0]"
    generate.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help=about)
    about = "a string that ends the text and is not shown; may be given again"
    generate.add_argument("--until", action="append", default=[], metavar="TEXT", help=about)
    about = "how weights are stored: float32, bfloat16, float16, int8 [float32]"
    generate.add_argument("--weights", default="float32", metavar="FORMAT", help=about)
    generate.add_argument("--seed", type=int, default=0, help="[0]")
    generate.add_argument("--n", type=int, default=1, help="how many texts [1]")

    evaluate = command("evaluate", "Measure a trained model: loss, perplexity, bits per byte.")
    add_checkpoint(evaluate)
    evaluate.add_argument("--text", metavar="FILE", help="a text [what was kept for validation]")
    evaluate.add_argument("--batch-size", type=int, default=16, metavar="N", help="[16]")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")

    download = command("download", "Fetch one of OpenAI's GPT-2 models, verified, into gpt2/.")
    download.add_argument("name", help="gpt2-124M, gpt2-355M, gpt2-774M, gpt2-1558M")
    download.add_argument("--source", default="openai", help="openai, huggingface [openai]")
    return parser


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the flags of commands that use a trained model."""
    parser.add_argument(
        "--checkpoint", required=True, metavar="RUN", help="a run folder (its best), or RUN/latest"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps [auto]")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read arguments; a flag that does not exist is answered with the nearest one."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        near = config.nearest(rest[0], flags_of(parser, arguments.command))
        parser.error(f"no argument {rest[0]!r}{near}")
    return arguments


def flags_of(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """The flags of a subcommand."""
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(subparsers.choices[command]._option_string_actions)


def dispatch(arguments: argparse.Namespace) -> int:
    """Call the work of a subcommand; torch is imported here at the earliest."""
    given = vars(arguments)
    command = given.pop("command")
    if command == "tokenizer":
        from llmlib.cli.tokenizer import tokenizer_command as work
    elif command == "prepare":
        from llmlib.cli.prepare import prepare_command as work
    elif command == "train":
        from llmlib.cli.train import train_command as work
    elif command == "generate":
        from llmlib.cli.generate import generate_command as work
    elif command == "evaluate":
        from llmlib.cli.evaluate import evaluate_command as work
    else:
        from llmlib.cli.download import download_command as work
    return work(**given)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    console.accept_any_text()
    arguments = parse(argv)
    try:
        return dispatch(arguments)
    except KeyboardInterrupt:
        print("llmlib: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `llmlib generate … | head` has seen enough
        console.mute()
        return 0
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        if os.environ.get("LLMLIB_TRACEBACK"):
            raise
        # a RuntimeError that is not about memory is a mistake of ours: we need its traceback
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        print(f"llmlib: {one_line(error)}", file=sys.stderr)
        return 2


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks; an OSError of the system with its file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = error.args[1] if isinstance(error, OSError) and len(error.args) > 1 else str(error)
    return " ".join(str(text).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
