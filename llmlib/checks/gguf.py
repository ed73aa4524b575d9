"""GGUF files: what they are, and what of them is read."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmlib.checks.values import require
from llmlib.messages import shown

READ = ("llama", "qwen2", "qwen3")
NEUTRAL = {  # settings that change nothing where they have these values
    "rope.scaling.type": ("none", None),
    "rope.scaling.factor": (1.0, 0.0, None),
}


def gguf_magic(path: Path) -> None:
    """Raise ValueError unless a file begins as a GGUF file does."""
    with path.open("rb") as file:
        start = file.read(4)
    require(start == b"GGUF", f"it begins with {start!r}, a GGUF file with b'GGUF'")


@contextmanager
def whole_gguf() -> Iterator[None]:
    """Raise ValueError where a reader runs over the end of a file."""
    try:
        yield
    except (IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"it ends too early, or is damaged: {error}") from error


def gguf_architecture(name: Any) -> str:
    """Return the architecture of a file. Raises ValueError if it is not read here."""
    known = ", ".join(READ)
    require(name in READ, f"general.architecture is {shown(name)}: what is read here is {known}")
    return name


def gguf_settings(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ValueError for a setting that might change the model and is not read."""
    for name in given.keys() - set(known):
        neutral = NEUTRAL.get(name, ())
        remedy = "give the model in Hugging Face's layout"
        require(
            given[name] in neutral,
            f"it says {name} = {shown(given[name])}, not read here: {remedy}",
        )


def gguf_tokenizer(kind: Any, split: Any, splits: Collection[str]) -> None:
    """Raise ValueError for a tokenizer that is not read here."""
    require(
        kind == "gpt2", f"its tokenizer is {shown(kind)}: a byte-level BPE, gpt2, is what is read"
    )
    known = ", ".join(splits)
    require(split in splits, f"it splits text by {shown(split)}: what is read here is {known}")
