"""Where GPT-2's files have their place, where they come from, and how each is verified.

Written by hand: the addresses, sizes and hashes are facts and no subject of the course. OpenAI's
files come from its public bucket or from a mirror (Sebastian Raschka's); those of Hugging Face from
a fixed revision of the repositories `openai-community/gpt2` and so on. Where no hash is known, the
size is compared, and the checkpoint's own crc of every tensor.
"""

from pathlib import Path
from typing import Any

from llmlib import checks
from llmlib.data.download import fetch
from llmlib.files import home, shipped, write_text
from llmlib.pretrained.tensor_bundle import TensorBundle
from llmlib.tokenization.gpt2 import derive_encoder_json

DATA, INDEX, META = (f"model.ckpt.{end}" for end in ("data-00000-of-00001", "index", "meta"))
SEVEN = ("checkpoint", "hparams.json", "encoder.json", "vocab.bpe", META, INDEX, DATA)
ADDRESSES = {
    "openai": [
        "https://openaipublic.blob.core.windows.net/gpt-2/models/{folder}/{file}",
        "https://f001.backblazeb2.com/file/LLMs-from-scratch/gpt2/{folder}/{file}",
    ],
    "huggingface": ["https://huggingface.co/openai-community/{folder}/{file}"],
}

Facts = tuple[int | None, str | None]  # bytes and SHA-256, as far as they are known

VOCABULARY: dict[str, Facts] = {  # all sizes share it
    "encoder.json": (1_042_301, "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
    "vocab.bpe": (456_318, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
}
OPENAI: dict[str, dict[str, Facts]] = {
    "gpt2-124M": {
        "checkpoint": (77, "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb"),
        "hparams.json": (90, "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318"),
        META: (471_155, "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b"),
        INDEX: (5_215, "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687"),
        DATA: (497_759_232, "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118"),
    },
    "gpt2-355M": {
        "hparams.json": (91, None),
        META: (926_519, None),
        INDEX: (10_399, None),
        DATA: (1_419_292_672, None),
    },
    "gpt2-774M": {INDEX: (15_535, None), DATA: (3_096_120_320, None)},
    "gpt2-1558M": {INDEX: (20_724, None), DATA: (6_230_444_800, None)},
}
# the repository at a revision, and model.safetensors in it
HUGGING_FACE: dict[str, tuple[str, Facts]] = {
    "gpt2-124M": (
        "gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e",
        (548_105_171, "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"),
    ),
    "gpt2-355M": (
        "gpt2-medium/resolve/6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        (1_519_984_962, "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd"),
    ),
    "gpt2-774M": (
        "gpt2-large/resolve/32b71b12589c2f8d625668d2335a01cac3249519",
        (3_247_159_078, None),
    ),
    "gpt2-1558M": (
        "gpt2-xl/resolve/15ea56dee5df4983c59b2538573817e1667135e2",
        (None, "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a"),
    ),
}


def place_of(name: str) -> Path:
    """Return the folder of a published model, such as gpt2/124M; ValueError for other names."""
    checks.known_name("GPT-2", name, OPENAI)
    return home() / "gpt2" / name.removeprefix("gpt2-")


def is_complete(folder: Path) -> bool:
    """Tell whether a folder holds all files of one layout that a model is loaded from."""
    openai = {*SEVEN} - {META, "checkpoint"}
    layouts = [openai, {"config.json", "model.safetensors"}]
    return any(all((folder / file).is_file() for file in layout) for layout in layouts)


def find_folder(name: str | Path) -> Path:
    """Return the folder of a model, given by name or as a path.

    Raises FileNotFoundError, with the command that downloads it or the names that there are.
    """
    if name == "gpt2/nano":  # ships with the course
        return shipped("gpt2/nano")
    if name in OPENAI:
        folder = place_of(str(name))
        fault = f"{name} is not in {folder}: run `python -m llmlib download {name}`"
        checks.require(is_complete(folder), fault, FileNotFoundError)
        return folder
    folder, names = Path(name), ", ".join(OPENAI)
    fault = f"there is no folder {folder}; by name there are {names}"
    checks.require(folder.is_dir(), fault, FileNotFoundError)
    wanted = checks.instead_of_a_model(folder) or (
        "that is hparams.json and model.ckpt.index with its data, or config.json and "
        "model.safetensors"
    )
    fault = f"{folder} does not hold a GPT-2: {wanted}"
    checks.require(holds_gpt2(folder), fault, FileNotFoundError)
    return folder


def holds_gpt2(folder: Path) -> bool:
    """Tell whether a folder has the file by which one of the two layouts is known."""
    names = ("hparams.json", "model.safetensors", "model.safetensors.index.json")
    is_adapted = (folder / "adapter_config.json").is_file()  # peft would change what is there
    return not is_adapted and any((folder / name).is_file() for name in names)


def download_gpt2(name: str, source: str = "openai", **settings: Any) -> Path:
    """Bring one of OpenAI's models to its place, gpt2/124M and so on, and return that folder.

    name: "gpt2-124M", "gpt2-355M", "gpt2-774M" or "gpt2-1558M". source: "openai" for the seven
    files, "huggingface" for one file of weights and the small ones that go with it. Files that are
    there and right are not downloaded again, and interrupted ones go on. settings: those of
    `download.fetch`, such as `progress=False`. Raises ValueError for an unknown name or source,
    DownloadError if a file cannot be had, and FileError if a tensor arrived damaged.
    """
    folder = place_of(name)
    checks.one_of("source", source, ADDRESSES)
    if source == "openai":
        remote, known = folder.name, OPENAI[name] | VOCABULARY
        wanted = SEVEN  # the largest last
    else:
        remote, weights = HUGGING_FACE[name]
        wanted, known = ("config.json", "model.safetensors"), {"model.safetensors": weights}
        folder.mkdir(parents=True, exist_ok=True)
        merges = shipped("gpt2/vocab.bpe").read_text(encoding="utf-8")  # the same, and ships
        write_text(folder / "merges.txt", merges)
        write_text(folder / "vocab.json", derive_encoder_json(merges))
    for file in wanted:
        urls = [address.format(folder=remote, file=file) for address in ADDRESSES[source]]
        size, sha256 = known.get(file, (None, None))
        fetch(urls, folder / file, sha256, size, check=checks.gpt2_content, **settings)
    if source == "openai" and known[DATA][1] is None:
        dict(TensorBundle(folder / "model.ckpt"))  # reads each tensor: compares its crc
    return folder
