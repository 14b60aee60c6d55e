"""The report of a sweep: its content, as HTML and as Markdown."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from eval.reports.protocol import split_title
from eval.reports.registry import metrics
from eval.reports.results import Metric, format_number
from shards.dataset.dataset import Dataset
from tuning.ledger import TrialRecord
from tuning.reports.trial_scatter import Legend, Mark, Quantity, scatter
from tuning.search.objective import Objective

TEMPLATES = [Path(__file__).parent / "templates", Path(__file__).parents[2] / "eval" / "reports" / "templates"]
BEST = "best.yaml"
FIGURES = "figures"
SAMPLES = ("frechet_inception_samples", "frechet_efflite0_samples")
"""Measures of sample quality, by preference."""
_USAGE = ("active_units", "effective_dims", "kl")
"""Measures of how the latents are used."""
_COLUMNS = ("mse", *SAMPLES, "kl", "active_units", "effective_dims")
"""Columns of the table; those that no trial has are left out."""


@dataclass(frozen=True)
class TrialRow:
    """One trial in the report."""

    record: TrialRecord
    measures: dict[str, float]
    """From the trial's own report, on held-out images that the sweep did not use; empty without a report."""
    link: str = ""
    """The trial's own report, relative to the sweep's folder."""
    is_best: bool = False
    on_front: bool = False
    """Whether no other trial is better in both reconstruction and samples."""


@dataclass(frozen=True)
class TrialChart:
    """A chart of all trials."""

    title: str
    caption: str
    svg: str
    """Its links are relative to the folder of figures."""


def draw_charts(rows: Sequence[TrialRow], searched: Sequence[str]) -> dict[str, TrialChart]:
    """The charts by name; those that fewer than two trials have numbers for are left out.

    Args:
        rows: The trials.
        searched: Options that were searched.
    """
    charts: dict[str, TrialChart] = {}
    titles = {metric.key: _title(metric) for metric in metrics()}
    named_by = _named_by(rows, searched)
    legend = Legend(f"labels: {named_by or 'trial'}", "no trial is better in both MSE and samples", "the others")

    def add(name: str, caption: str, x: str, y: str, front: bool = False) -> None:
        found = [row for row in rows if _value(row, x) is not None and _value(row, y) is not None]
        if len(found) < 2:
            return
        across, up = (
            Quantity(titles.get(key, key), [value for row in found if (value := _value(row, key)) is not None])
            for key in (x, y)
        )
        marks = [Mark(_label(row, named_by), f"../{row.link}" if row.link else "", row.on_front) for row in found]
        line = sorted((n for n, row in enumerate(found) if row.on_front), key=lambda n: across.values[n])
        title = f"{up.title} over {across.title}"
        charts[name] = TrialChart(title, caption, scatter(title, across, up, marks, legend, line if front else ()))

    samples = first_key(SAMPLES, [row.measures for row in rows])
    if samples:
        caption = (
            "Reconstruction against samples; lower left is better. No other trial beats those on the line in both."
        )
        add("pareto", caption, "mse", samples, front=True)
    add("usage", "Reconstruction against the use of the latents.", "mse", _USAGE[0])
    for option in searched:
        for key in ("mse", samples, *_USAGE):
            if key:
                add(f"{option}-{key}", f"{titles[key]} over {option}.", option, key)
    return charts


def _title(metric: Metric) -> str:
    """The metric's title with its unit; distances say what they compare."""
    of_samples = " of samples" if metric.key in SAMPLES else ""
    return f"{metric.title}{of_samples}" + (f" [{metric.unit}]" if metric.unit else "")


def _value(row: TrialRow, key: str) -> float | None:
    """A searched option or a measure, if it is a number."""
    value = row.record.params.get(key, row.measures.get(key))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _named_by(rows: Sequence[TrialRow], searched: Sequence[str]) -> str:
    """The option whose values distinguish the trials, short enough for a chart; empty where that takes their names."""
    values = [row.record.params.get(searched[0]) for row in rows] if len(searched) == 1 else [None]
    return searched[0] if all(isinstance(value, int | float | str) for value in values) else ""


def _label(row: TrialRow, named_by: str) -> str:
    if not named_by:
        return row.record.name.split("-")[0]
    value = row.record.params[named_by]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def first_key(keys: Sequence[str], found: Sequence[dict[str, float]]) -> str | None:
    """The first key that some of the trials have."""
    return next((key for key in keys if any(key in measures for measures in found)), None)


def make_page(
    sweep: dict[str, Any],
    dataset: Dataset,
    split: str,
    num_images: int,
    objective: Objective,
    rows: Sequence[TrialRow],
    charts: dict[str, TrialChart],
    preset: str,
) -> dict[str, Any]:
    """The content of the report.

    Args:
        sweep: What ``sweep.yaml`` holds.
        dataset: The data set that the trials were evaluated on.
        split: The split that they were evaluated on.
        num_images: Images of the split, and samples.
        objective: The objective of the sweep.
        rows: The trials, in order.
        charts: As ``draw_charts`` makes them.
        preset: Text of the best configuration; empty without one.
    """
    by_key = {metric.key: metric for metric in metrics()}
    columns = [by_key[key] for key in _COLUMNS if any(key in row.measures for row in rows)]
    space = sweep["space"]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.record.status] = counts.get(row.record.status, 0) + 1
    facts = {
        "family": f"{space['family']}, from {space['preset'] or 'its defaults'}",
        "searched": "; ".join(f"{name}: {_describe(axis)}" for name, axis in space["search"].items()),
        "the same for all": ", ".join(f"{name} {value}" for name, value in space["options"].items()) or "nothing else",
        "objective": f"{objective.describe()}, lower is better, on the val split while training",
        "scheduler, searcher": f"{space['scheduler']['kind']}, {space['searcher']}",
        "images": f"{space['max_images']:,} for each trial that was not stopped early; "
        f"{sum(row.record.images_seen for row in rows):,} over all trials",
        "trials": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "evaluated on": f"{dataset.manifest.name}, fingerprint {dataset.fingerprint}, {split_title(split)}: "
        f"{num_images:,} images and as many samples",
    }
    warnings = []
    if num_images < 2048:
        warnings.append(
            f"Fréchet distances are over {num_images:,} images: biased upwards, comparable only with each other."
        )
    if dataset.fingerprint != sweep["data_fingerprint"]:
        warnings.append("The trials were trained on another data set: their training images may be among these.")
    warnings += [f"{row.record.name} failed: {row.record.error}" for row in rows if row.record.status == "failed"]
    return {
        "title": f"Sweep of {space['family']}: {', '.join(space['search'])}",
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "facts": facts,
        "warnings": warnings,
        "columns": columns,
        "title_of": _title,
        "rows": rows,
        "cells": [[_cell(row, metric.key, metric.format) for metric in columns] for row in rows],
        "charts": charts,
        "preset": preset,
        "family": space["family"],
    }


def _describe(axis: dict[str, Any]) -> str:
    (kind, values), *_ = axis.items()
    return f"{kind} {', '.join(map(str, values))}"


def _cell(row: TrialRow, key: str, form: str) -> str:
    return format_number(row.measures[key], form) if key in row.measures else "n/a"


def html(page: dict[str, Any]) -> str:
    """One HTML page with its charts inside; links lead to files beside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("sweep.html.j2").render(page)


def markdown(page: dict[str, Any]) -> str:
    """The report in Markdown, with the charts as files."""
    header = ["trial", "status", "images", "score", *[_title(metric) for metric in page["columns"]]]
    lines = [f"# {page['title']}", "", page["created"], ""]
    lines += [f"> **Note:** {warning}\n" for warning in page["warnings"]]
    lines += ["| " + " | ".join(header) + " |", "| " + " | ".join(["---", "---", *["---:"] * (len(header) - 2)]) + " |"]
    for row, cells in zip(page["rows"], page["cells"], strict=True):
        record = row.record
        name = f"[{record.name}]({row.link})" if row.link else record.name
        score = "n/a" if record.score is None else f"{record.score:.5g}"
        name = f"**{name}**" if row.is_best else name
        lines.append("| " + " | ".join([name, record.status, f"{record.images_seen:,}", score, *cells]) + " |")
    lines.append("")
    for name, chart in page["charts"].items():
        lines += [chart.caption, "", f"![{chart.caption}]({FIGURES}/{name}.png)", ""]
    lines += [f"* {name}: {text}" for name, text in page["facts"].items()]
    if page["preset"]:
        lines += ["", f"Best configuration, `{BEST}`:", "", "```yaml", page["preset"].rstrip(), "```"]
    return "\n".join(lines) + "\n"
