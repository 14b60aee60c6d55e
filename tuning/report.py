"""Compares the trials of a sweep: ``python -m tuning.report OUT --data DIR``.

Writes report.html, report.md, report.json, figures/, a report of each trial below reports/, and best.yaml.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml
from accelerate import Accelerator

from eval.catalog import metrics as catalog
from eval.embedded import encode
from eval.parts import choose_parts
from eval.protocol import split_title
from eval.report import ReportConfig
from eval.results import Metric
from facegen.processes import make_accelerator
from shards import cli
from shards.dataset import Dataset
from shards.reader import check_split
from tuning.ledger import TrialRecord, ranked, read_ledger
from tuning.objective import Objective
from tuning.pareto import pareto_front
from tuning.plan import SWEEP_FILE, TRIALS
from tuning.preset import write_preset
from tuning.scatter import Axis, Mark, Scatter, scatter
from tuning.trial_reports import REPORTS, has_snapshot, trial_report

TEMPLATES = [Path(__file__).parent / "templates", Path(__file__).parent.parent / "eval" / "templates"]
BEST = "best.yaml"
FIGURES = "figures"
_PARTS = ["reconstruction", "distances:samples", "likelihood", "latent", "curves", "heatmap", "samples", "sweeps"]
_COLUMNS = ("mse", "frechet_inception_samples", "frechet_efflite0_samples", "kl", "active_units", "effective_dims")
"""Numbers of the table and the charts, where they were measured."""
_SAMPLES = ("frechet_inception_samples", "frechet_efflite0_samples")
"""What says how good samples are, the first that is there."""
_USAGE = ("active_units", "effective_dims", "kl")
"""What says how the latents are used."""


@dataclass
class SweepReportConfig:
    """Options of a sweep's report."""

    sweep: str
    """The sweep's directory."""
    data: str
    """Packed data set to evaluate on."""
    split: str = "test"
    """Split to evaluate on; the trials were compared on val."""
    num_images: int = 1_000
    """Images of the split, the first ones, and as many samples."""
    only: list[str] = field(default_factory=lambda: list(_PARTS))
    """Parts of each trial's report, as eval.report has them."""
    fid_weights: str = "none"
    """File of Inception weights for FID, or auto, as eval.report takes it; none leaves FID out."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.num_images < 2:
            raise ValueError(f"num_images must be at least 2, not {self.num_images}.")
        choose_parts(self.only, [])


@dataclass(frozen=True)
class Row:
    """One trial in the report."""

    record: TrialRecord
    measures: dict[str, float]
    """Of its own report, on held-out images that took no part in the sweep; empty without one."""
    link: str = ""
    """Its own report, relative to the sweep's directory."""
    is_best: bool = False
    on_front: bool = False
    """Whether no other trial is better in both reconstruction and samples."""


def main() -> None:
    """The entry point."""
    config = cli.parse(
        SweepReportConfig,
        prog="python -m tuning.report",
        description="Compares the trials of a sweep: table, best configuration, and what reconstruction costs.",
        positional=["sweep"],
    )
    write_sweep_report(config, make_accelerator())


def write_sweep_report(config: SweepReportConfig, accelerator: Accelerator) -> None:
    """Evaluates the trials, those that were evaluated before excepted, and writes the report.

    Raises:
        UserError: No sweep, or data that its trials cannot be evaluated on.
    """
    out = Path(config.sweep)
    records = read_ledger(out)
    sweep = yaml.safe_load((out / SWEEP_FILE).read_text())
    dataset = Dataset(config.data)
    check_split(dataset, config.split)
    rows = make_rows(config, ranked(records), dataset, accelerator)
    (out / FIGURES).mkdir(exist_ok=True)
    charts = draw_charts(rows, list(sweep["space"]["search"]))
    for name, (_, chart) in charts.items():
        (out / FIGURES / f"{name}.svg").write_text(chart.to_svg())
        (out / FIGURES / f"{name}.png").write_bytes(encode(chart.to_picture(), "PNG"))
    objective = Objective(**sweep["space"]["objective"])
    best = next((row for row in rows if row.is_best), None)
    if best is not None:
        comment = (
            f"Best of {len(rows)} trials ({best.record.name}) by {objective.describe()} = {best.record.score:.5g} on "
            f"{dataset.manifest.name}, {best.record.images_seen:,} images seen."
        )
        if best.record.took_over_from:
            comment += (
                "\nIts options changed in training (population based), so that these are its last ones; it went on "
                f"from trials {', '.join(best.record.took_over_from)}."
            )
        write_preset(out / TRIALS / best.record.name, out / BEST, comment, list(sweep["space"]["search"]))
    page = _page(config, sweep, dataset, objective, rows, charts)
    (out / "report.html").write_text(_html(page))
    (out / "report.md").write_text(_markdown(page))
    content = {"created": page["created"], "facts": page["facts"], "trials": [_row_json(row) for row in rows]}
    (out / "report.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    print(f"wrote {out / 'report.html'}" + (f" and {out / BEST}" if best else ""))


def make_rows(
    config: SweepReportConfig, records: Sequence[TrialRecord], dataset: Dataset, accelerator: Accelerator
) -> list[Row]:
    """Evaluates every trial that has weights."""
    out = Path(config.sweep)
    measured: list[tuple[TrialRecord, dict[str, float], str]] = []
    for number, record in enumerate(records, 1):
        run, link = out / TRIALS / record.name, f"{REPORTS}/{record.name}/report.html"
        if not has_snapshot(run):
            measured.append((record, {}, ""))
            continue
        print(f"evaluating trial {number} of {len(records)}: {record.name}", flush=True)
        request = ReportConfig(
            runs=[str(run)],
            data=config.data,
            out=str(out / REPORTS / record.name),
            split=config.split,
            num_images=config.num_images,
            only=config.only,
            fid_weights=config.fid_weights,
        )
        measured.append((record, trial_report(request, dataset, accelerator), link))
    key = _first(_SAMPLES, [measures for _, measures, _ in measured])
    both = [n for n, (_, measures, _) in enumerate(measured) if "mse" in measures and key in measures]
    front = {both[n] for n in pareto_front([(measured[n][1]["mse"], measured[n][1][key or ""]) for n in both])}
    best = next((n for n, (record, _, _) in enumerate(measured) if record.score is not None and _counts(record)), None)
    return [Row(record, measures, link, n == best, n in front) for n, (record, measures, link) in enumerate(measured)]


def draw_charts(rows: Sequence[Row], searched: Sequence[str]) -> dict[str, tuple[str, Scatter]]:
    """The charts by name, each with its caption; one whose numbers are not there is left out.

    Args:
        rows: The trials.
        searched: Options that were searched.
    """
    charts: dict[str, tuple[str, Scatter]] = {}
    titles = {metric.key: _title(metric) for metric in catalog()}

    def add(name: str, caption: str, x: str, y: str, front: bool = False) -> None:
        found = [row for row in rows if _value(row, x) is not None and _value(row, y) is not None]
        if len(found) < 2:
            return
        across, up = (
            Axis(titles.get(key, key), [value for row in found if (value := _value(row, key)) is not None])
            for key in (x, y)
        )
        marks = [Mark(_label(row, searched), f"../{row.link}" if row.link else "", row.on_front) for row in found]
        line = sorted((n for n, row in enumerate(found) if row.on_front), key=lambda n: across.values[n])
        charts[name] = (caption, scatter(f"{up.title} over {across.title}", across, up, marks, line if front else ()))

    samples = _first(_SAMPLES, [row.measures for row in rows])
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
    """With its unit, and what it is a distance of."""
    of_samples = " of samples" if metric.key in _SAMPLES else ""
    return f"{metric.title}{of_samples}" + (f" [{metric.unit}]" if metric.unit else "")


def _value(row: Row, key: str) -> float | None:
    """A measure, or a searched option that is a number."""
    value = row.record.params.get(key, row.measures.get(key))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _label(row: Row, searched: Sequence[str]) -> str:
    """What sets a trial apart, short enough for a chart."""
    values = [row.record.params[name] for name in searched if name in row.record.params]
    if len(values) == 1 and isinstance(values[0], int | float | str):
        return f"{values[0]:.3g}" if isinstance(values[0], float) else str(values[0])
    return row.record.name.split("-")[0]


def _counts(record: TrialRecord) -> bool:
    return record.status != "failed"


def _first(keys: Sequence[str], found: Sequence[dict[str, float]]) -> str | None:
    return next((key for key in keys if any(key in measures for measures in found)), None)


def _page(
    config: SweepReportConfig,
    sweep: dict[str, Any],
    dataset: Dataset,
    objective: Objective,
    rows: Sequence[Row],
    charts: dict[str, tuple[str, Scatter]],
) -> dict[str, Any]:
    """What HTML and Markdown show."""
    by_key = {metric.key: metric for metric in catalog()}
    columns = [by_key[key] for key in _COLUMNS if any(key in row.measures for row in rows)]
    space = sweep["space"]
    num = min(config.num_images, dataset.num_samples(config.split))
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
        "evaluated on": f"{dataset.manifest.name}, fingerprint {dataset.fingerprint}, {split_title(config.split)}: "
        f"{num:,} images and as many samples",
    }
    warnings = []
    if num < 2048:
        warnings.append(
            f"Fréchet distances are over {num:,} images: they are biased upwards and compare only with each other."
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
        "preset": (Path(config.sweep) / BEST).read_text() if any(row.is_best for row in rows) else "",
        "family": space["family"],
    }


def _describe(axis: dict[str, Any]) -> str:
    (kind, values), *_ = axis.items()
    return f"{kind} {', '.join(map(str, values))}"


def _cell(row: Row, key: str, form: str) -> str:
    return format(row.measures[key], form) if key in row.measures else "n/a"


def _html(page: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("sweep.html.j2").render(page)


def _markdown(page: dict[str, Any]) -> str:
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
    for name, (caption, _) in page["charts"].items():
        lines += [f"{caption}", "", f"![{caption}]({FIGURES}/{name}.png)", ""]
    lines += [f"* {name}: {text}" for name, text in page["facts"].items()]
    if page["preset"]:
        lines += ["", f"Best configuration, `{BEST}`:", "", "```yaml", page["preset"].rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _row_json(row: Row) -> dict[str, Any]:
    return asdict(row.record) | {"measures": row.measures, "is_best": row.is_best, "on_front": row.on_front}


if __name__ == "__main__":
    cli.run(main)
