"""Axes of latent space: dims and principal components that faces are moved along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.base.large_arrays import column_means, column_variances
from eval.latent.pca import Pca


@dataclass(frozen=True)
class Axes:
    """Directions that latents are moved along, and the unit of each."""

    names: tuple[str, ...]
    """Labels at the left of a grid's rows."""
    directions: np.ndarray
    """(A, L) unit vectors."""
    centers: np.ndarray
    """(A,) coordinates at step 0."""
    units: np.ndarray
    """(A,) lengths of a step of 1."""


def some_axes(axes: Axes, numbers: Sequence[int]) -> Axes:
    """Those of these numbers, from 0."""
    chosen = list(numbers)
    names = tuple(axes.names[number] for number in chosen)
    return Axes(names, axes.directions[chosen], axes.centers[chosen], axes.units[chosen])


def active_dims(variances: np.ndarray, num: int) -> list[int]:
    """The ``num`` most active dims by variance of mu (L,), and last the least active one."""
    order = np.argsort(-variances, kind="stable").tolist()
    return [*order[:num], *order[num:][-1:]]


def latent_axes(latents: np.ndarray, dims: Sequence[int], in_prior_units: bool) -> Axes:
    """Single dims as axes.

    Args:
        latents: float (N, L), mu of a split.
        dims: Which dims.
        in_prior_units: Steps count standard deviations of N(0, 1); else, for an encoder without a prior, those of mu
            around its mean.
    """
    chosen = list(dims)
    means = column_means(latents)[chosen]
    variances = column_variances(latents)[chosen]
    return Axes(
        names=tuple(f"dim {dim}  var {variance:.2f}" for dim, variance in zip(chosen, variances, strict=True)),
        directions=np.eye(latents.shape[1])[chosen],
        centers=np.zeros(len(chosen)) if in_prior_units else means,
        units=np.ones(len(chosen)) if in_prior_units else np.sqrt(variances),
    )


def component_axes(pca: Pca, components: Sequence[int]) -> Axes:
    """Principal components as axes, in standard deviations around the mean.

    Args:
        pca: The components.
        components: Which ones, from 0. Labels count them from 1, and give their share of the variance.
    """
    chosen = list(components)
    shares = pca.variances / max(pca.total_variance, np.finfo(float).tiny)
    directions = pca.components[chosen]
    return Axes(
        names=tuple(f"component {number + 1}  {100 * shares[number]:.1f} %" for number in chosen),
        directions=directions,
        centers=directions @ pca.mean,
        units=pca.stds[chosen],
    )


def sweep(latent: np.ndarray, axes: Axes, steps: np.ndarray) -> np.ndarray:
    """One latent with one axis at a time set to each step, the rest unchanged.

    Args:
        latent: float (L,).
        axes: A of them.
        steps: (S,) in the axes' units.

    Returns:
        float64 (A, S, L).
    """
    targets = axes.centers[:, None] + axes.units[:, None] * steps
    moves = targets - (axes.directions @ latent)[:, None]
    return latent + moves[:, :, None] * axes.directions[:, None]


def coordinates(latent: np.ndarray, axes: Axes) -> np.ndarray:
    """Where a latent (L,) lies along each axis, (A,), in the axes' units; 0 along an axis whose unit is 0."""
    distances = axes.directions @ latent - axes.centers
    return np.divide(distances, axes.units, out=np.zeros_like(distances), where=axes.units > 0)


def moved(latent: np.ndarray, axes: Axes, targets: Mapping[int, float]) -> np.ndarray:
    """One latent with some coordinates set, the rest unchanged.

    Args:
        latent: float (L,).
        axes: Orthogonal to each other.
        targets: Coordinate in the axis's unit, by number of the axis.

    Returns:
        float64 (L,).
    """
    chosen = list(targets)
    directions = axes.directions[chosen]
    wanted = axes.centers[chosen] + axes.units[chosen] * np.array(list(targets.values()), np.float64)
    return latent + (wanted - directions @ latent) @ directions
