"""`llmlib generate`: rules, beams, looked-up drafts, stops, and ids that no token has."""

import pytest
import torch
from cli_helpers import failure, llmlib
from safetensors.torch import load_file, save_file

from llmlib.files import home
from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.pretrained.gpt2 import load_pretrained
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
    import shutil

    from llmlib.pretrained.gpt2 import save_pretrained

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
