"""What pyproject.toml cannot say: the data that ships lies beside the package, and travels in it.

`data/` and `gpt2/` are folders of the course. A wheel brings what the package needs of them as
`llmlib/shipped/`, where `llmlib.files.shipped` finds it; an editable install uses the checkout.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["llmlib*"]), "llmlib.shipped.data", "llmlib.shipped.gpt2"],
    package_dir={"llmlib.shipped.data": "data", "llmlib.shipped.gpt2": "gpt2"},
    package_data={
        "llmlib.shipped.data": ["stories.txt", "README.md"],  # the READMEs hold the licences
        "llmlib.shipped.gpt2": ["vocab.bpe", "README.md", "nano/*"],
    },
    include_package_data=False,
)
