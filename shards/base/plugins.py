"""Plug-ins: what installed packages add, as entry points.

The group ``facegen.families`` adds families; ``facegen.samplers``, ``facegen.sources``, ``facegen.report_parts`` and
``facegen.trackers`` likewise. A plug-in that cannot be loaded is left out with a note, so that it stops nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from shards.base.errors import Note

EntryT = TypeVar("EntryT")


def plugin_names(group: str) -> list[str]:
    """Names of a group's plug-ins, none of which is loaded."""
    return sorted({point.name for point in entry_points(group=group)})


def load_plugins(group: str, kind: type[EntryT], taken: Mapping[str, object]) -> dict[str, EntryT]:
    """Loads the plug-ins of a group.

    Args:
        group: Such as ``facegen.families``.
        kind: What an entry point must lead to.
        taken: Names that are not given away.

    Returns:
        By name; those that cannot be loaded are left out with a note.
    """
    found: dict[str, EntryT] = {}
    for point in sorted(entry_points(group=group)):
        try:
            value = point.load()
        except Exception as error:  # Code of others.
            problem = f"it cannot be loaded ({type(error).__name__}: {error})"
        else:
            problem = "" if isinstance(value, kind) else f"{point.value} is not a {kind.__module__}.{kind.__name__}"
        if point.name in taken or point.name in found:
            problem = "there is one of this name already"
        if problem:
            warnings.warn(f"{group}: {point.name} of {_package(point)} is left out: {problem}", Note, stacklevel=2)
        else:
            found[point.name] = value
    return found


class Registry(Mapping[str, EntryT], Generic[EntryT]):
    """Entries by name: the project's own, then the plug-ins of a group, which are loaded when a name is looked for."""

    def __init__(self, group: str, kind: type[EntryT], own: Mapping[str, EntryT]) -> None:
        """Takes the group of the plug-ins, what each of them must be, and the project's own entries."""
        self._group, self._kind, self._own = group, kind, own
        self._plugins: dict[str, EntryT] | None = None

    @property
    def plugins(self) -> Mapping[str, EntryT]:
        """The plug-ins that could be loaded."""
        if self._plugins is None:
            self._plugins = load_plugins(self._group, self._kind, self._own)
        return self._plugins

    def __getitem__(self, name: str) -> EntryT:
        return self._own[name] if name in self._own else self.plugins[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self.plugins

    def __len__(self) -> int:
        return len(self._own) + len(self.plugins)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"
