"""What a report holds, and the metrics that its table has rows for; ``report.json`` is exactly this."""

from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

SCHEMA_VERSION = 1

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str
    title: str
    group: str
    unit: str = ""
    better: Better = ""
    """Which direction is better; empty where neither is."""
    format: str = ".4g"
    help: str = ""


@dataclass(frozen=True)
class Measure:
    """One number of one run, or the reason why there is none."""

    value: float | None = None
    spread: float | None = None
    """Standard deviation, where the number is a mean over draws."""
    reason: str = ""
    """Why there is no value."""
    note: str = ""
    """What has to be known when reading the value."""


@dataclass(frozen=True)
class Picture:
    """A picture or chart of a run, or of all runs."""

    file: str
    """Name below ``figures/``."""
    title: str
    caption: str = ""
    group: str = ""
    """What pictures of a run are folded together under."""


@dataclass(frozen=True)
class TextTable:
    """A small table of its own."""

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]
    """As long as the header each."""
    notes: list[str] = field(default_factory=list)
    num_text_columns: int = 1
    """So many columns at the left are text, the others numbers."""


@dataclass(frozen=True)
class Missing:
    """What a run's section could show and does not."""

    title: str
    reason: str


@dataclass(frozen=True)
class Stage:
    """How long a part of the work took."""

    name: str
    run: str
    """Whose it is; empty for what all runs share."""
    seconds: float
    peak_rss_mib: float
    """Highest resident memory of the main process within it."""


@dataclass
class RunResult:
    """Everything about one run."""

    name: str
    path: str
    family: str
    weights: str
    step: int
    images_seen: int
    dataset_fingerprint: str
    difference: str
    """Why its numbers can't be ranked with the others', or empty."""
    measures: dict[str, Measure] = field(default_factory=dict)
    latent: dict[str, list[float]] = field(default_factory=dict)
    """Per latent dim: ``mean``, ``variance``, ``kl`` (nats) and ``ks``."""
    pictures: list[Picture] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What training warned of."""
    condition: str = ""
    """What a conditional model generates by, in words; empty for others."""
    tables: list[TextTable] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    """Pictures and tables that could not be made."""


@dataclass
class Report:
    """A whole report."""

    title: str
    created: str
    protocol: dict[str, str]
    metrics: list[Metric]
    runs: list[RunResult]
    pictures: list[Picture] = field(default_factory=list)
    """Those that show all runs."""
    warnings: list[str] = field(default_factory=list)
    tables: list[TextTable] = field(default_factory=list)
    """Those of all runs."""
    missing: list[Missing] = field(default_factory=list)
    """What all runs could show and do not."""
    skipped: list[str] = field(default_factory=list)
    """Parts that were not asked for."""
    stages: list[Stage] = field(default_factory=list)


def best_runs(metric: Metric, runs: list[RunResult]) -> set[int]:
    """Positions of the runs with the best value of a metric, and of those that the table shows with the same digits.

    Empty where no comparable run is worse in what the table shows. Runs with a ``difference`` take no part.
    """
    values = {
        position: value
        for position, run in enumerate(runs)
        if not run.difference and (value := run.measures[metric.key].value) is not None
    }
    if not metric.better or not values:
        return set()
    best = min(values.values()) if metric.better == "lower" else max(values.values())
    shown = {position: _format(value, metric.format) for position, value in values.items()}
    marked = {position for position, text in shown.items() if text == _format(best, metric.format)}
    return marked if len(marked) < len(shown) else set()


def format_value(metric: Metric, measure: Measure) -> str:
    """The number as the table shows it, without its unit; ``n/a`` where there is none."""
    if measure.value is None:
        return "n/a"
    text = _format(measure.value, metric.format)
    return text if measure.spread is None else f"{text} ± {_format(measure.spread, '.2g')}"


def _format(value: float, spec: str) -> str:
    """``spec`` is a format of ``format`` or ``si``: three digits and a thousands letter."""
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


def from_json(kind: Any, content: Any) -> Any:
    """Makes a dataclass, or lists and dicts of some, of what ``to_json`` made of it; arrays become float64."""
    if content is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**{name: from_json(hint, content[name]) for name, hint in get_type_hints(kind).items()})
    if kind is np.ndarray:
        return np.array(content, np.float64)
    match get_origin(kind):
        case origin if origin is list:
            return [from_json(get_args(kind)[0], item) for item in content]
        case origin if origin is dict:
            return {key: from_json(get_args(kind)[1], item) for key, item in content.items()}
        case origin if origin is UnionType:
            return from_json(get_args(kind)[0], content)  # Of an optional value, which stands first.
    return content
