"""Searches training options: ``python -m tuning.sweep SPACE --data DIR --out DIR``, or ``tuning.sweep`` in Python.

The same call resumes a sweep that was interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Ray reads these when it is imported: no tables and files of its own, and a state on disk that is always current.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

from shards.command_line import cli
from shards.command_line.typos import refuse_typos
from tuning.extra import require_packages
from tuning.sweep_config import SweepConfig

if __name__ == "__main__":
    refuse_typos(SweepConfig, sys.argv[1:])
    cli.run(require_packages)
else:
    require_packages()

from facegen.processes.group import make_accelerator
from shards.command_line.keywords import from_keywords
from shards.execution.ray_connection import connected
from tuning.driver.cluster import Need, max_concurrent
from tuning.driver.sweep_folder import claim, driving, make_plan
from tuning.driver.tuner import run_trials
from tuning.ledger import TrialRecord, ranked, table


def sweep(space: str | Path, data: str | Path, out: str | Path, **options: Any) -> list[TrialRecord]:
    """Trains the trials of a space with Ray Tune, compares them, and writes the report.

    A sweep in ``out`` that was interrupted is resumed. Inside ``ray.init`` it runs on that Ray.

    Args:
        space: Space file, or the name of a space that ships with the project.
        data: Packed data set; trials train on its train split and are compared on its val split.
        out: Folder of the sweep.
        options: The other fields of ``SweepConfig``, such as ``num_samples=8`` or ``report=False``.

    Returns:
        The trials, best first. Those that an interrupt (Ctrl-C) left are ``waiting`` or ``running``.

    Raises:
        UserError: An option that does not exist, an impossible value, a space, options, data or machines that do not go
            together, or ``out`` holds something else.
    """
    return _run(from_keywords(SweepConfig, {"space": space, "data": data, "out": out} | options))


def main() -> None:
    """The command."""
    config = cli.parse(
        SweepConfig,
        prog="python -m tuning.sweep",
        description="Trains many configurations with Ray Tune and compares them on held-out faces.",
        positional=["space"],
    )
    records = _run(config)
    if not _is_over(records):
        print("interrupted; rerun the same command to resume")
        sys.exit(130)
    if all(record.status == "failed" for record in records):
        sys.exit(1)


def _run(config: SweepConfig) -> list[TrialRecord]:
    plan = make_plan(config)
    with driving(plan):
        is_new = claim(plan)
        with connected(config.address, config.num_cpus):
            limit = max_concurrent(Need.of(config))
            records = run_trials(config, plan, is_new, limit)
        print(f"\n{table(records)}\n", flush=True)
        if config.report and _is_over(records) and any(record.values for record in records):
            from tuning.report import SweepReportConfig, write_sweep_report

            request = SweepReportConfig(config.out, config.data, num_images=config.num_report_images)
            write_sweep_report(request, make_accelerator())
    return ranked(records)


def _is_over(records: list[TrialRecord]) -> bool:
    return not any(record.status in ("waiting", "running") for record in records)


if __name__ == "__main__":
    cli.run(main)
