"""What pyproject.toml cannot say: the data that ships lies beside the package, and travels in it.

`data/`, `gpt2/` and `models/` are folders of the course. A wheel brings what the package needs of
them as `llmlib/shipped/`, where `llmlib.files.shipped` finds it; an editable install uses the
checkout.
"""

from setuptools import find_packages, setup

SHIPPED = {
    "data": ["stories.txt", "README.md"],  # the READMEs hold the licences
    "gpt2": ["vocab.bpe", "README.md", "nano/*"],
    "models": ["README.md", "nano-llama/*"],
}

setup(
    packages=[*find_packages(include=["llmlib*"]), *(f"llmlib.shipped.{name}" for name in SHIPPED)],
    package_dir={f"llmlib.shipped.{name}": name for name in SHIPPED},
    package_data={f"llmlib.shipped.{name}": files for name, files in SHIPPED.items()},
    include_package_data=False,
)
