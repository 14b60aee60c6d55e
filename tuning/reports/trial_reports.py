"""The report of each trial by ``eval.report``, made once for each state of the trial."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from eval.base.runs import open_runs
from eval.reports.make import make_report
from eval.reports.options import ReportConfig
from eval.reports.output.render import prepare_out, write_report
from eval.reports.protocol import split_title
from eval.reports.results import read_report
from facegen.runs.snapshot import find_snapshot
from shards.base.errors import DamagedFile, UserError
from shards.base.files import write_json, writing_to
from shards.base.records import read_json
from shards.dataset.dataset import Dataset

REPORTS = "reports"
_REQUEST = "request.json"

Measures = dict[str, float]


def trial_report(config: ReportConfig, dataset: Dataset, accelerator: Accelerator) -> Measures:
    """Evaluates a run, or reads the numbers of an earlier call with the same request.

    Args:
        config: A request for one run.
        dataset: The data set that it names.
        accelerator: Processes and device.

    Returns:
        Every number of the report that has a value, by the keys of ``eval.reports.registry.metrics``.

    Raises:
        UserError: A run that cannot be evaluated, or a disk that refuses.
    """
    out, run = Path(config.out), config.runs[0]
    snapshot = find_snapshot(Path(run))
    request = asdict(config) | {"snapshot": snapshot.name, "dataset_fingerprint": dataset.fingerprint}
    file = out / _REQUEST
    if _earlier_request(file) != request:
        with writing_to(file):
            file.unlink(missing_ok=True)
        prepare_out(out)
        models = open_runs(config.runs, dataset, accelerator.device, config.weights)
        report, figures = make_report(config, dataset, models, accelerator)
        write_report(out, report, figures, split_title(config.split))
        with writing_to(file):
            write_json(file, request)  # Last: without it, an interrupted report is made again.
    measures = read_report(out / "report.json").runs[0].measures
    return {key: measure.value for key, measure in measures.items() if measure.value is not None}


def _earlier_request(file: Path) -> Any:
    try:
        return read_json(file, "") if file.is_file() else None
    except DamagedFile:
        return None


def has_snapshot(run: Path) -> bool:
    """Whether a run has weights to evaluate."""
    try:
        find_snapshot(run)
    except UserError:
        return False
    return True
