"""Evaluates trained runs on one split: ``python -m eval.report RUN [RUN ...] --data DIR --split test --out REPORT``.

Also ``accelerate launch -m eval.report ...`` on several processes, with the same numbers; and ``eval.report(...)`` from
Python.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.reports.options import ReportConfig
from shards.command_line import cli
from shards.command_line.typos import refuse_typos

if __name__ == "__main__":
    refuse_typos(ReportConfig, sys.argv[1:])

from accelerate import Accelerator, InitProcessGroupKwargs

from eval.base.runs import distinct_names
from eval.reports.inputs import open_evaluated, open_models
from eval.reports.make import make_report, protocol_of
from eval.reports.output.render import prepare_out, write_report
from eval.reports.output.table import build_table, terminal
from eval.reports.protocol import split_title
from eval.reports.registry import PARTS, describe_parts
from eval.reports.results import Report
from eval.stand_ins.baselines import DEFAULT_COMPONENTS, MAX_COMPONENTS, make_baselines
from eval.stand_ins.stand_in import StandIn
from facegen.model import Model
from facegen.processes.consensus import main_does
from facegen.processes.group import let_first_speak, make_accelerator, run_process, tell_of_lost
from shards.base.errors import UserError
from shards.command_line.keywords import from_keywords
from shards.dataset.dataset import Dataset

PARTS_FOLDER = "parts"
"""Folder of a report on a mix of data sets, with a report on each of them."""
_WAIT = datetime.timedelta(hours=2)
"""How long ranks wait for each other: the main one measures cost and draws pictures alone."""

StrPath = str | os.PathLike[str]


def report(runs: StrPath | Sequence[StrPath], data: StrPath, out: StrPath, **options: Any) -> Report:
    """Evaluates runs and writes a report, as ``python -m eval.report`` does, without printing it.

    Args:
        runs: One or more run or snapshot directories, or images of other programs, as on the command line.
        data: Packed data set to evaluate on.
        out: Directory of report.html, report.md, report.json and figures/.
        options: The other options of the command line, such as ``split="val"`` or ``only=["reconstruction"]``; see
            ``eval.reports.options.ReportConfig``.

    Returns:
        What report.json holds; complete on the main process only, where several run.

    Raises:
        UserError: No snapshot, no such data set or split, an unknown option or an impossible value, or a place where
            nothing can be written.
    """
    paths = [runs] if isinstance(runs, str | os.PathLike) else runs
    named = {"runs": [os.fspath(path) for path in paths], "data": data, "out": out}
    config = from_keywords(ReportConfig, named | options)
    made, accelerator = _report(config)
    accelerator.end_training()
    return made


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        ReportConfig,
        prog="python -m eval.report",
        description="Evaluates trained runs on one split and writes report.html, report.md, report.json and figures/. "
        f"Parts, for --only and --skip: {describe_parts()}.",
        positional=["runs"],
        args=args,
    )
    try:
        made, accelerator = _report(config)
    except UserError:
        let_first_speak()
        raise
    except RuntimeError as error:
        tell_of_lost(error, "rerun the command, which resumes behind the finished runs")
        raise SystemExit(1) from None
    if accelerator.is_main_process:
        print(f"\n{made.title}\n\n{terminal(build_table(made))}")
        for warning in made.warnings:
            print(f"note: {warning}")
        print(f"wrote {Path(config.out) / 'report.html'}")
    accelerator.end_training()


def _report(config: ReportConfig) -> tuple[Report, Accelerator]:
    """Makes the report, and writes it on the main process; what it cannot do raises a ``UserError`` on all."""
    accelerator = make_accelerator(config.device == "cpu", [InitProcessGroupKwargs(timeout=_WAIT)])
    dataset = open_evaluated(config)
    made = _report_on(config, dataset, accelerator)
    if len(dataset.parts) > 1:
        for number, part in enumerate(dataset.parts, 1):
            out = os.path.join(config.out, PARTS_FOLDER, str(number))
            _report_on(replace(config, data=part.address, out=out), part, accelerator)
    return made, accelerator


def _report_on(config: ReportConfig, dataset: Dataset, accelerator: Accelerator) -> Report:
    models = open_models(config, dataset, accelerator.device)
    out = Path(config.out)
    main_does(lambda: prepare_out(out))
    named = list(zip(distinct_names(models), models, strict=True))
    made, figures = make_report(config, dataset, named, accelerator, _baselines(config, dataset, models, accelerator))
    if len(dataset.parts) > 1:
        places = [f"{part.manifest.name} in {PARTS_FOLDER}/{number}" for number, part in enumerate(dataset.parts, 1)]
        made.warnings.append(f"Reports on each part of the data alone: {', '.join(places)}.")
    main_does(lambda: write_report(out, made, figures, split_title(config.split)))
    return made


def _baselines(
    config: ReportConfig, dataset: Dataset, models: Sequence[Model | StandIn], accelerator: Accelerator
) -> list[StandIn]:
    """What the runs are compared with; none where no chosen part looks at it."""
    if not any(part.of_stand_ins for name, part in PARTS.items() if name in config.parts):
        return []
    sizes = {model.latent_size for model in models if isinstance(model, Model) and model.latent_size}
    nums = config.eigenfaces or [num for num in sizes if num <= MAX_COMPONENTS] or [DEFAULT_COMPONENTS]
    return make_baselines(config.baselines, nums, dataset, protocol_of(config, dataset).real_split, accelerator)


if __name__ == "__main__":
    run_process(lambda: cli.run(main))
