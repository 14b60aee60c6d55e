"""Evaluates one run: all its numbers, tables and pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from accelerate import Accelerator

from eval.drawing import charts
from eval.features.feature_set import FeatureSets
from eval.features.spaces import FeatureSpace
from eval.metrics.cost import measure_cost
from eval.metrics.latent_usage import LatentUsage
from eval.reports.bias_part import TITLE as BIAS_TITLE
from eval.reports.bias_part import bias
from eval.reports.measures import (
    Measures,
    cost_measures,
    disentanglement_measures,
    distance_measures,
    latent_measures,
    likelihood_measures,
    reconstruction_measures,
    skipped_measures,
)
from eval.reports.parts import group_of
from eval.reports.pictures.base import Absent, Context, Drawing, Figure, draw
from eval.reports.pictures.makers import RUN_PICTURES
from eval.reports.results import Missing, Picture, RunResult
from eval.reports.run_pass import Protocol, SplitStatistics, run_samples, run_split
from eval.reports.run_warnings import run_warnings
from eval.reports.stages import Stages
from eval.reports.verification_part import Verification
from facegen.model import Model

_MAX_DISENTANGLEMENT = 5000
"""Images whose latents tell how disentangled they are: boosted trees of more take long."""


@dataclass(frozen=True)
class Evaluation:
    """What the evaluations of all runs share."""

    protocol: Protocol
    parts: frozenset[str]
    spaces: Sequence[FeatureSpace]
    absent_spaces: Mapping[str, str]
    """Why a feature space is not there, by its name."""
    reference: FeatureSets | None
    """Features of the split; None where no part needs them."""
    train: FeatureSets | None
    """Features of the first training images."""
    verification: Verification | None
    accelerator: Accelerator
    stages: Stages


def evaluate_run(evaluation: Evaluation, label: str, model: Model, path: str) -> tuple[RunResult, dict[str, Figure]]:
    """Evaluates one model; every rank has to call it, and only the main one measures the rest and draws.

    Returns:
        The result, and the pictures by file name; complete on the main process only.
    """
    protocol, parts, stages = evaluation.protocol, evaluation.parts, evaluation.stages
    with stages.stage("split through encoder and decoder", label):
        split = run_split(model, protocol, evaluation.spaces, evaluation.accelerator, parts)
    with stages.stage("features of samples", label):
        samples = run_samples(model, protocol, evaluation.spaces, evaluation.accelerator, parts)
    result = RunResult(
        name=label,
        path=path,
        family=model.family,
        weights="EMA" if model.weights == "ema" else model.weights,
        step=model.step,
        images_seen=model.images_seen,
        dataset_fingerprint=model.dataset_fingerprint,
        difference=_difference(label, model, protocol),
        warnings=run_warnings(charts.read_metrics(model.run_dir), model.images_seen),
        condition=_condition(model, protocol),
    )
    if not evaluation.accelerator.is_main_process:
        return result, {}
    usage = split.latent.usage() if split else None
    result.measures = _measures(evaluation, label, model, split, usage, samples)
    if usage is not None and "latent" in parts:
        result.latent = _per_dim(usage)
    context = Context(
        protocol,
        usage,
        split.latents.ordered() if split else None,
        samples,
        evaluation.reference,
        evaluation.train,
    )
    figures: dict[str, Figure] = {}
    prefix = re.sub(r"[^\w.-]+", "_", label)

    def add(part: str, file: str, title: str, drawn: Drawing | Absent) -> None:
        if isinstance(drawn, Absent):
            result.missing.append(Missing(title, drawn.reason))
            return
        result.pictures.append(Picture(f"{prefix}-{file}", title, drawn.caption, group_of(part)))
        figures[f"{prefix}-{file}"] = drawn.figure

    for maker in RUN_PICTURES:
        if maker.part in parts:
            with stages.stage(f"picture: {maker.title}", label):
                add(maker.part, maker.file, maker.title, draw(maker, model, context))
    if "bias" in parts:
        with stages.stage("bias", label):
            found = bias(model, protocol, evaluation.spaces[0])
        if isinstance(found, Absent):
            add("bias", "", BIAS_TITLE, found)
        else:
            table, drawn = found
            result.tables.append(table)
            if drawn is not None:
                add("bias", "bias.svg", "Gender and smile over the degree", drawn)
    return result, figures


def _measures(
    evaluation: Evaluation,
    label: str,
    model: Model,
    split: SplitStatistics | None,
    usage: LatentUsage | None,
    samples: FeatureSets | None,
) -> Measures:
    """The numbers of all parts; those of skipped ones say so."""
    protocol, accelerator = evaluation.protocol, evaluation.accelerator

    def distances(images: str, features: FeatureSets | None) -> Measures:
        assert evaluation.reference is not None
        return distance_measures(images, features, evaluation.reference, evaluation.absent_spaces, model.family)

    def disentanglement() -> Measures:
        latents = split.latents.ordered()[:_MAX_DISENTANGLEMENT] if split else None
        return disentanglement_measures(latents, protocol.dataset, protocol.split, model.family)

    def verification() -> Measures:
        assert evaluation.verification is not None
        return evaluation.verification.measure(label, model)

    def cost() -> Measures:
        return cost_measures(measure_cost(model, accelerator.device, protocol.batch_size), model.family)

    makers: dict[str, Callable[[], Measures]] = {
        "reconstruction": lambda: reconstruction_measures(split.reconstruction if split else None, model.family),
        "distances:samples": lambda: distances("samples", samples),
        "distances:reconstructions": lambda: distances("reconstructions", split.features if split else None),
        "likelihood": lambda: likelihood_measures(split.elbo if split else None, usage, model),
        "latent": lambda: latent_measures(usage, model.family),
        "disentanglement": disentanglement,
        "verification": verification,
        "cost": cost,
    }
    measures = skipped_measures(evaluation.parts)
    for part, make in makers.items():
        if part in evaluation.parts:
            with evaluation.stages.stage(part, label):
                measures |= make()
    return measures


def _difference(label: str, model: Model, protocol: Protocol) -> str:
    ours = protocol.dataset.fingerprint
    if model.dataset_fingerprint == ours:
        return ""
    return (
        f"{label} was trained on data with fingerprint {model.dataset_fingerprint} and is evaluated on {ours}: "
        "its training images may be among these, so its numbers are shown but not ranked."
    )


def _condition(model: Model, protocol: Protocol) -> str:
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


def _per_dim(usage: LatentUsage) -> dict[str, list[float]]:
    columns = {"mean": usage.mean, "variance": usage.variance, "ks": usage.ks}
    if usage.kl is not None:
        columns["kl"] = usage.kl
    return {name: values.tolist() for name, values in columns.items()}
