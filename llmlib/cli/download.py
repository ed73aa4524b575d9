"""`llmlib download`: bring one of OpenAI's GPT-2 models to its place, verified.

Written by hand. An interrupted download goes on where it was; files that are there are checked.
"""

from llmlib.pretrained.gpt2_files import download_gpt2


def download_command(name: str, source: str = "openai") -> int:
    """Do what the command line asks for, and say where the model is now."""
    folder = download_gpt2(name, source)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {name}, {size:,} bytes")
    print(f"generate with it: llmlib generate --checkpoint {name}")
    return 0
