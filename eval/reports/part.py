"""The parts that a report is made of: what each shows, what it needs, and how it is made.

A new metric or picture is one file in ``parts/`` with a ``Part`` in it, and one line in the list there. Whatever a
part lacks is an error when the part is made or registered, before any work is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePath
from typing import Any

from eval.features.space_names import Space
from eval.reports.context import ReportContext
from eval.reports.results import Figure, Measure, Metric, Picture, TextTable
from eval.reports.run_context import AllRuns, RunContext
from eval.reports.statistic import Statistic

Measures = Mapping[str, Measure]
"""By the key of the row."""

ABILITIES = frozenset({"encode", "posterior", "decode", "sample", "verify"})
"""What models can do, in the words of ``Model.can``."""
_SUFFIXES = (".png", ".svg", ".webp")


@dataclass(frozen=True)
class Absent:
    """Why something is not shown, without a full stop."""

    reason: str


@dataclass(frozen=True)
class Drawing:
    """A finished picture and what to say below its title."""

    figure: Figure
    caption: str


class Amount(IntEnum):
    """Of how many images features are needed."""

    NONE = 0
    FEW = 1
    """The first ``NUM_QUERIES``, in the first feature space."""
    ALL = 2
    """All that are evaluated, in every feature space."""


NUM_QUERIES = 200
"""Images whose nearest training faces are looked for."""


@dataclass(frozen=True)
class Features:
    """The features of images that a part looks at. Features of reconstructions are a statistic of the split."""

    split: Amount = Amount.NONE
    """Of the evaluated images."""
    samples: Amount = Amount.NONE
    train: bool = False
    """Of the first training images, in the first feature space."""
    others: bool = False
    """Of reconstructed training images, in every feature space."""
    reference: bool = False
    """Of the images that distances are measured from, where they are not the evaluated ones."""

    def __or__(self, other: Features) -> Features:
        """What both need."""
        return Features(
            max(self.split, other.split),
            max(self.samples, other.samples),
            self.train or other.train,
            self.others or other.others,
            self.reference or other.reference,
        )


@dataclass(frozen=True)
class RunPicture:
    """A picture that each run can have.

    Attributes:
        file: Name of its file, which the run's name goes in front of; png, svg or webp.
        title: Above it.
        make: Draws it. A ``UserError`` counts as the reason why there is none.
        needs: What the model must do, beyond what the part needs.
        is_conditional: Only for models that generate by a label.
    """

    file: str
    title: str
    make: Callable[[RunContext], Drawing | Absent]
    needs: tuple[str, ...] = ()
    is_conditional: bool = False


@dataclass(frozen=True)
class RunTable:
    """A table of its own that each run can have, with a chart of the same numbers where it has one.

    Attributes:
        title: What is missing where there is no table.
        make: Makes the table and its chart. A ``UserError`` counts as the reason why there is none.
        chart_file: Name of the chart's file, as of a ``RunPicture``.
        chart_title: Above the chart.
    """

    title: str
    make: Callable[[RunContext], tuple[TextTable, Drawing | None] | Absent]
    chart_file: str = ""
    chart_title: str = ""


@dataclass(frozen=True)
class Shared:
    """What shows all runs side by side."""

    pictures: Sequence[tuple[Picture, Figure]] = ()
    tables: Sequence[TextTable] = ()


@dataclass(frozen=True)
class Setup:
    """What a part does once for all runs, before the first of them.

    Attributes:
        title: Of the stage.
        make: Returns what runs find in ``ReportContext.prepared``.
    """

    title: str
    make: Callable[[ReportContext], Any]


@dataclass(frozen=True)
class SideBySide:
    """What a part shows of all runs together.

    Attributes:
        title: What is missing where there is nothing to show.
        make: Makes it.
        kept: The dataclass that ``measure`` puts into ``RunContext.kept``, made of what JSON holds; None for nothing.
    """

    title: str
    make: Callable[[AllRuns], Shared | Absent]
    kept: type | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a report.

    Attributes:
        name: What ``--only`` and ``--skip`` call it; ``kind`` in ``kind:detail`` means all parts of that kind.
        content: What it is, for ``--help``.
        rows: Its rows of the table of numbers, in order.
        summary: Keys of the rows that also stand in the report's summary.
        measure: Returns a number, or the reason why there is none, for each row. Main process only.
        needs: What the model must do, in the words of ``Model.can``, for the numbers and for every picture.
        lacking: What to say of a model that does not; what it cannot do when empty.
        statistics: What the pass over the split accumulates for it.
        features: The features of images that it looks at; None where it looks at none, ``Features()`` where it takes
            some itself, in the first feature space.
        group: What its pictures are folded together under.
        pictures: Of each run.
        tables: Of each run.
        prepare: What is done once for all runs.
        compare: What shows all runs side by side.
        warn: What has to be known before its numbers are read.
        protocol: What its numbers depend on and the report's other lines do not say; stored results are found by it.
        space: The feature space without which it has nothing to show; where ``--spaces`` lacks it, it is left out.
        of_stand_ins: Whether it is also done for baselines and for images from elsewhere (``eval.stand_ins``).
    """

    name: str
    content: str
    rows: Sequence[Metric] = ()
    summary: Sequence[str] = ()
    measure: Callable[[RunContext], Measures] | None = None
    needs: tuple[str, ...] = ()
    lacking: str = ""
    statistics: Sequence[Statistic[Any, Any]] = ()
    features: Features | None = None
    group: str = ""
    pictures: Sequence[RunPicture] = ()
    tables: Sequence[RunTable] = ()
    prepare: Setup | None = None
    compare: SideBySide | None = None
    warn: Callable[[ReportContext], Sequence[str]] | None = None
    protocol: Callable[[], str] | None = None
    space: Space | None = None
    of_stand_ins: bool = False

    def __post_init__(self) -> None:
        """Finds what was forgotten.

        Raises:
            ValueError: The part is incomplete or contradicts itself.
        """
        for problem in self._problems():
            raise ValueError(f"part '{self.name}' of the report: {problem}.")

    def _problems(self) -> list[str]:
        checks = {
            "its name must be lower-case words, or two of them with a colon": not re.fullmatch(
                r"[a-z_]+(:[a-z_]+)?", self.name
            ),
            "it has no content for --help": not self.content,
            "it has rows and no measure": bool(self.rows) and self.measure is None,
            "it has a measure and no rows": self.measure is not None and not self.rows,
            "it shows nothing: no rows, no pictures, no tables, no comparison": not (
                self.rows or self.pictures or self.tables or self.compare
            ),
            "its summary names keys that are not among its rows": not set(self.summary) <= set(self.keys),
            "its pictures and tables have no group": bool(self.pictures or self.tables) and not self.group,
            "it prepares what no measure uses": self.prepare is not None and self.measure is None,
        }
        unknown = {need for needs in (self.needs, *(picture.needs for picture in self.pictures)) for need in needs}
        checks[f"models know no {', '.join(sorted(unknown - ABILITIES))}"] = bool(unknown - ABILITIES)
        wrong = [file for file in self.files if PurePath(file).suffix not in _SUFFIXES]
        checks[f"{', '.join(wrong)} must end in {', '.join(_SUFFIXES)}"] = bool(wrong)
        made = [shown.make for shown in (*self.pictures, *self.tables)]
        made += [step.make for step in (self.prepare, self.compare) if step is not None]
        made += [function for function in (self.measure, self.warn, self.protocol) if function is not None]
        checks["what makes something must be callable"] = not all(map(callable, made))
        return [problem for problem, is_found in checks.items() if is_found]

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its rows."""
        return tuple(row.key for row in self.rows)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that it can draw of a run."""
        charts = [table.chart_file for table in self.tables if table.chart_file]
        return (*(picture.file for picture in self.pictures), *charts)

    def missing(self, reason: str) -> Measures:
        """Why none of its rows has a number."""
        return missing(self.keys, reason)


def missing(keys: Sequence[str], reason: str) -> dict[str, Measure]:
    """The same reason for each of some rows."""
    return {key: Measure(reason=reason) for key in keys}
