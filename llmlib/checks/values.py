"""Values and tensors of ids: the primitives that the other checks use."""

from collections.abc import Callable, Collection
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

import torch

from llmlib.messages import shown

T = TypeVar("T")


def whole_number(
    name: str, value: object, least: int = 1, most: int | None = None, *, optional: bool = False
) -> None:
    """Raise ValueError unless a value is an int (not a bool) from `least` to `most`.

    optional: None is allowed, too.
    """
    fits = type(value) is int and value >= least and (most is None or value <= most)
    if not fits and not (optional and value is None):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        allowed += ", or None" if optional else ""
        raise ValueError(f"{name} is {shown(value)}: it must be an int {allowed}")


def whole_numbers(**values: object) -> None:
    """Raise ValueError unless each of the named values is an int of at least 1."""
    for name, value in values.items():
        whole_number(name, value)


def number(name: str, value: object, fits: Callable[[float], bool], allowed: str) -> None:
    """Raise ValueError unless a value is an int or float that fits, with `allowed` in words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ValueError(f"{name} is {shown(value)}: it must be a number {allowed}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {shown(value)}: it must be True or False")


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless a value is among the allowed ones."""
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise ValueError(f"{name} is {shown(value)}: it must be one of {names}")


def known_name(kind: str, name: str, allowed: Collection[str]) -> None:
    """Raise ValueError, naming the nearest one, for a name that is not among the allowed ones."""
    if name not in allowed:
        raise ValueError(f"there is no {kind} {shown(name)}: {suggest(name, list(allowed))}")


def instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError unless a value is of a kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


class KnownFields:
    """Base of a dataclass: a keyword that it does not have is answered with the nearest one.

    In __new__, which sees the keywords before the generated __init__ refuses them without a hint.
    """

    def __new__(cls: type[Any], *args: object, **given: object) -> Any:
        names = [field.name for field in fields(cls)]
        for name in given.keys() - set(names):
            raise TypeError(f"{cls.__name__} has no field {shown(name)}: {suggest(name, names)}")
        return object.__new__(cls)


def require(fact: object, message: str, error: type[Exception] = ValueError) -> None:
    """Raise an error with a message unless a fact holds."""
    if not fact:
        raise error(message)


def found(value: T | None, message: str) -> T:
    """Return what a search gave. Raises ValueError with a message for None."""
    if value is None:
        raise ValueError(message)
    return value


def suggest(name: str, allowed: Collection[str]) -> str:
    """Return words that help with a misspelt name: the nearest allowed one, and all of them."""
    close = get_close_matches(str(name)[:100], allowed, n=1)  # whose time grows with the square
    return f"{f'did you mean {close[0]!r}? ' if close else ''}There are {', '.join(allowed)}"


def tensor_of_ids(name: str, ids: Any) -> None:
    """Raise TypeError unless a value is a tensor of token ids."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(f"{name} are a {type(ids).__name__}: give a tensor, torch.tensor([ids])")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} hold {ids.dtype}: token ids are torch.int64 (or int32)")


def token_ids(ids: Any) -> None:
    """Raise TypeError or ValueError unless ids are a tensor of ints (B, T) with at least one."""
    tensor_of_ids("ids", ids)
    if ids.ndim != 2:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}, expected (batch, tokens); "
            "a single sequence is a batch of one: ids.unsqueeze(0)"
        )
    if ids.numel() == 0:
        raise ValueError(f"ids of shape {tuple(ids.shape)} hold no token: give at least one")
