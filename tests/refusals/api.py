"""Where llmlib's public doors are, and how they are called: the one file that knows names.

The tables say `api.generate(...)`; what that is called today, and how its settings are passed,
stands here. A name that moves is a line of PLACES, a call that changes is a function below.
"""

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import requests
import torch
import urllib3
from torch import nn

PLACES = {
    # model
    "GPTConfig": "llmlib.model.config",
    "GPT": "llmlib.model.gpt",
    "CausalAttention": "llmlib.model.attention",
    # word vectors
    "window_pairs": "llmlib.model.skipgram",
    "cosine_similarity": "llmlib.model.word_vectors",
    "word_vectors": "llmlib.model.word_vectors",
    "nearest": "llmlib.model.word_vectors",
    "SkipGram": "llmlib.model.skipgram",
    "noise_distribution": "llmlib.model.skipgram",
    "keep_probability": "llmlib.model.skipgram",
    "train_skipgram": "llmlib.model.skipgram",
    "odd_one_out": "llmlib.model.word_vectors",
    "pca": "llmlib.model.word_vectors",
    "analogy": "llmlib.model.word_vectors",
    "analogy_accuracy": "llmlib.model.word_vectors",
    "load_word_vectors": "llmlib.pretrained.embeddings",
    # tokenization
    "WordTokenizer": "llmlib.tokenization.words",
    "CharTokenizer": "llmlib.tokenization.words",
    "BPETokenizer": "llmlib.tokenization.bpe",
    "WordPieceTokenizer": "llmlib.tokenization.wordpiece",
    "UnigramTokenizer": "llmlib.tokenization.unigram",
    "gpt2_encoding": "llmlib.tokenization.gpt2",
    "TiktokenTokenizer": "llmlib.tokenization.tiktoken_bpe",
    "render_chat": "llmlib.tokenization.chat_template:render",
    "read_template": "llmlib.tokenization.chat_template",
    # stories
    "Constraints": "llmlib.stories.instructions",
    # data
    "WindowDataset": "llmlib.data.batches",
    "create_dataloader": "llmlib.data.batches",
    "split": "llmlib.data.batches",
    "DocumentDataset": "llmlib.data.batches",
    "create_document_loader": "llmlib.data.batches",
    "DownloadError": "llmlib.data.download",
    # training
    "TrainConfig": "llmlib.training.config",
    "cross_entropy": "llmlib.training.loss",
    "chunked_cross_entropy": "llmlib.training.loss",
    "learning_rate_at": "llmlib.training.optimizers",
    "save_checkpoint": "llmlib.training.checkpoint",
    "load_checkpoint": "llmlib.training.checkpoint",
    "Trainer": "llmlib.training.trainer",
    "train": "llmlib.training.trainer",
    # pretrained
    "FileError": "llmlib.checks",
    "MissingTensor": "llmlib.checks",
    "TensorBundle": "llmlib.pretrained.tensor_bundle",
    "write_bundle": "llmlib.pretrained.tensor_bundle",
    "crc32c": "llmlib.pretrained.crc",
    "load_pretrained": "llmlib.pretrained.gpt2",
    "load_any": "llmlib.pretrained.huggingface:load_pretrained",
    "save_any": "llmlib.pretrained.huggingface:save_pretrained",
    "download_model": "llmlib.pretrained.hub_files",
    "Modern": "llmlib.model.modern",
    "ModernConfig": "llmlib.model.modern",
    "load_model": "llmlib.pretrained.models",
    "save_openai": "llmlib.pretrained.gpt2",
    "save_pretrained": "llmlib.pretrained.gpt2",
    "download_gpt2": "llmlib.pretrained.gpt2_files",
    # evaluation
    "Evaluation": "llmlib.evaluation.perplexity",
    "evaluate": "llmlib.evaluation.perplexity",
    "NGramModel": "llmlib.evaluation.ngrams",
    # the ground
    "home": "llmlib.files",
    "making_folder": "llmlib.files",
    "heatmap": "llmlib.plots",
    "check_exercise": "llmlib.exercises:check",
    "register_exercise": "llmlib.exercises:exercise",
    "load_minimal": "llmlib.minimal:load",
}
END = "<|endoftext|>"
ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "gpt2" / "nano"
FIXTURES = ROOT / "tests" / "fixtures"


def __getattr__(name: str) -> object:
    if name not in PLACES:
        raise AttributeError(name)
    module, _, other = PLACES[name].partition(":")
    return getattr(import_module(module), other or name)


def get(name: str) -> object:
    """Return what PLACES names."""
    return __getattr__(name)


# --- what is taken from elsewhere and patched


@contextlib.contextmanager
def environment(**variables: str):
    """Set environment variables for a while."""
    with mock.patch.dict(os.environ, variables):
        yield


@contextlib.contextmanager
def home_in(folder: Path):
    """Make an empty home of the course in a folder, and use it for a while; yields its path."""
    place = folder / "home"
    for name in ("data", "gpt2"):
        (place / name).mkdir(parents=True)
    packages = mock.patch.dict("llmlib.pretrained.places.PACKAGES", clear=True)
    with environment(LLMLIB_HOME=str(place)), packages:  # whatever is installed here
        yield place


class FullDisk(OSError):
    """What the system raises when a disk is full."""

    def __init__(self):
        super().__init__(28, "No space left on device")


def full(*_: object, **__: object) -> None:
    raise FullDisk


def on_a_full_disk(call):
    """The same call where no file can take its place, as on a disk that is full."""

    def wrapped(folder: Path) -> None:
        with mock.patch("os.replace", full):
            call(folder)

    return wrapped


# --- model


def gpt_config(**changes: object):
    sizes = {"vocab_size": 11, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    return get("GPTConfig")(**{**sizes, **changes})


def preset(name: str, **changes: object):
    return get("GPTConfig").preset(name, **changes)


def gpt(**changes: object):
    """A model of 11 tokens and a context of 8."""
    torch.manual_seed(0)
    return get("GPT")(gpt_config(**changes)).eval()


def attention(emb_dim: object = 8, n_heads: object = 2, context_length: object = 4, **more: object):
    return get("CausalAttention")(emb_dim, n_heads, context_length, **more)


def ids(*rows: list[int]) -> torch.Tensor:
    """ids (B, T)."""
    return torch.tensor(rows)


# --- tokenization


def load_vocabulary(folder: Path):
    """The tokenizer that belongs to a GPT-2 in a folder, as `load_model` reads it."""
    return get("TiktokenTokenizer").load(folder)


def load_tokenizer_file(path: Path):
    """The one reader of tokenizer files and folders of every kind."""
    return import_module("llmlib.cli.prepare").open_tokenizer(path)


# --- data


def documents(name: object):
    return import_module("llmlib.data.corpora").documents(name)


def fetch(urls: object, path: Path, **settings: object):
    quick = {"timeout": 0.4, "pause": 0, "tries": 1, "progress": False}
    return import_module("llmlib.data.download").fetch(urls, path, **{**quick, **settings})


def answer(code: int = 200, body: bytes = b"", url: str = "https://a.org/f", **headers: str):
    """A function that makes what a server answers; header names with _ for -."""

    def make() -> requests.Response:
        response = requests.Response()
        response.status_code, response.reason, response.url = code, "Reason", url
        response.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
        response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return response

    return make


@contextlib.contextmanager
def network(*answers: object):
    """Let requests get these answers, or raise these errors, one after another."""
    made = [answer if isinstance(answer, Exception) else answer() for answer in answers]
    with mock.patch("requests.get", side_effect=made):
        yield


# --- training


def batch(rows: int = 2):
    """(inputs, targets), each (rows, 3), for the model of 11 tokens."""
    inputs = torch.arange(3 * rows).reshape(rows, 3) % 11
    return inputs, (inputs + 1) % 11


def trainer(model: object = None, **settings: object):
    config = get("TrainConfig")(**{"max_steps": 3, "warmup_steps": 0, **settings})
    return get("Trainer")(gpt() if model is None else model, config)


def train_steps(trained, batches: object) -> None:
    for _ in trained.run(batches):
        pass


def trained_state(steps: int = 1, **settings: object) -> dict:
    """The state of a trainer that has taken some steps of an epoch of two batches."""
    trained = trainer(**settings)
    for report in trained.run([batch(), batch()]):
        if report.step == steps:
            break
    return trained.state_dict()


def load_state(trained, state: object) -> None:
    trained.load_state_dict(state)


# --- generation


def generate(model: object, ids: object, max_new_tokens: object, **settings: object):
    """Continue through a cache of keys and values."""
    module = import_module("llmlib.generation.generate")
    return module.generate(model, ids, max_new_tokens, **split_sampling(settings))


def generate_by_callable(model: object, ids: object, max_new_tokens: object, **settings: object):
    """Continue with any callable that maps ids to logits, and has a configuration."""

    class Plain:
        config = model.config

        def __call__(self, ids):
            return model(ids)

    return generate(Plain(), ids, max_new_tokens, **settings)


def sampling(**settings: object):
    return import_module("llmlib.generation.sampling").Sampling(**settings)


def split_sampling(settings: dict) -> dict:
    """Put what is not an argument of the loop into a Sampling."""
    loop = ("stop", "generator", "slide", "end_of_text", "stops", "n_draft")
    others = {name: settings[name] for name in settings if name in loop}
    rest = {name: value for name, value in settings.items() if name not in loop}
    return {**others, "sampling": sampling(**rest)}


def sample(logits: torch.Tensor, **settings: object):
    """One token for each row of logits (B, V)."""
    module = import_module("llmlib.generation.sampling")
    probs = module.Sampling(**settings).probabilities(logits)
    return module.draw(probs, module.row_generators(len(logits)))


def sampling_probabilities(logits: torch.Tensor, **settings: object):
    return sampling(**settings).probabilities(logits)


def top_k_filter(logits: torch.Tensor, k: object):
    return import_module("llmlib.generation.sampling").top_k_filter(logits, k)


def top_p_filter(logits: torch.Tensor, p: object):
    return import_module("llmlib.generation.sampling").top_p_filter(logits, p)


def beam_search(*arguments: object, **settings: object):
    return import_module("llmlib.generation.beam").beam_search(*arguments, **settings)


def speculate(*arguments: object, **settings: object):
    module = import_module("llmlib.generation.speculative")
    return list(module.speculate(*arguments, **split_sampling(settings)))


def stream_text(model: object, tokenizer: object, prompt: object, n: int = 2, **settings: object):
    streaming = import_module("llmlib.generation.streaming")
    return list(streaming.stream_text(model, tokenizer, prompt, n, **split_sampling(settings)))


def quantize(model: object, weights: str):
    """A model with its weights in another format."""
    return import_module("llmlib.generation.quantization").quantize(model, weights)


def pack(weight: torch.Tensor, weights: str = "int8"):
    """A single linear layer in another format."""
    return import_module("llmlib.generation.packing").PackedLinear(weight, None, weights)


def quantize_rows(weight: torch.Tensor):
    return import_module("llmlib.generation.rounding").quantize_rows(weight)


def cached_model(**changes: object):
    """A model that reads through a cache."""
    return quantize(gpt(**changes), "float32")


def new_cache(model: object, batch_size: int, length: int):
    return model.new_cache(batch_size, length)


def read(model: object, ids: torch.Tensor, cache: object):
    """Read ids (B, T) behind what is in the cache."""
    return model(ids, cache)


def rewind(cache: object, length: int) -> None:
    cache.rewind(length)


# --- pretrained


def copy_nano(folder: Path) -> Path:
    """A copy of the GPT-2 that ships, in OpenAI's layout."""
    return Path(shutil.copytree(NANO, folder / "nano"))


def copy_huggingface(folder: Path) -> Path:
    """A tiny GPT-2 with the vocabulary of nano, in Hugging Face's layout."""
    return Path(shutil.copytree(made_huggingface(), folder / "tiny"))


@cache
def made_huggingface() -> Path:
    folder = lasting_folder() / "tiny"
    model = gpt(vocab_size=512)
    get("save_pretrained")(model, folder, load_vocabulary(NANO))
    return folder


def copy_llama(folder: Path) -> Path:
    """A tiny Llama with the vocabulary of nano, in Hugging Face's layout."""
    return Path(shutil.copytree(made_llama(), folder / "llama"))


@cache
def made_llama() -> Path:
    folder = lasting_folder() / "llama"
    get("save_any")(llama(), folder, load_vocabulary(NANO))
    return folder


def llama(**changes: object):
    sizes = {"vocab_size": 512, "context_length": 16, "emb_dim": 8, "n_heads": 2, "n_layers": 2}
    return get("Modern")(get("ModernConfig")(**sizes, **changes))


def change_json(path: Path, **changes: object) -> None:
    """Change fields of a JSON file; ... takes one away."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    content = {name: value for name, value in content.items() if value is not ...}
    path.write_text(json.dumps(content), encoding="utf-8")


def seal(manifest: Path) -> None:
    """Give a changed checkpoint.json its right hash, as somebody could who means harm."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content.pop("sha256", None)
    import_module("llmlib.training.checkpoint").write_manifest(manifest.parent, content)


def nano_tensors(folder: Path) -> dict[str, np.ndarray]:
    return {
        name: np.array(array) for name, array in get("TensorBundle")(folder / "model.ckpt").items()
    }


def sstable():
    """The module of sorted string tables, with which tests forge an index."""
    return import_module("llmlib.pretrained.sstable")


def protobuf_field(number: int, value: int | bytes) -> bytes:
    return import_module("llmlib.pretrained.tensor_bundle").write_field(number, value)


# --- stories


def world(rules: str, words: str = ""):
    return import_module("llmlib.stories").World(rules, words)


def stories(name: str, *arguments: object):
    """Call a function of the default world."""
    return getattr(import_module("llmlib.stories"), name)(*arguments)


# --- the command line


class CommandLineRefusal(Exception):
    """What the command line printed on stderr before it ended with exit code 2."""


FLAGS = {
    "--tokenizer": "char",
    "--preset": "story-tiny",
    "--n-layers": "1",
    "--emb-dim": "16",
    "--n-heads": "2",
    "--context-length": "16",
    "--batch-size": "4",
    "--warmup-steps": "5",
    "--device": "cpu",
    "--eval-tokens": "300",
    "--n-samples": "1",
}
TINY = [part for pair in FLAGS.items() for part in pair]
OWN = TINY[2:]  # all but the tokenizer, for a text that is prepared


def llmlib(*arguments: object) -> int:
    """Run the command line in this process; raise what it says if it refuses."""
    main = import_module("llmlib.__main__").main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    if code == 2:
        lines = err.getvalue().strip().splitlines()
        told = [line for line in lines if not line.startswith(("usage", " ", "device "))]
        assert len(told) == 1, f"one line is expected, not {told}"
        raise CommandLineRefusal(told[0])
    assert code == 0, f"exit code {code}: {err.getvalue()}"
    return code


@cache
def lasting_folder() -> Path:
    """A folder for what several rows share; it goes when the process ends."""
    folder = tempfile.TemporaryDirectory()
    lasting_folder.kept = folder  # removed with the interpreter, and not before
    return Path(folder.name)


@cache
def text_file() -> Path:
    """A text of some paragraphs."""
    words = ["the", "cat", "säw", "a", "🐈", "on", "many", "mats,", "and", "naïve", "dogs", "too"]
    rng = random.Random(5)
    path = lasting_folder() / "text.txt"
    text = "\n\n".join(" ".join(rng.choices(words, k=12)) + "." for _ in range(60))
    path.write_text(text, encoding="utf-8")
    return path


@cache
def made_prepared() -> Path:
    folder = lasting_folder() / "prepared"
    llmlib("prepare", text_file(), "--tokenizer", "char", "--out", folder)
    return folder


@cache
def made_run() -> Path:
    folder = lasting_folder() / "run"
    llmlib("train", text_file(), *TINY, "--max-steps", 1, "--out", folder)
    return folder


def copy_prepared(folder: Path) -> Path:
    """A copy of a prepared folder, to damage."""
    return Path(shutil.copytree(made_prepared(), folder / "prepared"))


def copy_run(folder: Path) -> Path:
    """A copy of a run of one step, to damage."""
    return Path(shutil.copytree(made_run(), folder / "run"))


def lock_run(folder: Path):
    """Be another process that trains in a run folder; returns what to hold on to."""
    run = import_module("llmlib.cli.run_folder").open_run(folder)
    run.lock()
    return run


def processes():
    return import_module("llmlib.cli.processes").Processes()


def share_rows(folder: Path, batch_size: int, world: int):
    """The loader of one of many processes."""
    data = import_module("llmlib.cli.dataset").TokenData(folder)
    return data.train_loader(16, batch_size, seed=0, rank=0, world=world)


class Linear(nn.Linear):
    """A model that is not a GPT."""
