"""Evaluates one run: all its numbers and pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accelerate import Accelerator
from PIL import Image

from eval import charts, pictures
from eval.conditions import condition_note, sample_labels
from eval.feature_set import FeatureSets
from eval.features import FeatureSpace
from eval.measures import (
    cost_measures,
    disentanglement_measures,
    distance_measures,
    latent_measures,
    likelihood_measures,
    reconstruction_measures,
)
from eval.metrics.cost import measure_cost
from eval.metrics.latent_usage import LatentUsage
from eval.pictures import Faces
from eval.render import Figure
from eval.results import Picture, RunResult
from eval.run_pass import Protocol, run_samples, run_split
from eval.run_warnings import run_warnings
from facegen.model import Model


@dataclass(frozen=True)
class Evaluation:
    """What the evaluations of all runs share."""

    protocol: Protocol
    spaces: Sequence[FeatureSpace]
    absent_spaces: Mapping[str, str]
    """Why a feature space is not there, by its name."""
    reference: FeatureSets
    faces: Faces
    accelerator: Accelerator


def evaluate_run(evaluation: Evaluation, label: str, model: Model, path: str) -> tuple[RunResult, dict[str, Figure]]:
    """Evaluates one model; every rank has to call it, and only the main one measures cost and draws.

    Returns:
        The result, and the pictures by file name; complete on the main process only.
    """
    split = run_split(model, evaluation.protocol, evaluation.spaces, evaluation.accelerator)
    samples = run_samples(model, evaluation.protocol, evaluation.spaces, evaluation.accelerator)
    result = RunResult(
        name=label,
        path=path,
        family=model.family,
        weights="EMA" if model.weights == "ema" else model.weights,
        step=model.step,
        images_seen=model.images_seen,
        dataset_fingerprint=model.dataset_fingerprint,
        difference=_difference(label, model, evaluation),
        warnings=run_warnings(charts.read_metrics(model.run_dir), model.images_seen),
    )
    if not evaluation.accelerator.is_main_process:
        return result, {}
    usage = split.latent.usage() if split else None
    reconstructed = split.features if split else None
    latents = split.latents.ordered() if split else None
    result.measures = {
        **reconstruction_measures(split.reconstruction if split else None, model.family),
        **_distance_measures(evaluation, "samples", samples, model),
        **_distance_measures(evaluation, "reconstructions", reconstructed, model),
        **likelihood_measures(split.elbo if split else None, usage, model),
        **latent_measures(usage, model.family),
        **disentanglement_measures(latents, evaluation.protocol.dataset, evaluation.protocol.split, model.family),
        **cost_measures(
            measure_cost(model, evaluation.accelerator.device, evaluation.protocol.batch_size), model.family
        ),
    }
    if usage is not None:
        result.latent = _per_dim(usage)
    drawn = _draw(evaluation, model, usage, latents)
    prefix = re.sub(r"[^\w.-]+", "_", label)
    result.pictures = [Picture(f"{prefix}-{name}", title, caption) for name, title, caption, _ in drawn]
    return result, {f"{prefix}-{name}": figure for name, _, _, figure in drawn}


def _difference(label: str, model: Model, evaluation: Evaluation) -> str:
    ours = evaluation.protocol.dataset.fingerprint
    if model.dataset_fingerprint == ours:
        return ""
    return (
        f"{label} was trained on data with fingerprint {model.dataset_fingerprint} and is evaluated on {ours}: "
        "its training images may be among these, so its numbers are shown but not ranked."
    )


def _distance_measures(evaluation: Evaluation, images: str, features: FeatureSets | None, model: Model) -> dict:
    return distance_measures(images, features, evaluation.reference, evaluation.absent_spaces, model.family)


def _per_dim(usage: LatentUsage) -> dict[str, list[float]]:
    columns = {"mean": usage.mean, "variance": usage.variance, "ks": usage.ks}
    if usage.kl is not None:
        columns["kl"] = usage.kl
    return {name: values.tolist() for name, values in columns.items()}


def _draw(
    evaluation: Evaluation, model: Model, usage: LatentUsage | None, latents: np.ndarray | None
) -> list[tuple[str, str, str, Image.Image | str]]:
    """File name, title, caption and figure of each picture that the model can give."""
    drawn: list[tuple[str, str, str, Image.Image | str]] = []
    if "sample" in model.can:
        seed, split, dataset = evaluation.protocol.seed, evaluation.protocol.split, evaluation.protocol.dataset
        labels = sample_labels(model, dataset, split, evaluation.protocol.num_images, 0, pictures.NUM_SAMPLES)
        note = condition_note(model, dataset, split)
        caption = (
            f"The first of the {evaluation.protocol.num_samples:,} that the distances are measured on, not chosen."
        )
        drawn.append(("samples.png", "Samples", caption + note, pictures.sample_grid(model, seed, labels)))
        caption = "The same latents times a standard deviation from 0.25 to 2; 1 is the prior."
        by_std = pictures.std_grid(model, seed, labels)
        drawn.append(("samples_by_std.png", "Samples by standard deviation", caption + note, by_std))
    if usage is not None and "decode" in model.can:
        unit = "the prior's standard deviations" if usage.kl is not None else "standard deviations of mu"
        caption = f"One face, one latent dim at a time set to −1.2 … +1.2 {unit}; the last row is the least active dim."
        drawn.append(("sweeps.png", "Axis sweeps", caption, pictures.sweep_grid(model, usage, evaluation.faces)))
    if usage is not None and latents is not None:
        caption = "How much each dim varies over images" + (
            ", and what it costs in KL." if usage.kl is not None else "."
        )
        drawn.append(("latent_variance.svg", "Latent variance", caption, charts.latent_bars(usage)))
        caption = f"The {min(charts.NUM_HISTOGRAMS, len(usage.variance))} most active dims against N(0, 1)."
        drawn.append(("latent_histograms.svg", "Latent histograms", caption, charts.latent_histograms(usage, latents)))
    return drawn
