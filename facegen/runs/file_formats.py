"""The format versions of a run's files, and how training options that older versions wrote are read.

``config.yaml``, ``state.json`` and ``snapshot.json`` hold the options of a run and share one version number. It rises
with each entry of ``OPTION_HISTORY``. An option that is merely added needs no entry as long as its default stays: where
it is missing in an old file, it has that default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from shards.base.formats import Content, Format

Options = dict[str, Any]


class Added(NamedTuple):
    """An option that runs of an older version lack, and the value by which they were trained."""

    option: str
    """Dotted name."""
    value: Any
    families: tuple[str, ...] = ()
    """Families that have the option; empty: all."""


class Renamed(NamedTuple):
    """An option that has another name since."""

    option: str
    """Dotted name until then."""
    new_name: str


class Removed(NamedTuple):
    """An option that is gone; runs were trained as if it had its last default."""

    option: str


Change = Added | Renamed | Removed

OPTION_HISTORY: Sequence[Sequence[Change]] = (
    (Added("ema.ramp_up", 0.0),),
    (Added("ema.statistics_images", 0),),
    (),  # Snapshots say how the data frame faces.
    (),  # States say how many lanes the order of images has.
)
"""The first entry leads from version 1 to version 2, and so on.

To change the default of an option that version N may lack, append ``Added(option, the default until then)``.
"""


class RunFormats(NamedTuple):
    """The format of each file that holds options."""

    config: Format
    state: Format
    snapshot: Format


def run_formats(history: Sequence[Sequence[Change]]) -> RunFormats:
    """The formats that follow from a table such as ``OPTION_HISTORY``; files without a version have version 1."""
    steps = {version: partial(upgrade_options, changes=changes) for version, changes in enumerate(history, 1)}
    version = 1 + len(history)
    inside = {number: partial(_upgrade_inside, step=step) for number, step in steps.items()}
    return RunFormats(
        Format("training config", version, steps, first=1),
        Format("training state", version, inside, first=1),
        Format("snapshot", version, inside, first=1),
    )


def upgrade_options(options: Options, changes: Sequence[Change]) -> Options:
    """Options of one version as those of the next; options that the file does not name stay out, if not ``Added``."""
    upgraded = copy.deepcopy(options)
    for change in changes:
        if isinstance(change, Added):
            if not change.families or options.get("family") in change.families:
                section, name = _section(upgraded, change.option)
                section.setdefault(name, change.value)
            continue
        section, name = _section(upgraded, change.option)
        if name in section:
            value = section.pop(name)
            if isinstance(change, Renamed):
                section, name = _section(upgraded, change.new_name)
                section.setdefault(name, value)
    return upgraded


def with_defaults(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Options:
    """Nested plain options, with the defaults of those that are missing."""
    return {
        **defaults,
        **{
            name: with_defaults(value, defaults[name])
            if isinstance(value, dict) and isinstance(defaults.get(name), dict)
            else value
            for name, value in options.items()
        },
    }


def _upgrade_inside(content: Content, step: Callable[[Options], Options]) -> Content:
    return content | {"config": step(content["config"])}


def _section(options: Options, option: str) -> tuple[Options, str]:
    """The dict that holds an option of a dotted name, made where it is missing, and the option's name in it."""
    *sections, name = option.split(".")
    for section in sections:
        options = options.setdefault(section, {})
    return options, name


CONFIG, STATE, SNAPSHOT = run_formats(OPTION_HISTORY)
