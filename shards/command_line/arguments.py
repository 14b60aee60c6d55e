"""The words of a command line before they are parsed."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args, get_origin

import yaml

from shards.base.errors import UserError, shown
from shards.base.places import BETWEEN_PARTS
from shards.base.yaml_text import parse_yaml, read_yaml
from shards.command_line.option_checks import check_sections, check_text, option_type, section_class

_DATA = "--data"


def check_files(config_class: type, arguments: Sequence[str]) -> None:
    """Reads the files and sections among the arguments before the parser does, which knows only some of their mistakes.

    Raises:
        UserError: A file that is not UTF-8 or not YAML, a value where a section of options belongs, or an empty path.
    """
    for position, argument in enumerate(arguments):
        if not argument and not (position and _is_option(arguments[position - 1])):
            raise UserError("an argument is empty; leave it out, or give a value.")
        if not argument.startswith("--"):
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if position + 1 == len(arguments):
                continue
            value = arguments[position + 1]
        check_text(option_type(config_class, name), value, name)
        kind = config_class if name == "config" else section_class(config_class, name)
        if kind is None:
            continue
        try:
            content = read_yaml(Path(value), "fix the file") if os.path.isfile(value) else parse_yaml(value)
        except yaml.YAMLError:
            continue  # The parser says what is wrong.
        if isinstance(content, Mapping):
            check_sections(kind, content)
        elif name != "config" and not isinstance(content, str):
            raise UserError(f"option '{name}' is a section of options, not {shown(content)}; name its options.")


def config_first(arguments: Sequence[str]) -> list[str]:
    """Moves ``--config FILE`` to the front: the parser lets the later argument win, and options win over the file."""
    files: list[str] = []
    others: list[str] = []
    for argument in arguments:
        is_file = argument.startswith("--config=") or argument == "--config" or files[-1:] == ["--config"]
        (files if is_file else others).append(argument)
    return files + others


def join_parts(arguments: Sequence[str]) -> list[str]:
    """Joins several ``--data``, the parts of a mix, to one."""
    others: list[str] = []
    places: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == _DATA and equals:
            places.append(value)
        elif others[-1:] == [_DATA]:
            others.pop()
            places.append(argument)
        else:
            others.append(argument)
    return [*others, _DATA, BETWEEN_PARTS.join(places)] if len(places) > 1 else list(arguments)


def join_lists(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Lets a list option take several words: ``--rows 1 2 3`` for ``--rows [1,2,3]``."""
    joined: list[str] = []
    position = 0
    while position < len(arguments):
        joined.append(arguments[position])
        position += 1
        hint = getattr(parser._option_string_actions.get(joined[-1]), "_typehint", None)
        if get_origin(hint) is not list:
            continue
        values: list[str] = []
        while position < len(arguments) and not _is_option(arguments[position]):
            values.append(arguments[position])
            position += 1
        if len(values) == 1 and values[0].startswith("[") and values[0].endswith("]"):
            joined.append(values[0])
        elif values:
            is_text = get_args(hint) == (str,)
            joined.append(json.dumps(values) if is_text else f"[{','.join(values)}]")
    return joined


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and not re.fullmatch(r"-\.?\d.*|-", argument)
