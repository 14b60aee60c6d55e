"""Makes a whole report: evaluates the runs one after the other, then shows them side by side."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator

from eval.features.space_names import NOT_CHOSEN, SPACES, frechet_name
from eval.reports.comparisons.beaten import beaten, nearer_than_real
from eval.reports.comparisons.published import published_table, read_published
from eval.reports.comparisons.seeds import groups_of_seeds, seed_table
from eval.reports.context import Protocol
from eval.reports.evaluate import evaluate_run
from eval.reports.options import ReportConfig
from eval.reports.part import Absent
from eval.reports.parts.distances import IMAGES, keys
from eval.reports.prepare import Evaluation, prepare
from eval.reports.protocol import protocol_lines, split_title
from eval.reports.registry import PARTS, metrics, parts_of_spaces
from eval.reports.results import Figure, Metric, Missing, Report
from eval.reports.run_context import AllRuns
from eval.reports.stages import Stages
from eval.reports.unfinished import UNFINISHED, FinishedRun, finished_file, load_finished, save_finished
from eval.stand_ins.stand_in import StandIn
from facegen.model import Model
from facegen.processes.consensus import main_decides, main_does
from shards.base.places import cache_directory
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset

NamedModels = Sequence[tuple[str, Model | StandIn]]
"""Models and stand-ins, each with its name in the report."""


def make_report(
    config: ReportConfig,
    dataset: Dataset,
    models: NamedModels,
    accelerator: Accelerator,
    baselines: Sequence[StandIn] = (),
) -> tuple[Report, dict[str, Figure]]:
    """Evaluates the models one after the other; every rank has to call it.

    Args:
        config: With the path of each model, in the same order.
        dataset: The one that ``config`` names.
        models: What ``config.runs`` names, loaded.
        accelerator: Ranks and device.
        baselines: What the models are compared with.

    Returns:
        The report, and its pictures by file name; complete on the main process only.

    Raises:
        UserError: On every rank, what one of them cannot read, or the main one cannot write.
    """
    stages = Stages(quiet=not accelerator.is_main_process)
    protocol = protocol_of(config, dataset)
    published = main_decides(lambda: read_published(config.published) if config.published else [])
    for _, model in models:
        if isinstance(model, StandIn):
            model.require(protocol.num_samples)
    is_trained_on = any(
        "sample" in model.can and model.dataset_fingerprint == dataset.fingerprint
        for _, model in models
        if isinstance(model, Model)
    )
    evaluation = prepare(protocol, config.parts, config.spaces, config.fid_weights, accelerator, stages, is_trained_on)
    report = Report(
        title=f"{', '.join(label for label, _ in models)}: {split_title(config.split)}",
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        protocol=protocol_lines(evaluation.report, accelerator) | _protocol_of_parts(evaluation),
        metrics=_rows(config),
        runs=[],
        skipped=[part for part in parts_of_spaces(config.spaces) if part not in config.parts],
    )
    finished = []
    columns = [*models, *((baseline.name, baseline) for baseline in baselines)]
    paths = [*config.runs, *(baseline.family for baseline in baselines)]
    with ProgressLine("report", len(columns), "runs", quiet=not accelerator.is_main_process) as progress:
        for (label, model), path in zip(columns, paths, strict=True):
            finished.append(_finish_run(config, report.protocol, evaluation, label, model, path))
            progress.update()
    results = [run.result for run in finished]
    report.runs, report.baselines = results[: len(models)], results[len(models) :]
    report.warnings = _warnings(evaluation, report, _num_latents(columns))
    figures = {file: figure for run in finished for file, figure in run.figures.items()}
    figures |= main_does(lambda: _compare(report, evaluation, columns, finished)) or {}
    if accelerator.is_main_process:
        named = {run.name: run for run in report.runs}
        report.tables += [seed_table(report.metrics, named, group) for group in groups_of_seeds(models)]
        report.tables += [published_table(published)] if published else []
    report.stages = stages.done
    return report, figures


def protocol_of(config: ReportConfig, dataset: Dataset) -> Protocol:
    """What a report measures on."""
    available = dataset.num_samples(config.split)
    num_images = min(config.num_images or available, available)
    return Protocol(
        dataset,
        config.split,
        num_images,
        config.num_samples or num_images,
        config.batch_size,
        config.seed,
        config.num_train,
        config.reference,
    )


def _protocol_of_parts(evaluation: Evaluation) -> dict[str, str]:
    return {part.name: part.protocol() for part in evaluation.parts if part.protocol is not None}


def _finish_run(
    config: ReportConfig, lines: dict[str, str], evaluation: Evaluation, label: str, model: Model | StandIn, path: str
) -> FinishedRun:
    """Evaluates a run, or reuses the result of an interrupted report with the same options and protocol.

    Baselines are reused by every later report with the same options and protocol. Every rank has to call it; what it
    returns is complete on the main process only.
    """
    accelerator, stages = evaluation.accelerator, evaluation.stages
    is_baseline = isinstance(model, StandIn) and model.is_baseline
    others = ("runs", "out", "published", *(("baselines", "eigenfaces", "weights") if is_baseline else ()))
    options = {name: value for name, value in asdict(config).items() if name not in others}
    folder = cache_directory() / "baselines" if is_baseline else Path(config.out) / UNFINISHED
    settings = {"options": options, "protocol": lines, "rows": [metric.key for metric in metrics()]}
    file = finished_file(folder, settings, label, model, path)
    # Ranks that see different files must not diverge.
    run = main_decides(lambda: load_finished(file))
    if run is None:
        made = evaluate_run(evaluation, label, model, path)
        own_stages = [stage for stage in stages.done if stage.run == label]
        run = FinishedRun(made.result, made.figures, made.kept, own_stages)
        finished = run
        main_does(lambda: save_finished(file, finished))
        return run
    stages.done += run.stages
    if accelerator.is_main_process and not is_baseline:
        print(f"{label}: reused from the interrupted report")
    return run


def _compare(
    report: Report, evaluation: Evaluation, models: NamedModels, finished: Sequence[FinishedRun]
) -> dict[str, Figure]:
    """Adds what shows all runs side by side to the report; returns its pictures by file name."""
    figures: dict[str, Figure] = {}
    for part in evaluation.parts:
        if part.compare is None:
            continue
        kept = {run.result.name: run.kept[part.name] for run in finished if part.name in run.kept}
        shown = [named for named in models if part.of_stand_ins or isinstance(named[1], Model)]
        with evaluation.stages.stage(f"picture: {part.compare.title}"):
            shared = part.compare.make(AllRuns(evaluation.report, shown, kept))
        if isinstance(shared, Absent):
            report.missing.append(Missing(part.compare.title, shared.reason))
            continue
        report.pictures += [picture for picture, _ in shared.pictures]
        report.tables += shared.tables
        figures |= {picture.file: figure for picture, figure in shared.pictures}
    return figures


def _rows(config: ReportConfig) -> list[Metric]:
    """All rows but those of feature spaces that were not chosen; distances from another reference are called so."""
    others = [space for space in SPACES[1:] if space.name not in config.spaces]
    left_out = {key for space in others for images in IMAGES for key in keys(space, images)}
    left_out |= {key for part in PARTS.values() if part.space not in (None, *config.spaces) for key in part.keys}
    rows = [metric for metric in metrics() if metric.key not in left_out]
    if config.reference is None:
        return rows
    measured = {key for space in SPACES for images in IMAGES for key in keys(space, images)}
    measured |= {f"diversity_{images}" for images in IMAGES}
    against = f", against {config.reference}"
    return [replace(row, title=row.title + against) if row.key in measured else row for row in rows]


def _num_latents(columns: NamedModels) -> dict[str, int]:
    """By name, of what has latents."""
    sizes = {label: getattr(model, "latent_size", None) for label, model in columns}
    return {label: size for label, size in sizes.items() if size}


def _warnings(evaluation: Evaluation, report: Report, num_latents: dict[str, int]) -> list[str]:
    """What has to be known before any number is read."""
    context = evaluation.report
    absent = {space: reason for space, reason in context.absent_spaces.items() if reason != NOT_CHOSEN}
    warnings = [f"{frechet_name(space)} was {reason}" for space, reason in absent.items()]
    if context.protocol.split == "train":
        warnings.append("These are numbers on images that the models were trained on, not on held-out ones.")
    of_parts = [warning for part in evaluation.parts if part.warn for warning in part.warn(context)]
    warnings += dict.fromkeys(of_parts)
    if evaluation.accelerator.is_main_process:
        warnings += beaten(report, num_latents)
        warnings += nearer_than_real(report) if context.protocol.refers_to_training else []
    warnings += [run.difference for run in report.runs if run.difference]
    return warnings + [f"{run.name}: {warning}" for run in report.runs for warning in run.warnings]
