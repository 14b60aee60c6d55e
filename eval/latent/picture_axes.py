"""Directions of latent space by how much they change the picture.

Some encoders scale all latents to one variance, such as those that start as principal components of the images. Chance
then decides which principal components the latents have, and a step along one of them changes next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eval.latent.axes import Axes, component_axes, some_axes
from eval.latent.conditions import condition_labels, middle_degree
from eval.latent.encode import BATCH_SIZE
from eval.latent.pca import Pca
from shards.base.progress import ProgressLine

MAX_LATENTS = 1024
"""Every latent costs a picture."""
_FIRST = 12
"""Axes that are compared: as many as a page shows at first."""
_CLEARLY = 2


def main_axes(model: Any, pca: Pca, chosen: Sequence[int]) -> tuple[Axes, bool]:
    """Principal components or, where they change the picture clearly less, the directions that change it most.

    Args:
        model: One that decodes.
        pca: Of its latents, with all L components, or with the first ones where there are over ``MAX_LATENTS`` latents.
        chosen: Which of them, from 0.

    Returns:
        The axes, and whether they are such directions.
    """
    found = None
    if len(pca.mean) <= MAX_LATENTS:
        found = picture_axes(picture_metric(model, pca, middle_degree(model)), pca)
    return (component_axes(pca, chosen), False) if found is None else (some_axes(found[0], chosen), True)


def picture_metric(model: Any, pca: Pca, degree: float) -> np.ndarray:
    """How much steps in latent space change the picture of the average face.

    Args:
        model: One that decodes.
        pca: Of its latents, with all L components.
        degree: Condition of the pictures; NaN where it is unknown.

    Returns:
        float64 (L, L): for a small step s, s @ metric @ s is the mean squared change of a value on [-1, 1].
    """
    stds = np.sqrt(_variances(pca, np.eye(len(pca.mean))))
    steps = np.where(stds > 0, stds, 1)
    latents = torch.from_numpy(pca.mean + np.vstack([np.zeros_like(pca.mean), np.diag(steps)])).float()
    parts = []
    with ProgressLine("pictures of latent dims", len(latents)) as progress:
        for part in latents.split(BATCH_SIZE):
            images = model.decode(part, condition_labels(model, np.full(len(part), degree)))
            parts.append(images.flatten(1).cpu().numpy().astype(np.float64))
            progress.update(len(part))
    middle, *moved = np.concatenate(parts)
    slopes = (np.array(moved) - middle) / steps[:, None]
    return slopes @ slopes.T / len(middle)


def picture_axes(metric: np.ndarray, pca: Pca) -> tuple[Axes, np.ndarray] | None:
    """The directions that change the picture most, in standard deviations of the latents along them.

    Args:
        metric: As ``picture_metric`` returns it.
        pca: Of the latents, with all L components.

    Returns:
        L axes, orthogonal to each other, those of the largest change first, and the share of each (L,). None if the
        first principal components change the picture about as much.
    """
    scales, vectors = np.linalg.eigh(metric)
    directions = vectors.T * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))])[:, None]
    variances = _variances(pca, directions)
    changes = scales.clip(min=0) * variances
    order = np.argsort(-changes, kind="stable")
    by_components = pca.variances * np.einsum("ai,ij,aj->a", pca.components, metric, pca.components, optimize=True)
    if changes[order][:_FIRST].sum() <= _CLEARLY * by_components[:_FIRST].sum():
        return None
    directions, changes = directions[order], changes[order]
    shares = changes / changes.sum()
    names = tuple(f"direction {number + 1}  {100 * share:.1f} %" for number, share in enumerate(shares))
    return Axes(names, directions, directions @ pca.mean, np.sqrt(variances[order])), shares


def _variances(pca: Pca, directions: np.ndarray) -> np.ndarray:
    """Variance of the latents along unit vectors (A, L), float64 (A,)."""
    return (directions @ pca.components.T) ** 2 @ pca.variances
