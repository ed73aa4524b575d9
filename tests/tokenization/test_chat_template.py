"""Conversations are rendered as transformers renders them; a bad template says what is wrong."""

import doctest
import json

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from llmlib.tokenization import chat_template
from llmlib.tokenization.chat_template import CHATML, read_template, render

# As small models write it: a system message of their own where the user gives none
WITH_SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou tell short stories.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# In lines, with all that templates use: a namespace, a loop that is left, JSON, another's tokens
LONG = """
{%- set ns = namespace(first=true) %}
{{ bos_token }}
{% for message in messages %}
    {% if message['role'] == 'end' %}
        {% break %}
    {% endif %}
    {# a comment #}
    {% if not ns.first %}
{{ eos_token }}
    {% endif %}
    {% set ns.first = false %}
[{{ message.role | upper }}] {% generation %}{{ message['content'] | trim }}{% endgeneration %}
    {% if message.tool_calls is defined %}
{{ message.tool_calls | tojson }} {{ message.tool_calls | tojson(indent=2) }}
    {% endif %}
{% endfor %}
{% if tools is not none %}tools{% endif %}
{% if add_generation_prompt %}[ASSISTANT]{% endif %}
"""
CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello"}],
    "system": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " <b>Tell</b> me 'a' \"story\" & é 日本 \n\n 🙂 "},
    ],
    "several": [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two\n"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "{{ messages }}"},
    ],
    "tools": [
        {"role": "user", "content": "?", "tool_calls": [{"name": "é<&>'", "arguments": {"b": 1}}]},
        {"role": "end", "content": "not said"},
        {"role": "user", "content": "nor this"},
    ],
}


@pytest.fixture(scope="module")
def theirs():
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>"
    )


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("template", [CHATML, WITH_SYSTEM, LONG], ids=["chatml", "system", "long"])
def test_a_conversation_is_rendered_as_transformers_does(theirs, template, conversation, prompt):
    messages = CONVERSATIONS[conversation]
    expected = theirs.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=prompt
    )
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    assert render(messages, template, add_generation_prompt=prompt, **tokens) == expected


def test_chatml_is_written_out():
    text = render(CONVERSATIONS["one"], add_generation_prompt=True)
    assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_may_ask_for_the_date():
    year = render(CONVERSATIONS["one"], "{{ strftime_now('%Y') }}")
    assert year.isdecimal() and len(year) == 4


def test_messages_are_not_changed_by_a_template():
    messages = [{"role": "user", "content": "Hello", "list": [1]}]
    with pytest.raises(ValueError, match="refuses"):
        render(messages, "{{ messages.append(1) }}")
    assert render(messages, "{% set messages = messages[1:] %}{{ messages }}") == "[]"
    assert messages == [{"role": "user", "content": "Hello", "list": [1]}]


def test_a_template_sees_plain_texts_and_none_of_their_methods():
    class Text(str):
        def erase(self):
            erased.append(self)

    erased = []
    with pytest.raises(ValueError, match="chat template"):
        render([{"role": "user", "content": Text("Hello")}], "{{ messages[0].content.erase() }}")
    assert not erased


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ render.__globals__ }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template):
    with pytest.raises(ValueError, match="chat template"):
        render(CONVERSATIONS["one"], template)


def test_the_template_of_a_folder_is_read_as_transformers_writes_it(theirs, tmp_path):
    assert read_template(tmp_path) is None
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text("{}")
    assert read_template(tmp_path) is None
    settings.write_text(json.dumps({"chat_template": WITH_SYSTEM}))
    assert read_template(tmp_path) == WITH_SYSTEM
    theirs.chat_template = LONG
    theirs.save_pretrained(tmp_path)
    assert read_template(tmp_path) == LONG
    settings.write_text(json.dumps({"chat_template": WITH_SYSTEM}))
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert read_template(tmp_path) == CHATML


def test_the_examples_of_the_module_run():
    assert doctest.testmod(chat_template).failed == 0
