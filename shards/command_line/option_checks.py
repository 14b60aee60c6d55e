"""Checks of options that the parser lets through: wrong sections, empty paths, null, NaN, numbers beyond 64 bits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from shards.base.errors import UserError, shown
from shards.base.yaml_text import BASE_60


def check_sections(config_class: type, values: Mapping[Any, Any], prefix: str = "") -> None:
    """Refuses what the parser ignores: values for sections, such as ``optim: -1``, empty sections of other names, and
    empty paths.

    Args:
        config_class: The config dataclass.
        values: Its options as a file names them.
        prefix: Dotted name of the section, with a dot at its end.

    Raises:
        UserError: Such a value.
    """
    hints = get_type_hints(config_class)
    for name, value in values.items():
        if isinstance(value, Mapping) and not value and str(name).partition(".")[0] not in hints:
            raise UserError(f"there is no option '{prefix}{name}'; --help lists them all.")
        check_text(hints.get(name), value, f"{prefix}{name}")
    for name, kind in _sections(config_class).items():
        value = values.get(name, {})
        if isinstance(value, Mapping):
            check_sections(kind, value, f"{prefix}{name}.")
        else:
            raise UserError(f"option '{prefix}{name}' is a section of options, not {shown(value)}; name its options.")


def section_class(config_class: type, option: str) -> type | None:
    """The dataclass of a section by its dotted name; None for an option."""
    found: type | None = config_class
    for name in option.split("."):
        found = _sections(found).get(name) if found else None
    return found


def check_text(kind: Any, value: Any, name: str) -> None:
    """Refuses texts that the parser would take for something else: an empty path, and a number of base 60.

    Args:
        kind: The option's type.
        value: Its value, before parsing.
        name: Its dotted name.

    Raises:
        UserError: An empty text for a path, which would be the current folder, or 1:30, which would be 90.
    """
    if value == "" and _takes(kind, Path):
        raise UserError(f"option '{name}' must not be empty; the current folder is '.'.")
    if isinstance(value, str) and BASE_60.fullmatch(value) and _takes(kind, int, float) and not _takes(kind, str):
        raise UserError(f"option '{name}' must be a number, not {value}.")


def option_type(config_class: type, option: str) -> Any:
    """The type of an option by its dotted name; None where there is no such option."""
    section, _, name = option.rpartition(".")
    owner = section_class(config_class, section) if section else config_class
    return get_type_hints(owner).get(name) if owner else None


def check_nulls(config_class: type, values: Any, prefix: str = "") -> None:
    """Refuses null for options that cannot be null; arguments as ``check_sections``, after parsing.

    Raises:
        UserError: Such an option.
    """
    sections = _sections(config_class)
    for name, kind in get_type_hints(config_class).items():
        value = values.get(name, "")
        if name in sections and hasattr(value, "get"):
            check_nulls(sections[name], value, f"{prefix}{name}.")
        elif value is None and kind is not Any and NoneType not in get_args(kind):
            raise UserError(f"option '{prefix}{name}' cannot be null; leave it out, or give a value.")


def check_numbers(value: Any, name: str = "") -> None:
    """Refuses NaN, and whole numbers beyond 64 bits, anywhere in a config.

    Args:
        value: A config dataclass, or a value of one.
        name: Dotted name of the value.

    Raises:
        UserError: Such a number.
    """
    if dataclasses.is_dataclass(value):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            check_numbers(item, name)
    elif isinstance(value, float) and math.isnan(value):
        raise UserError(f"option '{name}' must be a number, not nan.")
    elif isinstance(value, int) and value.bit_length() > 63:
        raise UserError(f"option '{name}' must be a number of at most 64 bits, not {shown(value)}.")


def _takes(kind: Any, *types: type) -> bool:
    return kind in types or any(_takes(part, *types) for part in get_args(kind))


def _sections(config_class: type) -> dict[str, type]:
    hints = get_type_hints(config_class)
    return {name: kind for name, kind in hints.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
