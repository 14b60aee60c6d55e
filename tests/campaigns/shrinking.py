"""Makes a failing case as small as it gets while it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.campaigns.area import Change

MAX_TRIES = 60
_LONG = 16


def shrink(changes: Sequence[Change], fails: Callable[[Sequence[Change]], bool]) -> list[Change]:
    """Leaves out changes, then shortens their values, as long as ``fails`` holds.

    Args:
        changes: A case that fails.
        fails: Whether another case fails in the same way; asked at most ``MAX_TRIES`` times.
    """
    smallest, tries = list(changes), 0
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(smallest):
            tries += 1
            if tries > MAX_TRIES:
                return smallest
            if fails(smaller):
                smallest, progress = smaller, True
                break
    return smallest


def _smaller(changes: list[Change]) -> Iterator[list[Change]]:
    if len(changes) > 1:
        for position in range(len(changes)):
            yield changes[:position] + changes[position + 1 :]
    for position, change in enumerate(changes):
        for value in _smaller_values(change.value):
            yield [*changes[:position], change._replace(value=value), *changes[position + 1 :]]


def _smaller_values(value: Any) -> Iterator[Any]:
    """Halves of a long text, also as the last of several values; shorter ones may be names of what to do."""
    if isinstance(value, list) and value:
        yield from ([*value[:-1], smaller] for smaller in _smaller_values(value[-1]))
    elif isinstance(value, str | bytes) and len(value) > _LONG:
        half = len(value) // 4 * 2  # Bytes are written as pairs of hex digits.
        yield from (value[:half], value[half:])
