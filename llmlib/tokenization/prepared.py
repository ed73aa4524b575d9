"""What a prepared folder says about itself, and the tokenizer in it.

Written by hand; `llmlib prepare` makes such folders. data.json vouches for the other files by their
hashes, and for itself by its own. Folders of version 1 have fewer hashes, and are still read.
"""

from pathlib import Path
from typing import Any

from llmlib import checks, files
from llmlib.data.corpora import is_name
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.folders import KINDS, load_tokenizer

FORMAT, VERSION = "llmlib data", 2  # of a prepared folder


def is_prepared(data: str | Path) -> bool:
    """Return whether DATA is a prepared folder, and not a name, a text or a folder of texts."""
    return not is_name(data) and (Path(data) / "data.json").is_file()


def hash_of(about: dict) -> str:
    """Return the hash of what data.json says, without the one that stands in it."""
    return files.digest({key: value for key, value in about.items() if key != "sha256"})


def write_about(folder: Path, about: dict) -> dict:
    """Write data.json beside the files that it speaks of; return all that it says."""
    about = {"format": FORMAT, "version": VERSION, **about}
    if (tokenizer := folder / "tokenizer.json").is_file():
        about["tokenizer_sha256"] = files.sha256(tokenizer)
    about["sha256"] = hash_of(about)
    files.write_json(folder / "data.json", about, indent=1)
    return about


def read_about(folder: str | Path) -> dict:
    """Return what data.json says about a prepared folder. Raises ValueError for another folder."""
    path = Path(folder) / "data.json"
    checks.require(path.is_file(), f"{folder} is not a prepared folder: it holds no data.json")
    about = checks.read_json(path)
    version = about.get("version")
    checks.require(about.get("format") == FORMAT, f"{path} was not written by llmlib prepare")
    checks.require(
        version in (1, VERSION), f"{path} is of version {version}: prepare the text again"
    )
    with checks.blame(path):
        found = hash_of(about)
    checks.prepared_about(path, about, found, ["gpt2", *KINDS])
    return about


def load_prepared_tokenizer(folder: str | Path) -> Tokenizer:
    """Return the tokenizer whose ids a prepared folder holds.

    Raises ValueError or OSError if it is not the one that data.json speaks of.
    """
    folder, about = Path(folder), read_about(folder)
    if about["tokenizer"] == "gpt2":
        path, tokenizer = folder / "data.json", load_tokenizer("gpt2")
    else:
        path = folder / "tokenizer.json"
        tokenizer = load_tokenizer(path)
        checks.same_hash(path, files.sha256(path), about.get("tokenizer_sha256"))
    tokenizer.end_token = about.get("end_token", END_OF_TEXT)
    end = tokenizer.special_tokens.get(tokenizer.end_token)
    checks.prepared_tokenizer(path, about, tokenizer, end)
    return tokenizer


def identity(folder: str | Path) -> dict[str, Any]:
    """Return what tells the tokens of a prepared folder, and what they mean, from all others."""
    about, path = read_about(folder), Path(folder) / "tokenizer.json"
    found = {name: about[name] for name in ("rows", "vocab_size", "end_of_text")}
    found |= {part: about[part]["sha256"] for part in ("train", "val")}
    return found | {"tokenizer": files.sha256(path) if path.is_file() else about["tokenizer"]}
