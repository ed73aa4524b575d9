"""The package works without the checkout: built, installed elsewhere, run in an empty folder."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

# What llmlib needs of data/, gpt2/ and models/, and nothing that was downloaded there.
SHIPPED = {
    "data/README.md",
    "data/stories.txt",
    "gpt2/README.md",
    "gpt2/vocab.bpe",
    "gpt2/nano/checkpoint",
    "gpt2/nano/encoder.json",
    "gpt2/nano/hparams.json",
    "gpt2/nano/model.ckpt.data-00000-of-00001",
    "gpt2/nano/model.ckpt.index",
    "gpt2/nano/model.ckpt.meta",
    "gpt2/nano/vocab.bpe",
    "models/README.md",
    "models/nano-llama/config.json",
    "models/nano-llama/generation_config.json",
    "models/nano-llama/model.safetensors",
    "models/nano-llama/tokenizer.json",
    "models/nano-llama/tokenizer_config.json",
}


def pip(*arguments):
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--quiet"]
    subprocess.run(list(map(str, command)), check=True, timeout=600)


def names(wheel):
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a build reads: it would leave a folder build/ in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(
        ROOT / "llmlib", folder / "llmlib", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in SHIPPED | {
        "gpt2/124M/model.safetensors",
        "data/wiki.txt",
        "models/big/config.json",
    }:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / name).read_bytes() if name in SHIPPED else b"downloaded")
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    pip("wheel", source, "--no-build-isolation", "--wheel-dir", folder)
    (path,) = folder.glob("llmlib-*.whl")
    return path


@pytest.fixture(scope="module")
def llmlib(wheel, tmp_path_factory):
    """Run Python with the installed package, in an empty folder and with an empty home."""
    site, home = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("home")
    pip("install", wheel, "--target", site)
    empty = tmp_path_factory.mktemp("empty")
    environment = {k: v for k, v in os.environ.items() if k not in ("LLMLIB_HOME", "PYTHONPATH")}
    environment |= {"PYTHONPATH": str(site), "HOME": str(home), "XDG_CACHE_HOME": str(home / "c")}

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.site, run.home, run.empty = site, home, empty
    return run


def test_the_wheel_holds_the_package_and_what_ships_and_nothing_else(wheel):
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llmlib").rglob("*.py")}
    shipped = {f"llmlib/shipped/{name}" for name in SHIPPED}
    found = {name for name in names(wheel) if ".dist-info/" not in name}
    assert found == package | shipped
    assert wheel.stat().st_size < 8e6


def test_a_wheel_by_way_of_an_sdist_is_the_same(source, wheel, tmp_path):
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (archive,) = tmp_path.glob("llmlib-*.tar.gz")
    with tarfile.open(archive) as file:
        assert not [name for name in file.getnames() if "124M" in name or "/big/" in name]
    pip("wheel", archive, "--no-build-isolation", "--wheel-dir", tmp_path)
    (second,) = tmp_path.glob("*.whl")
    assert names(second) == names(wheel)


def test_a_model_is_imported_from_the_installed_package(llmlib):
    code = "from llmlib.model.gpt import GPT; import llmlib; print(llmlib.__file__)"
    assert llmlib("-c", code).startswith(str(llmlib.site))


def test_downloads_go_to_the_users_cache_and_what_ships_is_read_from_the_package(llmlib):
    code = "from llmlib.files import home, shipped; print(home()); print(shipped('gpt2/vocab.bpe'))"
    home, vocabulary = map(Path, llmlib("-c", code).split())
    assert llmlib.home in home.parents and (home / "data").is_dir() and (home / "gpt2").is_dir()
    assert vocabulary == llmlib.site / "llmlib" / "shipped" / "gpt2" / "vocab.bpe"
    code = "from llmlib.data import corpora; print(len(corpora.documents('stories')))"
    assert llmlib("-c", code) == "1000\n"


def test_the_small_gpt2_that_ships_writes(llmlib):
    flags = ["--prompt", "Once", "--temperature", 0, "--max-new-tokens", 12, "--device", "cpu"]
    text = llmlib("-m", "llmlib", "generate", "--checkpoint", "gpt2/nano", *flags)
    assert text.startswith("Once upon a time there was")


def test_a_run_is_trained_resumed_and_written_with(llmlib):
    small = ["--stories", 60, "--preset", "story-tiny", "--n-samples", 1, "--max-steps"]
    llmlib("-m", "llmlib", "train", "stories", *small, 3)
    run = "runs/stories-story-tiny"
    llmlib("-m", "llmlib", "train", "--resume", run, "--max-steps", 4)
    assert (llmlib.empty / run / "latest" / "checkpoint.json").is_file()
    assert llmlib("-m", "llmlib", "generate", "--checkpoint", run, "--max-new-tokens", 3).strip()
