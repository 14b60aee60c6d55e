"""Reads YAML that may come from elsewhere: no bombs, no loops, and one sentence for all that PyYAML may raise."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from shards.base.errors import DamagedFile
from shards.base.records import read_text

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_VALUES = 100_000
BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""What YAML 1.1 reads as a number of base 60, such as 1:30."""


def read_yaml(path: Path, advice: str) -> Any:
    """Reads a YAML file.

    Args:
        path: The file.
        advice: What the user can do about a damaged one, as the end of the sentence.

    Raises:
        DamagedFile: It is not YAML, or not UTF-8.
        UserError: It cannot be read.
    """
    try:
        return parse_yaml(read_text(path, advice))
    except DamagedFile:
        raise
    except yaml.YAMLError as error:
        raise DamagedFile(f"{path} is not YAML: {error}; {advice}.") from None


def guarded(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A loader of YAML text that raises ``yaml.YAMLError``, with one line, for all that it does not take.

    That is text that is not YAML, aliases that repeat more than 100,000 values or contain themselves, a value that its
    tag does not allow, and a number of base 60, such as 1:30, which nobody means.
    """

    def load_guarded(text: str) -> Any:
        try:
            if "*" in text:
                _check_aliases(text)
            if BASE_60.search(text):
                _check_numbers(text)
            return load(text)
        except Exception as error:  # PyYAML lets through what int() and datetime raise, and a few errors of its own.
            raise yaml.YAMLError(" ".join(str(error).split())) from None

    return load_guarded


parse_yaml = guarded(partial(yaml.load, Loader=_Loader))
"""The value that YAML text stands for; errors as ``guarded``."""


def _check_numbers(text: str) -> None:
    """Refuses numbers that YAML 1.1 reads in base 60."""
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and BASE_60.fullmatch(event.value):
            raise yaml.YAMLError(f"{event.value} is a number of base 60; write it in base 10, or as text in quotes")


def _check_aliases(text: str) -> None:
    """Refuses aliases that make few bytes huge or endless, from the events alone."""
    sizes: dict[str | None, int] = {}
    unfinished: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            unfinished.append((event.anchor, 1))
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in unfinished):
                raise yaml.YAMLError(f"the alias *{event.anchor} contains itself")
            anchor, size = None, sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = unfinished.pop()
        else:
            anchor, size = getattr(event, "anchor", None), int(isinstance(event, yaml.ScalarEvent))
        sizes[anchor] = size
        outer, total = unfinished.pop()
        if total + size > _MAX_VALUES:
            raise yaml.YAMLError(f"it holds more than {_MAX_VALUES:,} values")
        unfinished.append((outer, total + size))
