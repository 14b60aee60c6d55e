"""Evaluates one run: all its numbers, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from eval.base.run_warnings import run_warnings
from eval.base.runs import file_name
from eval.latent.photo_framing import other_framing
from eval.reports.context import Protocol
from eval.reports.part import Absent, Drawing, Features, Part, RunPicture, RunTable
from eval.reports.prepare import Evaluation, features_of
from eval.reports.registry import PARTS, SKIPPED
from eval.reports.results import Figure, Measure, Missing, Picture, RunResult
from eval.reports.run_context import RunContext
from eval.reports.run_pass import run_others, run_samples, run_split
from eval.reports.statistic import Results
from eval.stand_ins.stand_in import StandIn
from facegen.model import Model
from facegen.processes.consensus import main_does
from facegen.runs.metrics_file import read_metrics
from shards.base.errors import UserError

_NOT_FINITE = "the model's numbers are not finite"


class _NotFiniteError(UserError):
    """A number or picture that a diverged model cannot have."""


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation of a run gives; complete on the main process only."""

    result: RunResult
    figures: dict[str, Figure]
    """Its pictures, by file name."""
    kept: dict[str, Any]
    """What parts keep for the comparison of all runs, by the part's name."""


def evaluate_run(evaluation: Evaluation, label: str, model: Model | StandIn, path: str) -> Evaluated:
    """Evaluates one model or stand-in; every rank has to call it.

    Only the main one measures what the passes do not, and draws; the others wait.

    Args:
        evaluation: What all runs share.
        label: What the report calls the run.
        model: As ``facegen.model.load`` returns it, or a stand-in.
        path: As the command names the run.

    Raises:
        UserError: On every rank, a damaged data set or files that cannot be read on one of them.
    """
    report, stages = evaluation.report, evaluation.stages
    parts = [part for part in evaluation.parts if part.of_stand_ins or not isinstance(model, StandIn)]
    statistics = [statistic for part in parts for statistic in part.statistics]
    needs = features_of(parts) or Features()
    with stages.stage("split through encoder and decoder", label):
        accumulators = run_split(model, report, statistics, evaluation.accelerator)
    with stages.stage("features of samples", label):
        samples = run_samples(model, report, needs.samples, evaluation.accelerator)
    others = None
    if needs.others:
        with stages.stage("features of reconstructed training faces", label):
            others = run_others(model, report, evaluation.accelerator)
    result = _start_result(label, model, path, report.protocol)
    run = RunContext(report, label, model, result, Results(accumulators), samples, others)
    return main_does(lambda: _shown(evaluation, parts, run)) or Evaluated(result, {}, {})


def _shown(evaluation: Evaluation, parts: Sequence[Part], run: RunContext) -> Evaluated:
    """The run's numbers, tables and pictures, from what the passes have accumulated."""
    label, result, stages = run.label, run.result, evaluation.stages
    run = replace(run, is_finite=_is_finite(run))
    for part in PARTS.values():
        if part.name not in evaluation.chosen:
            result.measures |= part.missing(SKIPPED)
        elif part not in parts:
            result.measures |= part.missing("only of trained models")
        elif part.measure is not None:
            with stages.stage(part.name, label):
                result.measures |= measured(part, run)
    figures: dict[str, Figure] = {}
    for part in parts:
        for picture in part.pictures:
            with stages.stage(f"picture: {picture.title}", label):
                figures |= _add_picture(part, picture, run)
        for table in part.tables:
            with stages.stage(part.name, label):
                figures |= _add_table(part, table, run)
    _without_what_is_not_finite(result)
    return Evaluated(result, figures, run.kept)


def _start_result(label: str, model: Model | StandIn, path: str, protocol: Protocol) -> RunResult:
    """What is known of a run before anything is measured."""
    return RunResult(
        name=label,
        path=path,
        family=model.family,
        weights="EMA" if model.weights == "ema" else model.weights,
        step=model.step,
        images_seen=model.images_seen,
        dataset_fingerprint=model.dataset_fingerprint,
        difference=_difference(label, model, protocol),
        warnings=[
            *run_warnings(read_metrics(model.run_dir), model.images_seen),
            *([model.prior_note] if model.prior_note else []),
        ],
        condition=_condition(model, protocol),
    )


def measured(part: Part, run: RunContext) -> Mapping[str, Measure]:
    """A number or a reason for each row of a part."""
    assert part.measure is not None
    lacking = _lacking(part.needs, run)
    if lacking:
        return part.missing(f"{run.family} {part.lacking or lacking}")
    try:
        with _excusing(run):
            found = part.measure(run)
    except _NotFiniteError:
        return part.missing(_NOT_FINITE)
    return {key: found.get(key, Measure(reason="the part measures no such number")) for key in part.keys}


def _add_picture(part: Part, picture: RunPicture, run: RunContext) -> dict[str, Figure]:
    """Adds a picture, or why there is none, to the run's result; returns the picture by its file's name."""
    drawn = draw(part, picture, run)
    if isinstance(drawn, Absent):
        run.result.missing.append(Missing(picture.title, drawn.reason))
        return {}
    return _add_drawing(part, picture.file, picture.title, drawn, run)


def draw(part: Part, picture: RunPicture, run: RunContext) -> Drawing | Absent:
    """Makes a picture, or says why the model cannot have it."""
    if picture.is_conditional and run.model.condition is None:
        return Absent(f"{run.family} generates by no label")
    lacking = _lacking((*part.needs, *picture.needs), run)
    if lacking:
        return Absent(f"{run.family} {lacking}")
    try:
        with _excusing(run):
            return picture.make(run)
    except UserError as error:
        return Absent(str(error).rstrip("."))


def _add_table(part: Part, table: RunTable, run: RunContext) -> dict[str, Figure]:
    """Adds a table and its chart, or why there is none, to the run's result; returns the chart by its file's name."""
    lacking = _lacking(part.needs, run)
    try:
        with _excusing(run):
            made = Absent(f"{run.family} {lacking}") if lacking else table.make(run)
    except UserError as error:
        made = Absent(str(error).rstrip("."))
    if isinstance(made, Absent):
        run.result.missing.append(Missing(table.title, made.reason))
        return {}
    text, drawn = made
    run.result.tables.append(text)
    return {} if drawn is None else _add_drawing(part, table.chart_file, table.chart_title, drawn, run)


def _add_drawing(part: Part, file: str, title: str, drawn: Drawing, run: RunContext) -> dict[str, Figure]:
    name = f"{file_name(run.label)}-{file}"
    run.result.pictures.append(Picture(name, title, drawn.caption, part.group))
    return {name: drawn.figure}


@contextmanager
def _excusing(run: RunContext) -> Iterator[None]:
    """Turns what libraries raise when they are given infinity or NaN into ``_NotFiniteError``."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        if run.is_finite:
            raise
        raise _NotFiniteError(_NOT_FINITE) from None


def _is_finite(run: RunContext) -> bool:
    """Whether a model's latents and images are numbers, judged by one face and one sample."""
    model, outputs = run.model, []
    if {"encode", "decode"} <= model.can:
        latents = model.encode(run.faces(1).images)
        outputs += [latents, model.decode(torch.from_numpy(latents))]
    if "sample" in model.can:
        outputs.append(model.sample(1))
    return all(bool(torch.as_tensor(output).isfinite().all()) for output in outputs)


def _without_what_is_not_finite(result: RunResult) -> None:
    """Replaces infinities and NaN, which JSON lacks, by a reason: a diverged model must not end the whole report."""
    for key, measure in result.measures.items():
        if not all(math.isfinite(value) for value in (measure.value, measure.spread) if value is not None):
            result.measures[key] = Measure(reason=_NOT_FINITE, note=measure.note)
    for column, values in list(result.latent.items()):
        if not all(map(math.isfinite, values)):
            del result.latent[column]
            result.missing.append(Missing(f"{column} of the latent dims", _NOT_FINITE))


def _lacking(needs: tuple[str, ...], run: RunContext) -> str:
    """What a model does not do of what is needed, in words; empty where it does all of it."""
    lacking = [ability for ability in needs if ability not in run.model.can]
    return f"does not {' and '.join(lacking)}" if lacking else ""


def _difference(label: str, model: Model | StandIn, protocol: Protocol) -> str:
    ours = protocol.dataset.fingerprint
    if isinstance(model, StandIn) or model.dataset_fingerprint in (ours, protocol.dataset.mix):
        return ""
    difference = (
        f"{label} was trained on data with fingerprint {model.dataset_fingerprint} and is evaluated on {ours}: "
        "its training images may be among these, so its numbers are shown but not ranked."
    )
    return f"{difference} {other_framing(model, protocol.dataset)}".strip()


def _condition(model: Model | StandIn, protocol: Protocol) -> str:
    """What a conditional model generates by, and which of it the evaluation gives it."""
    if model.condition is None or model.condition_range is None:
        return ""
    low, high = model.condition_range
    field = protocol.dataset.fields.get(model.condition)
    text = f"degree of the label {model.condition}, in training from {low:+.3g} to {high:+.3g}; "
    if field is None:
        return f"{text}this data set has no such label, so encoder, decoder and samples are given an unknown degree"
    kind = "a bool label, so no is −1 and yes is +1" if field.kind == "bool" else "degrees as labeled"
    return (
        f"{text}here {kind}; encoder and decoder are given each image's own, samples those of the same images in turn"
    )
