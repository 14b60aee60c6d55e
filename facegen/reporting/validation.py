"""Held-out metrics during training: reconstruction, KL and verification on faces that are never trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from facegen.families.base import Family
from facegen.latents.latent_stats import LatentStats
from facegen.losses.vae import kl_per_dim, reconstruction_error
from facegen.pixels import to_float
from facegen.processes.group import sum_over_processes
from facegen.reporting.held_out import PairBatch
from facegen.reporting.pair_metrics import area_under_roc, equal_error_rate
from shards.loading.batch import Batch


class HeldOut(NamedTuple):
    """What one pass over held-out images gives."""

    values: dict[str, float]
    """Means over the images: ``mse`` on [-1, 1], ``kl`` in nats where there is a posterior, and the family's own."""
    mu: Tensor
    """This process's latent means, N x L."""
    stats: LatentStats
    """Of the latents of all processes."""


def metric_names(family: Family) -> list[str]:
    """Names of the held-out metrics that suit what a family can do."""
    names = []
    if {"encode", "decode"} <= family.can:
        names += _image_metrics(family)
    if "verify" in family.can:
        names += ["accuracy", "eer", "auc"]
    return names


@torch.inference_mode()
def validate(
    family: Family, batches: Iterable[Batch], accelerator: Accelerator, *, only_encode: bool = False
) -> HeldOut:
    """Evaluates a family that encodes, on all processes together.

    Args:
        family: In eval mode; encodes to the posterior's mean.
        batches: This process's share of the images, with the labels that the family uses.
        accelerator: Device and processes.
        only_encode: Measure only the latents, which is all there is of a family that does not decode.
    """
    # Every process reduces the same names, even one that gets none of the batches of a small split.
    names = [] if only_encode else _image_metrics(family)
    latent_size = family.latent_size or 0
    stats, means = LatentStats.empty(latent_size), [torch.empty(0, latent_size, device=accelerator.device)]
    totals = torch.zeros(1 + len(names), dtype=torch.float64)
    for batch in batches:
        images = to_float(batch.images.to(accelerator.device))
        labels = {name: label.to(accelerator.device) for name, label in batch.labels.items()}
        mu, logvar = family.posterior(images, labels)
        means.append(mu)
        stats.update(mu, logvar)
        values = {} if only_encode else _measure(family, images, labels, mu, logvar)
        sums = [values[name].cpu().double().sum() for name in names]
        totals += torch.tensor([len(images), *sums], dtype=torch.float64)
    count, *of_all = sum_over_processes(totals, accelerator).tolist()
    values = {name: total / count for name, total in zip(names, of_all, strict=True)}
    return HeldOut(values, torch.cat(means), stats.over_processes(accelerator))


@torch.inference_mode()
def validate_pairs(
    family: Family, batches: Iterable[PairBatch], same: np.ndarray, accelerator: Accelerator
) -> dict[str, float]:
    """Evaluates a family that verifies, on all processes together.

    Args:
        family: In eval mode.
        batches: This process's share of the pairs.
        same: Of all pairs, 1 for the same person and 0 for two.
        accelerator: Device and processes.

    Returns:
        ``accuracy`` at probability 1/2, ``eer`` (equal error rate) and ``auc`` (area under the ROC).
    """
    probabilities = torch.zeros(len(same), dtype=torch.float64)
    for start, *pair in batches:
        first, second = (to_float(images.to(accelerator.device)) for images in pair)
        probabilities[start : start + len(first)] = family.verify(first, second).cpu()
    # Each process has filled its own places and left zeros in the others.
    scores = sum_over_processes(probabilities, accelerator).numpy()
    return {
        "accuracy": float(np.mean((scores > 0.5) == same)),
        "eer": equal_error_rate(scores, same),
        "auc": area_under_roc(scores, same),
    }


def _image_metrics(family: Family) -> list[str]:
    return ["mse", *(["kl"] if "posterior" in family.can else []), *family.held_out]


def _measure(
    family: Family, images: Tensor, labels: Mapping[str, Tensor], mu: Tensor, logvar: Tensor | None
) -> dict[str, Tensor]:
    values = {"mse": reconstruction_error(images, family.decode(mu, labels), "mean")}
    if logvar is not None:
        values["kl"] = kl_per_dim(mu, logvar).sum(1)
    return values | family.measure_held_out(images, labels)
