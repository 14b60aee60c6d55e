"""Values of option dataclasses: as plain values, and refused where they have no effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any


def refuse_unused(config: Any, names: Collection[str], why: str) -> None:
    """Refuses options that were set where they have no effect: a setting that is silently ignored looks like a result.

    Args:
        config: The config dataclass.
        names: Fields that are not read; each has a default.
        why: What switches them off, as the end of "has no effect".

    Raises:
        ValueError: One of them has another value than its default.
    """
    for item in dataclasses.fields(config):
        if item.name in names and getattr(config, item.name) != default_of(item):
            raise ValueError(f"{item.name} has no effect {why}; leave it out, or change that.")


def default_of(item: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass field; ``dataclasses.MISSING`` where it has none."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain values, as YAML and JSON hold it."""
    return {item.name: plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def plain(value: Any) -> Any:
    """A value of a config as YAML and JSON hold it: dataclasses as dicts, tuples as lists."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return to_dict(value) if dataclasses.is_dataclass(value) else value
