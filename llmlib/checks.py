"""Messages for bad input: what was given, what is allowed, what to do.

Written by hand. Checks stand at the doors (constructors of configurations, readers of files, the
public entry of a loop, the command line), so that the code behind them carries nothing but ideas.
Each function returns nothing, or the checked value, and raises TypeError or ValueError.
"""

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")

# --- values


def whole_number(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless a value is an int (not a bool) from `least` to `most`."""
    fits = type(value) is int and value >= least and (most is None or value <= most)
    if not fits:
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}: it must be an int {allowed}")


def number(name: str, value: object, fits: Callable[[float], bool], allowed: str) -> None:
    """Raise ValueError unless a value is an int or float that fits, with `allowed` in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ValueError(f"{name} is {value!r}: it must be a number {allowed}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}: it must be True or False")


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless a value is among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(str, allowed))}")


def known_fields(cls: type[Any], given: Iterable[str]) -> None:
    """Raise TypeError, naming the nearest field, for a keyword that a dataclass does not have."""
    names = [field.name for field in fields(cls)]
    for name in given:
        if name not in names:
            raise TypeError(f"{cls.__name__} has no field {name!r}: {suggest(name, names)}")


def require(fact: object, message: str) -> None:
    """Raise ValueError with a message unless a fact holds."""
    if not fact:
        raise ValueError(message)


def found(value: T | None, message: str) -> T:
    """Return what a search gave. Raises ValueError with a message if that is None."""
    if value is None:
        raise ValueError(message)
    return value


def known_name(kind: str, name: str, allowed: Collection[str]) -> None:
    """Raise ValueError, naming the nearest one, for a name that is not among the allowed ones."""
    if name not in allowed:
        raise ValueError(f"there is no {kind} {name!r}: {suggest(name, list(allowed))}")


def instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError unless a value is of a kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def suggest(name: str, allowed: Collection[str]) -> str:
    """Return words that help with a misspelt name: the nearest allowed one, and all of them."""
    close = get_close_matches(str(name), allowed, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(allowed)}"


# --- tensors


def token_ids(ids: object) -> None:
    """Raise TypeError or ValueError unless ids are a tensor of ints (B, T) with at least one."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"ids are a {type(ids).__name__}: give a tensor, torch.tensor([ids])")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids hold {ids.dtype}: token ids are torch.int64 (or int32)")
    if ids.ndim != 2:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}, expected (batch, tokens); "
            "a single sequence is a batch of one: ids.unsqueeze(0)"
        )
    if ids.numel() == 0:
        raise ValueError(f"ids of shape {tuple(ids.shape)} hold no token: give at least one")


# --- files


class FileError(ValueError):
    """A file is damaged, missing or of another kind, or a tensor in it cannot be read.

    file, reason, and tensor: None if the file as a whole is meant.
    """

    def __init__(self, file: str | Path, reason: str, tensor: str | None = None):
        super().__init__(file, reason, tensor)  # all three, so that a copy can be pickled
        self.file, self.reason, self.tensor = Path(file), reason, tensor

    def __str__(self) -> str:
        tensor = "" if self.tensor is None else f"tensor {self.tensor!r}: "
        return f"{self.file}: {tensor}{self.reason}"


class MissingTensor(FileError, KeyError):
    """A checkpoint has no tensor of that name."""


@contextmanager
def blame(file: Path, tensor: str | None = None, about: str = "") -> Iterator[None]:
    """Turn what goes wrong in the block into a FileError that names file and tensor.

    about: what the reason begins with.
    """
    try:
        yield
    except FileError:
        raise
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(file, about + reason, tensor) from error


def looks_like(start: bytes) -> str:
    """Return a sentence about what a file is instead, by how it begins, or an empty string."""
    if start.startswith(b"version https://git-lfs"):
        return ". It is a Git LFS pointer: fetch the file that it stands for"
    if start.lstrip().startswith(b"<"):
        return ". It is a page that a server sent in its place: download the file again"
    return ""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises FileError, saying what is there instead."""
    with blame(path):
        data = path.read_bytes()
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"it is not JSON{looks_like(data)}") from None
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object: it should begin with {")
        return content


# --- checkpoints: tables (sstable), bundles of tensors (tensor_bundle), and models (gpt2)


def enough_bytes(available: int, size: int, at: int) -> None:
    """Raise ValueError if fewer than `size` bytes follow a place in a file."""
    if size > available:
        raise ValueError(f"it is cut off: {size:,} bytes should follow byte {at:,}")


def varint(value: int, last: int, shift: int) -> int:
    """Return a varint whose last byte was shifted by `shift`; ValueError unless it is well-formed.

    It has to end within ten bytes, fit 64 bits, and have no byte of zeros to spare.
    """
    if last >= 0x80 or value >> 64 or (shift and not last):
        raise ValueError("a number in it is malformed")
    return value


def table_footer(data: bytes, size: int, magic: bytes) -> bytes:
    """Return the last bytes of a table. Raises ValueError unless they end with its magic number."""
    if len(data) < size or not data.endswith(magic):
        raise ValueError(f"it does not end like an index{looks_like(data)}")
    return data[-size:]


def table_block(offset: int, is_sound: bool, compression: int) -> None:
    """Raise ValueError for a block whose crc differs, or that is compressed."""
    if not is_sound:
        raise ValueError(f"it is damaged: the crc of the block at byte {offset:,} does not match")
    if compression:
        raise ValueError("it is compressed, which is not supported")


def table_layout(blocks: Iterable[tuple[int, int]], end: int, padding: bytes) -> None:
    """Raise ValueError unless blocks (offset, size) fill a table up to its footer.

    Five bytes follow each block. With this, every byte of the file belongs to a block with a crc,
    or to the footer, whose handles lead to these blocks, and whose padding is zero.
    """
    at = 0
    for offset, size in blocks:
        if offset != at:
            raise ValueError(f"a block should lie at byte {at:,}, and not at {offset:,}")
        at += size + 5
    if at != end or any(padding):
        raise ValueError("its footer is damaged")


def ordered_keys(
    entries: Iterable[tuple[bytes, bytes]], capacity: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield entries; ValueError at a key out of order, or if all keys exceed `capacity` bytes.

    Keys that share their beginnings can be many gigabytes long in a file of a few kilobytes.
    """
    last = None
    for key, value in entries:
        capacity -= len(key)
        if capacity < 0 or (last is not None and key <= last):
            raise ValueError("its keys are not in order, or too long")
        yield key, value
        last = key


def message_field(number: int, values: list, kind: type) -> Any:
    """Return the one value of a protobuf field. Raises ValueError for several, or another kind."""
    if len(values) != 1 or not isinstance(values[0], kind):
        raise ValueError(f"its field {number} is malformed")
    return values[0]


def bundle_files(prefix: Path, index: Path, most: int) -> None:
    """Raise ValueError if a path is not the prefix of a checkpoint, or its index is too large."""
    if not index.exists() and prefix.is_dir():
        raise ValueError(f"it is missing: give a prefix, such as {prefix}/model.ckpt")
    if not index.exists() and prefix.is_file():
        raise ValueError(f"it is missing: {prefix.name} is a V1 checkpoint, or not a prefix")
    if index.stat().st_size > most:
        raise ValueError("it is far too large for an index")


def bundle_header(n_shards: int, endianness: int, version: int) -> None:
    """Raise ValueError for a checkpoint that is big-endian, of a later version, or without data."""
    if not 0 < n_shards < 10**5 or endianness or version > 1:
        raise ValueError(f"{n_shards} shards, endianness {endianness}, version {version}")


def dimensions(messages: list, unknown_rank: int) -> list[bytes]:
    """Return the messages of a shape's dimensions. Raises ValueError if it is open or malformed."""
    if unknown_rank:
        raise ValueError("its shape is unknown")
    if not all(isinstance(message, bytes) for message in messages):
        raise ValueError("its shape is malformed")
    return messages


def tensor_place(entry: Any, file: Any) -> None:
    """Raise ValueError if an entry of a checkpoint contradicts itself, or the bytes of its file."""
    end = entry.offset + entry.size
    if end > len(file):
        other = looks_like(bytes(file[:64]))
        raise ValueError(f"it ends at byte {end:,}, but the file at byte {len(file):,}{other}")
    # Numbers from a file: multiplied as Python's integers, which do not overflow. NumPy's arrays
    # have at most 64 dimensions.
    if len(entry.shape) > 64 or math.prod(n or 1 for n in entry.shape) >= 2**48:
        raise ValueError(f"its shape {entry.shape} is absurd")
    if entry.stored is not None and entry.size != math.prod(entry.shape) * entry.stored.itemsize:
        raise ValueError(f"{entry.dtype} of shape {entry.shape} is not {entry.size:,} bytes")


def known_tensor(entries: Mapping[str, Any], name: str, file: Path) -> Any:
    """Return the entry of a tensor. Raises MissingTensor for a name that a checkpoint lacks."""
    if name not in entries:
        raise MissingTensor(file, f"it is not among the {len(entries)} tensors", name)
    return entries[name]


def tensor_names(names: Iterable[str]) -> list[str]:
    """Return names in the order of their bytes. Raises ValueError for one that cannot be stored."""
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name[:1] in ("", "\0"):
            raise ValueError(f"a tensor cannot be called {name!r}: give a string that is not empty")
    return sorted(names, key=str.encode)


def tensor_dtype(name: str, dtype: Any, allowed: Collection[str]) -> None:
    """Raise TypeError for an array that a checkpoint cannot hold."""
    if dtype.name not in allowed:
        raise TypeError(f"tensor {name!r} is of type {dtype}: give one of {', '.join(allowed)}")


def model_settings(
    content: Mapping[str, Any], required: Iterable[str], fixed: Mapping[str, Any]
) -> None:
    """Raise ValueError for settings that lack a field, or differ from what every GPT-2 has."""
    if missing := [name for name in required if name not in content]:
        raise ValueError(f"it does not say {missing[0]}")
    for name, value in fixed.items():
        if content.get(name, value) != value:
            raise ValueError(f"{name} is {content[name]!r}: a GPT-2 has {value!r}")


def stored_shape(
    file: Path, name: str, found: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    """Raise FileError unless a file has a tensor, and with the shape that the model has."""
    if found != expected:
        has = "is not there" if found is None else f"has the shape {found}"
        raise FileError(file, f"it {has}, where the model has {expected}", name)


def block_count(file: Path, found: int, expected: int) -> None:
    """Raise FileError unless a file has as many transformer blocks as its configuration says."""
    if found != expected:
        raise FileError(file, f"it has {found} blocks, where the model has {expected}")


def savable(model: Any, kind: type, n_tokens: int, needs_tied_head: bool = False) -> None:
    """Raise TypeError or ValueError for a model that the files of a GPT-2 cannot hold."""
    if not isinstance(model, kind):
        raise TypeError(f"only a GPT can be saved as a GPT-2, not a {type(model).__name__}")
    if "h.0.attn.c_attn.weight" not in model.state_dict():
        raise ValueError("a quantized model has no weights to save: save the one it was made from")
    if n_tokens > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {n_tokens:,} tokens, the model knows only "
            f"{model.config.vocab_size:,}: give the tokenizer it was trained with"
        )
    if needs_tied_head and not model.config.tie_weights:
        raise ValueError("OpenAI's files have no place for a separate head: use save_pretrained")


# --- word vectors (model/word_vectors, model/skipgram, data/vector_files)


def finite(x: torch.Tensor) -> torch.Tensor:
    """Return vectors. Raises ValueError if a component is NaN or infinite."""
    # the sum is quick, and it can overflow although all components are finite
    if not torch.isfinite(x.sum()) and not torch.isfinite(x).all():
        raise ValueError("a vector holds NaN or infinite numbers: it has no direction")
    return x


def same_components(a: torch.Tensor, b: torch.Tensor) -> None:
    """Raise ValueError for vectors of different lengths; broadcasting would hide some of them."""
    if a.shape[-1:] != b.shape[-1:]:
        raise ValueError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)}: vectors need equally many components"
        )


def row_for_each_word(words: Sequence[str], matrix: np.ndarray) -> None:
    """Raise ValueError unless a finite matrix has a row for each word, and no word occurs twice."""
    if matrix.ndim != 2 or len(matrix) != len(words) or not matrix.size:
        raise ValueError(
            f"{len(words)} words and a matrix of shape {matrix.shape}: give one row for each word"
        )
    if len(set(words)) < len(words):
        raise ValueError(f"the word {Counter(words).most_common(1)[0][0]!r} occurs twice")
    if not np.isfinite(matrix).all():
        raise ValueError("the matrix holds NaN or infinite numbers")


def known_word(word: object, rows: Mapping[Any, int]) -> int:
    """Return the row of a word. Raises KeyError, with the nearest spelling, for an unknown one."""
    if not isinstance(word, str):
        raise TypeError(f"a word is a string, not {word!r}")
    if word not in rows:
        # frequent words come first; in millions, a search by spelling would take minutes
        near = get_close_matches(word, list(islice(rows, 20_000)), n=1)
        hint = f": did you mean {near[0]!r}?" if near else f" among these {len(rows):,}"
        raise KeyError(f"no vector for {word!r}{hint}")
    return rows[word]


def neighbours(query: torch.Tensor, size: int, k: int, available: int) -> None:
    """Raise ValueError for a query that is not (size,), or k out of range."""
    if query.shape != (size,):
        raise ValueError(f"shape {tuple(query.shape)}: these vectors are ({size},)")
    if not 1 <= k <= available:
        raise ValueError(f"k is {k}: there are {available} words to choose from")


def skip_gram(words: Sequence[str], emb_dim: int) -> None:
    """Raise ValueError for fewer than two words, a word that repeats, or an emb_dim below 1."""
    whole_number("emb_dim", emb_dim)
    if len(words) < 2 or len(set(words)) < len(words):
        raise ValueError(f"{len(words)} words: give at least two, each of them once")


def word_lists(documents: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return documents. Raises TypeError for one that was not split into words."""
    if any(isinstance(document, str) for document in documents):
        raise TypeError("a document is a list of words, not a string: split it with to_words")
    return documents


def some_pairs(pairs: torch.Tensor) -> torch.Tensor:
    """Return pairs of words. Raises ValueError if there is none."""
    if not len(pairs):
        raise ValueError("no two words stand together: give more text, or a larger subsample")
    return pairs


def positive(frequencies: torch.Tensor) -> torch.Tensor:
    """Return frequencies. Raises ValueError if there is none, or one that is not above 0."""
    if not frequencies.numel() or not (frequencies > 0).all():
        raise ValueError("noise needs frequencies above 0, one for each word")
    return frequencies


def three_words(words: Sequence[str]) -> list[str]:
    """Return the different ones of some words. Raises ValueError for fewer than three."""
    words = list(dict.fromkeys(words))
    if len(words) < 3:
        raise ValueError(f"{len(words)} different words: an odd one needs at least two others")
    return words


def questions(asked: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return questions. Raises ValueError unless there are some, each of four words."""
    if not len(asked) or any(len(question) != 4 for question in asked):
        raise ValueError("give at least one question, each of four words: a is to b as c is to d")
    return asked


def points(x: torch.Tensor, k: int) -> None:
    """Raise ValueError unless x is finite points (N, C) that differ, with at least k directions."""
    if x.ndim != 2 or len(x) < 2 or not torch.isfinite(x).all():
        raise ValueError(f"shape {tuple(x.shape)}: give two or more finite vectors (N, C)")
    if not 1 <= k <= min(x.shape):
        raise ValueError(
            f"k is {k}: {len(x)} points in {x.shape[1]} dimensions allow 1 to {min(x.shape)}"
        )
    if (x == x[0]).all():
        raise ValueError("all points are the same: no direction explains anything")


def word_vector_path(path: Path, known: Sequence[str]) -> Path:
    """Return the path of a file of word vectors; raises what fits a folder or unknown name."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file of word vectors in it")
    if path.exists():
        return path
    if len(path.parts) > 1 or path.suffix:
        raise FileNotFoundError(f"there is no file {path}")
    near = get_close_matches(path.name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, or give a path"
    raise ValueError(f"no word vectors are called {path.name!r}: {hint}")


def word_vector_file(path: Path, start: bytes, n_numbers: int, announced: int | None) -> None:
    """Raise FileError unless a file begins like word vectors.

    n_numbers: those that follow the first word, 0 if anything else does (in binary files).
    announced: how many the header says there are; None without a header.
    """
    if start.startswith(b"\x80"):
        raise FileError(
            path,
            "it is a pickle, and loading it could run anything: save the vectors with gensim's "
            "save_word2vec_format, and load that file",
        )
    if start.startswith(b"\x1f\x8b"):
        raise FileError(path, "it is compressed by gzip: give it a name that ends in .gz")
    if announced is not None and n_numbers not in (0, announced):
        raise FileError(
            path, f"it announces {announced} dimensions, but its first word has {n_numbers}"
        )
    if announced is None and n_numbers < 2:
        raise FileError(path, f"it does not hold word vectors: it begins with {start[:40]!r}")


def sound_vectors(vectors: Any) -> Any:
    """Return gensim's vectors. Raises ValueError if there are none, or NaN among them."""
    if not len(vectors) or not np.isfinite(vectors.vectors.sum()):
        raise ValueError("it holds no words, or NaN among their vectors")
    return vectors


@contextmanager
def network(what: str, instead: str) -> Iterator[None]:
    """Turn any exception of the block into a ConnectionError that says what can be done."""
    try:
        yield
    except Exception as error:  # gensim raises bare Exceptions, too
        raise ConnectionError(
            f"{what} could not be fetched ({error}): try again with a network, or {instead}"
        ) from error


# --- model


def attention_sizes(emb_dim: int, n_heads: int, context_length: int, drop_rate: float) -> None:
    """Raise ValueError for sizes that no attention layer can have."""
    sizes = {"emb_dim": emb_dim, "n_heads": n_heads, "context_length": context_length}
    for name, size in sizes.items():
        whole_number(name, size)
    if emb_dim % n_heads:
        raise ValueError(
            f"emb_dim {emb_dim} is not divisible by n_heads {n_heads}: each head gets an equal part"
        )
    number("drop_rate", drop_rate, lambda rate: 0 <= rate < 1, "from 0 to below 1")


def gpt_config(config: Any) -> None:
    """Raise ValueError for a value that no GPT can have."""
    for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
        whole_number(name, getattr(config, name))
    for name in ("qkv_bias", "tie_weights"):
        flag(name, getattr(config, name))
    attention_sizes(config.emb_dim, config.n_heads, config.context_length, config.drop_rate)


def vectors(x: torch.Tensor, emb_dim: int, context_length: int) -> None:
    """Raise TypeError or ValueError unless x holds floats of shape (B, T, C), T at least 1."""
    if not torch.is_floating_point(x):
        raise TypeError(f"x holds {x.dtype}: attention takes vectors, so embed token ids first")
    if x.ndim != 3 or x.shape[2] != emb_dim:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (batch, tokens, {emb_dim}); "
            "a single sequence is a batch of one: x.unsqueeze(0)"
        )
    if x.shape[1] == 0:
        raise ValueError("x holds sequences of no tokens: give at least one")
    if x.shape[1] > context_length:
        raise ValueError(
            f"sequence of {x.shape[1]} tokens exceeds the layer's context_length of "
            f"{context_length}: crop it, or build the layer with a longer one"
        )


def model_input(
    ids: torch.Tensor, config: Any, device: torch.device, segments: torch.Tensor | None = None
) -> None:
    """Raise TypeError or ValueError unless a model can read ids (B, T) and their segments."""
    token_ids(ids)
    if ids.shape[1] > config.context_length:
        raise ValueError(
            f"sequence of {ids.shape[1]} tokens exceeds the model's context_length of "
            f"{config.context_length}: crop it, or build the model with a longer one"
        )
    if ids.device != device:
        raise ValueError(f"ids are on {ids.device}, the model on {device}: ids.to('{device}')")
    in_vocabulary(ids, config.vocab_size)
    if segments is not None and (segments.shape != ids.shape or segments.is_floating_point()):
        raise ValueError(
            f"segments of shape {tuple(segments.shape)} and {segments.dtype}: give an int for each "
            f"of the ids, {tuple(ids.shape)}: the number of its document, or -1 for padding"
        )


def language_model(model: Any) -> None:
    """Raise TypeError unless a model has what the protocol of a language model asks."""
    if not all(hasattr(model, name) for name in ("config", "features", "head", "head_weight")):
        raise TypeError(
            f"the model is a {type(model).__name__}: give one that has what "
            "llmlib.model.protocol.LanguageModel lists, as a GPT has"
        )


def in_vocabulary(ids: torch.Tensor, vocab_size: int) -> None:
    """Raise ValueError for an id outside the vocabulary; ids on an accelerator pass unseen.

    To look at numbers there, Python would have to wait for the device at every step. CUDA has an
    assertion of its own ("device-side assert"), and the same batch on the CPU tells which id it is.
    """
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (bound.item() for bound in ids.aminmax())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"token id {low if low < 0 else high} is outside the vocabulary: "
                f"ids are 0 to {vocab_size - 1}"
            )


def cache_size(batch_size: int, length: int, context_length: int) -> None:
    """Raise ValueError for a cache that a model cannot use."""
    if batch_size < 1 or not 1 <= length <= context_length:
        raise ValueError(
            f"a cache for {batch_size} rows of {length} tokens: give at least one row, and "
            f"1 to {context_length} tokens, the model's context_length"
        )


def cache_fits(cache: Any, batch_size: int, n_tokens: int) -> None:
    """Raise ValueError unless n_tokens more in each of batch_size rows fit in a cache."""
    if batch_size != cache.batch_size:
        raise ValueError(f"{batch_size} rows of ids, but the cache is for {cache.batch_size}")
    if cache.length + n_tokens > cache.capacity:
        raise ValueError(
            f"{n_tokens} tokens more than the {cache.length} in the cache do not fit: its capacity "
            f"is {cache.capacity}; make a larger one, up to the model's context_length, or "
            "re-encode a shorter window"
        )


def no_gradient(tensor: torch.Tensor, what: str) -> None:
    """Raise RuntimeError for a tensor that wants a gradient, where none is computed."""
    if tensor.requires_grad:
        raise RuntimeError(
            f"{what} passes no gradient: call the model under torch.no_grad(), or turn gradients "
            "off with model.requires_grad_(False)"
        )


# --- generation


def top_k(value: object) -> None:
    """Raise ValueError for a number of tokens that cannot be kept."""
    if type(value) is not int or value < 1:
        raise ValueError(
            f"top_k is {value!r}: it must be an int of at least 1, or None for all tokens"
        )


def top_p(value: object) -> None:
    """Raise ValueError for a share of probability that cannot be kept."""
    number("top_p", value, lambda p: 0 < p <= 1, "above 0 and at most 1")


def sampling(settings: Any) -> None:
    """Raise ValueError for settings with which nothing can be drawn."""
    allowed = "of at least 0, where 0 takes the likeliest token"
    number("temperature", settings.temperature, lambda t: 0 <= t < math.inf, allowed)
    if settings.top_k is not None:
        top_k(settings.top_k)
    if settings.top_p is not None:
        top_p(settings.top_p)
    if settings.min_p is not None:
        number("min_p", settings.min_p, lambda p: 0 <= p <= 1, "from 0 to 1")
    penalty = settings.repetition_penalty
    number("repetition_penalty", penalty, lambda p: 0 < p < math.inf, "above 0")


def finite_logits(logits: torch.Tensor) -> None:
    """Raise ValueError for rows of logits that leave no choice."""
    if not logits.amax(dim=-1).isfinite().all():
        raise ValueError("the model gives logits that are nan or infinite: its weights are broken")


def prompts(given: Any) -> Any:
    """Return ids (B, T) as they are, and lists of ids as tensors; raise for anything else."""
    if isinstance(given, torch.Tensor):
        if given.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids hold {given.dtype}: token ids are torch.int64 (or int32)")
        if given.ndim != 2 or given.numel() == 0:
            raise ValueError(
                f"ids have shape {tuple(given.shape)}, expected (batch, tokens) with at least one "
                "token, such as the one for the end of a text, after which a new one begins"
            )
        return given
    try:
        rows = [torch.tensor(list(prompt)) for prompt in given]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "ids must be a tensor of token ids (B, T), torch.tensor([tokenizer.encode(text)]), or "
            "a list of lists of ids"
        ) from error
    if not rows or any(len(row) == 0 for row in rows):
        raise ValueError("give at least one prompt, and at least one token in each")
    if any(row.dtype != torch.int64 for row in rows):
        raise TypeError("the prompts hold other things than token ids, which are of type int")
    return rows


def single_prompt(ids: torch.Tensor, what: str) -> None:
    """Raise ValueError for more than one prompt."""
    if len(ids) != 1:
        raise ValueError(f"{what} takes one prompt, not {len(ids)}: call it for each alone")


def generation(
    model: Any, ids: torch.Tensor, max_new_tokens: int, stop: int | None, slide: int | None
) -> None:
    """Raise TypeError or ValueError unless a model can continue ids (B, T)."""
    if not callable(model):
        raise TypeError(f"the model is a {type(model).__name__}: give a GPT, or a function of ids")
    whole_number("max_new_tokens", max_new_tokens, least=0)
    if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(f"stop is {stop!r}: it must be a token id, or None")
    context_length = getattr(getattr(model, "config", None), "context_length", None)
    if slide is not None:
        whole_number("slide", slide, most=context_length)
    slides = slide is not None or not hasattr(model, "new_cache")
    readable(model, ids, 0 if slides else max_new_tokens)


def readable(model: Any, ids: torch.Tensor, max_new_tokens: int) -> None:
    """Raise ValueError unless ids (B, T) are in a model's vocabulary and fit, with the new ones."""
    config = getattr(model, "config", None)
    if (vocab_size := getattr(config, "vocab_size", None)) is not None:
        in_vocabulary(ids, vocab_size)
    if max_new_tokens and (context_length := getattr(config, "context_length", None)) is not None:
        context(ids.shape[1], max_new_tokens, context_length)


def context(n_tokens: int, max_new_tokens: int, context_length: int) -> None:
    """Raise ValueError if a prompt and its new tokens are more than a model can read."""
    if n_tokens + max_new_tokens > context_length + 1:  # the last one is not read any more
        raise ValueError(
            f"{n_tokens} tokens and {max_new_tokens} new ones exceed the model's context_length of "
            f"{context_length}: ask for fewer, crop the prompt, or let the window slide (slide=…)"
        )


def beams(model: Any, ids: torch.Tensor, max_new_tokens: int, n_beams: int) -> None:
    """Raise ValueError unless beam search can continue ids (1, T)."""
    single_prompt(ids, "beam search")
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_beams", n_beams)
    readable(model, ids, max_new_tokens)


def speculation(
    models: tuple[Any, Any], ids: torch.Tensor, max_new_tokens: int, settings: Any, n_draft: int
) -> None:
    """Raise ValueError unless target and draft can continue ids (1, T) together."""
    single_prompt(ids, "speculative decoding")
    whole_number("max_new_tokens", max_new_tokens)
    whole_number("n_draft", n_draft)
    if settings.repetition_penalty != 1:
        raise ValueError("a repetition_penalty depends on the drafted tokens: leave it at 1")
    sizes = {getattr(getattr(model, "config", None), "vocab_size", None) for model in models}
    if len(sizes - {None}) > 1:
        raise ValueError("target and draft have different vocabularies: their tokens do not match")
    for model in models:
        readable(model, ids, max_new_tokens)


def stop_strings(stops: tuple[object, ...]) -> None:
    """Raise ValueError unless each stop is a string with a character."""
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stops are {stops!r}: each must be a string of one character or more")


def finite_matrix(weight: torch.Tensor) -> None:
    """Raise ValueError unless a weight is a matrix of finite floats."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"a weight {tuple(weight.shape)} of {weight.dtype}: give floats (O, I)")
    if not weight.isfinite().all():
        raise ValueError("the weight holds nan or infinity: its model is broken")


def refuse_packed(problem: str, remedy: str) -> None:
    """Raise TypeError: packed weights are for reading only."""
    raise TypeError(f"a model with packed weights {problem}: {remedy}")
