"""What a report holds; ``report.json`` is exactly this, and ``report.schema.json`` describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, MinLen
from PIL import Image

from shards.base.errors import DamagedFile, shown
from shards.base.formats import Format
from shards.base.records import read_record


def _from_version_1(old: dict[str, Any]) -> dict[str, Any]:
    """Without baselines, and every number was ranked."""
    for run in old["runs"]:
        run["measures"] = {key: measure | {"is_ranked": True} for key, measure in run["measures"].items()}
    return old | {"baselines": []}


FORMAT = Format("report", version=2, upgrades={1: _from_version_1}, key="schema_version")
"""Of ``report.json``."""

_FORMAT_SPEC = re.compile(r"si|,?(\.\d)?[defg%]?")
Better = Literal["lower", "higher", ""]
Figure = Image.Image | str | bytes
"""A picture, the text of an SVG chart, or the content of an animated WebP."""


LatentColumn = Literal["mean", "variance", "ks", "kl"]
Count = Annotated[int, Ge(0)]
Amount = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Metric:
    """A row of the table of numbers."""

    key: str
    """Name of the metric below ``runs[].measures``."""
    title: str
    """As the table shows it."""
    group: str
    """Rows of one group stand together."""
    unit: str = ""
    """Of the values; empty for pure numbers."""
    better: Better = ""
    """Which direction is better; empty where neither is."""
    format: str = ".4g"
    """How the table shows a value: a format specification of Python, or si for three digits and a thousands letter."""
    help: str = ""
    """One line of explanation."""


@dataclass(frozen=True)
class Measure:
    """One number of one run, or the reason why there is none."""

    value: float | None = None
    """In the metric's unit; null where there is none."""
    spread: float | None = None
    """Its standard deviation or standard error."""
    reason: str = ""
    """Why there is no value: skipped, or what is missing; empty where there is one."""
    note: str = ""
    """What has to be known when reading the value."""
    is_ranked: bool = True
    """Whether it takes part in marking the best."""


@dataclass(frozen=True)
class Picture:
    """A picture or chart of a run, or of all runs."""

    file: str
    """Name below figures/: PNG, SVG or animated WebP."""
    title: str
    """Above the picture."""
    caption: str = ""
    """Below its title."""
    group: str = ""
    """What pictures of a run are folded together under; empty for those of all runs."""


@dataclass(frozen=True)
class TextTable:
    """A small table of its own, as text."""

    title: str
    """Above the table."""
    caption: str
    """Below its title."""
    header: list[str]
    """Names of the columns."""
    rows: list[list[str]]
    """Cells, each row as long as the header."""
    notes: list[str] = field(default_factory=list)
    """What has to be known when reading it."""
    num_text_columns: Count = 1
    """How many columns at the left are text; the others are numbers."""


@dataclass(frozen=True)
class Missing:
    """What could be shown and is not."""

    title: str
    """Of the picture or table."""
    reason: str
    """Why, without a full stop."""


@dataclass(frozen=True)
class Stage:
    """How long a part of the work took, on the main process."""

    name: str
    """What was done."""
    run: str
    """Of which run; empty for what all runs share."""
    seconds: Amount
    """On the clock."""
    peak_rss_mib: Amount
    """Highest resident memory of the main process within it, in MiB."""


@dataclass
class RunResult:
    """Everything about one run."""

    name: str
    """Unique in the report."""
    path: str
    """As given on the command line."""
    family: str
    """Of the model."""
    weights: str
    """EMA or raw; empty for a baseline and for images from elsewhere."""
    step: Count
    """Optimizer steps of the snapshot."""
    images_seen: Count
    """Training images, repeats included."""
    dataset_fingerprint: str
    """Of the training data."""
    difference: str
    """Why its numbers cannot be ranked with the others'; empty where they can."""
    measures: dict[str, Measure] = field(default_factory=dict)
    """By metric key; one for every metric."""
    latent: dict[LatentColumn, list[float]] = field(default_factory=dict)
    """By latent dim: mean and variance of mu over images, the Kolmogorov-Smirnov distance of the aggregated posterior
    from N(0, 1), and KL in nats, which is absent without a posterior; empty where nothing was encoded."""
    pictures: list[Picture] = field(default_factory=list)
    """In the order of the page."""
    warnings: list[str] = field(default_factory=list)
    """What training warned of."""
    condition: str = ""
    """What a conditional model generates by, in words; empty for others."""
    tables: list[TextTable] = field(default_factory=list)
    """Such as that of biases."""
    missing: list[Missing] = field(default_factory=list)
    """Pictures and tables that could not be made."""


@dataclass
class Report:
    """Everything that the page of a report shows."""

    title: str
    """The runs, and the split."""
    created: str
    """UTC, to the minute."""
    protocol: dict[str, str]
    """Name and text of each line that two reports must share to be comparable."""
    metrics: list[Metric]
    """Rows of the table, in order."""
    runs: Annotated[list[RunResult], MinLen(1)]
    """In the order of the command line."""
    baselines: list[RunResult] = field(default_factory=list)
    """What runs have to beat; never ranked among them."""
    pictures: list[Picture] = field(default_factory=list)
    """Those that show all runs."""
    warnings: list[str] = field(default_factory=list)
    """What has to be known before any number is read."""
    tables: list[TextTable] = field(default_factory=list)
    """Those of all runs."""
    missing: list[Missing] = field(default_factory=list)
    """What all runs could show and do not."""
    skipped: list[str] = field(default_factory=list)
    """Parts that were not asked for."""
    stages: list[Stage] = field(default_factory=list)
    """In the order in which they ran."""

    @property
    def columns(self) -> list[RunResult]:
        """Runs, then baselines."""
        return [*self.runs, *self.baselines]


def best_runs(metric: Metric, runs: list[RunResult]) -> set[int]:
    """Positions of the runs with the best value of a metric as the table shows it, so ties included.

    Empty if no comparable run is shown as worse. Runs with a ``difference`` and unranked numbers are not compared.
    """
    values = {
        position: value
        for position, run in enumerate(runs)
        if not run.difference and run.measures[metric.key].is_ranked
        if (value := run.measures[metric.key].value) is not None
    }
    if not metric.better or not values:
        return set()
    best = min(values.values()) if metric.better == "lower" else max(values.values())
    shown = {position: format_number(value, metric.format) for position, value in values.items()}
    marked = {position for position, text in shown.items() if text == format_number(best, metric.format)}
    return marked if len(marked) < len(shown) else set()


def format_value(metric: Metric, measure: Measure) -> str:
    """The number as the table shows it, without its unit; ``n/a`` if there is none."""
    if measure.value is None:
        return "n/a"
    text = format_number(measure.value, metric.format)
    return text if measure.spread is None else f"{text} ± {format_number(measure.spread, '.2g')}"


def format_number(value: float, spec: str) -> str:
    """A value as tables show it.

    Args:
        value: The number.
        spec: One of ``format``, where ``g`` keeps zeros at the end, so that all numbers of a row have as many digits;
            or ``si``: three digits and a thousands letter.
    """
    if spec.endswith("g"):
        return format(value, f"#{spec}").removesuffix(".")
    if spec != "si":
        return format(value, spec)
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g} "


def to_json(value: Any) -> Any:
    """Turns dataclasses, arrays and numpy numbers into what ``json`` writes."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def read_report(path: Path) -> Report:
    """Reads a ``report.json``, also one of an older version.

    Raises:
        UserError: It cannot be read, is not a report, or comes from a newer program.
    """
    advice = "make the report again"
    report = read_record(path, Report, advice, FORMAT)
    for number, metric in enumerate(report.metrics):
        if not _FORMAT_SPEC.fullmatch(metric.format):
            raise DamagedFile(f"{path}: metrics[{number}].format cannot be {shown(metric.format)}; {advice}.")
    for run in report.columns:
        for metric in report.metrics:
            if metric.key not in run.measures:
                raise DamagedFile(f"{path}: runs lack the measure {shown(metric.key)}; {advice}.")
    return report
