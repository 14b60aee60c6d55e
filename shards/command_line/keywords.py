"""Config dataclasses from Python keywords, checked as the command line checks its options."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from shards.base.errors import UserError, shown
from shards.command_line.option_checks import check_text

ConfigT = TypeVar("ConfigT")

_PLAIN: dict[Any, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
    type(None): (type(None), "None"),
}
"""What a value of a plain type must be, numpy's numbers included, and its name."""


def option_names(config_class: type) -> tuple[str, ...]:
    """The fields of a config dataclass."""
    return tuple(field.name for field in dataclasses.fields(config_class))


def from_keywords(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Makes an instance as ``build`` does; everything that is wrong is a sentence.

    Raises:
        UserError: An option that does not exist, or an impossible value.
    """
    known = option_names(config_class)
    for name in values:
        if name not in known:
            raise unknown_option(name, known)
    try:
        return build(config_class, values)
    except ValueError as error:
        raise UserError(str(error)) from None


def build(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Makes an instance; strings become paths where the field is a ``Path``.

    Raises:
        UserError: A value of another type, or one that a ``Literal`` field does not list.
        ValueError: A value that the class itself refuses.
    """
    hints = get_type_hints(config_class)
    return config_class(**{name: _converted(name, value, hints[name]) for name, value in values.items()})


def unknown_option(name: str, known: Iterable[str]) -> UserError:
    """The error for a keyword that does not exist, with the nearest one that does."""
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"the options are {', '.join(known)}."
    return UserError(f"there is no option '{name}'; {advice}")


def _converted(name: str, value: Any, hint: Any) -> Any:
    check_text(hint, value, name)
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    if isinstance(value, os.PathLike) and Path not in kinds and str in kinds:
        return os.fspath(value)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and value not in choices and not (value is None and type(None) in kinds):
        raise UserError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}.")
    if all(kind in _PLAIN for kind in kinds) and not any(_is(value, kind) for kind in kinds):
        raise UserError(f"{name} must be {' or '.join(_PLAIN[kind][1] for kind in kinds)}, not {shown(value)}.")
    if list in [get_origin(kind) for kind in kinds] and isinstance(value, str):
        raise UserError(f"{name} must be a list, not {shown(value)}.")
    return value


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, _PLAIN[kind][0]) and (kind is bool or not isinstance(value, bool))
