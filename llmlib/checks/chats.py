"""Conversations, and the templates that render them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError

from llmlib.messages import shown


@contextmanager
def chat_template() -> Iterator[None]:
    """Turn what a chat template raises in the block into a ValueError that says what it was.

    A template adds texts, and asks for parts of messages; with other messages than it was written
    for, that ends in errors of Python as well as Jinja's own.
    """
    try:
        yield
    except TemplateSyntaxError as error:
        reason = f"line {error.lineno} of the chat template is not Jinja: {error.message}"
        raise ValueError(f"{reason}; take the template from the model's folder, whole") from error
    except (UndefinedError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = f"the chat template cannot render these messages: {error}"
        raise ValueError(f"{reason}; most want a role and a text as content in each") from error
    except TemplateError as error:
        raise ValueError(f"the chat template refuses these messages: {error.message}") from error


def messages(given: object) -> None:
    """Raise TypeError or ValueError unless these are messages: dicts with a role, at least one."""
    advice = 'messages are a list such as [{"role": "user", "content": "Hello"}]'
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise TypeError(f"{advice}, not {shown(given)}")
    if not given:
        raise ValueError(f"there are no messages: {advice}")
    for number, message in enumerate(given):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TypeError(f"message {number} is {shown(message)}: {advice}")


def one_template(given: object) -> str | None:
    """Return a chat template, or None if there is none; raise ValueError for several by name."""
    if given is not None and not isinstance(given, str):
        raise ValueError("chat_template is no text: only a folder with one template can be read")
    return given
