"""`llmlib download`: one of OpenAI's GPT-2 models comes to its place, verified.

Written by hand. What was interrupted goes on where it was, and what is there is only checked.
"""

from llmlib.pretrained.gpt2_files import download_gpt2


def download_command(name: str, source: str = "openai") -> int:
    """Do what the command line asks for, and say where the model is now."""
    folder = download_gpt2(name, source)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {name}, {size:,} bytes")
    print(f'load it with: llmlib.pretrained.gpt2.load_pretrained("{name}")')
    return 0
