"""Options that nothing would read are refused: a setting that is silently ignored looks like a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any


def refuse_unused(config: Any, names: Collection[str], why: str) -> None:
    """Refuses options of a config dataclass that were set where they have no effect.

    Args:
        config: The config.
        names: Fields that are not read; each has a default.
        why: What switches them off, as the end of "has no effect".

    Raises:
        ValueError: One of them has another value than its default.
    """
    for item in dataclasses.fields(config):
        if item.name not in names:
            continue
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        if getattr(config, item.name) != default:
            raise ValueError(f"{item.name} has no effect {why}; leave it out, or change that.")
