"""The parts that a report can have, in order, and which of them ``--only`` and ``--skip`` choose."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import get_args

from eval.features.space_names import Space
from eval.reports.part import Part
from eval.reports.parts import PARTS as BUILT_IN
from eval.reports.results import Metric
from shards.base.errors import Note
from shards.base.plugins import load_plugins

SKIPPED = "skipped"
"""The reason of a number that was not asked for."""

PARTS: dict[str, Part] = {}
"""By name. The order is that of the table's rows and of each run's pictures."""


def register(part: Part) -> None:
    """Adds a part behind the others.

    Raises:
        ValueError: Its name, one of its keys or one of its files is taken.
    """
    if part.name in PARTS:
        raise ValueError(f"a report has a part '{part.name}' already.")
    for what, own, taken in (
        ("a row", part.keys, [key for other in PARTS.values() for key in other.keys]),
        ("a picture", part.files, [file for other in PARTS.values() for file in other.files]),
    ):
        seen = list(taken)
        for name in own:
            if name in seen:
                raise ValueError(f"part '{part.name}' of the report: there is {what} '{name}' already.")
            seen.append(name)
    PARTS[part.name] = part


for _part in BUILT_IN:
    register(_part)
for _name, _part in load_plugins("facegen.report_parts", Part, PARTS).items():
    try:
        register(_part)
    except ValueError as error:
        warnings.warn(f"facegen.report_parts: {_name} is left out: {error}", Note, stacklevel=2)


def metrics() -> list[Metric]:
    """All rows of the table of numbers."""
    return [row for part in PARTS.values() for row in part.rows]


def summary_keys() -> tuple[str, ...]:
    """Keys of the rows that also stand in the summary, in its order."""
    return tuple(key for part in PARTS.values() for key in part.summary)


def parts_of_spaces(spaces: Collection[str]) -> list[str]:
    """Names of the parts that have something to show in some feature spaces, in order."""
    return [part.name for part in PARTS.values() if part.space is None or part.space in spaces]


def choose_parts(only: Sequence[str], skip: Sequence[str], spaces: Collection[str] = get_args(Space)) -> frozenset[str]:
    """Names of the parts to do: those of ``only``, or all of these spaces where it is empty, without those of ``skip``.

    Raises:
        ValueError: An unknown name, a part of another space, or nothing left.
    """
    asked, available = _named("only", only), frozenset(parts_of_spaces(spaces))
    for part in sorted(asked - available):
        raise ValueError(f"--only: part '{part}' needs the space {PARTS[part].space}; add it to --spaces.")
    chosen = (asked or available) - _named("skip", skip)
    if not chosen:
        raise ValueError("--only and --skip leave no part of the report; skip less.")
    return chosen


def describe_parts() -> str:
    """All names with what they are, for ``--help``."""
    return "; ".join(f"{part.name} ({part.content})" for part in PARTS.values())


def _named(option: str, names: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        meant = {part for part in PARTS if part == name or part.startswith(f"{name}:")}
        if not meant:
            kinds = dict.fromkeys(part.partition(":")[0] for part in PARTS)
            nearest = difflib.get_close_matches(name, dict.fromkeys([*PARTS, *kinds]), n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(PARTS)}."
            raise ValueError(f"--{option}: a report has no part '{name}'; {hint}")
        found |= meant
    return frozenset(found)
