"""Compares the trials of a sweep: ``python -m tuning.report OUT --data DIR``.

Writes report.html, report.md, report.json, figures/, a report of each trial below reports/, and best.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.command_line import cli
from tuning.extra import require_packages

if __name__ == "__main__":
    cli.run(require_packages)

from accelerate import Accelerator

from eval.drawing.svg_picture import svg_picture
from eval.reports.options import ReportConfig
from eval.reports.output.embedded import encode
from eval.reports.registry import choose_parts
from facegen.processes.group import make_accelerator
from shards.base.files import output_folder, write_bytes, write_json, writing_to
from shards.base.formats import Format
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.loading.reader import check_split
from tuning.ledger import TrialRecord, ranked, read_ledger
from tuning.reports.pareto import pareto_front
from tuning.reports.preset import write_preset
from tuning.reports.sweep_page import (
    BEST,
    FIGURES,
    SAMPLES,
    TrialRow,
    draw_charts,
    first_key,
    html,
    make_page,
    markdown,
)
from tuning.reports.trial_reports import REPORTS, has_snapshot, trial_report
from tuning.search.objective import Objective
from tuning.trials.sweep_file import read_sweep
from tuning.trials.sweep_plan import TRIALS

FORMAT = Format("report of a sweep", version=1, first=1)
"""Of ``report.json``."""
_PARTS = ["reconstruction", "distances:samples", "likelihood", "latent", "curves", "heatmap", "samples", "sweeps"]


@dataclass
class SweepReportConfig:
    """Options of a sweep's report."""

    sweep: str
    """The sweep's folder."""
    data: str
    """Packed data set to evaluate on."""
    split: str = "test"
    """Split to evaluate on; the sweep compared its trials on val."""
    num_images: int = 1_000
    """Images of the split (the first ones), and as many samples."""
    only: list[str] = field(default_factory=lambda: list(_PARTS))
    """Parts of each trial's report, as for eval.report."""
    fid_weights: str = "none"
    """File of Inception weights for FID, or auto, as for eval.report; none leaves FID out."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.num_images < 2:
            raise ValueError(f"num_images must be at least 2, not {self.num_images}.")
        choose_parts(self.only, [])


def main() -> None:
    """The command."""
    config = cli.parse(
        SweepReportConfig,
        prog="python -m tuning.report",
        description="Compares the trials of a sweep: table, best configuration, and what reconstruction costs.",
        positional=["sweep"],
    )
    write_sweep_report(config, make_accelerator())


def write_sweep_report(config: SweepReportConfig, accelerator: Accelerator) -> None:
    """Evaluates the trials that have not been evaluated yet, and writes the report.

    Raises:
        UserError: No sweep, or data that its trials cannot be evaluated on.
    """
    out = Path(config.sweep)
    records = read_ledger(out)
    sweep = read_sweep(out)
    dataset = open_dataset(config.data)
    check_split(dataset, config.split)
    output_folder(out / FIGURES)
    rows = make_rows(config, ranked(records), dataset, accelerator)
    charts = draw_charts(rows, list(sweep["space"]["search"]))
    with writing_to(f"to {out}"):
        for name, chart in charts.items():
            write_bytes(out / FIGURES / f"{name}.svg", chart.svg.encode())
            write_bytes(out / FIGURES / f"{name}.png", encode(svg_picture(chart.svg), "PNG"))
    objective = Objective(**sweep["space"]["objective"])
    best = next((row for row in rows if row.is_best), None)
    if best is not None:
        comment = (
            f"Best of {len(rows)} trials ({best.record.name}) by {objective.describe()} = {best.record.score:.5g} on "
            f"{dataset.manifest.name}, {best.record.images_seen:,} images seen."
        )
        if best.record.took_over_from:
            comment += (
                "\nIts options changed in training (population based): these are the last ones. "
                f"It continued from trials {', '.join(best.record.took_over_from)}."
            )
        write_preset(out / TRIALS / best.record.name, out / BEST, comment, list(sweep["space"]["search"]))
    preset = (out / BEST).read_text("utf-8") if best else ""
    num_images = min(config.num_images, dataset.num_samples(config.split))
    page = make_page(sweep, dataset, config.split, num_images, objective, rows, charts, preset)
    content = FORMAT.stamp(
        {"created": page["created"], "facts": page["facts"], "trials": [_row_json(row) for row in rows]}
    )
    with writing_to(f"to {out}"):
        write_bytes(out / "report.html", html(page).encode())
        write_bytes(out / "report.md", markdown(page).encode())
        write_json(out / "report.json", content, indent=1)
    print(f"wrote {out / 'report.html'}" + (f" and {out / BEST}" if best else ""))


def make_rows(
    config: SweepReportConfig, records: Sequence[TrialRecord], dataset: Dataset, accelerator: Accelerator
) -> list[TrialRow]:
    """A row for each trial; those that have weights are evaluated."""
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
    key = first_key(SAMPLES, [measures for _, measures, _ in measured])
    both = [n for n, (_, measures, _) in enumerate(measured) if "mse" in measures and key in measures]
    front = {both[n] for n in pareto_front([(measured[n][1]["mse"], measured[n][1][key or ""]) for n in both])}
    good = (n for n, (record, _, _) in enumerate(measured) if record.score is not None and record.status != "failed")
    best = next(good, None)
    return [TrialRow(*trial, is_best=n == best, on_front=n in front) for n, trial in enumerate(measured)]


def _row_json(row: TrialRow) -> dict[str, Any]:
    return asdict(row.record) | {"measures": row.measures, "is_best": row.is_best, "on_front": row.on_front}


if __name__ == "__main__":
    cli.run(main)
