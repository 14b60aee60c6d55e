"""Held-out metrics during training: reconstruction, KL and verification on faces that are never trained on."""

from __future__ import annotations

from collections.abc import Mapping
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
from facegen.processes.preemption import StopFlag
from facegen.training.pair_metrics import area_under_roc, equal_error_rate
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from shards.loading.pairs import Pairs, read_pairs


class HeldOut(NamedTuple):
    """What one pass over held-out images gives."""

    values: dict[str, float]
    """Means over the images: ``mse`` on [-1, 1], and ``kl`` in nats where there is a posterior."""
    mu: Tensor
    """This process's latent means, N x L."""
    stats: LatentStats
    """Of the latents of all processes."""


def metric_names(family: Family) -> list[str]:
    """Names of the held-out metrics that suit what a family can do."""
    names = []
    if {"encode", "decode"} <= family.can:
        names += ["mse", "kl"] if "posterior" in family.can else ["mse"]
    if "verify" in family.can:
        names += ["accuracy", "eer", "auc"]
    return names


@torch.inference_mode()
def validate(
    family: Family,
    dataset: Dataset,
    split: str,
    num_images: int,
    batch_size: int,
    accelerator: Accelerator,
    stop: StopFlag,
    *,
    only_encode: bool = False,
) -> HeldOut | None:
    """Evaluates a family that encodes, on all processes together.

    Args:
        family: In eval mode; encodes to the posterior's mean.
        dataset: Where the split is.
        split: Which one.
        num_images: How many of the split's first images.
        batch_size: Images per process and pass.
        accelerator: Device and processes.
        stop: Asked after every batch; a run that must stop gets nothing.
        only_encode: Measures nothing but the latents, which is all that a family can that does not decode.

    Returns:
        What was measured; None when asked to stop.
    """
    # Every process reduces the same names, also one that gets none of the batches of a small split.
    names = [] if only_encode else ["mse", "kl"] if "posterior" in family.can else ["mse"]
    stats = LatentStats.empty(family.latent_size or 0)
    totals = torch.zeros(1 + len(names), dtype=torch.float64)
    means = [torch.empty(0, family.latent_size or 0, device=accelerator.device)]
    batches = evaluation_batches(
        dataset,
        split,
        batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        limit=num_images,
        fields=family.labels,
    )
    num_rounds = -(-num_images // (batch_size * accelerator.num_processes))
    for _ in range(num_rounds):
        batch = stop.wait_for(batches)
        if stop.agree(accelerator.device):
            return None
        if batch is None:
            continue  # The other processes have one more, and all must ask ``stop`` equally often.
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
    family: Family,
    dataset: Dataset,
    split: str,
    pairs: Pairs,
    batch_size: int,
    accelerator: Accelerator,
    stop: StopFlag,
) -> dict[str, float]:
    """Evaluates a family that verifies, on all processes together.

    Args:
        family: In eval mode.
        dataset: Where the split is.
        split: Held-out split.
        pairs: Pairs of it.
        batch_size: Pairs per process and pass.
        accelerator: Device and processes.
        stop: Asked after every batch; a run that must stop gets no metrics.

    Returns:
        ``accuracy`` at probability 1/2, ``eer`` (equal error rate) and ``auc`` (area under the ROC); empty when asked
        to stop.
    """
    device, num_pairs = accelerator.device, len(pairs.same)
    probabilities = torch.zeros(num_pairs, dtype=torch.float64)
    stride = batch_size * accelerator.num_processes
    starts = range(accelerator.process_index * batch_size, -(-num_pairs // stride) * stride, stride)
    shares = [pairs.rows[start : start + batch_size] for start in starts if start < num_pairs]
    batches = (read_pairs(dataset, split, rows) for rows in shares)
    for start in starts:
        batch = stop.wait_for(batches)
        if stop.agree(device):
            return {}
        if batch is None:
            continue  # The other processes have one more, and all must ask ``stop`` equally often.
        first, second = (to_float(images.to(device)) for images in batch)
        probabilities[start : start + len(first)] = family.verify(first, second).cpu()
    # Each process has filled its own places and left zeros in the others.
    scores = sum_over_processes(probabilities, accelerator).numpy()
    return {
        "accuracy": float(np.mean((scores > 0.5) == pairs.same)),
        "eer": equal_error_rate(scores, pairs.same),
        "auc": area_under_roc(scores, pairs.same),
    }


def _measure(
    family: Family, images: Tensor, labels: Mapping[str, Tensor], mu: Tensor, logvar: Tensor | None
) -> dict[str, Tensor]:
    values = {"mse": reconstruction_error(images, family.decode(mu, labels), "mean")}
    if logvar is not None:
        values["kl"] = kl_per_dim(mu, logvar).sum(1)
    return values
