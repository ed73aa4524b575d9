"""One reader for tokenizers of every kind: a name, a file or a folder becomes a tokenizer.

Written by hand, above all other files of this room. Each tokenizer writes itself by `save`. Left
out: files of Hugging Face that hold no BPE.
"""

from contextlib import suppress
from pathlib import Path

from llmlib import checks
from llmlib.tokenization import formats, gguf, huggingface, storage
from llmlib.tokenization.base import Tokenizer
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.pipeline import PipelineTokenizer
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer, gpt2_tokenizer
from llmlib.tokenization.unigram import UnigramTokenizer
from llmlib.tokenization.wordpiece import WordPieceTokenizer
from llmlib.tokenization.words import CharTokenizer, WordTokenizer

# Those that can be learned from a text: name -> class with `from_text`.
KINDS = {
    "word": WordTokenizer,
    "char": CharTokenizer,
    "bpe": BPETokenizer,
    "wordpiece": WordPieceTokenizer,
    "unigram": UnigramTokenizer,
}


def kind_of(tokenizer: Tokenizer) -> str:
    """Return the name in KINDS of the class that would read what a tokenizer saves as .json."""
    is_bpe = isinstance(tokenizer, (TiktokenTokenizer, PipelineTokenizer))
    kind = BPETokenizer if is_bpe else type(tokenizer)
    return next(name for name, cls in KINDS.items() if cls is kind)


def load_tokenizer(source: str | Path) -> Tokenizer:
    """Return the tokenizer of a name, a file or a folder.

    source: "gpt2"; a .json that one of ours or Hugging Face's byte-level BPE was saved to; a
    .tiktoken; GPT-2's vocab.bpe or merges.txt, beside the file with the ids; a .gguf; or a folder
    that holds one of the others. GPT-2's two files come back with tiktoken at work, as long as
    their ids are in the order of the merges. Raises FileNotFoundError, and FileError (a ValueError)
    that says why a file is no tokenizer.
    """
    if source == "gpt2":
        return gpt2_tokenizer()
    if Path(source).suffix == ".gguf" and Path(source).is_file():
        return gguf.read_tokenizer(source)
    path = storage.find(source)
    # Hugging Face's files, and tiktoken's, name no class of ours
    classes = {cls.__name__: cls for cls in KINDS.values()} | {None: BPETokenizer}
    name = checks.read_json(path).get("tokenizer") if path.suffix == ".json" else None
    checks.known_class(path, name, classes)
    if name:
        return classes[name].load(path)
    if path.suffix == ".tiktoken":
        return BPETokenizer.load(path)
    if path.suffix != ".bpe":
        with checks.tokenizer_file(path, "a BPE of Hugging Face"):
            content = storage.content_of(source)
            if huggingface.beyond_bytes(content):
                return PipelineTokenizer(content)
    if formats.ids_file(path) != path:
        with suppress(checks.FileError):  # where tiktoken would give other ids, ours is at work
            return TiktokenTokenizer.load(source)
    return BPETokenizer.load(source)
