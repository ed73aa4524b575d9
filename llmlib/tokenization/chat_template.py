"""A conversation as one text: the messages rendered through a model's own template.

Written by hand; notebook 11 talks to a model through it, and notebook 15 trains on what it writes.
A chat model knows a conversation only in the form that it was trained on, down to the blank and the
line break, and its folder says which: a Jinja template in `tokenizer_config.json` (or beside it, in
`chat_template.jinja`). We render it as transformers does, with the same settings and the same three
helpers. A template is a program that somebody else wrote, so it runs in Jinja's sandbox, where it
can neither reach Python's insides nor change what it is given. What is left out: tools given as
Python functions, documents, and masks of what the assistant said.

    >>> print(render([{"role": "user", "content": "Hello"}], add_generation_prompt=True))
    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    <BLANKLINE>
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmlib import checks

IM_START, IM_END = "<|im_start|>", "<|im_end|>"

# OpenAI's chat markup language (2023), as most open models write it
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Generation(Extension):
    """`{% generation %}`: around what the assistant says. Trainers mark it; the text stays."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - as in its parent

    def parse(self, parser: Parser) -> nodes.Node:
        """Return what stands in the block, with variables that end with it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def raise_exception(message: str) -> None:
    """Let a template refuse a conversation."""
    raise TemplateError(message)


def strftime_now(form: str) -> str:
    """Return the time of now; templates put the date into a system prompt."""
    return datetime.now().strftime(form)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return a value as JSON, without the escapes for web pages that Jinja's own filter adds."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@lru_cache(maxsize=16)
def compile_template(template: str) -> Template:
    """Return a template ready to render. Raises ValueError for one that Jinja cannot read."""
    # trim_blocks and lstrip_blocks: a line that holds only a tag leaves nothing in the text
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = to_json
    helpers = {"raise_exception": raise_exception, "strftime_now": strftime_now}
    with checks.chat_template():
        return environment.from_string(template, helpers)


def render(
    messages: Sequence[Mapping[str, Any]],
    template: str = CHATML,
    *,
    add_generation_prompt: bool = False,
    **variables: Any,
) -> str:
    """Return the text of a conversation, equal to that of transformers' `apply_chat_template`.

    messages: dicts with "role" and "content", in order. add_generation_prompt: end where the
    assistant begins to speak. variables: what else a template asks for, such as `bos_token`.
    The text holds special tokens: encode it with `allowed_special="all"`, and add no other token in
    front. Raises TypeError for other messages, and ValueError for a template that is no Jinja or
    refuses these messages.
    """
    checks.messages(messages)
    # transformers gives both, empty, where a caller does not
    variables = {"tools": None, "documents": None} | variables
    with checks.chat_template():
        return compile_template(template).render(
            # plain lists, dicts and texts: objects would bring methods that the sandbox cannot know
            messages=json.loads(json.dumps([dict(message) for message in messages])),
            add_generation_prompt=add_generation_prompt,
            **variables,
        )


def read_template(folder: str | Path) -> str | None:
    """Return the chat template of a folder that transformers writes; None if it has none.

    A `chat_template.jinja` wins over the entry in `tokenizer_config.json`, as in transformers.
    """
    file, settings = Path(folder) / "chat_template.jinja", Path(folder) / "tokenizer_config.json"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = checks.read_json(settings).get("chat_template") if settings.is_file() else None
    with checks.blame(settings):
        return checks.one_template(template)
