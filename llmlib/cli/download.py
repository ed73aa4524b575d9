"""`llmlib download`: bring a published model to its place, verified.

Written by hand. An interrupted download goes on where it was; files that are there are checked.
"""

from llmlib import checks
from llmlib.pretrained.gpt2_files import OPENAI, download_gpt2
from llmlib.pretrained.hub_files import REPOSITORIES, download_model


def download_command(name: str, source: str | None = None) -> int:
    """Do what the command line asks for, and say where the model is now."""
    checks.known_name("model to download", name, [*OPENAI, *REPOSITORIES])
    if name in REPOSITORIES:
        checks.one_of("source", source or "huggingface", ["huggingface"])
        folder = download_model(name)
    else:
        folder = download_gpt2(name, source or "openai")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {name}, {size:,} bytes")
    print(f"generate with it: llmlib generate --checkpoint {name}")
    return 0
