"""The doors of the files of a byte-level BPE: which format a path stands for.

Written by hand. `formats` (notebook 09) knows GPT-2's two files and tiktoken's one, `huggingface`
the tokenizer.json, `transformers_folder` what stands beside it.
"""

from collections.abc import Collection
from pathlib import Path

from llmlib import checks
from llmlib.tokenization import formats, huggingface, transformers_folder
from llmlib.tokenization.formats import Vocabulary

NAMES = ("tokenizer.json", "vocab.bpe", "merges.txt")


def save(path: str | Path, vocabulary: Vocabulary) -> None:
    """Write a `.json` for Hugging Face, a `.tiktoken`, or else a folder with GPT-2's two files.

    Raises ValueError for another name, and for what the format cannot hold.
    """
    path = Path(path)
    writers = {".json": huggingface.write, ".tiktoken": formats.write_tiktoken}
    writers[""] = formats.write_gpt2
    allowed = "give a name that ends in .json or .tiktoken, or a folder"
    write = checks.found(writers.get(path.suffix), f"{path}: {allowed}")
    if path.suffix != ".tiktoken":
        special = {token.encode(): i for token, i in vocabulary.special_tokens.items()}
        checks.ids_of_tokens(vocabulary.tokens | special)
    if path.suffix != ".json":
        names = vocabulary.special_tokens if vocabulary.pattern == "gpt2" else ()
        checks.told_by_their_looks(names, vocabulary.added_tokens, path.suffix)
    write(path, vocabulary)


def find(path: str | Path) -> Path:
    """Return the file of a tokenizer: the path itself, or the first one in a folder.

    Raises FileNotFoundError if nothing is there, or a folder holds no tokenizer.
    """
    path = Path(path)
    partner = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}.get(path.name)
    if partner and path.with_name(partner).exists():
        return path.with_name(partner)
    found = [path / name for name in NAMES if (path / name).exists()]
    return checks.tokenizer_place(path, found)


def load(path: str | Path, special_ids: Collection[int] = ()) -> Vocabulary:
    """Read what `save` writes, a folder of Hugging Face, or GPT-2's `vocab.bpe` alone.

    special_ids: those that a .tiktoken leaves free for special tokens, which it does not name.
    Raises FileNotFoundError, and FileError for a file that is damaged or of another kind.
    """
    file = find(path)
    with checks.tokenizer_file(file, "a byte-level BPE"):
        if file.suffix == ".tiktoken":
            return formats.read_tiktoken(file, special_ids)
        if file.suffix == ".bpe":
            return formats.read_gpt2(file)
        return huggingface.to_vocabulary(content_of(path))


def content_of(path: str | Path) -> dict:
    """Return what a tokenizer.json, or merges.txt and vocab.json, hold in the words of the former.

    From a folder, the tokens are read that transformers adds from the files beside.
    """
    file = find(path)
    if formats.ids_file(file) != file:
        return transformers_folder.from_merges(file, formats.ids_file(file))
    content = huggingface.read_content(file)
    return transformers_folder.complete(content, Path(path)) if Path(path).is_dir() else content
