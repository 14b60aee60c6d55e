"""The pictures of a report: which faces each shows, from models and held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.grids import Row, face_grid
from eval.metrics.latent_usage import LatentUsage
from facegen.model import Labels
from facegen.pixels import to_float, to_uint8

NUM_FACES = 12
"""Held-out faces shown, spread evenly over the split."""
SAMPLE_ROWS, SAMPLE_COLUMNS = 6, 12
NUM_SAMPLES = SAMPLE_ROWS * SAMPLE_COLUMNS
STD_STEPS = tuple(np.arange(1, 9) * 0.25)
SWEEP_STEPS = tuple(np.linspace(-1.2, 1.2, 13))
NUM_SWEPT_DIMS = 8


@dataclass(frozen=True)
class Faces:
    """The held-out faces that every picture of a report shows."""

    images: Tensor
    """uint8 (N, H, W, C)."""
    labels: Mapping[str, Tensor]


def reconstruction_grid(faces: Faces, models: Sequence[tuple[str, Any]]) -> Image.Image:
    """Originals in the first row, then the reconstructions (from mu) of each named model that makes some."""
    rows = [Row(faces.images.numpy(), "original")]
    for name, model in models:
        if {"encode", "decode"} <= model.can:
            images = to_uint8(model.reconstruct(to_float(faces.images), faces.labels))
            rows.append(Row(images.cpu().numpy(), name))
    return face_grid(rows)


def sample_grid(model: Any, seed: int, labels: Labels) -> Image.Image:
    """Samples from the prior: the first of those that the distances were measured on, not chosen.

    Args:
        model: One that samples.
        seed: Of the samples.
        labels: Conditions of the first ``NUM_SAMPLES`` samples.
    """
    images = _samples(model, NUM_SAMPLES, seed, labels)
    return face_grid([Row(part) for part in np.split(images, SAMPLE_ROWS)])


def std_grid(model: Any, seed: int, labels: Labels) -> Image.Image:
    """The same samples with the prior's standard deviation from 0.25 to 2, a row each."""
    labels = labels and {name: label[:SAMPLE_COLUMNS] for name, label in labels.items()}
    return face_grid([Row(_samples(model, SAMPLE_COLUMNS, seed, labels, std), f"{std:.2f}") for std in STD_STEPS])


def sweep_grid(model: Any, usage: LatentUsage, faces: Faces) -> Image.Image:
    """One face with one latent dim at a time set to each value of the sweep.

    Dims are the most active ones and, last, the least active one. Values are in the prior's standard deviations; for
    an encoder without a posterior, in the deviations of mu around its mean.
    """
    labels = {name: label[:1] for name, label in faces.labels.items()}
    base = model.encode(to_float(faces.images[:1]), labels).cpu()
    order = usage.order
    dims = [*order[:NUM_SWEPT_DIMS], *order[NUM_SWEPT_DIMS:][-1:]]
    rows = []
    for dim in dims:
        center, scale = (0.0, 1.0) if usage.kl is not None else (usage.mean[dim], np.sqrt(usage.variance[dim]))
        latents = base.repeat(len(SWEEP_STEPS), 1)
        latents[:, dim] = torch.tensor(center + scale * np.array(SWEEP_STEPS), dtype=torch.float32)
        repeated = {name: label.repeat(len(SWEEP_STEPS)) for name, label in labels.items()}
        images = to_uint8(model.decode(latents, repeated)).cpu().numpy()
        rows.append(Row(images, f"dim {dim}  var {usage.variance[dim]:.2f}"))
    return face_grid(rows, [f"{step:+.1f}" if abs(step) > 0.01 else "0" for step in SWEEP_STEPS])


def _samples(model: Any, num: int, seed: int, labels: Labels, std: float = 1.0) -> np.ndarray:
    return to_uint8(model.sample(num, seed=seed, std=std, labels=labels)).cpu().numpy()
