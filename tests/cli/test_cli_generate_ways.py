"""`llmlib generate`: rules, beams, looked-up drafts, stops, and ids that no token has."""

import json
import shutil

import numpy as np
import pytest
import torch
from cli_helpers import failure, llmlib
from safetensors.torch import load_file, save_file

from llmlib.checks import read_json
from llmlib.files import home
from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.pretrained.gpt2 import load_pretrained, save_pretrained
from llmlib.tokenization.folders import load_tokenizer

NANO = ["--checkpoint", "gpt2/nano", "--device", "cpu", "--prompt", "Mia was"]


@pytest.fixture(scope="module")
def nano():
    model = load_pretrained(home() / "gpt2" / "nano")
    tokenizer = load_tokenizer(home() / "gpt2" / "nano")
    return model, tokenizer, [[tokenizer.eot_token, *tokenizer.encode("Mia was")]]


def written(capsys, *arguments):
    capsys.readouterr()
    assert llmlib("generate", *NANO, *arguments) == 0
    return capsys.readouterr().out


def test_beams_are_written_best_first(nano, capsys):
    model, tokenizer, ids = nano
    end = tokenizer.eot_token
    rules = Sampling(no_repeat_ngram_size=2)
    beams = beam_search(model, ids, 15, 3, stop=end, sampling=rules)
    expected = ["Mia was" + tokenizer.decode([i for i in b.ids if i != end]) for b in beams[:2]]
    flags = ["--max-new-tokens", 15, "--num-beams", 3, "--no-repeat-ngram-size", 2]
    assert written(capsys, *flags, "--n", 2) == "\n\n".join(expected) + "\n"
    cut = written(capsys, *flags, "--stop", " who", "--stop", "xyz")
    assert cut == expected[0].split(" who")[0] + "\n"


def test_looked_up_drafts_write_the_greedy_text(nano, capsys):
    model, tokenizer, ids = nano
    greedy = Sampling(temperature=0, min_new_tokens=60)
    text = generate(model, ids, 60, greedy, stop=tokenizer.eot_token)[0]
    flags = ["--temperature", 0, "--max-new-tokens", 60, "--min-new-tokens", 60]
    plain = written(capsys, *flags)
    assert plain == tokenizer.decode(text[1:]) + "\n"
    assert written(capsys, *flags, "--prompt-lookup", 3) == plain


@pytest.mark.slow
def test_a_text_without_a_window_ends_where_the_context_is_full(capsys):
    flags = ["--max-new-tokens", 400, "--min-new-tokens", 400, "--temperature", 0]
    assert len(written(capsys, *flags, "--prompt-lookup", 8)) > 600
    capsys.readouterr()
    assert llmlib("generate", *NANO, *flags, "--prompt-lookup", 8) == 0
    assert "253 new tokens: then the context is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--seed", "99999999999999999999"], "99999999999999999999"),
        (["--repetition-penalty", "1e-40"], "repetition_penalty is 1e-40"),
        (["--num-beams", "0"], "num_beams is 0"),
        (["--num-beams", "99999999999999999999"], "99999999999999999999"),
        (["--n", "99999999999999999999"], "99999999999999999999"),
        (["--num-beams", "2", "--n", "3"], "2 beams find at most as many"),
        (["--num-beams", "2", "--prompt-lookup", "3"], "exclude each other"),
        (["--num-beams", "2", "--top-k", "3"], "beam search draws nothing"),
        (["--prompt-lookup", "-1"], "prompt_lookup is -1"),
        (["--min-new-tokens", "-1"], "min_new_tokens is -1"),
        (["--no-repeat-ngram-size", "0"], "no_repeat_ngram_size is 0"),
        (["--n", "0"], "n is 0"),
        (["--stop", ""], "one character or more"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(flags, says, capsys):
    line = failure(capsys, "generate", *NANO, *flags)
    # a name of a setting may stand there as its flag
    assert says in line or says.replace("_", "-") in line


def test_ids_that_no_token_has_are_never_written(nano, tmp_path, capsys):
    model, _, _ = nano
    vocab_size = model.config.vocab_size
    folder = tmp_path / "padded"
    save_pretrained(model, folder)
    for name in ("vocab.bpe", "encoder.json", "merges.txt", "vocab.json", "tokenizer.json"):
        if (home() / "gpt2" / "nano" / name).exists() and not (folder / name).exists():
            shutil.copy(home() / "gpt2" / "nano" / name, folder / name)
    weights = load_file(folder / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("wte.weight")]
    more = weights[name].mean(0, keepdim=True).expand(8, -1) * 3
    weights[name] = torch.cat([weights[name], more]).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = (folder / "config.json").read_text()
    changed = config.replace(f'"vocab_size": {vocab_size}', f'"vocab_size": {vocab_size + 8}')
    (folder / "config.json").write_text(changed)
    for ways in ([], ["--num-beams", 4], ["--prompt-lookup", 3]):
        heat = [] if "--num-beams" in ways else ["--temperature", 9]
        arguments = ["--checkpoint", folder, "--device", "cpu", "--max-new-tokens", 80]
        assert llmlib("generate", *arguments, *heat, *ways) == 0, capsys.readouterr().err


@pytest.mark.parametrize("ways", [[], ["--prompt-lookup", 3], ["--num-beams", 1]], ids=str)
def test_a_text_ends_where_the_models_files_say(nano, tmp_path, capsys, ways):
    """As transformers: at any id of generation_config.json, else of config.json."""
    model, tokenizer, ids = nano
    save_pretrained(model, tmp_path, tokenizer)
    (free,) = generate(model, ids, 40, Sampling(temperature=0))
    ends = [free[20], free[12], 10**6]
    flags = ["--checkpoint", tmp_path, "--device", "cpu", "--prompt", "Mia was", *ways]
    flags += ["--max-new-tokens", 40, *([] if "--num-beams" in ways else ["--temperature", 0])]
    config = tmp_path / "config.json"
    for change, says in (
        (lambda: (tmp_path / "generation_config.json").unlink(), tokenizer.eot_token),
        (lambda: config.write_text(json.dumps(read_json(config) | {"eos_token_id": ends})), ends),
        (lambda: write_ends(tmp_path, ends[:1]), ends[:1]),
        (lambda: write_ends(tmp_path, ends), ends),
        (lambda: write_ends(tmp_path, ends[0]), ends[:1]),
        (lambda: write_ends(tmp_path, 10**6), tokenizer.eot_token),
        (lambda: write_ends(tmp_path, None), tokenizer.eot_token),
    ):
        change()
        assert llmlib("generate", *flags) == 0
        known = [i for i in np.atleast_1d(says).tolist() if i < 512]
        (text,) = generate(model, ids, 40, Sampling(temperature=0), stop=known)
        text = text[1:-1] if text[-1] in known else text[1:]
        assert capsys.readouterr().out == tokenizer.decode(text) + "\n"
    write_ends(tmp_path, ["."])
    assert "generation_config.json: eos_token_id holds '.'" in failure(capsys, "generate", *flags)


def write_ends(folder, ends):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
