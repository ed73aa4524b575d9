"""Downloads: arguments that make no sense, and files that are not what their name says."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from llmlib.checks.files import read_json
from llmlib.checks.values import number, require, whole_number

PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|\?xml)", re.IGNORECASE)


def download(urls: Sequence[object], order: Any) -> None:
    """Raise TypeError or ValueError for arguments of `fetch` that make no sense."""
    require(urls, "no address to download from: give at least one URL")
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"a URL is a string, not {url!r}")
        if not re.match(r"https?://[^/]", url, re.IGNORECASE):
            raise ValueError(f"{url!r} is not an address: it has to begin with https:// or http://")
    if order.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", order.sha256):
        raise ValueError(f"sha256 is {order.sha256!r}: it must be 64 hexadecimal digits")
    if order.size is not None:
        whole_number("size", order.size, least=0)
    whole_number("most", order.most)
    whole_number("tries", order.tries)
    number("timeout", order.timeout, lambda x: x >= 0.001, "of at least 0.001 seconds")
    number("pause", order.pause, lambda x: x >= 0, "of at least 0 seconds")


def content(path: Path, name: str) -> None:
    """Raise ValueError for a file that is not of the kind that its name says.

    What a login page or an error message in its place looks like, where no hash can tell.
    """
    if name.endswith(".json"):
        read_json(path)
    elif name.endswith(".safetensors"):
        safetensors_layout(path)
    elif name.endswith((".meta", ".pb")):
        protobuf_layout(path)
    elif not name.endswith((".html", ".htm", ".xml", ".svg")):
        with path.open("rb") as file:
            require(not PAGE.match(file.read(1000)), "it is a page that a server sent in its place")


def gpt2_content(path: Path, name: str) -> None:
    """Raise ValueError for a file that does not belong to a GPT-2, as far as its name says so."""
    content(path, name)
    if name in ("config.json", "hparams.json"):
        sizes = {"n_embd", "n_layer", "n_head"}
        require(sizes <= read_json(path).keys(), "it does not give the sizes of a GPT-2")
    if name == "checkpoint":
        with path.open("rb") as file:
            named = b"model_checkpoint_path" in file.read(1000)
        require(named, "it does not name a checkpoint of TensorFlow")


def safetensors_layout(path: Path) -> None:
    """Raise ValueError unless a file's header is that of safetensors, and its tensors end it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        require(2 <= length <= size - 8, "it is no safetensors file: it has no header")
        try:
            tensors = json.loads(file.read(length))
            ends = [t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"]
            whole = size == 8 + length + max(ends, default=0)
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
            whole = False
    require(whole, "it is no whole safetensors file")


def protobuf_layout(path: Path) -> None:
    """Raise ValueError unless a file is a chain of protobuf's fields, from its start to its end."""
    size, fault = path.stat().st_size, "it is no protobuf file"
    require(size, "it is empty")
    with path.open("rb") as file:
        while file.tell() < size:
            field, kind = divmod(read_varint(file), 8)
            require(field and kind in (0, 1, 2, 5), fault)
            number = read_varint(file) if kind in (0, 2) else 0
            length = {0: 0, 1: 8, 2: number, 5: 4}[kind]
            require(file.tell() + length <= size, fault)
            file.seek(length, 1)


def read_varint(file: BinaryIO) -> int:
    """Return protobuf's number of variable length, 7 bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        require(byte, "it ends within a number")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("it is no protobuf file: it holds a number of more than 64 bits")
