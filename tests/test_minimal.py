"""GPT-2 in 100 lines: its length, its independence, and that it is the same GPT-2."""

import ast
import io
import json
import shutil
import subprocess
import sys
import tokenize
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from llmlib import minimal, stories
from llmlib.files import home
from llmlib.pretrained.gpt2 import load_pretrained
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.gpt2 import derive_encoder_json, gpt2_encoding

NANO = home() / "gpt2" / "nano"
SMALL = Path(__file__).parent / "fixtures" / "small3"
SOURCE = Path(minimal.__file__)


def code_lines(source):
    """Return how many lines hold code: no blank ones, comments or docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstrings |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}
    silent |= {tokenize.COMMENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = [range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in silent]
    return len(set(chain.from_iterable(spans)) - docstrings)


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("x = 1\n\n# nothing\ny = 2  # two\n", 2),
        ('"""Doc."""\n\n\ndef f():\n    """Doc,\n\n    long.\n    """\n    return 1\n', 2),
        ('x = """\none\n\n"""\n', 4),
        ("x = [\n    1,\n]\n", 3),
    ],
)
def test_lines_of_code_are_counted_without_blank_ones_comments_and_docstrings(source, number):
    assert code_lines(source) == number


def test_it_has_at_most_a_hundred_lines_of_code():
    source = SOURCE.read_text(encoding="utf-8")
    assert code_lines(source) <= 100 and max(map(len, source.splitlines())) <= 100


def test_it_is_not_golfed():
    """One statement a line."""
    source = SOURCE.read_text(encoding="utf-8")
    lines = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    assert len(lines) == len(set(lines))


def test_every_part_has_a_docstring_and_the_model_says_shapes():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    parts = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    assert all(ast.get_docstring(part) for part in parts)
    models = [ast.get_docstring(part) for part in parts if isinstance(part, ast.ClassDef)]
    assert len(models) == 4 and all("(B, T" in text for text in models)


def test_it_needs_nothing_of_the_package():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    names = {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert not any(name.split(".")[0] in ("llmlib", "") for name in names)


def test_logits_are_those_of_tensorflows_gpt2():
    reference = np.load(SMALL / "reference.npz")
    with torch.no_grad():
        logits = minimal.load(SMALL)(torch.from_numpy(reference["input_ids"]).long())
    np.testing.assert_allclose(logits.numpy(), reference["logits"], atol=1e-4, rtol=0)


def test_every_weight_and_logit_is_that_of_the_package():
    ours, theirs = minimal.load(NANO), load_pretrained(NANO)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    ids = torch.randint(0, 512, (3, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids), rtol=0, atol=1e-5)


def test_twelve_layers_are_read_in_the_order_of_the_file(tmp_path):
    """h10 stands before h2: with fewer than eleven layers nobody would notice."""
    settings = {"n_vocab": 30, "n_ctx": 8, "n_embd": 4, "n_head": 2, "n_layer": 12}
    (tmp_path / "hparams.json").write_text(json.dumps(settings))
    names = {"model/wpe": (8, 4), "model/wte": (30, 4), "model/ln_f/b": (4,), "model/ln_f/g": (4,)}
    for layer in range(12):
        shapes = {"attn/c_attn/b": 12, "attn/c_proj/b": 4, "mlp/c_fc/b": 16, "mlp/c_proj/b": 4}
        shapes |= {f"ln_{n}/{kind}": 4 for n in (1, 2) for kind in "bg"}
        matrices = {"attn/c_attn/w": 12, "attn/c_proj/w": 4, "mlp/c_fc/w": 16, "mlp/c_proj/w": 4}
        names |= {f"model/h{layer}/{name}": (size,) for name, size in shapes.items()}
        for name, size in matrices.items():
            names[f"model/h{layer}/{name}"] = (1, 16 if name == "mlp/c_proj/w" else 4, size)
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=names[name]).astype("<f4") for name in sorted(names)}
    data = b"".join(tensor.tobytes() for tensor in tensors.values())
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(data)
    weights = minimal.load(tmp_path).state_dict()
    for layer in (1, 2, 10, 11):
        matrix = tensors[f"model/h{layer}/mlp/c_fc/w"][0].T
        np.testing.assert_array_equal(weights[f"h.{layer}.mlp.c_fc.weight"], matrix)
    np.testing.assert_array_equal(weights["wte.weight"], tensors["model/wte"])


@pytest.mark.parametrize("change", [-400, -4, 4, 400])
def test_a_file_of_another_length_is_refused_unread(change, tmp_path, monkeypatch):
    shutil.copytree(NANO, tmp_path / "nano")
    path = tmp_path / "nano" / "model.ckpt.data-00000-of-00001"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    monkeypatch.setattr(np, "fromfile", None)  # it is refused before anything is read
    with pytest.raises(ValueError, match=f"{len(content) + change} bytes.*{len(content)}"):
        minimal.load(tmp_path / "nano")


def test_its_tokenizer_is_tiktokens(tmp_path):
    merges = (home() / "gpt2" / "vocab.bpe").read_text(encoding="utf-8")
    (tmp_path / "encoder.json").write_text(derive_encoder_json(merges))
    ours, theirs = minimal.tokenizer(tmp_path), gpt2_encoding()
    texts = [
        "",
        "Hello, world's  end\n\n 12345 naïve 🦊",
        "日本語 ¡¿\x00\xad",
        *map(chr, range(3000)),
    ]
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
    assert ours.eot_token == theirs.eot_token and ours.n_vocab == theirs.n_vocab


def test_stories_have_the_ids_that_the_package_gives_them():
    ours, theirs = minimal.tokenizer(NANO), load_tokenizer(NANO)
    for story in stories.tell_many(50, seed=1):
        assert ours.encode(story.text) == theirs.encode(story.text)


class Counting(torch.nn.Module):
    """Logits that like the token after the last one best, then those around it."""

    def __init__(self, n_vocab=10, n_ctx=6):
        super().__init__()
        self.wpe = torch.nn.Embedding(n_ctx, 1)
        self.n_vocab, self.longest = n_vocab, 0

    def forward(self, ids):
        self.longest = max(self.longest, ids.shape[1])
        distance = (torch.arange(self.n_vocab) - ids[..., None] - 1).abs()
        return -distance.float()


def test_the_best_token_alone_is_greedy_and_the_context_is_never_exceeded():
    model = Counting()
    assert list(minimal.sample(model, [0], 9, top_k=1)) == list(range(1, 10))
    assert model.longest == 6


def test_temperature_0_is_greedy_and_the_ids_given_stay_as_they_are():
    ids = [3]
    assert list(minimal.sample(Counting(), ids, 9, temperature=0)) == [4, 5, 6, 7, 8, 9, 9, 9, 9]
    assert ids == [3]


def test_samples_follow_temperature_and_top_k():
    torch.manual_seed(0)
    n = 3000
    drawn = [next(minimal.sample(Counting(), [4], 1, temperature=0.5, top_k=3)) for _ in range(n)]
    expected = torch.tensor([-2.0, 0.0, -2.0]).softmax(0)  # 4, 5 and 6
    assert set(drawn) == {4, 5, 6}
    for token, p in zip((4, 5, 6), expected.tolist()):
        assert abs(drawn.count(token) / n - p) < 5 * (p * (1 - p) / n) ** 0.5


def run_main(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["minimal.py", *map(str, arguments)])
    minimal.main()
    return capsys.readouterr().out


def test_the_folder_and_the_temperature_can_be_chosen(monkeypatch, capsys):
    ours = minimal.tokenizer(NANO)
    prompt = [ours.eot_token, *ours.encode("Tom had")]
    greedy = list(minimal.sample(minimal.load(NANO), prompt, 200, temperature=0))
    told = ours.decode(greedy[: greedy.index(ours.eot_token)])
    out = run_main(monkeypatch, capsys, "Tom had", "--folder", NANO, "--temperature", 0)
    assert out == f"Tom had{told}\n"


def test_half_a_character_is_never_printed(monkeypatch, capsys):
    """A fox is four tokens of a byte each; the last one comes after the others were written."""
    ours = minimal.tokenizer(NANO)
    fox = ours.encode("a🦊é")
    assert len(fox) > 4
    monkeypatch.setattr(minimal, "sample", lambda *_: iter([*fox, ours.eot_token, *fox]))
    assert run_main(monkeypatch, capsys, "The", "--folder", NANO) == "Thea🦊é\n"


@pytest.mark.slow
def test_as_a_program_it_goes_on_with_the_prompt():
    command = [sys.executable, "-m", "llmlib.minimal", "Once upon a time", "--folder", str(NANO)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.startswith("Once upon a time") and len(done.stdout) > 60
    assert done.stderr == ""
