"""Refuses unknown options before a program's imports, which take seconds."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any, get_origin, get_type_hints

from shards.command_line.cli import fail, nearest, no_option

_OF_EVERY_PARSER = ("help", "config", "print_config")


def refuse_typos(config_class: type, arguments: Sequence[str], unseen: Collection[str] = ()) -> None:
    """Exits with code 2 and one sentence for the first argument that names an unknown option.

    Args:
        config_class: The dataclass of the options.
        arguments: Of the command line.
        unseen: Sections whose options only the imports reveal. A name that resembles none of the others may be one of
            theirs, and is left to the parser.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # The first process speaks for all.
    hints = dict(_options(config_class))
    known = [*hints, *_OF_EVERY_PARSER]
    open_ended = tuple(f"{name}." for name, hint in hints.items() if get_origin(hint) is dict)
    others = (*open_ended, *(f"{section}." for section in unseen))
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--").removesuffix("+")
        if not argument.startswith("--") or name in (*known, *unseen) or name.startswith(others):
            continue
        if not unseen or nearest(name, known):
            fail(no_option(name, known))


def _options(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and types of all options, and of sections."""
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        yield prefix + field.name, hint
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _options(hint, f"{prefix}{field.name}.")
